"""What a model file says: the layers, the parameters, their momentum, and what comes with them.

Of everything that is read, dtype, shape and size are compared with what the layers ask for, before
anything is allocated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fastbp._atomic import StrPath
from fastbp._files.safetensors import DTYPES, Array, Reader, reading, write
from fastbp.backprop import layout, state
from fastbp.kernels.activation import ACTIVATIONS

# Of what a file holds, and how: a change of either that older versions would misread makes it 2.
VERSION = 1

KINDS = ("network", "classifier", "checkpoint")

_LARGEST = 2**63 - 1


class Facts(NamedTuple):
    """What makes a network up, but for its numbers; the file's settings."""

    layer_sizes: tuple[int, ...]
    activation: str
    dtype: np.dtype[Any]
    seed: int
    epoch: int
    n_steps: int


def save(
    path: StrPath,
    kind: str,
    facts: Facts,
    parameters: Array,
    memory: state.OptimizerState,
    arrays: Mapping[str, Array] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write a network, with further ``arrays`` and JSON-like ``settings``.

    A velocity of zeros is left out.
    """
    plan = layout.make_plan(facts.layer_sizes, facts.activation)
    held = _views(plan, parameters)
    if memory.second_moment is not None or memory.velocity.any():
        held["velocity"] = layout.as_plain(plan, memory.velocity)
    if memory.second_moment is not None:
        held["second_moment"] = layout.as_plain(plan, memory.second_moment)
    said = facts._asdict() | {"fastbp": kind, "version": VERSION} | dict(settings or {})
    del said["dtype"]  # the arrays say it
    texts = {name: json.dumps(value) for name, value in said.items()}
    write(path, {**held, **(arrays or {})}, texts)


@contextmanager
def opened(path: StrPath, *kinds: str) -> Iterator[NetworkFile]:
    """Open a file that holds a network, alone or with more, of one of ``kinds``."""
    with reading(path) as reader:
        yield NetworkFile(reader, kinds or KINDS)


class NetworkFile:
    """An open file that holds a network; see `opened`.

    Attributes
    ----------
    kind : str
    facts : Facts
    """

    def __init__(self, reader: Reader, kinds: tuple[str, ...]) -> None:
        self._reader = reader
        self.fail = reader.fail
        version = self.setting("version", is_count)
        if version != VERSION:
            self.fail(f"its version is {version}, and this version of fastbp reads {VERSION}")
        self.kind = self.setting("fastbp", KINDS.__contains__)
        if self.kind not in kinds:
            self.fail(f"it holds a {self.kind}, not a {' or a '.join(kinds)}")
        self.facts = self._facts()

    def setting(self, name: str, is_right: Callable[[Any], bool]) -> Any:
        """Return what the file says under a name, if ``is_right`` of it."""
        if name not in self._reader.metadata:
            self.fail(f"{name} is missing")
        text = self._reader.metadata[name]
        try:
            value = json.loads(text)
            fits = is_right(value)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            fits = False
        if not fits:
            self.fail(f"{name} makes no sense: {text:.80}")
        return value

    def _facts(self) -> Facts:
        sizes = self.setting("layer_sizes", _are_sizes)
        activation = self.setting("activation", ACTIVATIONS.__contains__)
        seed = self.setting("seed", lambda value: is_count(value, 2**64 - 1))
        epoch, n_steps = self.setting("epoch", is_count), self.setting("n_steps", is_count)
        dtype = self.dtype("weights.0")
        if dtype not in (np.float32, np.float64):
            self.fail(f"weights must be F32 or F64, got {dtype}")
        n_parameters = 0
        for layer, shape in enumerate(pairwise(sizes)):
            self._reader.check(f"weights.{layer}", dtype, shape)
            self._reader.check(f"biases.{layer}", dtype, shape[1:])
            n_parameters += shape[0] * shape[1] + shape[1]
        for name in ("velocity", "second_moment"):
            if name in self:
                self._reader.check(name, dtype, (n_parameters,))
        if self.has_second and "velocity" not in self:
            self.fail("array 'velocity' is missing")
        return Facts(tuple(sizes), activation, dtype, seed, epoch, n_steps)

    @property
    def has_second(self) -> bool:
        """Whether it holds Adam's second moment."""
        return "second_moment" in self

    def __contains__(self, name: str) -> bool:
        """Tell whether it holds an array of this name."""
        return name in self._reader.places

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array; no dimension if it is missing."""
        return self._reader.places[name].shape if name in self else ()

    def dtype(self, name: str) -> np.dtype[Any]:
        """Dtype of an array; float64 if it is missing."""
        return DTYPES[self._reader.places[name].dtype] if name in self else np.dtype("f8")

    def take(self, name: str, array: Array) -> Array:
        """Read an array; see `Reader.take`."""
        return self._reader.take(name, array)

    def take_network(self, parameters: Array, memory: state.OptimizerState) -> None:
        """Read parameters and memory into arrays as the facts have them, newly made."""
        plan = layout.make_plan(self.facts.layer_sizes, self.facts.activation)
        for name, view in _views(plan, parameters).items():
            self._reader.take(name, view)
        for name, numbers in (
            ("velocity", memory.velocity),
            ("second_moment", memory.second_moment),
        ):
            if name in self and numbers is not None:
                plain = self._reader.take(name, np.empty_like(parameters))
                layout.as_panels(plan, plain, numbers)
        memory.n_updates[0] = self.facts.n_steps

    def finish(self) -> None:
        """Make sure that all that was read is what was written."""
        self._reader.finish()


def _views(plan: layout.Plan, parameters: Array) -> dict[str, Array]:
    views: dict[str, Array] = {}
    for kind, of_layers in (
        ("weights", layout.weight_views(plan, parameters)),
        ("biases", layout.bias_views(plan, parameters)),
    ):
        views |= {f"{kind}.{layer}": view for layer, view in enumerate(of_layers)}
    return views


def is_count(value: Any, largest: int = _LARGEST) -> bool:
    """Whether it is a whole number from 0 on."""
    return type(value) is int and 0 <= value <= largest


def _are_sizes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 1
        and all(is_count(size) and size > 0 for size in value)
    )
