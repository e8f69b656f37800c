"""Arithmetic on vectors: Python's operators, further functions, and powers of two by their bits."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import cgutils, types

from fastbp._simd.intrinsics import elementwise, intrinsic, mask_type, register_operator, same_type
from fastbp._simd.vector import Vector, as_vector, call_intrinsic, constant, int_type

register_operator(operator.add, lambda b, x, y: b.fadd(x, y), same_type)
register_operator(operator.sub, lambda b, x, y: b.fsub(x, y), same_type)
register_operator(operator.mul, lambda b, x, y: b.fmul(x, y), same_type)
register_operator(operator.truediv, lambda b, x, y: b.fdiv(x, y), same_type)
register_operator(operator.lt, lambda b, x, y: b.fcmp_ordered("<", x, y), mask_type)
register_operator(operator.le, lambda b, x, y: b.fcmp_ordered("<=", x, y), mask_type)
register_operator(operator.eq, lambda b, x, y: b.fcmp_ordered("==", x, y), mask_type)


@intrinsic(
    elementwise(lambda b, x, y, z: call_intrinsic(b, "llvm.fma", x.type, [x, y, z]), same_type, 3)
)
def fma(x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once."""
    dtype = np.result_type(*(v for v in (x, y, z) if type(v) is not float))
    wide = np.float64 if dtype == np.float32 else np.longdouble
    exact = np.asarray(x).astype(wide) * np.asarray(y).astype(wide) + np.asarray(z).astype(wide)
    return exact.astype(dtype)[()]


@intrinsic(elementwise(lambda b, x: call_intrinsic(b, "llvm.fabs", x.type, [x]), same_type, 1))
def fabs(x: Any) -> Any:
    """|x|."""
    return np.abs(x)


@intrinsic(elementwise(lambda b, x: call_intrinsic(b, "llvm.sqrt", x.type, [x]), same_type, 1))
def sqrt(x: Any) -> Any:
    """The square root of x, correctly rounded."""
    return np.sqrt(x)


@intrinsic(elementwise(lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y), same_type, 2))
def fmax(x: Any, y: Any) -> Any:
    """``x`` where x > y, else ``y``: a NaN in ``x`` is passed over.

    Unlike a maximum that minds NaN, this is one instruction.
    """
    return np.where(x > y, x, y)[()]


@intrinsic(elementwise(lambda b, x, y: b.fcmp_unordered(">=", x, y), mask_type, 2))
def not_below(x: Any, y: Any) -> Any:
    """A mask: not x < y, which is set for NaN."""
    return ~(x < y)


def _emit_select(_typing: Any, mask: Any, x: Any, y: Any) -> Any:
    vector = x if isinstance(x, Vector) else y
    if not isinstance(vector, Vector):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        m, u, v = args
        u = as_vector(context, builder, vector, u, sig.args[1])
        v = as_vector(context, builder, vector, v, sig.args[2])
        return builder.select(m, u, v)

    return vector(mask, x, y), codegen


@intrinsic(_emit_select)
def select(mask: Any, x: Any, y: Any) -> Any:
    """``x`` where the mask is set, else ``y``."""
    dtype = np.result_type(*(v for v in (x, y) if type(v) is not float))
    return np.where(mask, x, y).astype(dtype)[()]


def _estrin(terms: list[Any], x: Any, multiply_add: Callable[..., Any], square: Any) -> Any:
    """Polynomial by Estrin's scheme: pairs first, so that steps wait for each other less often.

    An odd last term joins the one before it, and needs no power of its own.
    """
    powers = x
    while len(terms) > 1:
        if len(terms) % 2:
            terms = [*terms[:-2], multiply_add(terms[-1], powers, terms[-2])]
        pairs = [multiply_add(terms[i + 1], powers, terms[i]) for i in range(0, len(terms) - 1, 2)]
        terms = pairs
        powers = square(powers) if len(terms) > 1 else powers
    return terms[0]


def _emit_polynomial(_typing: Any, x: Any, single: Any, double: Any) -> Any:
    chosen, tuple_type = (1, single) if x.dtype == types.float32 else (2, double)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        terms = [
            as_vector(context, builder, x, c, tuple_type.dtype)
            for c in cgutils.unpack_tuple(builder, args[chosen], len(tuple_type))
        ]

        def multiply_add(u: Any, v: Any, w: Any) -> Any:
            return call_intrinsic(builder, "llvm.fma", u.type, [u, v, w])

        return _estrin(terms, args[0], multiply_add, lambda u: builder.fmul(u, u))

    return x(x, single, double), codegen


@intrinsic(_emit_polynomial)
def polynomial(x: Any, single: Any, double: Any) -> Any:
    """c0 + c1 x + c2 x**2 + ... with the coefficients for x's dtype, in fused multiply-adds."""
    terms = [x.dtype.type(c) for c in (single if x.dtype == np.float32 else double)]
    return _estrin(terms, x, fma, lambda u: u * u)


def _mantissa_bits(vector: Vector) -> int:
    return 23 if vector.dtype == types.float32 else 52


def _emit_power_of_two(_typing: Any, shifted: Any, step: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        ints = int_type(shifted)
        bits = _mantissa_bits(shifted)
        bias = {23: 127, 52: 1023}[bits]
        steps = as_vector(context, builder, shifted, args[1], sig.args[1])
        # saturating: a NaN, whose lanes come out as NaN anyway, must not be undefined behaviour
        kinds = [f"v{shifted.count}{t}" if shifted.count > 1 else t for t in _int_and_float(bits)]
        whole = call_intrinsic(builder, "llvm.fptosi.sat", ints, [steps], ".".join(kinds))
        biased = builder.add(whole, constant(ints, bias))
        # The second term is the same for a whole row: the loop is left with one shift, one add.
        exponent = builder.add(
            builder.shl(builder.bitcast(args[0], ints), constant(ints, bits)),
            builder.shl(biased, constant(ints, bits)),
        )
        return builder.bitcast(exponent, args[0].type)

    return shifted(shifted, step), codegen


def _int_and_float(mantissa_bits: int) -> tuple[str, str]:
    return ("i32", "f32") if mantissa_bits == 23 else ("i64", "f64")


def _python_bits(x: Any) -> tuple[Any, type, int]:
    kind, shift = (np.int32, 23) if x.dtype == np.float32 else (np.int64, 52)
    return np.asarray(x).view(kind), kind, shift


@intrinsic(_emit_power_of_two)
def power_of_two(shifted: Any, step: Any) -> Any:
    """2**(n + step), where ``shifted`` is 1.5 * 2**(mantissa bits) + n.

    The exponent's bits are written: right while n + step is the exponent of a normal number;
    otherwise any number comes out.
    """
    bits, kind, shift = _python_bits(shifted)
    bias = kind(127 if shift == 23 else 1023)
    with np.errstate(all="ignore"):
        biased = np.nan_to_num(np.asarray(step, shifted.dtype)).astype(kind) + bias
        exponent = np.left_shift(bits, kind(shift)) + np.left_shift(biased, kind(shift))
    return exponent.view(shifted.dtype)[()]


def _emit_biased_power_of_two(_typing: Any, shifted: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        ints = int_type(shifted)
        bits = constant(ints, _mantissa_bits(shifted))
        return builder.bitcast(builder.shl(builder.bitcast(args[0], ints), bits), args[0].type)

    return shifted(shifted), codegen


@intrinsic(_emit_biased_power_of_two)
def biased_power_of_two(shifted: Any) -> Any:
    """2**n, where ``shifted`` is 1.5 * 2**(mantissa bits) + n + the exponent's bias.

    A single shift: right while 2**n is a normal number; otherwise any number comes out.
    """
    bits, kind, shift = _python_bits(shifted)
    return np.left_shift(bits, kind(shift)).view(shifted.dtype)[()]


def _emit_scaled_near(_typing: Any, x: Any, y: Any) -> Any:
    result = types.UniTuple(x, 2)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        ints, mantissa_bits = int_type(x), constant(int_type(x), 52)
        x_bits, y_bits = (builder.bitcast(v, ints) for v in args)
        apart = builder.add(builder.sub(y_bits, x_bits), constant(ints, 1 << 51))
        k = builder.ashr(apart, mantissa_bits)
        scaled = builder.add(x_bits, builder.shl(k, mantissa_bits))
        # k becomes a number as the lowest bits of 1.5 * 2**52, which is then taken away
        rounder = constant(args[0].type, 1.5 * 2.0**52)
        shifted = builder.add(k, builder.bitcast(rounder, ints))
        k = builder.fsub(builder.bitcast(shifted, args[0].type), rounder)
        return context.make_tuple(builder, result, [k, builder.bitcast(scaled, args[0].type)])

    return result(x, y), codegen


@intrinsic(_emit_scaled_near)
def scaled_near(x: Any, y: Any) -> Any:
    """k, and 2**k x within a factor of 1.51 of y; x and y are float64, positive and normal.

    The result for NaN is undefined.
    """
    x_bits, y_bits = np.asarray(x).view(np.int64), np.asarray(y).view(np.int64)
    with np.errstate(all="ignore"):
        k = (y_bits - x_bits + np.int64(1 << 51)) >> np.int64(52)
        scaled = x_bits + (k << np.int64(52))
    return k.astype(np.float64)[()], scaled.view(np.float64)[()]


def _emit_binary_exponent(_typing: Any, x: Any) -> Any:
    root_half = {23: 0x3F3504F3, 52: 0x3FE6A09E667F3BCD}[_mantissa_bits(x)]

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        ints = int_type(x)
        bits = builder.sub(builder.bitcast(args[0], ints), constant(ints, root_half))
        return builder.sitofp(builder.ashr(bits, constant(ints, _mantissa_bits(x))), args[0].type)

    return x(x), codegen


@intrinsic(_emit_binary_exponent)
def binary_exponent(x: Any) -> Any:
    """The n with sqrt(1/2) <= x / 2**n < sqrt(2), as a float; x positive and normal."""
    bits, kind, shift = _python_bits(x)
    root_half = kind(0x3F3504F3 if shift == 23 else 0x3FE6A09E667F3BCD)
    return ((bits - root_half) >> kind(shift)).astype(x.dtype)[()]
