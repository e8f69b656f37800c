"""How `MLPClassifier` moves its learning rate from epoch to epoch: scikit-learn's schedules."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import Any

from fastbp._checks.arrays import as_real
from fastbp.backprop.state import StepOptions
from fastbp.optimizers import SGD, Adam

KINDS = ("constant", "invscaling", "adaptive")

# An adaptive rate that is no larger ends training instead of shrinking once more.
_SMALLEST_RATE = 1e-6


class Schedule:
    """An optimizer whose learning rate follows a schedule.

    Parameters
    ----------
    optimizer : SGD or Adam
    kind : {"constant", "invscaling", "adaptive"}
        Of Adam, whose steps have their own scale, always "constant".
    power_t : float
        Exponent of "invscaling".
    """

    def __init__(self, optimizer: SGD | Adam, kind: str, power_t: float) -> None:
        self._optimizer = optimizer
        self._first_rate = optimizer.learning_rate
        self._kind = kind
        self._power_t = power_t

    def state(self) -> dict[str, Any]:
        """Return all of it, JSON-like; see `of_state`."""
        return {
            "optimizer": type(self._optimizer).__name__,
            "fields": asdict(self._optimizer),
            "first_rate": self._first_rate,
            "kind": self._kind,
            "power_t": self._power_t,
        }

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Schedule:
        """Make a schedule that goes on from a `state`.

        Raises
        ------
        TypeError, ValueError, KeyError
            If it makes no sense.
        """
        optimizer = {"SGD": SGD, "Adam": Adam}[state["optimizer"]](**state["fields"])
        if state["kind"] not in KINDS or asdict(optimizer).keys() != state["fields"].keys():
            raise ValueError(state)
        schedule = cls(optimizer, state["kind"], as_real(state["power_t"], "power_t", low=0.0))
        schedule._first_rate = as_real(state["first_rate"], "first_rate", low=0.0)
        return schedule

    @property
    def learning_rate(self) -> float:
        """The rate of the next epoch."""
        return self._optimizer.learning_rate

    def update(self, alpha: float) -> StepOptions:
        """Return what compiled code reads, with the penalty ``alpha`` divided by a batch's weight.

        Adam's epsilon is added before the bias of v is corrected, as in scikit-learn.
        """
        alpha = as_real(alpha, "alpha", 0.0)  # a float: integers would be compiled anew
        if isinstance(self._optimizer, Adam):
            return self._optimizer.update(alpha=alpha, epsilon_is_corrected=False)
        return self._optimizer.update(alpha=alpha)

    def end_epoch(self, n_seen: int) -> None:
        """Lower an inversely scaled rate, after ``n_seen`` rows in all."""
        if self._kind == "invscaling":
            try:
                rate = self._first_rate / (n_seen + 1.0) ** float(self._power_t)
            except OverflowError:
                rate = 0.0
            self._set_rate(max(rate, sys.float_info.min))

    def stop(self, reason: str, verbose: bool) -> bool:
        """Answer epochs that brought nothing: with a smaller rate, or, returning True, an end."""
        is_adaptive = self._kind == "adaptive"
        ends = not is_adaptive or self.learning_rate <= _SMALLEST_RATE
        if not ends:
            self._set_rate(self.learning_rate / 5)
            consequence = f"Setting learning rate to {self.learning_rate:f}"
        elif is_adaptive:
            consequence = "Learning rate too small. Stopping."
        else:
            consequence = "Stopping."
        if verbose:
            print(reason, consequence)
        return ends

    def _set_rate(self, learning_rate: float) -> None:
        self._optimizer = replace(self._optimizer, learning_rate=learning_rate)
