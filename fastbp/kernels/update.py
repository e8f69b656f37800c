"""The parameter update: momentum, Nesterov's momentum, Adam."""

import math
from typing import NamedTuple

from fastbp._compile import inlined, kernel
from fastbp._simd import (
    constant_for,
    fabs,
    flat,
    load,
    load_masked,
    select,
    sqrt,
    store,
    store_masked,
    width,
)


class Rule(NamedTuple):
    """What a step makes of a gradient; the arguments of `momentum_update`, or of `adam_update`."""

    l2: float
    learning_rate: float
    momentum: float
    nesterov: bool
    moments: tuple[float, float, float, float]
    rates: tuple[float, float, float]


@inlined
def momentum_update(theta, g, v, learning_rate, momentum, nesterov):
    """The new theta and v of a register of parameters; every operation is rounded."""
    descent = learning_rate * g
    v = momentum * v - descent
    if nesterov:
        return theta + (momentum * v - descent), v
    return theta + v, v


@inlined
def update_parameters(theta, grad, v, u, n, rule):
    """Update n parameters, whole registers of them, with the penalty on each; by Adam, with u."""
    for q in range(0, n, width(theta)):
        theta_q, g, v_q = load(theta, q), load(grad, q), load(v, q)
        if rule.l2 != 0.0:
            g = g + rule.l2 * theta_q
        if u is None:
            theta_q, v_q = momentum_update(
                *(theta_q, g, v_q, rule.learning_rate, rule.momentum, rule.nesterov)
            )
        else:
            theta_q, v_q, u_q = adam_update(theta_q, g, v_q, load(u, q), *rule.moments, *rule.rates)
            store(u, q, u_q)
        store(v, q, v_q)
        store(theta, q, theta_q)


@inlined
def adam_update(theta, g, m, v, beta_1, rest_1, beta_2, rest_2, rate, epsilon, decay):
    """The new theta, m and v of a register of parameters.

    ``rest_1`` = 1 - beta_1, ``rest_2`` = 1 - beta_2: rounded once, from float64.  ``rate`` holds
    the correction of both moments' bias; ``decay`` is the share of theta that AdamW takes away.
    """
    m = beta_1 * m + rest_1 * g
    v = beta_2 * v + rest_2 * (g * g)
    return (theta - decay * theta) - rate * m / (sqrt(v) + epsilon), m, v


# The smallest normal numbers
NORMAL_32, NORMAL_64 = 2.0**-126, 2.0**-1022


@inlined
def flush(memory, n):
    """Put 0 in the place of those of n numbers that are subnormal.

    What training remembers of a gradient that is 0 for long, as of a silent unit or column, would
    become subnormal and stay so: arithmetic with those is slow.
    """
    for q in range(0, n, width(memory)):
        x = load_masked(memory, q, n - q, 0.0)
        x = select(fabs(x) < constant_for(x, NORMAL_32, NORMAL_64), 0.0, x)
        store_masked(memory, q, x, n - q)


@inlined
def one_minus_power(base, n):
    """1 - base**n for a natural number n, where base**n is close to 1, too.

    With r = 1 - base**k, 1 - base**2k is r (2 - r): nothing cancels, and every machine gives the
    same number, for there are only multiplications and additions.
    """
    total, r = 0.0, 1.0 - base
    while n > 0:
        if n % 2 == 1:
            total = total + r - total * r
        r = r * (2.0 - r)
        n //= 2
    return total


@inlined
def adam_rate(learning_rate, beta_1, beta_2, t):
    """eta sqrt(1 - beta_2**t) / (1 - beta_1**t), and that square root."""
    root = math.sqrt(one_minus_power(beta_2, t))
    return learning_rate * root / one_minus_power(beta_1, t), root


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
        theta_q, v_q = momentum_update(
            load_masked(theta, q, n - q, 0.0),
            load_masked(g, q, n - q, 0.0),
            load_masked(v, q, n - q, 0.0),
            *(learning_rate, momentum, False),
        )
        store_masked(v, q, v_q, n - q)
        store_masked(theta, q, theta_q, n - q)


@kernel
def nesterov_step(param, grad, velocity, learning_rate, momentum):
    """v <- mu v - eta g; theta <- theta + mu v - eta g.

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
    Nesterov's accelerated gradient, written for the point theta + mu v at which the next gradient
    is taken.  Each operation is rounded on its own, as the equation is written.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
    momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import nesterov_step
    >>> param, velocity = np.array([1.0]), np.array([0.5])
    >>> nesterov_step(param, np.array([2.0]), velocity, 0.125, 0.5)
    >>> param, velocity
    (array([0.75]), array([0.]))
    """
    theta, g, v = flat(param), flat(grad), flat(velocity)
    n = param.size
    for q in range(0, n, width(param)):
        theta_q, v_q = momentum_update(
            load_masked(theta, q, n - q, 0.0),
            load_masked(g, q, n - q, 0.0),
            load_masked(v, q, n - q, 0.0),
            *(learning_rate, momentum, True),
        )
        store_masked(v, q, v_q, n - q)
        store_masked(theta, q, theta_q, n - q)


@kernel
def adam_step(param, grad, first, second, learning_rate, beta_1, beta_2, epsilon, weight_decay, t):
    """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; theta <- theta - eta m' / (sqrt(v') + eps).

    With m' = m / (1 - b1^t) and v' = v / (1 - b2^t), after theta <- theta - eta decay theta.

    Parameters
    ----------
    param : (n,) float32 or float64, updated
        theta.
    grad : (n,) of the dtype of `param`
        g.
    first, second : (n,) of the dtype of `param`, updated
        m and v, the moments of the gradient; zeros before the first step.
    learning_rate, beta_1, beta_2, epsilon : float
        eta, b1, b2 and eps, converted to the dtype of `param`.
    weight_decay : float
        Above 0, this is AdamW.
    t : int
        Number of this step, from 1 on.

    Notes
    -----
    The factors of m' and v' are joined to one step size, eta sqrt(1 - b2^t) / (1 - b1^t), and eps
    is multiplied with sqrt(1 - b2^t): the same numbers, without a division for each parameter.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    The first step has the size eta, whatever the gradient:

    >>> import numpy as np
    >>> from fastbp.kernels import adam_step
    >>> param, first, second = np.array([1.0, 1.0]), np.zeros(2), np.zeros(2)
    >>> adam_step(param, np.array([2.0, -0.5]), first, second, 0.125, 0.9, 0.999, 0.0, 0.0, 1)
    >>> param
    array([0.875, 1.125])
    """
    theta, g, m, v = flat(param), flat(grad), flat(first), flat(second)
    n = param.size
    rate, root = adam_rate(learning_rate, beta_1, beta_2, t)
    rest_1, rest_2 = 1.0 - beta_1, 1.0 - beta_2
    for q in range(0, n, width(param)):
        theta_q, m_q, v_q = adam_update(
            load_masked(theta, q, n - q, 0.0),
            load_masked(g, q, n - q, 0.0),
            load_masked(m, q, n - q, 0.0),
            load_masked(v, q, n - q, 0.0),
            *(beta_1, rest_1, beta_2, rest_2, rate, epsilon * root, learning_rate * weight_decay),
        )
        store_masked(theta, q, theta_q, n - q)
        store_masked(m, q, m_q, n - q)
        store_masked(v, q, v_q, n - q)
