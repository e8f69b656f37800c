"""MLPClassifier: the scikit-learn face of `Network`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call
from sklearn.utils.validation import check_is_fitted

from fastbp import kernels
from fastbp.estimator import checks
from fastbp.estimator import file as classifier_file
from fastbp.estimator.callbacks import CallbackSupportMixin, CallbackTasks
from fastbp.estimator.checks import Validation
from fastbp.estimator.coefficients import Coefficients
from fastbp.estimator.data import lay_out
from fastbp.estimator.epochs import fit_epochs
from fastbp.estimator.lbfgs import fit_lbfgs
from fastbp.estimator.parameters import ACTIVATIONS, STOCHASTIC

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastbp._atomic import StrPath

    Array = NDArray[Any]

Method = TypeVar("Method", bound=Callable[..., Any])


def _is_stochastic(estimator: MLPClassifier) -> bool:
    if estimator.solver not in STOCHASTIC:
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. "
            f"{estimator.solver} is not stochastic."
        )
    return True


# scikit-learn's decorators have no types.
def _checks_parameters(method: Method) -> Method:
    return cast(Method, _fit_context(prefer_skip_nested_validation=True)(method))


def _if_stochastic(method: Method) -> Method:
    return cast(Method, available_if(_is_stochastic)(method))


class MLPClassifier(CallbackSupportMixin, ClassifierMixin, Coefficients):  # type: ignore[misc]
    """Multi-layer perceptron classifier, with the parameters of scikit-learn's.

    Hidden layers apply ``activation``, the output layer the softmax; training minimises the
    cross-entropy plus ``0.5 alpha ||W||^2 / n``, n being the rows of a batch.  With the same
    parameters and ``random_state`` it starts from the weights, goes through the rows in the order
    and stops by the rules of ``sklearn.neural_network.MLPClassifier``, and so ends at the same
    coefficients but for rounding.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(100,)
        Units per hidden layer; ``()`` for none: multinomial logistic regression.
    activation : {"identity", "logistic", "tanh", "relu"}, default="relu"
        Of the hidden layers.
    solver : {"lbfgs", "sgd", "adam"}, default="adam"
        "sgd": gradient descent with momentum. "lbfgs": SciPy's quasi-Newton method on all rows at
        once, in float64.
    alpha : float, default=0.0001
        Strength of the L2 penalty on the weights, divided by the rows (by the weight) of a batch.
    batch_size : int or "auto", default="auto"
        Rows per step; "auto" is ``min(200, n_samples)``.
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        Of "sgd". "invscaling": ``learning_rate_init / (t + 1) ** power_t`` after t rows.
        "adaptive": divided by 5 whenever ``n_iter_no_change`` epochs have brought less than
        ``tol``.
    learning_rate_init : float, default=0.001
        The first learning rate.
    power_t : float, default=0.5
        Exponent of "invscaling".
    max_iter : int, default=200
        Epochs at most; iterations of "lbfgs".
    shuffle : bool, default=True
        Whether to take the rows in another order in each epoch.
    random_state : int, RandomState instance or None, default=None
        Decides the first weights, the validation rows and the order of the rows.
    tol : float, default=1e-4
        An epoch counts if the loss falls, or the validation score rises, by more than this.
        "lbfgs" stops when the largest entry of the gradient is smaller.
    verbose : bool or int, default=False
        Whether to print the loss of each epoch.
    warm_start : bool, default=False
        Whether `fit` goes on from the last solution.
    momentum, nesterovs_momentum : float, bool, default=0.9, True
        Of "sgd": from 0 to 1, and whether it is Nesterov's.
    early_stopping : bool, default=False
        Whether to hold rows out (or to take ``X_val``, see `fit`), stop when their score no longer
        rises, and keep the parameters of the best score.
    validation_fraction : float, default=0.1
        Share of the rows to hold out; of two classes, stratified.
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        Decay of Adam's moments; epsilon is added to the square root of the second moment, before
        the correction of its bias.
    n_iter_no_change : int or inf, default=10
        Epochs in a row that do not count, after which training stops.
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
    loss_, loss_curve_, best_loss_ : float, list of float, float or None
        Loss of the last epoch, penalty included: the mean over its batches; of each epoch; the
        smallest, None with early stopping.
    validation_scores_, validation_loss_curve_ : list of float or None
        Accuracy and mean cross-entropy of the validation rows after each epoch, if there are any.
    best_validation_score_ : float or None
        The largest of the scores with early stopping.
    n_iter_, t_ : int
        Epochs of the last call; rows seen in all epochs.
    n_layers_, n_outputs_, n_features_in_ : int
    out_activation_ : str
        "softmax"; "logistic" of two classes.
    network_ : Network
        The classifier's network, for all that networks can do; class k is ``classes_[k]``.
    feature_names_in_ : ndarray of str
        If X has names of columns.

    Notes
    -----
    Two classes have one output unit, as in scikit-learn: its logistic function is the probability
    of the second class.  It is computed as the softmax of the logits 0 and z.

    Sparse rows cost what they hold, and are never made dense.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from fastbp import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
    >>> classifier = MLPClassifier(learning_rate_init=0.01, random_state=0).fit(X_train, y_train)
    >>> classifier.score(X_test, y_test) > 0.96
    True
    """

    @_checks_parameters
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
        MLPClassifier
            Itself.

        Raises
        ------
        TypeError, ValueError
            If parameters or data are not as described.  Nothing has been changed then.
        DivergenceError
            A ValueError: the loss or a parameter became infinite or NaN.
        """
        return self._fit(X, y, sample_weight, Validation(X_val, y_val, sample_weight_val))

    @_if_stochastic
    @_checks_parameters
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
        X, y, sample_weight : as in `fit`
            One batch after another is cut from them, as there.
        classes : array-like of shape (n_classes,)
            All labels that there will be; needed in the first call.

        Returns
        -------
        MLPClassifier
            Itself.
        """
        return self._fit(X, y, sample_weight, Validation(), classes, incremental=True)

    def _fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        validation: Validation,
        classes: ArrayLike | None = None,
        incremental: bool = False,
    ) -> Self:
        before = dict(vars(self))
        try:
            if incremental:
                _check_partial_fit_first_call(self, classes)
            checked = checks.check_fit(self, X, y, sample_weight, validation, incremental)
            network = self._begin(checked)
        except BaseException:
            # a fitted estimator stays as it was: its names and number of features, too
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        X, y, weight, rows, held_out, *_ = checked
        name = "lbfgs-iter" if self.solver == "lbfgs" else "epoch"
        tasks = CallbackTasks(self, name, X, y, weight)
        with tasks.fit(1 if incremental else self.max_iter):
            if self.solver == "lbfgs":
                rows = rows._replace(X=X.astype(np.float64, copy=False))
                fit_lbfgs(self, network, lay_out(rows), tasks)
            else:
                fit_epochs(self, network, rows, held_out, tasks, incremental)
        return self

    def predict(self, X: Any) -> Array:
        """Return the most probable label of each row, the first of equals.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite numbers.

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
        """Return the probabilities ``softmax(z)``; a row does not depend on the others.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            As in `predict`, which has the errors, too.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the dtype of ``coefs_``; infinite and NaN logits give NaN.
        """
        z = self._checked_logits(X)
        kernels.softmax(z, z)
        return z

    def predict_log_proba(self, X: Any) -> Array:
        """Return ``log_softmax(z)``, exact also where probabilities round to 0 or 1.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            As in `predict`, which has the errors, too.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the dtype of ``coefs_``; infinite and NaN logits give NaN.
        """
        z = self._checked_logits(X)
        kernels.log_softmax(z, z)
        return z

    def decision_function(self, X: Any) -> Array:
        """Return the logits z, infinite and NaN ones, too.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            As in `predict`, which has the errors, too.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Of two classes, (n_samples,): the logit of the second, while that of the first is 0.
        """
        z = self._checked_logits(X)
        return z[:, 1] if z.shape[1] == 2 else z

    def _checked_logits(self, X: Any) -> Array:
        check_is_fitted(self)
        checks.refuse_masks(X=X)
        dtype = self.coefs_[0].dtype
        X = checks.validated(self, X, accept_sparse="csr", dtype=dtype, order="C", reset=False)
        return self._logits(self._synced_network(), X)

    def save(self, path: StrPath) -> None:
        """Write the fitted classifier to a file in the safetensors format.

        What `load` returns predicts, and goes on with `partial_fit` or a warm start, to the same
        bits.

        Parameters
        ----------
        path : path-like
            A file of this name is replaced, whole or not at all.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError
            If a parameter or a label is of another type than numbers, strings, None, tuples, lists,
            dicts, arrays of numbers and RandomState.
        OSError
            If the file cannot be written; the old one stays.
        """
        classifier_file.save(path, self)

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Read a classifier that `save` has written; nothing is executed.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        MLPClassifier
            Fitted.

        Raises
        ------
        ModelFileError
            A ValueError: if the file is damaged, or of another kind.
        """
        loaded: Self = classifier_file.load(path, cls, ACTIVATIONS)
        return loaded

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that X may be sparse."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
