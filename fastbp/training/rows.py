"""Rows in a file: opened, read in blocks, and shuffled without being in memory all at once."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastbp._checks.arrays import as_numeric, as_writeable_view
from fastbp._checks.scalars import as_real
from fastbp.training.random import random_words, shuffle

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastbp._atomic import StrPath

    Array = NDArray[Any]

# A buffer holds at least so many blocks: with fewer, rows that lie beside each other stay together.
BLOCKS_PER_BUFFER = 256

# Rows of a file that tell it from others
_SAMPLED_ROWS = 4096


class Rows:
    """Rows to learn from, in memory or in a file; made by `open_rows`.

    Attributes
    ----------
    n_features : int
    dtype : numpy.dtype
        As they are stored.
    scale : float or None
        By which rows of uint8 are multiplied.
    path : str or None
        The file.
    y : array_like
        Labels or rows of probabilities.
    """

    def __init__(self, x: Array, y: Any, scale: float | None, path: str | None, start: int) -> None:
        self._x, self.y, self.scale, self.path, self._start = x, y, scale, path, start
        self.n_features, self.dtype = x.shape[1], x.dtype

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._x)

    def __repr__(self) -> str:
        """Name the file, the shape and the dtype."""
        where = "memory" if self.path is None else self.path
        return f"<Rows of {where}: {len(self)} x {self.n_features} {self.dtype}>"

    @property
    def in_memory(self) -> Array | None:
        """The rows, unless they are in a file."""
        return self._x if self.path is None else None

    def read(self, first: int, out: Array) -> None:
        """Read rows of a file, from ``first`` on, into ``out``, converted to its dtype."""
        stored = out if out.dtype == self.dtype else np.empty(out.shape, self.dtype)
        view, done = memoryview(stored.reshape(-1).view(np.uint8).data), 0
        assert self.path is not None
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self._start + first * self.n_features * self.dtype.itemsize)
            while done < len(view):
                n = file.readinto(view[done:])
                if not n:
                    row = first + done // (self.n_features * self.dtype.itemsize)
                    raise OSError(f"X: {self.path} ends before row {row} of {len(self)}")
                done += n
        if stored is not out:
            with np.errstate(over="ignore"):
                out[:] = stored

    def fingerprint(self) -> str:
        """Return a digest of shape, dtype, scale and some rows of a file."""
        digest = hashlib.sha256(f"{self.dtype.str} {self._x.shape} {self.scale}".encode())
        words = random_words(len(self), 0, min(_SAMPLED_ROWS, len(self)))
        row = np.empty((1, self.n_features), self.dtype)
        for number in np.sort(words % np.uint64(len(self))).tolist():
            self.read(number, row)
            digest.update(row.tobytes())
        return digest.hexdigest()


def open_rows(X: ArrayLike | StrPath, y: Any = None, *, scale: float | None = None) -> Rows:
    """Open rows to learn from with `Network.fit`, which may be more than memory holds.

    A file is read in blocks of rows while the network learns from the ones before.  Rows of uint8
    become floats as a mini-batch is gathered, times ``scale``.

    Parameters
    ----------
    X : path of a ``.npy`` file, numpy.memmap or array_like, of shape (n, n_features)
        Finite numbers; what is in memory already stays there.
    y : path of a ``.npy`` file or array_like of shape (n,) or (n, n_classes)
        Labels, or rows of probabilities.
    scale : float, optional
        For rows of uint8, such as 1 / 255 for pixels: a feature is ``x * scale``, rounded once.

    Returns
    -------
    Rows
        For `Network.fit`, in the place of X and y.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, shape or range, or a file is no ``.npy`` file of rows.
    OSError
        If a file cannot be read.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastbp
    >>> pixels = np.array([[0, 255], [255, 0]] * 50, np.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "pixels.npy")
    ...     np.save(path, pixels)
    ...     rows = fastbp.open_rows(path, [0, 1] * 50, scale=1 / 255)
    ...     history = fastbp.Network([2, 4, 2]).fit(rows, epochs=20, learning_rate=0.5)
    >>> len(rows), rows.dtype, history.accuracy[-1]
    (100, dtype('uint8'), 1.0)
    """
    x, path, start = _opened(X, "X")
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"X must have shape (n, n_features), got {x.shape}")
    if len(x) == 0:
        raise ValueError(f"X must have at least one row, got shape {x.shape}")
    if y is None:
        raise TypeError("y must be given: labels, or rows of probabilities")
    answers = _opened(y, "y")[0]
    if len(answers) != len(x) or answers.ndim == 0:
        raise ValueError(f"y must have {len(x)} rows, as X has, got shape {answers.shape}")
    if x.dtype == np.uint8:
        scale = 1.0 if scale is None else as_real(scale, "scale")
    elif scale is not None:
        raise ValueError(f"scale must be given for rows of uint8 alone, got rows of {x.dtype}")
    return Rows(x, np.asarray(answers), scale, path, start)


def _opened(x: Any, name: str) -> tuple[Array, str | None, int]:
    """Return an array, of a file as a memory map with its path and where the rows start in it."""
    if isinstance(x, str | bytes | os.PathLike):
        path = os.fsdecode(x)
        if os.path.isdir(path):
            raise IsADirectoryError(f"{name} must be a file, got the folder {path!r}")
        try:
            x = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"{name} must be a .npy file of numbers: {path}: {error}") from None
        if not isinstance(x, np.memmap):
            raise ValueError(f"{name} must be a .npy file of one array: {path}")
        if x.ndim == 2 and not x.flags.c_contiguous:
            raise ValueError(f"{name} must be in C order, row after row: {path}")
    array = as_numeric(x, name, small=True)
    # A map of a part of a file, or of another order, is read as an array.
    is_whole = isinstance(x, np.memmap) and type(x.base).__name__ == "mmap"
    if is_whole and x.filename is not None and x.flags.c_contiguous and x.dtype.isnative:
        return array, os.fsdecode(x.filename), x.offset
    return array, None, 0


class Span(NamedTuple):
    """Rows ``first`` to ``first + n`` (excluded) of a file."""

    first: int
    n: int


class Shuffle(NamedTuple):
    """The order of an epoch: blocks at random, then rows within buffers of blocks.

    It depends on seed and epoch alone, so that any place in it can be returned to.
    """

    n_rows: int
    buffer_rows: int
    seed: int | None  # None: as they lie

    @property
    def n_buffers(self) -> int:
        """Count the buffers of an epoch."""
        return -(-self.n_rows // self.buffer_rows)

    def size(self, k: int) -> int:
        """Count the rows of buffer k: the last may be short."""
        return min(self.buffer_rows, self.n_rows - k * self.buffer_rows)

    def spans(self, epoch: int, k: int) -> list[Span]:
        """Return what buffer k holds: spans of the file, one behind the other."""
        per_block = max(1, self.buffer_rows // BLOCKS_PER_BUFFER)
        blocks = np.arange(-(-self.n_rows // per_block))
        if self.seed is not None:
            shuffle(self.seed, epoch + (1 << 62), blocks)
        firsts = blocks * per_block
        sizes = np.minimum(per_block, self.n_rows - firsts)
        ends = np.cumsum(sizes)
        start, stop = k * self.buffer_rows, k * self.buffer_rows + self.size(k)
        spans = []
        for q in range(int(np.searchsorted(ends, start, "right")), len(blocks)):
            begins = int(ends[q] - sizes[q])
            if begins >= stop:
                break
            skipped = max(start - begins, 0)
            n = min(int(ends[q]), stop) - begins - skipped
            spans.append(Span(int(firsts[q]) + skipped, n))
        return spans

    def order(self, epoch: int, k: int) -> NDArray[np.intp]:
        """Return the order in which the rows of buffer k are taken."""
        order = np.arange(self.size(k), dtype=np.intp)
        if self.seed is not None:
            shuffle(self.seed, epoch + ((k + 1) << 40), order)
        return order


def in_memory(rows: Rows, dtype: np.dtype[Any]) -> Array:
    """Return all rows; those of uint8 stay so, others are converted to ``dtype``."""
    kept = np.dtype(np.uint8) if rows.dtype == np.uint8 else dtype
    x = rows.in_memory
    if x is None:
        x = np.empty((len(rows), rows.n_features), kept)
        rows.read(0, x)
    with np.errstate(over="ignore"):
        return as_writeable_view(np.ascontiguousarray(x, kept))
