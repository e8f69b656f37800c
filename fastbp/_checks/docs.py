"""What the declarations of several functions share: paragraphs of docstrings, and types."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]

_PARAGRAPHS = {
    "{examples}": """Examples
    --------
    >>> import fastbp""",
    "{elementwise}": """Parameters
    ----------
    z : array_like of any shape
        Weighted inputs.
    {out}""",
    "{row_by_row}": """Parameters
    ----------
    {axis}
    {out}
        If ``axis`` is out of range or names an axis twice; if there is no class.""",
    "{axis}": """z : array_like of any shape
        Logits.
    axis : int, tuple of int or None, default -1
        The class axis or axes; None means over everything.""",
    "{labels}": """y : array_like
        Class labels: integers from 0 to n_classes - 1, in the shape of the first argument without
        the class axis.  Or target rows, one-hot or probabilities, in its whole shape.
    axis : int, default -1
        The class axis.""",
    "{label_errors}": """If a label is not from 0 to n_classes - 1; if a target row holds a negative
        number or NaN, or does not sum to 1 within 8 n_classes 2**-24 and within 1e-5; if there is
        no class.""",
    "{velocity_step}": """Parameters
    ----------
    param : ndarray of float32 or float64
        Updated.
    grad : array_like of the shape of ``param``
        Gradient of the cost.
    velocity : ndarray of the shape and dtype of ``param``
        Updated; it begins with zeros.
    learning_rate : float
        Not negative.
    momentum : float
        From 0 to 1.

    {step_errors}""",
    "{step_errors}": """Raises
    ------
    TypeError, ValueError
        If an argument is not as above; if an updated array is read-only or overlaps another.""",
    "{rows}": """Parameters
    ----------
    X : array_like of shape (n, n_features)
        Numbers or bool, converted to the network's dtype.
    n_threads : int, optional
        Threads to compute with, at most, as in `fit`: the result does not depend on it.""",
    "{data}": """Parameters
    ----------
    X : array_like of shape (n, n_features)
        Numbers or bool, converted to the network's dtype.
    y : array_like of shape (n,) or (n, n_classes)
        Labels, or rows of probabilities.
    sample_weight : array_like of shape (n,), optional
        Weights of the rows, not negative: the mean is a weighted one.""",
    "{network_errors}": """Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, shape or range.""",
    "{out}": """out : ndarray of the shape and dtype of the result, optional
        Where to write the result; it may be an input or overlap the inputs.

    Returns
    -------
    ndarray or scalar
        The result, or ``out``; in the dtype of the first argument, to which the others are
        converted, or in float64 if that holds integers.

    Raises
    ------
    TypeError, ValueError
        If an array is not of float32, float64 or integers, is a numpy.matrix or has masked values;
        if a shape or an option is not as above; if ``out`` is read-only.""",
}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def documented(function: _Function) -> _Function:
    """Replace the names of shared paragraphs in a docstring by their text."""
    if function.__doc__:  # not under python -OO
        text = inspect.cleandoc(function.__doc__) + "\n"  # as Python 3.13 has it
        for name, paragraph in _PARAGRAPHS.items():
            text = text.replace(name, paragraph.replace("\n    ", "\n"))
        function.__doc__ = text
    return function


class Elementwise(Protocol):
    """A function of arrays of any shape: numbers give a number."""

    @overload
    def __call__(self, z: float, *, out: None = None) -> np.float64: ...
    @overload
    def __call__(self, z: ArrayLike, *, out: Array | None = None) -> Array: ...


def elementwise(function: Callable[..., Array]) -> Elementwise:
    """Declare the types of an elementwise function."""
    return cast(Elementwise, documented(function))
