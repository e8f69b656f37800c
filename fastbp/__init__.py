"""Backpropagation with softmax outputs and cross-entropy, as Numba-compiled kernels."""

import gc
import importlib
import sys
from typing import TYPE_CHECKING, Any

# Before the collector is switched off: it would go over all of Numba's objects afterwards.
import numba  # noqa: F401

# The imports below leave no garbage, and looking for it takes a third of their time.
_collects = gc.isenabled()
gc.disable()
try:
    from fastbp import kernels
    from fastbp._files.network_file import ModelFileError
    from fastbp.functional import (
        adam_step,
        bias_gradient,
        cross_entropy,
        dense,
        hidden_error,
        log_softmax,
        logsumexp,
        momentum_step,
        nesterov_step,
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
    from fastbp.optimizers import SGD, Adam
    from fastbp.training.history import DivergenceError
    from fastbp.training.rows import open_rows
finally:
    if _collects:
        gc.enable()
    del _collects

if TYPE_CHECKING:
    from fastbp import convert, dask, display, distributed
    from fastbp.estimator.classifier import MLPClassifier as MLPClassifier

    __version__: str

# Without what needs other packages: ``from fastbp import *`` works everywhere.
__all__ = [
    "SGD",
    "Adam",
    "DivergenceError",
    "ModelFileError",
    "Network",
    "__version__",
    "adam_step",
    "bias_gradient",
    "convert",
    "cross_entropy",
    "dask",
    "dense",
    "display",
    "distributed",
    "hidden_error",
    "kernels",
    "log_softmax",
    "logsumexp",
    "momentum_step",
    "nesterov_step",
    "open_rows",
    "output_error",
    "relu",
    "sigmoid",
    "sigmoid_derivative",
    "softmax",
    "softmax_cross_entropy",
    "tanh",
    "weight_gradient",
]


def __getattr__(name: str) -> Any:
    # On first use: what these need costs more than the rest of this file.
    if name == "__version__":
        from importlib.metadata import version

        return version("fastbp")
    if name in ("convert", "dask", "display", "distributed"):
        return importlib.import_module(f"fastbp.{name}")
    if name == "MLPClassifier":
        try:
            from fastbp.estimator.classifier import MLPClassifier
        except ImportError as error:
            message = (
                "fastbp.MLPClassifier needs scikit-learn 1.6 or later: "
                f"pip install 'fastbp[sklearn]' ({error})"
            )
            # hasattr and inspect take no other error; "from fastbp import" would drop its words.
            is_import = sys._getframe(1).f_globals.get("__name__") == "importlib._bootstrap"
            raise (ImportError if is_import else AttributeError)(message) from error
        return MLPClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "MLPClassifier"]
