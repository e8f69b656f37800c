"""Class labels, target rows, and the weights of rows and classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp._checks import arrays
from fastbp._checks.arrays import FLOAT32, FLOAT64, INTP, UNIT_ROUNDOFF, check_shape, without_axes
from fastbp._compile import kernel

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastbp._checks.arrays import Array, Shape

# For kernels: every row weighs one.
NO_WEIGHT: NDArray[np.float64] = np.empty(0, FLOAT64)
_LIMITS = np.iinfo(INTP)


# Compiled: two NumPy reductions over 128 labels cost more than the cross-entropy of 128 rows.


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
def _first_bad_weight(weight: Any, is_signed: Any) -> Any:
    for i in range(weight.shape[0]):
        size = abs(weight[i]) if is_signed else weight[i]
        if not (size >= 0 and size < np.inf):
            return i
    return -1


@kernel
def _first_bad_target(y: Any, tolerance: Any) -> Any:
    n_classes = y.shape[1]
    for i in range(y.shape[0]):
        row = y[i]
        n_negative = 0
        for k in range(n_classes):
            n_negative += row[k] < 0
        # Four running sums: one would wait for each addition before the next.
        s0 = s1 = s2 = s3 = 0.0
        for q in range(n_classes // 4):
            s0 += row[4 * q]
            s1 += row[4 * q + 1]
            s2 += row[4 * q + 2]
            s3 += row[4 * q + 3]
        for k in range(n_classes - n_classes % 4, n_classes):
            s0 += row[k]
        total = (s0 + s1) + (s2 + s3)  # NaN if an entry is NaN
        if n_negative > 0 or not abs(total - 1.0) <= tolerance:
            return i
    return -1


def _in_row(i: int, shape: Shape) -> str:
    """Return the words that name row ``i`` of ``shape`` in a message."""
    if not shape:
        return ""
    row = i if len(shape) == 1 else tuple(int(q) for q in np.unravel_index(i, shape))
    return f" in row {row}"


def as_labels(
    y: ArrayLike, shape: Shape, n_classes: int, name: str, ignore_index: int | None = None
) -> Array:
    """Return labels of ``shape`` as a flat intp array, -1 where the label is ``ignore_index``."""
    if type(y) is np.ndarray and y.dtype is INTP and y.flags.carray and ignore_index is None:
        if y.shape == shape and y.ndim == 1 and first_label_outside(y, n_classes) < 0:
            return y
    given = y if type(y) is np.ndarray else arrays.as_base_array(y, name)
    check_shape(given, shape, name)
    if given.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integer labels, got dtype {given.dtype}")
    bad = -1
    if not np.can_cast(given.dtype, INTP):
        # The conversion to intp would change integers beyond its limits.
        outside = (given > _LIMITS.max) | (given < _LIMITS.min)
        bad = int(np.argmax(outside)) if outside.any() else -1
    labels = arrays.as_contiguous(given, INTP).reshape(-1)
    if bad < 0:
        if ignore_index is None or not _LIMITS.min <= ignore_index <= _LIMITS.max:
            bad = int(first_label_outside(labels, n_classes))
        else:
            labels, given_labels = np.empty_like(labels), labels
            bad = int(_mark_ignored(given_labels, n_classes, ignore_index, labels))
    if bad >= 0:
        value = given.reshape(-1)[bad]
        raise ValueError(
            f"{name} must hold labels from 0 to {n_classes - 1}, got {value}{_in_row(bad, shape)}"
        )
    return labels


def as_targets(
    y: ArrayLike, shape: Shape, dtype: np.dtype[Any], name: str, axis: int = -1
) -> Array:
    """Return target rows (one-hot or probabilities) of ``shape`` as a plain array (n, n_classes).

    The sum of a row may differ from 1 by 8 n_classes unit roundoffs of float32, at least by 1e-5:
    rows that went through float32, JSON or a table of six digits are probabilities, too.
    """
    array = y if arrays.is_plain(y) else arrays.as_numeric(y, name, small=True)
    check_shape(array, shape, name)
    rows, _, axes = arrays.as_class_rows(array, name, axis, dtype=dtype)
    tolerance = max(1e-5, 8 * rows.shape[1] * UNIT_ROUNDOFF[FLOAT32])
    i = int(_first_bad_target(rows, tolerance))
    if i >= 0:
        row, where = rows[i], _in_row(i, without_axes(shape, axes))
        if np.isnan(row).any() or (row < 0).any():
            raise ValueError(f"{name} must hold probabilities, got {row.min()}{where}")
        total = math.fsum(row)
        raise ValueError(f"{name} must hold rows that sum to 1, got a sum of {total}{where}")
    return rows


def as_labels_or_targets(
    y: ArrayLike,
    shape: Shape,
    dtype: np.dtype[Any],
    name: str,
    axis: int = -1,
    ignore_index: int | None = None,
) -> Array:
    """Return target rows (2-D) if ``y`` has as many dimensions as ``shape``, else labels (1-D).

    ``shape`` is that of the logits, with the classes along ``axis``.
    """
    y = arrays.as_array(y, name)
    axis %= len(shape)
    labels_shape = without_axes(shape, (axis,))
    if y.ndim not in (len(labels_shape), len(shape)):
        raise ValueError(f"{name} must have shape {labels_shape} or {shape}, got {y.shape}")
    if y.ndim == len(shape):
        if y.shape[axis] == 1 != shape[axis]:  # a column of labels
            raise ValueError(f"{name} must have shape {labels_shape}, got {y.shape}")
        if ignore_index is not None:
            raise ValueError(f"ignore_index must be None with target rows, got {ignore_index}")
        return as_targets(y, shape, dtype, name, axis)
    return as_labels(y, labels_shape, shape[axis], name, ignore_index)


def as_row_weight(sample_weight: ArrayLike | None, shape: Shape, is_signed: bool = True) -> Array:
    """Return the weights of rows as flat float64; `NO_WEIGHT` for None."""
    if sample_weight is None:
        return NO_WEIGHT
    weight = arrays.as_float_array(sample_weight, "sample_weight", dtype=FLOAT64)
    check_shape(weight, shape, "sample_weight")
    weight = weight.reshape(-1)
    i = int(_first_bad_weight(weight, is_signed))
    if i >= 0:
        expected = "finite" if is_signed else "finite and not negative"
        raise ValueError(f"sample_weight must be {expected}, got {weight[i]}{_in_row(i, shape)}")
    return weight


def as_class_weight(weight: ArrayLike | None, n_classes: int, dtype: np.dtype[Any]) -> Array:
    """Return one weight per class in ``dtype``; an empty array for None."""
    if weight is None:
        return np.empty(0, dtype)
    array = arrays.as_float_array(weight, "weight", dtype=dtype)
    check_shape(array, (n_classes,), "weight")
    k = int(_first_bad_weight(array, True))
    if k >= 0:
        raise ValueError(f"weight must be finite, got {array[k]} for class {k}")
    return array


def unit_scale(weight: Array) -> Array:
    """Return ``weight`` times the power of two that brings the largest weight near 1.

    A mean does not depend on the scale of its weights, and a power of two is exact.  Without the
    scale, a float32 loss times 1e-50 would vanish, and a sum of weights of 1e308 would be infinite.
    """
    if not weight.size:
        return weight
    with np.errstate(under="ignore"):  # negligible beside the largest weight
        scaled: Array = np.ldexp(weight, -np.frexp(abs(weight).max())[1])
    return scaled
