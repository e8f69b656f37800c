"""A classifier's network, and ``coefs_`` and ``intercepts_``, which are views of it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp.estimator.checks import Checked, check_coefficients, layer_sizes
from fastbp.estimator.data import sparse_rows
from fastbp.estimator.parameters import ACTIVATIONS, Parameters
from fastbp.network import Network
from fastbp.training.random import glorot_bound

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def views_of(network: Network) -> dict[str, Any]:
    """Return a network and its parameters as scikit-learn has them, by the attributes' names."""
    coefs, intercepts = list(network.weights), list(network.biases)
    if network.layer_sizes[-1] == 2:
        coefs[-1], intercepts[-1] = coefs[-1][:, 1:], intercepts[-1][1:]
    views = coefs.copy(), intercepts.copy()
    return {"_network": network, "coefs_": coefs, "intercepts_": intercepts, "_views": views}


def _n_outputs(n_classes: int) -> int:
    """Count the output units: of two classes, scikit-learn has one."""
    return 1 if n_classes == 2 else n_classes


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
    _network: Network
    _views: tuple[list[Array], list[Array]]

    def _begin(self, checked: Checked) -> Network:
        """Have a network ready: a new one, or that of the last call."""
        self._random_state = checked.random_state
        if checked.is_first:
            self.classes_ = checked.classes
            self._initialize(checked.layer_sizes, checked.X.dtype)
        return self._synced_network()

    def _initialize(self, sizes: list[int], dtype: np.dtype[Any]) -> None:
        """Begin anew, from random weights: those of scikit-learn, drawn in the same order."""
        self._take(self._new_network(sizes, dtype))
        factor = 2.0 if self.activation == "logistic" else 6.0
        for w, b in zip(self.coefs_, self.intercepts_, strict=True):
            bound = glorot_bound(w, factor)
            w[:] = self._random_state.uniform(-bound, bound, w.shape)
            b[:] = self._random_state.uniform(-bound, bound, b.shape)
        self.n_iter_ = self.t_ = self._no_improvement_count = 0
        self.loss_curve_ = []
        self.best_loss_ = self.best_validation_score_ = None
        self.validation_scores_ = self.validation_loss_curve_ = None

    def _new_network(self, sizes: list[int], dtype: np.dtype[Any]) -> Network:
        """Make a network with logits 0 and z where there is one output unit for two classes."""
        n_fixed = sizes[-1] - _n_outputs(sizes[-1])
        network = Network.__new__(Network)
        network._allocate(tuple(sizes), ACTIVATIONS[self.activation], dtype, 0, n_fixed=n_fixed)
        return network

    def _take(self, network: Network) -> None:
        """Have a network, and show its parameters as scikit-learn has them."""
        n_classes = network.layer_sizes[-1]
        self.n_layers_, self.n_outputs_ = len(network.layer_sizes), _n_outputs(n_classes)
        self.out_activation_ = "logistic" if n_classes == 2 else "softmax"
        self.__dict__.update(views_of(network))

    def _synced_network(self) -> Network:
        """The network, after it has taken over arrays that were put into ``coefs_``."""
        check_coefficients(self)
        given = self.coefs_, self.intercepts_
        sizes = [*layer_sizes(self.coefs_)[:-1], len(self.classes_)]
        network = self._network
        is_same = list(network.layer_sizes) == sizes
        if not is_same or network.activation != ACTIVATIONS[self.activation]:
            network = self._new_network(sizes, self.coefs_[0].dtype)
            self._take(network)
        for arrays, views in zip(given, self._views, strict=True):
            for array, view in zip(arrays, views, strict=True):
                if array is not view:
                    with np.errstate(over="ignore"):
                        view[:] = array
        self.coefs_, self.intercepts_ = map(list, self._views)
        return network

    def _fitted_attributes(self) -> dict[str, Any]:
        """Return what a copy of the estimator needs to predict as this one would now."""
        return views_of(copy.copy(self._network))

    @property
    def network_(self) -> Network:
        """The trained `Network`: class k is ``classes_[k]``.

        Of two classes it has both logits, of which the first stays 0.  It is the classifier's own:
        what is written to its parameters is seen in ``coefs_``.
        """
        if not hasattr(self, "classes_"):
            raise AttributeError("network_ is there after fit")
        return self._synced_network()

    def __getstate__(self) -> dict[str, Any]:
        """Return all attributes but ``coefs_`` and ``intercepts_``, which the network has."""
        if hasattr(self, "coefs_"):
            self._synced_network()
        state = dict(super().__getstate__())
        for name in ("coefs_", "intercepts_", "_views"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild ``coefs_`` and ``intercepts_`` as views."""
        super().__setstate__(state)
        if hasattr(self, "_network"):
            self._take(self._network)

    def _logits(self, network: Network, X: Any) -> Array:
        if isinstance(X, np.ndarray):
            return network.logits(X, n_threads=self.n_threads)
        return network._predictor.logits(sparse_rows(X), self.n_threads)
