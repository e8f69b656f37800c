"""What the row kernels share: the row's frame, its exponentials, its sums.

Softmax does not change when a number is taken from all logits.  The usual choice, the row's
maximum m, keeps exp from overflowing but rounds z - m, and exp turns that into an error that grows with
the spread of the row (Blanchard, Higham and Higham 2021, theorem 4.3).  Here nothing is rounded:

- where |m| is small, nothing is subtracted; the exponentials are brought into range by an integer number of
  powers of two, which is exact;
- where |m| is large, z - m is exact for every z close enough to m to matter (Sterbenz's lemma), and
  the others are exactly 0.

All exponentials of a row are 2**LIFT times e**(z - m) times a constant within sqrt(2) of 1, so that those that
are subnormal, or vanish, only after the division still carry their full precision into the sums.
"""

import math

from fastbp._compile import inlined
from fastbp._llvm import (
    fill,
    fma,
    lane,
    larger,
    load,
    load_first,
    magnitude,
    max_lanes,
    narrow,
    pick,
    power_of_two,
    scalar,
    select,
    widen,
    width,
)
from fastbp.kernels.elementary import LOG2_E, ROUNDER_32, ROUNDER_64, exp_parts

# Up to here the maximum is left alone.  Twice the depth: beyond it z - m is exact down to the depth.
NEAR_32, NEAR_64 = 256.0, 2048.0

# e**-DEPTH times 2**24 classes is still below half the smallest subnormal: lower terms are 0
DEPTH_32, DEPTH_64 = 121.0, 770.0
LIFT_32, LIFT_64 = 50.0, 200.0

# Rows this short are turned: a register then holds one class of many rows, instead of half a row
SHORT = 64

# More than any lifted exponential: sums that start here need half the work to lose nothing
HEAD_32, HEAD_64 = 2.0 ** (LIFT_32 + 2), 2.0 ** (LIFT_64 + 2)


@inlined
def frame(m):
    """What a row (or a lane a row) with maximum ``m`` subtracts, where it ends, and its power of two."""
    shift = select(magnitude(m) < pick(m, NEAR_32, NEAR_64), 0.0, m)
    top = m - shift
    rounder = pick(m, ROUNDER_32, ROUNDER_64)
    nearest = fma(top, LOG2_E, rounder) - rounder
    floor = top - pick(m, DEPTH_32, DEPTH_64)
    return shift, floor, pick(m, LIFT_32, LIFT_64) - nearest


@inlined
def row_frame(m):
    """The frame of a row with the scalar maximum ``m``, as scalars."""
    shift, floor, lift = frame(lane(m))
    return scalar(shift), scalar(floor), scalar(lift)


@inlined
def lifted_exp(s, floor, lift):
    """2**lift * e**s and what its rounding has lost; 0 below the floor, NaN for NaN.

    p (1 + r + small) with the two large products kept exact: half a unit in the last place, which a sum of many
    of them can still do without.
    """
    r, small, shifted = exp_parts(s)
    p = power_of_two(shifted, lift)
    head = fma(r, p, p)
    rest = fma(small, p, fma(r, p, p - head))
    e = head + rest
    vanishes = s < floor
    return select(vanishes, 0.0, e), select(vanishes, 0.0, (head - e) + rest)


@inlined
def add_below(total, lost, part):
    """Dekker's FastTwoSum, for a part that is smaller than the total: the sum, and all that sums have lost."""
    grown = total + part
    return grown, lost + (part - (grown - total))


@inlined
def add_exactly(total, lost, part):
    """Knuth's TwoSum, for any part: the sum, and all that sums have lost."""
    grown = total + part
    from_part = grown - total
    return grown, lost + ((total - (grown - from_part)) + (part - from_part))


@inlined
def largest(row, n_classes):
    """The maximum of a row; NaN is passed over (it shows in the sums)."""
    step = width(row)
    m = fill(row, -math.inf)
    other = m
    paired = n_classes - n_classes % (2 * step)
    for k in range(0, paired, 2 * step):
        m = larger(load(row, k), m)
        other = larger(load(row, k + step), other)
    for k in range(paired, n_classes, step):
        m = larger(load_first(row, k, n_classes - k, -math.inf), m)
    return max_lanes(larger(m, other))


@inlined
def largest_turned(tile, n_classes):
    """The maximum of each lane's row."""
    m = fill(tile, -math.inf)
    for k in range(n_classes):
        m = larger(load(tile, k * width(tile)), m)
    return m


@inlined
def factor_parts(gain, total, like):
    """gain / total, float64 in, as a sum of two numbers of the dtype of ``like``.

    Multiplying by both rounds once, where a division's quotient would have rounded twice.
    """
    inverse = 1.0 / total
    factor = gain * inverse
    high = narrow(factor, like)
    missing = fma(0.0 - factor, total, gain) * inverse
    return high, narrow((factor - widen(high)) + missing, like)
