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
    output_error,
    relu,
    sigmoid,
    sigmoid_derivative,
    softmax,
    softmax_cross_entropy,
    tanh,
    weight_gradient,
)
from fastbp.network import Network
from fastbp.steps import adam_step, momentum_step, nesterov_step

if TYPE_CHECKING:
    __version__: str

__all__ = [
    "DivergenceError",
    "Network",
    "__version__",
    "adam_step",
    "bias_gradient",
    "cross_entropy",
    "dense",
    "hidden_error",
    "kernels",
    "log_softmax",
    "logsumexp",
    "momentum_step",
    "nesterov_step",
    "output_error",
    "relu",
    "sigmoid",
    "sigmoid_derivative",
    "softmax",
    "softmax_cross_entropy",
    "tanh",
    "weight_gradient",
]


def __getattr__(name: str) -> str:
    if name == "__version__":
        # On first use: reading the installed metadata costs more than the rest of this file.
        from importlib.metadata import version

        return version("fastbp")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
