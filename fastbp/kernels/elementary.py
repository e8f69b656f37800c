"""exp, log1p, the sigmoid and tanh: branch-free, so that loops over them vectorise.

Each function has two faces.  The public one takes and gives a scalar; the other, named
``..._lanes``, takes lanes (see ``fastbp._llvm``) of any count, and is what the row kernels call.
One body serves both, and float32 and float64, which differ in their constants alone.

The polynomials are minimax fits (Remez, 300 bits) to the functions named beside them; the exponents
in the comments are the relative errors they leave in exp and log.
"""

import math

from fastbp._compile import FLOAT, inlined, public_kernel
from fastbp._simd import (
    binary_exponent,
    constant_for,
    fabs,
    fma,
    lane,
    polynomial,
    power_of_two,
    scalar,
    select,
)

LOG2_E = 1 / math.log(2)

# ln 2 = HI + LO; HI is ln 2 rounded to the dtype: n * HI is exact inside a fused multiply-add
LN2_HI_32, LN2_LO_32 = 0.693147182464599609375, -1.904654299957768e-09
LN2_HI_64, LN2_LO_64 = math.log(2), 2.3190468138462996e-17

# Adding 1.5 * 2**(mantissa bits) rounds to an integer and leaves that integer in the lowest bits
ROUNDER_32, ROUNDER_64 = 1.5 * 2.0**23, 1.5 * 2.0**52

# (e^r - 1 - r) / r^2 for |r| <= ln(2)/2
EXP_TAIL_32 = (  # 2^-28
    0.49999993333523,
    0.16666518938658656,
    0.04166840797037366,
    0.008368921790934339,
    0.0013814174179904374,
)
EXP_TAIL_64 = (  # 2^-58
    0.5000000000000011,
    0.16666666666666405,
    0.04166666666652701,
    0.008333333333498236,
    0.0013888888944577212,
    0.0001984126950069616,
    2.4801492012742838e-05,
    2.755758951323311e-06,
    2.7630668434260106e-07,
    2.499974793785296e-08,
)

# (2 atanh(s) / s - 2) / s^2 as a function of s^2, for |s| <= (sqrt(2) - 1) / (sqrt(2) + 1)
LOG_TAIL_32 = (  # 2^-37
    0.666666656371119,
    0.40000337251064005,
    0.2853716794064698,
    0.23584988384903352,
)
LOG_TAIL_64 = (  # 2^-59
    0.6666666666666735,
    0.3999999999940748,
    0.28571428744142524,
    0.22222198378361815,
    0.18183575171491548,
    0.15313755605136403,
    0.14799067666549012,
)

# Beyond these exp is 0 (below half the smallest subnormal) and infinite
EXP_ZERO_32, EXP_INF_32 = -104.0, 88.8
EXP_ZERO_64, EXP_INF_64 = -746.0, 709.8

# Beyond this tanh rounds to 1; up to this it is its argument
TANH_ONE_32, TANH_ONE_64 = 9.1, 19.1
TINY = 2.0**-54

# exp of a very negative number is computed 2**LIFT too large, where it is not yet subnormal
LIFT = 64.0
LOWER = 2.0**-LIFT


@inlined
def exp_parts(x):
    """e**x = (1 + r + small) * 2**n: the head r, the small rest, and n + the rounder.

    Cody and Waite's reduction x = n ln 2 + r.  What r loses to rounding is kept in the small rest,
    which the caller adds as late as it can: the three together are far more precise than their sum.
    """
    rounder = constant_for(x, ROUNDER_32, ROUNDER_64)
    shifted = fma(x, LOG2_E, rounder)
    n = shifted - rounder
    r_exact = fma(n, constant_for(x, -LN2_HI_32, -LN2_HI_64), x)
    low = constant_for(x, -LN2_LO_32, -LN2_LO_64)
    r = fma(n, low, r_exact)
    r_lost = fma(n, low, r_exact - r)
    return r, fma(r * r, polynomial(r, EXP_TAIL_32, EXP_TAIL_64), r_lost), shifted


@inlined
def exp_lanes(x):
    r, small, shifted = exp_parts(x)
    # Two factors, so that neither overflows early nor rounds a subnormal result twice
    negative = x < 0.0
    power = power_of_two(shifted, select(negative, x * 0.0 + LIFT, x * 0.0 - 1.0))
    y = fma(r + small, power, power) * select(negative, x * 0.0 + LOWER, x * 0.0 + 2.0)
    y = select(x < constant_for(x, EXP_ZERO_32, EXP_ZERO_64), 0.0, y)
    return select(constant_for(x, EXP_INF_32, EXP_INF_64) < x, math.inf, y)


@inlined
def log1p_parts(x):
    """ln(1 + x) as a difference: the head and what to take from it; x finite, above -1."""
    # 1 + x = u + lost exactly (Knuth's TwoSum), u = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2))
    u = x + 1.0
    from_x = u - 1.0
    lost = (x - from_x) + (1.0 - (u - from_x))
    k = binary_exponent(u)
    # a quarter of u and four times the power: 2**-k itself is subnormal at the top of the range
    power = power_of_two(constant_for(x, ROUNDER_32, ROUNDER_64) - k, 2.0)
    scaled = fma(u * 0.25, power, -1.0)
    f = fma(lost * 0.25, power, scaled)
    f_lost = fma(lost * 0.25, power, scaled - f)
    s = f / (f + 2.0)
    w = s * s
    tail = s * (f - w * polynomial(w, LOG_TAIL_32, LOG_TAIL_64))
    # what f lost counts 1 / (1 + f) = (1 - s) / (1 + s) times in the logarithm
    f_lost = f_lost * fma(s, 2.0 * s - 2.0, 1.0)
    # k ln 2 + f rounds once; what it loses joins the small terms
    high = constant_for(x, LN2_HI_32, LN2_HI_64)
    head = fma(k, high, f)
    head_lost = fma(k, high, 0.0 - head) + f
    small = (tail - fma(k, constant_for(x, LN2_LO_32, LN2_LO_64), f_lost)) - head_lost
    # a quarter of a subnormal has lost digits; ln(1 + x) is x there, and keeps the sign of zero
    tiny = fabs(x) < TINY
    return select(tiny, x, head), select(tiny, 0.0, small)


@inlined
def log1p_lanes(x):
    head, small = log1p_parts(x)
    y = select(x == math.inf, x, head - small)
    y = select(x == -1.0, -math.inf, y)
    return select(x < -1.0, math.nan, y)


@inlined
def _lifted_exp_of_minus(z):
    """2**LIFT * exp(-|z|), which is never subnormal where it is not 0."""
    x = 0.0 - fabs(z)
    r, small, shifted = exp_parts(x)
    power = power_of_two(shifted, LIFT)
    return select(x < constant_for(x, EXP_ZERO_32, EXP_ZERO_64), 0.0, fma(r + small, power, power))


@inlined
def _inverse_of_one_plus(e):
    """1 / (1 + e) for 0 <= e <= 1 as a sum of two numbers: twice the precision for one division."""
    one_plus = e + 1.0
    lost = e - (one_plus - 1.0)
    t = 1.0 / one_plus
    return t, t * fma(0.0 - t, lost, fma(0.0 - one_plus, t, 1.0))


@inlined
def sigmoid_lanes(z):
    e = _lifted_exp_of_minus(z)
    t, t_low = _inverse_of_one_plus(e * LOWER)
    numerator = select(z < 0.0, e, 1 / LOWER)
    return fma(numerator, t, numerator * t_low) * LOWER


@inlined
def sigmoid_derivative_lanes(z):
    e = _lifted_exp_of_minus(z)
    t, t_low = _inverse_of_one_plus(e * LOWER)
    square = t * t
    square_low = fma(t, t, 0.0 - square) + 2.0 * t * t_low
    return fma(e, square, e * square_low) * LOWER


@inlined
def tanh_lanes(z):
    x = fabs(z)
    # e**(2x) - 1 = (2**n - 1) + 2**n (r + small) as a sum of two numbers: where n = 0, all of it is
    # r + small, and nothing cancels
    r, small, shifted = exp_parts(2.0 * x)
    p = power_of_two(shifted, 0.0)
    whole = p - 1.0
    linear = fma(p, r, whole)
    rest = fma(p, r, whole - linear) + p * small
    head = linear + rest
    lost = rest - (head - linear)
    # head / (head + 2), corrected by what head and the division have lost
    below = head + 2.0
    from_two = below - head
    below_lost = (2.0 - from_two) + (head - (below - from_two)) + lost
    inverse = 1.0 / below
    a = head * inverse
    left = fma(0.0 - a, below, head) + fma(0.0 - a, below_lost, lost)
    a = fma(left, inverse, a)
    a = select(constant_for(x, TANH_ONE_32, TANH_ONE_64) < x, 1.0, a)
    # z itself where that is the nearest number: subnormals keep their digits, and zero its sign
    return select(x < TINY, z, select(z < 0.0, 0.0 - a, a))


@public_kernel(x=FLOAT)
def exp(x):
    """e**x.

    Parameters
    ----------
    x : float32 or float64

    Returns
    -------
    float32 or float64
        Of the dtype of `x`; subnormal results included, NaN for NaN.

    References
    ----------
    W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980, chapter 6.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import exp
    >>> exp(np.float64(1.0))
    2.718281828459045
    """
    return scalar(exp_lanes(lane(x)))


@public_kernel(x=FLOAT)
def log1p(x):
    """ln(1 + x).

    Parameters
    ----------
    x : float32 or float64

    Returns
    -------
    float32 or float64
        Of the dtype of `x`; -inf for -1, NaN below it, -0.0 for -0.0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import log1p
    >>> log1p(np.float64(1e-20))
    1e-20
    """
    return scalar(log1p_lanes(lane(x)))


@public_kernel(z=FLOAT)
def sigmoid(z):
    """a = 1 / (1 + e**-z), as e**z / (1 + e**z) where z < 0.

    Parameters
    ----------
    z : float32 or float64

    Returns
    -------
    float32 or float64
        Of the dtype of `z`; subnormal where the result is, not 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import sigmoid
    >>> sigmoid(np.float64(0.0))
    0.5
    """
    return scalar(sigmoid_lanes(lane(z)))


@public_kernel(z=FLOAT)
def tanh(z):
    """a = (e**z - e**-z) / (e**z + e**-z), as (e**2|z| - 1) / (e**2|z| + 1) with the sign of z.

    Parameters
    ----------
    z : float32 or float64

    Returns
    -------
    float32 or float64
        Of the dtype of `z`; -0.0 for -0.0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import tanh
    >>> tanh(np.float64(1e-20))
    1e-20
    """
    return scalar(tanh_lanes(lane(z)))


@public_kernel(z=FLOAT)
def sigmoid_derivative(z):
    """a' = a (1 - a), as e / (1 + e)**2 with e = e**-|z|: nothing cancels where a is close to 1.

    Parameters
    ----------
    z : float32 or float64

    Returns
    -------
    float32 or float64
        Of the dtype of `z`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import sigmoid_derivative
    >>> sigmoid_derivative(np.float64(0.0))
    0.25
    """
    return scalar(sigmoid_derivative_lanes(lane(z)))
