"""What the row kernels share: a row's frame, its exponentials and their sums.

Softmax does not change when a number is taken from all logits.  The usual choice, the row's
maximum m, keeps exp from overflowing but rounds z - m, and exp turns that into an error that grows
with the spread of the row (Blanchard, Higham and Higham 2021, theorem 4.3).  Here nothing is
rounded:

- where |m| is small, nothing is subtracted; the exponentials are brought into range by an integer
  number of powers of two, which is exact;
- where |m| is large, z - m is exact for every z close enough to m to matter (Sterbenz's lemma), and
  the others vanish.

All exponentials of a row are e**(z - m) times 2**LIFT times a constant within sqrt(2) of 1, so that
those that are subnormal, or vanish, only after the division still carry their full precision into
the sums.

Sums are unevaluated pairs (total, lost).  Every function exists twice: for a long row, read a
register at a time, and, as ``..._turned``, for as many short rows as a register has lanes, one row
a lane.
"""

import math

from fastbp._compile import inlined
from fastbp._llvm import (
    any_lane,
    at,
    convert,
    every_lane,
    fill,
    first_lane,
    fma,
    is_double,
    lane,
    lanes_before,
    larger,
    load,
    load_first,
    magnitude,
    max_lanes,
    pick,
    power_of_two,
    prefetch,
    scalar,
    select,
    store,
    store_first,
    sum_lanes,
    widen,
    width,
)
from fastbp.kernels.elementary import (
    LOG2_E,
    ROUNDER_32,
    ROUNDER_64,
    exp_parts,
    log1p_lanes,
    log1p_parts,
)

# Up to here the maximum is left alone.  Twice the depth: beyond it z - m is exact to the depth.
NEAR_32, NEAR_64 = 256.0, 2048.0

# Logits further below the maximum count as -inf: e**-DEPTH of it is below half the smallest
# subnormal even if 2**32 classes add theirs
DEPTH_32, DEPTH_64 = 128.0, 780.0
LIFT_32, LIFT_64 = 60.0, 200.0

# Sums of lifted exponentials start here, above every term: then FastTwoSum can tell what each
# addition loses
HEAD_32, HEAD_64 = 2.0 ** (LIFT_32 + 2), 2.0 ** (LIFT_64 + 2)

# Where all other classes together weigh less than this, the total has lost their digits: sum them
# again, alone
CONFIDENT_32, CONFIDENT_64 = 2.0**-9, math.inf

# Registers summed in the row's dtype before float64 takes over: what their sum has lost is rounded,
# too
BLOCK = 64

# Rows this short are turned: a register then holds one class of many rows, instead of half a row
SHORT = 128


@inlined
def frame(m):
    """What a row (or each lane's row) of maximum ``m`` subtracts, its floor, its power of two."""
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
    """2**lift * e**s, and what its last rounding has lost; 0 below the floor, NaN for NaN.

    p (1 + r + small) with the product of r kept exact, so that the last rounding is the only large
    one; sums of many of them do without even that.
    """
    below = s < floor
    r, small, shifted = exp_parts(s)
    p = power_of_two(shifted, lift)
    head = fma(r, p, p)
    rest = fma(small, p, fma(r, p, p - head))
    e = select(below, 0.0, head + rest)
    return e, select(below, 0.0, (head - e) + rest)


@inlined
def add_exactly(total, lost, part):
    """Knuth's TwoSum: the sum, and all that sums have lost."""
    grown = total + part
    from_part = grown - total
    return grown, lost + ((total - (grown - from_part)) + (part - from_part))


@inlined
def normalized(total, lost):
    """The same pair with most of what was lost put back: the rest is below a rounding."""
    whole = total + lost
    return whole, lost - (whole - total)


@inlined
def start_sum(like):
    """An empty sum of lifted exponentials."""
    return fill(like, pick(like, HEAD_32, HEAD_64)), fill(like, 0.0)


@inlined
def add_lifted(total, lost, e, e_lost):
    """Grow a sum by ``e + e_lost`` (Dekker's FastTwoSum: the sum's head is the larger)."""
    grown = total + e
    return grown, lost + (e_lost + (e - (grown - total)))


@inlined
def fetch_block(source, result, first, count):
    """Ask for the lines of a block of rows that will be read, and of the one it will be turned to.

    A block keeps the processor busy for longer than it can look ahead: without this, every block
    would first wait for its memory (``peers.py``, softmax of 65536 rows of 10: 1.45 ms, now 0.60).
    """
    for k in range(first, first + count, width(source)):
        prefetch(source, k, 0, 1)
        prefetch(result, k, 1, 1)


@inlined
def largest(z_i, n_classes):
    """The maximum of a row; NaN is passed over (it shows in the sums)."""
    step = width(z_i)
    m = fill(z_i, -math.inf)
    other = m
    paired = n_classes - n_classes % (2 * step)
    for k in range(0, paired, 2 * step):
        m = larger(load(z_i, k), m)
        other = larger(load(z_i, k + step), other)
    for k in range(paired, n_classes, step):
        m = larger(load_first(z_i, k, n_classes - k, -math.inf), m)
    return max_lanes(larger(m, other))


@inlined
def first_largest(z_i, n_classes):
    """The index of a row's maximum, the first of equals; NaN is passed over."""
    m = largest(z_i, n_classes)
    step = width(z_i)
    for k in range(0, n_classes, step):
        place = first_lane(load_first(z_i, k, n_classes - k, -math.inf) == m)
        if place < step:
            return k + place
    return 0  # pragma: no cover (for the compiler: one entry of a row is its maximum)


@inlined
def is_first_largest(z_i, n_classes, label):
    """Whether ``label`` is the index of a row's first maximum; it is not if the row holds NaN."""
    top = at(z_i, label)
    step = width(z_i)
    for k in range(0, n_classes, step):
        z_k = load_first(z_i, k, n_classes - k, -math.inf)
        if not every_lane(select(lanes_before(z_k, label - k), z_k < top, z_k <= top)):
            return False
    return True


@inlined
def largest_turned(tile, n_classes):
    m = fill(tile, -math.inf)
    for k in range(n_classes):
        m = larger(load(tile, k * width(tile)), m)
    return m


@inlined
def exponentials(z_i, n_classes, m, e):
    """Write e_k = 2**lift e**(z_k - shift); return the maximum's and the sum of all.

    Both are float64 pairs of a single lane.
    """
    shift, floor, lift = row_frame(m)
    step = width(z_i)
    whole = n_classes - n_classes % step
    total, lost = start_sum(z_i)
    all_of_them = widen(lost)
    all_lost = all_of_them
    for start in range(0, whole, BLOCK * step):
        for k in range(start, min(start + BLOCK * step, whole), step):
            e_k, e_lost = lifted_exp(load(z_i, k) - shift, floor, lift)
            total, lost = add_lifted(total, lost, e_k, e_lost)
            store(e, k, e_k)
        part = widen(total - pick(total, HEAD_32, HEAD_64))
        all_of_them, all_lost = add_exactly(all_of_them, all_lost + widen(lost), part)
        total, lost = start_sum(z_i)
    if whole < n_classes:
        z_k = load_first(z_i, whole, n_classes - whole, -math.inf)
        e_k, e_lost = lifted_exp(z_k - shift, floor, lift)
        total, lost = add_lifted(total, lost, e_k, e_lost)
        store_first(e, whole, e_k, n_classes - whole)
    top, top_lost = lifted_exp(lane(m - shift), floor, lift)
    part = widen(total - pick(total, HEAD_32, HEAD_64))
    all_of_them, all_lost = add_exactly(all_of_them, all_lost + widen(lost), part)
    all_of_them, all_lost = sum_lanes(all_of_them, all_lost)
    return (widen(top), widen(top_lost)), normalized(all_of_them, all_lost)


@inlined
def exponentials_turned(tile, n_classes, m):
    """Replace the tile's z_k by e_k."""
    shift, floor, lift = frame(m)
    total, lost = start_sum(tile)
    for k in range(n_classes):
        e_k, e_lost = lifted_exp(load(tile, k * width(tile)) - shift, floor, lift)
        total, lost = add_lifted(total, lost, e_k, e_lost)
        store(tile, k * width(tile), e_k)
    top, top_lost = lifted_exp(m - shift, floor, lift)
    total = widen(total - pick(total, HEAD_32, HEAD_64))
    return (widen(top), widen(top_lost)), normalized(total, widen(lost))


@inlined
def without_one(others, lost, ties, top):
    """The pair of a sum over all but the ``ties`` maxima, with all of these but one put back."""
    value, low = top
    again = ties - 1.0
    product = again * value
    others, lost = add_exactly(others, lost, product)
    return others, lost + (fma(again, value, 0.0 - product) + again * low)


@inlined
def others_of(e, n_classes, top, total):
    """The sum of all e_k but the largest, with all its digits, as a pair."""
    others, lost = total[0] - top[0], total[1] - top[1]
    unsure = others < pick(e, CONFIDENT_32, CONFIDENT_64) * top[0]
    if not any_lane(unsure):
        return others, lost
    e_top = scalar(convert(top[0], e))
    step = width(e)
    zeros = fill(e, 0.0)
    alone, alone_lost, ties = zeros, zeros, zeros
    for k in range(0, n_classes, step):
        e_k = load_first(e, k, n_classes - k, 0.0)
        at_top = e_k == e_top
        alone, alone_lost = add_exactly(alone, alone_lost, select(at_top, 0.0, e_k))
        ties = ties + select(at_top, 1.0, zeros)
    others, lost = sum_lanes(alone, alone_lost)
    count, _ = sum_lanes(ties, zeros)
    return without_one(others, lost, count, top)


@inlined
def others_of_turned(tile, n_classes, top, total):
    """A lane's result does not depend on the others; only whether there is work to do does."""
    others, lost = total[0] - top[0], total[1] - top[1]
    unsure = others < pick(tile, CONFIDENT_32, CONFIDENT_64) * top[0]
    if any_lane(unsure):
        e_top = convert(top[0], tile)
        zeros = fill(tile, 0.0)
        alone, alone_lost, ties = zeros, zeros, zeros
        for k in range(n_classes):
            e_k = load(tile, k * width(tile))
            at_top = e_k == e_top
            alone, alone_lost = add_exactly(alone, alone_lost, select(at_top, 0.0, e_k))
            ties = ties + select(at_top, 1.0, zeros)
        head, low = without_one(widen(alone), widen(alone_lost), widen(ties), top)
        others, lost = select(unsure, head, others), select(unsure, low, lost)
    return others, lost


@inlined
def quotient(a, b):
    """a / b of two pairs, as a pair."""
    inverse = 1.0 / b[0]
    q = a[0] * inverse
    return q, (fma(0.0 - q, b[0], a[0]) + (a[1] - q * b[1])) * inverse


@inlined
def log_one_plus_ratio(others, top, like):
    """ln(1 + others / top) of two pairs of lanes, as a pair, for results of ``like``'s dtype."""
    ratio, low = quotient(others, top)
    if is_double(like):
        head, small = log1p_parts(ratio)
        return head, low / (ratio + 1.0) - small
    return log1p_lanes(ratio + low), 0.0 * ratio


@inlined
def shares(gain, top, total, like):
    """How gain * e_k / total is found in the dtype of ``like``: see ``share_of``.

    For the largest e_k, from the pair: so that no probability passes 1, and a single class has
    exactly that.  For the others a factor, as a sum of two numbers: to multiply by both rounds
    once, where the quotient of a division would have rounded before.
    """
    largest_share, largest_low = quotient(top, total)
    factor, factor_low = quotient((gain, 0.0 * gain), total)
    high = convert(factor, like)
    low = convert((factor - widen(high)) + factor_low, like)
    return (
        convert(top[0], like),
        convert(gain * (largest_share + largest_low), like),
        high,
        low,
    )


@inlined
def share_of(e_k, parts):
    e_top, share_of_top, high, low = parts
    return select(e_k == e_top, share_of_top, fma(e_k, high, e_k * low))


@inlined
def share_row(e, n_classes, parts):
    """Replace e_k by its share, in place."""
    e_top, share_of_top, high, low = parts
    of_row = scalar(e_top), scalar(share_of_top), scalar(high), scalar(low)
    step = width(e)
    whole = n_classes - n_classes % step
    for k in range(0, whole, step):
        store(e, k, share_of(load(e, k), of_row))
    if whole < n_classes:
        e_k = load_first(e, whole, n_classes - whole, 0.0)
        store_first(e, whole, share_of(e_k, of_row), n_classes - whole)


@inlined
def share_turned(tile, n_classes, parts):
    for k in range(n_classes):
        store(tile, k * width(tile), share_of(load(tile, k * width(tile)), parts))
