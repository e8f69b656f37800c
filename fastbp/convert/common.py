"""What the conversions share."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp.network import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def needed(module: str, extra: str) -> Any:
    """Import a module that comes with an extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"sklearn": "scikit-learn", "torch": "PyTorch", "onnx": "onnx"}[extra]
        raise ImportError(
            f"this conversion needs {package}, which 'pip install fastbp[{extra}]' installs"
        ) from error


def as_network(network: Any) -> Network:
    """Return a network, or that of a fitted classifier."""
    if hasattr(type(network), "network_"):
        needed("sklearn.utils.validation", "sklearn").check_is_fitted(network)
        network = network.network_
    if not isinstance(network, Network):
        got = f"{type(network).__module__}.{type(network).__qualname__}"
        raise TypeError(f"network must be a fastbp.Network or fastbp.MLPClassifier, got {got}")
    return network


def make_network(
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
