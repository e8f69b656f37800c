"""The gradient over all rows as one batch, on several threads."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.backprop import layout, parallel, state, tasks, totals
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
        self._table, self._data = plan.table, data
        self._batch = parallel.Batches(np.arange(n, dtype=np.intp), n, 0, 1)
        self._work = state.make_workspace(plan, data, dtype, n, self._n_threads)
        self._blocks = tasks.make_weight_blocks(plan, self._n_threads)

    def __call__(self, parameters: npt.NDArray[Any], grad: npt.NDArray[Any]) -> float:
        """Write the gradient, laid out as ``parameters``, to ``grad``; return the mean."""
        n, sums = self._n_threads, np.zeros(totals.N_TOTALS)
        shared = parallel.Tasks(self._blocks, n, n, tasks.make_counters(n))
        inputs = (self._table, parameters, self._data, self._batch)
        threads.run(n, partial(parallel.differentiate, *inputs, self._work, shared, grad, sums))
        return float(sums[totals.LOSS] / sums[totals.WEIGHT])
