"""Model files: the layers, the parameters, the optimizer's state, and what comes with them.

A file has the safetensors format.  Its metadata hold one text, "fastbp": the settings as JSON, with
a checksum over the other settings and all arrays.  Names, dtypes and shapes of the arrays are
compared with what the layers ask for before anything is allocated.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from fastbp._atomic import StrPath, replace_file
from fastbp.backprop import layout, state
from fastbp.kernels.activation import ACTIVATIONS

Array = npt.NDArray[Any]

# Raised by a change that older versions would misread
VERSION = 1

KINDS = ("network", "classifier", "checkpoint")

# The dtypes of the format that NumPy has, too
DTYPES = {
    name: np.dtype(dtype)
    for name, dtype in {
        **{"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4"},
        **{"I32": "<i4", "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"},
    }.items()
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class ModelFileError(ValueError):
    """A file is not what it should be: no model, damaged, or not of this network or data."""


class NetworkMetadata(NamedTuple):
    """What makes a network, apart from its parameters and its optimizer's state."""

    layer_sizes: tuple[int, ...]
    activation: str
    dtype: np.dtype[Any]
    seed: int
    epoch: int
    n_steps: int


def save(
    path: StrPath,
    kind: str,
    metadata: NetworkMetadata,
    parameters: Array,
    optimizer_state: state.OptimizerState,
    arrays: Mapping[str, Array] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write a network, with further ``arrays`` and JSON-like ``settings``.

    A velocity of zeros is left out.
    """
    from safetensors.numpy import save as as_safetensors

    plan = layout.make_plan(metadata.layer_sizes, metadata.activation)
    all_arrays = _views(plan, parameters) | dict(arrays or {})
    _, second_moment, _ = optimizer_state
    if second_moment is not None or optimizer_state.velocity.any():
        all_arrays["velocity"] = layout.as_plain(plan, optimizer_state.velocity)
    if second_moment is not None:
        all_arrays["second_moment"] = layout.as_plain(plan, second_moment)
    all_settings = {"kind": kind, "version": VERSION, **metadata._asdict(), **(settings or {})}
    del all_settings["dtype"]  # that of the arrays
    checksum = _checksum(all_settings, all_arrays)
    text = json.dumps({**all_settings, "checksum": checksum})
    replace_file(path, [as_safetensors(all_arrays, {"fastbp": text})])


def _checksum(settings: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    """SHA-256 of the settings, the arrays' names, dtypes and shapes, and then their bytes."""
    kinds = {name: [_NAMES[array.dtype], array.shape] for name, array in arrays.items()}
    text = json.dumps([settings, kinds], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(bytes_of(arrays[name]))
    return digest.hexdigest()


def bytes_of(array: Array) -> memoryview:
    """Return the memory of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


@contextmanager
def opened(path: StrPath, *kinds: str) -> Iterator[NetworkFile]:
    """Open a file that holds a network, alone or with more, of one of ``kinds``.

    Within, everything that is wrong with the file is a ModelFileError.
    """
    from safetensors import SafetensorError, safe_open

    name = os.fsdecode(path)
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ModelFileError(f"{name}: not a regular file")
    try:
        with safe_open(name, "numpy") as file:
            yield NetworkFile(file, name, kinds or KINDS)
    except SafetensorError as error:
        raise ModelFileError(f"{name}: damaged, or no model file: {error}") from error


class NetworkFile:
    """An open file that holds a network; see `opened`.

    Attributes
    ----------
    kind : str
    metadata : NetworkMetadata
    """

    def __init__(self, file: Any, name: str, kinds: tuple[str, ...]) -> None:
        self._file, self._name = file, name
        self._taken: dict[str, Array] = {}
        self._kinds = {key: self._kind_of(key) for key in file.keys()}
        self._settings = self._read_settings(file.metadata() or {})
        version = self.setting("version", is_count)
        if version != VERSION:
            self.fail(f"its version is {version}, and this version of fastbp reads {VERSION}")
        self.kind = self.setting("kind", KINDS.__contains__)
        if self.kind not in kinds:
            self.fail(f"it holds a {self.kind}, not a {' or a '.join(kinds)}")
        self.metadata = self._read_metadata()

    def fail(self, reason: str) -> NoReturn:
        """Raise ModelFileError."""
        raise ModelFileError(f"{self._name}: {reason}")

    def _kind_of(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        array = self._file.get_slice(name)
        if array.get_dtype() not in DTYPES:
            self.fail(f"array {name!r} must be of {', '.join(DTYPES)}, got {array.get_dtype()}")
        return DTYPES[array.get_dtype()], tuple(array.get_shape())

    def _read_settings(self, metadata: Mapping[str, str]) -> dict[str, Any]:
        if "fastbp" not in metadata:
            self.fail(
                "not a file of fastbp: its metadata hold no 'fastbp', the settings of a network; "
                f"it holds the arrays {', '.join(self._kinds):.200}"
            )
        try:
            settings = json.loads(metadata["fastbp"])
        except (ValueError, RecursionError) as error:
            self.fail(f"its settings are not JSON: {error}")
        if not isinstance(settings, dict):
            self.fail(f"its settings must be a JSON object, got {settings!r:.80}")
        return settings

    def setting(self, name: str, is_right: Callable[[Any], bool]) -> Any:
        """Return the setting of this name; it must exist and be right."""
        if name not in self._settings:
            self.fail(f"{name} is missing")
        value = self._settings[name]
        try:
            fits = is_right(value)
        except (ValueError, TypeError, LookupError, AttributeError):
            fits = False
        if not fits:
            self.fail(f"{name} makes no sense: {value!r:.80}")
        return value

    def _read_metadata(self) -> NetworkMetadata:
        sizes = self.setting("layer_sizes", _are_sizes)
        activation = self.setting("activation", ACTIVATIONS.__contains__)
        seed = self.setting("seed", lambda value: is_count(value, 2**64 - 1))
        epoch, n_steps = self.setting("epoch", is_count), self.setting("n_steps", is_count)
        dtype = self.dtype("weights.0")
        if dtype not in (np.float32, np.float64):
            self.fail(f"weights must be F32 or F64, got {_NAMES[dtype]}")
        n_parameters = 0
        for layer, shape in enumerate(pairwise(sizes)):
            self._check(f"weights.{layer}", dtype, shape)
            self._check(f"biases.{layer}", dtype, shape[1:])
            n_parameters += shape[0] * shape[1] + shape[1]
        for name in ("velocity", "second_moment"):
            if name in self or self.has_second_moment:
                self._check(name, dtype, (n_parameters,))
        return NetworkMetadata(tuple(sizes), activation, dtype, seed, epoch, n_steps)

    @property
    def has_second_moment(self) -> bool:
        """Whether the file holds the state of Adam."""
        return "second_moment" in self

    def __contains__(self, name: str) -> bool:
        """Tell whether the file holds an array of this name."""
        return name in self._kinds

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array; no dimension if it is missing."""
        return self._kinds[name][1] if name in self else ()

    def dtype(self, name: str) -> np.dtype[Any]:
        """Dtype of an array; float64 if it is missing."""
        return self._kinds[name][0] if name in self else np.dtype("f8")

    def _check(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Make sure that there is such an array."""
        if name not in self:
            self.fail(f"array {name!r} is missing")
        if self._kinds[name] != (dtype, shape):
            self.fail(
                f"array {name!r} must be {_NAMES[dtype]} of shape {shape}, got "
                f"{_NAMES[self.dtype(name)]} of shape {self.shape(name)!r:.80}"
            )

    def take(self, name: str, array: Array) -> Array:
        """Read an array into ``array``, of the right dtype and shape; return it.

        It may be damaged until `finish` has returned.
        """
        self._check(name, array.dtype, array.shape)
        array[...] = self._file.get_tensor(name)
        self._taken[name] = array
        return array

    def take_network(self, parameters: Array, optimizer_state: state.OptimizerState) -> None:
        """Read parameters and optimizer state into new arrays, as the metadata have them."""
        plan = layout.make_plan(self.metadata.layer_sizes, self.metadata.activation)
        for name, view in _views(plan, parameters).items():
            self.take(name, view)
        for name, panels in (
            ("velocity", optimizer_state.velocity),
            ("second_moment", optimizer_state.second_moment),
        ):
            if name in self and panels is not None:
                plain = self.take(name, np.empty_like(parameters))
                layout.as_panels(plan, plain, panels)
        optimizer_state.n_updates[0] = self.metadata.n_steps

    def finish(self) -> None:
        """Make sure that the whole file, read or not, is what was written."""
        settings = {name: value for name, value in self._settings.items() if name != "checksum"}
        arrays = {name: self._file.get_tensor(name) for name in self._kinds.keys() - self._taken}
        if _checksum(settings, self._taken | arrays) != self.setting("checksum", bool):
            self.fail("damaged: its content does not have the checksum that it had when written")


def _views(plan: layout.Plan, parameters: Array) -> dict[str, Array]:
    """Weights and biases of each layer, by their names in a file."""
    views: dict[str, Array] = {}
    for kind, of_layers in (
        ("weights", layout.weight_views(plan, parameters)),
        ("biases", layout.bias_views(plan, parameters)),
    ):
        views |= {f"{kind}.{layer}": view for layer, view in enumerate(of_layers)}
    return views


def is_count(value: Any, largest: int = 2**63 - 1) -> bool:
    """Whether ``value`` is an integer from 0 on."""
    return type(value) is int and 0 <= value <= largest


def _are_sizes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 1
        and all(is_count(size) and size > 0 for size in value)
    )
