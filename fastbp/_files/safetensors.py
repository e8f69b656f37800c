"""Named arrays and strings in one file, in the safetensors format; read without trust.

A file is the length of its header (8 bytes, little-endian), the header (JSON), and the bytes of the
arrays, one after the other.  The header tells each array's dtype, shape and place, and under
``__metadata__`` holds strings; one of these, the checksum, covers all others and all arrays.

Read with plain reads, not through a memory map, which ends the process if the file is cut short
meanwhile; and straight into the arrays of whoever reads, so that nothing is in memory twice.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from fastbp._atomic import StrPath, replace_file

Array = npt.NDArray[Any]

# Of the header, in which an array takes about 90 bytes and three brackets.  What a parser makes of
# hostile JSON takes up to ten times its size, and up to thirty if it is full of brackets.
LONGEST_HEADER = 1 << 19
MOST_BRACKETS = 1 << 14
MOST_DIMENSIONS = 32
LENGTH_BYTES = 8

# Bytes read or digested at a time: Ctrl-C takes effect in between.
PIECE = 1 << 24

METADATA = "__metadata__"
CHECKSUM = "checksum"

DTYPES = {
    name: np.dtype(dtype)
    for name, dtype in {
        **{"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4"},
        **{"I32": "<i4", "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"},
    }.items()
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class ModelFileError(ValueError):
    """A file is not what it should be: no model, damaged, or not of this network or data."""


class Place(NamedTuple):
    """What the header tells of an array; ``start`` and ``end`` count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def write(path: StrPath, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Replace the file ``path`` by one with these arrays (of `DTYPES`) and strings.

    Raises
    ------
    ValueError
        If there are more arrays than a header has room for.
    OSError
        As `replace_file`.
    """
    # Wide dtypes first: then all are aligned.
    names = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    places, end = {}, 0
    for name in names:
        start, end = end, end + arrays[name].nbytes
        places[name] = Place(_NAMES[arrays[name].dtype], arrays[name].shape, start, end)
    digest = _digest_of(metadata, places)
    for name in sorted(arrays):
        _feed(digest, _bytes_of(arrays[name]))
    header: dict[str, Any] = {METADATA: {**metadata, CHECKSUM: digest.hexdigest()}}
    for name, place in places.items():
        header[name] = {
            "dtype": place.dtype,
            "shape": place.shape,
            "data_offsets": (place.start, place.end),
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    if len(text) > LONGEST_HEADER or text.count(b"{") + text.count(b"[") > MOST_BRACKETS:
        raise ValueError(
            f"a file has room for {MOST_BRACKETS // 3} arrays and {LONGEST_HEADER} bytes of names "
            f"and settings, got {len(arrays)} and {len(text)}"
        )
    pieces = [len(text).to_bytes(LENGTH_BYTES, "little"), text]
    replace_file(path, [*pieces, *(_bytes_of(arrays[name]) for name in names)])


class Reader:
    """An open file whose header has been checked; see `reading`.

    Attributes
    ----------
    metadata : dict of str
        Without the checksum.
    places : dict of Place
        By the arrays' names; they cover what follows the header without gaps and overlaps.
    """

    def __init__(self, file: IO[bytes], size: int, name: str) -> None:
        self._file, self._name = file, name
        self._taken: dict[str, memoryview] = {}
        length, header = self._header(size)
        self._start = LENGTH_BYTES + length
        self.metadata, self._checksum = self._strings(header.pop(METADATA, {}))
        self.places = {key: self._place(key, value) for key, value in header.items()}
        self._check_places(size - self._start)

    def fail(self, reason: str) -> NoReturn:
        """Raise ModelFileError."""
        raise ModelFileError(f"{self._name}: {reason}")

    def _header(self, size: int) -> tuple[int, dict[str, Any]]:
        if size < LENGTH_BYTES:
            self.fail(f"no model file, it has {size} bytes, and {LENGTH_BYTES} are the least")
        length = int.from_bytes(self._read(LENGTH_BYTES), "little")
        if length > size - LENGTH_BYTES:
            self.fail(
                f"cut short, or no model file: a header of {length} bytes is announced, and "
                f"{size - LENGTH_BYTES} bytes follow"
            )
        if length > LONGEST_HEADER:
            self.fail(f"its header has {length} bytes, and {LONGEST_HEADER} are the most")
        text = self._read(length)
        n_brackets = text.count(b"{") + text.count(b"[")
        if n_brackets > MOST_BRACKETS:
            self.fail(f"its header has {n_brackets} brackets, and {MOST_BRACKETS} are the most")
        try:
            header = json.loads(text.decode(), object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
            self.fail(f"no model file, its header is not JSON: {error}")
        if not isinstance(header, dict) or not text.startswith(b"{"):
            self.fail("no model file, its header is not a JSON object")
        return length, header

    def _strings(self, metadata: Any) -> tuple[dict[str, str], str]:
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            self.fail(f"its {METADATA} must be strings")
        if CHECKSUM not in metadata:
            self.fail("it has no checksum: not a file of fastbp")
        checksum = metadata.pop(CHECKSUM)
        return metadata, checksum

    def _place(self, name: str, value: Any) -> Place:
        if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
            self.fail(f"array {name!r} must have dtype, shape and data_offsets")
        dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
        if not isinstance(dtype, str) or dtype not in DTYPES:
            self.fail(f"array {name!r} must be one of {', '.join(DTYPES)}, got {dtype!r:.40}")
        for what, numbers in (("shape", shape), ("data_offsets", offsets)):
            if not isinstance(numbers, list) or not all(_is_length(n) for n in numbers):
                self.fail(f"{what} of array {name!r} must be whole numbers, got {numbers!r:.80}")
        if len(shape) > MOST_DIMENSIONS:
            self.fail(f"array {name!r} must have {MOST_DIMENSIONS} dimensions at most")
        if len(offsets) != 2:
            self.fail(f"data_offsets of array {name!r} must be two numbers, got {len(offsets)}")
        start, end = offsets
        n_bytes = math.prod(shape) * DTYPES[dtype].itemsize
        if end - start != n_bytes:
            self.fail(
                f"array {name!r}, {dtype} of shape {tuple(shape)!r:.80}, takes {n_bytes} bytes, "
                f"and its place has {end - start}"
            )
        return Place(dtype, tuple(shape), start, end)

    def _check_places(self, n_bytes: int) -> None:
        end = 0
        for name, place in sorted(self.places.items(), key=lambda item: item[1][2:]):
            if place.start != end:
                self.fail(f"array {name!r} must begin at byte {end}, not at {place.start}")
            end = place.end
        if end != n_bytes:
            what = "cut short" if n_bytes < end else "longer than it should be"
            self.fail(f"{what}: its arrays take {end} bytes, and {n_bytes} follow the header")

    def check(self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
        """Make sure that there is such an array."""
        if name not in self.places:
            self.fail(f"array {name!r} is missing")
        place, expected = self.places[name], np.dtype(dtype)
        if (DTYPES[place.dtype], place.shape) != (expected, shape):
            self.fail(
                f"array {name!r} must be {_NAMES[expected]} of shape {shape}, got {place.dtype} of "
                f"shape {place.shape!r:.80}"
            )

    def take(self, name: str, array: Array) -> Array:
        """Read an array into ``array``, of the right dtype and shape, C-contiguous; return it.

        Not to be believed before `finish`.
        """
        self.check(name, array.dtype, array.shape)
        view = _bytes_of(array)
        self._file.seek(self._start + self.places[name].start)
        for first in range(0, len(view), PIECE):
            rest = view[first : first + PIECE]
            while len(rest):
                n_read = self._file.readinto(rest)  # type: ignore[attr-defined]
                if not n_read:
                    self.fail(f"cut short while array {name!r} was read")
                rest = rest[n_read:]
        self._taken[name] = view
        return array

    def finish(self) -> None:
        """Make sure that everything, read or not, is what was written."""
        digest = _digest_of(self.metadata, self.places)
        for name in sorted(self.places):
            if name not in self._taken:
                place = self.places[name]
                self._file.seek(self._start + place.start)
                for first in range(place.start, place.end, 1 << 20):
                    digest.update(self._read(min(1 << 20, place.end - first)))
            else:
                _feed(digest, self._taken[name])
        if digest.hexdigest() != self._checksum:
            self.fail("damaged: its content does not have the checksum that it had when written")

    def _read(self, n: int) -> bytes:
        content = self._file.read(n)
        while len(content) < n:
            more = self._file.read(n - len(content))
            if not more:
                self.fail("cut short while it was read")
            content += more
        return content


@contextmanager
def reading(path: StrPath) -> Iterator[Reader]:
    """Open a file; within, all trouble but the system's own is a ModelFileError."""
    name = os.fsdecode(path)
    # A pipe that nobody writes to would be waited for; it is then told apart.
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError(f"{name}: not a regular file")
        try:
            yield Reader(file, status.st_size, name)
        except MemoryError as error:
            raise ModelFileError(f"{name}: it takes more memory than there is") from error


def _digest_of(metadata: Mapping[str, str], places: Mapping[str, Place]) -> Any:
    """Begin a checksum with everything but the arrays' bytes, in an order of its own."""
    kinds = {name: [place.dtype, place.shape] for name, place in places.items()}
    text = json.dumps([metadata, kinds], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode())


def _feed(digest: Any, view: memoryview) -> None:
    for first in range(0, len(view), PIECE):
        digest.update(view[first : first + PIECE])


def _bytes_of(array: Array) -> memoryview:
    """The memory of a C-contiguous array; of one without numbers, none."""
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def _is_length(number: Any) -> bool:
    return type(number) is int and 0 <= number < 2**63


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name occurs twice")
    return result
