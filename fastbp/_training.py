"""A run of training: its epochs in slices of compiled code, what they brought, how they failed."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import _layout, _threads, backprop

# Compiled code is entered once per slice of about this many multiply-adds a thread, for 10 to 50
# ms: long enough to cost nothing, short enough for Ctrl-C and progress.
SLICE = 1_000_000_000

# Another thread takes part for each so many multiply-adds in a step: threads meet twice a step,
# which takes a few microseconds each time.
PER_THREAD = 4_000_000

Array = npt.NDArray[Any]


class DivergenceError(FloatingPointError, ValueError):
    """Training left the finite numbers: the loss or a parameter became infinite or NaN.

    Attributes
    ----------
    epoch : int
        The epoch it happened in, counted like ``Network.epoch``, from 1 on.
    step : int or None
        The step of that epoch, from 0 on; None if the epoch's last update was the culprit.
    history : History
        The epochs that were finished before.
    """

    epoch: int
    step: int | None
    history: History


@dataclass
class History:
    """What each epoch of one call to `Network.fit` brought: lists with one number per epoch.

    Attributes
    ----------
    loss, accuracy : list of float
        Mean cross-entropy (without the L2 penalty) and fraction of rows classified correctly,
        both weighted by ``sample_weight``.  They are running means over the mini-batches of the
        epoch, each taken before the step it led to: nearly free, and a little worse than what
        `Network.loss` and `Network.score` find after the epoch.
    time : list of float
        Seconds spent training, without validation and callbacks.
    val_loss, val_accuracy : list of float
        The same on ``validation_data``, after the epoch; empty without such data.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        """Count the epochs."""
        return len(self.loss)

    def append(self, entry: dict[str, float]) -> None:
        for name, value in entry.items():
            getattr(self, name).append(value)


class Run:
    """Training on some data: memory, how the work is cut, and the way back when it diverges."""

    def __init__(
        self,
        plan: _layout.Plan,
        data: _layout.Data,
        parameters: Array,
        memory: _layout.Memory,
        batch_size: int,
        n_threads: int | None,
        with_penalty: bool = False,
    ) -> None:
        n = _layout.n_rows(data)
        self._plan, self._data = plan, data
        self._parameters, self._memory = parameters, memory
        self._last_finite = parameters.copy()
        self.order = np.arange(n, dtype=np.intp)
        self._batch_size = min(batch_size, n)
        self.n_steps = -(-n // self._batch_size)
        self._work = _layout.make_workspace(plan, data, self._batch_size, with_penalty)
        self._parts = _layout.make_parts(plan)
        step_cost = _layout.multiply_adds(plan, self._batch_size, passes=3)
        useful = 1 + step_cost // PER_THREAD
        most = min(n_threads or _threads.default_threads(), useful)
        self._team = _threads.team(most, (step_cost, parameters.dtype))
        self._step_cost = step_cost

    def epoch(self, number: int, update: _layout.Update, shown: Progress) -> Array:
        """Make the steps of one epoch; return its ``totals``, see ``backprop.train``."""
        totals = np.zeros(4)
        self._last_finite[:] = self._parameters
        try:
            first = 0
            while first < self.n_steps:
                n_threads = self._team.size()
                length = max(1, SLICE * n_threads // self._step_cost)
                last = min(first + length, self.n_steps)
                board = _layout.make_board(n_threads)
                steps = partial(
                    backprop.train,
                    *(self._plan.table, self._data, self.order, self._parameters, self._memory),
                    *(self._work, self._parts, n_threads, board, totals, first, last),
                    *(self._batch_size, update),
                )
                started = time.perf_counter()
                _threads.run(n_threads, steps)
                self._team.note(n_threads, (time.perf_counter() - started) / (last - first))
                if board[_layout.STOPPED] >= 0:
                    step = int(board[_layout.STOPPED])
                    raise self._divergence("the loss", number, step, update)
                shown.steps(last - first)
                first = last
            if not backprop.all_finite(self._parameters):
                raise self._divergence("a parameter", number, None, update)
            # It would hold its parameter where it is from then on, without another sign.
            if not backprop.all_finite(self._memory.second):
                raise self._divergence("the mean of a squared gradient", number, None, update)
        except BaseException as error:  # Ctrl-C may come before divergence has been noticed
            if isinstance(error, DivergenceError) or not backprop.all_finite(self._parameters):
                self._parameters[:] = self._last_finite
                _layout.forget(self._memory)
            raise
        return totals

    def _divergence(
        self, what: str, epoch: int, step: int | None, update: _layout.Update
    ) -> DivergenceError:
        where = f"epoch {epoch}"
        if step is not None:
            where += f", step {step} of {self.n_steps}"
        error = DivergenceError(
            f"training diverged: {what} became infinite or NaN in {where}; the parameters are "
            f"those after epoch {epoch - 1}. Try a learning_rate below {update.learning_rate:g}"
        )
        error.epoch = epoch
        error.step = step
        return error


class Progress:
    """A tqdm bar over the steps, or a line per epoch where tqdm is not installed, or nothing."""

    def __init__(self, show: bool, epoch: int, epochs: int, n_steps: int) -> None:
        self._bar: Any = None
        self._lines = bool(show)
        self._last_epoch = epoch + epochs
        if show:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self._lines = False
            self._bar = tqdm(total=epochs * n_steps, unit="step", dynamic_ncols=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def steps(self, n: int) -> None:
        if self._bar is not None:
            self._bar.update(n)

    def epoch(self, number: int, entry: dict[str, float]) -> None:
        values = [f"{name} {value:.4f}" for name, value in entry.items() if name != "time"]
        line = f"epoch {number}/{self._last_epoch}  " + "  ".join(values)
        if self._bar is not None:
            self._bar.set_postfix_str(line)
        elif self._lines:
            print(f"{line}  {entry['time']:.2f} s", file=sys.stderr, flush=True)
