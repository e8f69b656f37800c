"""From scalars to lanes and back, and from one dtype to the other."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from fastbp._simd.intrinsics import intrinsic
from fastbp._simd.vector import Vector, as_vector, constant, ir_type, lane_count, register_of


def _emit_lane(_typing: Any, x: Any) -> Any:
    return Vector(x, 1)(x), lambda context, builder, sig, args: args[0]


@intrinsic(_emit_lane)
def lane(x: Any) -> Any:
    """One scalar as lanes, so that the same code serves scalars (and loops over them vectorise)."""
    return x


def _emit_scalar(_typing: Any, x: Any) -> Any:
    return x.dtype(x), lambda context, builder, sig, args: args[0]


@intrinsic(_emit_scalar)
def scalar(x: Any) -> Any:
    """The scalar in a single lane."""
    return x


def _emit_broadcast(_typing: Any, array: Any, x: Any) -> Any:
    vector = register_of(array)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return as_vector(context, builder, vector, args[1], sig.args[1])

    return vector(array, x), codegen


@intrinsic(_emit_broadcast)
def broadcast(array: Any, x: Any) -> Any:
    """A vector of the array's dtype with ``x`` in all lanes."""
    return np.full(lane_count(array.dtype), x, array.dtype)


def _emit_to_float64(_typing: Any, x: Any) -> Any:
    wide = Vector(types.float64, x.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[0] if x.dtype == types.float64 else builder.fpext(args[0], ir_type(wide))

    return wide(x), codegen


@intrinsic(_emit_to_float64)
def to_float64(x: Any) -> Any:
    """The same lanes in float64."""
    return x.astype(np.float64)


def _emit_convert(_typing: Any, x: Any, like: Any) -> Any:
    converted = Vector(like.dtype, x.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if like.dtype == x.dtype:
            return args[0]
        cast = builder.fpext if like.dtype == types.float64 else builder.fptrunc
        return cast(args[0], ir_type(converted))

    return converted(x, like), codegen


@intrinsic(_emit_convert)
def convert(x: Any, like: Any) -> Any:
    """The same lanes, rounded where need be to the dtype of the row, array or lanes ``like``."""
    return x.astype(like.dtype)


def _emit_constant_for(_typing: Any, like: Any, single: Any, double: Any) -> Any:
    chosen = 1 if like.dtype == types.float32 else 2

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.cast(builder, args[chosen], sig.args[chosen], like.dtype)

    return like.dtype(like, single, double), codegen


@intrinsic(_emit_constant_for)
def constant_for(like: Any, single: Any, double: Any) -> Any:
    """The constant for the dtype of ``like``: ``single`` for float32, ``double`` for float64."""
    return np.float32(single) if like.dtype == np.float32 else np.float64(double)


def _emit_is_double(_typing: Any, like: Any) -> Any:
    answer = like.dtype == types.float64
    return types.boolean(like), lambda context, builder, sig, args: constant(
        ir.IntType(1), int(answer)
    )


@intrinsic(_emit_is_double)
def is_double(like: Any) -> bool:
    """Whether the dtype is float64, known when compiling: the other branch leaves no trace."""
    return bool(like.dtype == np.float64)
