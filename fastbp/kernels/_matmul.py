"""What the matrix products of a layer share: how their sums and their matrices are cut.

Each entry of a product is a sum over k in one order, which depends on the number of its terms
alone.  The terms are cut into equal blocks of at most ``K_BLOCK``, a block into chains of 16; a chain
is summed in fused multiply-adds from its first term on, and the chains' sums are added in turn.  So
are the blocks' sums, where k runs over units.  Where k runs over the rows of a batch, they are
added in a binary tree: neighbours first, then neighbouring pairs.  So an entry's bits depend
neither on the tile that it falls in, nor on the batch, nor on the thread; and its error grows with
the length of a chain and the numbers of chains and blocks, not with their product.

A matrix is an address and the distance between rows.  The right-hand one is read in panels, as wide
as a tile; a block of a panel, ``K_BLOCK`` rows of it, stays in the first-level cache while the tiles
under each other pass over it.  Of large products, the rows of the left-hand one are packed in the
order of their use, as many as the second-level cache holds beside the rest; and while a tile is
computed, the block that comes next is prefetched.

Weights lie in one of two forms.  In C order, a block whose rows lie far apart is copied before its
use.  In panel form, which they have while a network is trained, the panels lie one after the other:
all rows of the first ``panel_width`` columns, then of the next, each row filled up to whole
registers; nothing is copied, and no register straddles two cache lines.
"""

from typing import Any, NamedTuple

import numpy as np

from fastbp._compile import inlined
from fastbp._simd import (
    CHAIN,
    add_products,
    at,
    load_masked,
    offset,
    panel_width,
    prefetch,
    sgd_update,
    store,
    store_masked,
    transpose,
    update_tile_height,
    width,
)

# Rows of a block of B, which stays in the first-level cache while the tiles of C pass over it
K_BLOCK = 128

# A block that is copied, in registers
BLOCK = 2 * K_BLOCK

# Rows of B this far apart (in numbers) share few sets of the cache: a copy is worth its while once
# it serves this many rows of A
FAR = 128
MANY_ROWS = 16

# Products that are worth packing A: rows of it, and columns of B
PACKED_ROWS = 24
PACKED_COLUMNS = 1024

# Rows of a batch that are worth packing activations for their gradient
PACKED_TERMS = 512

# Numbers of a right-hand matrix from which on its blocks are prefetched: it comes from beyond the
# second-level cache then
FETCHED = 2**17

# Rows of A that are packed together, at most
TALL = 512

# Registers of packed numbers that a kernel keeps on its stack
STACK_PACKED = 4096

# Rows of sums that wait for their neighbours, in a panel; and in registers
WAITING_ROWS = 512
WAITING = 2 * WAITING_ROWS

# Not literals, of which each place would be compiled for on its own
ADJACENT: Any = np.intp(1)
NOWHERE: Any = np.intp(0)
ENDLESS: Any = np.intp(2**62)


class Weights(NamedTuple):
    """The weights of a layer, in C order or in panel form."""

    start: Any
    fan_in: int
    fan_out: int
    panel_step: int  # from a panel to the next one, in numbers a column
    row: int  # distance of rows; 0: they lie in panel form
    room: int  # numbers that may be read from the first one on


class Scratch(NamedTuple):
    """Memory of large batches and networks; the others have none."""

    packed: Any  # rows of A in the order of their use
    size: int  # of that memory, in numbers
    waiting: Any  # sums of blocks that wait for their neighbours: ``WAITING_ROWS`` of a panel


class Left(NamedTuple):
    """Rows of A, in tiles of ``height``; the numbers of a term of 0 follow those of the last."""

    start: Any
    height: int
    tile_step: int  # from a tile to the next one, in numbers a row
    row: int
    term: int


class Ahead(NamedTuple):
    """A block to prefetch while a panel of C is computed: ``parts`` of ``rows`` rows each."""

    start: Any
    row: int
    rows: int
    part_step: int
    parts: int


class Upcoming(NamedTuple):
    """The rows ``order[first:last]`` of x, which the next batch will gather."""

    x: Any
    n_features: int
    order: Any
    first: int
    last: int


@inlined
def fetch_rows(upcoming, share, shares):
    """Prefetch one of ``shares`` equal shares of some rows, which lie anywhere in memory.

    Spread over the products of an update, this hides the latency of memory.
    """
    x, n_features, order, first, last = upcoming
    lines = (n_features - 1) // width(x) + 1
    total = max(last - first, 0) * lines
    line, stop = total * share // shares, total * (share + 1) // shares
    while line < stop:
        i, q = line // lines, line % lines
        x_i = offset(x, at(order, first + i) * n_features)
        end = min(stop - line, lines - q)
        for k in range(q, q + end):
            prefetch(x_i, k * width(x), 0, 2)
        line += end


@inlined
def stack_scratch(packed, waiting):
    """The scratch of a kernel that is given none: ``STACK_PACKED`` and ``WAITING`` of its stack.

    The kernel's own, for what an inlined function has on its stack ends with it.
    """
    return Scratch(packed, (STACK_PACKED - 1) * width(packed), waiting)


@inlined
def rest(row, k):
    """`offset` of a row that there may not be."""
    if row is None:
        return None
    else:
        return offset(row, k)


@inlined
def plain_weights(w, fan_in, fan_out, room):
    return Weights(w, fan_in, fan_out, ADJACENT, fan_out, room)


@inlined
def panel_weights(w, fan_in, fan_out):
    return Weights(w, fan_in, fan_out, fan_in, NOWHERE, ENDLESS)


@inlined
def equal_share(n, most):
    """Size of the pieces, at most ``most``, that n is cut into: as equal as can be."""
    return n if n <= most else (n - 1) // ((n - 1) // most + 1) + 1


@inlined
def k_block_of(n_terms):
    """Length of the blocks that a sum is cut into."""
    return equal_share(n_terms, K_BLOCK)


@inlined
def panel_row(like, j, fan_out):
    """Distance of rows in the panel of column j, in panel form."""
    whole = (fan_out - j + width(like) - 1) // width(like) * width(like)
    return min(panel_width(like), whole)


@inlined
def row_step(weights, j):
    if weights.row > 0:
        return weights.row
    return panel_row(weights.start, j, weights.fan_out)


@inlined
def block_at(weights, k, j):
    """Row k of the panel of column j."""
    return offset(weights.start, j * weights.panel_step + k * row_step(weights, j))


@inlined
def tile_at(left, i, rows):
    """Address, distance of rows and distance of terms of A's tile at row i."""
    return offset(left.start, i * left.tile_step), left.row, left.term if left.term > 0 else rows


@inlined
def share_ahead(ahead, asked, b, b_row):
    """The rows of the block to come that a tile prefetches, one a chain, after those asked for.

    Those of the block in hand, if all have been; a distance of 0, if nothing is to be prefetched.
    """
    if ahead.parts == 0:
        return b, NOWHERE
    if asked < ahead.rows:
        return offset(ahead.start, asked * ahead.row), ahead.row
    part = asked // ahead.rows
    if part >= ahead.parts:
        return b, b_row
    place = part * ahead.part_step + (asked - part * ahead.rows) * ahead.row
    return offset(ahead.start, place), ahead.row


@inlined
def add_panel(left, b, b_row, count, n_rows, columns, c, c_row, first, ahead, written, updated):
    """Add ``count`` terms to one panel of C (or put them there, at ``first``): tile by tile.

    Meanwhile ``ahead`` is prefetched, and the rows of ``written`` and ``updated`` that belong to
    those of C, each an address and the distance of rows.
    """
    asked, chains = np.intp(0), (count - 1) // CHAIN + 1
    for i in range(0, n_rows, left.height):
        rows = min(left.height, n_rows - i)
        add_products(
            *(*tile_at(left, i, rows), b, b_row, count, rows, columns),
            *share_ahead(ahead, asked, b, b_row),
            *(offset(written[0], i * written[1]), written[1]),
            *(offset(updated[0], i * updated[1]), updated[1]),
            *(offset(c, i * c_row), c_row, first),
        )
        asked += chains


@inlined
def sgd_panel(left, b, b_row, count, n_rows, columns, w, v, w_row, rule, ahead):
    """`add_panel` of the one block of a gradient, whose tiles update the weights at once.

    Meanwhile ``ahead`` is prefetched, and the weights and velocities of the next tile.
    """
    asked, chains = np.intp(0), (count - 1) // CHAIN + 1
    i, inside = np.intp(0), np.intp(0)  # a tile of A, and what of it has been done
    while i < n_rows:
        height = min(left.height, n_rows - i)
        a, a_row, a_k = tile_at(left, i, height)
        rows = update_tile_height(height - inside)
        w_i, v_i = offset(w, (i + inside) * w_row), offset(v, (i + inside) * w_row)
        sgd_update(
            *(offset(a, inside * a_row), a_row, a_k, b, b_row, count, rows, columns),
            *share_ahead(ahead, asked, b, b_row),
            *(offset(w_i, rows * w_row), w_row, offset(v_i, rows * w_row), w_row),
            *(w_i, v_i, w_row, rule.learning_rate, rule.momentum, rule.l2, rule.nesterov),
        )
        asked += chains
        inside += rows
        if inside >= height:
            i, inside = i + height, np.intp(0)


@inlined
def copy_block(b, b_row, count, columns, block):
    """Copy a block of B: rows as long as a panel is wide, zeros behind the last column."""
    for k in range(count):
        b_k = offset(b, k * b_row)
        for j in range(0, columns, width(b)):
            store(block, panel_width(b) * k + j, load_masked(b_k, j, columns - j, 0.0))


@inlined
def transpose_block(weights, j, columns, k, count, block):
    """Copy a block of W^T: ``count`` columns of W, from k on, become rows; its rows j.. columns."""
    w, done = weights.start, np.intp(0)
    while done < count:
        # In panel form, as far as the panel goes
        column = k + done
        if weights.row > 0:
            source, step, held = offset(w, column), weights.row, count - done
        else:
            inside = column % panel_width(w)
            source = offset(w, (column - inside) * weights.fan_in + inside)
            step, held = row_step(weights, column - inside), panel_width(w) - inside
        held = min(min(held, count - done), width(w))
        for q in range(0, columns, width(w)):
            transpose(
                *(offset(source, (j + q) * step), step, columns - q, held),
                *(offset(block, panel_width(w) * done + q), panel_width(w)),
            )
        done += held


@inlined
def pack_rows(a, a_row, n_rows, n_terms, height, depth, packed):
    """Pack rows of A block by block, within a block tile by tile, within a tile term by term."""
    for start in range(0, n_terms, depth):
        count = min(depth, n_terms - start)
        for i in range(0, n_rows, height):
            rows = min(height, n_rows - i)
            for k in range(0, count, width(a)):
                transpose(
                    *(offset(a, i * a_row + start + k), a_row, rows, count - k),
                    *(offset(packed, start * n_rows + i * count + k * rows), rows),
                )


@inlined
def pack_columns(a, a_row, n_columns, n_terms, height, depth, packed):
    """`pack_rows` of A^T, whose rows are the columns of a."""
    for start in range(0, n_terms, depth):
        count = min(depth, n_terms - start)
        for i in range(0, n_columns, height):
            rows = min(height, n_columns - i)
            tile = offset(packed, start * n_columns + i * count)
            for k in range(count):
                a_k = offset(a, (start + k) * a_row)
                # Whole registers: what is too much, the next term covers
                store(tile, k * rows, load_masked(a_k, i, rows, 0.0))


@inlined
def packed_block(packed, place, height, count):
    """A block of ``count`` terms of packed rows."""
    return Left(offset(packed, place), height, count, ADJACENT, NOWHERE)


@inlined
def add_rows(source, source_row, n_rows, columns, c, c_row):
    """c <- c + source."""
    for i in range(n_rows):
        c_i, source_i = offset(c, i * c_row), offset(source, i * source_row)
        for q in range(0, columns, width(c)):
            held = columns - q
            total = load_masked(c_i, q, held, 0.0) + load_masked(source_i, q, held, 0.0)
            store_masked(c_i, q, total, held)
