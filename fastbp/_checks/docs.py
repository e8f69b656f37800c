"""What the declarations of several functions share: paragraphs of docstrings, and types."""

from __future__ import annotations

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
    param, velocity : ndarray of float32 or float64, of one shape and dtype
        Updated; the velocity begins with zeros.
    grad : array_like of the shape of ``param``
        Gradient of the cost.
    learning_rate : float >= 0
    momentum : float in [0, 1]

    {step_errors}""",
    "{step_errors}": """Raises
    ------
    TypeError, ValueError
        If an argument is not as above; if an updated array is read-only or overlaps another.""",
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
        for name, paragraph in _PARAGRAPHS.items():
            function.__doc__ = function.__doc__.replace(name, paragraph)
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
