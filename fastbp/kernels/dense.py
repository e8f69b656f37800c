"""A fully-connected layer: z = a W + b, the error it passes back, and its gradients.

Every sum runs over its index in order, in fused multiply-adds, so that an entry's bits depend
neither on the batch nor on the place of its row in it.
"""

from fastbp._compile import kernel
from fastbp._llvm import (
    at,
    convert,
    fill,
    flat,
    fma,
    load_first,
    put,
    row,
    scalar,
    store_first,
    sum_lanes,
    widen,
    width,
)


@kernel
def dense_forward(a_prev, w, b, z):
    """z_ij = sum_k a_prev_ik w_kj + b_j.

    Parameters
    ----------
    a_prev : (n, fan_in) float32 or float64, C-contiguous
    w : (fan_in, fan_out) of the dtype of `a_prev`
    b : (fan_out,) of the dtype of `a_prev`
    z : (n, fan_out) of the dtype of `a_prev`, written
        Shares no memory with the inputs.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import dense_forward
    >>> z = np.empty((1, 1))
    >>> dense_forward(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([5.0]), z)
    >>> z
    array([[16.]])
    """
    n, fan_out = z.shape
    b_all = flat(b)
    for i in range(n):
        a_i, z_i = row(a_prev, i), row(z, i)
        for j in range(0, fan_out, width(z)):
            total = fill(z, 0.0)
            for k in range(w.shape[0]):
                total = fma(at(a_i, k), load_first(row(w, k), j, fan_out - j, 0.0), total)
            store_first(z_i, j, total + load_first(b_all, j, fan_out - j, 0.0), fan_out - j)


@kernel
def hidden_error(delta_next, w_next, a, delta):
    """delta_ij = (sum_k delta_next_ik w_next_jk) a_ij (1 - a_ij) (BP2).

    Parameters
    ----------
    delta_next : (n, fan_out) float32 or float64, C-contiguous
        Error of the next layer.
    w_next : (units, fan_out) of the same dtype
        Weights from this layer to the next.
    a : (n, units) of the same dtype
        Activations of this layer.
    delta : (n, units) of the same dtype, written
        May be `a` itself.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import hidden_error
    >>> delta = np.empty((1, 1))
    >>> hidden_error(np.array([[1.0, 3.0]]), np.array([[2.0, 2.0]]), np.array([[0.5]]), delta)
    >>> delta
    array([[2.]])
    """
    n, units = delta.shape
    fan_out = w_next.shape[1]
    zeros = fill(delta, 0.0)
    for i in range(n):
        next_i, a_i, delta_i = row(delta_next, i), row(a, i), row(delta, i)
        for j in range(units):
            w_j = row(w_next, j)
            total = zeros
            for k in range(0, fan_out, width(delta)):
                w_jk = load_first(w_j, k, fan_out - k, 0.0)
                total = fma(load_first(next_i, k, fan_out - k, 0.0), w_jk, total)
            carried, _ = sum_lanes(total, zeros)
            a_ij = at(a_i, j)
            put(delta_i, j, scalar(convert(carried, delta)) * (a_ij * (1 - a_ij)))


@kernel
def weight_gradient(a_prev, delta, grad_w):
    """dC/dw_jk = (1/n) sum_i a_prev_ij delta_ik (BP4, the mean over the batch).

    Parameters
    ----------
    a_prev : (n, fan_in) float32 or float64, C-contiguous
        Activations that enter the layer.
    delta : (n, fan_out) of the same dtype
        Error of the layer.
    grad_w : (fan_in, fan_out) of the same dtype, written

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import weight_gradient
    >>> grad_w = np.empty((1, 1))
    >>> weight_gradient(np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]]), grad_w)
    >>> grad_w
    array([[5.5]])
    """
    n = a_prev.shape[0]
    fan_in, fan_out = grad_w.shape
    for j in range(fan_in):
        grad_j = row(grad_w, j)
        for k in range(0, fan_out, width(delta)):
            total = fill(delta, 0.0)
            for i in range(n):
                delta_ik = load_first(row(delta, i), k, fan_out - k, 0.0)
                total = fma(at(row(a_prev, i), j), delta_ik, total)
            store_first(grad_j, k, total / n, fan_out - k)


@kernel
def bias_gradient(delta, grad_b):
    """dC/db_k = (1/n) sum_i delta_ik (BP3, the mean over the batch).

    Parameters
    ----------
    delta : (n, fan_out) float32 or float64, C-contiguous
        Error of the layer.
    grad_b : (fan_out,) of the dtype of `delta`, written

    Notes
    -----
    Summed in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import bias_gradient
    >>> grad_b = np.empty(1)
    >>> bias_gradient(np.array([[1.0], [2.0]]), grad_b)
    >>> grad_b
    array([1.5])
    """
    n, fan_out = delta.shape
    grad = flat(grad_b)
    for k in range(0, fan_out, width(delta)):
        total = widen(fill(delta, 0.0))
        for i in range(n):
            total = total + widen(load_first(row(delta, i), k, fan_out - k, 0.0))
        store_first(grad, k, convert(total / n, delta), fan_out - k)
