"""Rows in memory: their addresses, their elements, and vectors from and to them."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from fastbp._simd.intrinsics import intrinsic
from fastbp._simd.vector import (
    INT32,
    INT64,
    VECTOR_BYTES,
    Row,
    Vector,
    as_vector,
    call_intrinsic,
    constant,
    ir_type,
    lane_count,
    register_of,
    splat,
)


def element(context: Any, builder: Any, array_type: Any, array: Any, *index: Any) -> Any:
    """Address of an array's element; indices are not checked and do not wrap around."""
    made = context.make_array(array_type)(context, builder, array)
    strides = cgutils.unpack_tuple(builder, made.strides, array_type.ndim)
    offset = constant(INT64, 0)
    for position, stride in zip(index, strides, strict=True):
        offset = builder.add(offset, builder.mul(position, stride))
    return cgutils.pointer_add(builder, made.data, offset)


def _emit_row(_typing: Any, array: Any, i: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return element(context, builder, array, args[0], args[1], constant(INT64, 0))

    return Row(array.dtype)(array, types.intp), codegen


@intrinsic(_emit_row)
def row(array: Any, i: Any) -> Any:
    """Row ``i`` of a two-dimensional array."""
    return array[i]


def _emit_flat(_typing: Any, array: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.make_array(array)(context, builder, args[0]).data

    return Row(array.dtype)(array), codegen


@intrinsic(_emit_flat)
def flat(array: Any) -> Any:
    """All elements of a contiguous array as one row."""
    return array.reshape(-1)


def _emit_stack_row(_typing: Any, like: Any, vectors: Any) -> Any:
    if not isinstance(vectors, types.IntegerLiteral):
        return None
    size = vectors.literal_value * register_of(like).count

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        scratch = cgutils.alloca_once(builder, context.get_data_type(like.dtype), size=size)
        scratch.align = VECTOR_BYTES  # no vector of it lies across two cache lines
        return scratch

    return Row(like.dtype)(like, vectors), codegen


@intrinsic(_emit_stack_row, prefer_literal=True)
def stack_row(like: Any, vectors: Any) -> Any:
    """A scratch row of ``vectors`` (a literal) on the stack; it must not leave the function."""
    return np.zeros(vectors * lane_count(like.dtype), like.dtype)


def prefetch_line(builder: Any, pointer: Any, written: int, level: int) -> None:
    line = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    hints = [constant(INT32, n) for n in (written, 4 - level, 1)]
    call_intrinsic(builder, "llvm.prefetch", ir.VoidType(), [line, *hints], "p0")


def _emit_prefetch(_typing: Any, row: Any, k: Any, written: Any, level: Any) -> Any:
    if not (isinstance(written, types.IntegerLiteral) and isinstance(level, types.IntegerLiteral)):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.gep(args[0], [args[1]])
        prefetch_line(builder, pointer, written.literal_value, level.literal_value)
        return context.get_dummy_value()

    return types.void(row, types.intp, written, level), codegen


@intrinsic(_emit_prefetch, prefer_literal=True)
def prefetch(row: Any, k: Any, written: Any, level: Any) -> None:
    """Ask for the cache line of ``row[k]``, which need not exist.

    ``written``: 1 to write it; ``level``: 1 or 2, the cache that it is wanted in.
    """


def _emit_at(_typing: Any, row: Any, k: Any) -> Any:
    return row.dtype(row, types.intp), lambda context, builder, sig, args: builder.load(
        builder.gep(args[0], [args[1]])
    )


@intrinsic(_emit_at)
def at(row: Any, k: Any) -> Any:
    """The scalar ``row[k]``."""
    return row[k]


def _emit_put(_typing: Any, row: Any, k: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = context.cast(builder, args[2], sig.args[2], row.dtype)
        builder.store(value, builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(row, types.intp, x), codegen


@intrinsic(_emit_put)
def put(row: Any, k: Any, x: Any) -> None:
    """``row[k] = x``, converted to the row's dtype."""
    row[k] = x


def _emit_width(_typing: Any, array: Any) -> Any:
    count = register_of(array).count
    return types.intp(array), lambda context, builder, sig, args: constant(INT64, count)


@intrinsic(_emit_width)
def width(array: Any) -> int:
    """Elements of the array's dtype in one vector."""
    return lane_count(array.dtype)


def _vector_pointer(builder: Any, pointer: Any, vector: Any) -> Any:
    return builder.bitcast(pointer, vector.as_pointer())


def read_vector(builder: Any, row: Any, start: Any, vector: Any) -> Any:
    loaded = builder.load(_vector_pointer(builder, builder.gep(row, [start]), vector))
    loaded.align = 1
    return loaded


def read_lanes(builder: Any, row: Any, start: Any, vector: Vector) -> Any:
    return read_vector(builder, row, start, ir_type(vector))


def write_lanes(builder: Any, row: Any, start: Any, value: Any) -> None:
    write_vector(builder, value, builder.gep(row, [start]))


def write_vector(builder: Any, value: Any, pointer: Any) -> None:
    stored = builder.store(value, _vector_pointer(builder, pointer, value.type))
    stored.align = 1


def first_lanes(builder: Any, count: Any, n_lanes: int) -> Any:
    """Mask of the first ``count`` lanes; none for a count below one."""
    # 32-bit indices: one comparison serves all lanes of a vector
    none, every = constant(INT64, 0), constant(INT64, n_lanes)
    count = builder.select(builder.icmp_signed("<", count, every), count, every)
    count = builder.select(builder.icmp_signed("<", none, count), count, none)
    index = ir.Constant(ir.VectorType(INT32, n_lanes), list(range(n_lanes)))
    return builder.icmp_signed("<", index, splat(builder, builder.trunc(count, INT32), n_lanes))


def _masked_suffix(vector: Any) -> str:
    return f"v{vector.count}f{32 if vector.element == ir.FloatType() else 64}.p0"


def masked_load(builder: Any, pointer: Any, mask: Any, fill: Any) -> Any:
    vector = fill.type
    arguments = [_vector_pointer(builder, pointer, vector), constant(INT32, 1), mask, fill]
    return call_intrinsic(builder, "llvm.masked.load", vector, arguments, _masked_suffix(vector))


def masked_store(builder: Any, value: Any, pointer: Any, mask: Any) -> None:
    vector = value.type
    arguments = [value, _vector_pointer(builder, pointer, vector), constant(INT32, 1), mask]
    call_intrinsic(builder, "llvm.masked.store", ir.VoidType(), arguments, _masked_suffix(vector))


def _emit_load(_typing: Any, row: Any, start: Any) -> Any:
    vector = register_of(row)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return read_lanes(builder, args[0], args[1], vector)

    return vector(row, types.intp), codegen


@intrinsic(_emit_load)
def load(row: Any, start: Any) -> Any:
    """A vector of the first elements of ``row[start:]``."""
    count = lane_count(row.dtype)
    assert 0 <= start <= row.size - count
    return row[start : start + count].copy()


def _emit_load_like(_typing: Any, row: Any, start: Any, like: Any) -> Any:
    vector = Vector(row.dtype, like.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return read_lanes(builder, args[0], args[1], vector)

    return vector(row, types.intp, like), codegen


@intrinsic(_emit_load_like)
def load_like(row: Any, start: Any, like: Any) -> Any:
    """As many lanes as ``like`` has from ``row[start:]``."""
    assert 0 <= start <= row.size - like.size
    return row[start : start + like.size].copy()


def _emit_load_masked(_typing: Any, row: Any, start: Any, count: Any, fill: Any) -> Any:
    vector = register_of(row)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.gep(args[0], [args[1]])
        mask = first_lanes(builder, args[2], vector.count)
        filled = as_vector(context, builder, vector, args[3], sig.args[3])
        return masked_load(builder, pointer, mask, filled)

    return vector(row, types.intp, types.intp, fill), codegen


@intrinsic(_emit_load_masked)
def load_masked(row: Any, start: Any, count: Any, fill: Any) -> Any:
    """``row[start:start + count]`` as a vector; ``fill`` in the lanes behind it."""
    vector = np.full(lane_count(row.dtype), fill, row.dtype)
    valid = row[start : start + min(count, vector.size)]
    assert valid.size == min(count, vector.size)
    vector[: valid.size] = valid
    return vector


def _emit_load_bytes(_typing: Any, row: Any, start: Any, like: Any) -> Any:
    converted = register_of(like)
    loaded = Vector(row.dtype, converted.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.uitofp(read_lanes(builder, args[0], args[1], loaded), ir_type(converted))

    return converted(row, types.intp, like), codegen


@intrinsic(_emit_load_bytes)
def load_bytes(row: Any, start: Any, like: Any) -> Any:
    """A vector of the dtype of the row ``like``: the first of the bytes ``row[start:]``."""
    count = lane_count(like.dtype)
    assert 0 <= start <= row.size - count
    return row[start : start + count].astype(like.dtype)


def _emit_store(_typing: Any, row: Any, start: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        write_lanes(builder, args[0], args[1], args[2])
        return context.get_dummy_value()

    return types.void(row, types.intp, x), codegen


@intrinsic(_emit_store)
def store(row: Any, start: Any, x: Any) -> None:
    """Write the lanes to ``row[start:]``."""
    assert 0 <= start <= row.size - x.size
    row[start : start + x.size] = x


def _emit_store_masked(_typing: Any, row: Any, start: Any, x: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.gep(args[0], [args[1]])
        masked_store(builder, args[2], pointer, first_lanes(builder, args[3], x.count))
        return context.get_dummy_value()

    return types.void(row, types.intp, x, types.intp), codegen


@intrinsic(_emit_store_masked)
def store_masked(row: Any, start: Any, x: Any, count: Any) -> None:
    """Write the first ``count`` lanes (all, where there are fewer) to ``row[start:]``."""
    count = min(count, x.size)
    assert count == 0 or 0 <= start <= row.size - count
    row[start : start + count] = x[:count]


def _emit_offset(_typing: Any, row: Any, k: Any) -> Any:
    return row(row, types.intp), lambda context, builder, sig, args: builder.gep(args[0], [args[1]])


@intrinsic(_emit_offset)
def offset(row: Any, k: Any) -> Any:
    """The rest of a row, from number ``k`` on."""
    return row[k:]


def _emit_lanes_before(_typing: Any, like: Any, count: Any) -> Any:
    mask = Vector(types.boolean, like.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return first_lanes(builder, args[1], like.count)

    return mask(like, types.intp), codegen


@intrinsic(_emit_lanes_before)
def lanes_before(like: Any, count: Any) -> Any:
    """A mask for the lanes of ``like``: the first ``count`` are set; none for a count below one."""
    return np.arange(like.size) < count
