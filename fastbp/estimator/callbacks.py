"""The tasks of a fit that scikit-learn's callbacks follow: epochs, or iterations of L-BFGS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn before 1.9 has no callbacks

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """An estimator without callbacks."""


__all__ = ["CallbackSupportMixin", "CallbackTasks"]


class CallbackTasks:
    """Subtasks of ``fit``, one after another.

    Attributes
    ----------
    n_ended : int
        Tasks that have ended.
    is_open : bool
        Whether a task has begun and not ended.
    """

    def __init__(self, estimator: Any, name: str, X: Any, y: Any, weight: Any) -> None:
        metadata = None if weight is None else {"sample_weight": weight}
        self._of_fit = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._of_task = self._of_fit | {"reconstruction_attributes": estimator._fitted_attributes}
        self._name = name
        self._context: Any = None
        self.n_ended = 0
        self.is_open = False

    @contextmanager
    def fit(self, n_tasks: int) -> Iterator[None]:
        """Tell the callbacks that a fit of at most ``n_tasks`` begins and, if all is well, ends."""
        estimator = self._of_fit["estimator"]
        if not hasattr(estimator, "_init_callback_context"):
            yield
            return
        self._context = estimator._init_callback_context(max_subtasks=n_tasks)
        self._context.call_on_fit_task_begin(**self._of_fit)
        yield
        self._context.call_on_fit_task_end(**self._of_fit, reconstruction_attributes=dict)

    def begin(self) -> None:
        """Tell the callbacks that a task begins."""
        self.is_open = True
        if self._context is not None:
            self._task = self._context.subcontext(task_name=self._name)
            self._task.call_on_fit_task_begin(**self._of_task)

    def end(self) -> bool:
        """Tell the callbacks that it ends; return whether one of them ends the fit."""
        self.n_ended += 1
        self.is_open = False
        if self._context is None:
            return False
        return bool(self._task.call_on_fit_task_end(**self._of_task))
