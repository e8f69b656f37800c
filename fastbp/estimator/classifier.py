"""MLPClassifier: the scikit-learn face of `Network`."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call
from sklearn.utils.validation import check_is_fitted

from fastbp import kernels
from fastbp._checks.scalars import as_real
from fastbp.estimator import file as classifier_file
from fastbp.estimator.callbacks import CallbackTasks
from fastbp.estimator.data import (
    as_data,
    as_hidden_sizes,
    check_labels,
    check_sample_weight,
    check_validation,
    hold_out,
    refuse_masks,
    validated,
    weigh_classes,
)
from fastbp.estimator.epochs import fit_epochs, new_schedule
from fastbp.estimator.lbfgs import fit_lbfgs
from fastbp.network import Network
from fastbp.optimizers import check_epsilon

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastbp._atomic import StrPath

    Array = NDArray[Any]

_ACTIVATIONS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
_STOCHASTIC = ("sgd", "adam")

# Sparse rows that are made dense at a time to be predicted.
_DENSE_ROWS = 1024


def _is_stochastic(estimator: MLPClassifier) -> bool:
    if estimator.solver not in _STOCHASTIC:
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. "
            f"{estimator.solver} is not stochastic."
        )
    return True


class MLPClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Multi-layer perceptron classifier, with the parameters of scikit-learn's.

    Hidden layers apply ``activation``, the output layer the softmax, for two classes as for any
    other number; training minimises the cross-entropy plus ``0.5 alpha ||W||^2 / n``, n being the
    rows of a batch.  With three or more classes and the same ``random_state`` it starts from the
    weights, goes through the rows in the order and stops by the rules of
    ``sklearn.neural_network.MLPClassifier``, and so ends at the same coefficients but for rounding.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(100,)
        Units per hidden layer; ``()`` for none: multinomial logistic regression.
    activation : {"identity", "logistic", "tanh", "relu"}, default="logistic"
        What hidden layers apply.
    solver : {"lbfgs", "sgd", "adam"}, default="adam"
        "sgd" is gradient descent with momentum, "lbfgs" SciPy's quasi-Newton method on all rows at
        once, in float64.
    alpha : float, default=0.0001
        Strength of the L2 penalty on the weights, divided by the rows (by the weight) of a batch.
    batch_size : int or "auto", default="auto"
        Rows per step; "auto" is ``min(200, n_samples)``.
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        Of "sgd": constant; ``learning_rate_init / (t + 1) ** power_t`` after t rows; or divided by
        5 whenever ``n_iter_no_change`` epochs have brought less than ``tol``.
    learning_rate_init : float, default=0.001
        Learning rate, or the first of them.
    power_t : float, default=0.5
        Exponent of "invscaling".
    max_iter : int, default=200
        Epochs at most; iterations of "lbfgs".
    shuffle : bool, default=True
        Whether to take the rows in another order in each epoch.
    random_state : int, RandomState instance or None, default=None
        Decides the first weights, the validation rows and the order of the rows.
    tol : float, default=1e-4
        What the loss has to fall by, or the validation score to rise by, for an epoch to count.
        For "lbfgs" the largest entry of the gradient to stop at.
    verbose : bool or int, default=False
        Whether to print the loss of each epoch.
    warm_start : bool, default=False
        Whether `fit` goes on from the last solution.
    momentum : float, default=0.9
        Of "sgd", between 0 and 1.
    nesterovs_momentum : bool, default=True
        Whether the momentum of "sgd" is Nesterov's.
    early_stopping : bool, default=False
        Whether to hold rows out (or to take ``X_val``, see `fit`), stop when their score no longer
        rises, and keep the parameters of the best score.
    validation_fraction : float, default=0.1
        Share of the rows to hold out; of two classes, stratified.
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay of Adam's moments.
    epsilon : float, default=1e-8
        Added to the square root of Adam's second moment, before the correction of its bias.
    n_iter_no_change : int or inf, default=10
        Epochs without success after which to stop.
    max_fun : int, default=15000
        Evaluations of the cost by "lbfgs" at most.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, by label; "balanced" makes all classes weigh the same.
    n_threads : int or None, default=None
        Threads to compute with, at most; None for as many as the process may use.  The result is
        the same, to the last bit, for any number.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coefs_, intercepts_ : list of ndarray
        Weights (fan_in, fan_out) and biases (fan_out,) of each layer; in the dtype of X.  Written
        in place or replaced, they change the predictions.
    loss_ : float
        Loss of the last epoch, penalty included: the mean over its batches.
    loss_curve_ : list of float
        ``loss_`` of each epoch.
    best_loss_ : float or None
        The smallest of them; None with early stopping.
    validation_scores_, validation_loss_curve_ : list of float or None
        Accuracy and mean cross-entropy of the validation rows after each epoch, if there are any.
    best_validation_score_ : float or None
        The largest of the scores with early stopping.
    n_iter_ : int
        Epochs of the last call.
    t_ : int
        Rows seen in all epochs.
    n_layers_, n_outputs_ : int
    out_activation_ : str
        "softmax".
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X has names of columns.

    Notes
    -----
    With two classes scikit-learn has one output unit, whose logistic function is the probability
    of the second class; here there are two.

    Rows of a sparse X are made dense as their batch comes up, never all at once.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from fastbp import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
    >>> classifier = MLPClassifier(random_state=0).fit(X_train, y_train)
    >>> classifier.score(X_test, y_test) > 0.96
    True
    """

    classes_: Array
    coefs_: list[Array]
    intercepts_: list[Array]
    loss_curve_: list[float]
    # None without a use for them, and by then never read
    validation_scores_: Any
    validation_loss_curve_: Any
    best_loss_: Any
    best_validation_score_: Any

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 (scikit-learn's own manner)
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(_ACTIVATIONS))],
        "solver": [StrOptions({"lbfgs", *_STOCHASTIC})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: ArrayLike = (100,),
        activation: str = "logistic",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.01,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        class_weight: dict[Any, float] | str | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.class_weight = class_weight
        self.n_threads = n_threads

    # Learning

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train on X and y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite numbers; float32 is trained in float32, all else in float64.
        y : array-like of shape (n_samples,)
            Labels of any kind.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows, not negative; a batch is a weighted mean.
        X_val, y_val, sample_weight_val : optional
            Validation rows: their loss and score are recorded after each epoch, and with
            ``early_stopping`` take the place of rows held out.  Not for "lbfgs".

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If parameters or data are not as described.  Nothing has been changed then.
        DivergenceError
            A ValueError: the loss or a parameter became infinite or NaN.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val))

    @available_if(_is_stochastic)  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on X and y; go on where the last call ended.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array-like of shape (n_classes,)
            All labels that there will be; needed in the first call.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As `fit`.
        """
        return self._fit(X, y, sample_weight, (None, None, None), classes, incremental=True)

    def _fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        validation: tuple[Any, ArrayLike | None, ArrayLike | None],
        classes: ArrayLike | None = None,
        incremental: bool = False,
    ) -> Self:
        before = dict(vars(self))
        try:
            if incremental:
                _check_partial_fit_first_call(self, classes)
            checked = self._check(X, y, sample_weight, validation, incremental)
        except BaseException:
            # a fitted estimator stays as it was: its names and number of features, too
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        X, y, labels, given_weight, row_weight, held_out = checked
        network = self._network
        metadata = None if given_weight is None else {"sample_weight": given_weight}
        context = self._init_callback_context(max_subtasks=1 if incremental else self.max_iter)
        name = "lbfgs-iter" if self.solver == "lbfgs" else "epoch"
        tasks = CallbackTasks(self, context, name, X, y, metadata)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=metadata)
        if self.solver == "lbfgs":
            data = as_data(X.astype(np.float64, copy=False), labels, row_weight)
            fit_lbfgs(self, network, data, tasks)
        else:
            rows = X, labels, row_weight
            fit_epochs(self, network, rows, held_out, tasks, incremental)
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, metadata=metadata, reconstruction_attributes=dict
        )
        return self

    def _check(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None,
        validation: tuple[Any, ArrayLike | None, ArrayLike | None],
        incremental: bool,
    ) -> tuple[Any, ...]:
        """Check everything, then have a network ready: a new one, or that of the last call."""
        hidden = as_hidden_sizes(self.hidden_layer_sizes)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, which does not see all "
                "rows at once. Compute the weights with sklearn.utils.compute_class_weight and "
                "give them as a dict"
            )
        as_real(self.alpha, "alpha", 0.0)
        refuse_masks(X=X, y=y, sample_weight=sample_weight)
        refuse_masks(**dict(zip(("X_val", "y_val", "sample_weight_val"), validation, strict=True)))
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = validated(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=(np.float64, np.float32) if first else self.coefs_[0].dtype,
            order="C",
            multi_output=True,
            reset=first,
        )
        y, classes = check_labels(self, y, incremental)
        labels = np.searchsorted(classes, y)
        given_weight = check_sample_weight(sample_weight, X)
        row_weight = weigh_classes(self.class_weight, given_weight, y, classes)
        held_out = check_validation(self, *validation, classes, X.dtype)
        sizes = [X.shape[1], *hidden, len(classes)]
        random_state = check_random_state(self.random_state)
        if not first and sizes != _sizes(self.coefs_):
            raise ValueError(
                "hidden_layer_sizes must be as in the first call, whose layers have the sizes "
                f"{_sizes(self.coefs_)}, got {sizes}"
            )
        if self.early_stopping and self.solver != "lbfgs" and held_out is None:
            # A rehearsal, without the rows: what fails should fail before anything is changed.
            nothing, fraction = np.empty((len(labels), 0)), self.validation_fraction
            hold_out(nothing, labels, row_weight, len(classes), fraction, np.random.RandomState(0))
        if self.solver != "lbfgs":
            check_epsilon(new_schedule(self).options(self.alpha), X.dtype)
        if not first and not all(np.isfinite(p).all() for p in (*self.coefs_, *self.intercepts_)):
            raise ValueError(
                "coefs_ and intercepts_ must be finite, got some that are infinite or NaN"
            )
        self._random_state = random_state
        if first:
            self.classes_ = classes
            self._initialize(sizes, X.dtype)
        self._synced_network()
        return X, y, labels, given_weight, row_weight, held_out

    def _initialize(self, sizes: list[int], dtype: np.dtype[Any]) -> None:
        """Begin anew, from random weights: those of scikit-learn, drawn in the same order."""
        self._network = Network(sizes, activation=_ACTIVATIONS[self.activation], dtype=dtype)
        factor = 2.0 if self.activation == "logistic" else 6.0
        for w, b in zip(self._network.weights, self._network.biases, strict=True):
            bound = np.sqrt(factor / sum(w.shape))
            w[:] = self._random_state.uniform(-bound, bound, w.shape)
            b[:] = self._random_state.uniform(-bound, bound, b.shape)
        self.coefs_ = list(self._network.weights)
        self.intercepts_ = list(self._network.biases)
        self.n_iter_ = 0
        self.t_ = 0
        self.n_layers_ = len(sizes)
        self.n_outputs_ = sizes[-1]
        self.out_activation_ = "softmax"
        self.loss_curve_ = []
        self.best_loss_ = self.best_validation_score_ = None
        self.validation_scores_ = self.validation_loss_curve_ = None
        self._no_improvement_count = 0

    # Predicting

    def predict(self, X: Any) -> Array:
        """Return the most probable label of each row, the first of equals.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            Of ``classes_``.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            If X is not as described or has other features than at `fit`, or if a row gives
            infinite or NaN logits.
        """
        z = self._checked_logits(X)
        bad = np.flatnonzero(~np.isfinite(z).all(axis=1))
        if len(bad):
            raise ValueError(f"X must give finite logits, got {z[bad[0]]} in row {bad[0]}")
        labels: Array = self.classes_[z.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities of the classes, ``softmax(z)``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            A row does not depend on the others, not by a bit.

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As `predict`, but infinite and NaN logits give NaN.
        """
        z = self._checked_logits(X)
        kernels.softmax(z, z)
        return z

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the probabilities, exact also where these round to 0 or 1.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As `predict`, but infinite and NaN logits give NaN.
        """
        z = self._checked_logits(X)
        kernels.log_softmax(z, z)
        return z

    def decision_function(self, X: Any) -> Array:
        """Return the logits z of the classes; of two, the difference, above 0 for the second.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As `predict`, but infinite and NaN logits are returned.
        """
        z = self._checked_logits(X)
        if z.shape[1] != 2:
            return z
        with np.errstate(all="ignore"):  # infinite where it is too large for a number
            return z[:, 1] - z[:, 0]

    def _checked_logits(self, X: Any) -> Array:
        check_is_fitted(self)
        refuse_masks(X=X)
        dtype = self.coefs_[0].dtype
        X = validated(self, X, accept_sparse="csr", dtype=dtype, order="C", reset=False)
        return self._logits(self._synced_network(), X)

    def _logits(self, network: Network, X: Any) -> Array:
        if isinstance(X, np.ndarray):
            return network.logits(X, n_threads=self.n_threads)
        z = np.empty((X.shape[0], self.n_outputs_), network.dtype)
        for first in range(0, X.shape[0], _DENSE_ROWS):
            rows = slice(first, first + _DENSE_ROWS)
            z[rows] = network.logits(X[rows].toarray(), n_threads=self.n_threads)
        return z

    # What it holds

    def save(self, path: StrPath) -> None:
        """Write the fitted classifier to a file in the safetensors format.

        The file holds its parameters, its network with the memory of its solver, the classes and
        the curves: what `load` returns predicts, and goes on with `partial_fit` or a warm start,
        to the same bits.

        Parameters
        ----------
        path : path-like
            Of a new file, or of one to be replaced: whole, or not at all.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError
            If a parameter or a label is of a type that files have no place for; numbers, strings,
            None, tuples, lists, dicts, arrays of numbers and RandomState are fine.
        OSError
            If the file cannot be written; the old one is as it was then.
        """
        classifier_file.save(path, self)

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Read a classifier that `save` has written.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        MLPClassifier
            Fitted, with the same parameters; nothing is executed.

        Raises
        ------
        ModelFileError
            A ValueError: if the file is damaged, or of another kind.
        OSError
            If it cannot be read.
        """
        loaded: Self = classifier_file.load(path, cls, _ACTIVATIONS)
        return loaded

    def _synced_network(self) -> Network:
        """The network, after it has taken over arrays that were put into ``coefs_``."""
        network = getattr(self, "_network", None)
        sizes = _sizes(self.coefs_)
        activation = _ACTIVATIONS[self.activation]
        if (
            network is None
            or list(network.layer_sizes) != sizes
            or network.activation != activation
        ):
            network = Network(sizes, activation=activation, dtype=self.coefs_[0].dtype)
        for name, views in (("coefs_", network.weights), ("intercepts_", network.biases)):
            held = getattr(self, name)
            if len(held) != len(views):
                raise ValueError(f"{name} must hold {len(views)} arrays, got {len(held)}")
            for layer, view in enumerate(views):
                if held[layer] is not view:
                    with np.errstate(over="ignore"):
                        view[:] = np.reshape(held[layer], view.shape)
        self._network = network
        self.coefs_, self.intercepts_ = list(network.weights), list(network.biases)
        return network

    def __getstate__(self) -> dict[str, Any]:
        """Return what makes the classifier up; ``coefs_`` are part of the network."""
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

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that X may be sparse."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _sizes(coefs: list[Array]) -> list[int]:
    return [int(np.shape(coefs[0])[0]), *(int(np.shape(w)[1]) for w in coefs)]
