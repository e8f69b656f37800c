"""Compiled, unchecked, allocation-free kernels, callable from Python and from ``@njit`` code.

Inputs come first, written arrays next, scalars last.  Arrays are C-contiguous, of float32 or
float64, one for all; labels are integers.  Anything else is a TypingError when the call is
compiled, and names the kernel and the argument.  (Within ``numba.guvectorize`` arrays may have any
strides: hand kernels ``np.ascontiguousarray`` of them.)

Values are not checked: a wrong length or label reads or writes memory that is not yours.  Run tests
once with ``NUMBA_BOUNDSCHECK=1``: each kernel then compares lengths and labels first, and raises an
IndexError that names them.

Functions decorated with ``@njit(cache=True)`` call the kernels' machine code, or hold a copy where
a kernel is small.  After an upgrade of fastbp they are compiled again, at their first call.
"""

from fastbp.kernels.activation import (
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_derivative_forward,
    sigmoid_forward,
    tanh_backward,
    tanh_forward,
)
from fastbp.kernels.cross_entropy import (
    cross_entropy,
    loss_sum,
    output_error,
    softmax_cross_entropy,
)
from fastbp.kernels.dense import (
    bias_gradient,
    dense_forward,
    hidden_error,
    hidden_error_of,
    weight_gradient,
)
from fastbp.kernels.elementary import exp, log1p, sigmoid, sigmoid_derivative, tanh
from fastbp.kernels.softmax import log_softmax, logsumexp, row_max, softmax
from fastbp.kernels.targets import (
    cross_entropy_targets,
    output_error_targets,
    smoothed_targets,
    softmax_cross_entropy_targets,
)
from fastbp.kernels.update import AdamOptions, adam_step, momentum_step, nesterov_step

__all__ = [
    "AdamOptions",
    "adam_step",
    "bias_gradient",
    "cross_entropy",
    "cross_entropy_targets",
    "dense_forward",
    "exp",
    "hidden_error",
    "hidden_error_of",
    "log1p",
    "log_softmax",
    "logsumexp",
    "loss_sum",
    "momentum_step",
    "nesterov_step",
    "output_error",
    "output_error_targets",
    "relu_backward",
    "relu_forward",
    "row_max",
    "sigmoid",
    "sigmoid_backward",
    "sigmoid_derivative",
    "sigmoid_derivative_forward",
    "sigmoid_forward",
    "smoothed_targets",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_targets",
    "tanh",
    "tanh_backward",
    "tanh_forward",
    "weight_gradient",
]
