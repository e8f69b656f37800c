"""How primitives and operators are made known to Numba."""

from collections.abc import Callable
from typing import Any, ClassVar

from numba.core import types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import (
    AbstractTemplate,
    infer,
    infer_global,
    make_intrinsic_template,
    signature,
)

from fastbp._simd.vector import Vector, as_vector


def intrinsic(emit: Callable[..., Any], prefer_literal: bool = False) -> Callable[..., Any]:
    """Compile calls of the decorated Python function into what ``emit`` writes."""

    def bind(meaning: Callable[..., Any]) -> Callable[..., Any]:
        template = make_intrinsic_template(
            meaning, emit, meaning.__name__, prefer_literal=prefer_literal
        )
        infer(template)
        infer_global(meaning, types.Function(template))
        return meaning

    return bind


def elementwise(write: Callable[..., Any], result: Callable[[Vector], Vector], arity: int) -> Any:
    """``emit`` of an operation on equal lanes, any of which may be given as a scalar."""

    def emit(*operands: Any) -> Any:
        vector = next(
            (t for t in operands if isinstance(t, Vector) and t.dtype != types.boolean), None
        )
        if vector is None:
            return None

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            values = [
                as_vector(context, builder, vector, v, t)
                for v, t in zip(args, sig.args, strict=True)
            ]
            return write(builder, *values)

        return signature(result(vector), *operands), codegen

    # Numba reads the number of arguments off the function's own signature
    return {
        1: lambda _typing, x: emit(x),
        2: lambda _typing, x, y: emit(x, y),
        3: lambda _typing, x, y, z: emit(x, y, z),
    }[arity]


def same_type(vector: Vector) -> Vector:
    return vector


def mask_type(vector: Vector) -> Vector:
    return Vector(types.boolean, vector.count)


def register_operator(
    op: Any, write: Callable[..., Any], result: Callable[[Vector], Vector]
) -> None:
    """Teach Numba the Python operator ``op`` on lanes."""
    emit = elementwise(write, result, 2)

    class Template(AbstractTemplate):  # type: ignore[misc]
        # Tried before Numba's own two dozen, each of which would first write why it does not fit
        metadata: ClassVar[dict[str, str]] = {"target": "cpu"}

        def generic(self, args: Any, kws: Any) -> Any:
            if kws or not any(isinstance(t, Vector) for t in args):
                return None
            made = emit(self.context, *args)
            return made and made[0]

    infer_global(op)(Template)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(None, *sig.args)[1](context, builder, sig, args)

    for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(op, *kinds)(lower)
