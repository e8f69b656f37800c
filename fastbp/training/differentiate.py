"""The gradient over all rows as one batch, on several threads."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.backprop import layout, parallel, state, tasks, totals
from fastbp.backprop.blocks import rows_per_block
from fastbp.training import cpus, threads
from fastbp.training.run import MULTIPLY_ADDS_PER_THREAD


class Differentiator:
    """The mean cross-entropy of ``data``, and its gradient, for any parameters.

    The bits do not depend on the number of threads.
    """

    def __init__(
        self,
        plan: layout.Plan,
        data: state.Data,
        dtype: npt.DTypeLike,
        n_threads: int | None = None,
    ) -> None:
        n = state.n_rows(data)
        cost = layout.multiply_adds(plan, n, passes=3)
        self._n_threads = cpus.n_useful(n_threads, cost, MULTIPLY_ADDS_PER_THREAD)
        self._parameters, self._gradient = (
            layout.Panels(plan, np.empty(plan.n_parameters, np.dtype(dtype))) for _ in range(2)
        )
        self._data = data
        self._batch = parallel.Batches(np.arange(n, dtype=np.intp), n, 0, 1)
        self._work = state.make_workspace(plan, data, dtype, n, self._n_threads)
        self._blocks = tasks.make_weight_blocks(plan, self._n_threads)
        k_block, sums = rows_per_block(n), np.array([[0, n]])
        self._sums, _ = make_sums(self._parameters, sums, k_block)
        self._weight = batch_weight(data, self._batch.order, 0, n, k_block)

    def __call__(self, parameters: npt.NDArray[Any], grad: npt.NDArray[Any]) -> float:
        """Write the gradient, laid out as ``parameters``, to ``grad``; return the mean."""
        n, panels, gradient = self._n_threads, self._parameters, self._gradient
        panels.plain[:] = parameters
        panels.fill()
        self._work.weight[0] = self._weight
        shared = parallel.Tasks(self._blocks, n, n, tasks.make_counters(n))
        inputs = panels.table, panels.numbers, self._data, self._batch, self._work
        threads.run(n, partial(parallel.differentiate, *inputs, shared, self._sums))
        n_weights = self._sums.weights.shape[1]
        gradient.numbers[:n_weights] = self._sums.weights[0]
        gradient.numbers[n_weights:] = self._sums.rest[0, : -totals.N_REST]
        gradient.write_back()
        grad[:] = gradient.plain
        loss = self._sums.rest[0, totals.LOSS - totals.N_REST]
        return float(loss / np.float64(self._weight))


def make_sums(
    panels: layout.Panels, rows: npt.NDArray[np.intp], k_block: int
) -> tuple[parallel.Sums, npt.NDArray[np.uint8]]:
    """Allocate the sums of a gradient; return their memory, too."""
    n_weights, m = int(panels.table[1, layout.BIAS_AT]), len(rows)
    n_rest = panels.numbers.size - n_weights + totals.N_REST
    n_bytes = m * n_weights * panels.numbers.itemsize
    memory = layout.aligned(n_bytes + m * n_rest * 8, np.uint8)
    weights = memory[:n_bytes].view(panels.numbers.dtype).reshape(m, n_weights)
    rest = memory[n_bytes:].view(np.float64).reshape(m, n_rest)
    return parallel.Sums(rows, k_block, weights, rest), memory


def batch_weight(
    data: state.Data, order: npt.NDArray[np.intp], first: int, n: int, k_block: int
) -> float:
    """Return the weight of a batch's rows."""
    if not data.row_weight.size:
        return float(n)
    return float(parallel.weight_of(data.row_weight, order, first, n, k_block))
