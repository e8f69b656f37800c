"""The steps of a fit, as scikit-learn's callbacks see them."""

from __future__ import annotations

import copy
from typing import Any


class Tasks:
    """Subtasks of ``fit``: the epochs, or the iterations of L-BFGS."""

    def __init__(self, estimator: Any, context: Any, name: str, X: Any, y: Any, metadata: Any):
        self._context = context
        self._name = name
        self._arguments = {
            "estimator": estimator,
            "X": X,
            "y": y,
            "metadata": metadata,
            "reconstruction_attributes": self._fitted_attributes,
        }
        self.n_ended = 0
        self.is_open = False

    def _fitted_attributes(self) -> dict[str, Any]:
        """Make a copy of the estimator predict as it would now; few callbacks ask for it."""
        network = copy.copy(self._arguments["estimator"]._network)
        return {
            "_network": network,
            "coefs_": list(network.weights),
            "intercepts_": list(network.biases),
        }

    def begin(self) -> None:
        self._task = self._context.subcontext(task_name=self._name)
        self._task.call_on_fit_task_begin(**self._arguments)
        self.is_open = True

    def end(self) -> bool:
        """Tell the callbacks; return whether one of them wants no more."""
        self.n_ended += 1
        self.is_open = False
        return bool(self._task.call_on_fit_task_end(**self._arguments))
