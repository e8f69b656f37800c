"""A run of training: its epochs in slices of compiled code, what they brought, how they failed."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.backprop import layout, parallel, passes, state, tasks
from fastbp.training import threads

# Multiply-adds of the first slice of compiled code, a thread: a few milliseconds
FIRST_SLICE = 200_000_000

# Seconds that a slice takes from then on, by the pace of the last one: long enough to cost nothing,
# short enough for Ctrl-C and progress.  A step that takes longer is waited for.
SLICE_SECONDS = 0.03

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


class Guard:
    """Keeps two trainings of one network apart, and copies of the network out of its steps.

    Attributes
    ----------
    panels : Panels or None
        What the steps work on, while the network's own vector may be behind it.
    """

    def __init__(self) -> None:
        self._locks: dict[int, tuple[threading.Lock, threading.Lock]] = {}
        self.panels: layout.Panels | None = None

    def _mine(self) -> tuple[threading.Lock, threading.Lock]:
        # A forked child inherits locks as they are, but not the threads that would release them.
        return self._locks.setdefault(os.getpid(), (threading.Lock(), threading.Lock()))

    @contextmanager
    def training(self) -> Iterator[None]:
        """Refuse a second training, of another thread or from a callback of the first one."""
        lock = self._mine()[0]
        if lock.locked():
            raise RuntimeError("the network is being trained by another call, which has not ended")
        # Not acquire() and release(): Ctrl-C could come between the first and a try.  (Of two
        # threads that come here at the same time, one waits for the other.)
        with lock:
            yield

    def steps(self) -> threading.Lock:
        """Return what is held while steps are made: between them, the parameters are in order."""
        return self._mine()[1]

    def newest(self, parameters: Array) -> Array:
        """Return a copy of the parameters after the last step; for holders of ``steps``."""
        if self.panels is None:
            return parameters.copy()
        return layout.as_plain(self.panels.plan, self.panels.numbers)


class Run:
    """Training on some data: memory, how the work is cut, and the way back when it diverges.

    The steps work on the parameters in panel form; the network's own vector is written when they
    stop: at the end of an epoch, for a checkpoint, by Ctrl-C or an error.

    Attributes
    ----------
    parameters, memory
        What the steps change.
    order : ndarray of intp
        The rows' numbers in the order they are taken in; to be written before an epoch.
    n_steps : int
        In an epoch.
    totals : ndarray
        Of the epoch so far, see ``parallel.train``.
    start : ndarray
        The parameters at the epoch's beginning.
    seconds : float
        Spent in the epoch so far.
    is_lost : bool
        Whether it has diverged, or met a row that is not finite: the parameters are ``start`` then,
        and the memory is forgotten.
    """

    def __init__(
        self,
        plan: layout.Plan,
        data: state.Data,
        parameters: Array,
        memory: state.OptimizerState,
        guard: Guard,
        batch_size: int,
        n_threads: int | None,
        with_penalty: bool = False,
    ) -> None:
        n = state.n_rows(data)
        self._data = data
        self.parameters, self.memory, self._guard = parameters, memory, guard
        self.start = parameters
        self.totals = np.zeros(4)
        self.seconds = 0.0
        self.is_lost = False
        self.order = np.arange(n, dtype=np.intp)
        self._batch_size = min(batch_size, n)
        self.n_steps = -(-n // self._batch_size)
        self._step_cost = layout.multiply_adds(plan, self._batch_size, passes=3)
        useful = 1 + self._step_cost // PER_THREAD
        most = min(n_threads or threads.default_threads(), useful)
        self._team = threads.team(most, (self._step_cost, parameters.dtype))
        self._panels = layout.Panels(plan, parameters)
        self._work = state.make_workspace(plan, data, self._batch_size, most, with_penalty)
        self._parts = tasks.make_weight_blocks(plan, most)
        self._pace = 0.0
        self._before = 0

    @property
    def step(self) -> int:
        """Steps of the epoch made so far: counted where they are made, so that none is missed."""
        return int(self.memory.n_updates[0]) - self._before

    def begin(
        self,
        step: int = 0,
        totals: Sequence[float] = (0.0,) * 4,
        start: Array | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Get ready for an epoch, or for the rest of one of which ``step`` steps have been made."""
        self._before = int(self.memory.n_updates[0]) - step
        self.totals[:] = totals
        # As long as the steps work on the panels, the parameters are what they were.
        self.start = self.parameters if start is None else start
        self.seconds = seconds

    def advance(
        self, number: int, update: state.StepOptions, shown: Progress, until: int | None = None
    ) -> None:
        """Make the steps of epoch ``number`` that have not been made, up to step ``until``."""
        until = self.n_steps if until is None else min(until, self.n_steps)
        self._panels.fill()
        self._guard.panels = self._panels
        try:
            self._make_all_steps(number, update, shown, until)
        except BaseException as error:  # Ctrl-C may come before divergence has been noticed
            is_known = isinstance(error, DivergenceError)
            self.is_lost = is_known or not passes.all_finite(self._panels.numbers)
            raise
        finally:
            interruption = None
            while self._guard.panels is not None:  # Ctrl-C waits
                try:
                    self._leave()
                except KeyboardInterrupt as error:
                    interruption = error
            if interruption is not None:
                raise interruption

    def _leave(self) -> None:
        """Write the parameters back; after divergence, those of the epoch's beginning.

        May be interrupted, and begun again.
        """
        with self._guard.steps():
            if self.is_lost:
                self.parameters[:] = self.start
                state.forget(self.memory)
            else:
                if self.step < self.n_steps and self.start is self.parameters:
                    self.start = self.parameters.copy()
                self._panels.write_back()
            self._guard.panels = None

    def _make_all_steps(
        self, number: int, update: state.StepOptions, shown: Progress, until: int
    ) -> None:
        while self.step < until:
            first, n_threads = self.step, self._team.size()
            last = min(first + self._stretch(n_threads), until)
            started = time.perf_counter()
            try:
                stopped = self._make_steps(first, last, n_threads, update)
            finally:
                seconds = time.perf_counter() - started
                self.seconds += seconds
            if stopped >= 0:
                raise self._divergence("the loss", number, stopped, update)
            self._pace = seconds / (last - first)
            self._team.note(n_threads, self._pace)
            shown.steps(last - first)
        if until < self.n_steps:
            return
        if not passes.all_finite(self._panels.numbers):
            raise self._divergence("a parameter", number, None, update)
        # It would hold its parameter where it is from then on, without another sign.
        if self.memory.second_moment is not None and not passes.all_finite(
            self.memory.second_moment
        ):
            raise self._divergence("the mean of a squared gradient", number, None, update)

    def _stretch(self, n_threads: int) -> int:
        """Steps to make before the interpreter has its turn."""
        if self._pace:
            return max(1, int(SLICE_SECONDS / self._pace))
        return max(1, FIRST_SLICE * n_threads // self._step_cost)

    def _make_steps(self, first: int, last: int, n_threads: int, update: state.StepOptions) -> int:
        """Make some steps, whole ones whatever happens; return the one that diverged, or -1."""
        board = tasks.make_counters(n_threads)
        model = parallel.Model(self._panels.table, self._panels.numbers, self.memory)
        batches = parallel.Batches(self.order, self._batch_size, first, last)
        shared = parallel.Tasks(self._parts, n_threads, n_threads, board)
        steps = partial(
            parallel.train, model, self._data, batches, update, self._work, shared, self.totals
        )
        with self._guard.steps():
            threads.run(n_threads, steps)
        return int(board[tasks.DIVERGED])

    def _divergence(
        self, what: str, epoch: int, step: int | None, update: state.StepOptions
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
