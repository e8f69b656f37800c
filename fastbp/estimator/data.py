"""What `MLPClassifier` is given, checked as scikit-learn does, and laid out for the engine."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import column_or_1d, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, validate_data

from fastbp._checks.arrays import as_writeable_view, refuse_mask
from fastbp.backprop import state

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


def as_hidden_sizes(hidden_layer_sizes: Any) -> list[int]:
    """Return the units of each hidden layer."""
    sizes = np.atleast_1d(np.array(hidden_layer_sizes, dtype=object))
    if sizes.size == 0:
        return []
    # One by one: among integers, NumPy would make a number of True.
    are_integers = [isinstance(n, Integral) and not isinstance(n, bool) for n in sizes.flat]
    if sizes.ndim != 1 or not all(are_integers):
        raise ValueError(
            f"hidden_layer_sizes must be integers, one per layer, got {hidden_layer_sizes!r}"
        )
    if min(sizes) <= 0:
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes.tolist()}.")
    return [int(units) for units in sizes]


def refuse_masks(**arrays: Any) -> None:
    """Refuse arrays with masked values, whose masks scikit-learn drops."""
    for name, array in arrays.items():
        refuse_mask(array, name)


def check_labels(estimator: Any, y: Array, incremental: bool) -> tuple[Array, Array]:
    """Return the labels, one a row, and all classes."""
    check_classification_targets(y)
    kind = type_of_target(y)
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            "y must hold one label a row, for the softmax output gives one class a row, "
            f"got a {kind} y of shape {y.shape}"
        )
    y = column_or_1d(y, warn=True)
    found = np.unique(y)
    if not hasattr(estimator, "classes_") or not (estimator.warm_start or incremental):
        return y, found
    classes = estimator.classes_
    if estimator.warm_start:
        if set(found) != set(classes):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the "
                f"previous call to fit. Previously got {classes}, `y` has {found}"
            )
    elif len(np.setdiff1d(found, classes, assume_unique=True)):
        raise ValueError(
            "`y` has classes not in `self.classes_`. "
            f"`self.classes_` has {classes}. 'y' has {found}."
        )
    return y, classes


def check_sample_weight(sample_weight: ArrayLike | None, X: Any) -> Array | None:
    """Return the weights as they are given, or None."""
    if sample_weight is None:
        return None
    checked: Array = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    return checked


def weigh_classes(class_weight: Any, weight: Array | None, y: Array, classes: Array) -> Array:
    """Return the weights times those of the classes; empty where every row weighs 1."""
    if class_weight is None:
        return np.empty(0) if weight is None else weight
    if class_weight == "balanced":
        # A row that weighs 0 is not there, nor is a class of nothing but such rows.
        there = slice(None) if weight is None else weight > 0
        present, weight_of = np.unique(y[there]), np.ones(len(classes))
        weight_of[np.searchsorted(classes, present)] = compute_class_weight(
            "balanced",
            classes=present,
            y=y[there],
            sample_weight=None if weight is None else weight[there],
        )
    else:
        weight_of = compute_class_weight(class_weight, classes=classes, y=y)
    bad = np.flatnonzero(~(weight_of >= 0) | np.isinf(weight_of))
    if len(bad):
        raise ValueError(
            f"class_weight must be finite and not negative, got {weight_of[bad[0]]} for class "
            f"{classes[bad[0]]}"
        )
    row_weight: Array = weight_of[np.searchsorted(classes, y)]
    if weight is not None:
        row_weight = row_weight * weight
    if not row_weight.any():
        raise ValueError(
            f"class_weight, times sample_weight, must not be all zero, got {len(row_weight)} zeros"
        )
    return row_weight


def check_validation(
    estimator: Any,
    X_val: Any,
    y_val: ArrayLike | None,
    sample_weight_val: ArrayLike | None,
    classes: Array,
    dtype: np.dtype[Any],
) -> tuple[Any, Array, Array] | None:
    """Return the validation rows, their labels' numbers and their weights, if there are any."""
    if X_val is None and y_val is None:
        if sample_weight_val is not None:
            raise ValueError("sample_weight_val is provided, but X_val was not provided.")
        return None
    if y_val is None:
        raise ValueError("X_val is provided, but y_val was not provided.")
    if X_val is None:
        raise ValueError("y_val is provided, but X_val was not provided.")
    if estimator.solver == "lbfgs":
        raise ValueError("X_val is only for solver='sgd' and 'adam', got solver='lbfgs'")
    X_val, labels = validated(
        estimator, X_val, y_val, accept_sparse="csr", dtype=dtype, order="C", reset=False
    )
    unknown = np.setdiff1d(labels, classes)
    if len(unknown):
        raise ValueError(f"y_val must hold labels of y, {classes}, got {unknown}")
    weight = check_sample_weight(sample_weight_val, X_val)
    return X_val, np.searchsorted(classes, labels), np.empty(0) if weight is None else weight


def hold_out(
    X: Any,
    labels: Array,
    row_weight: Array,
    n_classes: int,
    fraction: float,
    random_state: np.random.RandomState,
) -> tuple[Any, Array, Array, tuple[Any, Array, Array]]:
    """Split validation rows off, as scikit-learn does: of two classes, stratified."""
    rows = np.arange(len(labels))
    rows, rows_val = train_test_split(
        rows,
        random_state=random_state,
        test_size=fraction,
        # a column, for which the error names the class as scikit-learn's own does
        stratify=(labels == 1)[:, np.newaxis] if n_classes == 2 else None,
    )
    if len(rows_val) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your "
            "dataset."
        )
    if len(row_weight):
        return (
            X[rows],
            labels[rows],
            row_weight[rows],
            (X[rows_val], labels[rows_val], row_weight[rows_val]),
        )
    return X[rows], labels[rows], row_weight, (X[rows_val], labels[rows_val], row_weight)


def validated(*arguments: Any, **options: Any) -> Any:
    """Call scikit-learn's check of X and y, which converts and sums them."""
    with np.errstate(all="ignore"):  # it looks at the result
        return validate_data(*arguments, **options)


def as_data(X: Any, labels: Array, row_weight: Array) -> state.Data:
    """Lay dense or sparse rows out for the engine; copies nothing that is right already."""
    row_weight = as_writeable_view(row_weight)
    if isinstance(X, np.ndarray):
        return state.make_data(as_writeable_view(X), labels, None, row_weight)
    if not X.has_canonical_format:
        X = X.copy()  # the caller's stays as it is
        X.sum_duplicates()
    starts, columns = (index.astype(np.intp, copy=False) for index in (X.indptr, X.indices))
    rows = (
        np.empty((0, X.shape[1]), X.dtype),
        as_writeable_view(starts),
        as_writeable_view(columns),
        as_writeable_view(X.data),
    )
    return state.make_data(rows, labels, None, row_weight)
