"""The front door: arguments in, clean arrays or one clear exception out, and nothing written yet.

Kernels check nothing, and Numba itself misreads big-endian arrays, drops the mask of masked arrays
and compiles anew for read-only ones.  Whatever passes through here is a plain, aligned,
C-contiguous array of the machine's byte order, so that each kernel has one machine code per dtype.
"""

from __future__ import annotations

import math
import numbers
import operator
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from fastbp._compile import kernel

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]
    Shape = tuple[int, ...]

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
INTP = np.dtype(np.intp)
UNIT_ROUNDOFF = {FLOAT32: 2.0**-24, FLOAT64: 2.0**-53}
# What a kernel reads as "every row weighs one".
NO_WEIGHT: NDArray[np.float64] = np.empty(0, FLOAT64)


# Compiled, because two NumPy reductions over 128 labels cost more than their whole cross-entropy.


@kernel
def first_label_outside(labels: Any, n_classes: Any) -> Any:
    for i in range(labels.shape[0]):
        if labels[i] < 0 or labels[i] >= n_classes:
            return i
    return -1


@kernel
def _mark_ignored(given: Any, n_classes: Any, ignore_index: Any, labels: Any) -> Any:
    for i in range(given.shape[0]):
        if given[i] == ignore_index:
            labels[i] = -1
        elif given[i] < 0 or given[i] >= n_classes:
            return i
        else:
            labels[i] = given[i]
    return -1


@kernel
def _first_bad_weight(weight: Any) -> Any:
    for i in range(weight.shape[0]):
        if not (weight[i] >= 0 and weight[i] < np.inf):
            return i
    return -1


@kernel
def _first_bad_target(y: Any, tolerance: Any) -> Any:
    n_classes = y.shape[1]
    for i in range(y.shape[0]):
        row = y[i]
        bad = 0
        for k in range(n_classes):
            bad += row[k] < 0
        # Four running sums: one would wait for each addition before the next.
        s0 = s1 = s2 = s3 = 0.0
        for q in range(n_classes // 4):
            s0 += row[4 * q]
            s1 += row[4 * q + 1]
            s2 += row[4 * q + 2]
            s3 += row[4 * q + 3]
        for k in range(n_classes - n_classes % 4, n_classes):
            s0 += row[k]
        total = (s0 + s1) + (s2 + s3)  # NaN if an entry is
        if bad > 0 or not abs(total - 1.0) <= tolerance:
            return i
    return -1


def is_plain(x: Any) -> TypeGuard[Array]:
    """Whether ``x`` can go to a kernel as it is, as an input or as a written array."""
    if type(x) is not np.ndarray:
        return False
    dtype = x.dtype
    # Identity is the cheapest test there is; an equal dtype that is another object takes the
    # slow path, which copies nothing either.
    return (dtype is FLOAT32 or dtype is FLOAT64) and x.flags.carray


class _Lent:
    """Offers the memory of a read-only array to NumPy as if it could be written."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, owner: Array) -> None:
        self.owner = owner  # keeps the memory alive
        interface = dict(owner.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def lend(x: Array) -> Array:
    """``x``, which nobody will write to, without the flag that says so if it is read-only.

    Numba compiles a kernel anew for read-only arrays, and the engine of training takes half a
    minute; a copy of a memory-mapped file could cost a lot, too.
    """
    return x if x.flags.writeable else np.asarray(_Lent(x))


def _contiguous(x: Array, dtype: np.dtype[Any]) -> Array:
    """``x`` as a plain C-contiguous array of ``dtype``, copied only where it is not one."""
    with np.errstate(all="ignore"):  # what comes out infinite or 0 is for others to judge
        x = np.asarray(x, dtype=dtype, order="C")
    if not x.flags.aligned:
        x = x.copy()
    return lend(x)


def _numbers(x: ArrayLike, name: str) -> Array:
    """``x`` as an array of float32, float64 or integers, of any layout and byte order."""
    if isinstance(x, np.ndarray) and type(x) is not np.ndarray:
        if isinstance(x, np.matrix):
            raise TypeError(f"{name} must be an array, got a numpy.matrix of dtype {x.dtype}")
        refuse_mask(x, name)
    array = np.asarray(as_array(x, name))
    dtype = array.dtype
    if dtype.kind not in "iu" and dtype.newbyteorder("=") not in UNIT_ROUNDOFF:
        raise TypeError(
            f"{name} must be an array of float32, float64 or integers, got dtype {dtype}"
        )
    return array


def refuse_mask(x: Any, name: str) -> None:
    """Raise TypeError if ``x`` is a masked array with masked values."""
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise TypeError(
            f"{name} must be an array without missing values, got a masked array of dtype {x.dtype}"
        )


def as_array(x: ArrayLike, name: str) -> Array:
    """Return ``x`` as some array, to look at its shape.

    Raises
    ------
    ValueError
        If ``x`` is ragged.
    """
    try:
        return x if isinstance(x, np.ndarray) else np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{name} must be an array, got {error}") from None


def _float_dtype(x: Array) -> np.dtype[Any]:
    """Computing dtype of an array of numbers: integers are computed in float64."""
    return FLOAT32 if x.dtype.kind == "f" and x.dtype.itemsize == 4 else FLOAT64


def check_shape(array: Array, shape: Shape, name: str) -> None:
    """Raise ValueError if ``array`` is not of ``shape``."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def _row(i: int, shape: Shape) -> str:
    """Name of row ``i`` of ``shape`` for a message."""
    if not shape:
        return ""
    where = i if len(shape) == 1 else tuple(int(q) for q in np.unravel_index(i, shape))
    return f" in row {where}"


def as_float_array(
    x: ArrayLike, name: str, *, dtype: np.dtype[Any] | None = None, ndim: int | None = None
) -> Array:
    """Return ``x`` as a plain C-contiguous float32 or float64 array, not to be written to.

    Parameters
    ----------
    x : array_like
        Floats keep their dtype, integers become float64.
    name : str
        What the caller calls the argument.
    dtype : dtype, optional
        float32 or float64 to convert to.
    ndim : int, optional
        Number of dimensions to insist on.

    Returns
    -------
    ndarray
        ``x`` itself if it is already right, a view of it if it is only read-only or of a
        subclass, a copy otherwise.

    Raises
    ------
    TypeError
        If ``x`` is of a dtype other than float32, float64 and integers, a ``numpy.matrix``, or a
        masked array with masked values.
    ValueError
        If ``x`` is ragged or has another number of dimensions.
    """
    if is_plain(x) and (dtype is None or x.dtype is dtype):
        array = x
    else:
        array = _numbers(x, name)
        array = _contiguous(array, _float_dtype(array) if dtype is None else dtype)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must be {ndim}-D, got shape {array.shape}")
    return array


def as_rows(
    x: ArrayLike, name: str, axes: Shape | int | None, *, dtype: np.dtype[Any] | None = None
) -> tuple[Array, Shape, Shape]:
    """Return ``x`` with ``axes`` moved last and flattened: C-contiguous rows to reduce over.

    Parameters
    ----------
    x : array_like
    name : str
    axes : int, tuple of int or None
        What makes up a row; None means everything.
    dtype : dtype, optional

    Returns
    -------
    rows : ndarray of shape (n, n_classes)
    shape : tuple
        Shape of ``x``.
    axes : tuple
        ``axes`` as a tuple of numbers from 0 on.

    Raises
    ------
    TypeError
        As `as_float_array`, or if an axis is no integer.
    ValueError
        If an axis is out of range or repeated, or if rows have no classes.
    """
    if is_plain(x) and dtype is None and x.ndim == 2 and is_last(axes) and x.shape[1]:
        return x, x.shape, (1,)
    array = x if is_plain(x) else _numbers(x, name)
    shape = array.shape
    axes = as_axes(axes, array.ndim)
    n_classes = math.prod([shape[q] for q in axes]) if shape else 1
    if n_classes == 0:
        raise ValueError(f"{name} must have at least one class, got shape {shape}")
    moved = move_last(array, axes)
    if not is_plain(moved) or dtype is not None:
        moved = _contiguous(moved, _float_dtype(array) if dtype is None else dtype)
    return moved.reshape(-1, n_classes), shape, axes


def is_last(axis: Any) -> bool:
    """Whether ``axis`` is -1; anything that is no int goes to `as_axes`."""
    return type(axis) is int and axis == -1


def move_last(array: Array, axes: Shape) -> Array:
    """View of ``array`` with ``axes`` moved to the end, in their order."""
    others = [q for q in range(array.ndim) if q not in axes]
    order = (*others, *axes)
    return array if order == tuple(range(array.ndim)) else array.transpose(order)


def as_axes(axis: Any, ndim: int) -> Shape:
    """Return ``axis`` (an int, a tuple of ints, or None for all) as a tuple of numbers from 0 on.

    Raises
    ------
    TypeError
        If an axis is no integer.
    numpy.exceptions.AxisError
        If an axis is out of range.
    ValueError
        If an axis is repeated.
    """
    if axis is None:
        return tuple(range(ndim))
    asked = axis if isinstance(axis, tuple) else (axis,)
    # NumPy and SciPy let a scalar be reduced over its axis 0 or -1.
    limit = max(ndim, 1)
    axes = []
    for q in asked:
        try:
            k = operator.index(q)
        except TypeError:
            k = None
        if isinstance(q, bool) or k is None:
            raise TypeError(f"axis must be an integer, a tuple of integers or None, got {axis!r}")
        if not -limit <= k < limit:
            raise np.exceptions.AxisError(
                f"axis must be from {-limit} to {limit - 1} for {ndim} dimensions, got {axis!r}"
            )
        axes.append(k % limit)
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis must not name an axis twice, got {axis!r}")
    return tuple(axes) if ndim else ()


def as_labels(
    y: ArrayLike,
    n_rows: int | Shape,
    n_classes: int,
    name: str,
    ignore_index: int | None = None,
) -> Array:
    """Return class labels as a flat intp array, -1 where a row is to be left out.

    Parameters
    ----------
    y : array_like of integers
    n_rows : int or tuple of int
        Number of rows, or the shape the labels must have.
    n_classes : int
    name : str
    ignore_index : int, optional
        The label of the rows to leave out; it need not be a class.

    Returns
    -------
    ndarray of intp, shape (n,)

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If the shape differs, or if a label is negative or ``>= n_classes``.
    """
    shape = n_rows if isinstance(n_rows, tuple) else (n_rows,)
    if type(y) is np.ndarray:
        given = y
        if (
            ignore_index is None
            and y.dtype is INTP
            and y.shape == shape
            and y.ndim == 1
            and y.flags.carray
            and first_label_outside(y, n_classes) < 0
        ):
            return y
    else:
        if isinstance(y, np.ndarray) and type(y) is not np.ndarray:
            _numbers(y, name)  # refuses what hides its values
        given = np.asarray(as_array(y, name))
        if given.size == 0:
            given = given.astype(INTP)  # an empty list has no type of its own
    if given.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integer labels, got dtype {given.dtype}")
    check_shape(given, shape, name)
    bad = -1
    if not np.can_cast(given.dtype, INTP):
        # Judged in their own type: what does not fit an intp would come out as another number.
        limits = np.iinfo(INTP)
        outside = (given > limits.max) | (given < limits.min)
        bad = int(np.argmax(outside)) if outside.any() else -1
    if bad < 0:
        labels = _contiguous(given, INTP).reshape(-1)
        if ignore_index is None or not np.iinfo(INTP).min <= ignore_index <= np.iinfo(INTP).max:
            bad = int(first_label_outside(labels, n_classes))
        else:
            marked = np.empty_like(labels)
            bad = int(_mark_ignored(labels, n_classes, ignore_index, marked))
            labels = marked
    if bad >= 0:
        value = given.reshape(-1)[bad]
        raise ValueError(
            f"{name} must hold labels from 0 to {n_classes - 1}, got {value}{_row(bad, shape)}"
        )
    return labels


def as_targets(
    y: ArrayLike, shape: Shape, dtype: np.dtype[Any], name: str, axis: int = -1
) -> Array:
    """Return target rows (one-hot or probabilities) as a C-contiguous 2-D array.

    Parameters
    ----------
    y : array_like
    shape : tuple of int
        The shape of the logits, which the targets must have too.
    dtype : dtype
        float32 or float64 to convert to.
    name : str
    axis : int
        The class axis.

    Returns
    -------
    ndarray of shape (n, n_classes)

    Raises
    ------
    TypeError
        As `as_float_array`.
    ValueError
        If the shape differs, or if a row holds a negative value or NaN or does not sum to 1
        within ``8 * n_classes`` unit roundoffs of the coarser of its own dtype and ``dtype``.
    """
    array = y if is_plain(y) else _numbers(y, name)
    check_shape(array, shape, name)
    u = UNIT_ROUNDOFF[dtype]
    if array.dtype.kind == "f":
        u = max(u, UNIT_ROUNDOFF[_float_dtype(array)])
    rows, _, axes = as_rows(array, name, axis, dtype=dtype)
    i = int(_first_bad_target(rows, 8 * rows.shape[1] * u))
    if i >= 0:
        row = rows[i]
        where = _row(i, tuple(n for q, n in enumerate(shape) if q not in axes))
        if np.isnan(row).any():
            raise ValueError(f"{name} must hold probabilities, got nan{where}")
        if (row < 0).any():
            raise ValueError(f"{name} must hold probabilities, got {row.min()}{where}")
        total = math.fsum(row)
        raise ValueError(f"{name} must hold rows that sum to 1, got a sum of {total}{where}")
    return rows


def as_row_weight(sample_weight: ArrayLike | None, n_rows: int | Shape, name: str) -> Array:
    """Return the rows' weights as flat float64, or an empty array where there are none.

    Parameters
    ----------
    sample_weight : array_like or None
    n_rows : int or tuple of int
        Number of rows, or the shape the weights must have.
    name : str

    Returns
    -------
    ndarray of float64, shape (n,) or (0,)

    Raises
    ------
    TypeError
        As `as_float_array`.
    ValueError
        If the shape differs, if a weight is negative, NaN or infinite, or if all are zero.
    """
    if sample_weight is None:
        return NO_WEIGHT
    shape = n_rows if isinstance(n_rows, tuple) else (n_rows,)
    weight = as_float_array(sample_weight, name, dtype=FLOAT64)
    check_shape(weight, shape, name)
    weight = weight.reshape(-1)
    i = int(_first_bad_weight(weight))
    if i >= 0:
        raise ValueError(f"{name} must be finite and not negative, got {weight[i]}{_row(i, shape)}")
    if weight.size and not weight.any():
        raise ValueError(f"{name} must not be all zero, got {weight.size} zeros")
    return weight


def unit_scale(weight: Array) -> Array:
    """Return ``weight`` times the power of two that brings the largest near 1.

    A mean does not depend on the scale of its weights, and a power of two is exact; but a float32
    loss times a weight of 1e-50 or 1e50 would be lost, and a sum of weights of 1e308 is infinite.
    """
    if not weight.size:
        return weight
    with np.errstate(under="ignore"):  # beside the largest, what is lost counts for nothing
        scaled: Array = np.ldexp(weight, -np.frexp(weight.max())[1])
    return scaled


def as_class_weight(weight: ArrayLike | None, n_classes: int, dtype: np.dtype[Any]) -> Array:
    """Return one weight per class in ``dtype``, or an empty array where there are none.

    Raises
    ------
    TypeError
        As `as_float_array`.
    ValueError
        If there are not ``n_classes`` weights, or if one is negative, NaN or infinite.
    """
    if weight is None:
        return np.empty(0, dtype)
    array = as_float_array(weight, "weight", dtype=dtype)
    check_shape(array, (n_classes,), "weight")
    k = int(_first_bad_weight(array))
    if k >= 0:
        raise ValueError(f"weight must be finite and not negative, got {array[k]} for class {k}")
    return array


def check_out(out: Any, shape: Shape, dtype: np.dtype[Any], name: str = "out") -> None:
    """Refuse an array that a result of ``shape`` and ``dtype`` cannot be written to.

    Raises
    ------
    TypeError
        If ``out`` is not a plain array or is of another dtype.
    ValueError
        If ``out`` is of another shape or read-only.
    """
    if type(out) is not np.ndarray and (
        not isinstance(out, np.ndarray) or isinstance(out, (np.matrix, np.ma.MaskedArray))
    ):
        raise TypeError(f"{name} must be a numpy.ndarray, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"{name} must be of dtype {dtype}, got {out.dtype}")
    check_shape(out, shape, name)
    if not out.flags.writeable:
        raise ValueError(f"{name} must be writeable, got a read-only array")


def same_memory(x: Array, y: Array) -> bool:
    """Whether two C-contiguous arrays of one dtype and size are the same memory."""
    return x is y or (
        x.size == y.size
        and bool(x.__array_interface__["data"][0] == y.__array_interface__["data"][0])
    )


def as_real(
    value: Any, name: str, low: float = -math.inf, high: float = math.inf, closed: str = "both"
) -> float:
    """Return a real number from ``low`` to ``high`` as a float.

    Parameters
    ----------
    value : real number
    name : str
    low, high : float
    closed : {"both", "left", "right", "neither"}
        Which ends belong to the range; infinities never do.

    Raises
    ------
    TypeError
        If ``value`` is no real number.
    ValueError
        If ``value`` is outside the range, infinite or NaN.
    """
    left, right = closed in ("both", "left"), closed in ("both", "right")
    if type(value) is float or (
        isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))
    ):
        try:
            number = float(value)
        except OverflowError:  # an integer or a fraction beyond all floats
            number = math.inf
        above = low <= number if left else low < number
        below = number <= high if right else number < high
        if above and below and math.isfinite(number):
            return number
        error: type[Exception] = ValueError
    else:
        error = TypeError
    if math.isinf(low) and math.isinf(high):
        expected = "a finite number"
    elif math.isinf(high):
        expected = f"a finite number {'>=' if left else '>'} {low:g}"
    else:
        expected = f"a number in {'[' if left else '('}{low:g}, {high:g}{']' if right else ')'}"
    raise error(f"{name} must be {expected}, got {value!r}")


def as_int(value: Any, name: str, low: int | None = None) -> int:
    """Return an integer, at least ``low``.

    Raises
    ------
    TypeError
        If ``value`` is no integer.
    ValueError
        If ``value < low``.
    """
    if type(value) is int and (low is None or value >= low):
        return value
    expected = "an integer" if low is None else f"an integer >= {low}"
    if type(value) is not int and (
        isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral)
    ):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    number = int(value)
    if low is not None and number < low:
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return number


def as_positive_int(value: Any, name: str) -> int:
    """Return an integer >= 1; see `as_int`."""
    return as_int(value, name, 1)


def as_flag(value: Any, name: str) -> bool:
    """Return whether ``value`` is true.

    Raises
    ------
    TypeError
        If it is neither true nor false, as an array of several numbers.
    """
    try:
        return bool(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be True or False, got {value!r:.80}") from error


def as_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``choices``.

    Raises
    ------
    ValueError
        If it is not.
    """
    if isinstance(value, str) and value in choices:
        return value
    listed = ", ".join(repr(c) for c in choices[:-1]) + f" or {choices[-1]!r}"
    raise ValueError(f"{name} must be {listed}, got {value!r}")


def as_float_dtype(dtype: Any, name: str = "dtype") -> np.dtype[Any]:
    """Return float32 or float64 as a dtype of the machine's byte order.

    Raises
    ------
    ValueError
        If ``dtype`` is neither.
    """
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except Exception:  # NumPy raises SyntaxError, too: for "f4,,"
        found = np.dtype(object)
    if dtype is None or found not in UNIT_ROUNDOFF:
        raise ValueError(f"{name} must be 'float32' or 'float64', got {dtype!r}")
    return FLOAT32 if found == FLOAT32 else FLOAT64
