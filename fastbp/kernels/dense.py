"""A fully-connected layer: z = a W + b, the error it passes back, and its gradients.

The functions that end in ``_rows`` are the equations, for matrices given by address and distance of
rows; what follows the product is done to a panel of it while that is warm.  The kernels call them
on arrays, the training step on parts of its workspace.
"""

import numpy as np

from fastbp._compile import inlined, kernel
from fastbp._simd import (
    broadcast,
    convert,
    fabs,
    flat,
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
    ADJACENT,
    BLOCK,
    FAR,
    FETCHED,
    K_BLOCK,
    MANY_ROWS,
    NOWHERE,
    PACKED_COLUMNS,
    PACKED_ROWS,
    PACKED_TERMS,
    STACK_PACKED,
    TALL,
    WAITING,
    WAITING_ROWS,
    Ahead,
    Left,
    add_panel,
    add_rows,
    block_at,
    copy_block,
    equal_share,
    fetch_rows,
    k_block_of,
    pack_columns,
    pack_rows,
    packed_block,
    plain_weights,
    rest,
    row_step,
    sgd_panel,
    stack_scratch,
    transpose_block,
)
from fastbp.kernels._rows import add_exactly
from fastbp.kernels.activation import IDENTITY, SIGMOID, activate, times_derivative
from fastbp.kernels.update import update_parameters

# Rows of a weight matrix whose gradient is summed side by side: so many share a panel of delta
GROUP = 224
GROUP_REGISTERS = 2 * GROUP

# As many for a batch of one block, whose gradient is summed at once
SMALL_GROUP = 56

# Numbers that may be read behind a matrix of a workspace
MARGIN = 64

# Registers of columns' sums that wait: enough for any number of blocks
COLUMN_LEVELS = 128


@inlined
def _packed_shape(scratch, n, n_terms, n_columns, depth):
    """Whether A is packed, and the rows and terms at a time: all of them, where it is not."""
    if scratch is None:
        return False, n, n_terms
    if n < PACKED_ROWS or n_columns < PACKED_COLUMNS:
        return False, n, n_terms
    rows = equal_share(n, min(TALL, max(scratch.size // depth, tile_height())))
    return True, rows, max(scratch.size // (depth * rows), 1) * depth


@inlined
def _pack(scratch, is_packed, a, a_row, n_rows, n_terms, height, depth):
    if scratch is not None:
        if is_packed:
            pack_rows(a, a_row, n_rows, n_terms, height, depth, scratch.packed)


@inlined
def _left(scratch, is_packed, place, height, count, a, a_row):
    """A block of A: packed, where it begins at ``place``, or where it is."""
    if scratch is not None:
        if is_packed:
            return packed_block(scratch.packed, place, height, count)
    return Left(a, height, a_row, a_row, ADJACENT)


@inlined
def forward_rows(a_prev, a_row, weights, b, n, z, z_row, activation, smallest, scratch):
    """z = a_prev W + b, and its activation in the same place; 0 where it is below ``smallest``."""
    block = stack_row(z, BLOCK)
    fan_in, fan_out = weights.fan_in, weights.fan_out
    depth = k_block_of(fan_in)
    parts = ADJACENT if fan_in * fan_out >= FETCHED else NOWHERE
    is_packed, tall, long = _packed_shape(scratch, n, fan_in, fan_out, depth)
    for i in range(0, n, tall):
        rows = min(tall, n - i)
        height = equal_share(rows, tile_height())
        for start in range(0, fan_in, long):
            stop = min(start + long, fan_in)
            a_i = offset(a_prev, i * a_row + start)
            _pack(scratch, is_packed, a_i, a_row, rows, stop - start, height, depth)
            for j in range(0, fan_out, panel_width(z)):
                columns = min(panel_width(z), fan_out - j)
                z_ij = offset(z, i * z_row + j)
                for k in range(start, stop, depth):
                    count = min(depth, stop - k)
                    w_kj, w_row = block_at(weights, k, j), row_step(weights, j)
                    ahead = block_at(weights, k + count, j)
                    if k + count >= stop:
                        ahead = block_at(weights, start, j + columns)
                    ahead = Ahead(ahead, w_row, count, NOWHERE, parts)
                    if not _in_place(weights, k, j, rows, count, columns):
                        copy_block(w_kj, w_row, count, columns, block)
                        w_kj, w_row = block, panel_width(z)
                    a_ik, place = offset(a_i, k - start), (k - start) * rows
                    left = _left(scratch, is_packed, place, height, count, a_ik, a_row)
                    add_panel(
                        *(left, w_kj, w_row, count, rows, columns, z_ij, z_row, k == 0, ahead),
                        *((z_ij, z_row), (block, NOWHERE)),
                    )
                if stop == fan_in:
                    _activate_panel(b, j, columns, rows, z_ij, z_row, activation, smallest)


@inlined
def _in_place(weights, k, j, n_rows, count, columns):
    """Whether a block of B can serve ``n_rows`` of A where it is: tiles read whole registers."""
    row, step = row_step(weights, j), width(weights.start)
    place = j * weights.panel_step + k * row
    read = (count - 1) * row + (columns + step - 1) // step * step
    return weights.row == 0 or (place + read <= weights.room and (row < FAR or n_rows < MANY_ROWS))


@inlined
def _activate_panel(b, j, columns, n_rows, z, z_row, activation, smallest):
    """Turn the products of a panel into weighted inputs, and these into activations."""
    for q in range(0, columns, width(z)):
        b_q = load_masked(b, j + q, columns - q, 0.0)
        for i in range(n_rows):
            z_i = offset(z, i * z_row)
            a_iq = activate(load_masked(z_i, q, columns - q, 0.0) + b_q, activation)
            store_masked(z_i, q, without_tiny(a_iq, smallest), columns - q)


@inlined
def without_tiny(x, smallest):
    """0 in place of a number of smaller magnitude."""
    return select(fabs(x) < smallest, 0.0, x)


@inlined
def error_rows(
    delta_next, next_row, weights, a, n, delta, delta_row, activation, smallest, scratch
):
    """delta = (delta_next W_next^T) a' (BP2); the rows of a are ``delta_row`` apart, too."""
    block = stack_row(delta, BLOCK)
    units, fan_out = weights.fan_in, weights.fan_out
    depth = k_block_of(fan_out)
    is_packed, tall, long = _packed_shape(scratch, n, fan_out, units, depth)
    for i in range(0, n, tall):
        rows = min(tall, n - i)
        height = equal_share(rows, tile_height())
        for start in range(0, fan_out, long):
            stop = min(start + long, fan_out)
            next_i = offset(delta_next, i * next_row + start)
            _pack(scratch, is_packed, next_i, next_row, rows, stop - start, height, depth)
            for j in range(0, units, panel_width(delta)):
                columns = min(panel_width(delta), units - j)
                delta_ij = offset(delta, i * delta_row + j)
                for k in range(start, stop, depth):
                    count = min(depth, stop - k)
                    ahead = _transposed_ahead(weights, j, columns, k + count, count)
                    if k + count >= stop:
                        ahead = _transposed_ahead(weights, j + columns, columns, start, count)
                    transpose_block(weights, j, columns, k, count, block)
                    next_ik, place = offset(next_i, k - start), (k - start) * rows
                    left = _left(scratch, is_packed, place, height, count, next_ik, next_row)
                    add_panel(
                        *(left, block, panel_width(delta), count, rows, columns),
                        *(delta_ij, delta_row, k == 0, ahead),
                        *((delta_ij, delta_row), (block, NOWHERE)),
                    )
                if stop == fan_out:
                    a_ij = offset(a, i * delta_row + j)
                    _times_derivative(
                        *(a_ij, rows, columns, delta_ij, delta_row, activation, smallest)
                    )


@inlined
def _transposed_ahead(weights, j, columns, k, count):
    """The rows of W from j on that become a block of W^T: a panel's width of each at a time."""
    parts = (count - 1) // panel_width(weights.start) + 1
    if weights.fan_in * weights.fan_out < FETCHED:
        parts = NOWHERE
    if weights.row > 0:
        start = offset(weights.start, j * weights.row + k)
        return Ahead(start, weights.row, columns, panel_width(weights.start), parts)
    inside = k % panel_width(weights.start)
    row = row_step(weights, k - inside)
    start = offset(weights.start, (k - inside) * weights.fan_in + j * row)
    return Ahead(start, row, columns, panel_width(weights.start) * weights.fan_in, parts)


@inlined
def _times_derivative(a, n_rows, columns, delta, delta_row, activation, smallest):
    for i in range(n_rows):
        a_i, delta_i = offset(a, i * delta_row), offset(delta, i * delta_row)
        for q in range(0, columns, width(delta)):
            held = columns - q
            a_iq = load_masked(a_i, q, held, 0.0)
            delta_iq = times_derivative(load_masked(delta_i, q, held, 0.0), a_iq, activation)
            store_masked(delta_i, q, without_tiny(delta_iq, smallest), held)


@inlined
def pack_activations(a_prev, a_row, n_rows, n, fan_out, scratch):
    """a_prev^T, packed or in place, for the gradient of ``n_rows`` rows of weights."""
    height = tile_height()
    if scratch is not None:
        if scratch.size >= n * n_rows and (fan_out >= PACKED_COLUMNS or n >= PACKED_TERMS):
            pack_columns(a_prev, a_row, n_rows, n, height, k_block_of(n), scratch.packed)
            return packed_block(scratch.packed, 0, height, n)
    return Left(a_prev, height, ADJACENT, ADJACENT, a_row)


@inlined
def gradient_panel(
    left, delta, delta_row, room, n, n_rows, columns, grad, grad_row, scratch, asked
):
    """A panel of a_prev^T delta (BP4 without the mean), its blocks added in a binary tree.

    Sums of blocks that wait for their neighbours lie in ``grad``, then in the ``scratch``.
    ``asked``: the panel of delta that comes next, and two matrices that will be written.
    """
    block = stack_row(grad, BLOCK)
    depth = k_block_of(n)
    n_waiting, number = np.intp(0), np.intp(0)
    delta_next, written, updated, parts = asked
    for i in range(0, n, depth):
        count = min(depth, n - i)
        delta_i, row = offset(delta, i * delta_row), delta_row
        ahead, is_last = offset(delta_i, count * delta_row), i + count >= n
        if is_last:
            ahead = delta_next
        read = (count - 1) * row + (columns + width(grad) - 1) // width(grad) * width(grad)
        if i * row + read > room or (row >= FAR and n_rows >= MANY_ROWS):
            copy_block(delta_i, row, count, columns, block)
            delta_i, row = block, panel_width(grad)
        start = offset(left.start, i * left.term)
        rows = Left(start, left.height, left.tile_step, left.row, left.term)
        if left.term == 0:
            rows = packed_block(left.start, i * n_rows, left.height, count)
        # Every other block is added to its neighbour, which waits for it.
        if number % 2 == 0:
            n_waiting += 1
        c, c_row = _waiting_sum(n_waiting, grad, grad_row, scratch, n_rows)
        first, second = (c, c_row), (block, NOWHERE)
        if is_last:
            first, second = written, updated
        ahead = Ahead(ahead, delta_row, count, NOWHERE, parts)
        add_panel(
            *(rows, delta_i, row, count, n_rows, columns, c, c_row, number % 2 == 0),
            *(ahead, first, second),
        )
        number += 1
        size = number
        while n_waiting > 1 and (is_last or size % 4 == 0):
            source, source_row = _waiting_sum(n_waiting, grad, grad_row, scratch, n_rows)
            size //= 2
            n_waiting -= 1
            c, c_row = _waiting_sum(n_waiting, grad, grad_row, scratch, n_rows)
            add_rows(source, source_row, n_rows, columns, c, c_row)


@inlined
def _waiting_sum(number, grad, grad_row, scratch, n_rows):
    """The matrix of the sum that waits as number 1, 2, ... for its neighbour."""
    if scratch is None:
        return grad, grad_row
    if number == 1:
        return grad, grad_row
    return offset(scratch.waiting, (number - 2) * n_rows * panel_width(grad)), panel_width(grad)


@inlined
def _group_of(n, scratch):
    """Rows of weights whose gradient is summed side by side, for a batch of n."""
    if scratch is None:
        return SMALL_GROUP
    if n <= K_BLOCK:
        return SMALL_GROUP
    blocks, levels = (n - 1) // K_BLOCK + 1, 0
    while blocks > 2:
        blocks = (blocks + 1) // 2
        levels += 1
    return min(GROUP, WAITING_ROWS // max(levels, 1))


@inlined
def gradient_rows(a_prev, a_row, delta, delta_row, room, n, rows, fan_out, grad_w, mean, scratch):
    """grad_w = a_prev^T delta (BP4), times ``mean``, which is a sum of two numbers, or None.

    ``room`` counts the numbers that may be read from delta's first one on.
    """
    panel, panel_row = stack_row(grad_w, GROUP_REGISTERS), panel_width(grad_w)
    group = GROUP if n <= K_BLOCK else _group_of(n, scratch)
    parts = ADJACENT if rows * fan_out >= FETCHED else NOWHERE
    for start in range(0, rows, group):
        held = min(group, rows - start)
        left = pack_activations(offset(a_prev, start), a_row, held, n, fan_out, scratch)
        for j in range(0, fan_out, panel_row):
            columns, delta_j = min(panel_row, fan_out - j), offset(delta, j)
            asked = offset(delta, j + columns), (panel, NOWHERE), (panel, NOWHERE), parts
            gradient_panel(
                *(left, delta_j, delta_row, room - j, n, held, columns, panel, panel_row),
                *(scratch, asked),
            )
            _write_panel(
                *(panel, panel_row, held, columns, offset(grad_w, start * fan_out + j), fan_out),
                mean,
            )


@inlined
def _write_panel(panel, panel_row, n_rows, columns, grad, grad_row, mean):
    for k in range(n_rows):
        panel_k, grad_k = offset(panel, k * panel_row), offset(grad, k * grad_row)
        for q in range(0, columns, width(grad)):
            g = load_masked(panel_k, q, columns - q, 0.0)
            if mean is not None:
                g = fma(g, mean[0], g * mean[1])
            store_masked(grad_k, q, g, columns - q)


@inlined
def update_rows(
    a_prev, a_row, delta, delta_row, n, weights, first, rows, v, u, rule, scratch, upcoming
):
    """g = a_prev^T delta (BP4), and the update of ``rows`` rows of w, from ``first`` on.

    ``v`` and ``u`` lie in panel form, as the weights.  Without Adam, the gradient of a batch of one
    block stays in registers; else a panel of it stays in the first-level cache.
    """
    w, fan_in, fan_out = weights.start, weights.fan_in, weights.fan_out
    group = equal_share(rows, _group_of(n, scratch))
    parts = ADJACENT if fan_in * fan_out >= FETCHED else NOWHERE
    panels = (fan_out - 1) // panel_width(v) + 1
    shares, share = ((rows - 1) // group + 1) * panels, 0
    for start in range(first, first + rows, group):
        held = min(group, first + rows - start)
        left = pack_activations(offset(a_prev, start), a_row, held, n, fan_out, scratch)
        for j in range(0, fan_out, panel_width(v)):
            fetch_rows(upcoming, share, shares)
            share += 1
            columns, row = min(panel_width(v), fan_out - j), row_step(weights, j)
            place = j * fan_in + start * row
            w_j, v_j, delta_j = offset(w, place), offset(v, place), offset(delta, j)
            delta_next = offset(delta, j + columns)
            if u is None:
                if n <= K_BLOCK:
                    ahead = Ahead(delta_next, delta_row, n, NOWHERE, parts)
                    sgd_panel(
                        *(left, delta_j, delta_row, n, held, columns, w_j, v_j, row, rule, ahead)
                    )
                    continue
                if scratch is None:
                    continue  # for the compiler: a batch of several blocks has one
            asked = delta_next, (w_j, row), (v_j, row), parts
            _update_panel(
                *(left, delta_j, delta_row, n, held, columns, w_j, v_j, rest(u, place), row),
                *(rule, scratch, asked),
            )


@inlined
def _update_panel(left, delta, delta_row, n, n_rows, columns, w, v, u, row, rule, scratch, asked):
    """The gradient of a panel of weights, and their update."""
    grad, size = stack_row(v, GROUP_REGISTERS), n_rows * row
    if columns < row:
        for q in range(0, size, width(v)):
            store(grad, q, broadcast(grad, 0.0))
    # Workspaces end with a margin: registers may be read past the last column.
    room = n * delta_row + MARGIN
    gradient_panel(left, delta, delta_row, room, n, n_rows, columns, grad, row, scratch, asked)
    update_parameters(w, grad, v, u, size, rule)


@inlined
def sum_of_squares(weights, first, last):
    """The sum of the squares of some rows of weights in panel form, in float64."""
    w, step = weights.start, width(weights.start)
    total = to_float64(load_masked(w, 0, 0, 0.0))
    for k in range(first, last):
        for j in range(0, weights.fan_out, panel_width(w)):
            w_kj, row = block_at(weights, k, j), row_step(weights, j)
            for q in range(0, row, step):
                w_q = to_float64(load(w_kj, q))
                total = fma(w_q, w_q, total)
    high, low = sum_lanes(total, 0.0 * total)
    return scalar(high) + scalar(low)


@inlined
def column_sums(delta, delta_row, n, j, fan_out, scratch):
    """sum_i delta_ij for the register of columns at j, in float64.

    In blocks that are added in a binary tree, as those of the weights' gradient; without a
    ``scratch``, in one block.
    """
    if scratch is None:
        return _block_sums(delta, delta_row, n, j, fan_out)
    total = to_float64(load_masked(delta, j, 0, 0.0))
    step, depth = width(delta), k_block_of(n)
    waiting = stack_row(total, COLUMN_LEVELS)
    number, made = 0, 0
    for i in range(0, n, depth):
        count = min(depth, n - i)
        total = _block_sums(offset(delta, i * delta_row), delta_row, count, j, fan_out)
        made += 1
        size = made
        while number > 0 and (i + count >= n or size % 2 == 0):
            number -= 1
            size //= 2
            total = load_like(waiting, number * step, total) + total
        store(waiting, number * step, total)
        number += 1
    return total


@inlined
def _block_sums(delta, delta_row, n, j, fan_out):
    """The sums of a block's columns in float64; of float64, compensated."""
    total = to_float64(load_masked(delta, j, fan_out - j, 0.0))
    lost = 0.0 * total
    for i in range(1, n):
        part = to_float64(load_masked(offset(delta, i * delta_row), j, fan_out - j, 0.0))
        if is_double(delta):
            total, lost = add_exactly(total, lost, part)
        else:
            total = total + part
    # what an infinite sum has lost is NaN
    return select(lost == lost, total + lost, total)


@kernel
def dense_forward(a_prev, w, b, z):
    """z_ij = sum_k a_prev_ik w_kj + b_j.

    Parameters
    ----------
    a_prev : (n, fan_in) float32 or float64, C-contiguous
    w : (fan_in, fan_out) of the dtype of `a_prev`
    b : (fan_out,) of the dtype of `a_prev`
    z : (n, fan_out) of the dtype of `a_prev`, written
        Shares no memory with the inputs.

    Notes
    -----
    Sums are cut into equal blocks of at most 128 terms, and these into chains of 16.  A row of z
    does not depend on the others, not by a bit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import dense_forward
    >>> z = np.empty((1, 1))
    >>> dense_forward(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([5.0]), z)
    >>> z
    array([[16.]])
    """
    n, fan_out = z.shape
    fan_in = w.shape[0]
    if fan_in == 0:
        for i in range(n):
            for q in range(0, fan_out, width(z)):
                b_q = load_masked(flat(b), q, fan_out - q, 0.0)
                store_masked(offset(flat(z), i * fan_out), q, b_q, fan_out - q)
    elif n > 0:
        weights = plain_weights(flat(w), fan_in, fan_out, w.size)
        scratch = stack_scratch(stack_row(z, STACK_PACKED), stack_row(z, WAITING))
        forward_rows(
            *(flat(a_prev), fan_in, weights, flat(b), n, flat(z), fan_out, IDENTITY, 0.0, scratch)
        )


@inlined
def _hidden_error(delta_next, w_next, a, delta, activation):
    n, units = delta.shape
    fan_out = w_next.shape[1]
    if fan_out == 0:
        for q in range(0, delta.size, width(delta)):
            store_masked(flat(delta), q, broadcast(delta, 0.0), delta.size - q)
    elif n > 0:
        weights = plain_weights(flat(w_next), units, fan_out, w_next.size)
        scratch = stack_scratch(stack_row(delta, STACK_PACKED), stack_row(delta, WAITING))
        error_rows(
            *(flat(delta_next), fan_out, weights, flat(a), n, flat(delta), units),
            *(activation, 0.0, scratch),
        )


@kernel
def hidden_error(delta_next, w_next, a, delta):
    """delta_ij = (sum_k delta_next_ik w_next_jk) a_ij (1 - a_ij) (BP2 of sigmoid units).

    Parameters
    ----------
    delta_next : (n, fan_out) float32 or float64, C-contiguous
        Error of the next layer.
    w_next : (units, fan_out) of the same dtype
        Weights from this layer to the next.
    a : (n, units) of the same dtype
        Activations of this layer.
    delta : (n, units) of the same dtype, written
        Shares no memory with the inputs.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import hidden_error
    >>> delta = np.empty((1, 1))
    >>> hidden_error(np.array([[1.0, 3.0]]), np.array([[2.0, 2.0]]), np.array([[0.5]]), delta)
    >>> delta
    array([[2.]])
    """
    _hidden_error(delta_next, w_next, a, delta, SIGMOID)


@kernel
def hidden_error_of(delta_next, w_next, a, delta, activation):
    """delta_ij = (sum_k delta_next_ik w_next_jk) a'_ij (BP2 of units of any activation).

    Parameters
    ----------
    delta_next : (n, fan_out) float32 or float64, C-contiguous
        Error of the next layer.
    w_next : (units, fan_out) of the same dtype
        Weights from this layer to the next.
    a : (n, units) of the same dtype
        Activations of this layer.
    delta : (n, units) of the same dtype, written
        Shares no memory with the inputs.
    activation : int
        What a' is at a: 0 for the identity's 1, 1 for the sigmoid's a (1 - a), 2 for tanh's
        1 - a**2, 3 for relu's 1 where a is not 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import hidden_error_of
    >>> delta = np.empty((1, 1))
    >>> hidden_error_of(np.array([[1.0, 3.0]]), np.array([[2.0, 2.0]]), np.array([[0.5]]), delta, 2)
    >>> delta
    array([[6.]])
    """
    _hidden_error(delta_next, w_next, a, delta, activation)


@kernel
def weight_gradient(a_prev, delta, grad_w):
    """dC/dw_jk = (1/n) sum_i a_prev_ij delta_ik (BP4, the mean over the batch).

    Parameters
    ----------
    a_prev : (n, fan_in) float32 or float64, C-contiguous
        Activations that enter the layer.
    delta : (n, fan_out) of the same dtype
        Error of the layer.
    grad_w : (fan_in, fan_out) of the same dtype, written
        Shares no memory with the inputs.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import weight_gradient
    >>> grad_w = np.empty((1, 1))
    >>> weight_gradient(np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]]), grad_w)
    >>> grad_w
    array([[5.5]])
    """
    n = a_prev.shape[0]
    fan_in, fan_out = grad_w.shape
    # 1/n as a sum of two numbers: to multiply by both rounds like a division, at a fraction of its
    # price
    share = broadcast(delta, 1.0) / n
    share_low = fma(0.0 - share, n, 1.0) / n
    scratch = stack_scratch(stack_row(delta, STACK_PACKED), stack_row(delta, WAITING))
    gradient_rows(
        *(flat(a_prev), fan_in, flat(delta), fan_out, delta.size, n, fan_in, fan_out),
        *(flat(grad_w), (share, share_low), scratch),
    )


@kernel
def bias_gradient(delta, grad_b):
    """dC/db_k = (1/n) sum_i delta_ik (BP3, the mean over the batch).

    Parameters
    ----------
    delta : (n, fan_out) float32 or float64, C-contiguous
        Error of the layer.
    grad_b : (fan_out,) of the dtype of `delta`, written

    Notes
    -----
    Summed in float64; sums of float64 are compensated.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import bias_gradient
    >>> grad_b = np.empty(1)
    >>> bias_gradient(np.array([[1.0], [2.0]]), grad_b)
    >>> grad_b
    array([1.5])
    """
    n, fan_out = delta.shape
    for k in range(0, fan_out, width(delta)):
        total = column_sums(flat(delta), fan_out, n, k, fan_out, True)
        store_masked(flat(grad_b), k, convert(total / n, delta), fan_out - k)
