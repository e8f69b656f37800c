"""A fully connected layer: z = a W + b, the error it passes back, and its gradients.

``multiply`` serves both directions: forward, it adds the bias and applies the activation; backward,
it multiplies by the activation's derivative.  Both happen to a panel while it is in cache.
"""

from typing import Any, NamedTuple

from fastbp._compile import INTEGER, floats, inlined, public_kernel, written
from fastbp._simd import (
    broadcast,
    convert,
    fabs,
    flat,
    fma,
    load_masked,
    offset,
    panel_width,
    select,
    stack_row,
    store_masked,
    tile_height,
    width,
)
from fastbp.kernels._gradient import Errors, column_sums, gradient_rows
from fastbp.kernels._matmul import (
    BLOCK_VECTORS,
    FAR_ELEMENTS,
    MANY_ROWS,
    ONE,
    PACKED_COLUMNS,
    PACKED_HEIGHT,
    PACKED_ROWS,
    PREFETCHED_ELEMENTS,
    STACK_VECTORS,
    WAITING_VECTORS,
    ZERO,
    Ahead,
    LeftRows,
    Matrix,
    NextBlock,
    Shape,
    Weights,
    add_panel,
    block_of,
    copy_block,
    equal_share,
    from_row,
    k_block_of,
    pack_rows,
    packed_rows,
    row_stride_of,
    stack_scratch,
    transpose_block,
)
from fastbp.kernels.activation import IDENTITY, SIGMOID, activate, times_derivative


class Finish(NamedTuple):
    """What is done to a product while it is in cache.

    Forward, ``bias`` is added and ``activation`` applied.  Backward (``bias`` is None), the product
    is multiplied by the activation's derivative at ``a``, which has the product's row stride.
    Results below ``smallest`` in magnitude become 0.
    """

    bias: Any
    a: Any
    activation: Any
    smallest: Any


@inlined
def _packed_shape(scratch, n, n_terms, n_columns):
    """Whether A is packed; rows and terms at a time: all of them, where it is not."""
    if scratch is None:
        return False, n, n_terms
    if n < PACKED_ROWS or n_columns < PACKED_COLUMNS:
        return False, n, n_terms
    k_block = k_block_of(n_terms)
    most = min(PACKED_HEIGHT, max(scratch.n_packed // k_block, tile_height()))
    n_rows = equal_share(n, most)
    return True, n_rows, max(scratch.n_packed // (k_block * n_rows), 1) * k_block


@inlined
def _pack(scratch, is_packed, a, shape, k_block, height):
    if scratch is not None:
        if is_packed:
            pack_rows(a, shape.n_rows, shape.n_terms, k_block, height, scratch.packed)


@inlined
def _left_rows(scratch, is_packed, a, k, n_terms, n_rows, height):
    """``n_terms`` terms of A from term k on: packed or in place."""
    if scratch is not None:
        if is_packed:
            return packed_rows(scratch.packed, k * n_rows, height, n_terms)
    return LeftRows(offset(a.start, k), height, a.row_stride, a.row_stride, ONE)


@inlined
def multiply(a, weights, n, c, finish, scratch):
    """C = A W forward, C = A W^T backward, then ``finish``, for n rows of A and C."""
    block = stack_row(c.start, BLOCK_VECTORS)
    n_terms, n_columns = weights.fan_in, weights.fan_out
    if finish.bias is None:
        n_terms, n_columns = weights.fan_out, weights.fan_in
    k_block, panel = k_block_of(n_terms), panel_width(block)
    is_packed, tall, long = _packed_shape(scratch, n, n_terms, n_columns)
    for i in range(0, n, tall):
        n_rows = min(tall, n - i)
        height = equal_share(n_rows, tile_height())
        for start in range(0, n_terms, long):
            stop = min(start + long, n_terms)
            a_i = Matrix(offset(from_row(a, i).start, start), a.row_stride)
            _pack(scratch, is_packed, a_i, Shape(stop - start, n_rows, ZERO), k_block, height)
            for j in range(0, n_columns, panel):
                columns = min(panel, n_columns - j)
                c_ij = Matrix(offset(from_row(c, i).start, j), c.row_stride)
                for k in range(start, stop, k_block):
                    terms = min(k_block, stop - k)
                    shape = Shape(terms, n_rows, columns)
                    following = _next_block(finish, weights, k + terms, j, shape)
                    if k + terms >= stop:
                        following = _next_block(finish, weights, start, j + columns, shape)
                    b = _right_block(finish, weights, k, j, shape, block)
                    left = _left_rows(scratch, is_packed, a_i, k - start, terms, n_rows, height)
                    ahead = Ahead(following, c_ij, Matrix(block, ZERO))
                    add_panel(left, b, shape, c_ij, k == 0, ahead)
                if stop == n_terms:
                    finish_panel(finish, i, n_rows, j, columns, c_ij)


@inlined
def _right_block(finish, weights, k, j, shape, block):
    """A block of W or W^T: in place, where vectors may be read there, or copied."""
    if finish.bias is None:
        transpose_block(weights, k, shape.n_terms, j, shape.n_columns, block)
        return Matrix(block, panel_width(block))
    b = block_of(weights, k, j)
    if weights.row_stride is not None:
        step = width(block)
        n_read = (shape.n_terms - 1) * b.row_stride + (shape.n_columns + step - 1) // step * step
        is_readable = j + k * b.row_stride + n_read <= weights.n_readable
        if not is_readable or (b.row_stride >= FAR_ELEMENTS and shape.n_rows >= MANY_ROWS):
            copy_block(b, shape.n_terms, shape.n_columns, block)
            b = Matrix(block, panel_width(block))
    return b


@inlined
def _next_block(finish, weights, k, j, shape):
    """Where a block of W or W^T lies, to prefetch: of W^T, a panel's width of each row of W."""
    is_far = weights.fan_in * weights.fan_out >= PREFETCHED_ELEMENTS
    if finish.bias is not None:
        start, stride = (
            block_of(weights, k, j).start,
            row_stride_of(weights, min(j, weights.fan_out - 1)),
        )
        return NextBlock(start, stride, shape.n_terms, ZERO, ONE if is_far else ZERO)
    panel = panel_width(weights.start)
    n_parts = (shape.n_terms - 1) // panel + 1 if is_far else ZERO
    if weights.row_stride is None:
        inside, stride = k % panel, row_stride_of(weights, k - k % panel)
        start = offset(weights.start, (k - inside) * weights.fan_in + j * stride)
        return NextBlock(start, stride, shape.n_columns, panel * weights.fan_in, n_parts)
    start = offset(weights.start, j * weights.row_stride + k)
    return NextBlock(start, weights.row_stride, shape.n_columns, panel, n_parts)


@inlined
def finish_panel(finish, first, n_rows, j, n_columns, c):
    """Turn the products in a panel into activations, or into errors."""
    for q in range(0, n_columns, width(c.start)):
        n = n_columns - q
        for i in range(n_rows):
            c_i = from_row(c, i).start
            x = load_masked(c_i, q, n, 0.0)
            if finish.bias is None:
                a_iq = load_masked(offset(finish.a, (first + i) * c.row_stride + j), q, n, 0.0)
                x = times_derivative(x, a_iq, finish.activation)
            else:
                x = activate(x + load_masked(finish.bias, j + q, n, 0.0), finish.activation)
            store_masked(c_i, q, without_tiny(x, finish.smallest), n)


@inlined
def without_tiny(x, smallest):
    """0 in place of an element of smaller magnitude."""
    return select(fabs(x) < smallest, 0.0, x)


@public_kernel(
    a_prev=floats("n", "fan_in"),
    w=floats("fan_in", "fan_out"),
    b=floats("fan_out"),
    z=written("n", "fan_out"),
)
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
        weights = Weights(flat(w), fan_in, fan_out, fan_out, w.size)
        scratch = stack_scratch(stack_row(z, STACK_VECTORS), stack_row(z, WAITING_VECTORS))
        finish = Finish(flat(b), None, IDENTITY, 0.0)
        multiply(
            Matrix(flat(a_prev), fan_in), weights, n, Matrix(flat(z), fan_out), finish, scratch
        )


@inlined
def _hidden_error(delta_next, w_next, a, delta, activation):
    n, units = delta.shape
    fan_out = w_next.shape[1]
    if fan_out == 0:
        for q in range(0, delta.size, width(delta)):
            store_masked(flat(delta), q, broadcast(delta, 0.0), delta.size - q)
    elif n > 0:
        weights = Weights(flat(w_next), units, fan_out, fan_out, w_next.size)
        scratch = stack_scratch(stack_row(delta, STACK_VECTORS), stack_row(delta, WAITING_VECTORS))
        errors, finish = Matrix(flat(delta_next), fan_out), Finish(None, flat(a), activation, 0.0)
        multiply(errors, weights, n, Matrix(flat(delta), units), finish, scratch)


@public_kernel(
    delta_next=floats("n", "fan_out"),
    w_next=floats("units", "fan_out"),
    a=floats("n", "units"),
    delta=written("n", "units"),
)
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


@public_kernel(
    delta_next=floats("n", "fan_out"),
    w_next=floats("units", "fan_out"),
    a=floats("n", "units"),
    delta=written("n", "units"),
    activation=INTEGER,
)
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


@public_kernel(
    a_prev=floats("n", "fan_in"), delta=floats("n", "fan_out"), grad_w=written("fan_in", "fan_out")
)
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
    # 1/n as a sum of two terms: multiplying by both rounds as a division does, and costs less.
    share = broadcast(delta, 1.0) / n
    share_low = fma(0.0 - share, n, 1.0) / n
    scratch = stack_scratch(stack_row(delta, STACK_VECTORS), stack_row(delta, WAITING_VECTORS))
    errors, shape = Errors(flat(delta), fan_out, delta.size), Shape(n, fan_in, fan_out)
    a_prev_rows = Matrix(flat(a_prev), fan_in)
    target, mean = Weights(flat(grad_w), fan_in, fan_out, fan_out, grad_w.size), (share, share_low)
    gradient_rows(a_prev_rows, errors, shape, k_block_of(n), 0, target, mean, scratch)


@public_kernel(delta=floats("n", "fan_out"), grad_b=written("fan_out"))
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
    errors = Matrix(flat(delta), fan_out)
    for k in range(0, fan_out, width(delta)):
        total = column_sums(errors, n, k_block_of(n), k, fan_out, True)
        store_masked(flat(grad_b), k, convert(total / n, delta), fan_out - k)
