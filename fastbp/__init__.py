"""Backpropagation with softmax outputs and cross-entropy, as Numba-compiled kernels."""

from typing import TYPE_CHECKING

from fastbp import kernels
from fastbp._training import DivergenceError
from fastbp.functional import (
    bias_gradient,
    cross_entropy,
    dense,
    hidden_error,
    log_softmax,
    logsumexp,
    momentum_step,
    output_error,
    sigmoid,
    sigmoid_derivative,
    softmax,
    softmax_cross_entropy,
    weight_gradient,
)
from fastbp.network import Network
from fastbp.optimizers import SGD, Adam

if TYPE_CHECKING:
    from fastbp.estimator import MLPClassifier

    __version__: str

__all__ = [
    "SGD",
    "Adam",
    "DivergenceError",
    "MLPClassifier",
    "Network",
    "__version__",
    "bias_gradient",
    "cross_entropy",
    "dense",
    "hidden_error",
    "kernels",
    "log_softmax",
    "logsumexp",
    "momentum_step",
    "output_error",
    "sigmoid",
    "sigmoid_derivative",
    "softmax",
    "softmax_cross_entropy",
    "weight_gradient",
]


def __getattr__(name: str) -> object:
    # On first use: what these need costs more than the rest of this file.
    if name == "__version__":
        from importlib.metadata import version

        return version("fastbp")
    if name == "MLPClassifier":
        from fastbp.estimator import MLPClassifier

        return MLPClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
