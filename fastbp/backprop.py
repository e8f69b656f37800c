"""The training step: gather, forward, output error, backward, update; BP1 to BP4 in order.

A step has two phases, and threads meet between them.  The first is independent for each block of
batch rows: gather, forward, output error (BP1), hidden errors (BP2).  The second is independent for
each part of the weights: gradient (BP3, BP4) and update.  Threads claim blocks and parts: each has
its own, which its caches know from the step before, and takes over what others have not begun.  Who
gets which has no influence on any bit, for every sum is made whole, in one order, by one thread.

Everything here is unchecked: ``fastbp.network`` checks once per call and then calls ``train`` (many
steps in one compiled call, on any number of threads), ``gradient`` (one backward pass without an
update), or ``logits`` (the forward pass alone).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from fastbp._compile import inlined, kernel
from fastbp._layout import (
    CLAIMED,
    DONE,
    DROPPED,
    ENTERED,
    LINE_OF_COUNTERS,
    OPEN,
    PAUSED,
    STOPPED,
    Layer,
)
from fastbp._llvm import (
    at,
    convert,
    count,
    count_below,
    fill,
    flat,
    load_first,
    offset,
    prefetch,
    publish,
    put,
    row,
    seen,
    store,
    store_first,
    wait_for,
    width,
)
from fastbp.kernels.cross_entropy import label_rows, sum_of, target_rows
from fastbp.kernels.dense import (
    adapt_rows,
    column_sums,
    descend_rows,
    error_rows,
    forward_rows,
    gradient_rows,
    sum_of_squares,
)
from fastbp.kernels.rows import first_largest, is_first_largest
from fastbp.kernels.update import adam_lanes, adam_rate, flush

# Steps from one look for subnormal numbers in the memory of the update to the next
FLUSH = 64


class Units(NamedTuple):
    """Where the rows of a batch begin in a workspace.

    Taken out of its arrays once, before the loop over steps: to touch an array counts its users,
    with an instruction that waits until every weight just written has left the processor (784-30-10
    in batches of 10: 19 us a step, now 16).
    """

    x: Any
    hidden: Any
    delta: Any
    delta_out: Any
    capacity: int


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
    """Copy the rows ``order[start + first : start + last]`` to rows ``first`` to ``last``."""
    n_features = data.x.shape[1]
    n_classes = data.targets.shape[1]
    for i in range(first, last):
        number = at(order, start + i)
        copy = offset(flat(work.x), i * pitch)
        if data.starts.size:
            for q in range(0, n_features, width(copy)):
                store(copy, q, fill(copy, 0.0))
            for k in range(at(flat(data.starts), number), at(flat(data.starts), number + 1)):
                put(copy, at(flat(data.columns), k), at(flat(data.values), k))
        else:
            x = row(data.x, number)
            for q in range(0, n_features, width(x)):
                store(copy, q, load_first(x, q, n_features - q, 0.0))
        if data.labels.size:
            put(flat(work.labels), i, at(flat(data.labels), number))
        else:
            y, copy = row(data.targets, number), row(work.targets, i)
            for k in range(n_classes):
                put(copy, k, at(y, k))
        if data.row_weight.size:
            put(flat(work.row_weight), i, at(flat(data.row_weight), number))


@inlined
def _fetch_rows(x, n_features, n_rows, order, start, part, n_parts, n):
    """Ask for some of the rows that the next batch will gather: as much of it as ``part`` of them.

    They lie anywhere in memory, and would be waited for, one after the other (784-30-10, batches
    of 10: 22 us a step, now 17).
    """
    first, last = n * part // n_parts, n * (part + 1) // n_parts
    # Of sparse rows there are none here.
    for i in range(start + first, min(start + last, n_rows)):
        x_i = offset(x, at(order, i) * n_features)
        for q in range(0, n_features, width(x)):
            prefetch(x_i, q, 0, 2)


@inlined
def _forward(table, n_layers, parameters, n_parameters, x, x_row, hidden, capacity, first, n, z):
    """a^l = f(a^(l-1) W^l + b^l), and the logits z^L = a^(L-1) W^L + b^L, for n rows."""
    a, a_row = x, x_row
    for number in range(1, n_layers):
        below, layer = _layer(table, number - 1), _layer(table, number)
        is_hidden = number < n_layers - 1
        a_next = _rows_of(hidden, capacity, layer, first) if is_hidden else z
        forward_rows(
            a,
            a_row,
            offset(parameters, layer.weight_at),
            offset(parameters, layer.bias_at),
            n_parameters - layer.weight_at,
            n,
            below.units,
            layer.units,
            a_next,
            layer.pitch,
            layer.activation,
        )
        a, a_row = a_next, layer.pitch


@inlined
def _output_error(work, first, last, scale):
    """BP1: delta^L = s w (a^L - y); s holds the mean's 1/n, and so brings it to every gradient."""
    z, loss, delta = work.z[first:last], work.loss[first:last], work.delta_out[first:last]
    row_weight = work.row_weight[first:last]
    if work.labels.size:
        label_rows(z, work.labels[first:last], row_weight, loss, delta, scale)
    else:
        target_rows(z, work.targets[first:last], row_weight, loss, delta, scale)


@inlined
def _hidden_errors(
    table, n_layers, parameters, hidden, delta_hidden, delta_out, capacity, first, n
):
    """BP2: delta^(l-1) = (delta^l W^lT) f'(z^(l-1)), from the last layer down."""
    delta = delta_out
    for number in range(n_layers - 1, 1, -1):
        below, layer = _layer(table, number - 1), _layer(table, number)
        delta_below = _rows_of(delta_hidden, capacity, below, first)
        error_rows(
            delta,
            layer.pitch,
            offset(parameters, layer.weight_at),
            _rows_of(hidden, capacity, below, first),
            n,
            below.units,
            layer.units,
            delta_below,
            below.pitch,
            below.activation,
        )
        delta = delta_below


@inlined
def _bias_gradient(delta, layer, n, k):
    """BP3: the sum over the batch of delta^l, for the register of units at k."""
    return convert(column_sums(delta, layer.pitch, n, k, layer.units), delta)


@inlined
def _update_biases(delta, layer, n, b, velocity, second, update, moments, rates):
    """BP3 and the update: without penalty and without decay."""
    for k in range(0, layer.units, width(b)):
        held = layer.units - k
        g = _bias_gradient(delta, layer, n, k)
        b_k, v = load_first(b, k, held, 0.0), load_first(velocity, k, held, 0.0)
        if update.is_adam:
            rate, epsilon, _ = rates
            b_k, v, u = adam_lanes(
                b_k, g, v, load_first(second, k, held, 0.0), *moments, rate, epsilon, 0.0
            )
            store_first(second, k, u, held)
        else:
            descent = update.learning_rate * g
            v = update.momentum * v - descent
            if update.nesterov:
                b_k = b_k + (update.momentum * v - descent)
            else:
                b_k = b_k + v
        store_first(velocity, k, v, held)
        store_first(b, k, b_k, held)


@inlined
def _adam_rates(update, t):
    rate, root = adam_rate(update.learning_rate, update.momentum, update.beta_2, t)
    epsilon = update.epsilon * root if update.epsilon_is_corrected else update.epsilon
    return rate, epsilon, update.learning_rate * update.weight_decay


@inlined
def _flush_part(layer, first, rows, memory, place):
    flush(offset(memory, place), rows * layer.units)
    if first == 0:
        flush(offset(memory, layer.bias_at), layer.units)


@inlined
def _update_part(layers, n_layers, units, n, part, theta, v, u, update, weight, t, with_squares):
    """BP4, BP3 and the update for one part; returns the sum of its squared weights before that."""
    below, a = _activations(layers, units, at(part, 0) - 1)
    layer, delta = _errors(layers, n_layers, units, at(part, 0))
    first, last = at(part, 1), at(part, 2)
    place = layer.weight_at + first * layer.units
    w, rows = offset(theta, place), last - first
    squares = sum_of_squares(w, rows * layer.units) if with_squares else 0.0
    l2 = update.l2 + (update.alpha / weight if weight > 0.0 else 0.0)
    moments = (update.momentum, 1.0 - update.momentum, update.beta_2, 1.0 - update.beta_2)
    rates = _adam_rates(update, t) if update.is_adam else (0.0, 0.0, 0.0)
    operands = (offset(a, first), below.pitch, delta, layer.pitch, n, rows, layer.units)
    if update.is_adam:
        adapt_rows(*operands, w, offset(v, place), offset(u, place), l2, moments, rates)
    else:
        descend_rows(
            *(*operands, w, offset(v, place)),
            *(update.learning_rate, update.momentum, l2, update.nesterov),
        )
    if first == 0:
        _update_biases(
            *(delta, layer, n, offset(theta, layer.bias_at)),
            *(offset(v, layer.bias_at), offset(u, layer.bias_at), update, moments, rates),
        )
    if t % FLUSH == 0:
        _flush_part(layer, first, rows, v, place)
        if update.is_adam:
            _flush_part(layer, first, rows, u, place)
    return squares


@inlined
def _batch_weight(row_weight, n_weights, order, start, n):
    if n_weights == 0:
        return float(n)
    total = 0.0
    for i in range(start, start + n):
        total += at(row_weight, at(order, i))
    return total


@inlined
def _mark_correct(
    z, n_classes, labels, n_labels, targets, row_weight, n_weights, first, last, correct
):
    """The weight of each row whose largest logit is the label's (or largest target's), or 0."""
    for i in range(first, last):
        targets_i = offset(targets, i * n_classes)
        label = at(labels, i) if n_labels > 0 else first_largest(targets_i, n_classes)
        is_right = is_first_largest(offset(z, i * n_classes), n_classes, label)
        weight = at(row_weight, i) if n_weights > 0 else 1.0
        put(correct, i, weight if is_right else 0.0)


@inlined
def _pass_rows_forward(
    table, n_layers, data, order, parameters, n_parameters, work, start, first, last
):
    """Gather the rows ``first`` to ``last`` of the batch that begins at ``start``, up to z^L."""
    pitch = _layer(table, 0).pitch
    _gather(data, order, start, first, last, work, pitch)
    _forward(
        table,
        n_layers,
        parameters,
        n_parameters,
        offset(flat(work.x), first * pitch),
        pitch,
        flat(work.hidden),
        work.capacity,
        first,
        last - first,
        offset(flat(work.z), first * work.z.shape[1]),
    )


@inlined
def _pass_rows_back(table, n_layers, data, order, parameters, work, start, n, first, last):
    """The losses and errors of these rows of the batch of n, down to the first hidden layer's."""
    weight = _batch_weight(flat(data.row_weight), data.row_weight.size, order, start, n)
    _output_error(work, first, last, 1.0 / weight if weight > 0.0 else 0.0)
    _mark_correct(
        *(flat(work.z), work.z.shape[1], flat(work.labels), work.labels.size, flat(work.targets)),
        *(flat(work.row_weight), work.row_weight.size, first, last, flat(work.correct)),
    )
    _hidden_errors(
        table,
        n_layers,
        parameters,
        flat(work.hidden),
        flat(work.delta),
        offset(flat(work.delta_out), first * work.z.shape[1]),
        work.capacity,
        first,
        last - first,
    )


@inlined
def _activations(table, units, number):
    """What enters layer ``number + 1``, and the `Layer` it comes from."""
    layer = _layer(table, number)
    if number > 0:
        return layer, _rows_of(units.hidden, units.capacity, layer, 0)
    return layer, units.x


@inlined
def _errors(table, n_layers, units, number):
    """The error of layer ``number``, and its `Layer`."""
    layer = _layer(table, number)
    if number < n_layers - 1:
        return layer, _rows_of(units.delta, units.capacity, layer, 0)
    return layer, units.delta_out


@inlined
def _add_totals(data, order, work, start, n, totals):
    """Add a batch to the epoch's sums, and note its weight, if its loss is finite; see `train`."""
    batch_loss = sum_of(work.loss[:n])
    if not math.isfinite(batch_loss):
        return False
    correct = at(totals, 1)
    for i in range(n):
        correct += at(flat(work.correct), i)
    weight = _batch_weight(flat(data.row_weight), data.row_weight.size, order, start, n)
    put(totals, 0, at(totals, 0) + batch_loss)
    put(totals, 1, correct)
    put(flat(work.weight), 0, weight)
    put(totals, 2, at(totals, 2) + weight)
    if weight > 0.0:
        put(totals, 3, at(totals, 3) + n * (batch_loss / weight))
    return True


@inlined
def _add_penalty(work, n, weight, update, totals):
    """Add a batch's penalty 0.5 (l2 + alpha / weight) ||W||^2, from before its update."""
    squares = 0.0
    for part in range(work.squares.size):
        squares += at(flat(work.squares), part)
    l2 = update.l2 + (update.alpha / weight if weight > 0.0 else 0.0)
    put(totals, 3, at(totals, 3) + n * (0.5 * l2 * squares))


@inlined
def _claim(counters, is_second, n_items, n_threads, made, thread):
    """Claim one of the items of a phase of step ``made``; -1 if all are claimed.

    Every n_threads-th item is the thread's own; it takes these first, then those of the others.
    """
    place = CLAIMED + (n_threads * LINE_OF_COUNTERS if is_second else 0)
    for owner in range(thread, thread + n_threads):
        if owner >= n_threads:
            owner -= n_threads
        n_own = (n_items - owner + n_threads - 1) // n_threads
        claimed = count_below(counters, place + owner * LINE_OF_COUNTERS, (made + 1) * n_own)
        if claimed >= 0:
            return (claimed - made * n_own) * n_threads + owner
    return -1


@kernel
def train(
    table,
    data,
    order,
    parameters,
    memory,
    work,
    parts,
    n_blocks,
    n_threads,
    board,
    totals,
    first_step,
    last_step,
    batch_size,
    update,
):
    """Make the steps ``first_step`` to ``last_step`` (excluded) of an epoch.

    Step s learns from the rows ``order[s * batch_size : (s + 1) * batch_size]``; the last batch
    of an epoch may be short, and is a mean over its own rows.  Any number of threads may call this
    at the same time with the same arguments: whoever comes takes part, and none is waited for that
    has not claimed anything.  All is done when every call has returned; unless they have left it
    early, at the sign of ``board[PAUSED]``.  If ``board[OPEN]`` is ``DROPPED`` then, or even, the
    step in hand has changed nothing; if it is odd, it is in its second phase, and calls with the
    same arguments, and the sign taken back, finish it.

    Parameters
    ----------
    table, data, order
        Layout (``Plan.table``); rows to learn from; a permutation of their numbers, intp.
    parameters, memory : updated
        With a margin behind the vectors, see ``_layout.aligned``.
    work, parts
        From ``make_workspace`` and ``make_parts``.
    n_blocks : int
        Blocks that a batch's rows are cut into.
    n_threads : int
        Threads that blocks and parts are shared out to.
    board : int64, updated
        New from ``make_board(n_threads)``.  ``board[STOPPED]`` is the first step whose loss was not
        finite, if there was one: it is not applied, and none after it is made.
    totals : (4,) float64, updated
        To it are added: the sums over the rows of the loss, of the weight that was classified
        correctly, and of the weight; the sum over the batches of (mean loss + penalty) times rows,
        the penalty only where ``work.squares`` has room.
    first_step, last_step, batch_size : int
    update : Update
    """
    counters, layers, rows = flat(board), flat(table), flat(order)
    theta, v, u = flat(parameters), flat(memory.velocity), flat(memory.second)
    steps_made, squares_of, n_squares = flat(memory.n_steps), flat(work.squares), work.squares.size
    units, places, weight_of = _units(work), flat(parts), flat(work.weight)
    x, n_features, n_dense = flat(data.x), data.x.shape[1], data.x.shape[0]
    n_layers, n_parts = table.shape[0], parts.shape[0]
    thread = count(counters, ENTERED) % n_threads
    while seen(counters, PAUSED) == 0:
        phase = seen(counters, OPEN)
        made, is_second = phase // 2, phase % 2 == 1
        step = first_step + made
        if step >= last_step:
            break
        n_items = n_parts if is_second else n_blocks
        item = _claim(counters, is_second, n_items, n_threads, made, thread)
        if item < 0:
            wait_for(counters, OPEN, phase + 1)
            continue
        start = step * batch_size
        n = min(batch_size, order.size - start)
        if is_second:
            _fetch_rows(x, n_features, n_dense, rows, start + batch_size, item, n_parts, n)
            t = at(steps_made, 0) + 1
            squares = _update_part(
                *(layers, n_layers, units, n, offset(places, 3 * item), theta, v, u),
                *(update, at(weight_of, 0), t, n_squares > 0),
            )
            if n_squares > 0:
                put(squares_of, item, squares)
        else:
            block = (n - 1) // n_blocks + 1
            first = min(item * block, n)
            last = min(first + block, n)
            if first < last:
                _pass_rows_forward(
                    *(layers, n_layers, data, rows, theta, parameters.size),
                    *(work, start, first, last),
                )
                if seen(counters, PAUSED) != 0:
                    publish(counters, OPEN, DROPPED)  # others may be waiting for this block
                    break
                _pass_rows_back(layers, n_layers, data, rows, theta, work, start, n, first, last)
        n_done = made * (n_blocks + n_parts) + n_blocks + (n_parts if is_second else 0)
        if count(counters, DONE) + 1 == n_done:
            # The last to finish a phase opens the next one.
            if not is_second and not _add_totals(data, rows, work, start, n, flat(totals)):
                publish(counters, STOPPED, step)
                phase = 2 * (last_step - first_step)
            if is_second:
                put(steps_made, 0, at(steps_made, 0) + 1)
                if n_squares > 0:
                    _add_penalty(work, n, at(weight_of, 0), update, flat(totals))
            publish(counters, OPEN, phase + 1)


@kernel
def gradient(table, data, order, parameters, work, grad):
    """Write the gradient of the mean cross-entropy to ``grad``; return the mean.

    ``work`` has room for all rows of ``data``, which are taken in ``order``; ``grad`` is laid out
    as ``parameters``.
    """
    layers, rows, n, n_layers = flat(table), flat(order), order.size, table.shape[0]
    units = _units(work)
    theta = flat(parameters)
    _pass_rows_forward(layers, n_layers, data, rows, theta, parameters.size, work, 0, 0, n)
    _pass_rows_back(layers, n_layers, data, rows, theta, work, 0, n, 0, n)
    for number in range(1, n_layers):
        below, a = _activations(layers, units, number - 1)
        layer, delta = _errors(layers, n_layers, units, number)
        grad_b, grad_w = offset(flat(grad), layer.bias_at), offset(flat(grad), layer.weight_at)
        for k in range(0, layer.units, width(grad)):
            store_first(grad_b, k, _bias_gradient(delta, layer, n, k), layer.units - k)
        room = n * layer.pitch + width(grad)
        gradient_rows(a, below.pitch, delta, layer.pitch, room, n, below.units, layer.units, grad_w)
    weight = _batch_weight(flat(data.row_weight), data.row_weight.size, rows, 0, n)
    return sum_of(work.loss[:n]) / weight


@kernel
def logits(table, parameters, x, hidden, capacity, board, z, first_row, last_row):
    """Write the logits of the rows ``first_row`` to ``last_row`` (excluded) of ``x`` to ``z``.

    The rows pass through in blocks of ``capacity``, for as many of which ``hidden`` has room.  Any
    number of threads may call this at the same time, each with a ``hidden`` of its own.
    """
    while True:
        start = first_row + count(flat(board), ENTERED) * capacity
        if start >= last_row:
            break
        _forward(
            flat(table),
            table.shape[0],
            flat(parameters),
            parameters.size,
            offset(flat(x), start * x.shape[1]),
            x.shape[1],
            flat(hidden),
            capacity,
            0,
            min(capacity, last_row - start),
            offset(flat(z), start * z.shape[1]),
        )


@kernel
def mark_correct(z, labels, targets, row_weight, correct):
    """Write the weight of each row whose largest logit is the label's, and 0 for the others.

    Or that of the largest target, where there are no labels.  The first of equal logits counts, as
    with ``numpy.argmax``; a row that holds NaN is not correct.
    """
    _mark_correct(
        *(flat(z), z.shape[1], flat(labels), labels.size, flat(targets)),
        *(flat(row_weight), row_weight.size, 0, z.shape[0], flat(correct)),
    )


@kernel
def largest(z, labels):
    """Write the index of each row's largest logit, the first of equals, to ``labels``.

    Returns
    -------
    int
        The first row that holds NaN or an infinite largest logit, or -1.
    """
    bad = -1
    for i in range(z.shape[0]):
        labels[i] = np.argmax(z[i])
        if bad < 0 and not np.isfinite(z[i, labels[i]]):
            bad = i
    return bad


@kernel
def shuffle(bits, order, first, last):
    """Shuffle ``order`` (n,): Fisher-Yates with one 64-bit word of ``bits`` (n,) per draw.

    This call fills the places from ``last`` (excluded) down to ``first``; the first one has ``last
    = n``, and calls for the places below go on with it.  The remainder favours small numbers by
    less than n / 2^64.
    """
    for i in range(last - 1, max(first, 1) - 1, -1):
        j = np.intp(bits[i] % np.uint64(i + 1))
        swapped = order[i]
        order[i] = order[j]
        order[j] = swapped


@kernel
def all_finite(numbers):
    """Tell whether a one-dimensional array holds neither NaN nor infinity."""
    finite = True
    for q in range(numbers.shape[0]):
        finite &= np.isfinite(numbers[q])
    return finite
