"""The training step, read from the top down: gather, forward, BP1 to BP4, update.

Notation: layer l = 1..L computes z^l = a^(l-1) W^l + b^l and a^l = f(z^l); a^0 is the batch.
delta^l is the derivative of the batch's cost with respect to z^l.  It contains the 1/n of the mean,
so that the gradients (BP3, BP4) are plain sums over the batch.

Hidden activations and errors below 2^-60 in magnitude (float64: 2^-500) become 0: products of
smaller ones are subnormal, and arithmetic with subnormal numbers is slow.

Nothing is checked here.  ``fastbp.backprop.parallel`` calls these functions for blocks of rows and
blocks of weights, on any number of threads.
"""

from typing import Any, NamedTuple

from fastbp._compile import inlined
from fastbp._simd import (
    at,
    broadcast,
    constant_for,
    convert,
    flat,
    load_bytes,
    load_masked,
    offset,
    put,
    row,
    stack_row,
    store,
    store_masked,
    width,
)
from fastbp.backprop.layout import (
    ACTIVATION,
    BIAS_AT,
    N_FIELDS,
    N_FIXED,
    ROW_STRIDE,
    UNIT_AT,
    UNITS,
    WEIGHT_AT,
    Layer,
)
from fastbp.kernels._gradient import (
    MARGIN,
    Errors,
    Trained,
    column_sums,
    gradient_rows,
    update_rows,
)
from fastbp.kernels._matmul import Matrix, Shape, Weights, k_block_of, offset_or_none
from fastbp.kernels._sparse import (
    Columns,
    Entries,
    SparseBatch,
    multiply_sparse,
    sort_by_column,
    sparse_gradient_rows,
    update_sparse_rows,
)
from fastbp.kernels.cross_entropy import label_rows
from fastbp.kernels.dense import Finish, multiply, without_tiny
from fastbp.kernels.targets import target_rows
from fastbp.kernels.update import update_parameters

TINY_32, TINY_64 = 2.0**-60, 2.0**-500


class Net(NamedTuple):
    """Layers and parameters, by address."""

    table: Any  # rows of `Layer`
    n_layers: Any
    theta: Any
    n_readable: Any  # elements of theta; None in panel form


class Units(NamedTuple):
    """The units of a batch, by address: to touch an array in a loop costs atomic operations."""

    x: Any
    x_stride: Any
    hidden: Any
    delta: Any  # of hidden units
    z: Any
    delta_out: Any
    capacity: Any  # rows
    smallest: Any  # magnitude of an activation, a logit or an error that does not become 0
    sparse: Any  # the rows of sparse data, in place of x: a `SparseBatch`, or None


class Batch(NamedTuple):
    """The rows ``order[start : start + n]`` of the data."""

    order: Any
    start: Any
    n: Any


class Rows(NamedTuple):
    """A block of a batch's rows."""

    first: Any
    n: Any


@inlined
def units_of(work, x_stride):
    """The units in a workspace."""
    x = flat(work.x)
    smallest, hidden, delta = constant_for(x, TINY_32, TINY_64), flat(work.hidden), flat(work.delta)
    z, delta_out = flat(work.z), flat(work.delta_out)
    return Units(x, x_stride, hidden, delta, z, delta_out, work.capacity, smallest, None)


@inlined
def with_sparse_rows(units, sparse, batch, columns, thread):
    """The units with the rows of a batch, where they are sparse."""
    if sparse is None:
        return units
    else:
        entries = Entries(flat(sparse.columns), flat(sparse.chains), flat(sparse.values))
        places, chains = row(columns.places, thread), row(columns.chains, thread)
        sorted_entries = Entries(places, chains, row(columns.values, thread))
        by_column = Columns(row(columns.ends, thread), sorted_entries)
        order = offset(batch.order, batch.start)
        rows = SparseBatch(flat(sparse.starts), entries, order, by_column)
        x, x_stride, hidden, delta, z, delta_out, capacity, smallest, _ = units
        return Units(x, x_stride, hidden, delta, z, delta_out, capacity, smallest, rows)


@inlined
def layer_of(net, l):
    """The `Layer` in row l of the table."""
    fields = offset(net.table, l * N_FIELDS)
    return Layer(
        at(fields, UNITS),
        at(fields, ROW_STRIDE),
        at(fields, UNIT_AT),
        at(fields, WEIGHT_AT),
        at(fields, BIAS_AT),
        at(fields, ACTIVATION),
        at(fields, N_FIXED),
    )


@inlined
def weights_of(net, l):
    """W^l."""
    layer, fan_in = layer_of(net, l), layer_of(net, l - 1).units
    w = offset(net.theta, layer.weight_at)
    if net.n_readable is None:
        return Weights(w, fan_in, layer.units, None, None)
    return Weights(w, fan_in, layer.units, layer.units, net.n_readable - layer.weight_at)


@inlined
def activations(net, units, l, first):
    """a^l from row ``first`` on; z^L of the last layer."""
    layer = layer_of(net, l)
    if l == 0:
        return Matrix(offset(units.x, first * units.x_stride), units.x_stride)
    if l == net.n_layers - 1:
        return Matrix(offset(units.z, first * layer.units), layer.units)
    place = units.capacity * layer.unit_at + first * layer.row_stride
    return Matrix(offset(units.hidden, place), layer.row_stride)


@inlined
def errors(net, units, l, first):
    """delta^l from row ``first`` on."""
    layer = layer_of(net, l)
    if l == net.n_layers - 1:
        return Matrix(offset(units.delta_out, first * layer.units), layer.units)
    place = units.capacity * layer.unit_at + first * layer.row_stride
    return Matrix(offset(units.delta, place), layer.row_stride)


@inlined
def copy_row(x, n_features, scale, copy):
    """Copy a row; bytes become floats times ``scale``, rounded once."""
    if scale is None:
        for q in range(0, n_features, width(x)):
            store(copy, q, load_masked(x, q, n_features - q, 0.0))
    else:
        n_whole = n_features - n_features % width(copy)
        for q in range(0, n_whole, width(copy)):
            store(copy, q, load_bytes(x, q, copy) * scale)
        for q in range(n_whole, n_features):
            put(copy, q, float(at(x, q)) * constant_for(copy, scale, scale))


@inlined
def gather(data, batch, rows, work, x_stride):
    """a^0 and y: copy rows of the data to the workspace; sparse ones are read where they are.

    A row that is not finite makes weights of the first layer infinite or NaN, whatever its loss is.
    """
    n_features = data.x.shape[1]
    for i in range(rows.first, rows.first + rows.n):
        number = at(batch.order, batch.start + i)
        copy = offset(flat(work.x), i * x_stride)
        if data.sparse is None:
            copy_row(row(data.x, number), n_features, data.scale, copy)
        if data.labels is None:
            y, y_copy = row(data.targets, number), row(work.targets, i)
            for k in range(data.targets.shape[1]):
                put(y_copy, k, at(y, k))
        else:
            put(flat(work.labels), i, at(flat(data.labels), number))
        if data.row_weight.size:
            put(flat(work.row_weight), i, at(flat(data.row_weight), number))


@inlined
def forward(net, units, l, rows, scratch):
    """z^l = a^(l-1) W^l + b^l; a^l = f(z^l)."""
    layer = layer_of(net, l)
    a_prev, z = activations(net, units, l - 1, rows.first), activations(net, units, l, rows.first)
    finish = Finish(offset(net.theta, layer.bias_at), None, layer.activation, units.smallest)
    if units.sparse is None:  # decided when it is compiled: the rest is left out
        multiply(a_prev, weights_of(net, l), rows.n, z, finish, scratch)
    elif l == 1:
        multiply_sparse(units.sparse, rows.first, rows.n, weights_of(net, l), z, finish)
    else:
        multiply(a_prev, weights_of(net, l), rows.n, z, finish, scratch)


@inlined
def output_error(work, rows, scale, n_fixed):  # BP1
    """delta^L = s w (a^L - y), where w is the row's weight and s = 1 / (sum of weights).

    The softmax a^L and the loss -ln a^L_y come from the logits in the same pass.  The error of
    fixed units is 0: nothing changes them.
    """
    first, last = rows.first, rows.first + rows.n
    z, loss, delta = work.z[first:last], work.loss[first:last], work.delta_out[first:last]
    row_weight = work.row_weight[first:last]
    if work.labels is None:
        target_rows(z, work.targets[first:last], row_weight, loss, delta, scale)
    else:
        label_rows(z, work.labels[first:last], row_weight, loss, delta, scale)
    start, n = flat(delta), delta.size
    for q in range(0, n, width(start)):
        delta_q = load_masked(start, q, n - q, 0.0)
        delta_q = without_tiny(delta_q, constant_for(start, TINY_32, TINY_64))
        store_masked(start, q, delta_q, n - q)
    if n_fixed > 0:
        for i in range(rows.n):
            for k in range(n_fixed):
                put(row(delta, i), k, 0.0)


@inlined
def hidden_error(net, units, l, rows, scratch):  # BP2
    """delta^l = (delta^(l+1) W^(l+1)T) * f'(z^l); f' is a function of a^l."""
    delta_next, delta = errors(net, units, l + 1, rows.first), errors(net, units, l, rows.first)
    a = activations(net, units, l, rows.first)
    finish = Finish(None, a.start, layer_of(net, l).activation, units.smallest)
    multiply(delta_next, weights_of(net, l + 1), rows.n, delta, finish, scratch)


@inlined
def bias_gradient(delta, n, k_block, k, units, scratch):  # BP3
    """dC/db^l = sum over the batch of delta^l, for the vector of units at k, in float64."""
    return column_sums(delta, n, k_block, k, units, scratch)


@inlined
def weight_gradient(net, units, rows, k_block, block, gradient, scratch):  # BP4
    """dC/dW^l = a^(l-1)T delta^l, for some rows of a batch and a block of rows of W^l.

    Sums over the rows are cut into blocks of ``k_block``; ``gradient`` is in panel form.
    """
    l, layer = block.layer, layer_of(net, block.layer)
    fan_in = layer_of(net, l - 1).units
    a_prev, delta = activations(net, units, l - 1, rows.first), errors(net, units, l, rows.first)
    a_prev = Matrix(offset(a_prev.start, block.first), a_prev.row_stride)
    delta = Errors(delta.start, delta.row_stride, rows.n * delta.row_stride + MARGIN)
    shape, first = Shape(rows.n, block.n_rows, layer.units), block.first
    grad_w = Weights(offset(gradient, layer.weight_at), fan_in, layer.units, None, None)
    if units.sparse is None:
        gradient_rows(a_prev, delta, shape, k_block, first, grad_w, None, scratch)
    elif l == 1:
        columns = sort_by_column(units.sparse, rows.n, block.first, block.n_rows)
        sparse_gradient_rows(columns, delta, shape, first, grad_w)
    else:
        gradient_rows(a_prev, delta, shape, k_block, first, grad_w, None, scratch)


@inlined
def update_weights(net, units, n, block, state, rule, scratch, next_rows):
    """v <- mu v - eta (g + l2 W); W <- W + v, where g is BP4; or Adam.  For a block of W^l.

    The gradient of a panel of the block stays in registers or in cache until its use.
    """
    l, layer, weights = block.layer, layer_of(net, block.layer), weights_of(net, block.layer)
    a_prev, delta = activations(net, units, l - 1, 0), errors(net, units, l, 0)
    # Workspaces end with a margin: vectors may be read past the last column.
    delta = Errors(delta.start, delta.row_stride, n * delta.row_stride + MARGIN)
    v, u = offset(state.v, layer.weight_at), offset_or_none(state.u, layer.weight_at)
    shape, trained = Shape(n, block.n_rows, layer.units), Trained(weights, v, u)
    if units.sparse is None:
        update_rows(a_prev, delta, shape, block.first, trained, rule, scratch, next_rows)
    elif l == 1:
        columns = sort_by_column(units.sparse, n, block.first, block.n_rows)
        update_sparse_rows(columns, delta, shape, block.first, trained, rule)
    else:
        update_rows(a_prev, delta, shape, block.first, trained, rule, scratch, next_rows)


@inlined
def update_biases(net, units, n, l, state, rule, scratch):
    """v <- mu v - eta g; b <- b + v, where g is BP3; or Adam.  Without penalty and decay."""
    layer, delta = layer_of(net, l), errors(net, units, l, 0)
    b, v = offset(net.theta, layer.bias_at), offset(state.v, layer.bias_at)
    u, g = offset_or_none(state.u, layer.bias_at), stack_row(delta.start, 1)
    for k in range(0, layer.units, width(b)):
        g_k = convert(bias_gradient(delta, n, k_block_of(n), k, layer.units, scratch), delta.start)
        store(g, 0, broadcast(g, 0.0))
        store_masked(g, 0, g_k, layer.units - k)
        u_k = offset_or_none(u, k)
        update_parameters(offset(b, k), g, offset(v, k), u_k, width(b), rule)
