"""What hidden units do to their weighted inputs: forward, derivative, and the backward recurrence.

The derivatives in the backward recurrence are those at the activation a, which the forward pass has
left: a (1 - a) of the sigmoid, (1 - a)(1 + a) of tanh, 0 or 1 of relu.
"""

from fastbp._compile import floats, inlined, public_kernel, written
from fastbp._simd import flat, fma, load_masked, select, store_masked, width
from fastbp.kernels.elementary import sigmoid_derivative_lanes, sigmoid_lanes, tanh_lanes

# The number by which compiled code knows an activation is its place here.
ACTIVATIONS = ("identity", "sigmoid", "tanh", "relu")
IDENTITY, SIGMOID, TANH, RELU = range(len(ACTIVATIONS))


@inlined
def activate(z, activation):
    """a, for a register of weighted inputs."""
    if activation == SIGMOID:
        z = sigmoid_lanes(z)
    elif activation == TANH:
        z = tanh_lanes(z)
    elif activation == RELU:
        z = select(z < 0.0, 0.0, z)  # NaN stays
    return z


@inlined
def times_derivative(carried, a, activation):
    """The error that reaches the weighted inputs, from what is carried back to the activations."""
    if activation == SIGMOID:
        carried = carried * (a * (1.0 - a))
    elif activation == TANH:
        carried = carried * fma(0.0 - a, a, 1.0)
    elif activation == RELU:
        carried = select(a == 0.0, 0.0, carried)
    return carried


@public_kernel(z=floats(...), a=written(...))
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
        a_j = sigmoid_lanes(load_masked(z_all, j, z.size - j, 0.0))
        store_masked(a_all, j, a_j, z.size - j)


@public_kernel(z=floats(...), a_prime=written(...))
def sigmoid_derivative_forward(z, a_prime):
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
    >>> from fastbp.kernels import sigmoid_derivative_forward
    >>> a_prime = np.empty((1, 1))
    >>> sigmoid_derivative_forward(np.array([[0.0]]), a_prime)
    >>> a_prime
    array([[0.25]])
    """
    z_all, a_prime_all = flat(z), flat(a_prime)
    for j in range(0, z.size, width(z)):
        a_prime_j = sigmoid_derivative_lanes(load_masked(z_all, j, z.size - j, 0.0))
        store_masked(a_prime_all, j, a_prime_j, z.size - j)


@public_kernel(a=floats(...), delta=written(...))
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
        a_j = load_masked(a_all, j, a.size - j, 0.0)
        delta_j = load_masked(delta_all, j, a.size - j, 0.0)
        store_masked(delta_all, j, delta_j * (a_j * (1.0 - a_j)), a.size - j)


@public_kernel(z=floats(...), a=written(...))
def tanh_forward(z, a):
    """a_ij = (e**z_ij - e**-z_ij) / (e**z_ij + e**-z_ij).

    Parameters
    ----------
    z : (n, units) float32 or float64, C-contiguous
        Weighted inputs.
    a : (n, units) of the dtype of `z`, written
        May be `z` itself.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import tanh_forward
    >>> a = np.empty((1, 2))
    >>> tanh_forward(np.array([[0.0, -800.0]]), a)
    >>> a
    array([[ 0., -1.]])
    """
    z_all, a_all = flat(z), flat(a)
    for j in range(0, z.size, width(z)):
        a_j = tanh_lanes(load_masked(z_all, j, z.size - j, 0.0))
        store_masked(a_all, j, a_j, z.size - j)


@public_kernel(a=floats(...), delta=written(...))
def tanh_backward(a, delta):
    """delta_ij <- delta_ij (1 - a_ij**2): the part of tanh in BP2.

    Parameters
    ----------
    a : (n, units) float32 or float64, C-contiguous
        Activations.
    delta : (n, units) of the dtype of `a`, updated
        The error carried back to the activations, then to the weighted inputs.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import tanh_backward
    >>> delta = np.array([[2.0]])
    >>> tanh_backward(np.array([[0.5]]), delta)
    >>> delta
    array([[1.5]])
    """
    a_all, delta_all = flat(a), flat(delta)
    for j in range(0, a.size, width(a)):
        a_j = load_masked(a_all, j, a.size - j, 0.0)
        delta_j = load_masked(delta_all, j, a.size - j, 0.0)
        store_masked(delta_all, j, times_derivative(delta_j, a_j, TANH), a.size - j)


@public_kernel(z=floats(...), a=written(...))
def relu_forward(z, a):
    """a_ij = max(0, z_ij); NaN stays NaN.

    Parameters
    ----------
    z : (n, units) float32 or float64, C-contiguous
        Weighted inputs.
    a : (n, units) of the dtype of `z`, written
        May be `z` itself.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import relu_forward
    >>> a = np.empty((1, 2))
    >>> relu_forward(np.array([[0.5, -3.0]]), a)
    >>> a
    array([[0.5, 0. ]])
    """
    z_all, a_all = flat(z), flat(a)
    for j in range(0, z.size, width(z)):
        z_j = load_masked(z_all, j, z.size - j, 0.0)
        store_masked(a_all, j, activate(z_j, RELU), z.size - j)


@public_kernel(a=floats(...), delta=written(...))
def relu_backward(a, delta):
    """delta_ij <- delta_ij where a_ij is not 0, else 0: the part of relu in BP2.

    Parameters
    ----------
    a : (n, units) float32 or float64, C-contiguous
        Activations.
    delta : (n, units) of the dtype of `a`, updated
        The error carried back to the activations, then to the weighted inputs.

    Notes
    -----
    At z = 0, where relu has no derivative, 0 is taken for it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import relu_backward
    >>> delta = np.array([[2.0, 2.0]])
    >>> relu_backward(np.array([[0.5, 0.0]]), delta)
    >>> delta
    array([[2., 0.]])
    """
    a_all, delta_all = flat(a), flat(delta)
    for j in range(0, a.size, width(a)):
        a_j = load_masked(a_all, j, a.size - j, 0.0)
        delta_j = load_masked(delta_all, j, a.size - j, 0.0)
        store_masked(delta_all, j, times_derivative(delta_j, a_j, RELU), a.size - j)
