"""The epochs of one call to `Network.fit`: order, steps, validation, history and checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fastbp._files.checkpoint import Checkpoint, Position, Resumed
from fastbp.backprop import state
from fastbp.training.random import shuffle
from fastbp.training.run import DivergenceError, History, Progress, Run

Entry = dict[str, float]


class _At(NamedTuple):
    """Epochs done, whether the next one has begun, and whether training is to stop.

    Replaced in one assignment: Ctrl-C finds the old state or the new one.
    """

    done: int
    has_begun: bool
    ended: bool


class Fitting:
    """Training for some epochs, from the beginning or from where a checkpoint left off.

    Parameters
    ----------
    run, update
        What makes the steps, and how they use the gradient.
    seed : int or None
        Decides the order of the rows in each epoch; None leaves it as it is.
    epoch : int
        Epochs that the network has been trained for before.
    validate : callable
        Returns what is measured after an epoch.
    end_epoch : callable
        Called with the values of each epoch; returns whether to stop.
    checkpoint : Checkpoint or None
        Saved as often as it says, and whenever training ends, but for divergence.
    """

    def __init__(
        self,
        run: Run,
        update: state.StepOptions,
        seed: int | None,
        epoch: int,
        validate: Callable[[], Entry],
        end_epoch: Callable[[Entry], bool],
        checkpoint: Checkpoint | None,
    ) -> None:
        self._run, self._update, self._seed = run, update, seed
        self._first_epoch = epoch
        self._validate, self._end_epoch = validate, end_epoch
        self._checkpoint = checkpoint
        self._history = History()
        self._at = _At(0, False, False)
        self._saved: Position | None = None

    def resume(self, resumed: Resumed) -> None:
        """Go on from there; the network's arrays have been put back by then."""
        position = resumed.position
        self._first_epoch, self._history = position.first_epoch, resumed.history
        if position.step:
            self._run.begin(position.step, position.totals, resumed.start, position.seconds)
        self._at = _At(position.done, position.step > 0, position.ended)
        self._saved = position

    def train(self, epochs: int, shown: Progress) -> History:
        """Train until that many epochs are done."""
        if self._saved is not None:
            shown.steps(self._saved.done * self._run.n_steps + self._saved.step)
        try:
            self._save()
            while self._at.done < epochs and not self._at.ended:
                self._train_epoch(shown)
            self._save()
        except DivergenceError as error:
            error.history = self._history
            raise
        except BaseException as error:
            if not self._run.is_lost:
                try:
                    self._save()
                except OSError as reason:
                    error.add_note(f"the last checkpoint is an older one: {reason}")
            raise
        return self._history

    def _train_epoch(self, shown: Progress) -> None:
        run, done = self._run, self._at.done
        number = self._first_epoch + done + 1
        if self._seed is not None:
            shuffle(self._seed, number, run.order)
        if not self._at.has_begun:
            run.begin()
            self._at = _At(done, True, False)
        before = done * run.n_steps
        while True:
            until = run.n_steps
            if self._checkpoint is not None:
                until = self._checkpoint.next_step(before + run.step, run.n_steps) - before
            run.advance(number, self._update, shown, until)
            if run.step == run.n_steps:
                break
            self._save()
        loss, correct, weight, _ = run.totals.tolist()
        entry = {"loss": loss / weight, "accuracy": correct / weight, "time": run.seconds}
        entry |= self._validate()
        self._history.append(entry)
        shown.epoch(number, entry)
        self._at = _At(done + 1, False, self._end_epoch(entry))
        if until == run.n_steps:
            self._save()

    def _save(self) -> None:
        """Save where training is, unless that has been done."""
        if self._checkpoint is None:
            return
        run, (done, has_begun, ended) = self._run, self._at
        step, totals, seconds = 0, [0.0] * 4, 0.0
        if has_begun:
            step, totals, seconds = run.step, run.totals.tolist(), run.seconds
        position = Position(self._first_epoch, done, step, totals, seconds, ended)
        if position != self._saved:
            self._checkpoint.save(run, position, self._history)
            self._saved = position
