"""Steps on mini-batches that a function makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastbp._checks.labels import as_labels_or_targets, as_row_weight
from fastbp.backprop import state
from fastbp.training import inputs
from fastbp.training.learner import Learner
from fastbp.training.progress import Progress
from fastbp.training.run import UNKNOWN, Run


class BatchMaker:
    """What makes the batches of each epoch.

    Parameters
    ----------
    make : callable or iterator
        A function that returns an iterator of (X, y) or (X, y, sample_weight), called for each
        epoch; or one such iterator, for one epoch.
    layer_sizes : tuple of int
    dtype : dtype

    Attributes
    ----------
    nothing : Data
        As a batch is, without rows.
    """

    def __init__(
        self,
        make: Callable[[], Any] | Iterator[Any],
        layer_sizes: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self._make, self._layer_sizes, self._dtype = make, layer_sizes, dtype
        x, labels = np.empty((0, layer_sizes[0]), dtype), np.empty(0, np.intp)
        self.nothing = state.Data(x, None, labels, None, np.empty(0))

    def check_epochs(self, epochs: int) -> None:
        """Refuse to read an iterator twice."""
        if epochs > 1 and not callable(self._make):
            raise TypeError(
                f"X can be read only once, and epochs is {epochs}: give the function that makes it"
            )

    def epoch(self) -> Iterator[state.Data]:
        """Make the batches of an epoch, checked."""
        made = self._make() if callable(self._make) else self._make
        if not hasattr(made, "__iter__"):
            kind = type(made).__name__
            raise TypeError(f"X must return an iterator of (X, y), got {kind}")
        for number, batch in enumerate(made):
            yield self._as_data(batch, f"of batch {number}")

    def _as_data(self, batch: Sequence[Any], where: str) -> state.Data:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            kind = type(batch).__name__
            size = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
            raise TypeError(f"X must make (X, y) or (X, y, sample_weight), got a {kind}{size}")
        x = inputs.as_samples(batch[0], self._layer_sizes[0], self._dtype, f"X {where}")
        if len(x) == 0:
            raise ValueError(f"X {where} must have at least one row, got shape {x.shape}")
        inputs.check_finite(x, f"X {where}")
        shape = len(x), self._layer_sizes[-1]
        answers = as_labels_or_targets(batch[1], shape, self._dtype, f"y {where}")
        labels, targets = (answers, None) if answers.ndim == 1 else (None, answers)
        weight = as_row_weight(batch[2] if len(batch) == 3 else None, (len(x),), is_signed=False)
        return state.Data(x, None, labels, targets, weight, 1.0 if x.dtype == np.uint8 else None)


def _kind(data: state.Data) -> list[tuple[Any, bool]]:
    """Tell what compiled steps and their memory depend on, but for the number of rows."""
    return [(getattr(part, "dtype", None), getattr(part, "size", 1) == 0) for part in data]


class BatchRun(Run):
    """A `Run` over the batches of a function, as they come.

    Parameters
    ----------
    learner : Learner
    maker : BatchMaker
    batch_size : int
        Into which batches are cut; 0: they stay whole.
    n_threads : int or None
    """

    def __init__(
        self, learner: Learner, maker: BatchMaker, batch_size: int, n_threads: int | None
    ) -> None:
        self._maker, self._size = maker, batch_size
        self._n_opened = self._n_before = 0  # epochs, and the steps of those before this one
        super().__init__(learner, self._first(), batch_size or UNKNOWN, n_threads)
        self._begin_batch()

    def _prepare(self, data: state.Data, batch_size: int) -> None:
        super()._prepare(data, batch_size)
        self.steps_per_epoch = UNKNOWN

    def _first(self) -> state.Data:
        """Begin an epoch; return its first batch."""
        self._batches, self._first_step = self._maker.epoch(), 0
        self._n_opened += 1
        batch = next(self._batches, None)
        if batch is None:
            raise ValueError(f"X must make at least one batch, made none in epoch {self._n_opened}")
        return batch

    def _take(self, batch: state.Data) -> None:
        """Learn from a batch; memory is allocated anew for more rows, or others."""
        size = min(self._size or UNKNOWN, len(batch.x))
        if _kind(batch) == _kind(self.data) and size <= self.work.capacity:
            self.data, self.batch_size = batch, size
            self.order = np.arange(len(batch.x), dtype=np.intp)
        else:
            self._prepare(batch, size)
        self._begin_batch()

    def _begin_batch(self) -> None:
        self._last_step = self._first_step + -(-len(self.order) // self.batch_size)

    def _next(self) -> None:
        """Go on to the next batch, or note that the epoch has no more."""
        self._first_step = self._last_step
        batch = next(self._batches, None)
        if batch is None:
            self.steps_per_epoch = self._last_step
        else:
            self._take(batch)

    def open(self, n_epochs: int) -> int:
        """Get the next epoch ready; what a resumed run has learnt from is made and left."""
        while self._n_opened <= n_epochs:
            while self.steps_per_epoch == UNKNOWN:
                self._next()
            self._n_before += self.steps_per_epoch
            self.steps_per_epoch = UNKNOWN
            self._take(self._first())
        return self._n_before

    def _make_slice(
        self, epoch: int, options: state.StepOptions, progress: Progress, until: int
    ) -> None:
        """Make steps on one batch."""
        while self._last_step <= self.step:
            self._next()
            if self.steps_per_epoch != UNKNOWN:
                raise ValueError(
                    f"X must make the batches that it made before: {self.step} steps, "
                    f"got {self.steps_per_epoch}"
                )
        super()._make_slice(epoch, options, progress, min(until, self._last_step))
        if self.step == self._last_step:
            self._next()

    def _make_steps(self, first: int, last: int, options: state.StepOptions) -> int:
        before = self._first_step
        diverged = super()._make_steps(first - before, last - before, options)
        return diverged if diverged < 0 else diverged + before
