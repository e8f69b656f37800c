"""The parameter update: momentum, Nesterov's momentum, Adam."""

import math
from typing import Any, NamedTuple

from fastbp._compile import INTEGER, REAL, floats, inlined, public_kernel, record, written
from fastbp._simd import (
    constant_for,
    fabs,
    flat,
    load,
    load_masked,
    momentum_update,
    select,
    sqrt,
    store,
    store_masked,
    width,
)


class SgdRates(NamedTuple):
    """Rates of `momentum_update`; the penalty ``l2`` counts for Adam, too."""

    learning_rate: Any
    momentum: Any
    l2: Any
    nesterov: Any


class AdamRates(NamedTuple):
    """Rates of `adam_update`."""

    beta_1: Any
    rest_1: Any  # 1 - beta_1 and 1 - beta_2: rounded once, from float64
    beta_2: Any
    rest_2: Any
    rate: Any  # learning rate, times the correction of both moments' bias
    epsilon: Any
    decay: Any  # the share of theta that AdamW takes away


class AdamOptions(NamedTuple):
    """Options of `adam_step`.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon, weight_decay : float
        As in `fastbp.adam_step`.

    Examples
    --------
    >>> from fastbp.kernels import AdamOptions
    >>> AdamOptions(0.001, 0.9, 0.999, 1e-8, 0.0).beta_2
    0.999
    """

    learning_rate: float
    beta_1: float
    beta_2: float
    epsilon: float
    weight_decay: float


class Rule(NamedTuple):
    """How a step uses a gradient."""

    sgd: Any
    adam: Any


sgd_update = inlined(momentum_update)


@inlined
def update_parameters(theta, grad, v, u, n, rule):
    """Update n parameters, whole vectors of them, with the penalty on each; by Adam, with u."""
    for q in range(0, n, width(theta)):
        theta_q, g, v_q = load(theta, q), load(grad, q), load(v, q)
        if rule.sgd.l2 != 0.0:
            g = g + rule.sgd.l2 * theta_q
        if u is None:
            rates = rule.sgd
            theta_q, v_q = sgd_update(
                theta_q, g, v_q, rates.learning_rate, rates.momentum, rates.nesterov
            )
        else:
            theta_q, v_q, u_q = adam_update(theta_q, g, v_q, load(u, q), rule.adam)
            store(u, q, u_q)
        store(v, q, v_q)
        store(theta, q, theta_q)


@inlined
def adam_update(theta, g, m, v, rates):
    """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; theta -= rate m / (sqrt(v) + eps)."""
    m = rates.beta_1 * m + rates.rest_1 * g
    v = rates.beta_2 * v + rates.rest_2 * (g * g)
    kept = theta - rates.decay * theta
    return kept - rates.rate * m / (sqrt(v) + rates.epsilon), m, v


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
def adam_rates(options, t):
    """The rates of update number t, with eps added after the correction of v's bias.

    rate = eta sqrt(1 - beta_2**t) / (1 - beta_1**t).
    """
    root = math.sqrt(one_minus_power(options.beta_2, t))
    return AdamRates(
        options.beta_1,
        1.0 - options.beta_1,
        options.beta_2,
        1.0 - options.beta_2,
        options.learning_rate * root / one_minus_power(options.beta_1, t),
        options.epsilon * root,
        options.learning_rate * options.weight_decay,
    )


@inlined
def _momentum_step(param, grad, velocity, learning_rate, momentum, nesterov):
    theta, g, v, n = flat(param), flat(grad), flat(velocity), param.size
    for q in range(0, n, width(param)):
        theta_q, g_q = load_masked(theta, q, n - q, 0.0), load_masked(g, q, n - q, 0.0)
        v_q = load_masked(v, q, n - q, 0.0)
        theta_q, v_q = sgd_update(theta_q, g_q, v_q, learning_rate, momentum, nesterov)
        store_masked(v, q, v_q, n - q)
        store_masked(theta, q, theta_q, n - q)


@public_kernel(
    param=written(...),
    grad=floats(...),
    velocity=written(...),
    learning_rate=REAL,
    momentum=REAL,
)
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
    _momentum_step(param, grad, velocity, learning_rate, momentum, False)


@public_kernel(
    param=written(...),
    grad=floats(...),
    velocity=written(...),
    learning_rate=REAL,
    momentum=REAL,
)
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
    _momentum_step(param, grad, velocity, learning_rate, momentum, True)


@public_kernel(
    param=written(...),
    grad=floats(...),
    first=written(...),
    second=written(...),
    options=record(AdamOptions),
    t=INTEGER,
)
def adam_step(param, grad, first, second, options, t):
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
    options : AdamOptions
        eta, b1, b2, eps and the decay.  With a decay above 0, this is AdamW.
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
    >>> from fastbp.kernels import AdamOptions, adam_step
    >>> param, first, second = np.array([1.0, 1.0]), np.zeros(2), np.zeros(2)
    >>> options = AdamOptions(0.125, 0.9, 0.999, 0.0, 0.0)
    >>> adam_step(param, np.array([2.0, -0.5]), first, second, options, 1)
    >>> param
    array([0.875, 1.125])
    """
    theta, g, m, v = flat(param), flat(grad), flat(first), flat(second)
    n, rates = param.size, adam_rates(options, t)
    for q in range(0, n, width(param)):
        theta_q, g_q = load_masked(theta, q, n - q, 0.0), load_masked(g, q, n - q, 0.0)
        m_q, v_q = load_masked(m, q, n - q, 0.0), load_masked(v, q, n - q, 0.0)
        theta_q, m_q, v_q = adam_update(theta_q, g_q, m_q, v_q, rates)
        store_masked(theta, q, theta_q, n - q)
        store_masked(m, q, m_q, n - q)
        store_masked(v, q, v_q, n - q)
