"""Networks from scikit-learn, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp.convert.common import as_network, make_network, needed
from fastbp.network import Network

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from sklearn.neural_network import MLPClassifier

# What scikit-learn calls our activations
_NAMES = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}


def from_sklearn(classifier: MLPClassifier) -> Network:
    """Return a network with the parameters of a fitted ``MLPClassifier``.

    Parameters
    ----------
    classifier : sklearn.neural_network.MLPClassifier
        Fitted, with any solver, on one label per row.

    Returns
    -------
    Network
        Of the dtype of ``classifier.coefs_``, with epoch 0 and no velocity.  Its class k is
        ``classifier.classes_[k]``.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    TypeError
        If ``classifier`` is no MLPClassifier, or its parameters are neither float32 nor float64.
    sklearn.exceptions.NotFittedError
        If it has not been fitted.
    ValueError
        If it was fitted on several labels per row, or on a single class.

    Notes
    -----
    For two classes scikit-learn has one output, ``1/(1 + e^-z)``.  This is the softmax of the
    logits 0 and z, which the network has: the weights and bias of its class 0 are zero.

    Examples
    --------
    >>> import fastbp
    >>> from sklearn.neural_network import MLPClassifier
    >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], ["no", "yes", "yes", "no"]
    >>> classifier = MLPClassifier((8,), "tanh", solver="lbfgs", random_state=0).fit(X, y)
    >>> net = fastbp.convert.from_sklearn(classifier)
    >>> net
    <Network 2-8-2 tanh float64, seed 0: 42 parameters, 0 epochs trained>
    >>> classifier.classes_[net.predict(X)]
    array(['no', 'yes', 'yes', 'no'], dtype='<U3')
    """
    kind = needed("sklearn.neural_network", "sklearn").MLPClassifier
    if not isinstance(classifier, kind):
        # with its module: fastbp has a class of the same name
        got = f"{type(classifier).__module__}.{type(classifier).__qualname__}"
        raise TypeError(f"classifier must be an MLPClassifier of scikit-learn, got {got}")
    needed("sklearn.utils.validation", "sklearn").check_is_fitted(classifier)
    weights, biases = list(classifier.coefs_), list(classifier.intercepts_)
    if classifier.out_activation_ == "logistic":
        if classifier.n_outputs_ != 1:
            raise ValueError(
                "classifier must have been fitted on one label per row, got one with "
                f"{classifier.n_outputs_} labels per row"
            )
        if len(classifier.classes_) != 2:
            raise ValueError(
                "classifier must have been fitted on at least 2 classes, got "
                f"{classifier.classes_.tolist()}"
            )
        # 0 and z
        weights[-1] = np.hstack([np.zeros_like(weights[-1]), weights[-1]])
        biases[-1] = np.hstack([np.zeros_like(biases[-1]), biases[-1]])
    (activation,) = (ours for ours, n in _NAMES.items() if n == classifier.activation)
    return make_network(weights, biases, activation, "classifier.coefs_")


def to_sklearn(network: Any, classes: ArrayLike | None = None) -> MLPClassifier:
    """Return a fitted ``MLPClassifier`` of scikit-learn's with the parameters of a network.

    Parameters
    ----------
    network : Network or fastbp.MLPClassifier
        With at least two classes; a classifier is fitted.
    classes : array_like of shape (n_classes,), optional
        The label of each class, in ascending order; by default those of the classifier, or
        0, 1, 2, ...

    Returns
    -------
    sklearn.neural_network.MLPClassifier
        Whose arrays are copies, and whose settings are scikit-learn's defaults, but for layers and
        activation.  Its optimiser starts anew: ``partial_fit`` goes on from the parameters alone.
        ``n_iter_`` is the number of epochs trained, ``loss_curve_`` is empty, ``loss_`` is NaN.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    TypeError
        If ``network`` is neither a Network nor a fastbp.MLPClassifier.
    sklearn.exceptions.NotFittedError
        If it is a classifier that has not been fitted.
    ValueError
        If it has a single class, or ``classes`` is of another length, not in ascending order or
        not what scikit-learn takes for labels.

    Notes
    -----
    For two classes scikit-learn has one output, ``1/(1 + e^-z)``, where z is the difference of the
    network's logits: that of class 1 less that of class 0.

    Examples
    --------
    >>> import fastbp
    >>> net = fastbp.Network([2, 4, 3], seed=0)
    >>> classifier = fastbp.convert.to_sklearn(net, ["high", "low", "mean"])
    >>> classifier.classes_[net.predict([[0.5, 1]])] == classifier.predict([[0.5, 1]])
    array([ True])
    """
    neural_network = needed("sklearn.neural_network", "sklearn")
    preprocessing = needed("sklearn.preprocessing", "sklearn")
    if classes is None:
        classes = getattr(network, "classes_", None)
    network = as_network(network)
    n_features, *hidden, n_classes = network.layer_sizes
    if n_classes < 2:
        raise ValueError("network must have at least 2 classes for scikit-learn, got 1")
    labels = np.arange(n_classes) if classes is None else np.asarray(classes)
    if labels.shape != (n_classes,):
        raise ValueError(f"classes must have shape ({n_classes},), got {labels.shape}")
    if not (labels[:-1] < labels[1:]).all():
        raise ValueError(
            f"classes must differ and be in ascending order, as scikit-learn has them, got "
            f"{labels.tolist()}"
        )
    weights, biases = [w.copy() for w in network.weights], [b.copy() for b in network.biases]
    if n_classes == 2:
        with np.errstate(all="ignore"):  # what is infinite is seen in the classifier's arrays
            weights[-1], biases[-1] = (p[..., 1:] - p[..., :1] for p in (weights[-1], biases[-1]))

    classifier: MLPClassifier = neural_network.MLPClassifier(
        tuple(hidden), _NAMES[network.activation]
    )
    classifier._label_binarizer = preprocessing.LabelBinarizer().fit(labels)
    classifier.classes_ = classifier._label_binarizer.classes_
    classifier.n_features_in_ = n_features
    classifier.n_layers_ = len(network.layer_sizes)
    classifier.n_outputs_ = len(biases[-1])
    classifier.out_activation_ = "logistic" if n_classes == 2 else "softmax"
    classifier.coefs_, classifier.intercepts_ = weights, biases
    # what its training goes on from
    classifier.n_iter_, classifier.t_ = network.epoch, 0
    classifier.loss_, classifier.best_loss_, classifier.loss_curve_ = np.nan, np.inf, []
    classifier.validation_scores_ = classifier.best_validation_score_ = None
    classifier._no_improvement_count = 0
    classifier._best_coefs = [w.copy() for w in weights]
    classifier._best_intercepts = [b.copy() for b in biases]
    return classifier
