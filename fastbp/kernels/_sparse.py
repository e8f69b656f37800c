"""Products with sparse rows: over their entries alone, with the bits of the dense products.

A zero adds nothing to a sum, so the entries are summed in the chains and blocks of
``fastbp.kernels._matmul`` in which their terms would stand.  Each entry comes with the number of
its chain: in z = a W, of its column; in a^T delta, of its row of the batch.
"""

from typing import Any, NamedTuple

from fastbp._compile import inlined, kernel
from fastbp._simd import (
    CHAIN,
    at,
    broadcast,
    fma,
    load_like,
    load_masked,
    offset,
    panel_width,
    prefetch,
    put,
    stack_row,
    store,
    store_masked,
    width,
)
from fastbp.kernels._gradient import GROUP_VECTORS, SMALL_ROW_GROUP
from fastbp.kernels._matmul import (
    K_BLOCK,
    Matrix,
    block_of,
    from_row,
    k_block_of,
    offset_or_none,
)
from fastbp.kernels.dense import finish_panel
from fastbp.kernels.update import update_parameters

# Chains of a block of the longest kind: numbers of chains in the next block begin a multiple later
CHAINS = K_BLOCK // CHAIN

# Entries between one that is used and the one whose row of weights is prefetched
ENTRIES_AHEAD = 12

# Vectors of block sums that wait in the binary tree, four for each: enough for any number of blocks
WAITING_VECTORS = 4 * 64


class Entries(NamedTuple):
    """Factors of the terms of sums, by address: ``value[k]`` times row ``place[k]`` of a matrix."""

    place: Any
    chain: Any
    value: Any


class SparseBatch(NamedTuple):
    """Sparse rows by address: row i has the entries ``starts[i]`` to ``starts[i + 1]``."""

    starts: Any
    entries: Any  # their places are columns
    order: Any  # numbers of a batch's rows; None for all rows in turn
    by_column: Any  # memory for a batch's entries by column: `Columns`


class Columns(NamedTuple):
    """The entries of a batch by column: column k has those from ``ends[k - 1]`` to ``ends[k]``."""

    ends: Any
    entries: Any  # their places are rows of the batch


class Pair(NamedTuple):
    """Two neighbouring panels of a matrix, of up to two vectors each."""

    first: Any
    n_first: Any  # columns
    second: Any
    n_second: Any  # 0 where there is no second


@inlined
def chain_of(k, k_block):
    """The number of the chain in which term k stands."""
    block = k // k_block
    return block * CHAINS + (k - block * k_block) // CHAIN


@kernel
def number_chains(columns, n_columns, chains):
    """Write the number of each column's chain in a product over ``n_columns``."""
    k_block = k_block_of(n_columns)
    for k in range(columns.shape[0]):
        chains[k] = chain_of(columns[k], k_block)


@inlined
def _block_sums(entries, k, last, pair):
    """The products from entry k to the end of its block, summed: four vectors, and the next k."""
    step, zeros = width(pair.first.start), broadcast(pair.first.start, 0.0)
    chain_0, chain_1, chain_2, chain_3 = zeros, zeros, zeros, zeros
    sum_0, sum_1, sum_2, sum_3 = zeros, zeros, zeros, zeros
    chain = at(entries.chain, k)
    block = chain // CHAINS
    while k < last:
        next_chain = at(entries.chain, k)
        if next_chain != chain:
            if next_chain // CHAINS != block:
                break
            chain = next_chain
            sum_0, sum_1 = sum_0 + chain_0, sum_1 + chain_1
            sum_2, sum_3 = sum_2 + chain_2, sum_3 + chain_3
            chain_0, chain_1, chain_2, chain_3 = zeros, zeros, zeros, zeros
        x = broadcast(pair.first.start, at(entries.value, k))
        place = at(entries.place, k)
        b = offset(pair.first.start, place * pair.first.row_stride)
        chain_0 = fma(x, load_masked(b, 0, pair.n_first, 0.0), chain_0)
        chain_1 = fma(x, load_masked(b, step, max(pair.n_first - step, 0), 0.0), chain_1)
        b = offset(pair.second.start, place * pair.second.row_stride)
        chain_2 = fma(x, load_masked(b, 0, pair.n_second, 0.0), chain_2)
        chain_3 = fma(x, load_masked(b, step, max(pair.n_second - step, 0), 0.0), chain_3)
        k += 1
    return sum_0 + chain_0, sum_1 + chain_1, sum_2 + chain_2, sum_3 + chain_3, k


@inlined
def _prefetch_row(entries, k, last, pair):
    """Prefetch the row of weights of an entry, where it exists."""
    if k < last:
        place, step = at(entries.place, k), width(pair.first.start)
        prefetch(pair.first.start, place * pair.first.row_stride, 0, 1)
        prefetch(pair.first.start, place * pair.first.row_stride + step, 0, 1)
        prefetch(pair.second.start, place * pair.second.row_stride, 0, 1)
        prefetch(pair.second.start, place * pair.second.row_stride + step, 0, 1)


@inlined
def multiply_sparse(rows, first, n, weights, c, finish):
    """C = A W for n rows from row ``first`` of a batch on, then ``finish``."""
    panel, fan_out = panel_width(c.start), weights.fan_out
    for i in range(n):
        number = first + i
        if rows.order is not None:
            number = at(rows.order, number)
        # All columns before the next row: an entry's row of weights lies in one or two pages.
        for j in range(0, fan_out, 2 * panel):
            n_first, n_second = min(panel, fan_out - j), max(min(panel, fan_out - j - panel), 0)
            next_j = j + n_first if n_second > 0 else j
            pair = Pair(block_of(weights, 0, j), n_first, block_of(weights, 0, next_j), n_second)
            _row_product(rows, number, pair, offset(from_row(c, i).start, j))
    for j in range(0, fan_out, panel):
        c_j = Matrix(offset(c.start, j), c.row_stride)
        finish_panel(finish, 0, n, j, min(panel, fan_out - j), c_j)


@inlined
def _row_product(rows, number, pair, c_i):
    """The product of one row with two panels."""
    zeros = broadcast(c_i, 0.0)
    total_0, total_1, total_2, total_3 = zeros, zeros, zeros, zeros
    k, last = at(rows.starts, number), at(rows.starts, number + 1)
    while k < last:
        _prefetch_row(rows.entries, k + ENTRIES_AHEAD, last, pair)
        sum_0, sum_1, sum_2, sum_3, k = _block_sums(rows.entries, k, last, pair)
        total_0, total_1 = total_0 + sum_0, total_1 + sum_1
        total_2, total_3 = total_2 + sum_2, total_3 + sum_3
    _store_pair(c_i, offset(c_i, pair.n_first), pair, (total_0, total_1, total_2, total_3))


@inlined
def _store_pair(row, next_row, pair, vectors):
    """Write the columns of two panels."""
    step, (x_0, x_1, x_2, x_3) = width(row), vectors
    store_masked(row, 0, x_0, pair.n_first)
    store_masked(row, step, x_1, max(pair.n_first - step, 0))
    store_masked(next_row, 0, x_2, pair.n_second)
    store_masked(next_row, step, x_3, max(pair.n_second - step, 0))


@inlined
def _first_from(entries, k, last, column):
    """The first entry, from k to ``last``, whose column is not below ``column``."""
    while k < last:
        middle = (k + last) // 2
        if at(entries.place, middle) < column:
            k = middle + 1
        else:
            last = middle
    return k


@inlined
def sort_by_column(rows, n, first, n_columns):
    """Sort the entries of a batch's n rows in ``n_columns`` columns from column ``first`` on.

    Those of a column stay in the order of the rows.
    """
    columns, k_block = rows.by_column, k_block_of(n)
    for column in range(n_columns + 1):
        put(columns.ends, column, 0)
    for is_count in (True, False):
        for i in range(n):
            number = at(rows.order, i)
            k, last = at(rows.starts, number), at(rows.starts, number + 1)
            k = _first_from(rows.entries, k, last, first)
            last = _first_from(rows.entries, k, last, first + n_columns)
            chain = chain_of(i, k_block)
            while k < last:
                column = at(rows.entries.place, k) - first
                if is_count:
                    put(columns.ends, column + 1, at(columns.ends, column + 1) + 1)
                else:
                    end = at(columns.ends, column)
                    put(columns.ends, column, end + 1)
                    put(columns.entries.place, end, i)
                    put(columns.entries.chain, end, chain)
                    put(columns.entries.value, end, at(rows.entries.value, k))
                k += 1
        if is_count:
            end = 0
            for column in range(1, n_columns + 1):
                end += at(columns.ends, column)
                put(columns.ends, column, end)
    return columns


@inlined
def _column_sums(columns, column, n, errors):
    """A row of a^T delta for two panels: blocks are added in a binary tree."""
    zeros = broadcast(errors.first.start, 0.0)
    entries, last = columns.entries, at(columns.ends, column)
    k = at(columns.ends, column - 1) if column > 0 else 0
    if k == last:
        return zeros, zeros, zeros, zeros
    if n <= K_BLOCK:
        sum_0, sum_1, sum_2, sum_3, k = _block_sums(entries, k, last, errors)
        return sum_0, sum_1, sum_2, sum_3
    waiting, step = stack_row(errors.first.start, WAITING_VECTORS), width(errors.first.start)
    k_block, number, n_blocks = k_block_of(n), 0, 0
    sum_0, sum_1, sum_2, sum_3 = zeros, zeros, zeros, zeros
    for i in range(0, n, k_block):
        sum_0, sum_1, sum_2, sum_3 = zeros, zeros, zeros, zeros
        if k < last:
            if at(entries.chain, k) // CHAINS == n_blocks:
                sum_0, sum_1, sum_2, sum_3, k = _block_sums(entries, k, last, errors)
        n_blocks += 1
        size = n_blocks
        while number > 0 and (i + k_block >= n or size % 2 == 0):
            number -= 1
            size //= 2
            at_0 = 4 * number * step
            sum_0 = load_like(waiting, at_0, zeros) + sum_0
            sum_1 = load_like(waiting, at_0 + step, zeros) + sum_1
            sum_2 = load_like(waiting, at_0 + 2 * step, zeros) + sum_2
            sum_3 = load_like(waiting, at_0 + 3 * step, zeros) + sum_3
        at_0 = 4 * number * step
        store(waiting, at_0, sum_0)
        store(waiting, at_0 + step, sum_1)
        store(waiting, at_0 + 2 * step, sum_2)
        store(waiting, at_0 + 3 * step, sum_3)
        number += 1
    return sum_0, sum_1, sum_2, sum_3


@inlined
def _errors_of(delta, j, fan_out):
    """Two panels of delta, from column j on."""
    panel = panel_width(delta.start)
    n_first, n_second = min(panel, fan_out - j), max(min(panel, fan_out - j - panel), 0)
    first = Matrix(offset(delta.start, j), delta.row_stride)
    second = Matrix(offset(delta.start, j + n_first), delta.row_stride)
    return Pair(first, n_first, second, n_second)


@inlined
def sparse_gradient_rows(columns, delta, shape, first, grad_w):
    """a_prev^T delta (BP4), for the sorted columns of a_prev, to ``grad_w`` in panel form.

    Written from row ``first`` on.
    """
    n, n_rows, fan_out = shape
    panel = panel_width(delta.start)
    for j in range(0, fan_out, 2 * panel):
        errors = _errors_of(delta, j, fan_out)
        for k in range(n_rows):
            row, next_row = block_of(grad_w, first + k, j), block_of(grad_w, first + k, j + panel)
            g = _column_sums(columns, k, n, errors)
            _store_pair(row.start, next_row.start, errors, g)


@inlined
def update_sparse_rows(columns, delta, shape, first, trained, rule):
    """g = a_prev^T delta (BP4) for the sorted columns of a_prev, and the update by g.

    Rows of weights without entries have no gradient, but a velocity.
    """
    n, n_rows, fan_out = shape
    weights, step, panel = trained.weights, width(delta.start), panel_width(delta.start)
    grad, next_grad = stack_row(delta.start, GROUP_VECTORS), stack_row(delta.start, GROUP_VECTORS)
    for j in range(0, fan_out, 2 * panel):
        errors = _errors_of(delta, j, fan_out)
        stride = block_of(weights, 0, j).row_stride
        next_stride = block_of(weights, 0, j + panel).row_stride if errors.n_second > 0 else 0
        for start in range(0, n_rows, SMALL_ROW_GROUP):
            rows = min(SMALL_ROW_GROUP, n_rows - start)
            for k in range(rows):
                g_0, g_1, g_2, g_3 = _column_sums(columns, start + k, n, errors)
                store(grad, k * stride, g_0)
                if stride > step:
                    store(grad, k * stride + step, g_1)
                if next_stride > 0:
                    store(next_grad, k * next_stride, g_2)
                if next_stride > step:
                    store(next_grad, k * next_stride + step, g_3)
            _update(trained, first + start, rows, j, grad, rule)
            if next_stride > 0:
                _update(trained, first + start, rows, j + panel, next_grad, rule)


@inlined
def _update(trained, first, n_rows, j, grad, rule):
    """Update some rows of a panel of weights by their gradient."""
    w = block_of(trained.weights, first, j)
    place = j * trained.weights.fan_in + first * w.row_stride
    v, u = offset(trained.velocity, place), offset_or_none(trained.second_moment, place)
    update_parameters(w.start, grad, v, u, n_rows * w.row_stride, rule)
