"""What the matrix products of a layer share: how sums and matrices are cut.

Each element of a product is a sum over k in one order, which depends on its number of terms alone.
The terms are cut into equal blocks of at most ``K_BLOCK``, a block into chains of 16.  A chain is
summed by fused multiply-adds, and the sums of the chains are added one after the other.  Where k
runs over units, the sums of the blocks are added one after the other, too.  Where k runs over the
rows of a batch, they are added in a binary tree: neighbours first, then neighbouring pairs.  So the
bits of an element depend neither on its tile, nor on the batch, nor on the thread.  The error grows
with the length of a chain and the numbers of chains and blocks, not with their product.

The right-hand matrix B is read in panels, as wide as a tile.  A block of a panel, ``K_BLOCK`` rows
of it, stays in the first-level cache while the tiles of C pass over it.  For large products, the
rows of the left-hand matrix A are packed in the order of use, as many as the second-level cache
holds.  During a tile, the next block is prefetched.

Weights lie in one of two forms.  In C order, a block with rows far apart is copied before use.  In
panel form, the form of training, panels lie one after the other: all rows of the first
``panel_width`` columns, then of the next, each row filled up to whole vectors with zeros.  Nothing
is copied then, and no vector straddles two cache lines.
"""

from typing import Any, NamedTuple

import numpy as np

from fastbp._compile import inlined
from fastbp._simd import (
    CHAIN,
    Prefetched,
    Product,
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

# Rows of a block of B: the most that stay in the first-level cache with the tiles of A
K_BLOCK = 128

# Vectors of a copied block
BLOCK_VECTORS = 2 * K_BLOCK

# Rows of B at least FAR_ELEMENTS apart share few sets of the cache: a copy pays once it serves
# MANY_ROWS rows of A.
FAR_ELEMENTS = 128
MANY_ROWS = 16

# Rows of A, and columns of B, from which on packing A pays
PACKED_ROWS = 24
PACKED_COLUMNS = 1024

# Rows of a batch from which on packing activations for the weight gradient pays
PACKED_TERMS = 512

# Elements of a right-hand matrix that comes from beyond the second-level cache: prefetch it
PREFETCHED_ELEMENTS = 2**17

# Rows of A that are packed together, at most
PACKED_HEIGHT = 512

# Vectors of packed rows on the stack of a kernel
STACK_VECTORS = 4096

# Rows of a panel, and vectors, of block sums that wait for their neighbours in the binary tree
WAITING_ROWS = 512
WAITING_VECTORS = 2 * WAITING_ROWS

# Literals would be compiled for one by one.
ONE: Any = np.intp(1)
ZERO: Any = np.intp(0)


class Matrix(NamedTuple):
    """A matrix by the address of its first element and the distance of its rows."""

    start: Any
    row_stride: Any


class Weights(NamedTuple):
    """The weights of a layer, in C order or in panel form."""

    start: Any
    fan_in: Any
    fan_out: Any
    row_stride: Any  # None in panel form
    n_readable: Any  # elements that may be read from the first one on; None in panel form


class Scratch(NamedTuple):
    """Memory for packed rows and waiting sums; small batches and networks have none."""

    packed: Any
    n_packed: Any  # elements of ``packed``
    waiting: Any  # block sums that wait for their neighbours: ``WAITING_ROWS`` rows of a panel


class LeftRows(NamedTuple):
    """Rows of A, tile by tile."""

    start: Any
    tile_height: Any
    tile_stride: Any  # from a tile to the next one, per row
    row_stride: Any
    k_stride: Any  # from a term to the next one; 0 in packed tiles, as far as a tile has rows


class NextBlock(NamedTuple):
    """The block of B after this one: ``n_parts`` times ``n_rows`` rows to prefetch."""

    start: Any
    row_stride: Any
    n_rows: Any
    part_stride: Any
    n_parts: Any  # 0: prefetch nothing


class Ahead(NamedTuple):
    """What is prefetched during a panel: the next block of B, and two matrices to be written."""

    block: Any
    written: Any
    updated: Any


class Shape(NamedTuple):
    """Shape of a product: C has ``n_rows`` rows and ``n_columns``; sums have ``n_terms`` terms."""

    n_terms: Any
    n_rows: Any
    n_columns: Any


class NextRows(NamedTuple):
    """The rows ``order[first:last]`` of x, which the next batch gathers."""

    x: Any
    n_features: Any
    order: Any
    first: Any
    last: Any


@inlined
def prefetch_rows(next_rows, share, n_shares):
    """Prefetch one of ``n_shares`` equal shares of some rows.

    Spread over the products of an update, this hides the latency of memory.
    """
    x, n_features, order, first, last = next_rows
    lines = (n_features - 1) // width(x) + 1
    total = max(last - first, 0) * lines
    line, stop = total * share // n_shares, total * (share + 1) // n_shares
    while line < stop:
        i, q = line // lines, line % lines
        x_i = offset(x, at(order, first + i) * n_features)
        end = min(stop - line, lines - q)
        for k in range(q, q + end):
            prefetch(x_i, k * width(x), 0, 2)
        line += end


@inlined
def stack_scratch(packed, waiting):
    """The scratch of a kernel: ``STACK_VECTORS`` and ``WAITING_VECTORS`` of its own stack."""
    return Scratch(packed, (STACK_VECTORS - 1) * width(packed), waiting)


@inlined
def offset_or_none(row, k):
    if row is None:
        return None
    else:
        return offset(row, k)


@inlined
def equal_share(n, most):
    """Size of equal pieces of n, at most ``most``."""
    return n if n <= most else (n - 1) // ((n - 1) // most + 1) + 1


@inlined
def k_block_of(n_terms):
    """Terms of a block of a sum."""
    return equal_share(n_terms, K_BLOCK)


@inlined
def panel_row_stride(like, j, fan_out):
    """Elements of a row of the panel of column j: whole vectors."""
    whole = (fan_out - j + width(like) - 1) // width(like) * width(like)
    return min(panel_width(like), whole)


@inlined
def row_stride_of(weights, j):
    """Distance of two rows in the panel of column j."""
    if weights.row_stride is None:
        return panel_row_stride(weights.start, j, weights.fan_out)
    return weights.row_stride


@inlined
def block_of(weights, k, j):
    """The weights from row k of the panel of column j on."""
    if weights.row_stride is None:
        row_stride = panel_row_stride(weights.start, j, weights.fan_out)
        return Matrix(offset(weights.start, j * weights.fan_in + k * row_stride), row_stride)
    return Matrix(offset(weights.start, k * weights.row_stride + j), weights.row_stride)


@inlined
def from_row(matrix, i):
    """The matrix from row i on."""
    return Matrix(offset(matrix.start, i * matrix.row_stride), matrix.row_stride)


@inlined
def packed_rows(packed, place, tile_height, n_terms):
    """Rows of A that are packed from ``packed[place]`` on."""
    return LeftRows(offset(packed, place), tile_height, n_terms, ONE, ZERO)


@inlined
def _rows_to_prefetch(next_block, n_done, b):
    """The rows that a tile prefetches, one per chain, when ``n_done`` have been before.

    After the last row of the next block, rows of the block at hand; with a stride of 0, none.
    """
    if next_block.n_parts == 0:
        return Matrix(b.start, ZERO)
    if n_done < next_block.n_rows:
        row = offset(next_block.start, n_done * next_block.row_stride)
        return Matrix(row, next_block.row_stride)
    part = n_done // next_block.n_rows
    if part >= next_block.n_parts:
        return b
    row = (n_done - part * next_block.n_rows) * next_block.row_stride
    place = part * next_block.part_stride + row
    return Matrix(offset(next_block.start, place), next_block.row_stride)


@inlined
def add_panel(left, b, shape, c, is_first, ahead):
    """Add ``n_terms`` terms to a panel of C, or write them there with ``is_first``."""
    n_done, n_chains = ZERO, (shape.n_terms - 1) // CHAIN + 1
    for i in range(0, shape.n_rows, left.tile_height):
        n_rows = min(left.tile_height, shape.n_rows - i)
        a, k_stride = offset(left.start, i * left.tile_stride), left.k_stride
        if k_stride == 0:
            k_stride = n_rows
        rows, n_terms = left.row_stride, shape.n_terms
        product = Product(
            a, rows, k_stride, b.start, b.row_stride, n_terms, n_rows, shape.n_columns
        )
        read = _rows_to_prefetch(ahead.block, n_done, b)
        written, updated = from_row(ahead.written, i), from_row(ahead.updated, i)
        prefetched = _prefetched(read, written, updated)
        add_products(product, prefetched, from_row(c, i).start, c.row_stride, is_first)
        n_done += n_chains


@inlined
def _prefetched(read, written, updated):
    return Prefetched(
        read.start,
        read.row_stride,
        written.start,
        written.row_stride,
        updated.start,
        updated.row_stride,
    )


@inlined
def sgd_panel(left, b, shape, w, v, rates, next_block):
    """Update a panel of weights by the only block of their gradient, tile by tile.

    Meanwhile, the weights and velocities of the next tile are prefetched.
    """
    n_done, n_chains = ZERO, (shape.n_terms - 1) // CHAIN + 1
    i, inside = ZERO, ZERO  # first row of a tile of A; rows of it that are done
    while i < shape.n_rows:
        height = min(left.tile_height, shape.n_rows - i)
        n_rows = update_tile_height(height - inside)
        a = offset(left.start, i * left.tile_stride + inside * left.row_stride)
        k_stride = left.k_stride
        if k_stride == 0:
            k_stride = height
        rows, n_terms = left.row_stride, shape.n_terms
        product = Product(
            a, rows, k_stride, b.start, b.row_stride, n_terms, n_rows, shape.n_columns
        )
        w_i, v_i = from_row(w, i + inside), from_row(v, i + inside)
        read = _rows_to_prefetch(next_block, n_done, b)
        prefetched = _prefetched(read, from_row(w_i, n_rows), from_row(v_i, n_rows))
        sgd_update(product, prefetched, w_i.start, v_i.start, w.row_stride, rates)
        n_done += n_chains
        inside += n_rows
        if inside >= height:
            i, inside = i + height, ZERO


@inlined
def copy_block(b, n_rows, n_columns, block):
    """Copy a block of B: rows as long as a panel is wide, zeros behind the last column."""
    for k in range(n_rows):
        b_k = from_row(b, k).start
        for j in range(0, n_columns, width(block)):
            store(block, panel_width(block) * k + j, load_masked(b_k, j, n_columns - j, 0.0))


@inlined
def transpose_block(weights, k, n_rows, j, n_columns, block):
    """Copy a block of W^T: columns k to k + n_rows of W become rows, its rows from j on columns."""
    w, n_done = weights.start, ZERO
    while n_done < n_rows:
        column = k + n_done
        if weights.row_stride is None:
            inside = column % panel_width(w)
            source = offset(w, (column - inside) * weights.fan_in + inside)
            stride, n = row_stride_of(weights, column - inside), panel_width(w) - inside
        else:
            source, stride, n = offset(w, column), weights.row_stride, n_rows - n_done
        n = min(min(n, n_rows - n_done), width(w))
        for q in range(0, n_columns, width(w)):
            source_q, block_q = offset(source, (j + q) * stride), panel_width(w) * n_done + q
            transpose(source_q, stride, n_columns - q, n, offset(block, block_q), panel_width(w))
        n_done += n


@inlined
def pack_rows(a, n_rows, n_terms, k_block, tile_height, packed):
    """Pack rows of A: block by block, within a block tile by tile, within a tile term by term."""
    for start in range(0, n_terms, k_block):
        n = min(k_block, n_terms - start)
        for i in range(0, n_rows, tile_height):
            rows = min(tile_height, n_rows - i)
            a_i, tile = offset(from_row(a, i).start, start), offset(packed, start * n_rows + i * n)
            for k in range(0, n, width(packed)):
                transpose(offset(a_i, k), a.row_stride, rows, n - k, offset(tile, k * rows), rows)


@inlined
def pack_columns(a, n_columns, n_terms, k_block, tile_height, packed):
    """`pack_rows` of A^T, whose rows are the columns of a."""
    for start in range(0, n_terms, k_block):
        n = min(k_block, n_terms - start)
        for i in range(0, n_columns, tile_height):
            rows = min(tile_height, n_columns - i)
            tile = offset(packed, start * n_columns + i * n)
            for k in range(n):
                a_k = from_row(a, start + k).start
                # Whole vectors: the next term overwrites what is too much.
                store(tile, k * rows, load_masked(a_k, i, rows, 0.0))


@inlined
def add_rows(source, n_rows, n_columns, c):
    """c <- c + source."""
    for i in range(n_rows):
        c_i, source_i = from_row(c, i).start, from_row(source, i).start
        for q in range(0, n_columns, width(c_i)):
            n = n_columns - q
            total = load_masked(c_i, q, n, 0.0) + load_masked(source_i, q, n, 0.0)
            store_masked(c_i, q, total, n)
