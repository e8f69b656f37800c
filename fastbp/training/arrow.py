"""Rows in Parquet and Arrow files, read by pyarrow: blocks are row groups and record batches."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_ENDINGS = (".parquet", ".arrow")


def arrow_paths(X: Any) -> list[str] | None:
    """Return the files that a path, a pattern or a sequence of paths names; None if not these."""
    given = [X] if isinstance(X, str | bytes | os.PathLike) else X
    if not isinstance(given, list | tuple) or not given:
        return None
    if not all(isinstance(path, str | bytes | os.PathLike) for path in given):
        return None
    paths = [os.fsdecode(path) for path in given]
    if len(paths) == 1 and not paths[0].endswith(_ENDINGS):
        return None
    for path in paths:
        if not path.endswith(_ENDINGS):
            raise ValueError(f"X must be .parquet or .arrow files, got {path!r}")
    found = []
    for path in paths:
        matches = [path] if os.path.exists(path) else sorted(glob.glob(path))
        if not matches:
            raise FileNotFoundError(f"X: no file {path!r}")
        found += matches
    return found


class ArrowFiles:
    """The rows of files with the same columns, one behind the other.

    Attributes
    ----------
    path : str
        The first of the files.
    shape : tuple of int
    dtype : numpy.dtype
    blocks : ndarray of intp
        Rows of each row group or record batch.
    """

    def __init__(self, paths: list[str], features: Sequence[str] | None, label: str | None) -> None:
        self.path, self._label = paths[0], label
        self._arguments = paths, features, label
        self._files = [_File(path) for path in paths]
        schema = self._files[0].schema
        if isinstance(features, str):
            raise TypeError(f"features must be a sequence of names, got {features!r}")
        names = [name for name in schema.names if name != label] if features is None else features
        self._features = list(names)
        for file in self._files:
            for name in [*self._features, *([] if label is None else [label])]:
                if file.schema.names.count(name) != 1:
                    raise ValueError(
                        f"X must have one column {name!r}, {file.path} has {file.schema.names}"
                    )
                if file.schema.field(name).type != schema.field(name).type:
                    raise ValueError(
                        f"X must have columns of one type, {name!r} of {file.path} is "
                        f"{file.schema.field(name).type}, not {schema.field(name).type}"
                    )
                if file.has_null(name):
                    raise ValueError(f"X must hold no null, column {name!r} of {file.path} does")
        sizes = [size for file in self._files for size in file.sizes]
        self.blocks = np.array(sizes, np.intp)
        self._places = [(file, q) for file in self._files for q in range(len(file.sizes))]
        self._ends = np.cumsum(self.blocks)
        self._held: tuple[int, Array | None] = (-1, None)
        first = self._rows_of_block(0) if sizes and sizes[0] else np.empty((0, 0))
        self.dtype, self.shape = first.dtype, (sum(sizes), first.shape[1])

    def labels(self) -> Array:
        """Return the column of labels."""
        columns = []
        for file, q in self._places:
            column = file.read(q, [self._label]).column(0)
            columns.append(column.to_numpy())
        return np.concatenate(columns)

    def __reduce__(self) -> Any:
        """Open the files again, in another process."""
        return type(self), self._arguments

    def read(self, pieces: Iterable[tuple[int, Array]]) -> None:
        """Read rows, from the first one of each piece on, converted to its array's dtype."""
        for first, out in pieces:
            self._read(first, out)

    def _read(self, first: int, out: Array) -> None:
        done = 0
        while done < len(out):
            number = int(np.searchsorted(self._ends, first + done, "right"))
            rows = self._rows_of_block(number)
            skipped = first + done - int(self._ends[number] - self.blocks[number])
            some = rows[skipped : skipped + len(out) - done]
            with np.errstate(over="ignore"):
                out[done : done + len(some)] = some
            done += len(some)

    def sample(self) -> bytes:
        """Return some rows, that tell the files from others."""
        ends = self._rows_of_block(0), self._rows_of_block(len(self.blocks) - 1)
        return self.blocks.tobytes() + b"".join(rows.tobytes() for rows in ends)

    def _rows_of_block(self, number: int) -> Array:
        """Return a block as rows; the last one is held, for its other rows."""
        if self._held[0] == number and self._held[1] is not None:
            return self._held[1]
        file, q = self._places[number]
        table = file.read(q, self._features)
        if any(column.null_count for column in table.columns):  # where no statistics said so
            raise ValueError(f"X must hold no null, {file.path} does")
        rows = _as_rows(table, file.path)
        if number and rows.shape[1] != self.shape[1]:
            raise ValueError(
                f"X must have lists of {self.shape[1]} elements, {file.path} has {rows.shape[1]}"
            )
        self._held = number, rows
        return rows


class _File:
    """A Parquet or an Arrow file."""

    def __init__(self, path: str) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise ImportError(
                "Parquet and Arrow files need pyarrow, which 'pip install fastbp[arrow]' installs"
            ) from error
        self.path, self._is_parquet = path, path.endswith(".parquet")
        try:
            if self._is_parquet:
                self._file = pyarrow.parquet.ParquetFile(path)
                self.schema = self._file.schema_arrow
                metadata = self._file.metadata
                groups = range(metadata.num_row_groups)
                self.sizes = [metadata.row_group(q).num_rows for q in groups]
            else:
                self._file = pyarrow.ipc.open_file(pyarrow.memory_map(path))
                self.schema = self._file.schema
                groups = range(self._file.num_record_batches)
                self.sizes = [self._file.get_batch(q).num_rows for q in groups]
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"X must be a Parquet or Arrow file: {path}: {error}") from None

    def has_null(self, name: str) -> bool:
        """Tell from the metadata whether a column holds a null."""
        blocks = range(len(self.sizes))
        if not self._is_parquet:
            return any(self._file.get_batch(q).column(name).null_count for q in blocks)
        for q in blocks:
            group = self._file.metadata.row_group(q)
            for chunk in map(group.column, range(group.num_columns)):
                statistics = chunk.statistics
                is_it = chunk.path_in_schema.split(".")[0] == name
                if is_it and statistics is not None and statistics.null_count:
                    return True
        return False

    def read(self, q: int, columns: list[Any]) -> Any:
        """Return columns of a block, as a table."""
        import pyarrow

        if self._is_parquet:
            return self._file.read_row_group(q, columns=columns)
        return pyarrow.Table.from_batches([self._file.get_batch(q).select(columns)])


def _as_rows(table: Any, path: str) -> Array:
    """Return a table as rows: of plain columns, or of one column of lists or of bytes."""
    from pyarrow import compute, types

    kinds = [field.type for field in table.schema]
    if kinds and all(types.is_integer(kind) or types.is_floating(kind) for kind in kinds):
        batch = table.combine_chunks().to_batches()[0]
        rows: Array = batch.to_tensor(row_major=True).to_numpy()
        return rows
    if len(kinds) != 1:
        raise TypeError(
            f"features must be columns of numbers or one column of lists or bytes, {path} has "
            f"{', '.join(f'{field.name}: {field.type}' for field in table.schema)}"
        )
    kind, column = kinds[0], table.column(0)
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if types.is_fixed_size_binary(kind):
        width = kind.byte_width
        content = np.frombuffer(array.buffers()[1], np.uint8)
        first = array.offset * width
        return content[first : first + len(array) * width].reshape(len(array), width)
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        raise TypeError(f"features must be numbers, lists or bytes, {path} has {kind}")
    lengths = compute.unique(compute.list_value_length(array))
    if len(lengths) != 1:
        raise ValueError(
            f"X must have lists of one length, {path} has {sorted(lengths.to_pylist())}"
        )
    values = array.flatten()
    if values.null_count or not (types.is_integer(values.type) or types.is_floating(values.type)):
        raise ValueError(f"X must have lists of numbers without nulls, {path} has {kind}")
    rows = values.to_numpy(zero_copy_only=False)
    return rows.reshape(len(array), -1)
