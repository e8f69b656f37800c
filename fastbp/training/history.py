"""What each epoch of a training brought, and the error that ends one that diverged."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class History:
    """What each epoch of one call to `Network.fit` brought: lists with one number per epoch.

    Attributes
    ----------
    loss, accuracy : list of float
        Mean cross-entropy (without the L2 penalty) and fraction of rows classified correctly,
        both weighted by ``sample_weight``.  They are running means over the mini-batches of the
        epoch, each taken before the step it led to: nearly free, and a little worse than what
        `Network.loss` and `Network.score` find after the epoch.
    time : list of float
        Seconds spent training, without validation and callbacks.
    val_loss, val_accuracy : list of float
        The same on ``validation_data``, after the epoch; empty without such data.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        """Count the epochs."""
        return len(self.loss)

    def append(self, entry: dict[str, float]) -> None:
        """Add an epoch: its values by name."""
        for name, value in entry.items():
            getattr(self, name).append(value)


class DivergenceError(FloatingPointError, ValueError):
    """Training left the finite numbers: the loss or a parameter became infinite or NaN.

    Attributes
    ----------
    epoch : int or None
        The epoch it happened in, counted like ``Network.epoch``, from 1 on; an iteration of
        L-BFGS.
    step : int or None
        The step of that epoch, from 0 on; None if it is known of the epoch alone.
    history : History
        The epochs that were finished before.
    """

    def __init__(self, message: str, epoch: int | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step
        self.history = History()
