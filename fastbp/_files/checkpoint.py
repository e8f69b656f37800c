"""The file that a run of training can go on from, to the bit, after whatever ended it."""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from fastbp._atomic import StrPath
from fastbp._files import network_file
from fastbp._files.network_file import Array, NetworkMetadata, bytes_of, is_count
from fastbp.backprop import layout, state


class Position(NamedTuple):
    """How far a run has come.

    ``done`` epochs since ``first_epoch``, and ``step`` steps of the next, with its totals and its
    seconds so far.  ``ended`` tells whether a callback has ended it.
    """

    first_epoch: int
    done: int
    step: int
    totals: list[float]
    seconds: float
    ended: bool


class Snapshot(NamedTuple):
    """All that a run needs to go on from a position."""

    position: Position
    history: Mapping[str, list[float]]  # by name, an entry for each epoch
    parameters: Array
    optimizer_state: state.OptimizerState
    start: Array  # the parameters at the beginning of the epoch


class Checkpoint:
    """The checkpoints of one run, all in one file.

    Parameters
    ----------
    path : path-like
    every : int or None
        Steps from one to the next; None: an epoch.
    identity : dict
        What the result depends on, JSON-like: a run that differs in any of it is another run.
    metadata : NetworkMetadata
    """

    def __init__(
        self,
        path: StrPath,
        every: int | None,
        identity: dict[str, Any],
        metadata: NetworkMetadata,
    ) -> None:
        self._path, self._every = path, every
        self._identity, self._metadata = identity, metadata

    def next_step(self, n_steps: int) -> int:
        """Return the next step to save at after so many, counted over all epochs."""
        return sys.maxsize if self._every is None else (n_steps // self._every + 1) * self._every

    def is_due(self, n_steps: int) -> bool:
        """Tell whether to save at the end of an epoch, after so many steps."""
        return self._every is None or n_steps % self._every == 0

    def save(self, snapshot: Snapshot) -> None:
        """Write where a run is, in place of what was written before.

        Of the history, the epochs that are done count.
        """
        position, history, parameters, optimizer_state, start = snapshot
        arrays = {
            f"history.{name}": np.array(values[: position.done], np.float64)
            for name, values in history.items()
        }
        if position.step:
            arrays["epoch_start"] = start
        metadata = self._metadata._replace(
            epoch=position.first_epoch + position.done, n_steps=int(optimizer_state.n_updates[0])
        )
        settings = {"run": self._identity, "position": position}
        network = metadata, parameters, optimizer_state
        network_file.save(self._path, "checkpoint", *network, arrays, settings)

    def load(self, n_steps: int, is_adam: bool, names: Iterable[str]) -> Snapshot | None:
        """Return what was saved last, with the history of these names; None if there is no file.

        Raises
        ------
        ModelFileError
            If the file is damaged, or of another network, run or data: it names what differs.
        """
        if not os.path.lexists(self._path):
            return None
        with network_file.opened(self._path, "checkpoint") as file:
            self._compare(file)
            position = Position(*file.setting("position", _is_position))
            done = position.done
            is_right = position.first_epoch + done == file.metadata.epoch
            if not is_right or position.step > n_steps or file.shape("history.loss") != (done,):
                file.fail(f"position makes no sense: {list(position)}")
            if file.has_second_moment != is_adam:
                file.fail("it must hold a second moment with Adam, and none without")
            plan = layout.make_plan(self._metadata.layer_sizes, self._metadata.activation)
            history = {}
            for name in names:
                is_needed = not name.startswith("val_") or self._identity["validation_data"]
                values = np.empty(done if is_needed else 0)
                history[name] = file.take(f"history.{name}", values).tolist()
            parameters = state.make_parameters(plan, self._metadata.dtype)
            optimizer_state = state.make_optimizer_state(plan, self._metadata.dtype, is_adam)
            file.take_network(parameters, optimizer_state)
            start = parameters
            if position.step:
                start = file.take("epoch_start", np.empty_like(parameters))
            file.finish()
        return Snapshot(position, history, parameters, optimizer_state, start)

    def _compare(self, file: network_file.NetworkFile) -> None:
        """Refuse the file of another network or another run."""
        for field in ("layer_sizes", "activation", "dtype", "seed"):
            was, now = getattr(file.metadata, field), getattr(self._metadata, field)
            if was != now:
                file.fail(f"another network's: {field} was {was}, and is {now}")
        run = file.setting("run", lambda value: value.keys() == self._identity.keys())
        for field, now in self._identity.items():
            if run[field] != now:
                values = "" if field in DATA else f": it was {run[field]}, and is {now}"
                file.fail(f"another run's: {field} is not the same{values}")


# Compared by fingerprints, which a message does not show
DATA = ("X", "y", "sample_weight", "validation_data", "parameters", "velocity", "second_moment")


def identity_of(
    data: state.Data,
    validation: state.Data | None,
    optimizer: Any,
    batch_size: int,
    l2: float,
    shuffle: bool,
    shards: int,
    n_sampled: int | None = None,
) -> dict[str, Any]:
    """Describe a run, apart from its network; ``optimizer`` is a dataclass.

    The data are described by all of them, or by ``n_sampled`` rows.
    """
    return {
        "batch_size": min(batch_size, state.n_rows(data)),
        "shards": shards,
        "optimizer": {"name": type(optimizer).__name__, **asdict(optimizer)},
        "l2": l2,
        "shuffle": shuffle,
        **_fingerprints(data, n_sampled),
        "validation_data": None if validation is None else _fingerprints(validation, n_sampled),
    }


def _fingerprints(data: state.Data, n_sampled: int | None) -> dict[str, str | None]:
    y: Array | None = data.targets if data.labels is None else data.labels
    weight = data.row_weight
    assert y is not None
    return {
        "X": fingerprint(data.x, data.scale, n_sampled),
        "y": fingerprint(y, None, n_sampled),
        "sample_weight": fingerprint(weight, None, n_sampled) if weight.size else None,
    }


def fingerprint(array: Array, scale: float | None = None, n_sampled: int | None = None) -> str:
    """Return a digest of an array, or of some rows of it."""
    scaled = "" if scale is None else f" times {scale!r}"
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}{scaled}".encode())
    if n_sampled is not None and len(array) > n_sampled:
        numbers = np.random.Philox(key=n_sampled).random_raw(n_sampled) % np.uint64(len(array))
        array = array[np.sort(numbers).astype(np.intp)]
    digest.update(bytes_of(array))
    return digest.hexdigest()


def _is_position(value: Any) -> bool:
    first_epoch, done, step, totals, seconds, ended = value
    return (
        all(is_count(number) for number in (first_epoch, done, step))
        and isinstance(totals, list)
        and len(totals) == 4
        and all(isinstance(n, float) and math.isfinite(n) for n in (*totals, seconds))
        and isinstance(ended, bool)
    )
