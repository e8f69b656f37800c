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
    any_lane,
    convert,
    fill,
    fma,
    lane,
    larger,
    load,
    load_first,
    magnitude,
    max_lanes,
    pick,
    power_of_two,
    scalar,
    select,
    store,
    store_first,
    sum_lanes,
    widen,
    width,
)
from fastbp.kernels.elementary import LOG2_E, ROUNDER_32, ROUNDER_64, exp_parts

# Up to here the maximum is left alone.  Twice the depth: beyond it z - m is exact down to the depth.
NEAR_32, NEAR_64 = 256.0, 2048.0

# Logits this far below the maximum, or further, count as e**-DEPTH: below half the smallest subnormal
# even if 2**32 classes add theirs
DEPTH_32, DEPTH_64 = 128.0, 780.0
LIFT_32, LIFT_64 = 60.0, 200.0

# Sums of lifted exponentials start here, above every term: then FastTwoSum can tell what each addition loses
HEAD_32, HEAD_64 = 2.0 ** (LIFT_32 + 2), 2.0 ** (LIFT_64 + 2)

# Where all other classes together weigh less than this, the total has lost their digits: sum them again, alone
CONFIDENT_32, CONFIDENT_64 = 2.0**-16, math.inf

# Rows this short are turned: a register then holds one class of many rows, instead of half a row
SHORT = 64


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
    """2**lift * e**max(s, floor), and what its last rounding has lost; NaN for NaN.

    p (1 + r + small) with the product of r kept exact, so that the last rounding is the only large one;
    sums of many of them do without even that.
    """
    r, small, shifted = exp_parts(select(s < floor, floor, s))
    p = power_of_two(shifted, lift)
    head = fma(r, p, p)
    rest = fma(small, p, fma(r, p, p - head))
    e = head + rest
    return e, (head - e) + rest


@inlined
def start_sum(like):
    """An empty sum of lifted exponentials: its head, and what the head has lost."""
    return fill(like, pick(like, HEAD_32, HEAD_64)), fill(like, 0.0)


@inlined
def add_lifted(total, lost, e, e_lost):
    """Grow a sum by ``e + e_lost`` (Dekker's FastTwoSum: the sum's head is the larger)."""
    grown = total + e
    return grown, lost + (e_lost + (e - (grown - total)))


@inlined
def end_sum(total, lost):
    """The sum of each lane, float64."""
    return widen(total - pick(total, HEAD_32, HEAD_64)) + widen(lost)


@inlined
def add_exactly(total, lost, part):
    """Knuth's TwoSum, for any part: the sum, and all that sums have lost."""
    grown = total + part
    from_part = grown - total
    return grown, lost + ((total - (grown - from_part)) + (part - from_part))


@inlined
def exponentials(z_i, n_classes, m, e):
    """Write e_k = 2**lift e**(z_k - shift); return the maximum's and the sum of all, float64."""
    shift, floor, lift = row_frame(m)
    step = width(z_i)
    whole = n_classes - n_classes % step
    total, lost = start_sum(z_i)
    for k in range(0, whole, step):
        e_k, e_lost = lifted_exp(load(z_i, k) - shift, floor, lift)
        total, lost = add_lifted(total, lost, e_k, e_lost)
        store(e, k, e_k)
    if whole < n_classes:
        z_k = load_first(z_i, whole, n_classes - whole, -math.inf)
        e_k, e_lost = lifted_exp(z_k - shift, floor, lift)
        total, lost = add_lifted(total, lost, e_k, e_lost)
        store_first(e, whole, e_k, n_classes - whole)
    top, top_lost = lifted_exp(lane(m - shift), floor, lift)
    return scalar(widen(top) + widen(top_lost)), sum_lanes(end_sum(total, lost))


@inlined
def exponentials_turned(tile, n_classes, m):
    """Replace the tile's z_k by e_k, as in ``exponentials`` for a row a lane."""
    shift, floor, lift = frame(m)
    total, lost = start_sum(tile)
    for k in range(n_classes):
        e_k, e_lost = lifted_exp(load(tile, k * width(tile)) - shift, floor, lift)
        total, lost = add_lifted(total, lost, e_k, e_lost)
        store(tile, k * width(tile), e_k)
    top, top_lost = lifted_exp(m - shift, floor, lift)
    return widen(top) + widen(top_lost), end_sum(total, lost)


@inlined
def others_of(e, n_classes, top, total):
    """The sum of all e_k but the largest, ``top``, with all its digits."""
    others = total - top
    confident = scalar(pick(fill(e, 0.0), CONFIDENT_32, CONFIDENT_64) * lane(top))
    if others >= confident:
        return others
    zeros = widen(fill(e, 0.0))
    e_top = scalar(convert(lane(top), e))
    step = width(e)
    others, lost, ties = zeros, zeros, zeros
    for k in range(0, n_classes, step):
        e_k = load_first(e, k, n_classes - k, 0.0)
        at_top = e_k == e_top
        others, lost = add_exactly(others, lost, select(at_top, 0.0, widen(e_k)))
        ties = ties + select(at_top, 1.0, zeros)
    return sum_lanes(others) + sum_lanes(lost) + (sum_lanes(ties) - 1.0) * top


@inlined
def others_of_turned(tile, n_classes, top, total):
    """As ``others_of`` for a row a lane; a lane's result does not depend on the others."""
    others = total - top
    e_top = convert(top, tile)
    unsure = others < pick(tile, CONFIDENT_32, CONFIDENT_64) * top
    if any_lane(unsure):
        zeros = top * 0.0
        alone, lost, ties = zeros, zeros, zeros - 1.0
        for k in range(n_classes):
            e_k = load(tile, k * width(tile))
            at_top = e_k == e_top
            alone, lost = add_exactly(alone, lost, select(at_top, 0.0, widen(e_k)))
            ties = ties + select(at_top, 1.0, zeros)
        others = select(unsure, alone + lost + ties * top, others)
    return others


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
    high = convert(factor, like)
    missing = fma(0.0 - factor, total, gain) * inverse
    return high, convert((factor - widen(high)) + missing, like)
