"""Rows in a file: opened, read in blocks, and shuffled without being in memory all at once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from io import FileIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastbp._checks.arrays import as_numeric, as_writeable_view
from fastbp._checks.scalars import as_real
from fastbp.training.arrow import ArrowFiles, arrow_paths
from fastbp.training.random import random_words, shuffle

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastbp._atomic import StrPath

    Array = NDArray[Any]

# A buffer holds at least so many blocks: with fewer, rows that lie beside each other stay together.
BLOCKS_PER_BUFFER = 256

# Rows of a file that tell it from others
_SAMPLED_ROWS = 4096


class NpyFile:
    """The rows of a ``.npy`` file.

    Attributes
    ----------
    path : str
    shape : tuple of int
    dtype : numpy.dtype
    blocks : None
        Rows may be read in blocks of any size.
    """

    blocks = None

    def __init__(self, path: str, x: np.memmap[Any, Any]) -> None:
        self.path, self.shape, self.dtype, self._start = path, x.shape, x.dtype, x.offset

    def read(self, pieces: Iterable[tuple[int, Array]]) -> None:
        """Read rows, from the first one of each piece on, converted to its array's dtype."""
        with open(self.path, "rb", buffering=0) as file:
            for first, out in pieces:
                stored = out if out.dtype == self.dtype else np.empty(out.shape, self.dtype)
                self._read(file, first, memoryview(stored.reshape(-1).view(np.uint8).data))
                if stored is not out:
                    with np.errstate(over="ignore"):
                        out[:] = stored

    def _read(self, file: FileIO, first: int, out: memoryview) -> None:
        row_bytes, done = self.shape[1] * self.dtype.itemsize, 0
        file.seek(self._start + first * row_bytes)
        while done < len(out):
            n = file.readinto(out[done:])
            if not n:
                row = first + done // row_bytes
                raise OSError(f"X: {self.path} ends before row {row} of {self.shape[0]}")
            done += n

    def sample(self) -> bytes:
        """Return some rows, that tell the file from others."""
        n_rows = self.shape[0]
        words = random_words(n_rows, 0, min(_SAMPLED_ROWS, n_rows))
        rows = np.empty((len(words), 1, self.shape[1]), self.dtype)
        self.read(zip(np.sort(words % np.uint64(n_rows)).tolist(), rows, strict=True))
        return rows.tobytes()


class Rows:
    """Rows to learn from, in memory or in files; made by `open_rows`.

    Attributes
    ----------
    n_features, n_blocks : int
        Blocks of a file are read in random order; there are none of rows in memory, and those of a
        ``.npy`` file, which can be cut anywhere, are its rows.
    dtype : numpy.dtype
        As they are stored.
    scale : float or None
        By which rows of uint8 are multiplied.
    y : array_like
        Labels or rows of probabilities.
    in_memory : ndarray or None
        The rows, unless they are in files.
    """

    def __init__(self, x: Array | NpyFile | ArrowFiles, y: Any, scale: float | None) -> None:
        self._x, self.y, self.scale = x, y, scale
        self._n_rows, self.n_features = int(x.shape[0]), int(x.shape[1])
        self.dtype = x.dtype
        self.in_memory = x if isinstance(x, np.ndarray) else None

    def __len__(self) -> int:
        """Count the rows."""
        return self._n_rows

    def __repr__(self) -> str:
        """Name the file, the shape and the dtype."""
        where = "memory" if self.in_memory is not None else self.file.path
        return f"<Rows of {where}: {len(self)} x {self.n_features} {self.dtype}>"

    @property
    def n_blocks(self) -> int:
        """Count the blocks of the files."""
        if self.in_memory is not None:
            return 0
        blocks = self.file.blocks
        return len(self) if blocks is None else len(blocks)

    @property
    def file(self) -> NpyFile | ArrowFiles:
        """Where the rows are, if not in memory."""
        assert not isinstance(self._x, np.ndarray)
        return self._x

    def fingerprint(self) -> str:
        """Return a digest of shape, dtype, scale and some rows of a file."""
        shape = len(self), self.n_features
        digest = hashlib.sha256(f"{self.dtype.str} {shape} {self.scale}".encode())
        digest.update(self.file.sample())
        return digest.hexdigest()


def open_rows(
    X: ArrayLike | StrPath | Sequence[StrPath],
    y: Any = None,
    *,
    features: Sequence[str] | None = None,
    label: str | None = None,
    scale: float | None = None,
) -> Rows:
    """Open rows to learn from with `Network.fit`, which may be more than memory holds.

    A file is read in blocks of rows while the network learns from the ones before.  Rows of uint8
    become floats as a mini-batch is gathered, times ``scale``.

    Parameters
    ----------
    X : path, sequence of paths, numpy.memmap or array_like of shape (n, n_features)
        Finite numbers: a ``.npy`` file; ``.parquet`` or ``.arrow`` files, by their paths or a
        pattern such as ``"part-*.parquet"``, in the order of their names (extra ``arrow``); or what
        is in memory already and stays there.
    y : path of a ``.npy`` file or array_like of shape (n,) or (n, n_classes)
        Labels, or rows of probabilities; not with ``label``.
    features : sequence of str, optional
        Columns of Parquet or Arrow files: numbers, or one column of lists of equal length or of
        bytes (fixed_size_binary).  By default all but ``label``.
    label : str, optional
        Their column of labels.
    scale : float, optional
        For rows of uint8, such as 1 / 255 for pixels: a feature is ``x * scale``, rounded once.

    Returns
    -------
    Rows
        For `Network.fit`, in the place of X and y.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, shape or range, or a file holds no rows of numbers.
    OSError
        If a file cannot be read.
    ImportError
        If pyarrow is needed and not installed.

    Notes
    -----
    The blocks of Parquet and Arrow files are their row groups and record batches: write them small,
    of some 1000 rows, so that a buffer holds many.  Lists are slow to decode; plain columns,
    lists of fixed size and bytes are fast.

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
    paths = arrow_paths(X)
    if paths is not None:
        x: Any = ArrowFiles(paths, features, label)
        if label is not None:
            if y is not None:
                raise TypeError("y must be left out where label names a column")
            y = x.labels()
    else:
        for name, value in (("features", features), ("label", label)):
            if value is not None:
                raise TypeError(f"{name} must be None but for Parquet and Arrow, got {value!r}")
        x = _opened(X, "X")
    if len(x.shape) != 2 or x.shape[1] == 0:
        raise ValueError(f"X must have shape (n, n_features), got {x.shape}")
    if x.shape[0] == 0:
        raise ValueError(f"X must have at least one row, got shape {x.shape}")
    if y is None:
        raise TypeError("y must be given: labels, or rows of probabilities")
    if isinstance(y, str | bytes | os.PathLike):
        y = _loaded(y, "y")
    answers = as_numeric(y, "y", small=True)
    if answers.ndim == 0 or len(answers) != x.shape[0]:
        raise ValueError(f"y must have {x.shape[0]} rows, as X has, got shape {answers.shape}")
    if x.dtype == np.uint8:
        scale = 1.0 if scale is None else as_real(scale, "scale")
    elif scale is not None:
        raise ValueError(f"scale must be given for rows of uint8 alone, got rows of {x.dtype}")
    return Rows(x, answers, scale)


def _loaded(path: Any, name: str) -> np.memmap[Any, Any]:
    """Return the array of a ``.npy`` file as a memory map."""
    path = os.fsdecode(path)
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
    return x


def _opened(x: Any, name: str) -> Array | NpyFile:
    """Return the array, or the file of a path or a memory map."""
    if isinstance(x, str | bytes | os.PathLike):
        x = _loaded(x, name)
    array = as_numeric(x, name, small=True)
    # A map of a part of a file, or of another order, is read as an array.
    is_whole = isinstance(x, np.memmap) and type(x.base).__name__ == "mmap"
    if is_whole and x.filename is not None and x.flags.c_contiguous and x.dtype.isnative:
        return NpyFile(os.fsdecode(x.filename), x)
    return array


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
    blocks: NDArray[np.intp] | None = None  # rows of each; None: equal ones

    @property
    def n_buffers(self) -> int:
        """Count the buffers of an epoch."""
        return -(-self.n_rows // self.buffer_rows)

    def size(self, k: int) -> int:
        """Count the rows of buffer k: the last may be short."""
        return min(self.buffer_rows, self.n_rows - k * self.buffer_rows)

    def spans(self, epoch: int, k: int) -> list[Span]:
        """Return what buffer k holds: spans of the file, one behind the other."""
        sizes = self.blocks
        if sizes is None:
            per_block = max(1, self.buffer_rows // BLOCKS_PER_BUFFER)
            sizes = np.diff(np.append(np.arange(0, self.n_rows, per_block), self.n_rows))
        firsts, blocks = np.cumsum(sizes) - sizes, np.arange(len(sizes))
        if self.seed is not None:
            shuffle(self.seed, epoch + (1 << 62), blocks)
        firsts, sizes = firsts[blocks], sizes[blocks]
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
        rows.file.read([(0, x)])
    with np.errstate(over="ignore"):
        return as_writeable_view(np.ascontiguousarray(x, kept))
