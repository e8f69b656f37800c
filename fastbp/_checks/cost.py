"""The arguments of the cost, checked: what its kernels read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastbp._checks import arrays, labels, scalars

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastbp._checks.arrays import Array, Shape


class CostBatch(NamedTuple):
    """What the kernels of the cost read, and how their results are reduced."""

    z: Array  # (n, n_classes)
    y: Array  # labels (n,), or target rows (n, n_classes)
    row_weight: Array  # (n,), or NO_WEIGHT
    class_weight: Array  # (n_classes,), or (0,)
    label_smoothing: float
    mean_weight: Array  # weights of the rows in the mean (n,), or NO_WEIGHT
    reduction: str
    shape: Shape  # of the logits as they were given
    axis: int  # of the classes, from 0 on

    def row_shape(self) -> Shape:
        return without_axis(self.shape, self.axis)


def without_axis(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


def as_rows_of_one_axis(x: ArrayLike, name: str, axis: Any) -> tuple[Array, Shape, int]:
    """Return what `arrays.as_class_rows` does, of an array with one class axis."""
    rows, shape, axes = arrays.as_class_rows(x, name, scalars.as_int(axis, "axis"))
    if not shape:
        raise ValueError(f"{name} must have a class axis, got a scalar")
    return rows, shape, axes[0]


def as_cost_batch(
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
    rows, shape, axis = as_rows_of_one_axis(z, "z", axis)
    class_weight = labels.as_class_weight(weight, rows.shape[1], rows.dtype)
    row_shape = without_axis(shape, axis)
    row_weight = labels.as_sample_weight(sample_weight, row_shape, "sample_weight")
    y = labels.as_labels_or_targets(y, shape, rows.dtype, "y", axis, ignore_index)
    if reduction == "mean":
        if len(rows) == 0:
            raise ValueError(f"the mean is over no rows: z has shape {shape}")
        row_weight = labels.unit_scale(row_weight)
    mean_weight = row_weight
    if y.ndim == 1:
        if ignore_index is not None:
            row_weight = np.where(y >= 0, row_weight if row_weight.size else 1.0, 0.0)
        if reduction == "mean":
            class_weight = labels.unit_scale(class_weight)
        mean_weight = _times_class_weight(row_weight, class_weight, y)
        if smoothing == 0:
            # One class counts in each row, so its weight is the row's.
            row_weight, class_weight = mean_weight, class_weight[:0]
    return CostBatch(
        rows, y, row_weight, class_weight, smoothing, mean_weight, reduction, shape, axis
    )


def _times_class_weight(row_weight: Array, class_weight: Array, y: Array) -> Array:
    """Return the weights of the rows times those of their labels."""
    if not class_weight.size:
        return row_weight
    weight = class_weight.astype(np.float64)[y]
    return weight * row_weight if row_weight.size else weight
