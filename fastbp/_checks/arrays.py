"""Arrays: plain arrays for kernels, rows along any axis, and destinations of results."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]
    Shape = tuple[int, ...]

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
INTP = np.dtype(np.intp)
UNIT_ROUNDOFF = {FLOAT32: 2.0**-24, FLOAT64: 2.0**-53}


def is_plain(x: Any) -> TypeGuard[Array]:
    """Return whether ``x`` can go to a kernel as it is, to be read or written."""
    if type(x) is not np.ndarray:
        return False
    # Identity is the cheapest test: an equal dtype that is another object is replaced later.
    return (x.dtype is FLOAT32 or x.dtype is FLOAT64) and x.flags.carray


def has_plain_rows(z: Any, axis: Any) -> TypeGuard[Array]:
    """Return whether ``z`` is a matrix whose rows along ``axis`` can go to a kernel as they are."""
    return is_plain(z) and z.ndim == 2 and type(axis) is int and axis in (-1, 1) and z.size > 0


class _Writeable:
    """The memory of a read-only array, offered to NumPy as writeable."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, owner: Array) -> None:
        self.owner = owner  # keeps the memory alive
        interface = owner.__array_interface__
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}


def as_writeable_view(x: Array) -> Array:
    """Return ``x`` without its read-only flag; callers only read the view.

    Numba compiles a kernel anew for read-only arrays, which takes half a minute for the training
    step.  A copy of a memory-mapped file could be larger than memory.
    """
    return x if x.flags.writeable else np.asarray(_Writeable(x))


def refuse_mask(x: Any, name: str) -> None:
    """Raise TypeError if ``x`` is a masked array with masked values."""
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise TypeError(
            f"{name} must be an array without missing values, got a masked array of dtype {x.dtype}"
        )


def as_array(x: ArrayLike, name: str) -> Array:
    """Return ``x`` as an array of any dtype; an empty list becomes integers."""
    if isinstance(x, np.ndarray):
        return x
    if hasattr(x, "toarray"):
        kind = type(x).__name__
        raise TypeError(f"{name} must be a dense array, got a sparse {kind}: call its toarray()")
    if hasattr(x, "dtypes") and hasattr(x, "isna"):
        x = _without_nullables(x, name)
    try:
        array = np.asarray(x)
    except ValueError as error:  # ragged
        raise ValueError(f"{name} must be an array, got {error}") from None
    if array.dtype == object and array.ndim == 0:
        raise TypeError(f"{name} must be an array, got {type(x).__name__}")
    return array if array.size or not isinstance(x, list | tuple) else array.astype(INTP)


def _without_nullables(x: Any, name: str) -> Any:
    """Return a pandas frame or series of nullable numbers, which NumPy takes for objects."""
    kinds = np.ravel(np.array(x.dtypes, object)).tolist()
    if not all(hasattr(kind, "numpy_dtype") or isinstance(kind, np.dtype) for kind in kinds):
        return x
    dtype = np.result_type(*(getattr(kind, "numpy_dtype", kind) for kind in kinds))
    if dtype.kind not in "biuf" or all(isinstance(kind, np.dtype) for kind in kinds):
        return x
    if np.any(x.isna()):
        raise TypeError(f"{name} must be an array without missing values, got {type(x).__name__}")
    return x.to_numpy(dtype=dtype)


def as_base_array(x: ArrayLike, name: str) -> Array:
    """Return ``x`` as an array of no subclass; refuse matrices and masked values."""
    if isinstance(x, np.ndarray) and type(x) is not np.ndarray:
        if isinstance(x, np.matrix):
            raise TypeError(f"{name} must be an array, got a numpy.matrix of dtype {x.dtype}")
        refuse_mask(x, name)
    return np.asarray(as_array(x, name))


def as_numeric(x: ArrayLike, name: str, *, small: bool = False) -> Array:
    """Return ``x`` as an array of float32, float64 or integers, of any layout and byte order.

    ``small`` allows float16 and bool, too: features and one-hot rows.
    """
    array = as_base_array(x, name)
    dtype = array.dtype
    if dtype.kind in "iu" or dtype.newbyteorder("=") in UNIT_ROUNDOFF:
        return array
    if small and (dtype.kind == "b" or dtype.newbyteorder("=") == np.float16):
        return array
    listed = (
        "float16, float32, float64, integers or bool" if small else "float32, float64 or integers"
    )
    raise TypeError(f"{name} must be an array of {listed}, got dtype {dtype}")


def float_dtype(x: Array) -> np.dtype[Any]:
    """Return the dtype to compute in: float64 for integers."""
    return FLOAT32 if x.dtype.kind == "f" and x.dtype.itemsize == 4 else FLOAT64


def as_contiguous(x: Array, dtype: np.dtype[Any]) -> Array:
    """Return ``x`` as a plain array of ``dtype``, copied only where it is not one."""
    with np.errstate(all="ignore"):  # callers handle overflow
        x = np.asarray(x, dtype=dtype, order="C")
    return as_writeable_view(x if x.flags.aligned else x.copy())


def as_float_array(
    x: ArrayLike,
    name: str,
    *,
    dtype: np.dtype[Any] | None = None,
    ndim: int | None = None,
    small: bool = False,
) -> Array:
    """Return ``x`` as a plain float array to read; without ``dtype``, integers become float64."""
    if is_plain(x) and (dtype is None or x.dtype is dtype):
        array = x
    else:
        array = as_numeric(x, name, small=small)
        array = as_contiguous(array, float_dtype(array) if dtype is None else dtype)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must be {ndim}-D, got shape {array.shape}")
    return array


def check_shape(array: Array, shape: Shape, name: str) -> None:
    """Raise ValueError if ``array`` is not of ``shape``."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


# Rows along any axis


def as_class_rows(
    x: ArrayLike, name: str, axis: Any, *, dtype: np.dtype[Any] | None = None
) -> tuple[Array, Shape, Shape]:
    """Return ``x`` as plain rows (n, n_classes) along ``axis``, its shape, and ``axis`` as a tuple.

    There is at least one class.
    """
    if dtype is None and has_plain_rows(x, axis):
        return x, x.shape, (1,)
    array = x if is_plain(x) else as_numeric(x, name, small=dtype is not None)
    shape = array.shape
    axes = as_axes(axis, array.ndim)
    n_classes = math.prod([shape[q] for q in axes])
    if n_classes == 0:
        raise ValueError(f"{name} must have at least one class, got shape {shape}")
    moved = move_axes_last(array, axes)
    if not is_plain(moved) or dtype is not None:
        moved = as_contiguous(moved, float_dtype(array) if dtype is None else dtype)
    return moved.reshape(-1, n_classes), shape, axes


def as_axes(axis: Any, ndim: int) -> Shape:
    """Return ``axis`` (an int, a tuple of ints, or None for all) as integers from 0 on."""
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, tuple) else (axis,)
    try:
        if any(isinstance(q, bool) for q in given):
            raise TypeError
        positions = [operator.index(q) for q in given]
    except TypeError:
        message = f"axis must be an integer, a tuple of integers or None, got {axis!r}"
        raise TypeError(message) from None
    limit = max(ndim, 1)  # as in NumPy and SciPy, a scalar has the axes 0 and -1
    if not all(-limit <= q < limit for q in positions):
        raise np.exceptions.AxisError(
            f"axis must be from {-limit} to {limit - 1} for {ndim} dimensions, got {axis!r}"
        )
    axes = tuple(q % limit for q in positions)
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis must not name an axis twice, got {axis!r}")
    return axes if ndim else ()


def move_axes_last(array: Array, axes: Shape) -> Array:
    """Return a view of ``array`` with ``axes`` moved to the end, in their order."""
    order = (*(q for q in range(array.ndim) if q not in axes), *axes)
    return array if order == tuple(range(array.ndim)) else array.transpose(order)


def without_axes(shape: Shape, axes: Shape) -> Shape:
    """Return ``shape`` without the lengths of ``axes``."""
    if len(axes) == 1:  # a third of the time
        return shape[: axes[0]] + shape[axes[0] + 1 :]
    return tuple(n for q, n in enumerate(shape) if q not in axes)


# Results: a kernel writes to a destination, which is then delivered


def check_out(out: Any, shape: Shape, dtype: np.dtype[Any], name: str = "out") -> None:
    """Raise unless a result of ``shape`` and ``dtype`` can be written to ``out``."""
    if not isinstance(out, np.ndarray) or isinstance(out, np.matrix | np.ma.MaskedArray):
        raise TypeError(f"{name} must be a numpy.ndarray, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"{name} must be of dtype {dtype}, got {out.dtype}")
    check_shape(out, shape, name)
    if not out.flags.writeable:
        raise ValueError(f"{name} must be writeable, got a read-only array")


def destination(
    out: Array | None, shape: Shape, dtype: np.dtype[Any], *read: Array, over: Array | None = None
) -> Array:
    """Return a plain array for a kernel's result: ``out`` itself where that is safe.

    The kernel reads ``read`` at any time, and each element of ``over`` before it writes there.
    """
    if out is None:
        return np.empty(shape, dtype)
    is_safe = is_plain(out)
    if not is_safe or out.dtype is not dtype or out.shape != shape:
        check_out(out, shape, dtype)
    for x in read:
        is_safe = is_safe and not _overlap(out, x)
    if is_safe and over is not None:
        is_safe = not _overlap(out, over) or _are_same(out, over)
    return out if is_safe else np.empty(shape, dtype)


def _overlap(x: Array, y: Array) -> bool:
    if x.flags.owndata and y.flags.owndata:
        return x is y  # half the time of may_share_memory
    return np.may_share_memory(x, y)


def _are_same(x: Array, y: Array) -> bool:
    if x is y:
        return True
    same_start = x.__array_interface__["data"][0] == y.__array_interface__["data"][0]
    return bool(x.size == y.size and same_start)


def deliver(result: Array, out: Array | None) -> Array:
    """Return a result computed in a `destination`; a scalar where it has no dimensions."""
    if out is None:
        return result if result.ndim else result[()]
    if result is not out:
        np.copyto(out, result)
    return out


def row_destination(
    out: Array | None, shape: Shape, axes: Shape, rows: Array, *read: Array
) -> Array:
    """Return a `destination` for a result in rows along ``axes``, maybe the memory of ``rows``."""
    if _are_last(axes, shape):
        result = destination(out, shape, rows.dtype, *read, over=rows)
        return result.reshape(rows.shape)
    if out is not None:
        check_out(out, shape, rows.dtype)
    return np.empty_like(rows)


def deliver_rows(result: Array, out: Array | None, shape: Shape, axes: Shape) -> Array:
    """Return a result computed in a `row_destination`, in its ``shape``."""
    if out is not None and np.may_share_memory(result, out):
        return out
    if out is None:
        if _are_last(axes, shape):
            return result.reshape(shape) if shape else result[0, 0]
        out = np.empty(shape, result.dtype)
    moved = move_axes_last(out, axes)
    np.copyto(moved, result.reshape(moved.shape))
    return out


def _are_last(axes: Shape, shape: Shape) -> bool:
    return axes == tuple(range(len(shape) - len(axes), len(shape)))
