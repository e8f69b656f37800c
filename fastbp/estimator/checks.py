"""The arguments of `MLPClassifier`, checked as scikit-learn does."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state, column_or_1d, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, validate_data

from fastbp._checks.arrays import refuse_mask
from fastbp._checks.scalars import as_real
from fastbp.estimator.data import Rows, hold_out
from fastbp.estimator.epochs import new_schedule
from fastbp.optimizers import check_epsilon

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


class Validation(NamedTuple):
    """The validation rows that `fit` is given."""

    X_val: Any = None
    y_val: ArrayLike | None = None
    sample_weight_val: ArrayLike | None = None


class Checked(NamedTuple):
    """What `check_fit` makes of the arguments."""

    X: Any
    y: Array
    sample_weight: Array | None
    rows: Rows
    validation: Rows | None
    classes: Array
    layer_sizes: list[int]
    random_state: np.random.RandomState
    is_first: bool  # whether to start from random weights


def check_fit(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: ArrayLike | None,
    validation: Validation,
    incremental: bool,
) -> Checked:
    """Check everything that can be wrong before training."""
    hidden = as_hidden_sizes(estimator.hidden_layer_sizes)
    _check_parameters(estimator, incremental)
    refuse_masks(X=X, y=y, sample_weight=sample_weight, **validation._asdict())
    is_first = not hasattr(estimator, "coefs_") or not (estimator.warm_start or incremental)
    dtype = (np.float64, np.float32) if is_first else estimator.coefs_[0].dtype
    how = {"accept_sparse": "csr", "dtype": dtype, "order": "C", "multi_output": True}
    X, y = validated(estimator, X, y, reset=is_first, **how)
    y, classes = check_labels(estimator, y, incremental)
    weight = check_sample_weight(sample_weight, X)
    row_weight = weigh_classes(estimator.class_weight, weight, y, classes)
    rows = Rows(X, np.searchsorted(classes, y), row_weight)
    held_out = check_validation(estimator, validation, classes, X.dtype)
    sizes = [X.shape[1], *hidden, len(classes)]
    random_state = check_random_state(estimator.random_state)
    if not is_first:
        _check_sizes(estimator, sizes)
    if estimator.solver != "lbfgs":
        check_epsilon(new_schedule(estimator).options(estimator.alpha), X.dtype)
        if estimator.early_stopping and held_out is None:
            # A rehearsal, without the rows: it should fail before anything is changed.
            nothing = Rows(np.empty((len(y), 0)), rows.labels, row_weight)
            generator = np.random.RandomState(0)
            hold_out(nothing, len(classes), estimator.validation_fraction, generator)
    return Checked(X, y, weight, rows, held_out, classes, sizes, random_state, is_first)


def _check_parameters(estimator: Any, incremental: bool) -> None:
    if incremental and estimator.early_stopping:
        raise ValueError("partial_fit does not support early_stopping=True")
    if incremental and estimator.class_weight == "balanced":
        raise ValueError(
            "class_weight 'balanced' is not supported for partial_fit, which does not see all "
            "rows at once. Compute the weights with sklearn.utils.compute_class_weight and "
            "give them as a dict"
        )
    as_real(estimator.alpha, "alpha", 0.0)


def check_coefficients(estimator: Any) -> None:
    """Raise unless ``coefs_`` and ``intercepts_`` make a network for the features and classes."""
    coefs, intercepts = estimator.coefs_, estimator.intercepts_
    if len(intercepts) != len(coefs):
        raise ValueError(f"intercepts_ must hold {len(coefs)} arrays, got {len(intercepts)}")
    fan_in, last = estimator.n_features_in_, len(coefs) - 1
    for l, (w, b) in enumerate(zip(coefs, intercepts, strict=True)):
        shape = np.shape(w)
        is_free = l < last and len(shape) == 2
        units = shape[1] if is_free else estimator.n_outputs_ if l == last else np.size(b)
        for name, found, expected in (
            (f"coefs_[{l}]", shape, (fan_in, units)),
            (f"intercepts_[{l}]", np.shape(b), (units,)),
        ):
            if found != expected:
                raise ValueError(f"{name} must have shape {expected}, got {found}")
        fan_in = units


def _check_sizes(estimator: Any, sizes: list[int]) -> None:
    check_coefficients(estimator)
    earlier = [*layer_sizes(estimator.coefs_)[:-1], len(estimator.classes_)]
    if sizes != earlier:
        raise ValueError(
            "hidden_layer_sizes must be as in the first call, whose layers have the sizes "
            f"{earlier}, got {sizes}"
        )
    if not all(np.isfinite(p).all() for p in (*estimator.coefs_, *estimator.intercepts_)):
        raise ValueError("coefs_ and intercepts_ must be finite, got some that are infinite or NaN")


def layer_sizes(coefs: list[Array]) -> list[int]:
    """Return the units of each layer, the features first."""
    return [int(np.shape(coefs[0])[0]), *(int(np.shape(w)[1]) for w in coefs)]


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
    if not checked.any():  # scikit-learn itself asks for it from 1.9 on
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return checked


def weigh_classes(class_weight: Any, weight: Array | None, y: Array, classes: Array) -> Array:
    """Return the weights times those of the classes; empty where every row weighs 1."""
    if class_weight is None:
        return np.empty(0) if weight is None else weight
    if class_weight == "balanced":
        # Rows of weight 0 do not count.
        there = slice(None) if weight is None else weight > 0
        present, of_row = np.unique(y[there], return_inverse=True)
        totals = np.bincount(of_row, None if weight is None else weight[there])
        weight_of = np.ones(len(classes))
        weight_of[np.searchsorted(classes, present)] = totals.sum() / (len(present) * totals)
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
    validation: Validation,
    classes: Array,
    dtype: np.dtype[Any],
) -> Rows | None:
    """Return the validation rows, if there are any."""
    X_val, y_val, sample_weight_val = validation
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
    return Rows(X_val, np.searchsorted(classes, labels), np.empty(0) if weight is None else weight)


def validated(*arguments: Any, **options: Any) -> Any:
    """Call scikit-learn's check of X and y, which converts and sums them."""
    with np.errstate(all="ignore"):  # it looks at the result
        return validate_data(*arguments, **options)
