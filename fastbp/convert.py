"""Networks from scikit-learn and PyTorch, and back: the same parameters, the same predictions.

scikit-learn and PyTorch are imported by the functions that need them, and not before.
"""

from __future__ import annotations

import importlib
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray
    from sklearn.neural_network import MLPClassifier
    from torch.nn import Linear, Sequential

    Array = NDArray[Any]

# What the others call our activations.
_SKLEARN_NAMES = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}
_TORCH_NAMES = {"identity": "Identity", "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "ReLU"}


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
    kind = _needed("sklearn.neural_network", "sklearn").MLPClassifier
    if not isinstance(classifier, kind):
        # with its module: fastbp has a class of the same name
        got = f"{type(classifier).__module__}.{type(classifier).__qualname__}"
        raise TypeError(f"classifier must be an MLPClassifier of scikit-learn, got {got}")
    _needed("sklearn.utils.validation", "sklearn").check_is_fitted(classifier)
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
    (activation,) = (ours for ours, n in _SKLEARN_NAMES.items() if n == classifier.activation)
    return _make_network(weights, biases, activation, "classifier.coefs_")


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
    neural_network = _needed("sklearn.neural_network", "sklearn")
    preprocessing = _needed("sklearn.preprocessing", "sklearn")
    if classes is None:
        classes = getattr(network, "classes_", None)
    network = _as_network(network)
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
        tuple(hidden), _SKLEARN_NAMES[network.activation]
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


def from_torch(module: Sequential) -> Network:
    """Return a network with the parameters of a ``torch.nn.Sequential``.

    Parameters
    ----------
    module : torch.nn.Sequential
        ``Linear`` layers with ``Sigmoid``, ``Tanh``, ``ReLU`` or ``Identity`` between them, the
        same everywhere.  A layer without a bias gets one of zeros.

        The last ``Linear`` gives the logits.  A ``Softmax`` or ``LogSoftmax`` over the last
        dimension may follow, and is left out: it is what `Network.predict_proba` and
        `Network.predict_log_proba` do.

    Returns
    -------
    Network
        Of the module's dtype, with epoch 0 and no velocity.  Without hidden layers its activation
        is the default.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError
        If ``module`` is no Sequential, or its parameters are neither float32 nor float64.
    ValueError
        If its modules are others, or in another order, if the activations differ, if a layer
        takes another number of units than the one below gives, or if hooks, pruning, weight or
        spectral norm change what a module computes.

    Notes
    -----
    With ``module`` in hand::

        net = fastbp.convert.from_torch(module)
        net.predict_proba(X)        # torch.softmax(module(X), dim=-1)
    """
    nn = _needed("torch.nn", "torch")
    # a subclass with a forward of its own may do anything
    if not (isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward):
        raise TypeError(f"module must be a torch.nn.Sequential, got {type(module).__name__}")
    named = [(f"module[{place}]", part) for place, part in enumerate(module)]
    if named and type(named[-1][1]) in (nn.Softmax, nn.LogSoftmax):
        name, last = named.pop()
        if last.dim not in (-1, 1):
            raise ValueError(f"{name} must be over the last dimension, -1 or 1, got {last!r}")
    layers, between = named[::2], named[1::2]
    activations = []
    for place, (name, part) in enumerate(named):
        if place % 2:
            activations.append(_activation_of(nn, name, part))
        elif not (type(part) is nn.Linear or hasattr(part, "parametrizations")):
            raise ValueError(f"{name} must be a Linear, got {type(part).__name__}")
        _refuse_changes(name, part)
    _refuse_changes("module", module)
    if len(layers) == len(between):
        raise ValueError(
            "module must end with a Linear, or a Softmax or LogSoftmax after it, got "
            f"{type(named[-1][1]).__name__ if named else 'an empty one'}"
        )
    for (name, _), activation in zip(between, activations, strict=True):
        if activation != activations[0]:
            raise ValueError(
                f"{name} must be a {_TORCH_NAMES[activations[0]]}, as {between[0][0]} is, got "
                f"{_TORCH_NAMES[activation]}"
            )
    for (name_below, below), (name, layer) in pairwise(layers):
        if below.out_features != layer.in_features:
            raise ValueError(
                f"{name} must take the {below.out_features} units of {name_below}, got one that "
                f"takes {layer.in_features}"
            )
    dtypes = {part.dtype for part in module.parameters()}
    if len(dtypes) > 1 or str(min(dtypes, key=str)) not in ("torch.float32", "torch.float64"):
        listed = " and ".join(sorted(map(str, dtypes)))
        raise TypeError(f"module must be of float32 or of float64, got {listed}")
    weights = [layer.weight.detach().cpu().numpy().T for _, layer in layers]
    biases = [_bias_of(layer, w) for (_, layer), w in zip(layers, weights, strict=True)]
    return _make_network(weights, biases, activations[0] if activations else "sigmoid", "module")


def to_torch(network: Any) -> Sequential:
    """Return a ``torch.nn.Sequential`` with the parameters of a network.

    Parameters
    ----------
    network : Network or fitted fastbp.MLPClassifier
        Output k belongs to ``classes_[k]``; of two classes there are two outputs, too.

    Returns
    -------
    torch.nn.Sequential
        ``Linear`` layers with the network's activation between them, of the network's dtype, on
        the CPU, with parameters that are copies and require a gradient.  It gives the logits, as
        ``torch.nn.CrossEntropyLoss`` takes them.  PyTorch's random numbers are left as they are.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError
        If ``network`` is neither a Network nor a fastbp.MLPClassifier.

    Notes
    -----
    With ``net`` in hand::

        module = fastbp.convert.to_torch(net)
        torch.softmax(module(X), dim=-1)        # net.predict_proba(X)
    """
    torch = _needed("torch", "torch")
    network = _as_network(network)
    activation = getattr(torch.nn, _TORCH_NAMES[network.activation])
    parts: list[Any] = []
    for w, b in zip(network.weights, network.biases, strict=True):
        linear = torch.nn.utils.skip_init(
            torch.nn.Linear, *w.shape, dtype=getattr(torch, w.dtype.name)
        )
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w.T))
            linear.bias.copy_(torch.from_numpy(b))
        parts += [activation(), linear] if parts else [linear]
    module: Sequential = torch.nn.Sequential(*parts)
    return module


def _needed(module: str, extra: str) -> Any:
    """Import a module that comes with an extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"sklearn": "scikit-learn", "torch": "PyTorch"}[extra]
        raise ImportError(
            f"this conversion needs {package}, which 'pip install fastbp[{extra}]' installs"
        ) from error


def _as_network(network: Any) -> Network:
    """Return a network, or that of a fitted classifier."""
    if hasattr(type(network), "network_"):
        _needed("sklearn.utils.validation", "sklearn").check_is_fitted(network)
        network = network.network_
    if not isinstance(network, Network):
        got = f"{type(network).__module__}.{type(network).__qualname__}"
        raise TypeError(f"network must be a fastbp.Network or fastbp.MLPClassifier, got {got}")
    return network


def _make_network(
    weights: Sequence[Array], biases: Sequence[Array], activation: str, name: str
) -> Network:
    dtype = np.result_type(*weights, *biases)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be of float32 or of float64, got {dtype}")
    sizes = [len(weights[0]), *map(len, biases)]
    network = Network(sizes, activation=activation, dtype=dtype)
    for ours, theirs in zip(network.weights + network.biases, [*weights, *biases], strict=True):
        ours[:] = theirs
    return network


def _activation_of(nn: Any, name: str, part: Any) -> str:
    for ours, theirs in _TORCH_NAMES.items():
        if type(part) is getattr(nn, theirs):
            return ours
    raise ValueError(f"{name} must be a Sigmoid, Tanh, ReLU or Identity, got {type(part).__name__}")


def _refuse_changes(name: str, part: Any) -> None:
    """Raise if a module computes its weights anew at each call, or something else than its class.

    Its parameters are not, or not yet, those that it uses.
    """
    hooks = [*part._forward_pre_hooks.values(), *part._forward_hooks.values()]
    if hasattr(part, "parametrizations"):
        first = f"torch.nn.utils.parametrize.remove_parametrizations({name}, 'weight')"
    elif hasattr(part, "weight_mask") or hasattr(part, "bias_mask"):
        first = f"torch.nn.utils.prune.remove({name}, 'weight')"
    elif any(type(hook).__name__ in ("WeightNorm", "SpectralNorm") for hook in hooks):
        kind = "weight" if hasattr(part, "weight_g") else "spectral"
        first = f"torch.nn.utils.remove_{kind}_norm({name})"
    elif hooks:
        first = "remove() of each hook's handle"
    elif "forward" in vars(part):
        raise ValueError(f"{name} must have the forward of its class, got one of its own")
    else:
        return
    raise ValueError(f"{name} must compute what its parameters say, got one changed: {first} first")


def _bias_of(layer: Linear, w: Array) -> Array:
    if layer.bias is None:
        return np.zeros(w.shape[1], w.dtype)
    bias: Array = layer.bias.detach().cpu().numpy()
    return bias
