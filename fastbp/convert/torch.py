"""Networks from PyTorch, and back."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp.convert.common import as_network, make_network, needed
from fastbp.network import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.nn import Linear, Sequential

    Array = NDArray[Any]

# What PyTorch calls our activations
_NAMES = {"identity": "Identity", "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "ReLU"}


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
    nn = needed("torch.nn", "torch")
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
                f"{name} must be a {_NAMES[activations[0]]}, as {between[0][0]} is, got "
                f"{_NAMES[activation]}"
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
    return make_network(weights, biases, activations[0] if activations else "sigmoid", "module")


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
    torch = needed("torch", "torch")
    network = as_network(network)
    activation = getattr(torch.nn, _NAMES[network.activation])
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


def _activation_of(nn: Any, name: str, part: Any) -> str:
    for ours, theirs in _NAMES.items():
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
