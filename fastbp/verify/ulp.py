"""Errors in units in the last place, and references that share no code with the kernels.

Bulk references are computed in the next wider type (float64 for float32, extended precision for
float64) from forms that never cancel; each largest error they find is measured again by mpmath.
"""

# Kernels have no types, and NumPy's functions of "any array" give Any.
# mypy: disable-error-code="no-any-return, no-untyped-call"

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastbp._compile import kernel

if TYPE_CHECKING:
    import mpmath

Array = npt.NDArray[Any]

#: Whether NumPy's longdouble has enough extra bits to judge float64 results.
EXTENDED = np.finfo(np.longdouble).nmant >= 63

# The forms below never cancel, and mpmath's exponents have no limits: these bits do what the
# equations as written need 2600 bits for.
PRECISION = 240


def load_mpmath() -> Any:
    """Import mpmath, or say how to get it."""
    try:
        import mpmath
    except ImportError as error:
        raise ImportError(
            "measuring accuracy needs mpmath: python -m pip install mpmath"
        ) from error
    return mpmath


def precision() -> Any:
    """Context in which mpmath works with `PRECISION` bits."""
    return load_mpmath().mp.workprec(PRECISION)


def wider(dtype: npt.DTypeLike) -> type[np.floating[Any]]:
    """The type in which results of ``dtype`` are judged."""
    return np.float64 if np.dtype(dtype) == np.float32 else np.longdouble


def ulp_size(exact: Array, dtype: npt.DTypeLike) -> Array:
    """Unit in the last place of ``dtype`` at ``exact``: that of the subnormals at least."""
    info = np.finfo(np.dtype(dtype))
    exponent = np.frexp(exact)[1] - 1
    exponent = np.where(np.isinf(exact), info.maxexp - 1, exponent)
    exponent = np.clip(exponent, info.minexp, info.maxexp - 1)
    exponent = np.where(exact == 0, info.minexp, exponent)
    return np.ldexp(exact.dtype.type(1), exponent - info.nmant)


def ulp_error(got: Array, exact: Array, at: Array | None = None) -> Array:
    """Distance of ``got`` from ``exact``, in ulp of the type of ``got`` at ``exact``.

    Overflow counts as the value one ulp beyond the largest finite number.  A NaN in the one and
    not in the other is an infinite error.  ``at`` measures in ulp of other values.
    """
    limit = np.ldexp(exact.dtype.type(1), np.finfo(got.dtype).maxexp)
    near = np.clip(exact, -limit, limit)
    error = np.abs(np.clip(got.astype(exact.dtype), -limit, limit) - near)
    error = error / ulp_size(near if at is None else at, got.dtype)
    missing = np.isnan(got), np.isnan(exact)
    error = np.where(missing[0] & missing[1], 0, error)
    return np.where(missing[0] != missing[1], np.inf, error)


def ulp_error_mp(got: float, exact: "mpmath.mpf", dtype: npt.DTypeLike, at: Any = None) -> float:
    """`ulp_error` of one result against an mpmath number."""
    mp = load_mpmath().mp
    info = np.finfo(np.dtype(dtype))
    if mp.isnan(exact) or np.isnan(got):
        return 0.0 if mp.isnan(exact) and np.isnan(got) else float("inf")
    with precision():
        limit = mp.ldexp(1, int(info.maxexp))
        got_mp = min(max(mp.mpf(float(got)), -limit), limit)
        near = min(max(exact, -limit), limit)
        place = near if at is None else min(max(at, -limit), limit)
        exponent = info.minexp if place == 0 else int(mp.frexp(place)[1]) - 1
        exponent = min(max(exponent, int(info.minexp)), int(info.maxexp) - 1)
        return float(abs(got_mp - near) * mp.ldexp(1, int(info.nmant) - exponent))


_EXPONENT = 0x7FF << 52
_SMALLEST_NORMAL = (1023 - 126) << 52
_LARGEST_BINADE = (1023 + 127) << 52
_BIAS = 1023 << 52
_BIAS_AND_DIGITS = (1023 + 23) << 52
_OVERFLOW = 2.0**128


@kernel
def float32_errors(got, exact, exact_bits, scale, scale_bits, error):  # type: ignore[no-untyped-def]
    """`ulp_error` of float32 results against float64 ones, for billions of them.

    ``exact_bits`` and ``scale_bits`` are int64 views of ``exact`` and of the scratch ``scale``.
    """
    n = got.shape[0]
    for q in range(n):
        exponent = max(exact_bits[q] & _EXPONENT, _SMALLEST_NORMAL)
        # the bits of 2^(23 - e), the inverse of an ulp, in an order that cannot overflow
        scale_bits[q] = (_BIAS_AND_DIGITS - min(exponent, _LARGEST_BINADE)) + _BIAS
    for q in range(n):
        found = float(got[q])
        right = exact[q]
        one_is_nan = (found != found) != (right != right)
        both_are_nan = (found != found) & (right != right)
        found = max(min(found, _OVERFLOW), -_OVERFLOW)
        right = max(min(right, _OVERFLOW), -_OVERFLOW)
        distance = abs(found - right) * scale[q]
        distance = 0.0 if both_are_nan else distance
        error[q] = np.inf if one_is_nan else distance


def sigmoid(x: Array) -> Array:
    """1/(1+e^-x) in the type of ``x``."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def sigmoid_derivative(x: Array) -> Array:
    """The derivative of the sigmoid at ``x``, in the type of ``x``."""
    e = np.exp(-np.abs(x))
    return e / ((1 + e) * (1 + e))


def sigmoid_mp(x: "mpmath.mpf") -> "mpmath.mpf":
    """1/(1+e^-x)."""
    e = load_mpmath().exp(-abs(x))
    return (1 if x >= 0 else e) / (1 + e)


def sigmoid_derivative_mp(x: "mpmath.mpf") -> "mpmath.mpf":
    """The derivative of the sigmoid at ``x``."""
    e = load_mpmath().exp(-abs(x))
    return e / (1 + e) ** 2


class Rows:
    """What the row kernels should give for the finite or -inf logits ``z`` of a batch.

    Parameters
    ----------
    z : array of shape (n, K)
        Float32 or float64 logits; every row has a finite maximum.
    labels : intp array of shape (n,)
    """

    def __init__(self, z: Array, labels: Array) -> None:
        x = z.astype(wider(z.dtype))
        self._rows = np.arange(len(x))
        self._labels = labels
        self.z_max = x.max(axis=1)
        m = self.z_max[:, None]
        s = x - m
        with np.errstate(invalid="ignore"):
            back = s - x
            lost = (x - (s - back)) + (-m - back)  # TwoSum: x - m is s + lost, exactly
        lost[~np.isfinite(s)] = 0
        self._shift, self._lost = s, lost
        self._e = np.exp(s) * (1 + lost)
        argmax = x.argmax(axis=1)
        others = self._e.copy()
        others[self._rows, argmax] = 0
        rest = others.sum(axis=1)
        self._total = 1 + rest
        self._log_total = np.log1p(rest)
        label_term = self._e[self._rows, labels]
        self._but_label = np.where(labels == argmax, rest, (rest - label_term) + 1)

    def softmax(self) -> Array:
        """e^(z_i) / sum_j e^(z_j)."""
        return self._e / self._total[:, None]

    def log_softmax(self) -> Array:
        """Logarithm of `softmax`."""
        return self._shift + (self._lost - self._log_total[:, None])

    def logsumexp(self) -> Array:
        """ln sum_j e^(z_j)."""
        return self.z_max + self._log_total

    def cross_entropy(self) -> Array:
        """-ln softmax(z)_label."""
        return np.abs(self.log_softmax()[self._rows, self._labels])

    def delta(self) -> Array:
        """softmax(z) - y, for one-hot y."""
        delta = self.softmax()
        delta[self._rows, self._labels] = -self._but_label / self._total
        return delta

    def cross_entropy_targets(self, y: Array) -> Array:
        """-sum_i y_i ln softmax(z)_i."""
        with np.errstate(invalid="ignore"):
            terms = np.where(y == 0, 0, y * self.log_softmax())
        return np.abs(terms.sum(axis=1))


class RowMP:
    """One row of `Rows`, by mpmath; to be made and used under `precision`."""

    def __init__(self, z: Sequence[float] | Array, label: int) -> None:
        mp = load_mpmath().mp
        x = [mp.mpf(float(v)) for v in z]
        top = max(range(len(x)), key=x.__getitem__)
        self.z_max = x[top]
        self._label = label
        self._shift = [v if mp.isinf(v) else mp.fsub(v, self.z_max, exact=True) for v in x]
        self._e = [mp.exp(s) for s in self._shift]
        self._total = mp.fsum(self._e)
        self._log_total = mp.log1p(mp.fsum(e for k, e in enumerate(self._e) if k != top))
        self._but_label = mp.fsum(e for k, e in enumerate(self._e) if k != label)

    def softmax(self, k: int) -> "mpmath.mpf":
        """Entry ``k`` of the softmax."""
        return self._e[k] / self._total

    def log_softmax(self, k: int) -> "mpmath.mpf":
        """Entry ``k`` of the log-softmax."""
        return self._shift[k] - self._log_total

    def logsumexp(self) -> "mpmath.mpf":
        """ln sum_j e^(z_j)."""
        return self.z_max + self._log_total

    def cross_entropy(self) -> "mpmath.mpf":
        """-ln softmax(z)_label."""
        return -self.log_softmax(self._label)

    def delta(self, k: int) -> "mpmath.mpf":
        """Entry ``k`` of softmax(z) - y."""
        return -self._but_label / self._total if k == self._label else self.softmax(k)

    def cross_entropy_targets(self, y: Sequence[float] | Array) -> "mpmath.mpf":
        """-sum_i y_i ln softmax(z)_i."""
        mp = load_mpmath().mp
        terms = (mp.mpf(float(v)) * self.log_softmax(k) for k, v in enumerate(y) if v)
        return -mp.fsum(terms)
