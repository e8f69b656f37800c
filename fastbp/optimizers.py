"""How a training step uses the gradient: gradient descent with momentum, and Adam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp._checks.scalars import as_real
from fastbp.backprop.state import StepOptions


@dataclass(frozen=True)
class SGD:
    """Mini-batch gradient descent with momentum.

    With g the gradient of a batch::

        v     <- momentum * v - learning_rate * g
        theta <- theta + v                                      or, with Nesterov's momentum,
        theta <- theta + momentum * v - learning_rate * g

    Parameters
    ----------
    learning_rate : float
        Above 0.
    momentum : float
        From 0 to 1; 0 is plain gradient descent.
    nesterov : bool
        Whether theta moves ahead to where the next gradient is taken.

    Raises
    ------
    TypeError, ValueError
        If a value is not a number, or out of range.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
    momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import fastbp
    >>> net = fastbp.Network([2, 3, 2])
    >>> history = net.fit(
    ...     [[0, 1], [1, 0]], [0, 1], epochs=100, optimizer=fastbp.SGD(0.5, nesterov=True)
    ... )
    >>> net.predict([[0, 1], [1, 0]])
    array([0, 1])
    """

    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        _check(self, "learning_rate", 0.0, float("inf"), "right")
        _check(self, "momentum", 0.0, 1.0, "both")


@dataclass(frozen=True)
class Adam:
    """Adam, and with ``weight_decay`` AdamW.

    With g the gradient of batch t = 1, 2, ...::

        m     <- beta_1 * m + (1 - beta_1) * g          m' = m / (1 - beta_1**t)
        v     <- beta_2 * v + (1 - beta_2) * g**2       v' = v / (1 - beta_2**t)
        W     <- W - learning_rate * weight_decay * W           (weights, not biases)
        theta <- theta - learning_rate * m' / (sqrt(v') + epsilon)

    Parameters
    ----------
    learning_rate : float
        Above 0.
    beta_1, beta_2 : float
        At least 0 and below 1.
    epsilon : float
        Above 0.
    weight_decay : float
        Not negative.  Unlike the penalty ``l2`` of `Network.fit`, it does not pass through m and v.

    Raises
    ------
    TypeError, ValueError
        If a value is not a number, or out of range.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> import fastbp
    >>> net = fastbp.Network([2, 3, 2])
    >>> history = net.fit([[0, 1], [1, 0]], [0, 1], epochs=100, optimizer=fastbp.Adam(0.1))
    >>> net.predict([[0, 1], [1, 0]])
    array([0, 1])
    """

    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        _check(self, "learning_rate", 0.0, float("inf"), "right")
        _check(self, "beta_1", 0.0, 1.0, "left")
        _check(self, "beta_2", 0.0, 1.0, "left")
        _check(self, "epsilon", 0.0, float("inf"), "right")
        _check(self, "weight_decay", 0.0, float("inf"), "left")


def step_options(
    optimizer: SGD | Adam,
    l2: float = 0.0,
    alpha: float = 0.0,
    epsilon_is_corrected: bool = True,
) -> StepOptions:
    """Return how a step of the compiled code uses the gradient; see `StepOptions`."""
    if isinstance(optimizer, SGD):
        beta_1, beta_2, epsilon, weight_decay = optimizer.momentum, 0.0, 0.0, 0.0
    else:
        beta_1, beta_2 = optimizer.beta_1, optimizer.beta_2
        epsilon, weight_decay = optimizer.epsilon, optimizer.weight_decay
    return StepOptions(
        is_adam=isinstance(optimizer, Adam),
        nesterov=isinstance(optimizer, SGD) and bool(optimizer.nesterov),
        learning_rate=optimizer.learning_rate,
        momentum=beta_1,
        beta_2=beta_2,
        epsilon=epsilon,
        epsilon_is_corrected=epsilon_is_corrected,
        weight_decay=weight_decay,
        l2=l2,
        alpha=alpha,
    )


def check_epsilon(options: StepOptions, dtype: np.dtype[Any]) -> None:
    """Refuse an Adam whose epsilon is 0 or subnormal in ``dtype``."""
    smallest = np.finfo(dtype).tiny
    if options.is_adam and options.epsilon < smallest:
        raise ValueError(
            f"epsilon must be at least {smallest:.3g}, to be above 0 in {dtype.name}, "
            f"got {options.epsilon}"
        )


def _check(optimizer: SGD | Adam, name: str, low: float, high: float, closed: str) -> None:
    value = as_real(getattr(optimizer, name), name, low=low, high=high, closed=closed)
    object.__setattr__(optimizer, name, value)
