"""The training step: gather, forward, output error, backward, update; BP1 to BP4 in order.

A step has two phases, and threads meet between them.  The first is independent for each block of
batch rows: gather, forward, output error (BP1), hidden errors (BP2).  The second is independent for
each part of the weights: gradient (BP3, BP4) and update.  Threads claim blocks and parts: each has
its own, which its caches know from the step before, and takes over what others have not begun.  Who
gets which has no influence on any bit, for every sum is made whole, in one order, by one thread.

Hidden activations and errors of a magnitude below 2^-60 (float64: 2^-500) count as zero: their
products would be subnormal, or next to it, and arithmetic with those is slow.

Everything here is unchecked: ``fastbp.network`` checks once per call and then calls ``train`` (many
steps in one compiled call, on any number of threads), ``gradient`` (one backward pass without an
update), or ``logits`` (the forward pass alone).
"""

import math
from typing import Any, NamedTuple

from fastbp._compile import inlined
from fastbp._simd import (
    at,
    broadcast,
    constant_for,
    convert,
    flat,
    load_masked,
    offset,
    panel_width,
    put,
    row,
    stack_row,
    store,
    store_masked,
    width,
)
from fastbp.backprop.layout import Layer
from fastbp.backprop.state import PIECE
from fastbp.kernels._matmul import (
    Scratch,
    k_block_of,
    panel_row,
    panel_weights,
    plain_weights,
    rest,
)
from fastbp.kernels._rows import first_largest, is_first_largest
from fastbp.kernels.cross_entropy import label_rows, sum_of, target_rows
from fastbp.kernels.dense import (
    column_sums,
    error_rows,
    forward_rows,
    sum_of_squares,
    update_rows,
    without_tiny,
)
from fastbp.kernels.update import Rule, adam_rate, flush, update_parameters

# Steps from one look for subnormal numbers in the memory of the update to the next
FLUSH = 64

# Hidden activations and errors of a smaller magnitude count as zero in training.
TINY_32, TINY_64 = 2.0**-60, 2.0**-500

# Sums of blocks that wait for their neighbours, in registers: enough for any number of blocks
LEVELS = 64


class Parameters(NamedTuple):
    """Parameters from their first number on, and how many may be read: 0 in panel form."""

    start: Any
    room: int


class Units(NamedTuple):
    """Where the rows of a batch begin in a workspace.

    Taken out of its arrays once, before the loop over steps: to touch an array counts its users,
    with an instruction that waits until every weight just written has left the processor.
    """

    x: Any
    hidden: Any
    delta: Any
    delta_out: Any
    capacity: int


@inlined
def _flat_or_none(array):
    if array is None:
        return None
    else:
        return flat(array)


@inlined
def _scratch(packed, waiting, thread):
    if packed is None:
        return None
    else:
        of_thread = row(packed, thread)
        return Scratch(of_thread, packed.shape[1] - width(packed), row(waiting, thread))


@inlined
def _units(work):
    return Units(
        *(flat(work.x), flat(work.hidden), flat(work.delta), flat(work.delta_out), work.capacity)
    )


@inlined
def _layer(table, number):
    """The `Layer` in a row of the plan's table."""
    fields = offset(table, number * 6)
    return Layer(
        *(at(fields, 0), at(fields, 1), at(fields, 2), at(fields, 3), at(fields, 4), at(fields, 5))
    )


@inlined
def _rows_of(memory, capacity, layer, first):
    """Row ``first`` of a layer's units in the hidden layers' memory."""
    return offset(memory, capacity * layer.unit_at + first * layer.pitch)


@inlined
def _gather(data, order, start, first, last, work, pitch):
    """Copy the rows ``order[start + first : start + last]`` to rows ``first`` to ``last``.

    A row that is not finite makes weights of the first layer infinite or NaN, whatever its loss is.
    """
    n_features = data.x.shape[1]
    for i in range(first, last):
        number = at(order, start + i)
        copy = offset(flat(work.x), i * pitch)
        if data.sparse is None:
            x = row(data.x, number)
            for q in range(0, n_features, width(x)):
                store(copy, q, load_masked(x, q, n_features - q, 0.0))
        else:
            _spread(data.sparse, number, copy, n_features)
        if data.labels is None:
            y, y_copy = row(data.targets, number), row(work.targets, i)
            for k in range(data.targets.shape[1]):
                put(y_copy, k, at(y, k))
        else:
            put(flat(work.labels), i, at(flat(data.labels), number))
        if data.row_weight.size:
            put(flat(work.row_weight), i, at(flat(data.row_weight), number))


@inlined
def _spread(sparse, number, copy, n_features):
    """Write a sparse row with its zeros."""
    starts, columns, values = flat(sparse.starts), flat(sparse.columns), flat(sparse.values)
    for q in range(0, n_features, width(copy)):
        store(copy, q, broadcast(copy, 0.0))
    for k in range(at(starts, number), at(starts, number + 1)):
        put(copy, at(columns, k), at(values, k))


@inlined
def _tiny(like):
    return constant_for(like, TINY_32, TINY_64)


@inlined
def _forward(layers, n_layers, parameters, x, x_row, units, first, n, z, smallest, scratch):
    """a^l = f(a^(l-1) W^l + b^l), and the logits z^L = a^(L-1) W^L + b^L, for n rows.

    ``parameters`` tells how the weights lie: its ``room`` is 0 in panel form.
    """
    a, a_row = x, x_row
    for number in range(1, n_layers):
        below, layer = _layer(layers, number - 1), _layer(layers, number)
        is_hidden = number < n_layers - 1
        a_next, kept = z, 0.0
        if is_hidden:
            a_next, kept = _rows_of(units.hidden, units.capacity, layer, first), smallest
        forward_rows(
            *(a, a_row, _weights(parameters, below, layer)),
            *(offset(parameters.start, layer.bias_at), n, a_next, layer.pitch, layer.activation),
            *(kept, scratch),
        )
        a, a_row = a_next, layer.pitch


@inlined
def _weights(parameters, below, layer):
    w = offset(parameters.start, layer.weight_at)
    if parameters.room > 0:
        return plain_weights(w, below.units, layer.units, parameters.room - layer.weight_at)
    return panel_weights(w, below.units, layer.units)


@inlined
def _output_error(work, first, last, scale):
    """BP1: delta^L = s w (a^L - y); s holds the mean's 1/n, and so brings it to every gradient."""
    z, loss, delta = work.z[first:last], work.loss[first:last], work.delta_out[first:last]
    row_weight = work.row_weight[first:last]
    if work.labels is None:
        target_rows(z, work.targets[first:last], row_weight, loss, delta, scale)
    else:
        label_rows(z, work.labels[first:last], row_weight, loss, delta, scale)
    for q in range(0, delta.size, width(delta)):
        held = delta.size - q
        delta_q = without_tiny(load_masked(flat(delta), q, held, 0.0), _tiny(flat(delta)))
        store_masked(flat(delta), q, delta_q, held)


@inlined
def _hidden_errors(layers, n_layers, parameters, units, first, n, scratch):
    """BP2: delta^(l-1) = (delta^l W^lT) f'(z^(l-1)), from the last layer down."""
    delta = offset(units.delta_out, first * _layer(layers, n_layers - 1).units)
    for number in range(n_layers - 1, 1, -1):
        below, layer = _layer(layers, number - 1), _layer(layers, number)
        delta_below = _rows_of(units.delta, units.capacity, below, first)
        error_rows(
            *(delta, layer.pitch, _weights(parameters, below, layer)),
            *(_rows_of(units.hidden, units.capacity, below, first), n, delta_below, below.pitch),
            *(below.activation, _tiny(delta), scratch),
        )
        delta = delta_below


@inlined
def _bias_gradient(delta, layer, n, k, scratch):
    """BP3: the sum over the batch of delta^l, for the register of units at k."""
    return convert(column_sums(delta, layer.pitch, n, k, layer.units, scratch), delta)


@inlined
def _update_biases(delta, layer, n, b, v, u, rule, scratch):
    """BP3 and the update: without penalty and without decay."""
    g = stack_row(delta, 1)
    for k in range(0, layer.units, width(b)):
        g_k = _bias_gradient(delta, layer, n, k, scratch)
        store(g, 0, broadcast(g, 0.0))
        store_masked(g, 0, g_k, layer.units - k)
        update_parameters(offset(b, k), g, offset(v, k), rest(u, k), width(b), rule)


@inlined
def _rules(update, weight, t, u):
    """What a step does to the weights, and to the biases."""
    l2 = update.l2 + (update.alpha / weight if weight > 0.0 else 0.0)
    moments = (update.momentum, 1.0 - update.momentum, update.beta_2, 1.0 - update.beta_2)
    rate, epsilon, decay = 0.0, 0.0, 0.0
    if u is not None:
        rate, root = adam_rate(update.learning_rate, update.momentum, update.beta_2, t)
        epsilon = update.epsilon * root if update.epsilon_is_corrected else update.epsilon
        decay = update.learning_rate * update.weight_decay
    sgd = update.learning_rate, update.momentum, update.nesterov
    return (
        Rule(l2, *sgd, moments, (rate, epsilon, decay)),
        Rule(0.0, *sgd, moments, (rate, epsilon, 0.0)),
    )


@inlined
def _update_part(layers, n_layers, units, n, part, theta, v, u, rules, scratch, upcoming):
    """BP4, BP3 and the update for one part."""
    below, a = _activations(layers, units, at(part, 0) - 1)
    layer, delta = _errors(layers, n_layers, units, at(part, 0))
    first, last = at(part, 1), at(part, 2)
    of_weights, of_biases = rules
    place = layer.weight_at
    weights = panel_weights(offset(theta, place), below.units, layer.units)
    update_rows(
        *(a, below.pitch, delta, layer.pitch, n, weights, first, last - first),
        *(offset(v, place), rest(u, place), of_weights, scratch, upcoming),
    )
    if first == 0:
        place = layer.bias_at
        _update_biases(
            *(delta, layer, n, offset(theta, place), offset(v, place), rest(u, place)),
            *(of_biases, scratch),
        )


@inlined
def _flush_part(layers, part, memory):
    if memory is None:
        return
    below, layer = _layer(layers, at(part, 0) - 1), _layer(layers, at(part, 0))
    first, last = at(part, 1), at(part, 2)
    for j in range(0, layer.units, panel_width(memory)):
        row_step = panel_row(memory, j, layer.units)
        place = layer.weight_at + j * below.units + first * row_step
        flush(offset(memory, place), (last - first) * row_step)
    if first == 0:
        flush(offset(memory, layer.bias_at), layer.units)


@inlined
def _square_part(layers, part, theta, squares):
    """Note the sums of the squares of a part's weights: ``PIECE`` rows each."""
    below, layer = _layer(layers, at(part, 0) - 1), _layer(layers, at(part, 0))
    weights = panel_weights(offset(theta, layer.weight_at), below.units, layer.units)
    for first in range(at(part, 1), at(part, 2), PIECE):
        place = (at(part, 0) - 1) * squares.shape[1] + first // PIECE
        put(flat(squares), place, sum_of_squares(weights, first, min(first + PIECE, at(part, 2))))


@inlined
def _batch_weight(row_weight, order, start, n, scratch):
    """The sum of the rows' weights, in blocks that are added in a binary tree."""
    if row_weight.size == 0:
        return float(n)
    weights = flat(row_weight)
    waiting = stack_row(weights, LEVELS)
    total, depth, made = 0.0, k_block_of(n), 0
    for first in range(0, n, depth):
        total = 0.0
        for i in range(start + first, start + min(first + depth, n)):
            total += at(weights, at(order, i))
        made += 1
        total = _add_waiting(waiting, made, first + depth >= n, total, scratch)
    return total


@inlined
def _add_waiting(waiting, made, is_last, total, scratch):
    """Add to a block's sum those of its neighbours that wait for it: a binary counter.

    Without a scratch, there is one block.
    """
    if scratch is None:
        return total
    number, left = 0, made - 1
    while left > 0:
        number += left % 2
        left //= 2
    size = made
    while number > 0 and (is_last or size % 2 == 0):
        number -= 1
        size //= 2
        total = at(waiting, number) + total
    put(waiting, number, total)
    return total


@inlined
def _mark_correct(z, labels, targets, row_weight, first, last, correct):
    """The weight of each row whose largest logit is the label's (or largest target's), or 0."""
    z_rows, n_classes, weights = flat(z), z.shape[1], flat(row_weight)
    for i in range(first, last):
        if labels is None:
            label = first_largest(offset(flat(targets), i * n_classes), n_classes)
        else:
            label = at(flat(labels), i)
        is_right = is_first_largest(offset(z_rows, i * n_classes), n_classes, label)
        weight = at(weights, i) if row_weight.size > 0 else 1.0
        put(flat(correct), i, weight if is_right else 0.0)


@inlined
def _pass_rows(
    layers, n_layers, data, order, parameters, work, units, start, n, first, last, scratch
):
    """Rows ``first`` to ``last`` of the batch of n: up to the logits, and back to the errors."""
    pitch = _layer(layers, 0).pitch
    _gather(data, order, start, first, last, work, pitch)
    x, z = offset(units.x, first * pitch), offset(flat(work.z), first * work.z.shape[1])
    _forward(
        *(layers, n_layers, parameters, x, pitch, units, first, last - first, z),
        *(_tiny(units.x), scratch),
    )
    weight = _batch_weight(data.row_weight, order, start, n, scratch)
    _output_error(work, first, last, 1.0 / weight if weight > 0.0 else 0.0)
    _mark_correct(work.z, work.labels, work.targets, work.row_weight, first, last, work.correct)
    _hidden_errors(layers, n_layers, parameters, units, first, last - first, scratch)


@inlined
def _activations(layers, units, number):
    """What enters layer ``number + 1``, and the `Layer` it comes from."""
    layer = _layer(layers, number)
    if number > 0:
        return layer, _rows_of(units.hidden, units.capacity, layer, 0)
    return layer, units.x


@inlined
def _errors(layers, n_layers, units, number):
    """The error of layer ``number``, and its `Layer`."""
    layer = _layer(layers, number)
    if number < n_layers - 1:
        return layer, _rows_of(units.delta, units.capacity, layer, 0)
    return layer, units.delta_out


@inlined
def _batch_sums(loss, correct, n, scratch):
    """The sums of a batch's losses, and of the weights of its correct rows.

    In blocks that are added in a binary tree.
    """
    weights = flat(correct)
    losses, corrects = stack_row(weights, LEVELS), stack_row(weights, LEVELS)
    total, right, depth, made = 0.0, 0.0, k_block_of(n), 0
    for first in range(0, n, depth):
        last = min(first + depth, n)
        made += 1
        right = 0.0
        for i in range(first, last):
            right += at(weights, i)
        right = _add_waiting(corrects, made, last >= n, right, scratch)
        total = _add_waiting(losses, made, last >= n, sum_of(loss[first:last]), scratch)
    return total, right


@inlined
def _add_totals(row_weight, order, start, n, loss, correct, totals, scratch):
    """Add a batch to the epoch's sums; return its weight, or -1 where its loss is not finite."""
    batch_loss, correct_weight = _batch_sums(loss, correct, n, scratch)
    if not math.isfinite(batch_loss):
        return -1.0
    weight = _batch_weight(row_weight, order, start, n, scratch)
    put(totals, 0, at(totals, 0) + batch_loss)
    put(totals, 1, at(totals, 1) + correct_weight)
    put(totals, 2, at(totals, 2) + weight)
    if weight > 0.0:
        put(totals, 3, at(totals, 3) + n * (batch_loss / weight))
    return weight


@inlined
def _add_penalty(squares, n, weight, update, totals):
    """Add a batch's penalty 0.5 (l2 + alpha / weight) ||W||^2, from before its update."""
    total = 0.0
    for piece in range(squares.size):
        total += at(flat(squares), piece)
    l2 = update.l2 + (update.alpha / weight if weight > 0.0 else 0.0)
    put(totals, 3, at(totals, 3) + n * (0.5 * l2 * total))
