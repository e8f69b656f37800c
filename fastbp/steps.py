"""Checked steps of gradient descent over the kernels: parameters and their state, in place."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import kernels
from fastbp._checks import arrays

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from fastbp._checks.arrays import Array

__all__ = ["adam_step", "momentum_step", "nesterov_step"]


def _step(
    kernel: Callable[..., None], param: Array, grad: ArrayLike, state: dict[str, Array], *rates: Any
) -> None:
    """Check the arrays of a step and have the kernel take it, in place whatever their layout.

    ``state`` are the arrays that the method keeps beside ``param``, by the names of the arguments.
    """
    if not isinstance(param, np.ndarray) or param.dtype.newbyteorder("=") not in (
        arrays.FLOAT32,
        arrays.FLOAT64,
    ):
        got = getattr(param, "dtype", type(param).__name__)
        raise TypeError(f"param must be a numpy.ndarray of float32 or float64, got {got}")
    written = {"param": param, **state}
    for name, x in written.items():
        arrays.check_out(x, param.shape, param.dtype, name)
    for (first, x), (second, y) in itertools.combinations(written.items(), 2):
        if np.shares_memory(x, y):
            raise ValueError(f"{second} must not overlap {first}")
    plain = [arrays.as_float_array(x, name) for name, x in written.items()]
    g = arrays.as_float_array(grad, "grad", dtype=plain[0].dtype)
    arrays.check_shape(g, param.shape, "grad")
    if any(np.may_share_memory(g, x) for x in plain):
        g = g.copy()
    theta, *others = (x.reshape(-1) for x in plain)
    kernel(theta, g.reshape(-1), *others, *rates)
    for x, given in zip(plain, written.values(), strict=True):
        # Strided or byte-swapped arrays were updated in a copy.
        if not np.may_share_memory(x, given):
            np.copyto(given, x)


def momentum_step(
    param: Array, grad: ArrayLike, velocity: Array, learning_rate: float, momentum: float
) -> None:
    """Momentum SGD, in place: velocity = momentum velocity - learning_rate grad; param += velocity.

    Parameters
    ----------
    param : ndarray of float32 or float64, any shape
        Parameters, updated.
    grad : array_like in the shape of ``param``
        Gradient of the cost; converted to the dtype of ``param``.
    velocity : ndarray of the shape and dtype of ``param``
        Velocity, updated; zeros to begin with.
    learning_rate : float >= 0
    momentum : float in [0, 1]

    Raises
    ------
    TypeError
        If param or velocity is not an array of float32 or float64, of one dtype; if grad is not an
        array of float32, float64 or integers; if learning_rate or momentum is no number.
    ValueError
        If grad or velocity does not have the shape of param; if param or velocity is read-only, or
        if they overlap; if learning_rate is not a finite number >= 0; if momentum is not in [0, 1].

    Notes
    -----
    Each operation is rounded.  While the learning rate is constant this equals the other usual
    form [1]_, d <- momentum d + grad, param <- param - learning_rate d, with velocity =
    -learning_rate d.

    References
    ----------
    .. [1] I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and
       momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import fastbp, numpy as np
    >>> param, velocity = np.array([1.0, 2.0]), np.zeros(2)
    >>> fastbp.momentum_step(param, [1.0, -1.0], velocity, 0.5, 0.9)
    >>> param, velocity
    (array([0.5, 2.5]), array([-0.5,  0.5]))
    """
    learning_rate = arrays.as_real(learning_rate, "learning_rate", 0.0)
    momentum = arrays.as_real(momentum, "momentum", 0.0, 1.0)
    _step(kernels.momentum_step, param, grad, {"velocity": velocity}, learning_rate, momentum)


def nesterov_step(
    param: Array, grad: ArrayLike, velocity: Array, learning_rate: float, momentum: float
) -> None:
    """Nesterov's momentum, in place: param += momentum velocity - learning_rate grad.

    The velocity is the new one: velocity = momentum velocity - learning_rate grad comes first.

    Parameters
    ----------
    param : ndarray of float32 or float64, any shape
        Parameters, updated.
    grad : array_like in the shape of ``param``
        Gradient of the cost; converted to the dtype of ``param``.
    velocity : ndarray of the shape and dtype of ``param``
        Velocity, updated; zeros to begin with.
    learning_rate : float >= 0
    momentum : float in [0, 1]

    Raises
    ------
    TypeError
        If param or velocity is not an array of float32 or float64, of one dtype; if grad is not an
        array of float32, float64 or integers; if learning_rate or momentum is no number.
    ValueError
        If grad or velocity does not have the shape of param; if param or velocity is read-only, or
        if they overlap; if learning_rate is not a finite number >= 0; if momentum is not in [0, 1].

    Notes
    -----
    Each operation is rounded.  Nesterov's accelerated gradient as momentum [1]_, where param stands
    for the point looked ahead to, at which the next gradient is taken.

    References
    ----------
    .. [1] I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and
       momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import fastbp, numpy as np
    >>> param, velocity = np.array([1.0, 2.0]), np.zeros(2)
    >>> fastbp.nesterov_step(param, [1.0, -1.0], velocity, 0.5, 0.5)
    >>> param, velocity
    (array([0.25, 2.75]), array([-0.5,  0.5]))
    """
    learning_rate = arrays.as_real(learning_rate, "learning_rate", 0.0)
    momentum = arrays.as_real(momentum, "momentum", 0.0, 1.0)
    _step(kernels.nesterov_step, param, grad, {"velocity": velocity}, learning_rate, momentum)


def adam_step(
    param: Array,
    grad: ArrayLike,
    first: Array,
    second: Array,
    learning_rate: float = 1e-3,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    *,
    t: int,
) -> None:
    """Adam, or AdamW, in place: param -= learning_rate m / (sqrt(v) + epsilon).

    Where m = first / (1 - beta_1^t) and v = second / (1 - beta_2^t), of the new moments
    first = beta_1 first + (1 - beta_1) grad and second = beta_2 second + (1 - beta_2) grad^2.

    Parameters
    ----------
    param : ndarray of float32 or float64, any shape
        Parameters, updated.
    grad : array_like in the shape of ``param``
        Gradient of the cost; converted to the dtype of ``param``.
    first, second : ndarray of the shape and dtype of ``param``
        Moments of the gradient, updated; zeros to begin with.
    learning_rate : float >= 0, default 1e-3
    beta_1, beta_2 : float in [0, 1), default 0.9 and 0.999
        Shares of the moments that stay.
    epsilon : float >= 0, default 1e-8
        If it is 0, a parameter whose gradients were all 0 becomes NaN.
    weight_decay : float >= 0, default 0.0
        Above 0, this is AdamW: param -= learning_rate weight_decay param comes first.
    t : int >= 1
        Number of this step: 1 with the first gradient.

    Raises
    ------
    TypeError
        If param, first or second is not an array of float32 or float64, of one dtype; if grad is
        not an array of float32, float64 or integers; if a rate is no number; if t is no integer.
    ValueError
        If grad, first or second does not have the shape of param; if param, first or second is
        read-only, or if two of them overlap; if learning_rate, epsilon or weight_decay is not a
        finite number >= 0; if beta_1 or beta_2 is not in [0, 1); if t < 1.

    Notes
    -----
    Adam is algorithm 1 of [1]_, AdamW that of [2]_.  Both moments' corrections are joined to one
    step size, learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t), and epsilon is multiplied with
    that root: the same numbers up to rounding.

    References
    ----------
    .. [1] D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    .. [2] I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    The first step has the size of the learning rate, whatever the gradient:

    >>> import fastbp, numpy as np
    >>> param, first, second = np.array([1.0, 1.0]), np.zeros(2), np.zeros(2)
    >>> fastbp.adam_step(param, [2.0, -0.5], first, second, 0.125, t=1)
    >>> param.round(4), first
    (array([0.875, 1.125]), array([ 0.2 , -0.05]))
    """
    learning_rate = arrays.as_real(learning_rate, "learning_rate", 0.0)
    beta_1 = arrays.as_real(beta_1, "beta_1", 0.0, 1.0, "left")
    beta_2 = arrays.as_real(beta_2, "beta_2", 0.0, 1.0, "left")
    epsilon = arrays.as_real(epsilon, "epsilon", 0.0)
    weight_decay = arrays.as_real(weight_decay, "weight_decay", 0.0)
    # The moments' corrections are 1 long before; compiled code takes no larger integers.
    t = min(arrays.as_positive_int(t, "t"), 2**62)
    rates = learning_rate, beta_1, beta_2, epsilon, weight_decay
    _step(
        kernels.adam_step,
        param,
        grad,
        {"first": first, "second": second},
        kernels.AdamOptions(*rates),
        t,
    )
