"""The gradient over all rows as one batch, on several threads."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.backprop import layout, parallel, state, tasks, totals
from fastbp.training import threads

# Another thread takes part for each so many multiply-adds.
PER_THREAD = 4_000_000


class Differentiator:
    """The mean cross-entropy of ``data``, and its gradient, for any parameters.

    The bits do not depend on the number of threads.
    """

    def __init__(self, plan: layout.Plan, data: state.Data, n_threads: int | None = None) -> None:
        n = state.n_rows(data)
        useful = 1 + layout.multiply_adds(plan, n, passes=3) // PER_THREAD
        self._n_threads = min(n_threads or threads.default_threads(), useful)
        self._table, self._data = plan.table, data
        self._batch = parallel.Batches(np.arange(n, dtype=np.intp), n, 0, 1)
        self._work = state.make_workspace(plan, data, n, self._n_threads)
        self._blocks = tasks.make_weight_blocks(plan, self._n_threads)

    def __call__(self, parameters: npt.NDArray[Any], grad: npt.NDArray[Any]) -> float:
        """Write the gradient, laid out as ``parameters``, to ``grad``; return the mean."""
        n, sums = self._n_threads, np.zeros(totals.N_TOTALS)
        shared = parallel.Tasks(self._blocks, n, n, tasks.make_counters(n))
        inputs = (self._table, parameters, self._data, self._batch)
        threads.run(n, partial(parallel.differentiate, *inputs, self._work, shared, grad, sums))
        return float(sums[totals.LOSS] / sums[totals.WEIGHT])
