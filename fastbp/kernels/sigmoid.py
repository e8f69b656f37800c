"""The sigmoid over a batch: forward, derivative, and the backward recurrence."""

from fastbp._compile import kernel
from fastbp._llvm import flat, load_first, store_first, width
from fastbp.kernels.elementary import sigmoid_derivative_lanes, sigmoid_lanes


@kernel
def sigmoid_forward(z, a):
    """a_ij = 1 / (1 + e**-z_ij).

    Parameters
    ----------
    z : (n, units) float32 or float64, C-contiguous
        Weighted inputs.
    a : (n, units) of the dtype of `z`, written
        May be `z` itself.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import sigmoid_forward
    >>> a = np.empty((1, 2))
    >>> sigmoid_forward(np.array([[0.0, -800.0]]), a)
    >>> a
    array([[0.5, 0. ]])
    """
    z_all, a_all = flat(z), flat(a)
    for j in range(0, z.size, width(z)):
        a_j = sigmoid_lanes(load_first(z_all, j, z.size - j, 0.0))
        store_first(a_all, j, a_j, z.size - j)


@kernel
def sigmoid_prime(z, a_prime):
    """a'_ij = a_ij (1 - a_ij), computed from z without the cancellation in 1 - a.

    Parameters
    ----------
    z : (n, units) float32 or float64, C-contiguous
        Weighted inputs.
    a_prime : (n, units) of the dtype of `z`, written
        May be `z` itself.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import sigmoid_prime
    >>> a_prime = np.empty((1, 1))
    >>> sigmoid_prime(np.array([[0.0]]), a_prime)
    >>> a_prime
    array([[0.25]])
    """
    z_all, a_prime_all = flat(z), flat(a_prime)
    for j in range(0, z.size, width(z)):
        a_prime_j = sigmoid_derivative_lanes(load_first(z_all, j, z.size - j, 0.0))
        store_first(a_prime_all, j, a_prime_j, z.size - j)


@kernel
def sigmoid_backward(a, delta):
    """delta_ij <- delta_ij a_ij (1 - a_ij): the sigmoid's part of BP2.

    Parameters
    ----------
    a : (n, units) float32 or float64, C-contiguous
        Activations.
    delta : (n, units) of the dtype of `a`, updated
        The error carried back to the activations, then to the weighted inputs.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import sigmoid_backward
    >>> delta = np.array([[2.0]])
    >>> sigmoid_backward(np.array([[0.5]]), delta)
    >>> delta
    array([[0.5]])
    """
    a_all, delta_all = flat(a), flat(delta)
    for j in range(0, a.size, width(a)):
        a_j = load_first(a_all, j, a.size - j, 0.0)
        delta_j = load_first(delta_all, j, a.size - j, 0.0)
        store_first(delta_all, j, delta_j * (a_j * (1.0 - a_j)), a.size - j)
