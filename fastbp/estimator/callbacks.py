"""The tasks of a fit that scikit-learn's callbacks follow: epochs, or iterations of L-BFGS."""

from __future__ import annotations

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
            "reconstruction_attributes": estimator._fitted_attributes,
        }
        self.n_ended = 0
        self.is_open = False

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
