"""Gradients of a layer (BP3, BP4) and the update of its weights, panel by panel."""

from typing import Any, NamedTuple

from fastbp._compile import inlined
from fastbp._simd import (
    broadcast,
    fma,
    is_double,
    load,
    load_like,
    load_masked,
    offset,
    panel_width,
    scalar,
    select,
    stack_row,
    store,
    store_masked,
    sum_lanes,
    tile_height,
    to_float64,
    width,
)
from fastbp.kernels._matmul import (
    BLOCK_VECTORS,
    FAR_ELEMENTS,
    K_BLOCK,
    MANY_ROWS,
    ONE,
    PACKED_COLUMNS,
    PACKED_TERMS,
    PREFETCHED_ELEMENTS,
    WAITING_ROWS,
    ZERO,
    Ahead,
    LeftRows,
    Matrix,
    NextBlock,
    Shape,
    add_panel,
    add_rows,
    block_of,
    copy_block,
    equal_share,
    from_row,
    k_block_of,
    offset_or_none,
    pack_columns,
    packed_rows,
    prefetch_rows,
    sgd_panel,
)
from fastbp.kernels._rows import add_exactly
from fastbp.kernels.update import update_parameters

# Rows of weights whose gradient is summed side by side: they share a panel of delta.
ROW_GROUP = 224
GROUP_VECTORS = 2 * ROW_GROUP

# As many for a batch of one block, whose gradient is summed at once
SMALL_ROW_GROUP = 56

# Elements that may be read behind a matrix of a workspace
MARGIN = 64

# Vectors of column sums that wait in the binary tree: enough for any number of blocks
WAITING_COLUMN_SUMS = 128


class Errors(NamedTuple):
    """delta^l of a batch: a matrix, and how many elements may be read from its first one on."""

    start: Any
    row_stride: Any
    n_readable: Any


class Trained(NamedTuple):
    """A layer's weights and what their update remembers, in panel form."""

    weights: Any
    velocity: Any
    second_moment: Any  # None without Adam


class TrainedPanel(NamedTuple):
    """A panel of `Trained`."""

    w: Any  # a Matrix
    v: Any
    u: Any


@inlined
def _left_columns(a_prev, n_rows, n, k_block, fan_out, scratch):
    """a_prev^T, packed or in place, for the gradient of ``n_rows`` rows of weights."""
    height = tile_height()
    if scratch is not None:
        if scratch.n_packed >= n * n_rows and (fan_out >= PACKED_COLUMNS or n >= PACKED_TERMS):
            pack_columns(a_prev, n_rows, n, k_block, height, scratch.packed)
            return packed_rows(scratch.packed, ZERO, height, n)
    return LeftRows(a_prev.start, height, ONE, ONE, a_prev.row_stride)


@inlined
def gradient_panel(left, delta, shape, k_block, grad, scratch, ahead):
    """A panel of a_prev^T delta, its blocks of ``k_block`` rows added in a binary tree.

    Sums of blocks that wait for their neighbours lie in ``grad``, then in the ``scratch``.
    ``ahead``: the next panel of delta, and two matrices to be written.
    """
    n, n_rows, n_columns = shape
    block, step = stack_row(grad.start, BLOCK_VECTORS), width(grad.start)
    n_waiting, number = ZERO, ZERO
    for i in range(0, n, k_block):
        terms, is_last = min(k_block, n - i), i + k_block >= n
        b = Matrix(offset(delta.start, i * delta.row_stride), delta.row_stride)
        following = ahead.block.start
        if not is_last:
            following = from_row(b, terms).start
        n_read = (terms - 1) * b.row_stride + (n_columns + step - 1) // step * step
        is_far = b.row_stride >= FAR_ELEMENTS and n_rows >= MANY_ROWS
        if i * b.row_stride + n_read > delta.n_readable or is_far:
            copy_block(b, terms, n_columns, block)
            b = Matrix(block, panel_width(block))
        start = offset(left.start, i * left.k_stride)
        rows = LeftRows(start, left.tile_height, left.tile_stride, left.row_stride, left.k_stride)
        if left.k_stride == 0:
            rows = packed_rows(left.start, i * n_rows, left.tile_height, terms)
        # The sum of every other block is added to its neighbour's at once.
        if number % 2 == 0:
            n_waiting += 1
        c = _waiting_sum(n_waiting, grad, scratch, n_rows)
        written, updated = c, Matrix(block, ZERO)
        if is_last:
            written, updated = ahead.written, ahead.updated
        next_block = NextBlock(following, delta.row_stride, terms, ZERO, ahead.block.n_parts)
        block_shape = Shape(terms, n_rows, n_columns)
        add_panel(rows, b, block_shape, c, number % 2 == 0, Ahead(next_block, written, updated))
        number += 1
        size = number
        while n_waiting > 1 and (is_last or size % 4 == 0):
            source = _waiting_sum(n_waiting, grad, scratch, n_rows)
            size //= 2
            n_waiting -= 1
            add_rows(source, n_rows, n_columns, _waiting_sum(n_waiting, grad, scratch, n_rows))


@inlined
def _waiting_sum(number, grad, scratch, n_rows):
    """The matrix of the sum that waits as number 1, 2, ... for its neighbour."""
    if scratch is None:
        return grad
    if number == 1:
        return grad
    panel = panel_width(grad.start)
    return Matrix(offset(scratch.waiting, (number - 2) * n_rows * panel), panel)


@inlined
def _row_group_of(n, k_block, scratch):
    """Rows of weights whose gradient is summed side by side, for a batch of n."""
    if scratch is None:
        return SMALL_ROW_GROUP
    if n <= k_block:
        return SMALL_ROW_GROUP
    n_blocks, levels = (n - 1) // k_block + 1, 0
    while n_blocks > 2:
        n_blocks = (n_blocks + 1) // 2
        levels += 1
    return min(ROW_GROUP, WAITING_ROWS // max(levels, 1))


@inlined
def _columns_from(delta, j):
    """The errors from column j on."""
    return Errors(offset(delta.start, j), delta.row_stride, delta.n_readable - j)


@inlined
def gradient_rows(a_prev, delta, shape, k_block, first, grad_w, mean, scratch):
    """a_prev^T delta (BP4), times ``mean``: the sum of two factors, or None.

    Written to ``grad_w``, in the form of `Weights`, from row ``first`` on.
    """
    n, n_rows, fan_out = shape
    panel, panel_stride = stack_row(delta.start, GROUP_VECTORS), panel_width(delta.start)
    grad, group = Matrix(panel, panel_stride), ROW_GROUP
    if n > k_block:
        group = _row_group_of(n, k_block, scratch)
    n_parts = ONE if n_rows * fan_out >= PREFETCHED_ELEMENTS else ZERO
    for start in range(0, n_rows, group):
        rows = min(group, n_rows - start)
        a_prev_rows = Matrix(offset(a_prev.start, start), a_prev.row_stride)
        left = _left_columns(a_prev_rows, rows, n, k_block, fan_out, scratch)
        for j in range(0, fan_out, panel_stride):
            panel_shape = Shape(n, rows, min(panel_stride, fan_out - j))
            following = offset(delta.start, j + panel_shape.n_columns)
            next_block = NextBlock(following, delta.row_stride, n, ZERO, n_parts)
            nothing = Matrix(panel, ZERO)
            ahead = Ahead(next_block, nothing, nothing)
            delta_j, target = _columns_from(delta, j), block_of(grad_w, first + start, j)
            gradient_panel(left, delta_j, panel_shape, k_block, grad, scratch, ahead)
            _write_panel(grad, rows, panel_shape.n_columns, target, mean)


@inlined
def _write_panel(panel, n_rows, n_columns, grad, mean):
    for k in range(n_rows):
        panel_k, grad_k = from_row(panel, k).start, from_row(grad, k).start
        for q in range(0, n_columns, width(grad_k)):
            g = load_masked(panel_k, q, n_columns - q, 0.0)
            if mean is not None:
                g = fma(g, mean[0], g * mean[1])
            store_masked(grad_k, q, g, n_columns - q)


@inlined
def update_rows(a_prev, delta, shape, first, trained, rule, scratch, next_rows):
    """g = a_prev^T delta (BP4), and the update by g of rows of weights, from row ``first`` on.

    Momentum of a batch of one block: the gradient stays in registers.  Else a panel of it stays in
    the first-level cache.
    """
    n, n_rows, fan_out = shape
    weights, u, k_block = trained.weights, trained.second_moment, k_block_of(n)
    group = equal_share(n_rows, _row_group_of(n, k_block, scratch))
    panel = panel_width(weights.start)
    n_parts = ONE if weights.fan_in * fan_out >= PREFETCHED_ELEMENTS else ZERO
    n_shares, share = ((n_rows - 1) // group + 1) * ((fan_out - 1) // panel + 1), 0
    for start in range(first, first + n_rows, group):
        rows = min(group, first + n_rows - start)
        a_prev_rows = Matrix(offset(a_prev.start, start), a_prev.row_stride)
        left = _left_columns(a_prev_rows, rows, n, k_block, fan_out, scratch)
        for j in range(0, fan_out, panel):
            prefetch_rows(next_rows, share, n_shares)
            share += 1
            panel_shape = Shape(n, rows, min(panel, fan_out - j))
            following = offset(delta.start, j + panel_shape.n_columns)
            next_block = NextBlock(following, delta.row_stride, n, ZERO, n_parts)
            w, delta_j = block_of(weights, start, j), _columns_from(delta, j)
            place = j * weights.fan_in + start * w.row_stride
            v = Matrix(offset(trained.velocity, place), w.row_stride)
            if u is None:
                if n <= K_BLOCK:
                    errors = Matrix(delta_j.start, delta.row_stride)
                    sgd_panel(left, errors, panel_shape, w, v, rule.sgd, next_block)
                    continue
                if scratch is None:
                    continue  # never: a batch of several blocks has a scratch
            panel_of = TrainedPanel(w, v.start, offset_or_none(u, place))
            ahead = Ahead(next_block, w, v)
            _update_panel(left, delta_j, panel_shape, panel_of, rule, scratch, ahead)


@inlined
def _update_panel(left, delta, shape, panel, rule, scratch, ahead):
    """The gradient of a panel of weights, and their update."""
    size = shape.n_rows * panel.w.row_stride
    grad = Matrix(stack_row(panel.v, GROUP_VECTORS), panel.w.row_stride)
    if shape.n_columns < grad.row_stride:
        for q in range(0, size, width(grad.start)):
            store(grad.start, q, broadcast(grad.start, 0.0))
    gradient_panel(left, delta, shape, k_block_of(shape.n_terms), grad, scratch, ahead)
    update_parameters(panel.w.start, grad.start, panel.v, panel.u, size, rule)


@inlined
def sum_of_squares(weights, first, last):
    """The sum of the squares of some rows of weights in panel form, in float64."""
    w, step = weights.start, width(weights.start)
    total = to_float64(load_masked(w, 0, 0, 0.0))
    for k in range(first, last):
        for j in range(0, weights.fan_out, panel_width(w)):
            w_kj = block_of(weights, k, j)
            for q in range(0, w_kj.row_stride, step):
                w_q = to_float64(load(w_kj.start, q))
                total = fma(w_q, w_q, total)
    high, low = sum_lanes(total, 0.0 * total)
    return scalar(high) + scalar(low)


@inlined
def column_sums(delta, n, k_block, j, fan_out, scratch):
    """sum_i delta_ij for the vector of columns at j (BP3), in float64.

    Blocks of ``k_block`` rows are added in a binary tree, as those of the weight gradient; without
    a ``scratch``, there is one block.
    """
    if scratch is None:
        return _block_sums(delta, n, j, fan_out)
    total = to_float64(load_masked(delta.start, j, 0, 0.0))
    step = width(delta.start)
    waiting = stack_row(total, WAITING_COLUMN_SUMS)
    number, n_blocks = 0, 0
    for i in range(0, n, k_block):
        total = _block_sums(from_row(delta, i), min(k_block, n - i), j, fan_out)
        n_blocks += 1
        size = n_blocks
        while number > 0 and (i + k_block >= n or size % 2 == 0):
            number -= 1
            size //= 2
            total = load_like(waiting, number * step, total) + total
        store(waiting, number * step, total)
        number += 1
    return total


@inlined
def _block_sums(delta, n, j, fan_out):
    """The sums of a block's columns in float64; sums of float64 are compensated."""
    total = to_float64(load_masked(delta.start, j, fan_out - j, 0.0))
    lost = 0.0 * total
    for i in range(1, n):
        part = to_float64(load_masked(from_row(delta, i).start, j, fan_out - j, 0.0))
        if is_double(delta.start):
            total, lost = add_exactly(total, lost, part)
        else:
            total = total + part
    # The part that an infinite sum has lost is NaN.
    return select(lost == lost, total + lost, total)
