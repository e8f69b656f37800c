"""Passes without an update: the logits, and what is read from them."""

import numpy as np

from fastbp._compile import kernel
from fastbp._simd import fetch_add, flat, offset, stack_row
from fastbp.backprop.step import Net, Rows, Units, forward
from fastbp.backprop.tasks import ENTERED
from fastbp.backprop.totals import mark_correct_rows
from fastbp.kernels._matmul import STACK_VECTORS, WAITING_VECTORS, stack_scratch
from fastbp.kernels._sparse import Entries, SparseBatch


@kernel
def logits(table, parameters, x, z, first_row, last_row, hidden, counters):
    """Write the logits of the rows ``first_row`` to ``last_row`` (excluded) of ``x`` to ``z``.

    The rows pass through in blocks of ``len(hidden)``; ``hidden`` holds their hidden activations.
    Any number of threads may call this at the same time, each with a ``hidden`` of its own.
    """
    capacity = hidden.shape[0]
    net = Net(flat(table), table.shape[0], flat(parameters), parameters.size)
    scratch = stack_scratch(stack_row(x, STACK_VECTORS), stack_row(x, WAITING_VECTORS))
    x_rows, z_rows, h = flat(x), flat(z), flat(hidden)
    while True:
        start = first_row + fetch_add(flat(counters), ENTERED) * capacity
        if start >= last_row:
            break
        x_start, z_start = offset(x_rows, start * x.shape[1]), offset(z_rows, start * z.shape[1])
        units = Units(x_start, x.shape[1], h, h, z_start, z_start, capacity, 0.0, None)
        rows = Rows(0, min(capacity, last_row - start))
        for l in range(1, net.n_layers):
            forward(net, units, l, rows, scratch)


@kernel
def sparse_logits(table, parameters, sparse, z, first_row, last_row, hidden, counters):
    """`logits` of sparse rows."""
    capacity = hidden.shape[0]
    net = Net(flat(table), table.shape[0], flat(parameters), parameters.size)
    scratch = stack_scratch(stack_row(z, STACK_VECTORS), stack_row(z, WAITING_VECTORS))
    entries = Entries(flat(sparse.columns), flat(sparse.chains), flat(sparse.values))
    z_rows, h = flat(z), flat(hidden)
    while True:
        start = first_row + fetch_add(flat(counters), ENTERED) * capacity
        if start >= last_row:
            break
        rows = SparseBatch(offset(flat(sparse.starts), start), entries, None, None)
        z_start = offset(z_rows, start * z.shape[1])
        units = Units(h, 0, h, h, z_start, z_start, capacity, 0.0, rows)
        for l in range(1, net.n_layers):
            forward(net, units, l, Rows(0, min(capacity, last_row - start)), scratch)


@kernel
def mark_correct(z, labels, targets, row_weight, correct):
    """Write the weight of each row whose largest logit is the label's, and 0 for the others.

    Or that of the largest target, where there are no labels.  The first of equal logits counts, as
    with ``numpy.argmax``; a row that holds NaN is not correct.
    """
    mark_correct_rows(z, labels, targets, row_weight, Rows(0, z.shape[0]), correct)


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
def all_finite(numbers):
    """Tell whether a one-dimensional array holds neither NaN nor infinity."""
    finite = True
    for q in range(numbers.shape[0]):
        finite &= np.isfinite(numbers[q])
    return finite
