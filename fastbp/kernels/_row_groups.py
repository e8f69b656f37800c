"""Groups of rows: their maxima, their exponentials and sums, and their probabilities.

- Rows of at most SHORT classes are transposed: a vector holds one class of as many rows as it has
  lanes.
- Longer rows are read a vector at a time.  A group has few rows: later passes find them in the
  first-level cache.  Values of a row, such as its maximum, are computed for all rows at once, one
  row a lane.

A row's result depends neither on its group nor on its place in it.
"""

import math
from typing import Any, NamedTuple

from fastbp._compile import inlined
from fastbp._simd import (
    add_sums,
    any_lane,
    at,
    broadcast,
    constant_for,
    convert,
    flat,
    fmax,
    is_double,
    lane,
    lanes_before,
    load,
    load_like,
    load_masked,
    load_transposed,
    max_of_vectors,
    offset,
    prefetch,
    put,
    row,
    scalar,
    select,
    store,
    store_transposed,
    sum_lanes,
    sum_of_vectors,
    to_float64,
    width,
)
from fastbp.kernels._rows import (
    CONFIDENT_32,
    CONFIDENT_64,
    add_other,
    add_scaled_exp,
    exp_of_maximum,
    log_one_plus_ratio,
    log_probability_of,
    normalized,
    probability_of,
    scaled_exp,
    scaling,
    start_sum,
    widened_sum,
    without_one,
)

# Up to this many classes rows are transposed; passes over longer ones take two vectors at least.
SHORT = 32

# Elements of a group of longer rows: the first-level cache keeps them
GROUP_SIZE = 4096

# Vectors to sum in the row's dtype before float64 takes over: what a sum loses is rounded, too
BLOCK_VECTORS = 64

# Vectors from one that is written to the one that is prefetched for writing.  A whole row ahead
# would evict the exponentials of a long row from the second-level cache before they are read again.
WRITE_AHEAD_VECTORS = 64

# Vectors of scratch space: of logits or exponentials, and of float64
TILE_VECTORS, WIDE_VECTORS = SHORT, 64


class Group(NamedTuple):
    """Rows that are computed together."""

    first: Any
    n_rows: Any
    n_classes: Any
    transposed: Any


class Scratch(NamedTuple):
    """Scratch rows: a tile of logits, one of exponentials (or the same), and one of float64.

    Long rows have no tile: ``e`` then holds values of rows, such as their maxima.
    """

    logits: Any
    e: Any
    wide: Any


@inlined
def rows_in_group(z, transposed):
    return width(z) if transposed else max(1, min(width(z), GROUP_SIZE // z.shape[1]))


@inlined
def clear(scratch):
    """Write zeros for the rows that a last group lacks."""
    zeros = broadcast(scratch.e, 0.0)
    wide_zeros = to_float64(zeros)
    step = width(scratch.e)
    for r in range(step):
        store(scratch.e, r * step, zeros)
        store(scratch.wide, 2 * r * step, wide_zeros)
        store(scratch.wide, (2 * r + 1) * step, wide_zeros)


@inlined
def _prefetch_rows(array, group, written):
    """Prefetch the group after the next: a group takes longer than the processor looks ahead."""
    size = width(array) * group.n_classes
    start = group.first * group.n_classes + 2 * size
    for k in range(start, start + size, width(array)):
        if written:
            prefetch(flat(array), k, 1, 1)
        else:
            prefetch(flat(array), k, 0, 1)


@inlined
def _rows_of(array, group):
    return offset(flat(array), group.first * group.n_classes)


@inlined
def _maxima_in_tile(tile, n_classes):
    step = width(tile)
    m = broadcast(tile, -math.inf)
    other = m
    for k in range(0, n_classes - 1, 2):
        m = fmax(load(tile, k * step), m)
        other = fmax(load(tile, (k + 1) * step), other)
    if n_classes % 2:
        m = fmax(load(tile, (n_classes - 1) * step), m)
    return fmax(m, other)


@inlined
def _maxima_in_row(z_i, n_classes):
    """Vector whose maximum is the row's: the last vectors overlap those before them."""
    step = width(z_i)
    lowest = broadcast(z_i, -math.inf)
    m = fmax(load(z_i, n_classes - step), lowest)
    other = fmax(load(z_i, n_classes - 2 * step), lowest)
    for k in range(0, n_classes - n_classes % (2 * step), 2 * step):
        m = fmax(load(z_i, k), m)
        other = fmax(load(z_i, k + step), other)
    return fmax(m, other)


@inlined
def row_maxima(z, group, scratch):
    """The maximum of each row; NaN is passed over (it shows in the sums).

    Short rows are left in the tile of logits.
    """
    n_classes, step = group.n_classes, width(z)
    if group.transposed:
        _prefetch_rows(z, group, False)
        for k in range(0, n_classes, step):
            load_transposed(_rows_of(z, group), n_classes, group.n_rows, k, scratch.logits)
        return _maxima_in_tile(scratch.logits, n_classes)
    for r in range(group.n_rows):
        store(scratch.e, r * step, _maxima_in_row(row(z, group.first + r), n_classes))
    return max_of_vectors(scratch.e)


@inlined
def _sums_in_tile(scratch, n_classes, row_scaling, keep):
    shift, floor, base = row_scaling
    step = width(scratch.e)
    total, lost = start_sum(scratch.e)
    for k in range(n_classes):
        z_k = load(scratch.logits, k * step)
        e_k, total, lost = add_scaled_exp(total, lost, z_k - shift, floor, base)
        if keep:
            store(scratch.e, k * step, e_k)
    total, lost = widened_sum(total, lost)
    return normalized(total, lost)


@inlined
def _sums_in_row(z_i, e_i, n_classes, row_scaling, keep, ahead):
    """Vector of the sum of a row's exponentials, float64 pairs; ``keep`` writes these to ``e_i``.

    The row's last vector overlaps the one before, and so is read first, and written last.
    """
    shift, floor, base = row_scaling
    step = width(z_i)
    whole, tail = n_classes - n_classes % step, n_classes - step
    total, lost = start_sum(z_i)
    e_tail = total
    if whole < n_classes:
        e_tail, grown, all_lost = add_scaled_exp(total, lost, load(z_i, tail) - shift, floor, base)
        overlap = lanes_before(e_tail, whole - tail)
        total, lost = select(overlap, total, grown), select(overlap, lost, all_lost)
    zeros = 0.0 * to_float64(lost)
    sums = zeros, zeros
    for start in range(0, whole, BLOCK_VECTORS * step):
        for k in range(start, min(start + BLOCK_VECTORS * step, whole), step):
            prefetch(z_i, k + ahead, 0, 1)
            s_k = load(z_i, k)
            if shift != 0.0:  # LLVM makes two loops of this one: most rows have no shift
                s_k = s_k - shift
            e_k, total, lost = add_scaled_exp(total, lost, s_k, floor, base)
            if keep:
                prefetch(e_i, k + WRITE_AHEAD_VECTORS * step, 1, 1)
                store(e_i, k, e_k)
        part, part_lost = widened_sum(total, lost)
        sums = add_sums(z_i, sums[0], sums[1], part, part_lost)
        total, lost = start_sum(z_i)
    if keep and whole < n_classes:
        store(e_i, tail, e_tail)
    return sums


@inlined
def _lay_out(scratch, row_scaling):
    """Store the rows' scalings, for `_scaling_of_row` to read."""
    shift, floor, base = row_scaling
    step = width(scratch)
    store(scratch, 0, shift)
    store(scratch, step, floor)
    store(scratch, 2 * step, base)


@inlined
def _scaling_of_row(scratch, r):
    step = width(scratch)
    return at(scratch, r), at(scratch, step + r), at(scratch, 2 * step + r)


@inlined
def row_sums(z, e, group, m, keep, scratch):
    """The rows' scaling, the largest exponential and the sum of all, float64 pairs.

    ``keep`` leaves the exponentials of long rows in the rows of ``e``, which may be those of z, and
    of short rows in the tile.
    """
    n_classes, step = group.n_classes, width(z)
    row_scaling = scaling(m)
    top = exp_of_maximum(m, row_scaling)
    if group.transposed:
        if keep:
            _prefetch_rows(e, group, True)
        return row_scaling, top, _sums_in_tile(scratch, n_classes, row_scaling, keep)
    _lay_out(scratch.e, row_scaling)
    for r in range(group.n_rows):
        z_r, e_r = row(z, group.first + r), row(e, group.first + r)
        scaling_r = _scaling_of_row(scratch.e, r)
        total, lost = _sums_in_row(z_r, e_r, n_classes, scaling_r, keep, group.n_rows * n_classes)
        store(scratch.wide, 2 * r * step, total)
        if is_double(z):  # float32 has lost nothing
            store(scratch.wide, (2 * r + 1) * step, lost)
    return row_scaling, top, sum_of_vectors(z, scratch.wide)


@inlined
def _others_in_tile(scratch, n_classes, row_scaling, top, keep):
    shift, floor, base = row_scaling
    step = width(scratch.e)
    e_top = convert(top[0], scratch.e)
    zeros = broadcast(scratch.e, 0.0)
    others, lost, ties = zeros, zeros, zeros
    for k in range(n_classes):
        if keep:
            e_k, e_lost = load(scratch.e, k * step), zeros
        else:
            e_k, e_lost = scaled_exp(load(scratch.logits, k * step) - shift, floor, base)
        others, lost, ties = add_other(others, lost, ties, e_k, e_lost, e_top)
    return without_one(to_float64(others), to_float64(lost), to_float64(ties), top)


@inlined
def _others_in_row(z_i, e_i, n_classes, row_scaling, top, keep):
    shift, floor, base = row_scaling
    e_top = scalar(convert(top[0], z_i))
    zeros = broadcast(z_i, 0.0)
    others, lost, ties = zeros, zeros, zeros
    for k in range(0, n_classes, width(z_i)):
        if keep:
            e_k, e_lost = load_masked(e_i, k, n_classes - k, 0.0), zeros
        else:
            z_k = load_masked(z_i, k, n_classes - k, -math.inf)
            e_k, e_lost = scaled_exp(z_k - shift, floor, base)
        others, lost, ties = add_other(others, lost, ties, e_k, e_lost, e_top)
    head, low = sum_lanes(others, lost)
    n_ties, _ = sum_lanes(ties, zeros)
    return without_one(head, low, n_ties, top)


@inlined
def other_sums(z, e, group, sums, keep, scratch):
    """The sum of all exponentials but the largest with all its digits, float64 pairs.

    The other classes of a confident row are summed again: their rounded exponentials where ``keep``
    has kept them, else the exact ones.
    """
    row_scaling, top, total = sums
    n_classes, step = group.n_classes, width(z)
    others, lost = total[0] - top[0], total[1] - top[1]
    confident = others < constant_for(z, CONFIDENT_32, CONFIDENT_64) * top[0]
    if not any_lane(confident):
        return others, lost
    if group.transposed:
        head, low = _others_in_tile(scratch, n_classes, row_scaling, top, keep)
        return select(confident, head, others), select(confident, low, lost)
    wide = scratch.wide
    _lay_out(scratch.e, row_scaling)
    store(wide, 0, others)
    store(wide, step, lost)
    store(wide, 2 * step, select(confident, top[0], 0.0))
    store(wide, 3 * step, top[1])
    for r in range(group.n_rows):
        if at(wide, 2 * step + r) != 0.0:
            z_r, e_r = row(z, group.first + r), row(e, group.first + r)
            top_r = lane(at(wide, 2 * step + r)), lane(at(wide, 3 * step + r))
            head, low = _others_in_row(
                z_r, e_r, n_classes, _scaling_of_row(scratch.e, r), top_r, keep
            )
            put(wide, r, scalar(head))
            put(wide, step + r, scalar(low))
    return load_like(wide, 0, others), load_like(wide, step, others)


@inlined
def log_sums(z, group, m, scratch):
    """ln(sum_k e**(z_k - m)) >= 0 of each row, as a float64 pair."""
    sums = row_sums(z, z, group, m, False, scratch)
    others = other_sums(z, z, group, sums, False, scratch)
    return log_one_plus_ratio(others, sums[1], z)


@inlined
def write_tile(tile, array, group):
    """Write a tile back to the rows of ``array``."""
    for k in range(0, group.n_classes, width(array)):
        store_transposed(tile, _rows_of(array, group), group.n_classes, group.n_rows, k)


@inlined
def write_probabilities(e, group, parts, scratch):
    """Write a (see ``probability_parts``) over the exponentials in ``e`` or the tile."""
    n_classes, step = group.n_classes, width(e)
    if group.transposed:
        for k in range(n_classes):
            store(scratch.e, k * step, probability_of(load(scratch.e, k * step), parts))
        write_tile(scratch.e, e, group)
        return
    e_top, high, low, rest_of_top = parts
    store(scratch.e, 0, e_top)
    store(scratch.e, step, high)
    store(scratch.e, 2 * step, low)
    store(scratch.e, 3 * step, rest_of_top)
    whole, tail = n_classes - n_classes % step, n_classes - step
    for r in range(group.n_rows):
        e_r = row(e, group.first + r)
        top_r, high_r = at(scratch.e, r), at(scratch.e, step + r)
        of_row = top_r, high_r, at(scratch.e, 2 * step + r), at(scratch.e, 3 * step + r)
        e_tail = load(e_r, tail)  # read before its overlap is written: no wait for that store
        for k in range(0, whole, step):
            store(e_r, k, probability_of(load(e_r, k), of_row))
        if whole < n_classes:
            store(e_r, tail, probability_of(e_tail, of_row))


@inlined
def write_log_probabilities(z, log_a, group, parts, scratch):
    """Write ln a (see ``log_probability_parts``); ``log_a`` may be z."""
    n_classes, step = group.n_classes, width(z)
    if group.transposed:
        for k in range(n_classes):
            store(scratch.e, k * step, log_probability_of(load(scratch.logits, k * step), parts))
        write_tile(scratch.e, log_a, group)
        return
    high, low = parts
    store(scratch.e, 0, high)
    store(scratch.e, step, low)
    whole, tail = n_classes - n_classes % step, n_classes - step
    for r in range(group.n_rows):
        z_r, log_a_r = row(z, group.first + r), row(log_a, group.first + r)
        of_row = at(scratch.e, r), at(scratch.e, step + r)
        z_tail = load(z_r, tail)
        for k in range(0, whole, step):
            store(log_a_r, k, log_probability_of(load(z_r, k), of_row))
        if whole < n_classes:
            store(log_a_r, tail, log_probability_of(z_tail, of_row))
