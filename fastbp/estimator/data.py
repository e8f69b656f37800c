"""The rows that `MLPClassifier` learns from, laid out for training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

from fastbp._checks.arrays import as_writeable_view
from fastbp.backprop import state

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class Rows(NamedTuple):
    """Dense or sparse rows, the numbers of their classes, and their weights."""

    X: Any
    labels: Array
    weight: Array  # empty where every row weighs 1

    def take(self, rows: Array) -> Rows:
        """Return some of the rows."""
        weight = self.weight[rows] if len(self.weight) else self.weight
        return Rows(self.X[rows], self.labels[rows], weight)


def hold_out(
    rows: Rows, n_classes: int, fraction: float, random_state: np.random.RandomState
) -> tuple[Rows, Rows]:
    """Split validation rows off, as scikit-learn does: of two classes, stratified."""
    train, validation = train_test_split(
        np.arange(len(rows.labels)),
        random_state=random_state,
        test_size=fraction,
        # a column, for which the error names the class as scikit-learn's own does
        stratify=(rows.labels == 1)[:, np.newaxis] if n_classes == 2 else None,
    )
    if len(validation) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your "
            "dataset."
        )
    return rows.take(train), rows.take(validation)


def lay_out(rows: Rows) -> state.Data:
    """Return the rows as steps take them; copies nothing that is right already."""
    X, labels, _ = rows
    weight = as_writeable_view(rows.weight)
    if isinstance(X, np.ndarray):
        return state.Data(as_writeable_view(X), None, labels, None, weight)
    nothing = np.empty((0, X.shape[1]), X.dtype)
    return state.Data(nothing, sparse_rows(X), labels, None, weight)


def sparse_rows(X: Any) -> state.SparseRows:
    """Return a CSR matrix as compiled code takes it; copies nothing that is right already."""
    if not X.has_canonical_format:
        X = X.copy()  # leaves the caller's as it is
        X.sum_duplicates()
    starts, columns = (index.astype(np.intp, copy=False) for index in (X.indptr, X.indices))
    starts, columns, values = map(as_writeable_view, (starts, columns, X.data))
    return state.make_sparse_rows(starts, columns, values, X.shape[1])
