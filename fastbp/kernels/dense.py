"""A fully-connected layer: z = a W + b, the error it passes back, and its gradients.

The functions that end in ``_rows`` are the equations, for matrices given by address and distance of
rows; what follows the product is done to a panel of it while that is warm.  The kernels call them
on arrays, the training step on parts of its workspace.
"""

import numpy as np

from fastbp._compile import inlined, kernel
from fastbp._llvm import (
    convert,
    descend,
    descent_height,
    fill,
    flat,
    fma,
    is_double,
    load_first,
    offset,
    panel_width,
    prefetch,
    scalar,
    select,
    stack_row,
    store_first,
    sum_lanes,
    widen,
    width,
)
from fastbp.kernels.activation import IDENTITY, SIGMOID, activated, carried_back
from fastbp.kernels.products import (
    BLOCK,
    add_panel,
    copy_block,
    depth_of,
    in_place,
    turn_block,
)
from fastbp.kernels.rows import add_exactly
from fastbp.kernels.update import adam_lanes

# Rows of a weight matrix whose gradient is summed side by side: so many share a panel of delta
GROUP = 56
GROUP_REGISTERS = 2 * GROUP

# Rows of w that Adam asks for before it comes to them
AHEAD = 4

# The distance of neighbours. Not a literal, of which each place would be compiled for on its own.
ADJACENT = np.intp(1)


@inlined
def forward_rows(a_prev, a_row, w, b, room, n, fan_in, fan_out, z, z_row, activation):
    """z = a_prev W + b, and its activation in the same place.

    ``room`` counts the numbers that may be read from w's first one on.
    """
    block = stack_row(z, BLOCK)
    depth = depth_of(fan_in)
    for j in range(0, fan_out, panel_width(z)):
        columns = min(panel_width(z), fan_out - j)
        for k in range(0, fan_in, depth):
            count = min(depth, fan_in - k)
            place = k * fan_out + j
            w_kj, w_row = offset(w, place), fan_out
            if not in_place(w, fan_out, room - place, n, count, columns):
                copy_block(w_kj, fan_out, count, columns, block)
                w_kj, w_row = block, panel_width(z)
            add_panel(
                offset(a_prev, k),
                a_row,
                ADJACENT,
                w_kj,
                w_row,
                count,
                n,
                columns,
                offset(z, j),
                z_row,
                k == 0,
            )
        for q in range(j, j + columns, width(z)):
            b_q = load_first(b, q, fan_out - q, 0.0)
            for i in range(n):
                z_i = offset(z, i * z_row)
                z_iq = load_first(z_i, q, fan_out - q, 0.0) + b_q
                store_first(z_i, q, activated(z_iq, activation), fan_out - q)


@inlined
def error_rows(delta_next, next_row, w_next, a, n, units, fan_out, delta, delta_row, activation):
    """delta = (delta_next W_next^T) a' (BP2); the rows of a are ``delta_row`` apart, too."""
    block = stack_row(delta, BLOCK)
    depth = depth_of(fan_out)
    for j in range(0, units, panel_width(delta)):
        columns = min(panel_width(delta), units - j)
        for k in range(0, fan_out, depth):
            count = min(depth, fan_out - k)
            turn_block(offset(w_next, j * fan_out + k), fan_out, count, columns, block)
            add_panel(
                offset(delta_next, k),
                next_row,
                ADJACENT,
                block,
                panel_width(delta),
                count,
                n,
                columns,
                offset(delta, j),
                delta_row,
                k == 0,
            )
        for i in range(n):
            a_i, delta_i = offset(a, i * delta_row), offset(delta, i * delta_row)
            for q in range(j, j + columns, width(delta)):
                a_iq = load_first(a_i, q, units - q, 0.0)
                carried = load_first(delta_i, q, units - q, 0.0)
                store_first(delta_i, q, carried_back(carried, a_iq, activation), units - q)


@inlined
def gradient_rows(a_prev, a_row, delta, delta_row, room, n, rows, fan_out, grad_w):
    """grad_w = a_prev^T delta, the first ``rows`` rows of it (BP4 without the mean).

    ``room`` counts the numbers that may be read from delta's first one on.
    """
    block = stack_row(grad_w, BLOCK)
    depth = depth_of(n)
    for start in range(0, rows, GROUP):
        for j in range(0, fan_out, panel_width(grad_w)):
            columns = min(panel_width(grad_w), fan_out - j)
            for i in range(0, n, depth):
                count = min(depth, n - i)
                place = i * delta_row + j
                delta_ij, row_step = offset(delta, place), delta_row
                if not in_place(delta, delta_row, room - place, 1, count, columns):
                    copy_block(delta_ij, delta_row, count, columns, block)
                    delta_ij, row_step = block, panel_width(grad_w)
                add_panel(
                    offset(a_prev, i * a_row + start),
                    ADJACENT,
                    a_row,
                    delta_ij,
                    row_step,
                    count,
                    min(GROUP, rows - start),
                    columns,
                    offset(grad_w, start * fan_out + j),
                    fan_out,
                    i == 0,
                )


@inlined
def fetch_ahead(w, velocity, first, rows, fan_out, j):
    """Ask for what the next panel will update in these rows: it lies too far apart to be foreseen.

    (784-512-512-10 in batches of 128: 5.3 ms a step, now 4.8.)
    """
    for k in range(first, first + rows):
        for q in range(j, j + panel_width(w), width(w)):
            prefetch(w, k * fan_out + q, 1, 2)
            prefetch(velocity, k * fan_out + q, 1, 2)


@inlined
def descend_rows(
    a_prev,
    a_row,
    delta,
    delta_row,
    n,
    rows,
    fan_out,
    w,
    velocity,
    learning_rate,
    momentum,
    l2,
    nesterov,
):
    """g = a_prev^T delta (BP4); v <- mu v - eta (g + l2 w); w <- w + v: g never leaves registers.

    For the first ``rows`` rows of w.  delta is read in whole registers, past its last column.
    """
    partial = stack_row(w, GROUP_REGISTERS)
    depth = depth_of(n)
    last = (n - 1) // depth * depth
    for start in range(0, rows, GROUP):
        stop = min(start + GROUP, rows)
        for j in range(0, fan_out, panel_width(w)):
            columns = min(panel_width(w), fan_out - j)
            for i in range(0, last, depth):
                add_panel(
                    offset(a_prev, i * a_row + start),
                    ADJACENT,
                    a_row,
                    offset(delta, i * delta_row + j),
                    delta_row,
                    depth,
                    stop - start,
                    columns,
                    partial,
                    panel_width(w),
                    i == 0,
                )
            k = start
            while k < stop:
                height = descent_height(stop - k)
                fetch_ahead(w, velocity, k, height, fan_out, j + panel_width(w))
                descend(
                    *(offset(a_prev, last * a_row + k), ADJACENT, a_row),
                    *(offset(delta, last * delta_row + j), delta_row),
                    *(n - last, height, columns),
                    *(offset(partial, (k - start) * panel_width(w)), panel_width(w), last == 0),
                    *(offset(w, k * fan_out + j), offset(velocity, k * fan_out + j), fan_out),
                    *(learning_rate, momentum, l2, nesterov),
                )
                k += height


@inlined
def adapt_rows(
    a_prev, a_row, delta, delta_row, n, rows, fan_out, w, first, second, l2, moments, rates
):
    """g = a_prev^T delta (BP4), and Adam's step with g + l2 w: g stays in the first-level cache.

    For the first ``rows`` rows of w.  ``moments`` and ``rates`` are the arguments of `adam_lanes`.
    Unlike a step with momentum, this one has work for the registers: a square root and a division.
    """
    grad = stack_row(w, GROUP_REGISTERS)
    depth = depth_of(n)
    for start in range(0, rows, GROUP):
        stop = min(start + GROUP, rows)
        for j in range(0, fan_out, panel_width(w)):
            columns = min(panel_width(w), fan_out - j)
            for i in range(0, n, depth):
                add_panel(
                    offset(a_prev, i * a_row + start),
                    ADJACENT,
                    a_row,
                    offset(delta, i * delta_row + j),
                    delta_row,
                    min(depth, n - i),
                    stop - start,
                    columns,
                    grad,
                    panel_width(w),
                    i == 0,
                )
            for k in range(start, stop):
                place = k * fan_out + j
                for q in range(0, columns, width(w)):
                    at, held = place + q, columns - q
                    prefetch(w, at + AHEAD * fan_out, 1, 1)
                    prefetch(first, at + AHEAD * fan_out, 1, 1)
                    prefetch(second, at + AHEAD * fan_out, 1, 1)
                    w_kq = load_first(w, at, held, 0.0)
                    g = load_first(grad, (k - start) * panel_width(w) + q, held, 0.0) + l2 * w_kq
                    w_kq, m, v = adam_lanes(
                        *(w_kq, g, load_first(first, at, held, 0.0)),
                        *(load_first(second, at, held, 0.0), *moments, *rates),
                    )
                    store_first(w, at, w_kq, held)
                    store_first(first, at, m, held)
                    store_first(second, at, v, held)


@inlined
def sum_of_squares(w, n):
    """The sum of the squares of n numbers, in float64."""
    total = widen(load_first(w, 0, 0, 0.0))
    for q in range(0, n, width(w)):
        w_q = widen(load_first(w, q, n - q, 0.0))
        total = fma(w_q, w_q, total)
    high, low = sum_lanes(total, 0.0 * total)
    return scalar(high) + scalar(low)


@inlined
def column_sums(delta, delta_row, n, j, fan_out):
    """sum_i delta_ij for the register of columns at j, in float64; of float64, compensated."""
    total = widen(load_first(delta, j, fan_out - j, 0.0))
    lost = 0.0 * total
    for i in range(1, n):
        part = widen(load_first(offset(delta, i * delta_row), j, fan_out - j, 0.0))
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
                b_q = load_first(flat(b), q, fan_out - q, 0.0)
                store_first(offset(flat(z), i * fan_out), q, b_q, fan_out - q)
    elif n > 0:
        forward_rows(
            *(flat(a_prev), fan_in, flat(w), flat(b), w.size),
            *(n, fan_in, fan_out, flat(z), fan_out, IDENTITY),
        )


@inlined
def _hidden_error(delta_next, w_next, a, delta, activation):
    n, units = delta.shape
    fan_out = w_next.shape[1]
    if fan_out == 0:
        for q in range(0, delta.size, width(delta)):
            store_first(flat(delta), q, fill(delta, 0.0), delta.size - q)
    elif n > 0:
        error_rows(
            *(flat(delta_next), fan_out, flat(w_next), flat(a)),
            *(n, units, fan_out, flat(delta), units, activation),
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
    share = fill(delta, 1.0) / n
    share_low = fma(0.0 - share, n, 1.0) / n
    for start in range(0, fan_in, GROUP):
        rows = min(GROUP, fan_in - start)
        grad = offset(flat(grad_w), start * fan_out)
        gradient_rows(
            offset(flat(a_prev), start),
            fan_in,
            flat(delta),
            fan_out,
            delta.size,
            n,
            rows,
            fan_out,
            grad,
        )
        size = rows * fan_out
        for q in range(0, size, width(delta)):
            total = load_first(grad, q, size - q, 0.0)
            store_first(grad, q, fma(total, share, total * share_low), size - q)


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
        total = column_sums(flat(delta), fan_out, n, k, fan_out)
        store_first(flat(grad_b), k, convert(total / n, delta), fan_out - k)
