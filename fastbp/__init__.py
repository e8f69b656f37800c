"""Backpropagation with softmax outputs and cross-entropy, as Numba-compiled kernels."""

from typing import TYPE_CHECKING, Any

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
    from fastbp import convert

    __version__: str

__all__ = [
    "SGD",
    "Adam",
    "DivergenceError",
    "Network",
    "__version__",
    "bias_gradient",
    "convert",
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


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # On first use: reading the installed metadata costs more than the rest of this file.
        from importlib.metadata import version

        return version("fastbp")
    if name == "convert":
        # On first use: few need it.
        import fastbp.convert

        return fastbp.convert
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
