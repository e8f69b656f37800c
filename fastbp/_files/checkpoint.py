"""The file that a run of training can go on from, to the bit, after whatever ended it."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from fastbp._atomic import StrPath
from fastbp._files import network_file
from fastbp._files.network_file import Facts, is_count
from fastbp._files.safetensors import PIECE, Array, ModelFileError
from fastbp.backprop import layout, state
from fastbp.optimizers import SGD, Adam
from fastbp.training.history import History
from fastbp.training.run import Run


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


class Resumed(NamedTuple):
    """What a checkpoint holds."""

    position: Position
    history: History
    parameters: Array
    memory: state.OptimizerState
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
    facts : Facts
        Of the network.
    """

    def __init__(
        self, path: StrPath, every: int | None, identity: dict[str, Any], facts: Facts
    ) -> None:
        self._path, self._every = path, every
        self._identity, self._facts = identity, facts

    def next_step(self, first: int, n_steps: int) -> int:
        """The next step to save at after step ``first``, both counted over all epochs."""
        every = self._every or n_steps
        return (first // every + 1) * every

    def save(self, run: Run, position: Position, history: History) -> None:
        """Write where a run is, in place of what was written before.

        Of ``history``, the epochs that are done count.
        """
        learner = run.learner
        arrays = {
            f"history.{name}": np.array(values[: position.done], np.float64)
            for name, values in asdict(history).items()
        }
        if position.step:
            arrays["epoch_start"] = run.start
        facts = self._facts._replace(
            epoch=position.first_epoch + position.done,
            n_steps=int(learner.optimizer_state.n_updates[0]),
        )
        settings = {"run": self._identity, "position": position}
        network_file.save(
            self._path,
            "checkpoint",
            facts,
            learner.parameters,
            learner.optimizer_state,
            arrays,
            settings,
        )

    def load(self, n_steps: int, is_adam: bool) -> Resumed | None:
        """Return what was saved last; None if there is no file.

        Raises
        ------
        ModelFileError
            If the file is damaged, or of another network, run or data: it names what differs.
        """
        if not os.path.lexists(self._path):
            return None
        with network_file.opened(self._path, "checkpoint") as file:
            self._compare(file)
            raw = file.setting("position", _is_position)
            position = Position(*raw)
            done = position.done
            is_right = position.first_epoch + done == file.facts.epoch
            if not is_right or position.step > n_steps or file.shape("history.loss") != (done,):
                file.fail(f"position makes no sense: {raw}")
            if file.has_second != is_adam:
                file.fail("it must hold a second moment with Adam, and none without")
            plan = layout.make_plan(self._facts.layer_sizes, self._facts.activation)
            history = History()
            for name in asdict(history):
                is_needed = not name.startswith("val_") or self._identity["validation_data"]
                values = np.empty(done if is_needed else 0)
                setattr(history, name, file.take(f"history.{name}", values).tolist())
            dtype = self._facts.dtype
            parameters = state.make_parameters(plan, dtype)
            memory = state.make_optimizer_state(plan, dtype, file.has_second)
            file.take_network(parameters, memory)
            start = parameters
            if position.step:
                start = file.take("epoch_start", np.empty_like(parameters))
            file.finish()
        return Resumed(position, history, parameters, memory, start)

    def _compare(self, file: network_file.NetworkFile) -> None:
        name = os.fsdecode(self._path)
        for field in ("layer_sizes", "activation", "dtype", "seed"):
            was, now = getattr(file.facts, field), getattr(self._facts, field)
            if was != now:
                raise ModelFileError(f"{name}: another network's: {field} was {was}, and is {now}")
        run = file.setting("run", lambda value: value.keys() == self._identity.keys())
        for field, now in self._identity.items():
            if run[field] != now:
                values = "" if field in DATA else f": it was {run[field]}, and is {now}"
                raise ModelFileError(f"{name}: another run's: {field} is not the same{values}")


# Of these, fingerprints are compared; their values would tell nobody anything.
DATA = ("X", "y", "sample_weight", "validation_data")


def identity_of(
    data: state.Data,
    validation: state.Data | None,
    optimizer: SGD | Adam,
    batch_size: int,
    l2: float,
    shuffle: bool,
) -> dict[str, Any]:
    """Tell a run of training from all others, but for the network that it begins with."""
    fingerprints = _fingerprints(data)
    return {
        "batch_size": min(batch_size, state.n_rows(data)),
        "optimizer": {"name": type(optimizer).__name__, **asdict(optimizer)},
        "l2": l2,
        "shuffle": shuffle,
        **fingerprints,
        "validation_data": None if validation is None else _fingerprints(validation),
    }


def _fingerprints(data: state.Data) -> dict[str, str | None]:
    y: Array | None = data.targets if data.labels is None else data.labels
    weight = data.row_weight
    assert y is not None
    return {
        "X": _fingerprint(data.x),
        "y": _fingerprint(y),
        "sample_weight": _fingerprint(weight) if weight.size else None,
    }


def _fingerprint(array: Array) -> str:
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    flat = array.reshape(-1)
    for first in range(0, len(flat), PIECE // 8):
        digest.update(flat[first : first + PIECE // 8].view(np.uint8).data)
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
