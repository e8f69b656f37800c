"""From all lanes to one number, in an order that is written out."""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from fastbp._simd.arithmetic import fmax
from fastbp._simd.intrinsics import intrinsic
from fastbp._simd.memory import read_lanes
from fastbp._simd.vector import INT32, INT64, Vector, constant, ir_type, lane_count, register_of


def _fold(builder: Any, parts: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Halve the lanes until one is left: the order is fixed, whatever the machine."""
    count = parts[0].type.count

    def lanes_of(x: Any, start: int, stop: int) -> Any:
        index = ir.Constant(ir.VectorType(INT32, stop - start), list(range(start, stop)))
        return builder.shuffle_vector(x, x, index)

    while count > 1:
        half = count // 2
        lower = tuple(lanes_of(x, 0, half) for x in parts)
        upper = tuple(lanes_of(x, half, count) for x in parts)
        parts, count = combine(lower, upper), half
    return [builder.extract_element(x, ir.Constant(INT32, 0)) for x in parts]


def _fold_vectors(builder: Any, vectors: list[Any], combine: Callable[[Any, Any], Any]) -> Any:
    """Fold as many vectors as each has lanes, in the order of `_fold`; one vector's result a lane.

    Two vectors share one from the first round on: half as many operations as one by one.
    """
    count = len(vectors)
    index = ir.VectorType(INT32, count)
    half = count // 2
    while half:
        lower = [c if not c & half else count + c - half for c in range(count)]
        upper = [c + half if not c & half else count + c for c in range(count)]

        def mixed(a: Any, b: Any, chosen: list[int]) -> Any:
            return tuple(
                builder.shuffle_vector(x, y, ir.Constant(index, chosen))
                for x, y in zip(a, b, strict=True)
            )

        vectors = [
            combine(mixed(a, b, lower), mixed(a, b, upper))
            for a, b in zip(vectors[:half], vectors[half:], strict=True)
        ]
        half //= 2
    return vectors[0]


def _add_pairs(builder: Any, x: Any, y: Any) -> Any:
    """Two unevaluated sums (head, lost) added; heads by Knuth's TwoSum."""
    (a, a_lost), (b, b_lost) = x, y
    head = builder.fadd(a, b)
    from_b = builder.fsub(head, a)
    from_a = builder.fsub(head, from_b)
    lost = builder.fadd(builder.fsub(a, from_a), builder.fsub(b, from_b))
    return head, builder.fadd(builder.fadd(a_lost, b_lost), lost)


def _larger_of(builder: Any, x: Any, y: Any) -> Any:
    return (builder.select(builder.fcmp_ordered(">", x[0], y[0]), x[0], y[0]),)


def _emit_sum_lanes(_typing: Any, total: Any, lost: Any) -> Any:
    result = types.UniTuple(Vector(types.float64, 1), 2)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if total.dtype == types.float32:
            # float64 holds sums of float32 with digits to spare
            wide = ir_type(Vector(types.float64, total.count))
            heads = builder.fadd(builder.fpext(args[0], wide), builder.fpext(args[1], wide))
            parts = _fold(builder, (heads,), lambda u, v: (builder.fadd(u[0], v[0]),))
            pair = [parts[0], constant(ir.DoubleType(), 0.0)]
        else:
            pair = list(_fold(builder, tuple(args), lambda u, v: _add_pairs(builder, u, v)))
        return context.make_tuple(builder, result, pair)

    return result(total, lost), codegen


@intrinsic(_emit_sum_lanes)
def sum_lanes(total: Any, lost: Any) -> Any:
    """Sum of all lanes of an unevaluated sum ``total + lost``: two float64 of a single lane."""
    head, low = total.astype(np.float64), lost.astype(np.float64)
    while head.size > 1:
        half = head.size // 2
        a, b = head[:half], head[half:]
        s = a + b
        from_b = s - a
        low = (low[:half] + low[half:]) + ((a - (s - from_b)) + (b - from_b))
        head = s
    return head[0], low[0]


def _emit_add_sums(
    _typing: Any, like: Any, total: Any, lost: Any, part: Any, part_lost: Any
) -> Any:
    result = types.UniTuple(total, 2)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, total, lost, part, part_lost = args
        if like.dtype == types.float64:
            total, lost = _add_pairs(builder, (total, lost), (part, part_lost))
        else:
            total = builder.fadd(total, builder.fadd(part, part_lost))
        return context.make_tuple(builder, result, [total, lost])

    return result(like, total, lost, part, part_lost), codegen


@intrinsic(_emit_add_sums)
def add_sums(like: Any, total: Any, lost: Any, part: Any, part_lost: Any) -> Any:
    """Add two float64 sums (total, lost) of elements of the dtype of ``like``.

    Exactly for float64; for float32, float64 has digits to spare, and nothing is lost.
    """
    if like.dtype == np.float32:
        return total + (part + part_lost), lost
    grown = total + part
    from_part = grown - total
    error = (total - (grown - from_part)) + (part - from_part)
    return grown, (lost + part_lost) + error


def _emit_sum_of_vectors(_typing: Any, like: Any, scratch: Any) -> Any:
    wide = Vector(types.float64, register_of(like).count)
    result = types.UniTuple(wide, 2)
    exact = like.dtype == types.float64

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def vector(number: int) -> Any:
            start = constant(INT64, number * wide.count)
            return read_lanes(builder, args[1], start, wide)

        if not exact:
            sums = [(vector(2 * r),) for r in range(wide.count)]
            (total,) = _fold_vectors(builder, sums, lambda u, v: (builder.fadd(u[0], v[0]),))
            return context.make_tuple(builder, result, [total, constant(total.type, 0.0)])
        pairs = [(vector(2 * r), vector(2 * r + 1)) for r in range(wide.count)]
        head, low = _fold_vectors(builder, pairs, lambda u, v: _add_pairs(builder, u, v))
        total = builder.fadd(head, low)
        lost = builder.fsub(low, builder.fsub(total, head))
        return context.make_tuple(builder, result, [total, lost])

    return result(like, scratch), codegen


@intrinsic(_emit_sum_of_vectors)
def sum_of_vectors(like: Any, scratch: Any) -> Any:
    """The sum of the lanes of each float64 sum (total, lost) in the scratch row, one a lane.

    There are as many as a vector of the dtype of ``like`` has lanes; as in `add_sums`, float32 has
    lost nothing.  A result's total has what was lost put back.
    """
    count = lane_count(like.dtype)
    sums = scratch[: 2 * count * count].reshape(count, 2, count)
    if like.dtype == np.float32:
        total = sums[:, 0].T
        while len(total) > 1:
            total = total[: len(total) // 2] + total[len(total) // 2 :]
        return total[0], np.zeros(count)
    head, low = np.transpose([sum_lanes(total.copy(), lost.copy()) for total, lost in sums])
    whole = head + low
    return whole, low - (whole - head)


def _emit_max_lanes(_typing: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _fold(builder, (args[0],), lambda u, v: _larger_of(builder, u, v))[0]

    return x.dtype(x), codegen


@intrinsic(_emit_max_lanes)
def max_lanes(x: Any) -> Any:
    """Largest lane, by halves (see ``fmax`` for NaN)."""
    while x.size > 1:
        x = fmax(x[: x.size // 2], x[x.size // 2 :])
    return x[0]


def _emit_max_of_vectors(_typing: Any, scratch: Any) -> Any:
    vector = register_of(scratch)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vectors = [
            (read_lanes(builder, args[0], constant(INT64, r * vector.count), vector),)
            for r in range(vector.count)
        ]
        return _fold_vectors(builder, vectors, lambda u, v: _larger_of(builder, u, v))[0]

    return vector(scratch), codegen


@intrinsic(_emit_max_of_vectors)
def max_of_vectors(scratch: Any) -> Any:
    """The largest lane of each vector in the scratch row, one a lane.

    There are as many vectors as one has lanes; see `fmax` for NaN.
    """
    count = lane_count(scratch.dtype)
    x = scratch[: count * count].reshape(count, count).T
    while len(x) > 1:
        x = fmax(x[: len(x) // 2], x[len(x) // 2 :])
    return x[0]


def _emit_any_lane(_typing: Any, mask: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(mask.count))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(mask), codegen


@intrinsic(_emit_any_lane)
def any_lane(mask: Any) -> Any:
    """Whether the mask is set anywhere."""
    return bool(np.any(mask))


def _emit_every_lane(_typing: Any, mask: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(mask.count))
        return builder.icmp_unsigned("==", bits, ir.Constant(bits.type, 2**mask.count - 1))

    return types.boolean(mask), codegen


@intrinsic(_emit_every_lane)
def every_lane(mask: Any) -> bool:
    """Whether the mask is set everywhere."""
    return bool(np.all(mask))


def _emit_first_lane(_typing: Any, mask: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(mask.count))
        index = builder.cttz(bits, ir.Constant(ir.IntType(1), 0))
        return builder.zext(index, INT64)

    return types.intp(mask), codegen


@intrinsic(_emit_first_lane)
def first_lane(mask: Any) -> int:
    """Number of the first lane that is set; of all lanes if none is."""
    return int(np.argmax(mask)) if np.any(mask) else mask.size
