"""Steps on more rows than memory holds: a buffer is learnt from while the next one is read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp._checks.labels import as_labels_or_targets
from fastbp._checks.scalars import as_positive_int
from fastbp.backprop import passes, state
from fastbp.training import inputs
from fastbp.training.learner import Learner
from fastbp.training.progress import Progress
from fastbp.training.rows import Rows, Shuffle, in_memory
from fastbp.training.run import Run

Array = npt.NDArray[Any]

# Of each of the two buffers, unless ``buffer_rows`` says otherwise
BUFFER_BYTES = 1 << 28


class Buffers:
    """Two buffers of rows, one of which is read into while the other is learnt from.

    Parameters
    ----------
    rows : Rows
        Of a file.
    answers : Data
        Labels or targets, and weights, of all rows.
    shuffle : Shuffle
    dtype : dtype
        Of the network.
    last_epoch : int
        After which nothing is read.

    Attributes
    ----------
    like : Data
        As a buffer is, but for what it holds.
    """

    def __init__(
        self,
        rows: Rows,
        answers: state.Data,
        shuffle: Shuffle,
        dtype: np.dtype[Any],
        last_epoch: int,
    ) -> None:
        self._rows, self._answers, self._shuffle = rows, answers, shuffle
        self._last_epoch = last_epoch
        kept = rows.dtype if rows.dtype == np.uint8 else dtype
        shape = shuffle.buffer_rows, rows.n_features
        self._memory = [np.empty(shape, kept) for _ in range(2)]
        self.like = answers._replace(x=self._memory[0])
        self._reader = ThreadPoolExecutor(1, "fastbp-reader")
        self._pending: tuple[tuple[int, int], Future[state.Data]] | None = None

    def close(self) -> None:
        """Stop reading."""
        self._reader.shutdown(cancel_futures=True)

    def take(self, epoch: int, k: int) -> state.Data:
        """Return buffer k of an epoch, and begin to read the one after it.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If a row is not finite.
        """
        if self._pending is None or self._pending[0] != (epoch, k):
            self._read(epoch, k)
        assert self._pending is not None
        data = self._pending[1].result()
        self._memory.reverse()  # the other one is free now
        is_last = k + 1 == self._shuffle.n_buffers
        after = (epoch + 1, 0) if is_last else (epoch, k + 1)
        self._pending = None
        if after[0] <= self._last_epoch:
            self._read(*after)
        return data

    def _read(self, epoch: int, k: int) -> None:
        future = self._reader.submit(self._fill, self._memory[0], epoch, k)
        self._pending = (epoch, k), future

    def _fill(self, memory: Array, epoch: int, k: int) -> state.Data:
        x, at = memory[: self._shuffle.size(k)], 0
        numbers = np.empty(len(x), np.intp)
        for first, n in self._shuffle.spans(epoch, k):
            self._rows.file.read(first, x[at : at + n])
            numbers[at : at + n] = np.arange(first, first + n)
            at += n
        if x.dtype != np.uint8 and not passes.all_finite(x.reshape(-1)):
            row, column = np.argwhere(~np.isfinite(x))[0].tolist()
            place = f"row {numbers[row]} of {self._rows.file.path}"
            raise ValueError(f"X must be finite, got {x[row, column]} in {place}")
        _, _, labels, targets, weight, scale = self._answers
        return state.Data(
            x,
            None,
            None if labels is None else labels[numbers],
            None if targets is None else targets[numbers],
            weight[numbers] if weight.size else weight,
            scale,
        )


class StreamRun(Run):
    """A `Run` over the buffers of a file, in the order of a `Shuffle`."""

    def __init__(
        self,
        learner: Learner,
        buffers: Buffers,
        shuffle: Shuffle,
        batch_size: int,
        n_threads: int | None,
    ) -> None:
        super().__init__(learner, buffers.like, batch_size, n_threads)
        self._buffers, self._shuffle = buffers, shuffle
        self.steps_per_epoch = -(-shuffle.n_rows // batch_size)
        self._steps_per_buffer = shuffle.buffer_rows // batch_size
        self._held = (0, 0)  # epoch and buffer

    def _make_slice(
        self, epoch: int, options: state.StepOptions, progress: Progress, until: int
    ) -> None:
        """Make steps on one buffer."""
        k = self.step // self._steps_per_buffer
        if self._held != (epoch, k):
            started = time.perf_counter()
            self._data = self._buffers.take(epoch, k)
            self.order = self._shuffle.order(epoch, k)
            self._held = epoch, k
            self.seconds += time.perf_counter() - started
        end = min(until, (k + 1) * self._steps_per_buffer)
        super()._make_slice(epoch, options, progress, end)

    def _make_steps(self, first: int, last: int, options: state.StepOptions) -> int:
        before = self._held[1] * self._steps_per_buffer
        diverged = super()._make_steps(first - before, last - before, options)
        return diverged if diverged < 0 else diverged + before


class Source(NamedTuple):
    """What a network learns from: data in memory, or the rows of a file with all else of them."""

    data: state.Data  # without rows where they are in a file
    rows: Rows | None
    shuffle: Shuffle | None

    @property
    def n_rows(self) -> int:
        """Count the rows."""
        return state.n_rows(self.data) if self.rows is None else len(self.rows)

    def identity(self, batch_size: int) -> dict[str, Any]:
        """Return what a checkpoint should say of rows in a file."""
        if self.rows is None or self.shuffle is None:
            return {}
        return {
            "X": self.rows.fingerprint(),
            "batch_size": batch_size,
            "buffer_rows": self.shuffle.buffer_rows,
        }

    @contextmanager
    def run(
        self, learner: Learner, batch_size: int, n_threads: int | None, last_epoch: int
    ) -> Iterator[Run]:
        """Have a run over the data; nothing is read after ``last_epoch``."""
        if self.rows is None or self.shuffle is None:
            yield Run(learner, self.data, batch_size, n_threads)
            return
        dtype = learner.parameters.dtype
        buffers = Buffers(self.rows, self.data, self.shuffle, dtype, last_epoch)
        try:
            yield StreamRun(learner, buffers, self.shuffle, batch_size, n_threads)
        finally:
            buffers.close()


def source_of(
    X: Any,
    y: Any,
    sample_weight: Any,
    buffer_rows: int | None,
    batch_size: int,
    layer_sizes: tuple[int, ...],
    dtype: np.dtype[Any],
    seed: int | None,
) -> Source:
    """Return what `Network.fit` is given as a source, checked."""
    if isinstance(X, Rows):
        if y is not None:
            raise TypeError("y must be left out, for the opened rows have it")
        if buffer_rows is not None:
            buffer_rows = as_positive_int(buffer_rows, "buffer_rows")
            if buffer_rows < batch_size:
                raise ValueError(
                    f"buffer_rows must be at least batch_size, {batch_size}, got {buffer_rows}"
                )
        data = _answers(X, sample_weight, layer_sizes, dtype)
        if buffer_rows is None:
            itemsize = 1 if X.dtype == np.uint8 else dtype.itemsize
            buffer_rows = max(batch_size, BUFFER_BYTES // (X.n_features * itemsize))
        if X.in_memory is not None or len(X) <= buffer_rows:
            return Source(data._replace(x=in_memory(X, dtype)), None, None)
        whole_batches = buffer_rows // batch_size * batch_size
        return Source(data, X, Shuffle(len(X), whole_batches, seed, X.file.blocks))
    if buffer_rows is not None:
        raise ValueError(f"buffer_rows must be None without open_rows, got {buffer_rows!r}")
    return Source(inputs.as_data(X, y, sample_weight, layer_sizes, dtype), None, None)


def _answers(
    rows: Rows, sample_weight: Any, layer_sizes: tuple[int, ...], dtype: np.dtype[Any]
) -> state.Data:
    """Return labels or targets, and weights, without the rows."""
    if rows.n_features != layer_sizes[0]:
        raise ValueError(
            f"X must have {layer_sizes[0]} columns, one per unit of the first layer, got rows of "
            f"{rows.n_features}"
        )
    answers = as_labels_or_targets(rows.y, (len(rows), layer_sizes[-1]), dtype, "y")
    nothing = np.empty((0, rows.n_features), dtype)
    return inputs.with_answers(nothing, answers, sample_weight, rows.scale)
