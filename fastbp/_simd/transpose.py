"""Transposition of short rows: each lane of a vector then holds a row of its own."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from fastbp._simd.intrinsics import intrinsic
from fastbp._simd.memory import (
    first_lanes,
    masked_load,
    masked_store,
    read_lanes,
    write_lanes,
)
from fastbp._simd.vector import (
    INT32,
    INT64,
    constant,
    ir_type,
    lane_count,
    register_of,
    splat,
)


def _transposed(builder: Any, vectors: list[Any]) -> list[Any]:
    """Transpose a square of vectors in log2(n) rounds of two-source shuffles."""
    count = len(vectors)
    index = ir.VectorType(INT32, count)
    half = count // 2
    while half:
        upper = [c if not c & half else count + c - half for c in range(count)]
        lower = [c + half if not c & half else count + c for c in range(count)]
        for i in range(count):
            if not i & half:
                a, b = vectors[i], vectors[i + half]
                vectors[i] = builder.shuffle_vector(a, b, ir.Constant(index, upper))
                vectors[i + half] = builder.shuffle_vector(a, b, ir.Constant(index, lower))
        half //= 2
    return vectors


def _row_pointers(
    builder: Any, rows: Any, row_stride: Any, n_rows: Any, column: Any, n: int
) -> Any:
    """Addresses of a column in ``n`` rows; the last of ``n_rows`` stands for those beyond it."""
    first = builder.gep(rows, [column])
    last = builder.sub(n_rows, constant(INT64, 1))
    for r in range(n):
        number = constant(INT64, r)
        number = builder.select(builder.icmp_signed("<", number, last), number, last)
        yield builder.gep(first, [builder.mul(number, row_stride)])


def _emit_load_transposed(
    _typing: Any, rows: Any, row_stride: Any, n_rows: Any, column: Any, tile: Any
) -> Any:
    vector_type = register_of(rows)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows, row_stride, n_rows, column, tile = args
        mask = first_lanes(builder, builder.sub(row_stride, column), vector_type.count)
        zeros = constant(ir_type(vector_type), 0.0)
        pointers = _row_pointers(builder, rows, row_stride, n_rows, column, vector_type.count)
        square = [masked_load(builder, pointer, mask, zeros) for pointer in pointers]
        start = builder.mul(column, constant(INT64, vector_type.count))
        for c, vector in enumerate(_transposed(builder, square)):
            position = builder.add(start, constant(INT64, c * vector_type.count))
            write_lanes(builder, tile, position, vector)
        return context.get_dummy_value()

    n = types.intp
    return types.void(rows, n, n, n, tile), codegen


@intrinsic(_emit_load_transposed)
def load_transposed(rows: Any, row_stride: Any, n_rows: Any, column: Any, tile: Any) -> None:
    """Put a square of ``n_rows`` rows from ``column`` on into the tile's vectors from there on.

    Each lane holds a row of ``row_stride`` elements.  Lanes past the last row repeat it; vectors
    past the last column are zero.
    """
    count = lane_count(rows.dtype)
    valid = rows[: n_rows * row_stride].reshape(n_rows, row_stride)[:, column : column + count]
    square = np.zeros((count, count), rows.dtype)
    square[:n_rows, : valid.shape[1]] = valid
    square[n_rows:] = square[n_rows - 1]
    tile[column * count : (column + count) * count] = square.T.ravel()


def _emit_store_transposed(
    _typing: Any, tile: Any, rows: Any, row_stride: Any, n_rows: Any, column: Any
) -> Any:
    vector_type = register_of(rows)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        tile, rows, row_stride, n_rows, column = args
        start = builder.mul(column, constant(INT64, vector_type.count))
        square = []
        for c in range(vector_type.count):
            position = builder.add(start, constant(INT64, c * vector_type.count))
            square.append(read_lanes(builder, tile, position, vector_type))
        # a mask a row would cost as much as the transposition: the last row is written repeatedly
        mask = first_lanes(builder, builder.sub(row_stride, column), vector_type.count)
        pointers = _row_pointers(builder, rows, row_stride, n_rows, column, vector_type.count)
        for row, pointer in zip(_transposed(builder, square), pointers, strict=True):
            masked_store(builder, row, pointer, mask)
        return context.get_dummy_value()

    n = types.intp
    return types.void(tile, rows, n, n, n), codegen


@intrinsic(_emit_store_transposed)
def store_transposed(tile: Any, rows: Any, row_stride: Any, n_rows: Any, column: Any) -> None:
    """Write the tile's vectors from ``column`` on back to rows of ``row_stride`` elements.

    Vector past the last row must hold what that row's lane does.
    """
    count = lane_count(rows.dtype)
    valid = rows[: n_rows * row_stride].reshape(n_rows, row_stride)[:, column : column + count]
    square = tile[column * count : (column + count) * count].reshape(count, count).T
    valid[...] = square[:n_rows, : valid.shape[1]]
    repeated = square[n_rows:, : valid.shape[1]]
    assert np.array_equal(repeated, np.broadcast_to(valid[-1], repeated.shape), equal_nan=True)


def _emit_transpose(
    _typing: Any,
    source: Any,
    step: Any,
    rows: Any,
    columns: Any,
    transposed: Any,
    transposed_step: Any,
) -> Any:
    vector_type = register_of(source)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, step, rows, columns, transposed, transposed_step = args
        zeros = constant(ir_type(vector_type), 0.0)
        vectors = []
        for r in range(vector_type.count):
            exists = builder.icmp_signed("<", constant(INT64, r), rows)
            valid = builder.select(exists, columns, constant(INT64, 0))
            pointer = builder.gep(source, [builder.mul(step, constant(INT64, r))])
            vectors.append(
                masked_load(builder, pointer, first_lanes(builder, valid, vector_type.count), zeros)
            )
        every = constant(ir.VectorType(ir.IntType(1), vector_type.count), 1)
        for c, column in enumerate(_transposed(builder, vectors)):
            exists = builder.icmp_signed("<", constant(INT64, c), columns)
            pointer = builder.gep(transposed, [builder.mul(transposed_step, constant(INT64, c))])
            masked_store(
                builder,
                column,
                pointer,
                builder.and_(every, splat(builder, exists, vector_type.count)),
            )
        return context.get_dummy_value()

    n = types.intp
    return types.void(source, n, n, n, transposed, n), codegen


@intrinsic(_emit_transpose)
def transpose(
    source: Any, step: Any, rows: Any, columns: Any, transposed: Any, transposed_step: Any
) -> None:
    """transposed[c, r] = source[r, c] for one square, of at most as many rows and columns as lanes.

    Rows are ``step`` and ``transposed_step`` apart.  Whole vectors are written: lanes past the last
    row hold zeros.
    """
    count = lane_count(source.dtype)
    for c in range(min(columns, count)):
        column = np.zeros(count, source.dtype)
        for r in range(min(rows, count)):
            column[r] = source[r * step + c]
        transposed[c * transposed_step : c * transposed_step + count] = column
