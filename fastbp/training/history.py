"""What each epoch of a training brought, and the error that ends one that diverged."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

# Epochs at the beginning and at the end that a table shows
_SHOWN = 5


@dataclass(repr=False)
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

    Examples
    --------
    >>> history = History(loss=[1.5, 0.5], accuracy=[0.6, 0.9], time=[0.25, 0.25])
    >>> history
    <History of 2 epochs, 0.5 s: loss 0.5, accuracy 0.9>
    >>> history.as_dict()
    {'loss': [1.5, 0.5], 'accuracy': [0.6, 0.9], 'time': [0.25, 0.25]}
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        """Count the epochs."""
        return len(self.loss)

    def as_dict(self) -> dict[str, list[float]]:
        """Return the lists that are not empty, by name: ``pandas.DataFrame(history.as_dict())``."""
        lists = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: list(values) for name, values in lists.items() if values}

    def __repr__(self) -> str:
        """Name the epochs, their time, and the last values."""
        epochs = f"{len(self)} epoch{'' if len(self) == 1 else 's'}"
        last = {name: values[-1] for name, values in self.as_dict().items() if name != "time"}
        listed = ", ".join(f"{name} {value:.4g}" for name, value in last.items())
        return f"<History of {epochs}, {sum(self.time):.3g} s{': ' if listed else ''}{listed}>"

    def _repr_html_(self) -> str:
        """Show the first and the last epochs as a table, as notebooks do."""
        columns = self.as_dict()
        shown = [*range(len(self))]
        if len(shown) > 2 * _SHOWN:
            shown[_SHOWN:-_SHOWN] = [-1]
        head = "".join(f"<th>{name}</th>" for name in ("epoch", *columns))
        rows = ""
        for i in shown:
            cells = [f"{i + 1}", *(f"{values[i]:.4g}" for values in columns.values())]
            cells = cells if i >= 0 else ["&hellip;"] * len(cells)
            rows += f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def append(self, entry: dict[str, float]) -> None:
        """Add an epoch: its values by name."""
        for name, value in entry.items():
            getattr(self, name).append(value)


class DivergenceError(FloatingPointError, ValueError):
    """Training left the finite numbers: the loss or a parameter became infinite or NaN.

    Parameters
    ----------
    message : str
        What happened.
    epoch : int, optional
        The epoch it happened in, counted like ``Network.epoch``, from 1 on; an iteration of
        L-BFGS.
    step : int, optional
        The step of that epoch, from 0 on; None if it is known of the epoch alone.

    Attributes
    ----------
    history : History
        The epochs that were finished before.
    """

    def __init__(self, message: str, epoch: int | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step
        self.history = History()
