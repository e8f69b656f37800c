"""Steps on more rows than memory holds: a buffer is learnt from while the next one is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp._checks.labels import as_labels_or_targets
from fastbp._checks.scalars import as_positive_int
from fastbp.backprop import passes, state
from fastbp.training import inputs
from fastbp.training.batches import BatchMaker, BatchRun
from fastbp.training.learner import Learner
from fastbp.training.progress import Progress
from fastbp.training.rows import Rows, Shuffle, in_memory
from fastbp.training.run import UNKNOWN, Run, Share

Array = npt.NDArray[Any]

Wanted = Callable[[int, int], npt.NDArray[np.bool_]]

# Of each of the two buffers, unless ``buffer_rows`` says otherwise
BUFFER_BYTES = 1 << 28

# Rows of a step, unless ``batch_size`` says otherwise
BATCH_SIZE = 32


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
    wanted : callable, optional
        Given epoch and buffer, tells which of its rows are read; by default, all.

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
        wanted: Wanted | None = None,
    ) -> None:
        self._wanted = wanted
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
        x, at, file = memory[: self._shuffle.size(k)], 0, self._rows.file
        numbers, pieces = np.empty(len(x), np.intp), []
        for first, n in self._shuffle.spans(epoch, k):
            numbers[at : at + n] = np.arange(first, first + n)
            pieces.append((first, x[at : at + n]))
            at += n
        if self._wanted is not None and file.blocks is None:
            pieces = _pieces_of(x, numbers, self._wanted(epoch, k))
        file.read(pieces)
        for first, some in pieces:
            if some.dtype != np.uint8 and not passes.all_finite(some.reshape(-1)):
                row, column = np.argwhere(~np.isfinite(some))[0].tolist()
                place = f"row {first + row} of {file.path}"
                raise ValueError(f"X must be finite, got {some[row, column]} in {place}")
        _, _, labels, targets, weight, scale = self._answers
        return state.Data(
            x,
            None,
            None if labels is None else labels[numbers],
            None if targets is None else targets[numbers],
            weight[numbers] if weight.size else weight,
            scale,
        )


def _pieces_of(
    x: Array, numbers: npt.NDArray[np.intp], wanted: npt.NDArray[np.bool_]
) -> list[tuple[int, Array]]:
    """Return where the wanted rows are and go to, those that lie side by side together."""
    places = np.flatnonzero(wanted)
    breaks = np.flatnonzero((np.diff(places) != 1) | (np.diff(numbers[places]) != 1)) + 1
    return [
        (int(numbers[some[0]]), x[some[0] : some[-1] + 1])
        for some in np.split(places, breaks)
        if len(some)
    ]


class StreamRun(Run):
    """A `Run` over the buffers of a file, in the order of a `Shuffle`."""

    def __init__(
        self,
        learner: Learner,
        buffers: Buffers,
        shuffle: Shuffle,
        batch_size: int,
        n_threads: int | None,
        share: Share | None,
    ) -> None:
        super().__init__(learner, buffers.like, batch_size, n_threads, share=share)
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
            self.order = self._shuffle.order(epoch, k)
            try:
                self.data = self._buffers.take(epoch, k)
            except BaseException as error:
                if self._share is None:
                    raise
                self._share.fail(error)
            self._held = epoch, k
            self.seconds += time.perf_counter() - started
        end = min(until, (k + 1) * self._steps_per_buffer)
        super()._make_slice(epoch, options, progress, end)

    def _make_steps(self, first: int, last: int, options: state.StepOptions) -> int:
        before = self._held[1] * self._steps_per_buffer
        diverged = super()._make_steps(first - before, last - before, options)
        return diverged if diverged < 0 else diverged + before


class Source(NamedTuple):
    """What a network learns from: data in memory, the rows of a file, or a function's batches."""

    data: state.Data  # without rows where they are elsewhere
    batch_size: int
    rows: Rows | None = None
    shuffle: Shuffle | None = None
    maker: BatchMaker | None = None

    @property
    def n_rows(self) -> int | None:
        """Count the rows; a function has any number of them."""
        if self.maker is not None:
            return None
        return state.n_rows(self.data) if self.rows is None else len(self.rows)

    @property
    def steps_per_epoch(self) -> int:
        """Count the steps of an epoch."""
        n = self.n_rows
        return UNKNOWN if n is None else -(-n // min(self.batch_size, n))

    def identity(self) -> dict[str, Any]:
        """Return what a checkpoint should say of rows that are not in memory."""
        if self.maker is not None:
            return {"X": "of a function", "batch_size": self.batch_size}
        if self.rows is None or self.shuffle is None:
            return {}
        return {
            "X": self.rows.fingerprint(),
            "batch_size": self.batch_size,
            "buffer_rows": self.shuffle.buffer_rows,
        }

    @contextmanager
    def run(
        self, learner: Learner, n_threads: int | None, last_epoch: int, share: Share | None = None
    ) -> Iterator[Run]:
        """Have a run over the data; nothing is read after ``last_epoch``."""
        if self.maker is not None:
            yield BatchRun(learner, self.maker, self.batch_size, n_threads)
            return
        if self.rows is None or self.shuffle is None:
            yield Run(learner, self.data, self.batch_size, n_threads, share=share)
            return
        dtype = learner.parameters.dtype
        wanted = None if share is None else partial(self._wanted, share)
        buffers = Buffers(self.rows, self.data, self.shuffle, dtype, last_epoch, wanted)
        try:
            yield StreamRun(learner, buffers, self.shuffle, self.batch_size, n_threads, share)
        finally:
            buffers.close()

    def _wanted(self, share: Share, epoch: int, k: int) -> npt.NDArray[np.bool_]:
        """Tell which rows of a buffer this process learns from."""
        assert self.shuffle is not None
        order = self.shuffle.order(epoch, k)
        wanted = np.zeros(len(order), np.bool_)
        for start in range(0, len(order), self.batch_size):
            first, last = share.rows_of(min(self.batch_size, len(order) - start))
            wanted[order[start + first : start + last]] = True
        return wanted


def source_of(
    X: Any,
    y: Any,
    sample_weight: Any,
    buffer_rows: int | None,
    batch_size: int | None,
    layer_sizes: tuple[int, ...],
    dtype: np.dtype[Any],
    seed: int | None,
) -> Source:
    """Return what `Network.fit` is given as a source, checked."""
    if callable(X) or (isinstance(X, Iterator) and y is None):
        left_out = {"y": y, "sample_weight": sample_weight, "buffer_rows": buffer_rows}
        for name, value in left_out.items():
            if value is not None:
                raise TypeError(f"{name} must be left out where a function makes the batches")
        maker = BatchMaker(X, layer_sizes, dtype)
        return Source(maker.nothing, batch_size or 0, maker=maker)
    batch_size = BATCH_SIZE if batch_size is None else batch_size
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
            return Source(data._replace(x=in_memory(X, dtype)), batch_size)
        whole_batches = buffer_rows // batch_size * batch_size
        shuffle = Shuffle(len(X), whole_batches, seed, X.file.blocks)
        return Source(data, batch_size, X, shuffle)
    if buffer_rows is not None:
        raise ValueError(f"buffer_rows must be None without open_rows, got {buffer_rows!r}")
    return Source(inputs.as_data(X, y, sample_weight, layer_sizes, dtype), batch_size)


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
