"""MLPClassifier: the scikit-learn face of `Network`."""

from __future__ import annotations

import copy
import warnings
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastbp import _layout, _lbfgs, kernels
from fastbp._schedule import Schedule
from fastbp._training import DivergenceError, Progress, Run
from fastbp.network import Network, accuracy, mean_loss
from fastbp.optimizers import SGD, Adam

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
    from sklearn.callback import CallbackSupportMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state, column_or_1d, compute_class_weight
    from sklearn.utils._param_validation import Interval, Options, StrOptions
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import (
        _check_partial_fit_first_call,
        check_classification_targets,
        type_of_target,
    )
    from sklearn.utils.optimize import _check_optimize_result
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "fastbp.MLPClassifier needs scikit-learn 1.9 or later: pip install 'fastbp[sklearn]' "
        f"({error})"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]

_ACTIVATIONS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
_STOCHASTIC = ("sgd", "adam")
_NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)

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
    >>> classifier = MLPClassifier(learning_rate_init=0.01, max_iter=100, tol=1e-3, random_state=0)
    >>> classifier.fit(X_train, y_train).score(X_test, y_test) > 0.97
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
        learning_rate_init: float = 0.001,
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
            If parameters or data are not as described.  Nothing has been changed then, but for the
            names and the number of features.
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
        _check_partial_fit_first_call(self, classes)
        return self._fit(X, y, sample_weight, (None, None, None), incremental=True)

    def _fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        validation: tuple[Any, ArrayLike | None, ArrayLike | None],
        incremental: bool = False,
    ) -> Self:
        hidden = _hidden_sizes(self.hidden_layer_sizes)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        dtype = (np.float64, np.float32) if first else self.coefs_[0].dtype
        X, labels = validate_data(
            *(self, X, y),
            accept_sparse="csr",
            dtype=dtype,
            order="C",
            multi_output=True,
            reset=first,
        )
        y, classes = self._check_labels(labels, incremental)
        labels = np.searchsorted(classes, y)
        given_weight, row_weight = self._row_weight(sample_weight, X, y, classes, incremental)
        held_out = self._check_validation(*validation, classes=classes, dtype=X.dtype)
        sizes = [X.shape[1], *hidden, len(classes)]
        if not first and sizes != _sizes(self.coefs_):
            raise ValueError(
                f"hidden_layer_sizes must be as in the first call, whose layers have the sizes "
                f"{_sizes(self.coefs_)}, got {sizes}"
            )
        if self.solver in _STOCHASTIC and self.early_stopping and held_out is None:
            # A rehearsal, on the rows' numbers: what fails should fail before anything is changed.
            rows, seed = np.arange(len(labels)), np.random.RandomState(0)
            self._hold_out(rows, labels, row_weight, len(classes), seed)
        self._random_state = check_random_state(self.random_state)
        if first:
            self.classes_ = classes
            self._initialize(sizes, X.dtype)
        network = self._synced_network()
        metadata = None if given_weight is None else {"sample_weight": given_weight}
        context = self._init_callback_context(max_subtasks=1 if incremental else self.max_iter)
        tasks = _Tasks(self, context, X, y, metadata)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=metadata)
        if self.solver == "lbfgs":
            self._fit_lbfgs(network, X, labels, row_weight, tasks)
        else:
            self._fit_stochastic(network, X, labels, row_weight, held_out, tasks, incremental)
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, metadata=metadata, reconstruction_attributes=dict
        )
        return self

    def _check_labels(self, y: Array, incremental: bool) -> tuple[Array, Array]:
        """The labels, one a row, and all classes."""
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind not in ("binary", "multiclass"):
            raise ValueError(
                "y must hold one label a row, for the softmax output gives one class a row, "
                f"got a {kind} y of shape {y.shape}"
            )
        y = column_or_1d(y, warn=True)
        found = np.unique(y)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            return y, found
        if self.warm_start:
            if set(found) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the "
                    f"previous call to fit. Previously got {self.classes_}, `y` has {found}"
                )
        elif len(np.setdiff1d(found, self.classes_, assume_unique=True)):
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. 'y' has {found}."
            )
        return y, self.classes_

    def _row_weight(
        self, sample_weight: ArrayLike | None, X: Any, y: Array, classes: Array, incremental: bool
    ) -> tuple[Array | None, Array]:
        """The weights as given, and times those of the classes (empty: every row weighs 1)."""
        given = None
        if sample_weight is not None:
            given = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
        if self.class_weight is None:
            return given, np.empty(0) if given is None else given
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, which does not see all "
                "rows at once. Compute the weights with sklearn.utils.compute_class_weight and "
                "give them as a dict"
            )
        if self.class_weight == "balanced":
            # A row that weighs 0 is not there, nor is a class of nothing but such rows.
            there = slice(None) if given is None else given > 0
            present, weight_of = np.unique(y[there]), np.ones(len(classes))
            weight_of[np.searchsorted(classes, present)] = compute_class_weight(
                "balanced",
                classes=present,
                y=y[there],
                sample_weight=None if given is None else given[there],
            )
        else:
            weight_of = compute_class_weight(self.class_weight, classes=classes, y=y)
        row_weight = weight_of[np.searchsorted(classes, y)]
        return given, row_weight if given is None else row_weight * given

    def _check_validation(
        self,
        X_val: Any,
        y_val: ArrayLike | None,
        sample_weight_val: ArrayLike | None,
        classes: Array,
        dtype: np.dtype[Any],
    ) -> tuple[Any, Array, Array] | None:
        """The validation rows, their labels' numbers and their weights."""
        if X_val is None and y_val is None:
            if sample_weight_val is not None:
                raise ValueError("sample_weight_val is provided, but X_val was not provided.")
            return None
        if y_val is None:
            raise ValueError("X_val is provided, but y_val was not provided.")
        if X_val is None:
            raise ValueError("y_val is provided, but X_val was not provided.")
        if self.solver == "lbfgs":
            raise ValueError("X_val is only for solver='sgd' and 'adam', got solver='lbfgs'")
        X_val, y_val = validate_data(
            self, X_val, y_val, accept_sparse="csr", dtype=dtype, order="C", reset=False
        )
        unknown = np.setdiff1d(y_val, classes)
        if len(unknown):
            raise ValueError(f"y_val must hold labels of y, {classes}, got {unknown}")
        weight = np.ones(X_val.shape[0])  # whose sum is the number of rows, of sparse ones as well
        if sample_weight_val is not None:
            weight = _check_sample_weight(
                sample_weight_val, X_val, dtype=np.float64, ensure_non_negative=True
            )
        return X_val, np.searchsorted(classes, y_val), weight

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
        self._no_improvement_count = 0
        self.loss_curve_ = []
        self.best_loss_ = None if self.early_stopping else np.inf
        self.best_validation_score_ = -np.inf if self.early_stopping else None
        self.validation_scores_ = None
        self.validation_loss_curve_ = None

    def _fit_lbfgs(
        self, network: Network, X: Any, labels: Array, row_weight: Array, tasks: _Tasks
    ) -> None:
        data = _data(X.astype(np.float64, copy=False), labels, row_weight)
        tasks.begin()

        def end_iteration(parameters: Array) -> None:
            network.parameters[:] = parameters
            if tasks.end():
                raise StopIteration
            if tasks.n_ended < self.max_iter:
                tasks.begin()

        result = _lbfgs.minimize(
            *(network.plan, data, network.parameters.astype(np.float64)),
            alpha=self.alpha,
            tol=self.tol,
            max_iter=self.max_iter,
            max_fun=self.max_fun,
            callback=end_iteration,
        )
        if tasks.is_open:
            tasks.end()
        if not np.isfinite(result.x).all():
            raise ValueError(_NOT_FINITE)
        network.parameters[:] = result.x
        if self.verbose:
            print(f"{result.nit} iterations, {result.nfev} evaluations, loss = {result.fun:.8f}")
        self.loss_ = float(result.fun)
        # a callback that ends the fit leaves nothing to warn of
        stopped = result.status == 99
        self.n_iter_ = (
            result.nit if stopped else _check_optimize_result("lbfgs", result, self.max_iter)
        )

    def _fit_stochastic(
        self,
        network: Network,
        X: Any,
        labels: Array,
        row_weight: Array,
        held_out: tuple[Any, Array, Array] | None,
        tasks: _Tasks,
        incremental: bool,
    ) -> None:
        if self.early_stopping and held_out is None:
            X, labels, row_weight, held_out = self._hold_out(
                X, labels, row_weight, len(self.classes_), self._random_state
            )
        validation, X_val = None, None
        if held_out is not None:
            validation, X_val = _data(*held_out), held_out[0]
            self.validation_scores_ = self.validation_scores_ or []
            self.validation_loss_curve_ = self.validation_loss_curve_ or []
        n = X.shape[0]
        if self.batch_size == "auto":
            batch_size = min(200, n)
        else:
            batch_size = self.batch_size
            if batch_size > n:
                warnings.warn(
                    "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                    "clipped",
                    stacklevel=5,
                )
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer = self._new_schedule()
            network.forget()
        run = network.run(
            *(_data(X, labels, row_weight), self._optimizer.update(self.alpha)),
            *(batch_size, self.n_threads),
            with_penalty=True,
        )
        best = network.parameters.copy() if self.early_stopping else None
        self.n_iter_ = 0
        try:
            while self.n_iter_ < self.max_iter:
                tasks.begin()
                self._train_epoch(run, n)
                if validation is not None:
                    self._validate(network, X_val, validation)
                if self._has_improved() and best is not None:
                    best[:] = network.parameters
                self._optimizer.end_epoch(self.t_)
                if tasks.end() or self._is_over() or incremental:
                    break
                if self.n_iter_ == self.max_iter:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and "
                        "the optimization hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=5,
                    )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
        except DivergenceError as error:
            if best is None or self.n_iter_ == 0:
                error.args = (f"{_NOT_FINITE} {error}",)
                raise
            warnings.warn(
                f"{error}; what had the best validation score is kept",
                ConvergenceWarning,
                stacklevel=5,
            )
        if best is not None:
            network.parameters[:] = best

    def _hold_out(
        self,
        X: Any,
        labels: Array,
        row_weight: Array,
        n_classes: int,
        random_state: np.random.RandomState,
    ) -> tuple[Any, Array, Array, tuple[Any, Array, Array]]:
        """Split validation rows off, as scikit-learn does: of two classes, stratified."""
        X, X_val, labels, labels_val, row_weight, weight_val = train_test_split(
            *(X, labels, row_weight if len(row_weight) else np.ones(len(labels))),
            random_state=random_state,
            test_size=self.validation_fraction,
            # a column, for which the error names the class as scikit-learn's own does
            stratify=(labels == 1)[:, np.newaxis] if n_classes == 2 else None,
        )
        if X_val.shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        return X, labels, row_weight, (X_val, labels_val, weight_val)

    def _new_schedule(self) -> Schedule:
        if self.solver == "adam":
            adam = Adam(self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon)
            return Schedule(adam, "constant", self.power_t)
        sgd = SGD(self.learning_rate_init, self.momentum, self.nesterovs_momentum)
        return Schedule(sgd, self.learning_rate, self.power_t)

    def _train_epoch(self, run: Run, n: int) -> None:
        if self.shuffle:
            permutation = np.arange(n)
            self._random_state.shuffle(permutation)
            run.order[:] = run.order[permutation]
        update = self._optimizer.update(self.alpha)
        totals = run.epoch(self.n_iter_ + 1, update, Progress(False, 0, 0, 0))
        self.n_iter_ += 1
        self.t_ += n
        self.loss_ = float(totals[3]) / n
        self.loss_curve_.append(self.loss_)
        if self.verbose:
            print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")

    def _validate(self, network: Network, X_val: Any, validation: _layout.Data) -> None:
        z = self._logits(network, X_val)
        self.validation_scores_.append(accuracy(z, validation))
        self.validation_loss_curve_.append(mean_loss(z, validation))
        if self.verbose:
            print(f"Validation score: {self.validation_scores_[-1]:f}")

    def _has_improved(self) -> bool:
        """Whether this epoch is the best; counts those that are not better by ``tol``."""
        if self.early_stopping:
            now, best = self.validation_scores_[-1], self.best_validation_score_
            too_little, is_best = now < best + self.tol, now > best
        else:
            now, best = self.loss_, self.best_loss_
            too_little, is_best = now > best - self.tol, now < best
        self._no_improvement_count = self._no_improvement_count + 1 if too_little else 0
        if is_best and self.early_stopping:
            self.best_validation_score_ = now
        elif is_best:
            self.best_loss_ = now
        return bool(is_best)

    def _is_over(self) -> bool:
        if self._no_improvement_count <= self.n_iter_no_change:
            return False
        what = "Validation score" if self.early_stopping else "Training loss"
        reason = (
            f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} "
            "consecutive epochs."
        )
        if self._optimizer.stop(reason, bool(self.verbose)):
            return True
        self._no_improvement_count = 0
        return False

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
            If X is not as described or has other features than at `fit`.
        """
        z = self._checked_logits(X)
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
            As `predict`.
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
            As `predict`.
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
            As `predict`.
        """
        z = self._checked_logits(X)
        return z[:, 1] - z[:, 0] if z.shape[1] == 2 else z

    def _checked_logits(self, X: Any) -> Array:
        check_is_fitted(self)
        dtype = self.coefs_[0].dtype
        X = validate_data(self, X, accept_sparse="csr", dtype=dtype, order="C", reset=False)
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

    def _synced_network(self) -> Network:
        """The network, after it has taken over arrays that were put into ``coefs_``."""
        network = getattr(self, "_network", None)
        sizes = _sizes(self.coefs_)
        if network is None or list(network.layer_sizes) != sizes:
            network = Network(
                sizes, activation=_ACTIVATIONS[self.activation], dtype=self.coefs_[0].dtype
            )
        for name, views in (("coefs_", network.weights), ("intercepts_", network.biases)):
            held = getattr(self, name)
            if len(held) != len(views):
                raise ValueError(f"{name} must hold {len(views)} arrays, got {len(held)}")
            for layer, view in enumerate(views):
                if held[layer] is not view:
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


class _Tasks:
    """The epochs (or iterations) of a fit, as scikit-learn's callbacks see them."""

    def __init__(
        self, estimator: MLPClassifier, context: Any, X: Any, y: Array, metadata: Any
    ) -> None:
        self._context = context
        self._arguments = {
            "estimator": estimator,
            "X": X,
            "y": y,
            "metadata": metadata,
            "reconstruction_attributes": self._fitted_attributes,
        }
        self.n_ended = 0
        self.is_open = False

    def _fitted_attributes(self) -> dict[str, Any]:
        network = copy.copy(self._arguments["estimator"]._network)
        return {
            "_network": network,
            "coefs_": list(network.weights),
            "intercepts_": list(network.biases),
        }

    def begin(self) -> None:
        self._task = self._context.subcontext(task_name="epoch")
        self._task.call_on_fit_task_begin(**self._arguments)
        self.is_open = True

    def end(self) -> bool:
        """Tell the callbacks; return whether one of them wants no more."""
        self.n_ended += 1
        self.is_open = False
        return bool(self._task.call_on_fit_task_end(**self._arguments))


def _hidden_sizes(hidden_layer_sizes: Any) -> list[int]:
    sizes = np.atleast_1d(np.asarray(hidden_layer_sizes))
    if sizes.size == 0:
        return []
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu":
        raise ValueError(
            f"hidden_layer_sizes must be integers, one per layer, got {hidden_layer_sizes!r}"
        )
    if (sizes <= 0).any():
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes.tolist()}.")
    return [int(units) for units in sizes]


def _sizes(coefs: list[Array]) -> list[int]:
    return [int(np.shape(coefs[0])[0]), *(int(np.shape(w)[1]) for w in coefs)]


def _data(X: Any, labels: Array, row_weight: Array) -> _layout.Data:
    if isinstance(X, np.ndarray):
        return _layout.make_data(X, labels, None, row_weight)
    if not X.has_canonical_format:
        X = X.copy()  # the caller's stays as it is
        X.sum_duplicates()
    starts, columns = (index.astype(np.intp, copy=False) for index in (X.indptr, X.indices))
    rows = np.empty((0, X.shape[1]), X.dtype), starts, columns, X.data
    return _layout.make_data(rows, labels, None, row_weight)
