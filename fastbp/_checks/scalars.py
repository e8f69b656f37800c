"""Numbers, flags, choices and dtypes."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from fastbp._checks.arrays import FLOAT32, FLOAT64, UNIT_ROUNDOFF


def as_real(
    value: Any, name: str, low: float = -math.inf, high: float = math.inf, closed: str = "both"
) -> float:
    """Return a finite real number from ``low`` to ``high`` as a float.

    ``closed`` ("both", "left", "right" or "neither") names the ends that belong to the range.
    """
    left, right = closed in ("both", "left"), closed in ("both", "right")
    error: type[Exception] = TypeError
    if type(value) is float or (
        isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    ):
        error = ValueError
        try:
            number = float(value)
        except OverflowError:  # an integer or a fraction beyond all floats
            number = math.inf
        above = low <= number if left else low < number
        below = number <= high if right else number < high
        if above and below and math.isfinite(number):
            return number
    if math.isinf(high):
        bound = "" if math.isinf(low) else f" {'>=' if left else '>'} {low:g}"
        expected = f"a finite number{bound}"
    else:
        expected = f"a number in {'[' if left else '('}{low:g}, {high:g}{']' if right else ')'}"
    raise error(f"{name} must be {expected}, got {value!r}")


def as_int(value: Any, name: str, low: int | None = None) -> int:
    """Return an integer, at least ``low``."""
    error: type[Exception] = TypeError
    if type(value) is int or (isinstance(value, numbers.Integral) and not isinstance(value, bool)):
        number = int(value)
        if low is None or number >= low:
            return number
        error = ValueError
    expected = "an integer" if low is None else f"an integer >= {low}"
    raise error(f"{name} must be {expected}, got {value!r}")


def as_positive_int(value: Any, name: str) -> int:
    """Return an integer >= 1."""
    return as_int(value, name, 1)


def as_flag(value: Any, name: str) -> bool:
    """Return whether ``value`` is true."""
    try:
        return bool(value)
    except (TypeError, ValueError) as error:  # an array of several elements is neither
        raise TypeError(f"{name} must be True or False, got {value!r:.80}") from error


def as_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``choices``."""
    if isinstance(value, str) and value in choices:
        return value
    listed = ", ".join(repr(c) for c in choices[:-1]) + f" or {choices[-1]!r}"
    raise ValueError(f"{name} must be {listed}, got {value!r}")


def as_float_dtype(dtype: Any) -> np.dtype[Any]:
    """Return float32 or float64 as a dtype of the machine's byte order."""
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except Exception:  # NumPy raises SyntaxError, too: for "f4,,"
        found = np.dtype(object)
    if dtype is None or found not in UNIT_ROUNDOFF:
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return FLOAT32 if found == FLOAT32 else FLOAT64
