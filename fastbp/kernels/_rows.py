"""The scaling of a row, its exponentials, their sums, and their quotients.

The softmax does not change when one number is subtracted from all logits.  Subtracting the row's
maximum m keeps exp from overflowing but rounds z - m, and exp turns the rounding into an error that
grows with the spread of the row (Blanchard, Higham and Higham 2021, theorem 4.3).  Here nothing is
rounded:

- where |m| is small, nothing is subtracted; the exponentials are brought into range by an integer
  number of powers of two, which is exact;
- where |m| is large, z - m is exact for every z close enough to m to matter (Sterbenz's lemma), and
  the others vanish.

All exponentials of a row are e**(z - m) times 2**SCALE times a constant within sqrt(2) of 1: those
whose probabilities are subnormal still enter the sums with full precision.

A sum is an unevaluated pair (total, lost).  The functions take vectors: of one row's logits, or of
one class of many rows.  ``_row_groups`` reads and writes memory.
"""

import math

from fastbp._compile import inlined
from fastbp._simd import (
    at,
    biased_power_of_two,
    broadcast,
    constant_for,
    convert,
    every_lane,
    fabs,
    first_lane,
    fma,
    fmax,
    is_double,
    lanes_before,
    load,
    load_masked,
    max_lanes,
    not_below,
    polynomial,
    scaled_near,
    select,
    to_float64,
    width,
)
from fastbp.kernels.elementary import (
    EXP_TAIL_32,
    EXP_TAIL_64,
    LN2_HI_32,
    LN2_HI_64,
    LN2_LO_32,
    LN2_LO_64,
    LOG2_E,
    ROUNDER_32,
    ROUNDER_64,
    log1p_parts,
)

# Nothing is subtracted up to this maximum: twice the depth, so that z - m is exact to the depth
NEAR_32, NEAR_64 = 256.0, 2048.0

# Logits further below the maximum count as -inf: e**-K_BLOCK of it is below half the smallest
# subnormal even if 2**32 classes add theirs
DEPTH_32, DEPTH_64 = 128.0, 780.0
SCALE_32, SCALE_64 = 60.0, 200.0

# Adding this to an exponent n leaves the exponent bits of 2**(n + SCALE) in the lowest bits
BASE_32, BASE_64 = ROUNDER_32 + 127 + SCALE_32, ROUNDER_64 + 1023 + SCALE_64

# Sums of exponentials start above every term, as FastTwoSum needs
HEAD_32, HEAD_64 = 2.0 ** (SCALE_32 + 2), 2.0 ** (SCALE_64 + 2)

# Below this sum of all other classes, relative to the maximum, the total has lost their digits:
# they are summed again, without the maximum
CONFIDENT_32, CONFIDENT_64 = 2.0**-9, math.inf

# (2 atanh(s) / s - 2) / s^2 as a function of s^2 <= 0.0415: 2^-35
ATANH_TAIL = (
    0.666666625146169,
    0.4000096447279767,
    0.28502014007246235,
    0.2417312465289421,
)


@inlined
def scaling(m):
    """The shift, the floor and the exponents' base of each row, whose maximum is ``m``."""
    shift = select(fabs(m) < constant_for(m, NEAR_32, NEAR_64), 0.0, m)
    top = m - shift
    rounder = constant_for(m, ROUNDER_32, ROUNDER_64)
    nearest = fma(top, LOG2_E, rounder) - rounder
    floor = top - constant_for(m, DEPTH_32, DEPTH_64)
    return shift, floor, constant_for(m, BASE_32, BASE_64) - nearest


@inlined
def exp_terms(s, base):
    """2**scale e**s as head + rest, far more precise than their rounded sum; s above the floor.

    p (1 + r + small), where r and the product r p are exact, so that the sum is the only large
    rounding.
    """
    shifted = fma(s, LOG2_E, base)
    n = shifted - base
    r = fma(n, constant_for(s, -LN2_HI_32, -LN2_HI_64), s)
    low = n * constant_for(s, -LN2_LO_32, -LN2_LO_64)
    near = r + low
    small = fma(near * near, polynomial(near, EXP_TAIL_32, EXP_TAIL_64), low)
    p = biased_power_of_two(shifted)
    head = fma(r, p, p)
    return head, fma(small, p, fma(r, p, p - head))


@inlined
def scaled_exp(s, floor, base):
    """2**scale e**s, and what its rounding has lost; 0 below the floor, NaN for NaN."""
    head, rest = exp_terms(s, base)
    counts = not_below(s, floor)
    e = select(counts, head + rest, 0.0)
    return e, select(counts, (head - e) + rest, 0.0)


@inlined
def add_scaled_exp(total, lost, s, floor, base):
    """e = 2**scale e**s rounded, and the sum (total, lost) grown by it and by its rounding error.

    Dekker's FastTwoSum, for the total is larger; its error is found from the unrounded terms.
    """
    head, rest = exp_terms(s, base)
    counts = not_below(s, floor)
    e = select(counts, head + rest, 0.0)
    grown = total + e
    return e, grown, select(counts, lost + ((head - (grown - total)) + rest), lost)


@inlined
def exp_of_maximum(m, row_scaling):
    """The exponential of the maximum (or of another logit), as a float64 pair."""
    shift, floor, base = row_scaling
    e, lost = scaled_exp(m - shift, floor, base)
    return to_float64(e), to_float64(lost)


@inlined
def start_sum(like):
    """An empty sum of exponentials."""
    return broadcast(like, constant_for(like, HEAD_32, HEAD_64)), broadcast(like, 0.0)


@inlined
def widened_sum(total, lost):
    """A sum of exponentials as a float64 pair, without its starting value."""
    return to_float64(total - constant_for(total, HEAD_32, HEAD_64)), to_float64(lost)


@inlined
def add_exactly(total, lost, part):
    """Knuth's TwoSum: the sum, and ``lost`` grown by its rounding error."""
    grown = total + part
    from_part = grown - total
    return grown, lost + ((total - (grown - from_part)) + (part - from_part))


@inlined
def normalized(total, lost):
    """The pair with ``lost`` added to the total, and the rounding error of this."""
    whole = total + lost
    return whole, lost - (whole - total)


@inlined
def add_other(others, lost, ties, e, e_lost, e_top):
    """Grow the sum of all exponentials but the largest, and count those that equal the largest."""
    at_top = e == e_top
    e, e_lost = select(at_top, 0.0, e), select(at_top, 0.0, e_lost)
    others, lost = add_exactly(others, lost + e_lost, e)
    return others, lost, ties + select(at_top, 1.0, 0.0 * ties)


@inlined
def without_one(others, lost, ties, top):
    """Add all maxima but one to a sum without any of the ``ties`` maxima."""
    value, low = top
    again = ties - 1.0
    product = again * value
    others, lost = add_exactly(others, lost, product)
    return others, lost + (fma(again, value, 0.0 - product) + again * low)


@inlined
def quotient(a, b):
    """a / b of two pairs, as a pair."""
    inverse = 1.0 / b[0]
    q = a[0] * inverse
    return q, (fma(0.0 - q, b[0], a[0]) + (a[1] - q * b[1])) * inverse


@inlined
def log_one_plus_ratio(others, top, like):
    """ln(1 + others / top) of two float64 pairs, as a pair, for results of ``like``'s dtype."""
    if is_double(like):
        ratio, low = quotient(others, top)
        head, small = log1p_parts(ratio)
        return head, low / (ratio + 1.0) - small
    # ln(total / top) = k ln 2 + 2 atanh(s) with s = (total - 2**k top) / (total + 2**k top):
    # one division, where log1p of a quotient takes two
    alone, rest = top[0] + top[1], others[0] + others[1]
    total = alone + rest
    k, near = scaled_near(alone, total)
    s = ((alone - near) + rest) / (near + total)
    w = s * s
    return fma(k, LN2_HI_64, s * fma(w, polynomial(w, ATANH_TAIL, ATANH_TAIL), 2.0)), 0.0 * k


@inlined
def probability_parts(gain, top, total, like):
    """The factors by which ``probability_of`` finds gain e_k / total in the dtype of ``like``.

    The factor is a pair: multiplying by both rounds once, and a division would round before.  The
    largest e_k has a low factor of its own: so no probability passes 1, and that of a single class
    is exactly 1.
    """
    if is_double(like):
        head, low = quotient(top, total)
        factor, factor_low = quotient((gain, 0.0 * gain), total)
        gain_of_top = gain * (head + low)
    else:
        factor = gain / total[0]
        factor_low = 0.0 * factor
        gain_of_top = (top[0] + top[1]) * factor
    e_top, high = convert(top[0], like), convert(factor, like)
    low = convert((factor - to_float64(high)) + factor_low, like)
    return e_top, high, low, fma(0.0 - e_top, high, convert(gain_of_top, like))


@inlined
def probability_of(e_k, parts):
    """gain e_k / total."""
    e_top, high, low, rest_of_top = parts
    return fma(e_k, high, select(e_k < e_top, e_k * low, rest_of_top))


@inlined
def log_probability_parts(m, log_sum, log_sum_low):
    """m + log_sum as a sum of two numbers of m's dtype, for ``log_probability_of``."""
    total, lost = add_exactly(to_float64(m), log_sum_low, log_sum)
    high = convert(total, m)
    return high, convert((total - to_float64(high)) + lost, m)


@inlined
def log_probability_of(z_k, parts):
    """ln a_k = z_k - (m + log_sum): the difference and what it has lost (Knuth), rounded once."""
    high, low = parts
    difference = z_k - high
    from_high = difference - z_k
    lost = (z_k - (difference - from_high)) - (high + from_high)
    # NaN beside an infinite difference
    return difference + fmax(lost - low, -math.inf)


@inlined
def largest(z_i, n_classes):
    """The maximum of a row; NaN is passed over (it shows in the sums)."""
    step = width(z_i)
    m = broadcast(z_i, -math.inf)
    other = m
    paired = n_classes - n_classes % (2 * step)
    for k in range(0, paired, 2 * step):
        m = fmax(load(z_i, k), m)
        other = fmax(load(z_i, k + step), other)
    for k in range(paired, n_classes, step):
        m = fmax(load_masked(z_i, k, n_classes - k, -math.inf), m)
    return max_lanes(fmax(m, other))


@inlined
def first_largest(z_i, n_classes):
    """The index of a row's maximum, the first of equals; NaN is passed over."""
    m = largest(z_i, n_classes)
    step = width(z_i)
    for k in range(0, n_classes, step):
        place = first_lane(load_masked(z_i, k, n_classes - k, -math.inf) == m)
        if place < step:
            return k + place
    return 0  # pragma: no cover (for the compiler: one entry of a row is its maximum)


@inlined
def is_first_largest(z_i, n_classes, label):
    """Whether ``label`` is the index of a row's first maximum; it is not if the row holds NaN."""
    top = at(z_i, label)
    step = width(z_i)
    for k in range(0, n_classes, step):
        z_k = load_masked(z_i, k, n_classes - k, -math.inf)
        if not every_lane(select(lanes_before(z_k, label - k), z_k < top, z_k <= top)):
            return False
    return True
