"""What kernels take: checked when they are compiled, sizes also under ``NUMBA_BOUNDSCHECK=1``.

Numba would compile a kernel for any types.  Kernels read memory by address: a stride that they do
not know, or another dtype, would give wrong numbers without an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numba.core import types
from numba.core.errors import TypingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numba.core.lowering import Lower

_FLOATS = (types.float32, types.float64)


class KernelTypeError(TypingError, TypeError):  # type: ignore[misc]
    """An argument of a type that a kernel does not take."""


@dataclass(frozen=True)
class Value:
    """A number or a record."""

    name: str
    is_right: Callable[[Any], bool]


@dataclass(frozen=True)
class Array:
    """A C-contiguous array.

    ``shape`` names its lengths, and arrays that name one have it in common; ``(...,)`` is any
    shape, the same for all such arrays.  All of dtype "float" have the same.
    """

    shape: tuple[Any, ...]
    dtype: str = "float"
    is_written: bool = False
    is_optional: bool = False  # may have no elements instead
    limit: str = ""  # labels are below this length

    @property
    def name(self) -> str:
        dtypes = {"float": "float32 or float64, the same for all", "label": "integers"}
        ndim = "" if self.shape == (...,) else f"{len(self.shape)}-D "
        writeable = "writeable " if self.is_written else ""
        return f"a {writeable}{ndim}C-contiguous array of {dtypes.get(self.dtype, self.dtype)}"

    def is_right(self, array: Any, ndim: int | None = None, float_type: Any = None) -> bool:
        if not isinstance(array, types.Array):
            return False
        if self.shape != (...,):
            ndim = len(self.shape)
        is_dtype = {
            "float": array.dtype == float_type if float_type else array.dtype in _FLOATS,
            "float64": array.dtype == types.float64,
            "label": isinstance(array.dtype, types.Integer),
        }[self.dtype]
        is_plain = array.ndim == (ndim or array.ndim) and array.layout == "C" and array.aligned
        return is_dtype and is_plain and (array.mutable or not self.is_written)


FLOAT = Value("a float32 or a float64", lambda given: given in _FLOATS)
REAL = Value("a number", lambda given: isinstance(given, types.Float | types.Integer))
INTEGER = Value("an integer", lambda given: isinstance(given, types.Integer))


def record(kind: type) -> Value:
    """Return the argument that is a named tuple of one class."""
    return Value(
        f"a kernels.{kind.__name__}",
        lambda given: getattr(given, "instance_class", None) is kind,
    )


def floats(*shape: Any, optional: bool = False) -> Array:
    """Return an array of float32 or float64 that is read."""
    return Array(shape, is_optional=optional)


def written(*shape: Any) -> Array:
    """Return an array of float32 or float64 that is written."""
    return Array(shape, is_written=True)


def weights(*shape: str) -> Array:
    """Return float64 weights, or none."""
    return Array(shape, "float64", is_optional=True)


def labels(*shape: str, below: str) -> Array:
    """Return integers from 0 on, below a length."""
    return Array(shape, "label", limit=below)


Arguments = dict[str, Value | Array]


def check_types(kernel: str, arguments: Arguments, given: tuple[Any, ...]) -> None:
    """Raise unless each type that is given is right."""
    common: tuple[Any, ...] = ()
    for (name, argument), found in zip(arguments.items(), given, strict=False):
        found = types.unliteral(found)
        if isinstance(argument, Value):
            is_right = argument.is_right(found)
        else:
            is_right = argument.is_right(found, *common)
            if is_right and not common and argument.dtype == "float":
                common = found.ndim, found.dtype
        if not is_right:
            raise KernelTypeError(f"{kernel}: {name} must be {argument.name}, got {found}")


def emit_size_checks(lowering: Lower, kernel: str, arguments: Arguments) -> None:
    """Compile a comparison of all lengths, and of labels with their limit, to a kernel's entry."""
    lengths: dict[Any, tuple[str, Any]] = {}
    arrays = {
        name: (argument, value, kind)
        for (name, argument), value, kind in zip(
            arguments.items(), lowering.fnargs, lowering.fndesc.argtypes, strict=True
        )
        if isinstance(argument, Array)
    }
    context, builder = lowering.context, lowering.builder

    def call(check: Callable[..., None], *values: Any, kinds: tuple[Any, ...]) -> None:
        context.compile_internal(builder, check, types.none(*kinds), values)

    # What may be left out says no length.
    for name, (argument, value, kind) in sorted(
        arrays.items(), key=lambda item: item[1][0].is_optional
    ):
        array = context.make_array(kind)(context, builder, value)
        found = [builder.extract_value(array.shape, axis) for axis in range(kind.ndim)]
        keys = range(kind.ndim) if argument.shape == (...,) else argument.shape
        for axis, (key, length) in enumerate(zip(keys, found, strict=True)):
            source, expected = lengths.setdefault(key, (f"axis {axis} of {name}", length))
            if expected is not length:
                text = f"{kernel}: axis {axis} of {name} must be as long as {source}"
                check = _check_optional if argument.is_optional else _check_length
                call(check(text), length, expected, kinds=(types.intp, types.intp))
    for name, (argument, value, kind) in arrays.items():
        if argument.limit:
            source, limit = lengths[argument.limit]
            text = f"{kernel}: {name} must be from 0 to below the length of {source}"
            call(_check_labels(text), value, limit, kinds=(kind, types.intp))


# Compiled into the kernel


def _check_length(text: str) -> Callable[..., None]:
    def check(length: int, expected: int) -> None:
        if length != expected:
            raise IndexError(text)

    return check


def _check_optional(text: str) -> Callable[..., None]:
    def check(length: int, expected: int) -> None:
        if length != expected and length != 0:
            raise IndexError(text)

    return check


def _check_labels(text: str) -> Callable[..., None]:
    def check(labels: Any, limit: int) -> None:
        for label in labels:
            if label < 0 or label >= limit:
                raise IndexError(text)

    return check
