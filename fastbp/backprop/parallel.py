"""The two phases of a step, and the threads that share them.

The first phase is independent for each block of a batch's rows: gather, forward, output error,
hidden errors.  The second is independent for each block of weights: gradients and update.  Threads
meet between the phases.  A thread first takes the blocks that are its own, which its caches hold
from the step before, then blocks that others have not begun.  Who takes which changes no bit: every
sum is made whole, in one order, by one thread.
"""

import math
from typing import Any, NamedTuple

from fastbp._compile import inlined, kernel
from fastbp._simd import (
    at,
    fetch_add,
    flat,
    load_acquire,
    offset,
    panel_width,
    put,
    row,
    store_masked,
    store_release,
    wait_for,
    width,
)
from fastbp.backprop.step import (
    Batch,
    Net,
    Rows,
    bias_gradient,
    errors,
    forward,
    gather,
    hidden_error,
    layer_of,
    output_error,
    units_of,
    update_biases,
    update_weights,
    weight_gradient,
    with_sparse_rows,
)
from fastbp.backprop.tasks import DIVERGED, DONE, ENTERED, OPEN, take, weight_block
from fastbp.backprop.totals import (
    add_batch,
    add_penalty,
    batch_sums,
    batch_weight,
    mark_correct_rows,
    square_block,
)
from fastbp.kernels._matmul import NextRows, Scratch, panel_row_stride
from fastbp.kernels.update import AdamOptions, AdamRates, Rule, SgdRates, adam_rates, flush

# Steps between two searches for subnormal numbers in the optimizer's state
FLUSH_STEPS = 64


class Model(NamedTuple):
    """What training changes: parameters and optimizer state in panel form, and their layout."""

    table: Any  # ``Panels.table``
    parameters: Any
    state: Any


class Batches(NamedTuple):
    """Steps ``first`` to ``last`` (excluded) of an epoch that takes the rows in ``order``.

    Step s takes the rows ``order[s * size : (s + 1) * size]``; the last batch may be short.
    """

    order: Any
    size: int
    first: int
    last: int


class Tasks(NamedTuple):
    """How the work is cut, and the counters by which threads take it."""

    weight_blocks: Any
    n_row_blocks: int
    n_threads: int
    counters: Any


class Target(NamedTuple):
    """What the second phase writes, by address: the optimizer's state, or the gradient."""

    v: Any
    u: Any  # None without Adam
    n_updates: Any
    batch_weight: Any  # the sum of the weights of the batch's rows
    gradient: Any  # None in training


class DenseRows(NamedTuple):
    """The rows of the data, by address; sparse data have none."""

    x: Any
    n_rows: Any
    n_features: Any


@inlined
def _scratch(work, thread):
    if work.packed is None:
        return None
    else:
        packed = row(work.packed, thread)
        return Scratch(packed, work.packed.shape[1] - width(packed), row(work.waiting, thread))


@inlined
def _flat_or_none(array):
    if array is None:
        return None
    else:
        return flat(array)


@inlined
def _first_phase(net, data, batch, rows, work, units, scratch):
    """A block of rows: forward to the logits, and back to the errors."""
    gather(data, batch, rows, work, units.x_stride)
    for l in range(1, net.n_layers):
        forward(net, units, l, rows, scratch)
    weight = batch_weight(data.row_weight, batch, scratch)
    scale = 1.0 / weight if weight > 0.0 else 0.0
    output_error(work, rows, scale, layer_of(net, net.n_layers - 1).n_fixed)
    mark_correct_rows(work.z, work.labels, work.targets, work.row_weight, rows, work.correct)
    for l in range(net.n_layers - 2, 0, -1):
        hidden_error(net, units, l, rows, scratch)


@inlined
def _second_phase(net, units, n, block, target, options, scratch, next_rows):
    """A block of weights: gradients and update."""
    if target.gradient is None:
        t = at(target.n_updates, 0) + 1
        of_weights, of_biases = _rules(options, at(target.batch_weight, 0), t, target.u)
        update_weights(net, units, n, block, target, of_weights, scratch, next_rows)
        if block.first == 0:
            update_biases(net, units, n, block.layer, target, of_biases, scratch)
        if t % FLUSH_STEPS == 0:
            _flush_block(net, block, target.v)
            _flush_block(net, block, target.u)
    else:
        _write_gradient(net, units, n, block, target.gradient, scratch)


@inlined
def penalty(options, batch_weight):
    """l2 of a step; ``alpha`` counts for the sum over the batch, not for the mean."""
    return options.l2 + (options.alpha / batch_weight if batch_weight > 0.0 else 0.0)


@inlined
def _rules(options, batch_weight, t, u):
    """How step t uses the gradients of weights and of biases."""
    eta, mu, beta_2 = options.learning_rate, options.momentum, options.beta_2
    rate, epsilon, decay = 0.0, 0.0, 0.0
    if u is not None:
        adam = adam_rates(AdamOptions(eta, mu, beta_2, options.epsilon, options.weight_decay), t)
        rate, decay = adam.rate, adam.decay
        epsilon = adam.epsilon if options.epsilon_is_corrected else options.epsilon
    of_weights = AdamRates(mu, 1.0 - mu, beta_2, 1.0 - beta_2, rate, epsilon, decay)
    of_biases = AdamRates(mu, 1.0 - mu, beta_2, 1.0 - beta_2, rate, epsilon, 0.0)
    l2 = float(penalty(options, batch_weight))
    return (
        Rule(SgdRates(eta, mu, l2, options.nesterov), of_weights),
        Rule(SgdRates(eta, mu, 0.0, options.nesterov), of_biases),
    )


@inlined
def _flush_block(net, block, vector):
    """Put 0 in the place of subnormal elements of a block's state."""
    if vector is None:
        return
    layer, fan_in = layer_of(net, block.layer), layer_of(net, block.layer - 1).units
    for j in range(0, layer.units, panel_width(vector)):
        row_stride = panel_row_stride(vector, j, layer.units)
        place = layer.weight_at + j * fan_in + block.first * row_stride
        flush(offset(vector, place), block.n_rows * row_stride)
    if block.first == 0:
        flush(offset(vector, layer.bias_at), layer.units)


@inlined
def _write_gradient(net, units, n, block, grad, scratch):
    layer, delta = layer_of(net, block.layer), errors(net, units, block.layer, 0)
    grad_w = offset(grad, layer.weight_at + block.first * layer.units)
    weight_gradient(net, units, n, block, grad_w, scratch)
    if block.first == 0:
        grad_b = offset(grad, layer.bias_at)
        for k in range(0, layer.units, width(grad)):
            g_k = bias_gradient(delta, n, k, layer.units, scratch)
            store_masked(grad_b, k, g_k, layer.units - k)


@inlined
def _next_rows(x, batch, share, n_shares):
    """The rows of the next batch to prefetch during block ``share`` of the first layer's."""
    start, n = batch.start + batch.n, batch.n
    first = start + n * min(share, n_shares) // n_shares
    last = start + n * min(share + 1, n_shares) // n_shares
    return NextRows(x.x, x.n_features, batch.order, first, min(last, x.n_rows))


@inlined
def _count_first(blocks, n_blocks):
    """Count the blocks of the first layer, which take longest."""
    n_first = 1
    while n_first < n_blocks and weight_block(blocks, n_first).layer == 1:
        n_first += 1
    return n_first


@inlined
def _run_steps(net, target, data, batches, options, work, tasks, totals):
    """Take blocks of rows and of weights, until no step is left."""
    units, order = units_of(work, layer_of(net, 0).row_stride), flat(batches.order)
    n_rows, counters, blocks = batches.order.size, flat(tasks.counters), flat(tasks.weight_blocks)
    n_row_blocks, n_weight_blocks = tasks.n_row_blocks, tasks.weight_blocks.shape[0]
    n_threads, n_first = tasks.n_threads, _count_first(blocks, n_weight_blocks)
    x = DenseRows(flat(data.x), data.x.shape[0], data.x.shape[1])
    thread = fetch_add(counters, ENTERED) % n_threads
    scratch = _scratch(work, thread)
    phase, item = 0, 0
    while True:
        if n_threads > 1:
            phase = load_acquire(counters, OPEN)
        n_made, is_second = phase // 2, phase % 2 == 1
        step = batches.first + n_made
        if step >= batches.last:
            break
        n_items = n_weight_blocks if is_second else n_row_blocks
        if n_threads > 1:
            item = take(counters, is_second, n_items, n_threads, n_made, thread)
            if item < 0:
                wait_for(counters, OPEN, phase + 1)
                continue
        start = step * batches.size
        batch = Batch(order, start, min(batches.size, n_rows - start))
        inputs = with_sparse_rows(units, data.sparse, batch, work.columns, thread)
        if is_second:
            block = weight_block(blocks, item)
            if work.squares is not None:
                square_block(net, block, work.squares)
            next_rows = _next_rows(x, batch, item, n_first)
            _second_phase(net, inputs, batch.n, block, target, options, scratch, next_rows)
        else:
            size = (batch.n - 1) // n_row_blocks + 1
            first = min(item * size, batch.n)
            rows = Rows(first, min(size, batch.n - first))
            if rows.n > 0:
                _first_phase(net, data, batch, rows, work, inputs, scratch)
        item += 1
        is_last = item == n_items
        if n_threads > 1:
            n_done = n_made * (n_row_blocks + n_weight_blocks) + n_row_blocks
            if is_second:
                n_done += n_weight_blocks
            is_last = fetch_add(counters, DONE) + 1 == n_done
        if is_last:  # this thread opens the next phase
            item = 0
            phase += 1
            if is_second:
                _end_step(target, options, work, batch, totals)
            elif not _end_first_phase(target, data, batch, work, totals, scratch):
                store_release(counters, DIVERGED, step)
                phase = 2 * (batches.last - batches.first)
            if n_threads > 1:
                store_release(counters, OPEN, phase)


@inlined
def _end_first_phase(target, data, batch, work, totals, scratch):
    """Add the batch to the totals; return False where training stops: the loss is not finite."""
    loss, correct = batch_sums(work.loss, work.correct, batch.n, scratch)
    if target.gradient is None:
        if not math.isfinite(loss):
            return False
    weight = batch_weight(data.row_weight, batch, scratch)
    add_batch(flat(totals), loss, correct, weight, batch.n)
    put(target.batch_weight, 0, weight)
    return True


@inlined
def _end_step(target, options, work, batch, totals):
    if target.gradient is None:
        put(target.n_updates, 0, at(target.n_updates, 0) + 1)
        if work.squares is not None:
            l2 = penalty(options, at(target.batch_weight, 0))
            add_penalty(flat(totals), work.squares, batch.n, l2)


@kernel
def train(model, data, batches, options, work, tasks, totals):
    """Make the steps of ``batches``: forward, output error, backward, update.

    Any number of threads may call this at the same time with the same arguments.  All steps are
    made when every call has returned.

    Parameters
    ----------
    model : Model, updated
    data : Data
    batches : Batches
    options : StepOptions
    work : Workspace, written
    tasks : Tasks
        With new counters.  ``counters[DIVERGED]`` becomes the first step whose loss is not finite:
        neither this step nor a later one is applied.
    totals : (N_TOTALS,) float64, updated
        See ``fastbp.backprop.totals``; the penalty counts where ``work.squares`` is not None.
    """
    net = Net(flat(model.table), model.table.shape[0], flat(model.parameters), None)
    v, u = flat(model.state.velocity), _flat_or_none(model.state.second_moment)
    target = Target(v, u, flat(model.state.n_updates), flat(work.weight), None)
    _run_steps(net, target, data, batches, options, work, tasks, totals)


@kernel
def differentiate(table, parameters, data, batches, work, tasks, grad, totals):
    """Write the gradient of the mean cross-entropy of a batch to ``grad``; add to ``totals``.

    ``table``, ``parameters`` and ``grad`` are laid out as `Plan` says; ``batches`` is one step.
    Any number of threads may call this at the same time with the same arguments.  Loss and gradient
    may be infinite or NaN.
    """
    net = Net(flat(table), table.shape[0], flat(parameters), parameters.size)
    target = Target(None, None, None, flat(work.weight), flat(grad))
    _run_steps(net, target, data, batches, None, work, tasks, totals)
