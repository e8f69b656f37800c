"""The parameter update: stochastic gradient descent with momentum."""

from fastbp._compile import kernel
from fastbp._llvm import flat, load_first, store_first, width


@kernel
def momentum_step(param, grad, velocity, learning_rate, momentum):
    """v <- mu v - eta g; theta <- theta + v.

    Parameters
    ----------
    param : (n,) float32 or float64, updated
        theta.
    grad : (n,) of the dtype of `param`
        g.
    velocity : (n,) of the dtype of `param`, updated
        v.
    learning_rate, momentum : float
        eta and mu, converted to the dtype of `param`.

    Notes
    -----
    Each operation is rounded on its own, as the equation is written: no fused multiply-add.  While
    eta is constant this equals Hinton's form d <- mu d + g, theta <- theta - eta d, with
    v = -eta d.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
    momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import momentum_step
    >>> param, velocity = np.array([1.0]), np.array([0.5])
    >>> momentum_step(param, np.array([2.0]), velocity, 0.125, 0.5)
    >>> param, velocity
    (array([1.]), array([0.]))
    """
    theta, g, v = flat(param), flat(grad), flat(velocity)
    n = param.size
    for q in range(0, n, width(param)):
        g_q = load_first(g, q, n - q, 0.0)
        v_q = momentum * load_first(v, q, n - q, 0.0) - learning_rate * g_q
        store_first(v, q, v_q, n - q)
        store_first(theta, q, load_first(theta, q, n - q, 0.0) + v_q, n - q)
