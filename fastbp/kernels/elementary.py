"""exp, log1p and the sigmoid."""

import numpy as np

from fastbp._compile import kernel


@kernel
def exp(x):
    return np.exp(x)


@kernel
def log1p(x):
    return np.log1p(x)


@kernel
def sigmoid(z):
    e = exp(-abs(z))
    one = type(z)(1)
    return one / (one + e) if z >= 0 else e / (one + e)


@kernel
def sigmoid_derivative(z):
    e = exp(-abs(z))
    one = type(z)(1)
    return e / ((one + e) * (one + e))
