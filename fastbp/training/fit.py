"""The epochs of one call of ``fit``: steps, what a model does around them, and checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fastbp._files.checkpoint import Checkpoint, Position, Snapshot
from fastbp.backprop import state
from fastbp.training.history import DivergenceError, History
from fastbp.training.progress import Progress
from fastbp.training.run import UNKNOWN, Run

Entry = dict[str, float]


class Hooks(NamedTuple):
    """What a model does around the steps of each epoch; epochs are numbered from 1 on."""

    # Given its number, write the order of the rows; return how steps use the gradient.
    begin: Callable[[int, npt.NDArray[np.intp]], state.StepOptions]
    # Return what is measured after the epoch, by its names in `History`.
    measure: Callable[[], Entry]
    # Given the epoch's number and values, return whether training ends.
    end: Callable[[int, Entry], bool]


class Keeper(Protocol):
    """What writes checkpoints, such as a `Checkpoint`."""

    def next_step(self, n_steps: int) -> int:
        """Return the next step to save at after so many."""

    def is_due(self, n_steps: int) -> bool:
        """Tell whether to save at the end of an epoch, after so many steps."""

    def save(self, snapshot: Snapshot) -> None:
        """Write where a run is."""


class _Place(NamedTuple):
    """Where training is.  Replaced in one assignment: Ctrl-C finds the old place or the new one."""

    done: int  # epochs
    has_begun: bool  # the next epoch
    has_ended: bool  # by its hook


class Epochs:
    """Training for some epochs, from the beginning or from a checkpoint.

    Parameters
    ----------
    run : Run
        What makes the steps.
    hooks : Hooks
    first_epoch : int
        Epochs of earlier calls.
    checkpoint : Keeper, optional
        Saved as often as it says, and when training ends, except by divergence.

    Attributes
    ----------
    history : History
    """

    def __init__(
        self,
        run: Run,
        hooks: Hooks,
        first_epoch: int = 0,
        checkpoint: Keeper | None = None,
    ) -> None:
        self._run, self._hooks = run, hooks
        self._first_epoch, self._checkpoint = first_epoch, checkpoint
        self._place = _Place(0, False, False)
        self._saved: Position | None = None
        self._n_before = 0  # steps of the epochs that are done
        self.history = History()

    def resume(self, snapshot: Snapshot) -> int:
        """Put back what a checkpoint holds; return how many epochs are done in all calls."""
        run, position = self._run, snapshot.position
        run.learner.put_back(snapshot.parameters, snapshot.optimizer_state)
        if position.step:
            run.resume(position.step, position.totals, position.seconds, snapshot.start)
        self.history = History(**{name: list(n) for name, n in snapshot.history.items()})
        self._first_epoch = position.first_epoch
        self._place = _Place(position.done, position.step > 0, position.ended)
        self._saved = position
        return position.first_epoch + position.done

    def train(self, epochs: int, show: bool = False) -> History:
        """Train until ``epochs`` are done; ``show`` the progress."""
        length, last = self._run.steps_per_epoch, self._first_epoch + epochs
        n_steps = None if length == UNKNOWN else epochs * length
        try:
            with Progress(show, last, n_steps, self._run.batch_size) as progress:
                if self._saved is not None and n_steps is not None:
                    progress.steps(self._saved.done * length + self._saved.step)
                self._save()
                while self._place.done < epochs and not self._place.has_ended:
                    self._train_epoch(progress)
                self._save()
        except BaseException as error:
            if not self._run.is_lost:
                self._save_after(error)
            elif isinstance(error, DivergenceError):
                error.history = self.history
            raise
        return self.history

    def _train_epoch(self, progress: Progress) -> None:
        run, hooks, done = self._run, self._hooks, self._place.done
        number, self._n_before = self._first_epoch + done + 1, run.open(done)
        options = hooks.begin(number, run.order)
        if not self._place.has_begun:
            run.begin()
            self._place = _Place(done, True, False)
        self._make_steps(number, options, progress)
        self._n_before += run.step
        entry = run.entry() | hooks.measure()
        self.history.append(entry)
        progress.epoch(number, entry)
        self._place = _Place(done + 1, False, hooks.end(number, entry))
        if self._checkpoint is not None and self._checkpoint.is_due(self._n_before):
            self._save()

    def _make_steps(self, number: int, options: state.StepOptions, progress: Progress) -> None:
        """Make the rest of an epoch's steps, with the checkpoints that are due before the last."""
        run = self._run
        while True:
            until = UNKNOWN
            if self._checkpoint is not None:
                until = self._checkpoint.next_step(self._n_before + run.step) - self._n_before
            run.advance(number, options, progress, until)
            if run.step == run.steps_per_epoch:
                return
            self._save()

    def _save(self) -> None:
        """Save where training is, unless the last checkpoint says the same."""
        if self._checkpoint is None:
            return
        run, (done, has_begun, has_ended) = self._run, self._place
        step, totals, seconds = 0, [0.0] * len(run.totals), 0.0
        if has_begun:
            step, totals, seconds = run.step, run.totals.tolist(), run.seconds
        position = Position(self._first_epoch, done, step, totals, seconds, has_ended)
        if position != self._saved:
            learner = run.learner
            vectors = learner.parameters, learner.optimizer_state, run.start
            self._checkpoint.save(Snapshot(position, asdict(self.history), *vectors))
            self._saved = position

    def _save_after(self, error: BaseException) -> None:
        try:
            self._save()
        except OSError as reason:
            error.add_note(f"the last checkpoint is an older one: {reason}")


def resumable(
    checkpoint: Checkpoint, steps_per_epoch: int, epochs: int, is_adam: bool
) -> Snapshot | None:
    """Return what a checkpoint holds of a run of ``epochs``; None if there is no file."""
    snapshot = checkpoint.load(steps_per_epoch, is_adam, asdict(History()))
    if snapshot is not None and snapshot.position.done > epochs:
        raise ValueError(
            f"epochs must be at least {snapshot.position.done}, those of the checkpoint, "
            f"got {epochs}"
        )
    return snapshot
