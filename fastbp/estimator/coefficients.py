"""A classifier's network, and ``coefs_`` and ``intercepts_``, which are views of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp._checks.arrays import check_shape
from fastbp.estimator.checks import Checked, layer_sizes
from fastbp.estimator.parameters import ACTIVATIONS, Parameters
from fastbp.network import Network
from fastbp.training.random import glorot_bound

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

# Sparse rows to make dense at a time
_DENSE_ROWS = 1024


class Coefficients(Parameters):
    """An estimator with a network, whose coefficients may be written or replaced."""

    classes_: Array
    coefs_: list[Array]
    intercepts_: list[Array]
    loss_curve_: list[float]
    # None until validation rows fill them
    validation_scores_: Any
    validation_loss_curve_: Any
    best_loss_: Any
    best_validation_score_: Any

    def _begin(self, checked: Checked) -> Network:
        """Have a network ready: a new one, or that of the last call."""
        self._random_state = checked.random_state
        if checked.is_first:
            self.classes_ = checked.classes
            self._initialize(checked.layer_sizes, checked.X.dtype)
        return self._synced_network()

    def _initialize(self, sizes: list[int], dtype: np.dtype[Any]) -> None:
        """Begin anew, from random weights: those of scikit-learn, drawn in the same order."""
        self._network = Network(sizes, activation=ACTIVATIONS[self.activation], dtype=dtype)
        factor = 2.0 if self.activation == "logistic" else 6.0
        for w, b in zip(self._network.weights, self._network.biases, strict=True):
            bound = glorot_bound(w, factor)
            w[:] = self._random_state.uniform(-bound, bound, w.shape)
            b[:] = self._random_state.uniform(-bound, bound, b.shape)
        self.coefs_ = list(self._network.weights)
        self.intercepts_ = list(self._network.biases)
        self.n_iter_ = self.t_ = self._no_improvement_count = 0
        self.n_layers_, self.n_outputs_ = len(sizes), sizes[-1]
        self.out_activation_ = "softmax"
        self.loss_curve_ = []
        self.best_loss_ = self.best_validation_score_ = None
        self.validation_scores_ = self.validation_loss_curve_ = None

    def _synced_network(self) -> Network:
        """The network, after it has taken over arrays that were put into ``coefs_``."""
        network = getattr(self, "_network", None)
        sizes = layer_sizes(self.coefs_)
        activation = ACTIVATIONS[self.activation]
        if (
            network is None
            or list(network.layer_sizes) != sizes
            or network.activation != activation
        ):
            network = Network(sizes, activation=activation, dtype=self.coefs_[0].dtype)
        for name, views in (("coefs_", network.weights), ("intercepts_", network.biases)):
            arrays = getattr(self, name)
            if len(arrays) != len(views):
                raise ValueError(f"{name} must hold {len(views)} arrays, got {len(arrays)}")
            for q, (array, view) in enumerate(zip(arrays, views, strict=True)):
                if array is not view:
                    check_shape(np.asarray(array), view.shape, f"{name}[{q}]")
                    with np.errstate(over="ignore"):
                        view[:] = array
        self._network = network
        self.coefs_, self.intercepts_ = list(network.weights), list(network.biases)
        return network

    def __getstate__(self) -> dict[str, Any]:
        """Return all attributes but ``coefs_`` and ``intercepts_``, which the network has."""
        if hasattr(self, "coefs_"):
            self._synced_network()
        state = dict(super().__getstate__())
        for name in ("coefs_", "intercepts_"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild ``coefs_`` and ``intercepts_`` as views."""
        super().__setstate__(state)
        if hasattr(self, "_network"):
            self.coefs_ = list(self._network.weights)
            self.intercepts_ = list(self._network.biases)

    def _logits(self, network: Network, X: Any) -> Array:
        if isinstance(X, np.ndarray):
            return network.logits(X, n_threads=self.n_threads)
        z = np.empty((X.shape[0], self.n_outputs_), network.dtype)
        for first in range(0, X.shape[0], _DENSE_ROWS):
            rows = slice(first, first + _DENSE_ROWS)
            z[rows] = network.logits(X[rows].toarray(), n_threads=self.n_threads)
        return z
