"""What training changes: a network's parameters and its optimizer's state, and who may do so."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.backprop import layout, state

Array = npt.NDArray[Any]


class Learner:
    """Parameters and optimizer state, zeros at first.

    Attributes
    ----------
    plan : Plan
    parameters : ndarray
        As ``plan`` lays them out.
    optimizer_state : OptimizerState
    panels : Panels or None
        What the steps of a training change, while ``parameters`` may be behind.
    """

    def __init__(
        self, plan: layout.Plan, dtype: np.dtype[Any], with_second_moment: bool = False
    ) -> None:
        self.plan = plan
        self.parameters = state.make_parameters(plan, dtype)
        self.optimizer_state = state.make_optimizer_state(plan, dtype, with_second_moment)
        self.panels: layout.Panels | None = None
        self._locks: dict[int, tuple[threading.Lock, threading.Lock]] = {}

    def _of_process(self) -> tuple[threading.Lock, threading.Lock]:
        # A forked child inherits the state of locks, but not the threads that would release them.
        return self._locks.setdefault(os.getpid(), (threading.Lock(), threading.Lock()))

    @property
    def steps(self) -> threading.Lock:
        """Held while steps are made and parameters written: other threads see whole steps."""
        return self._of_process()[1]

    def _is_of_kind(self, is_adam: bool) -> bool:
        return is_adam == (self.optimizer_state.second_moment is not None)

    def is_fresh(self, is_adam: bool) -> bool:
        """Tell whether the optimizer state is that of Adam, or of SGD, before the first update."""
        velocity, _, n_updates = self.optimizer_state
        return self._is_of_kind(is_adam) and n_updates[0] == 0 and not velocity.any()

    @contextmanager
    def training(self, is_adam: bool) -> Iterator[None]:
        """Refuse a second training, by another thread or by a callback of the first one.

        The state of an optimizer of another kind is forgotten.
        """
        lock = self._of_process()[0]
        if lock.locked():
            raise RuntimeError("the network is being trained by another call, which has not ended")
        # (Of two threads that begin at the same moment, one waits for the other.)
        with lock:
            if not self._is_of_kind(is_adam):
                state.forget(self.optimizer_state)
                dtype = self.parameters.dtype
                second_moment = state.make_second_moment(self.plan, dtype) if is_adam else None
                self.optimizer_state = self.optimizer_state._replace(second_moment=second_moment)
            yield

    def copies(self) -> tuple[Array, state.OptimizerState]:
        """Return copies of parameters and optimizer state after the last whole step."""
        with self.steps:
            if self.panels is None:
                parameters = self.parameters.copy()
            else:
                parameters = layout.as_plain(self.plan, self.panels.numbers)
            return parameters, state.copy_of(self.optimizer_state)

    def put_back(self, parameters: Array, optimizer_state: state.OptimizerState) -> None:
        """Write what `copies` has returned."""
        self.parameters[:] = parameters
        for array, values in zip(self.optimizer_state, optimizer_state, strict=True):
            if array is not None and values is not None:
                array[:] = values
