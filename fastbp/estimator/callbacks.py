"""The tasks of a fit that scikit-learn's callbacks follow: epochs, or iterations of L-BFGS."""

from __future__ import annotations

import copy
from typing import Any


class CallbackTasks:
    """Subtasks of ``fit``, one after another.

    Attributes
    ----------
    n_ended : int
        Tasks that have ended.
    is_open : bool
        Whether a task has begun and not ended.
    """

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
        """Return what a copy of the estimator needs to predict as it would now."""
        network = copy.copy(self._arguments["estimator"]._network)
        return {
            "_network": network,
            "coefs_": list(network.weights),
            "intercepts_": list(network.biases),
        }

    def begin(self) -> None:
        """Tell the callbacks that a task begins."""
        self._task = self._context.subcontext(task_name=self._name)
        self._task.call_on_fit_task_begin(**self._arguments)
        self.is_open = True

    def end(self) -> bool:
        """Tell the callbacks that it ends; return whether one of them ends the fit."""
        self.n_ended += 1
        self.is_open = False
        return bool(self._task.call_on_fit_task_end(**self._arguments))
