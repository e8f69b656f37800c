"""The steps of a training: in slices of compiled code, with a way back from divergence."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastbp.backprop import layout, parallel, passes, state, tasks, updates
from fastbp.backprop.totals import CORRECT, LOSS, N_TOTALS, WEIGHT
from fastbp.training import cpus, threads
from fastbp.training.history import DivergenceError
from fastbp.training.learner import Learner
from fastbp.training.progress import Progress

# Multiply-adds of each thread in the first slice: a few milliseconds
FIRST_SLICE_MULTIPLY_ADDS = 200_000_000

# Length of later slices, by the time that the steps of the last one took: the interpreter costs
# nothing then, and Ctrl-C and progress wait for no more than this, or a single step.
SLICE_SECONDS = 0.03

# Multiply-adds of a step for which another thread takes part: threads meet twice a step, which
# takes some microseconds.
MULTIPLY_ADDS_PER_THREAD = 4_000_000

# Steps of an epoch whose last step has not been made
UNKNOWN = sys.maxsize

Array = npt.NDArray[Any]


class Share(Protocol):
    """What makes the steps of a `Run` where other processes take part in them."""

    def rows_of(self, n: int) -> tuple[int, int]:
        """Return the first and the last (excluded) row of this process in a batch of n rows."""

    def make_workspace(self, run: Run, data: state.Data) -> state.Workspace:
        """Allocate the memory of a step."""

    def make(self, run: Run, first: int, last: int, options: state.StepOptions) -> int:
        """Make steps; return the one that diverged, or -1."""

    def fail(self, error: BaseException) -> None:
        """Have the next step end on all ranks."""

    def seconds(self, seconds: float) -> float:
        """Return those that count."""


class Run:
    """Training on some data: the memory of its steps, how they are cut, and the way back.

    The steps work on the parameters in panel form.  The network's own vector is written at the end
    of an epoch, for a checkpoint, and after Ctrl-C or an error.

    Parameters
    ----------
    learner : Learner, updated
        Within its ``training``.
    data : Data
    batch_size : int
    n_threads : int or None
        At most; None for ``cpus.default_threads``.
    with_penalty : bool
        Whether ``totals[COST]`` counts the L2 penalty.
    share : Share, optional
        Where other processes take part in the steps.

    Attributes
    ----------
    order : ndarray of intp
        The rows' numbers in the order in which an epoch takes them; to be written before it.
    batch_size, steps_per_epoch : int
        The steps may be ``UNKNOWN`` until the last one is made.
    totals : (N_TOTALS,) ndarray
        Sums over the rows of the epoch so far: see ``fastbp.backprop.totals``.
    start : ndarray
        The parameters at the epoch's beginning.
    seconds : float
        Spent in the epoch so far.
    is_lost : bool
        Whether training has diverged: the parameters are ``start`` again, and the optimizer's state
        is forgotten.
    """

    def __init__(
        self,
        learner: Learner,
        data: state.Data,
        batch_size: int,
        n_threads: int | None,
        with_penalty: bool = False,
        share: Share | None = None,
    ) -> None:
        self.learner = learner
        self.totals = np.zeros(N_TOTALS)
        self.start = learner.parameters
        self.seconds = 0.0
        self.is_lost = False
        self.panels = layout.Panels(learner.plan, learner.parameters)
        self._share, self._most_threads, self._with_penalty = share, n_threads, with_penalty
        self._prepare(data, batch_size)
        self._updates_before = 0

    def _prepare(self, data: state.Data, batch_size: int) -> None:
        """Allocate what steps on some data need."""
        plan, n = self.learner.plan, state.n_rows(data)
        self.data, self.batch_size = data, min(batch_size, n)
        self.order = np.arange(n, dtype=np.intp)
        self.steps_per_epoch = -(-n // self.batch_size)
        rows = self.batch_size
        if self._share is not None:
            first, last = self._share.rows_of(rows)
            rows = max(last - first, 1)
        self._step_cost = layout.multiply_adds(plan, rows, passes=3)
        self.n_threads = cpus.n_useful(
            self._most_threads, self._step_cost, MULTIPLY_ADDS_PER_THREAD
        )
        self.weight_blocks = tasks.make_weight_blocks(plan, self.n_threads)
        if self._share is None:
            size = self.learner.parameters.dtype, self.batch_size, self.n_threads
            self.work = state.make_workspace(plan, data, *size, self._with_penalty)
        else:
            self.work = self._share.make_workspace(self, data)
        self._seconds_per_step = 0.0

    @property
    def step(self) -> int:
        """Steps of the epoch made so far, as counted by the steps themselves."""
        return int(self.learner.optimizer_state.n_updates[0]) - self._updates_before

    def entry(self) -> dict[str, float]:
        """Return what the epoch's steps brought, by the names in `History`."""
        weight = float(self.totals[WEIGHT]) or math.nan
        loss, correct = float(self.totals[LOSS]), float(self.totals[CORRECT])
        seconds = self.seconds if self._share is None else self._share.seconds(self.seconds)
        return {"loss": loss / weight, "accuracy": correct / weight, "time": seconds}

    def open(self, n_epochs: int) -> int:
        """Get the data of the next epoch ready; return how many steps ``n_epochs`` before had."""
        return n_epochs * self.steps_per_epoch

    def begin(self) -> None:
        """Get ready for an epoch."""
        self.resume(0, [0.0] * N_TOTALS, 0.0, self.learner.parameters)

    def resume(self, step: int, totals: Sequence[float], seconds: float, start: Array) -> None:
        """Get ready for the rest of an epoch, of which ``step`` steps have been made."""
        self._updates_before = int(self.learner.optimizer_state.n_updates[0]) - step
        self.totals[:] = totals
        self.seconds = seconds
        # While the steps work on the panels, the parameters themselves are those of the beginning.
        self.start = start

    def advance(
        self, epoch: int, options: state.StepOptions, progress: Progress, until: int
    ) -> None:
        """Make the steps of ``epoch`` from ``step`` to ``until`` (excluded), or to the last one.

        Raises
        ------
        DivergenceError
            If the loss or, after the epoch's last step, a parameter is not finite.
        """
        try:
            self.panels.fill()
            self.learner.panels = self.panels
            while self.step < (last := min(until, self.steps_per_epoch)):
                self._make_slice(epoch, options, progress, last)
            if self.step == self.steps_per_epoch:
                self._check_finite(epoch, options)
        except BaseException as error:  # Ctrl-C may come before a divergence is noticed
            is_known = isinstance(error, DivergenceError)
            self.is_lost = is_known or not passes.all_finite(self.panels.numbers)
            raise
        finally:
            interruptions = threads.whole(self._write_back)
            if interruptions:
                raise interruptions[-1]

    def _write_back(self) -> None:
        """Write the parameters; after divergence, those of the epoch's beginning.

        Ctrl-C may interrupt this: called again, it begins anew.
        """
        if self.learner.panels is None:
            return
        with self.learner.steps:
            if self.is_lost:
                self.learner.parameters[:] = self.start
                state.forget(self.learner.optimizer_state)
            else:
                if self.step < self.steps_per_epoch and self.start is self.learner.parameters:
                    self.start = self.learner.parameters.copy()
                self.panels.write_back()
            self.learner.panels = None

    def _make_slice(
        self, epoch: int, options: state.StepOptions, progress: Progress, until: int
    ) -> None:
        first = self.step
        last = min(first + self._slice_length(), until)
        started = time.perf_counter()
        try:
            diverged = self._make_steps(first, last, options)
        finally:
            seconds = time.perf_counter() - started
            self.seconds += seconds
        if diverged >= 0:
            raise self._divergence("the loss", epoch, diverged, options)
        self._seconds_per_step = seconds / (last - first)
        progress.steps(last - first)

    def _slice_length(self) -> int:
        """Return how many steps to make before the interpreter has its turn."""
        if self._seconds_per_step:
            return max(1, int(SLICE_SECONDS / self._seconds_per_step))
        return max(1, FIRST_SLICE_MULTIPLY_ADDS * self.n_threads // self._step_cost)

    def _make_steps(self, first: int, last: int, options: state.StepOptions) -> int:
        """Make whole steps, whatever happens; return the one that diverged, or -1."""
        if self._share is not None:
            with self.learner.steps:
                return self._share.make(self, first, last, options)
        n_threads = self.n_threads
        counters = tasks.make_counters(n_threads)
        model = updates.Model(self.panels.table, self.panels.numbers, self.learner.optimizer_state)
        batches = parallel.Batches(self.order, self.batch_size, first, last)
        shared = parallel.Tasks(self.weight_blocks, n_threads, n_threads, counters)
        train = partial(
            parallel.train, model, self.data, batches, options, self.work, shared, self.totals
        )
        with self.learner.steps:
            threads.run(n_threads, train)
        return int(counters[tasks.DIVERGED])

    def _check_finite(self, epoch: int, options: state.StepOptions) -> None:
        if not passes.all_finite(self.panels.numbers):
            raise self._divergence("a parameter", epoch, None, options)
        # An infinite second moment stops its parameter, without another sign.
        second_moment = self.learner.optimizer_state.second_moment
        if second_moment is not None and not passes.all_finite(second_moment):
            raise self._divergence("the mean of a squared gradient", epoch, None, options)

    def _divergence(
        self, what: str, epoch: int, step: int | None, options: state.StepOptions
    ) -> DivergenceError:
        where = "" if step is None else f", step {step}"
        if step is not None and self.steps_per_epoch != UNKNOWN:
            where += f" of {self.steps_per_epoch}"
        return DivergenceError(
            f"training diverged: {what} became infinite or NaN in epoch {epoch}{where}; the "
            f"parameters are those after epoch {epoch - 1}. "
            f"Try a learning_rate below {options.learning_rate:g}",
            epoch,
            step,
        )
