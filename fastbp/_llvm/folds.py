"""From all lanes to one number, in an order that is written out."""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from fastbp._llvm.arithmetic import larger
from fastbp._llvm.bind import primitive
from fastbp._llvm.lanes import INT32, INT64, Lanes, constant, ir_type


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


def _add_pairs(builder: Any, x: Any, y: Any) -> Any:
    """Two unevaluated sums (head, lost) added; heads by Knuth's TwoSum."""
    (a, a_lost), (b, b_lost) = x, y
    head = builder.fadd(a, b)
    from_b = builder.fsub(head, a)
    from_a = builder.fsub(head, from_b)
    lost = builder.fadd(builder.fsub(a, from_a), builder.fsub(b, from_b))
    return head, builder.fadd(builder.fadd(a_lost, b_lost), lost)


def _emit_sum_lanes(_typing: Any, total: Any, lost: Any) -> Any:
    result = types.UniTuple(Lanes(types.float64, 1), 2)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if total.dtype == types.float32:
            # float64 holds sums of float32 with digits to spare
            wide = ir_type(Lanes(types.float64, total.count))
            heads = builder.fadd(builder.fpext(args[0], wide), builder.fpext(args[1], wide))
            parts = _fold(builder, (heads,), lambda u, v: (builder.fadd(u[0], v[0]),))
            pair = [parts[0], constant(ir.DoubleType(), 0.0)]
        else:
            pair = list(_fold(builder, tuple(args), lambda u, v: _add_pairs(builder, u, v)))
        return context.make_tuple(builder, result, pair)

    return result(total, lost), codegen


@primitive(_emit_sum_lanes)
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


def _emit_max_lanes(_typing: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def larger_of(u: Any, v: Any) -> Any:
            return (builder.select(builder.fcmp_ordered(">", u[0], v[0]), u[0], v[0]),)

        return _fold(builder, (args[0],), larger_of)[0]

    return x.dtype(x), codegen


@primitive(_emit_max_lanes)
def max_lanes(x: Any) -> Any:
    """Largest lane, by halves (see ``larger`` for NaN)."""
    while x.size > 1:
        x = larger(x[: x.size // 2], x[x.size // 2 :])
    return x[0]


def _emit_any_lane(_typing: Any, mask: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(mask.count))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(mask), codegen


@primitive(_emit_any_lane)
def any_lane(mask: Any) -> Any:
    """Whether the mask is set anywhere."""
    return bool(np.any(mask))


def _emit_every_lane(_typing: Any, mask: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(mask.count))
        return builder.icmp_unsigned("==", bits, ir.Constant(bits.type, 2**mask.count - 1))

    return types.boolean(mask), codegen


@primitive(_emit_every_lane)
def every_lane(mask: Any) -> bool:
    """Whether the mask is set everywhere."""
    return bool(np.all(mask))


def _emit_first_lane(_typing: Any, mask: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(mask.count))
        index = builder.cttz(bits, ir.Constant(ir.IntType(1), 0))
        return builder.zext(index, INT64)

    return types.intp(mask), codegen


@primitive(_emit_first_lane)
def first_lane(mask: Any) -> int:
    """Number of the first lane that is set; of all lanes if none is."""
    return int(np.argmax(mask)) if np.any(mask) else mask.size
