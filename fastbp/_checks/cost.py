"""The arguments of the cost, checked and laid out for its kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastbp._checks import arrays, labels, scalars

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastbp._checks.arrays import Array, Shape


class CostBatch(NamedTuple):
    """Arguments of the kernels of the cost, and the reduction of their results."""

    z: Array  # (n, n_classes)
    y: Array  # labels (n,), or target rows (n, n_classes)
    row_weight: Array  # (n,), or NO_WEIGHT
    class_weight: Array  # (n_classes,), or (0,)
    label_smoothing: float
    mean_weight: Array  # weights of the rows in the mean (n,), or NO_WEIGHT
    reduction: str
    shape: Shape  # of the logits as the caller passed them
    axes: Shape  # of the classes: one axis, from 0 on


def as_rows_of_one_axis(x: ArrayLike, name: str, axis: Any) -> tuple[Array, Shape, Shape]:
    """Return the rows, shape and axis of an array with one class axis."""
    rows, shape, axes = arrays.as_class_rows(x, name, scalars.as_int(axis, "axis"))
    if not shape:
        raise ValueError(f"{name} must have a class axis, got a scalar")
    return rows, shape, axes


def as_batch(
    z: ArrayLike,
    y: ArrayLike,
    axis: Any,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: Any,
    label_smoothing: Any,
    reduction: Any,
) -> CostBatch:
    reduction = scalars.as_choice(reduction, "reduction", ("mean", "sum", "none"))
    smoothing = scalars.as_real(label_smoothing, "label_smoothing", 0.0, 1.0)
    if ignore_index is not None:
        ignore_index = scalars.as_int(ignore_index, "ignore_index")
    rows, shape, axes = as_rows_of_one_axis(z, "z", axis)
    class_weight = labels.as_class_weight(weight, rows.shape[1], rows.dtype)
    row_weight = labels.as_row_weight(sample_weight, arrays.without_axes(shape, axes))
    y = labels.as_labels_or_targets(y, shape, rows.dtype, "y", axes[0], ignore_index)
    is_mean, mean_weight = reduction == "mean", row_weight
    if is_mean:
        if len(rows) == 0:
            raise ValueError(f"the mean is over no rows: z has shape {shape}")
        mean_weight = row_weight = labels.unit_scale(row_weight)
    if y.ndim == 1:
        if ignore_index is not None:
            # Kernels leave out what weighs nothing, and take any label there.
            is_there = y >= 0
            if is_mean and not is_there.any():
                raise ValueError("the mean is over no rows: every label is ignore_index")
            row_weight = np.where(is_there, row_weight if row_weight.size else 1.0, 0.0)
            y = np.maximum(y, 0)
        class_weight = labels.unit_scale(class_weight) if is_mean else class_weight
        mean_weight = row_weight
        if class_weight.size:
            mean_weight = class_weight.astype(np.float64)[y]
            if row_weight.size:
                with np.errstate(all="ignore"):
                    mean_weight *= row_weight
        if smoothing == 0:
            # One class counts in each row: its weight joins the row's.
            row_weight, class_weight = mean_weight, class_weight[:0]
    return CostBatch(
        rows, y, row_weight, class_weight, smoothing, mean_weight, reduction, shape, axes
    )
