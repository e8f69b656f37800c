"""Vector registers as values: the only file that writes LLVM IR.

Numba has no vector type, and LLVM's own vectoriser gives up on short rows, on reductions (which it may not
reorder) and on remainders.  Here a *lanes* value stands for one register's worth of numbers: ``LANES_BYTES``
of them, 16 float32 or 8 float64, or twice as many float64 where float32 is widened.  LLVM splits lanes that are
wider than the machine's registers, so one source serves AVX-512, AVX2 and NEON, and since every operation
and its order is written out, the bits are the same on all of them.

Each primitive is a plain Python function that states its meaning in NumPy (that body runs under
``NUMBA_DISABLE_JIT=1``, with lanes as one-dimensional arrays) and, beside it, what it emits when compiled.
Like the kernels, primitives check nothing: ``load`` reads a whole register whatever the array's length.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import (
    AbstractTemplate,
    infer,
    infer_global,
    make_intrinsic_template,
    signature,
)
from numba.extending import models, register_model
from numba.np import arrayobj

LANES_BYTES = 64

_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)


class Lanes(types.Type):  # type: ignore[misc]
    """Numba type of ``count`` numbers in a register; one lane is a plain scalar in LLVM's eyes."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype = dtype
        self.count = count
        super().__init__(f"Lanes({dtype} x {count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Lanes) -> None:
        super().__init__(dmm, fe_type, _ir_type(fe_type))


class Row(types.Type):  # type: ignore[misc]
    """Numba type of the address of one row's first number.

    A slice of an array would be counted as a reference, by two atomic operations a row; an address is not.
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(f"Row({dtype})")


@register_model(Row)
class _RowModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Row) -> None:
        super().__init__(dmm, fe_type, _ir_type(Lanes(fe_type.dtype, 1)).as_pointer())


def _ir_type(lanes: Lanes) -> Any:
    scalar = {
        types.float32: ir.FloatType(),
        types.float64: ir.DoubleType(),
        types.boolean: ir.IntType(1),
    }[lanes.dtype]
    return scalar if lanes.count == 1 else ir.VectorType(scalar, lanes.count)


def _int_type(lanes: Lanes) -> Any:
    scalar = ir.IntType(lanes.dtype.bitwidth)
    return scalar if lanes.count == 1 else ir.VectorType(scalar, lanes.count)


def _constant(ir_type: Any, value: Any) -> Any:
    if isinstance(ir_type, ir.VectorType):
        return ir.Constant(ir_type, [value] * ir_type.count)
    return ir.Constant(ir_type, value)


def _register_of(array: Any) -> Lanes:
    return Lanes(array.dtype, LANES_BYTES * 8 // array.dtype.bitwidth)


def lane_count(dtype: Any) -> int:
    """Numbers of ``dtype`` in one register."""
    return LANES_BYTES // int(np.dtype(dtype).itemsize)


def _splat(builder: Any, scalar: Any, count: int) -> Any:
    if count == 1:
        return scalar
    undefined = ir.Constant(ir.VectorType(scalar.type, count), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(first, undefined, _constant(ir.VectorType(_INT32, count), 0))


def _as_lanes(context: Any, builder: Any, lanes: Lanes, value: Any, type_: Any) -> Any:
    """An operand as lanes; scalars are converted to the lanes' dtype and repeated."""
    if isinstance(type_, Lanes):
        return value
    return _splat(builder, context.cast(builder, value, type_, lanes.dtype), lanes.count)


def _call(builder: Any, name: str, result: Any, arguments: list[Any], suffix: str = "") -> Any:
    """Call the LLVM intrinsic ``name`` for vectors (or scalars) of the result's type."""
    if not suffix:
        scalar = result.element if isinstance(result, ir.VectorType) else result
        bits = {ir.FloatType(): "f32", ir.DoubleType(): "f64"}[scalar]
        suffix = f"v{result.count}{bits}" if isinstance(result, ir.VectorType) else bits
    kind = ir.FunctionType(result, [a.type for a in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, f"{name}.{suffix}")
    return builder.call(function, arguments)


# How primitives and operators are made known to Numba


def _primitive(emit: Callable[..., Any], prefer_literal: bool = False) -> Callable[..., Any]:
    """Compile calls of the decorated Python function into what ``emit`` writes."""

    def bind(meaning: Callable[..., Any]) -> Callable[..., Any]:
        template = make_intrinsic_template(
            meaning, emit, meaning.__name__, prefer_literal=prefer_literal
        )
        infer(template)
        infer_global(meaning, types.Function(template))
        return meaning

    return bind


def _elementwise(write: Callable[..., Any], result: Callable[[Lanes], Lanes], arity: int) -> Any:
    """``emit`` of an operation on equal lanes, any of which may be given as a scalar."""

    def emit(*operands: Any) -> Any:
        lanes = next((t for t in operands if isinstance(t, Lanes) and t.dtype != types.boolean), None)
        if lanes is None:
            return None

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            values = [
                _as_lanes(context, builder, lanes, v, t)
                for v, t in zip(args, sig.args, strict=True)
            ]
            return write(builder, *values)

        return signature(result(lanes), *operands), codegen

    # Numba reads the number of arguments off the function's own signature
    return {
        1: lambda _typing, x: emit(x),
        2: lambda _typing, x, y: emit(x, y),
        3: lambda _typing, x, y, z: emit(x, y, z),
    }[arity]


def _same(lanes: Lanes) -> Lanes:
    return lanes


def _mask(lanes: Lanes) -> Lanes:
    return Lanes(types.boolean, lanes.count)


def _operator(op: Any, write: Callable[..., Any], result: Callable[[Lanes], Lanes]) -> None:
    """Teach Numba the Python operator ``op`` on lanes."""
    emit = _elementwise(write, result, 2)

    class Template(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: Any, kws: Any) -> Any:
            if kws or not any(isinstance(t, Lanes) for t in args):
                return None
            made = emit(self.context, *args)
            return made and made[0]

    infer_global(op)(Template)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(None, *sig.args)[1](context, builder, sig, args)

    for kinds in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(op, *kinds)(lower)


_operator(operator.add, lambda b, x, y: b.fadd(x, y), _same)
_operator(operator.sub, lambda b, x, y: b.fsub(x, y), _same)
_operator(operator.mul, lambda b, x, y: b.fmul(x, y), _same)
_operator(operator.truediv, lambda b, x, y: b.fdiv(x, y), _same)
_operator(operator.lt, lambda b, x, y: b.fcmp_ordered("<", x, y), _mask)
_operator(operator.ge, lambda b, x, y: b.fcmp_ordered(">=", x, y), _mask)
_operator(operator.eq, lambda b, x, y: b.fcmp_ordered("==", x, y), _mask)


# Arithmetic that Python has no operator for


@_primitive(_elementwise(lambda b, x, y, z: _call(b, "llvm.fma", x.type, [x, y, z]), _same, 3))
def fma(x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once."""
    dtype = np.result_type(*(v for v in (x, y, z) if type(v) is not float))
    wide = np.float64 if dtype == np.float32 else np.longdouble
    exact = np.asarray(x).astype(wide) * np.asarray(y).astype(wide) + np.asarray(z).astype(wide)
    return exact.astype(dtype)[()]


@_primitive(_elementwise(lambda b, x: _call(b, "llvm.fabs", x.type, [x]), _same, 1))
def magnitude(x: Any) -> Any:
    """|x|."""
    return np.abs(x)


@_primitive(
    _elementwise(lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y), _same, 2),
)
def larger(x: Any, y: Any) -> Any:
    """``x`` where x > y, else ``y``: a NaN in ``x`` is passed over (one instruction, unlike maximum)."""
    return np.where(x > y, x, y)[()]


def _emit_select(_typing: Any, mask: Any, x: Any, y: Any) -> Any:
    lanes = x if isinstance(x, Lanes) else y
    if not isinstance(lanes, Lanes):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        m, u, v = args
        u = _as_lanes(context, builder, lanes, u, sig.args[1])
        v = _as_lanes(context, builder, lanes, v, sig.args[2])
        return builder.select(m, u, v)

    return lanes(mask, x, y), codegen


@_primitive(_emit_select)
def select(mask: Any, x: Any, y: Any) -> Any:
    """``x`` where the mask is set, else ``y``."""
    dtype = np.result_type(*(v for v in (x, y) if type(v) is not float))
    return np.where(mask, x, y).astype(dtype)[()]


def _emit_both(_typing: Any, a: Any, b: Any) -> Any:
    return a(a, b), lambda context, builder, sig, args: builder.and_(*args)


@_primitive(_emit_both)
def both(a: Any, b: Any) -> Any:
    """Where both masks are set."""
    return np.logical_and(a, b)


def _emit_pick(_typing: Any, like: Any, single: Any, double: Any) -> Any:
    chosen = 1 if like.dtype == types.float32 else 2

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.cast(builder, args[chosen], sig.args[chosen], like.dtype)

    return like.dtype(like, single, double), codegen


@_primitive(_emit_pick)
def pick(like: Any, single: Any, double: Any) -> Any:
    """The constant for the dtype of ``like``: ``single`` for float32, ``double`` for float64."""
    return np.float32(single) if like.dtype == np.float32 else np.float64(double)


def _estrin(terms: list[Any], x: Any, multiply_add: Callable[..., Any], square: Any) -> Any:
    """Polynomial by Estrin's scheme: pairs first, so that the steps wait for each other less often."""
    powers = x
    while len(terms) > 1:
        pairs = [
            multiply_add(terms[i + 1], powers, terms[i]) for i in range(0, len(terms) - 1, 2)
        ]
        terms = pairs + terms[2 * len(pairs) :]
        powers = square(powers) if len(terms) > 1 else powers
    return terms[0]


def _emit_polynomial(_typing: Any, x: Any, single: Any, double: Any) -> Any:
    chosen, tuple_type = (1, single) if x.dtype == types.float32 else (2, double)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        terms = [
            _as_lanes(context, builder, x, c, tuple_type.dtype)
            for c in cgutils.unpack_tuple(builder, args[chosen], len(tuple_type))
        ]

        def multiply_add(u: Any, v: Any, w: Any) -> Any:
            return _call(builder, "llvm.fma", u.type, [u, v, w])

        return _estrin(terms, args[0], multiply_add, lambda u: builder.fmul(u, u))

    return x(x, single, double), codegen


@_primitive(_emit_polynomial)
def polynomial(x: Any, single: Any, double: Any) -> Any:
    """c0 + c1 x + c2 x**2 + ... with the coefficients of x's dtype, in fused multiply-adds (Estrin)."""
    terms = [x.dtype.type(c) for c in (single if x.dtype == np.float32 else double)]
    return _estrin(terms, x, fma, lambda u: u * u)


# Bits of floating-point numbers


def _mantissa_bits(lanes: Lanes) -> int:
    return 23 if lanes.dtype == types.float32 else 52


def _emit_power_of_two(_typing: Any, shifted: Any, step: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        ints = _int_type(shifted)
        bits = _mantissa_bits(shifted)
        bias = {23: 127, 52: 1023}[bits]
        steps = _as_lanes(context, builder, shifted, args[1], sig.args[1])
        # saturating: a NaN, whose lanes come out as NaN anyway, must not be undefined behaviour
        kinds = [f"v{shifted.count}{t}" if shifted.count > 1 else t for t in _int_and_float(bits)]
        whole = _call(builder, "llvm.fptosi.sat", ints, [steps], ".".join(kinds))
        biased = builder.add(whole, _constant(ints, bias))
        # The second term is the same for a whole row: what is left in the loop is one shift, one add.
        exponent = builder.add(
            builder.shl(builder.bitcast(args[0], ints), _constant(ints, bits)),
            builder.shl(biased, _constant(ints, bits)),
        )
        return builder.bitcast(exponent, args[0].type)

    return shifted(shifted, step), codegen


def _int_and_float(mantissa_bits: int) -> tuple[str, str]:
    return ("i32", "f32") if mantissa_bits == 23 else ("i64", "f64")


def _python_bits(x: Any) -> tuple[Any, type, int]:
    kind, shift = (np.int32, 23) if x.dtype == np.float32 else (np.int64, 52)
    return np.asarray(x).view(kind), kind, shift


@_primitive(_emit_power_of_two)
def power_of_two(shifted: Any, step: Any) -> Any:
    """2**(n + step), where ``shifted`` is 1.5 * 2**(mantissa bits) + n, by writing the exponent's bits.

    Right while n + step is the exponent of a normal number; otherwise any number comes out.
    """
    bits, kind, shift = _python_bits(shifted)
    bias = kind(127 if shift == 23 else 1023)
    with np.errstate(all="ignore"):
        biased = np.nan_to_num(np.asarray(step, shifted.dtype)).astype(kind) + bias
        exponent = np.left_shift(bits, kind(shift)) + np.left_shift(biased, kind(shift))
    return exponent.view(shifted.dtype)[()]


def _emit_binary_exponent(_typing: Any, x: Any) -> Any:
    root_half = {23: 0x3F3504F3, 52: 0x3FE6A09E667F3BCD}[_mantissa_bits(x)]

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        ints = _int_type(x)
        bits = builder.sub(builder.bitcast(args[0], ints), _constant(ints, root_half))
        return builder.sitofp(builder.ashr(bits, _constant(ints, _mantissa_bits(x))), args[0].type)

    return x(x), codegen


@_primitive(_emit_binary_exponent)
def binary_exponent(x: Any) -> Any:
    """The n with sqrt(1/2) <= x / 2**n < sqrt(2), as a float; x positive and normal."""
    bits, kind, shift = _python_bits(x)
    root_half = kind(0x3F3504F3 if shift == 23 else 0x3FE6A09E667F3BCD)
    return ((bits - root_half) >> kind(shift)).astype(x.dtype)[()]


# Scalars and lanes


def _emit_lane(_typing: Any, x: Any) -> Any:
    return Lanes(x, 1)(x), lambda context, builder, sig, args: args[0]


@_primitive(_emit_lane)
def lane(x: Any) -> Any:
    """One scalar as lanes, so that the same code serves scalars (and loops over them vectorise)."""
    return x


def _emit_scalar(_typing: Any, x: Any) -> Any:
    return x.dtype(x), lambda context, builder, sig, args: args[0]


@_primitive(_emit_scalar)
def scalar(x: Any) -> Any:
    """The scalar in a single lane."""
    return x


def _emit_fill(_typing: Any, array: Any, x: Any) -> Any:
    lanes = _register_of(array)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _as_lanes(context, builder, lanes, args[1], sig.args[1])

    return lanes(array, x), codegen


@_primitive(_emit_fill)
def fill(array: Any, x: Any) -> Any:
    """``x`` in all lanes of a register of the array's dtype."""
    return np.full(lane_count(array.dtype), x, array.dtype)


def _emit_widen(_typing: Any, x: Any) -> Any:
    wide = Lanes(types.float64, x.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[0] if x.dtype == types.float64 else builder.fpext(args[0], _ir_type(wide))

    return wide(x), codegen


@_primitive(_emit_widen)
def widen(x: Any) -> Any:
    """The same lanes in float64."""
    return x.astype(np.float64)


def _emit_convert(_typing: Any, x: Any, like: Any) -> Any:
    converted = Lanes(like.dtype, x.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if like.dtype == x.dtype:
            return args[0]
        cast = builder.fpext if like.dtype == types.float64 else builder.fptrunc
        return cast(args[0], _ir_type(converted))

    return converted(x, like), codegen


@_primitive(_emit_convert)
def convert(x: Any, like: Any) -> Any:
    """The same lanes, rounded where need be to the dtype of the row, array or lanes ``like``."""
    return x.astype(like.dtype)


def _fold(builder: Any, parts: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Halve the lanes until one is left: the order is fixed, whatever the machine."""
    count = parts[0].type.count

    def lanes_of(x: Any, start: int, stop: int) -> Any:
        index = ir.Constant(ir.VectorType(_INT32, stop - start), list(range(start, stop)))
        return builder.shuffle_vector(x, x, index)

    while count > 1:
        half = count // 2
        lower = tuple(lanes_of(x, 0, half) for x in parts)
        upper = tuple(lanes_of(x, half, count) for x in parts)
        parts, count = combine(lower, upper), half
    return [builder.extract_element(x, ir.Constant(_INT32, 0)) for x in parts]


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
            wide = _ir_type(Lanes(types.float64, total.count))
            heads = builder.fadd(builder.fpext(args[0], wide), builder.fpext(args[1], wide))
            parts = _fold(builder, (heads,), lambda u, v: (builder.fadd(u[0], v[0]),))
            pair = [parts[0], _constant(ir.DoubleType(), 0.0)]
        else:
            pair = list(_fold(builder, tuple(args), lambda u, v: _add_pairs(builder, u, v)))
        return context.make_tuple(builder, result, pair)

    return result(total, lost), codegen


@_primitive(_emit_sum_lanes)
def sum_lanes(total: Any, lost: Any) -> Any:
    """Sum of all lanes of an unevaluated sum ``total + lost``: two float64, each in a single lane."""
    head, low = total.astype(np.float64), lost.astype(np.float64)
    while head.size > 1:
        half = head.size // 2
        a, b = head[:half], head[half:]
        s = a + b
        from_b = s - a
        low = (low[:half] + low[half:]) + ((a - (s - from_b)) + (b - from_b))
        head = s
    return head[0], low[0]


def _emit_is_double(_typing: Any, like: Any) -> Any:
    answer = like.dtype == types.float64
    return types.boolean(like), lambda context, builder, sig, args: _constant(
        ir.IntType(1), int(answer)
    )


@_primitive(_emit_is_double)
def is_double(like: Any) -> bool:
    """Whether the dtype is float64, known when compiling: the other branch leaves no trace."""
    return bool(like.dtype == np.float64)


def _emit_any_lane(_typing: Any, mask: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(mask.count))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(mask), codegen


@_primitive(_emit_any_lane)
def any_lane(mask: Any) -> Any:
    """Whether the mask is set anywhere."""
    return bool(np.any(mask))


def _emit_max_lanes(_typing: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def larger_of(u: Any, v: Any) -> Any:
            return (builder.select(builder.fcmp_ordered(">", u[0], v[0]), u[0], v[0]),)

        return _fold(builder, (args[0],), larger_of)[0]

    return x.dtype(x), codegen


@_primitive(_emit_max_lanes)
def max_lanes(x: Any) -> Any:
    """Largest lane, by halves (see ``larger`` for NaN)."""
    while x.size > 1:
        x = larger(x[: x.size // 2], x[x.size // 2 :])
    return x[0]


# Memory


def _element(context: Any, builder: Any, array_type: Any, array: Any, *index: Any) -> Any:
    """Address of an array's element; indices are not checked and do not wrap around."""
    made = arrayobj.make_array(array_type)(context, builder, array)
    strides = cgutils.unpack_tuple(builder, made.strides, array_type.ndim)
    offset = _constant(_INT64, 0)
    for position, stride in zip(index, strides, strict=True):
        offset = builder.add(offset, builder.mul(position, stride))
    return cgutils.pointer_add(builder, made.data, offset)


def _emit_row(_typing: Any, array: Any, i: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _element(context, builder, array, args[0], args[1], _constant(_INT64, 0))

    return Row(array.dtype)(array, types.intp), codegen


@_primitive(_emit_row)
def row(array: Any, i: Any) -> Any:
    """Row ``i`` of a two-dimensional array."""
    return array[i]


def _emit_flat(_typing: Any, array: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return arrayobj.make_array(array)(context, builder, args[0]).data

    return Row(array.dtype)(array), codegen


@_primitive(_emit_flat)
def flat(array: Any) -> Any:
    """All numbers of a contiguous array as one row."""
    return array.reshape(-1)


def _emit_at(_typing: Any, row: Any, k: Any) -> Any:
    return row.dtype(row, types.intp), lambda context, builder, sig, args: builder.load(
        builder.gep(args[0], [args[1]])
    )


@_primitive(_emit_at)
def at(row: Any, k: Any) -> Any:
    """The scalar ``row[k]``."""
    return row[k]


def _emit_put(_typing: Any, row: Any, k: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = context.cast(builder, args[2], sig.args[2], row.dtype)
        builder.store(value, builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(row, types.intp, x), codegen


@_primitive(_emit_put)
def put(row: Any, k: Any, x: Any) -> None:
    """``row[k] = x``, converted to the row's dtype."""
    row[k] = x


def _vector_pointer(builder: Any, pointer: Any, vector: Any) -> Any:
    return builder.bitcast(pointer, vector.as_pointer())


def _first_lanes(builder: Any, count: Any, lanes: int) -> Any:
    """Mask of the first ``count`` lanes; none for a count below one."""
    vector = ir.VectorType(_INT64, lanes)
    index = ir.Constant(vector, list(range(lanes)))
    return builder.icmp_signed("<", index, _splat(builder, count, lanes))


def _masked_load(builder: Any, pointer: Any, mask: Any, fill: Any) -> Any:
    name = f"v{fill.type.count}f{32 if fill.type.element == ir.FloatType() else 64}.p0"
    arguments = [
        _vector_pointer(builder, pointer, fill.type),
        _constant(_INT32, 1),
        mask,
        fill,
    ]
    return _call(builder, "llvm.masked.load", fill.type, arguments, name)


def _masked_store(builder: Any, value: Any, pointer: Any, mask: Any) -> None:
    name = f"v{value.type.count}f{32 if value.type.element == ir.FloatType() else 64}.p0"
    arguments = [
        value,
        _vector_pointer(builder, pointer, value.type),
        _constant(_INT32, 1),
        mask,
    ]
    _call(builder, "llvm.masked.store", ir.VoidType(), arguments, name)


def _emit_width(_typing: Any, array: Any) -> Any:
    count = _register_of(array).count
    return types.intp(array), lambda context, builder, sig, args: _constant(_INT64, count)


@_primitive(_emit_width)
def width(array: Any) -> int:
    """Numbers of the array's dtype in one register."""
    return lane_count(array.dtype)


def _emit_load(_typing: Any, row: Any, start: Any) -> Any:
    lanes = _register_of(row)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.gep(args[0], [args[1]])
        loaded = builder.load(_vector_pointer(builder, pointer, _ir_type(lanes)))
        loaded.align = 1
        return loaded

    return lanes(row, types.intp), codegen


@_primitive(_emit_load)
def load(row: Any, start: Any) -> Any:
    """One register from ``row[start:]``."""
    count = lane_count(row.dtype)
    assert 0 <= start <= row.size - count
    return row[start : start + count].copy()


def _emit_load_like(_typing: Any, row: Any, start: Any, like: Any) -> Any:
    lanes = Lanes(row.dtype, like.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.gep(args[0], [args[1]])
        loaded = builder.load(_vector_pointer(builder, pointer, _ir_type(lanes)))
        loaded.align = 1
        return loaded

    return lanes(row, types.intp, like), codegen


@_primitive(_emit_load_like)
def load_like(row: Any, start: Any, like: Any) -> Any:
    """As many lanes as ``like`` has from ``row[start:]``."""
    assert 0 <= start <= row.size - like.size
    return row[start : start + like.size].copy()


def _emit_load_first(_typing: Any, row: Any, start: Any, count: Any, fill: Any) -> Any:
    lanes = _register_of(row)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.gep(args[0], [args[1]])
        mask = _first_lanes(builder, args[2], lanes.count)
        filled = _as_lanes(context, builder, lanes, args[3], sig.args[3])
        return _masked_load(builder, pointer, mask, filled)

    return lanes(row, types.intp, types.intp, fill), codegen


@_primitive(_emit_load_first)
def load_first(row: Any, start: Any, count: Any, fill: Any) -> Any:
    """``row[start:start + count]`` in the first lanes (or a whole register), ``fill`` in the others."""
    lanes = np.full(lane_count(row.dtype), fill, row.dtype)
    held = row[start : start + min(count, lanes.size)]
    assert held.size == min(count, lanes.size)
    lanes[: held.size] = held
    return lanes


def _emit_first(_typing: Any, like: Any, count: Any) -> Any:
    mask = Lanes(types.boolean, like.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _first_lanes(builder, args[1], like.count)

    return mask(like, types.intp), codegen


@_primitive(_emit_first)
def first(like: Any, count: Any) -> Any:
    """Mask of the first ``count`` lanes of ``like``."""
    return np.arange(like.size) < count


def _emit_store(_typing: Any, row: Any, start: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.gep(args[0], [args[1]])
        stored = builder.store(args[2], _vector_pointer(builder, pointer, args[2].type))
        stored.align = 1
        return context.get_dummy_value()

    return types.void(row, types.intp, x), codegen


@_primitive(_emit_store)
def store(row: Any, start: Any, x: Any) -> None:
    """Write the lanes to ``row[start:]``."""
    assert 0 <= start <= row.size - x.size
    row[start : start + x.size] = x


def _emit_store_first(_typing: Any, row: Any, start: Any, x: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.gep(args[0], [args[1]])
        _masked_store(builder, args[2], pointer, _first_lanes(builder, args[3], x.count))
        return context.get_dummy_value()

    return types.void(row, types.intp, x, types.intp), codegen


@_primitive(_emit_store_first)
def store_first(row: Any, start: Any, x: Any, count: Any) -> None:
    """Write the first ``count`` lanes (all, where there are fewer) to ``row[start:]``."""
    count = min(count, x.size)
    assert 0 <= start <= row.size - count
    row[start : start + count] = x[:count]


def _emit_stack_row(_typing: Any, like: Any, registers: Any) -> Any:
    if not isinstance(registers, types.IntegerLiteral):
        return None
    size = registers.literal_value * _register_of(like).count

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return cgutils.alloca_once(builder, context.get_data_type(like.dtype), size=size)

    return Row(like.dtype)(like, registers), codegen


@_primitive(_emit_stack_row, prefer_literal=True)
def stack_row(like: Any, registers: Any) -> Any:
    """A scratch row of as many ``registers`` (a literal) on the stack; it must not leave the function."""
    return np.zeros(registers * lane_count(like.dtype), like.dtype)


# Short rows: a block of rows is turned so that each lane holds a row of its own


def _turn(builder: Any, registers: list[Any]) -> list[Any]:
    """Transpose a square of registers in log2(n) rounds of two-source shuffles."""
    count = len(registers)
    index = ir.VectorType(_INT32, count)
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


def _row_pointers(context: Any, builder: Any, array: Any, value: Any, i: Any, j: Any, n: int) -> Any:
    """Address of column ``j`` in the ``n`` rows from ``i``, with whether each row exists.

    A row past the end stands for the last one, so that every address is a valid one.
    """
    made = arrayobj.make_array(array)(context, builder, value)
    last = builder.sub(cgutils.unpack_tuple(builder, made.shape, 2)[0], _constant(_INT64, 1))
    for r in range(n):
        row = builder.add(i, _constant(_INT64, r))
        exists = builder.icmp_signed("<=", row, last)
        row = builder.select(exists, row, last)
        yield _element(context, builder, array, value, row, j), exists


def _columns_from(context: Any, builder: Any, array: Any, value: Any, j: Any) -> Any:
    made = arrayobj.make_array(array)(context, builder, value)
    return builder.sub(cgutils.unpack_tuple(builder, made.shape, 2)[1], j)


def _emit_load_turned(_typing: Any, array: Any, i: Any, j: Any, tile: Any) -> Any:
    lanes = _register_of(array)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, i, j, tile_value = args
        mask = _first_lanes(
            builder, _columns_from(context, builder, array, value, j), lanes.count
        )
        zeros = _constant(_ir_type(lanes), 0.0)
        rows = [
            _masked_load(builder, pointer, mask, zeros)
            for pointer, _ in _row_pointers(context, builder, array, value, i, j, lanes.count)
        ]
        start = builder.mul(j, _constant(_INT64, lanes.count))
        for c, column in enumerate(_turn(builder, rows)):
            position = builder.add(start, _constant(_INT64, c * lanes.count))
            pointer = builder.gep(tile_value, [position])
            builder.store(column, _vector_pointer(builder, pointer, column.type)).align = 1
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, tile), codegen


@_primitive(_emit_load_turned)
def load_turned(array: Any, i: Any, j: Any, tile: Any) -> None:
    """Put a square of ``array`` at row i, column j into the tile's registers j, j + 1, ..., a lane a row.

    Lanes past the last row repeat it; registers past the last column are zero.
    """
    count = lane_count(array.dtype)
    square = np.zeros((count, count), array.dtype)
    block = array[i : i + count, j : j + count]
    square[: block.shape[0], : block.shape[1]] = block
    square[block.shape[0] :] = square[block.shape[0] - 1]
    tile[j * count : (j + count) * count] = square.T.ravel()


def _emit_store_turned(_typing: Any, tile: Any, array: Any, i: Any, j: Any) -> Any:
    lanes = _register_of(array)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        tile_value, value, i, j = args
        start = builder.mul(j, _constant(_INT64, lanes.count))
        columns = []
        for c in range(lanes.count):
            position = builder.add(start, _constant(_INT64, c * lanes.count))
            pointer = builder.gep(tile_value, [position])
            loaded = builder.load(_vector_pointer(builder, pointer, _ir_type(lanes)))
            loaded.align = 1
            columns.append(loaded)
        width = _columns_from(context, builder, array, value, j)
        pointers = _row_pointers(context, builder, array, value, i, j, lanes.count)
        for row, (pointer, exists) in zip(_turn(builder, columns), pointers, strict=True):
            count = builder.select(exists, width, _constant(_INT64, 0))
            _masked_store(builder, row, pointer, _first_lanes(builder, count, lanes.count))
        return context.get_dummy_value()

    return types.void(tile, array, types.intp, types.intp), codegen


@_primitive(_emit_store_turned)
def store_turned(tile: Any, array: Any, i: Any, j: Any) -> None:
    """Write the tile's registers j, j + 1, ... back as the square of ``array`` at row i, column j."""
    count = lane_count(array.dtype)
    block = array[i : i + count, j : j + count]
    square = tile[j * count : (j + count) * count].reshape(count, count).T
    block[...] = square[: block.shape[0], : block.shape[1]]
