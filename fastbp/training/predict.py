"""The forward pass over many rows, and what is read off the logits."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp import kernels
from fastbp.backprop import layout, passes, state, tasks
from fastbp.training import cpus, threads
from fastbp.training.run import FIRST_SLICE_MULTIPLY_ADDS

Array = npt.NDArray[Any]

# Rows that pass through the layers together: enough to keep the weights in cache
ROWS_PER_BLOCK = 256

# Elements of uint8 that are converted at a time
FLOATS_OF_BYTES = 1 << 20

# Multiply-adds of a prediction for which another thread takes part
MULTIPLY_ADDS_PER_THREAD = 10_000_000


class Predictor:
    """The forward pass of a network, whose parameters may change between two calls."""

    def __init__(self, plan: layout.Plan, parameters: Array) -> None:
        self._plan, self._parameters = plan, parameters
        self._n_classes = plan.sizes[-1]
        self._spare: list[tuple[Array, Array]] = []

    def logits(self, x: Array | state.SparseRows, n_threads: int | None = None) -> Array:
        """Return the logits of checked rows; those of a row depend on no other row."""
        n = len(x) if isinstance(x, np.ndarray) else len(x.starts) - 1
        z = np.empty((n, self._n_classes), self._parameters.dtype)
        if isinstance(x, np.ndarray) and x.dtype == np.uint8:
            rows = max(1, FLOATS_OF_BYTES // x.shape[1])
            for first in range(0, n, rows):
                some = x[first : first + rows].astype(z.dtype)
                z[first : first + rows] = self.logits(some, n_threads)
        elif n == 1 and isinstance(x, np.ndarray):
            # An earlier call leaves its memory; calls at the same time find none.
            try:
                memory = self._spare.pop()
            except IndexError:
                memory = np.empty((1, self._plan.n_hidden), x.dtype), tasks.make_counters(1)
            hidden, counters = memory
            counters[tasks.ENTERED] = 0
            passes.logits(self._plan.table, self._parameters, x, z, 0, 1, hidden, counters)
            self._spare.append(memory)
        elif n <= ROWS_PER_BLOCK:
            self._pass_rows(x, z, 0, n, tasks.make_counters(1))
        else:
            self._share_rows(x, z, n_threads)
        return z

    def _pass_rows(
        self, x: Array | state.SparseRows, z: Array, first: int, last: int, counters: Array
    ) -> None:
        """Write the logits of some rows, together with the threads that share the counters."""
        hidden = np.empty((min(ROWS_PER_BLOCK, len(z)), self._plan.n_hidden), z.dtype)
        pass_through = passes.logits if isinstance(x, np.ndarray) else passes.sparse_logits
        pass_through(self._plan.table, self._parameters, x, z, first, last, hidden, counters)

    def _share_rows(self, x: Array | state.SparseRows, z: Array, n_threads: int | None) -> None:
        """Write the logits of many rows, in slices: Ctrl-C takes effect between two of them."""
        n, plan = len(z), self._plan
        if not isinstance(x, np.ndarray):
            plan = layout.make_plan([len(x.values) // n, *plan.sizes[1:]])
        cost = layout.multiply_adds(plan, 1, passes=1)
        n_threads = cpus.n_useful(n_threads, n * cost, MULTIPLY_ADDS_PER_THREAD)
        n_threads = min(n_threads, -(-n // ROWS_PER_BLOCK))
        in_slice = 2 * FIRST_SLICE_MULTIPLY_ADDS * n_threads
        rows = max(1, in_slice // (ROWS_PER_BLOCK * cost)) * ROWS_PER_BLOCK
        for first in range(0, n, rows):
            last, counters = min(first + rows, n), tasks.make_counters(1)
            threads.run(n_threads, partial(self._pass_rows, x, z, first, last, counters))

    def loss(self, data: state.Data, n_threads: int | None = None) -> float:
        """Return the mean cross-entropy, weighted as the rows are."""
        return mean_loss(self.logits(data.x, n_threads), data)

    def score(self, data: state.Data, n_threads: int | None = None) -> float:
        """Return the accuracy, weighted as the rows are."""
        return accuracy(self.logits(data.x, n_threads), data)

    def measures(self, data: state.Data | None, n_threads: int | None) -> dict[str, float]:
        """Return loss and accuracy of validation data, by their names in `History`."""
        return {} if data is None else measures(rows_of(self.logits(data.x, n_threads), data), data)


class Measured(NamedTuple):
    """What is measured of each row, times the row's weight."""

    loss: Array
    correct: npt.NDArray[np.float64]


def rows_of(z: Array, data: state.Data) -> Measured:
    """Measure each row."""
    return Measured(_row_losses(z, data), _correct_rows(z, data))


def part_of(data: state.Data, first: int, last: int) -> state.Data:
    """Return the rows ``first`` to ``last`` (excluded) of validation data."""
    labels = None if data.labels is None else data.labels[first:last]
    targets = None if data.targets is None else data.targets[first:last]
    return data._replace(x=data.x[first:last], labels=labels, targets=targets)


def measures(rows: Measured, data: state.Data) -> dict[str, float]:
    """Return loss and accuracy of validation data, by their names in `History`."""
    return {
        "val_loss": float(kernels.loss_sum(rows.loss)) / _total_weight(data),
        "val_accuracy": float(kernels.loss_sum(rows.correct)) / _total_weight(data),
    }


def largest(z: Array) -> npt.NDArray[np.intp]:
    """Return the index of each row's largest logit, the first of equals."""
    labels = np.empty(len(z), np.intp)
    bad = passes.largest(z, labels)
    if bad >= 0:
        raise ValueError(f"X must give finite logits, got {z[bad].tolist()} in row {bad}")
    return labels


def mean_loss(z: Array, data: state.Data) -> float:
    """Return the mean cross-entropy, weighted as the rows of ``data`` are."""
    return float(kernels.loss_sum(_row_losses(z, data))) / _total_weight(data)


def accuracy(z: Array, data: state.Data) -> float:
    """Return the weighted fraction of rows whose largest logit is the label's."""
    return float(kernels.loss_sum(_correct_rows(z, data))) / _total_weight(data)


def _row_losses(z: Array, data: state.Data) -> Array:
    loss = np.empty(len(z), z.dtype)
    if data.labels is not None:
        kernels.cross_entropy(z, data.labels, data.row_weight, loss)
    else:
        kernels.cross_entropy_targets(z, data.targets, data.row_weight, loss)
    return loss


def _correct_rows(z: Array, data: state.Data) -> npt.NDArray[np.float64]:
    correct = np.empty(len(z))
    passes.mark_correct(z, data.labels, data.targets, data.row_weight, correct)
    return correct


def _total_weight(data: state.Data) -> float:
    """Sum the weights of the rows."""
    if data.row_weight.size:
        return float(kernels.loss_sum(data.row_weight))
    return float(state.n_rows(data))
