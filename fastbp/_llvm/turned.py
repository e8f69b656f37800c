"""Short rows, turned: a block of them is transposed so that each lane holds a row of its own."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from fastbp._llvm.bind import primitive
from fastbp._llvm.lanes import (
    INT32,
    INT64,
    constant,
    ir_type,
    lane_count,
    register_of,
    splat,
)
from fastbp._llvm.memory import (
    element,
    first_lanes,
    masked_load,
    masked_store,
    read_lanes,
    write_lanes,
)


def _turn(builder: Any, registers: list[Any]) -> list[Any]:
    """Transpose a square of registers in log2(n) rounds of two-source shuffles."""
    count = len(registers)
    index = ir.VectorType(INT32, count)
    half = count // 2
    while half:
        upper = [c if not c & half else count + c - half for c in range(count)]
        lower = [c + half if not c & half else count + c for c in range(count)]
        for i in range(count):
            if not i & half:
                a, b = registers[i], registers[i + half]
                registers[i] = builder.shuffle_vector(a, b, ir.Constant(index, upper))
                registers[i + half] = builder.shuffle_vector(a, b, ir.Constant(index, lower))
        half //= 2
    return registers


def _row_pointers(
    context: Any, builder: Any, array: Any, value: Any, i: Any, j: Any, n: int
) -> Any:
    """Address of column ``j`` in the ``n`` rows from ``i``, with whether each row exists.

    A row past the end stands for the last one, so that every address is a valid one.
    """
    made = context.make_array(array)(context, builder, value)
    last = builder.sub(cgutils.unpack_tuple(builder, made.shape, 2)[0], constant(INT64, 1))
    for r in range(n):
        row = builder.add(i, constant(INT64, r))
        exists = builder.icmp_signed("<=", row, last)
        row = builder.select(exists, row, last)
        yield element(context, builder, array, value, row, j), exists


def _columns_from(context: Any, builder: Any, array: Any, value: Any, j: Any) -> Any:
    made = context.make_array(array)(context, builder, value)
    return builder.sub(cgutils.unpack_tuple(builder, made.shape, 2)[1], j)


def _emit_load_turned(_typing: Any, array: Any, i: Any, j: Any, tile: Any) -> Any:
    lanes = register_of(array)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, i, j, tile_value = args
        mask = first_lanes(builder, _columns_from(context, builder, array, value, j), lanes.count)
        zeros = constant(ir_type(lanes), 0.0)
        rows = [
            masked_load(builder, pointer, mask, zeros)
            for pointer, _ in _row_pointers(context, builder, array, value, i, j, lanes.count)
        ]
        start = builder.mul(j, constant(INT64, lanes.count))
        for c, column in enumerate(_turn(builder, rows)):
            position = builder.add(start, constant(INT64, c * lanes.count))
            write_lanes(builder, tile_value, position, column)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, tile), codegen


@primitive(_emit_load_turned)
def load_turned(array: Any, i: Any, j: Any, tile: Any) -> None:
    """Put the square of ``array`` at row i, column j into the tile's registers j, j + 1, ...

    Each lane holds a row.  Lanes past the last row repeat it; registers past the last column are
    zero.
    """
    count = lane_count(array.dtype)
    square = np.zeros((count, count), array.dtype)
    block = array[i : i + count, j : j + count]
    square[: block.shape[0], : block.shape[1]] = block
    square[block.shape[0] :] = square[block.shape[0] - 1]
    tile[j * count : (j + count) * count] = square.T.ravel()


def _emit_store_turned(_typing: Any, tile: Any, array: Any, i: Any, j: Any) -> Any:
    lanes = register_of(array)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        tile_value, value, i, j = args
        start = builder.mul(j, constant(INT64, lanes.count))
        columns = []
        for c in range(lanes.count):
            position = builder.add(start, constant(INT64, c * lanes.count))
            columns.append(read_lanes(builder, tile_value, position, lanes))
        width = _columns_from(context, builder, array, value, j)
        pointers = _row_pointers(context, builder, array, value, i, j, lanes.count)
        for row, (pointer, exists) in zip(_turn(builder, columns), pointers, strict=True):
            count = builder.select(exists, width, constant(INT64, 0))
            masked_store(builder, row, pointer, first_lanes(builder, count, lanes.count))
        return context.get_dummy_value()

    return types.void(tile, array, types.intp, types.intp), codegen


@primitive(_emit_store_turned)
def store_turned(tile: Any, array: Any, i: Any, j: Any) -> None:
    """Write the tile's registers j, j + 1, ... back to ``array`` at row i, column j."""
    count = lane_count(array.dtype)
    block = array[i : i + count, j : j + count]
    square = tile[j * count : (j + count) * count].reshape(count, count).T
    block[...] = square[: block.shape[0], : block.shape[1]]


def _emit_turn(
    _typing: Any, source: Any, step: Any, rows: Any, columns: Any, turned: Any, turned_step: Any
) -> Any:
    lanes = register_of(source)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, step, rows, columns, turned, turned_step = args
        zeros = constant(ir_type(lanes), 0.0)
        registers = []
        for r in range(lanes.count):
            exists = builder.icmp_signed("<", constant(INT64, r), rows)
            held = builder.select(exists, columns, constant(INT64, 0))
            pointer = builder.gep(source, [builder.mul(step, constant(INT64, r))])
            registers.append(
                masked_load(builder, pointer, first_lanes(builder, held, lanes.count), zeros)
            )
        every = constant(ir.VectorType(ir.IntType(1), lanes.count), 1)
        for c, column in enumerate(_turn(builder, registers)):
            exists = builder.icmp_signed("<", constant(INT64, c), columns)
            pointer = builder.gep(turned, [builder.mul(turned_step, constant(INT64, c))])
            masked_store(
                builder, column, pointer, builder.and_(every, splat(builder, exists, lanes.count))
            )
        return context.get_dummy_value()

    n = types.intp
    return types.void(source, n, n, n, turned, n), codegen


@primitive(_emit_turn)
def turn(source: Any, step: Any, rows: Any, columns: Any, turned: Any, turned_step: Any) -> None:
    """turned[c, r] = source[r, c] for one square, of at most as many rows and columns as lanes.

    Rows are ``step`` and ``turned_step`` apart.  Whole registers are written: lanes past the last
    row hold zeros.
    """
    count = lane_count(source.dtype)
    for c in range(min(columns, count)):
        column = np.zeros(count, source.dtype)
        for r in range(min(rows, count)):
            column[r] = source[r * step + c]
        turned[c * turned_step : c * turned_step + count] = column
