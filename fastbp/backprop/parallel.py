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
    put,
    row,
    store,
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
    CORRECT,
    LOSS,
    N_REST,
    add_batch,
    add_penalty,
    batch_weight,
    mark_correct_rows,
    row_sums,
    square_block,
)
from fastbp.backprop.updates import FLUSH_STEPS, flat_or_none, flush_block, penalty, rules
from fastbp.kernels._matmul import (
    NextRows,
    Scratch,
    k_block_of,
)


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


class Sums(NamedTuple):
    """Sums over the rows of a batch, each over some blocks of ``k_block`` rows: see `tree`.

    ``rows`` has a row for each sum: the first row and the number of rows.  So have ``weights``, for
    the gradient of the weights in panel form, and ``rest``, in float64: the gradient of the biases,
    the loss, and the weight of correct rows.
    """

    rows: Any
    k_block: Any
    weights: Any
    rest: Any


class Target(NamedTuple):
    """What the second phase writes: the optimizer's state, by address, or sums."""

    v: Any
    u: Any  # None without Adam
    n_updates: Any
    batch_weight: Any  # the sum of the weights of the batch's rows
    sums: Any  # None in training


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
def _first_phase(net, data, batch, rows, work, units, target, scratch):
    """A block of rows: forward to the logits, and back to the errors."""
    gather(data, batch, rows, work, units.x_stride)
    for l in range(1, net.n_layers):
        forward(net, units, l, rows, scratch)
    weight = _weight_of(data, batch, target, scratch)
    scale = 1.0 / weight if weight > 0.0 else 0.0
    output_error(work, rows, scale, layer_of(net, net.n_layers - 1).n_fixed)
    mark_correct_rows(work.z, work.labels, work.targets, work.row_weight, rows, work.correct)
    for l in range(net.n_layers - 2, 0, -1):
        hidden_error(net, units, l, rows, scratch)


@inlined
def _weight_of(data, batch, target, scratch):
    """The weight of a batch; where this process has a part of it, it is given."""
    if target.sums is None:
        return batch_weight(data.row_weight, batch, k_block_of(batch.n), scratch)
    return at(target.batch_weight, 0)


@inlined
def _second_phase(net, units, n, block, target, options, scratch, next_rows):
    """A block of weights: gradients and update."""
    if target.sums is None:
        t = at(target.n_updates, 0) + 1
        of_weights, of_biases = rules(options, at(target.batch_weight, 0), t, target.u)
        update_weights(net, units, n, block, target, of_weights, scratch, next_rows)
        if block.first == 0:
            update_biases(net, units, n, block.layer, target, of_biases, scratch)
        if t % FLUSH_STEPS == 0:
            flush_block(net, block, target.v)
            flush_block(net, block, target.u)
    else:
        _write_gradient(net, units, block, target.sums, scratch)


@inlined
def _write_gradient(net, units, block, sums, scratch):
    layer, n_weights = layer_of(net, block.layer), layer_of(net, 1).bias_at
    for number in range(sums.rows.shape[0]):
        rows = Rows(sums.rows[number, 0], sums.rows[number, 1])
        weights = row(sums.weights, number)
        weight_gradient(net, units, rows, sums.k_block, block, weights, scratch)
        if block.first == 0:
            delta = errors(net, units, block.layer, rows.first)
            grad_b = offset(row(sums.rest, number), layer.bias_at - n_weights)
            for k in range(0, layer.units, width(weights)):
                g_k = bias_gradient(delta, rows.n, sums.k_block, k, layer.units, scratch)
                store(grad_b, k, g_k)


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
                _first_phase(net, data, batch, rows, work, inputs, target, scratch)
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
    if target.sums is None:
        k_block, rows = k_block_of(batch.n), Rows(0, batch.n)
        loss, correct = row_sums(work.loss, work.correct, rows, k_block, scratch)
        if not math.isfinite(loss):
            return False
        weight = _weight_of(data, batch, target, scratch)
        add_batch(flat(totals), loss, correct, weight, batch.n)
        put(target.batch_weight, 0, weight)
    else:
        _sum_rows(target.sums, work, scratch)
    return True


@inlined
def _sum_rows(sums, work, scratch):
    for number in range(sums.rows.shape[0]):
        rows = Rows(sums.rows[number, 0], sums.rows[number, 1])
        loss, correct = row_sums(work.loss, work.correct, rows, sums.k_block, scratch)
        place = sums.rest.shape[1] - N_REST
        put(row(sums.rest, number), place + LOSS, loss)
        put(row(sums.rest, number), place + CORRECT, correct)


@inlined
def _end_step(target, options, work, batch, totals):
    if target.sums is None:
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
    v, u = flat(model.state.velocity), flat_or_none(model.state.second_moment)
    target = Target(v, u, flat(model.state.n_updates), flat(work.weight), None)
    _run_steps(net, target, data, batches, options, work, tasks, totals)


@kernel
def differentiate(table, parameters, data, batches, work, tasks, sums):
    """Write sums over the rows of a batch, or of a part of it, to ``sums``, a `Sums`.

    ``table`` and ``parameters`` are in panel form; ``batches`` is one step on the rows at hand, and
    ``work.weight`` holds the weight of the whole batch.  Any number of threads may call this at the
    same time with the same arguments.  Loss and gradient may be infinite or NaN.
    """
    net = Net(flat(table), table.shape[0], flat(parameters), None)
    target = Target(None, None, None, flat(work.weight), sums)
    _run_steps(net, target, data, batches, None, work, tasks, None)


@kernel
def weight_of(row_weight, order, first, n, k_block):
    """Return the weight of the batch ``order[first : first + n]``, summed as `train` does."""
    return batch_weight(row_weight, Batch(flat(order), first, n), k_block, True)
