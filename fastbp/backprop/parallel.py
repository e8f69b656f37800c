"""The two phases of a step, and the threads that share them.

The first phase is independent for each block of batch rows: gather, forward, output error (BP1),
hidden errors (BP2).  The second is independent for each block of weights: gradients (BP3, BP4) and
update.  Threads meet between them.  A thread first takes the blocks that are its own, which its
caches hold from the step before, then those that others have not begun.  Who takes which changes
no bit: every sum is made whole, in one order, by one thread.
"""

from typing import Any, NamedTuple

from fastbp._compile import kernel
from fastbp._simd import at, fetch_add, flat, load_acquire, offset, put, store_release, wait_for
from fastbp.backprop.step import (
    FLUSH,
    Parameters,
    _add_penalty,
    _add_totals,
    _flat_or_none,
    _flush_part,
    _pass_rows,
    _rules,
    _scratch,
    _square_part,
    _units,
    _update_part,
)
from fastbp.backprop.tasks import DIVERGED, DONE, ENTERED, OPEN, take
from fastbp.kernels._matmul import NOWHERE, Upcoming


class Model(NamedTuple):
    """What a step changes: parameters and optimizer state in panel form, and their layout."""

    layers: Any  # `Panels.table`
    parameters: Any
    state: Any


class Batches(NamedTuple):
    """Steps ``first`` to ``last`` (excluded) of an epoch that takes the rows in ``order``."""

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


@kernel
def train(model, data, batches, options, work, tasks, totals):
    """Make the steps of ``batches``: forward, output error, backward, update.

    Step s learns from the rows ``order[s * size : (s + 1) * size]``; the last batch of an epoch may
    be short, and is a mean over its own rows.  Any number of threads may call this at the same time
    with the same arguments.  All steps are made when every call has returned.

    Parameters
    ----------
    model : Model, updated
    data : Data
    batches : Batches
    options : StepOptions
    work : Workspace, written
    tasks : Tasks
        New from ``make_counters(n_threads)``.  ``counters[DIVERGED]`` becomes the first step whose
        loss is not finite: neither it nor a later one is applied.
    totals : (4,) float64, updated
        To it are added: the sums over the rows of the loss, of the weight that was classified
        correctly, and of the weight; the sum over the batches of (mean loss + penalty) times rows,
        the penalty only where ``work.squares`` has room.
    """
    table, parameters, memory = model.layers, model.parameters, model.state
    order, batch_size = batches.order, batches.size
    first_step, last_step = batches.first, batches.last
    parts, n_blocks, n_threads = tasks.weight_blocks, tasks.n_row_blocks, tasks.n_threads
    update = options
    counters, layers, rows = flat(tasks.counters), flat(table), flat(order)
    theta, v, u = flat(parameters), flat(memory.velocity), _flat_or_none(memory.second_moment)
    steps_made, squares = flat(memory.n_updates), work.squares
    units, places = _units(work), flat(parts)
    weight_of = flat(work.weight)
    x, n_features, n_dense = flat(data.x), data.x.shape[1], data.x.shape[0]
    n_layers, n_parts = table.shape[0], parts.shape[0]
    n_first = 1
    while n_first < n_parts and at(places, 3 * n_first) == 1:
        n_first += 1
    panels = Parameters(theta, NOWHERE)
    thread = fetch_add(counters, ENTERED) % n_threads
    scratch = _scratch(work.packed, work.waiting, thread)
    phase, item = 0, 0
    while True:
        if n_threads > 1:
            phase = load_acquire(counters, OPEN)
        made, is_second = phase // 2, phase % 2 == 1
        step = first_step + made
        if step >= last_step:
            break
        n_items = n_parts if is_second else n_blocks
        if n_threads > 1:
            item = take(counters, is_second, n_items, n_threads, made, thread)
            if item < 0:
                wait_for(counters, OPEN, phase + 1)
                continue
        start = step * batch_size
        n = min(batch_size, order.size - start)
        if is_second:
            part, t = offset(places, 3 * item), at(steps_made, 0) + 1
            if squares is not None:
                _square_part(layers, part, theta, squares)
            # All of them while the first layer's parts are updated: these take the longest.
            upcoming = Upcoming(
                *(x, n_features, rows, start + batch_size + n * min(item, n_first) // n_first),
                min(start + batch_size + n * min(item + 1, n_first) // n_first, n_dense),
            )
            _update_part(
                *(layers, n_layers, units, n, part, theta, v, u),
                *(_rules(update, at(weight_of, 0), t, u), scratch, upcoming),
            )
            if t % FLUSH == 0:
                _flush_part(layers, part, v)
                _flush_part(layers, part, u)
        else:
            block = (n - 1) // n_blocks + 1
            first = min(item * block, n)
            last = min(first + block, n)
            if first < last:
                _pass_rows(
                    *(layers, n_layers, data, rows, panels, work, units, start, n, first, last),
                    scratch,
                )
        item += 1
        if n_threads > 1:
            n_done = made * (n_blocks + n_parts) + n_blocks + (n_parts if is_second else 0)
            is_last = fetch_add(counters, DONE) + 1 == n_done
        else:
            is_last = item == n_items
        if is_last:
            # The last to finish a phase opens the next one.
            item = 0
            if is_second:
                put(steps_made, 0, at(steps_made, 0) + 1)
                if squares is not None:
                    _add_penalty(squares, n, at(weight_of, 0), update, flat(totals))
            else:
                weight = _add_totals(
                    *(data.row_weight, rows, start, n, work.loss, work.correct),
                    *(flat(totals), scratch),
                )
                put(weight_of, 0, weight)
                if weight < 0.0:
                    store_release(counters, DIVERGED, step)
                    phase = 2 * (last_step - first_step)
            phase += 1
            if n_threads > 1:
                store_release(counters, OPEN, phase)
