"""The two kinds of value: a vector, and the address of a row.

How Numba types them, how LLVM does, and how scalars and arrays become lanes.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import models, register_model

VECTOR_BYTES = 64

INT32 = ir.IntType(32)
INT64 = ir.IntType(64)


class Vector(types.Type):  # type: ignore[misc]
    """Numba type of a vector of ``count`` elements; of one element, LLVM's type is the scalar."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype = dtype
        self.count = count
        super().__init__(f"Vector({dtype} x {count})")


@register_model(Vector)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, ir_type(fe_type))


class Row(types.Type):  # type: ignore[misc]
    """Numba type of the address of one row's first number.

    A slice of an array would be counted as a reference, by two atomic operations a row; an address
    is not.
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(f"Row({dtype})")


@register_model(Row)
class _RowModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Row) -> None:
        super().__init__(dmm, fe_type, ir_type(Vector(fe_type.dtype, 1)).as_pointer())


def ir_type(vector: Vector) -> Any:
    scalar = {
        types.float32: ir.FloatType(),
        types.float64: ir.DoubleType(),
        types.boolean: ir.IntType(1),
        types.uint8: ir.IntType(8),
        types.int32: INT32,
        types.int64: INT64,
    }[vector.dtype]
    return scalar if vector.count == 1 else ir.VectorType(scalar, vector.count)


def int_type(vector: Vector) -> Any:
    scalar = ir.IntType(vector.dtype.bitwidth)
    return scalar if vector.count == 1 else ir.VectorType(scalar, vector.count)


def constant(kind: Any, value: Any) -> Any:
    """The value, in all lanes where ``kind`` is a vector."""
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [value] * kind.count)
    return ir.Constant(kind, value)


def register_of(array: Any) -> Vector:
    return Vector(array.dtype, VECTOR_BYTES * 8 // array.dtype.bitwidth)


def lane_count(dtype: Any) -> int:
    """Elements of ``dtype`` in one vector."""
    return VECTOR_BYTES // int(np.dtype(dtype).itemsize)


def splat(builder: Any, scalar: Any, count: int) -> Any:
    if count == 1:
        return scalar
    undefined = ir.Constant(ir.VectorType(scalar.type, count), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, undefined, constant(ir.VectorType(INT32, count), 0))


def as_vector(context: Any, builder: Any, vector: Vector, value: Any, type_: Any) -> Any:
    """An operand as lanes; scalars are converted to the lanes' dtype and repeated."""
    if isinstance(type_, Vector):
        return value
    return splat(builder, context.cast(builder, value, type_, vector.dtype), vector.count)


def call_intrinsic(
    builder: Any, name: str, result: Any, arguments: list[Any], suffix: str = ""
) -> Any:
    """Call the LLVM intrinsic ``name`` for vectors (or scalars) of the result's type."""
    if not suffix:
        scalar = result.element if isinstance(result, ir.VectorType) else result
        bits = {ir.FloatType(): "f32", ir.DoubleType(): "f64"}[scalar]
        suffix = f"v{result.count}{bits}" if isinstance(result, ir.VectorType) else bits
    kind = ir.FunctionType(result, [a.type for a in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, f"{name}.{suffix}")
    return builder.call(function, arguments)
