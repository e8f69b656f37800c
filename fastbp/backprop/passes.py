"""Whole passes without an update: the gradient, the logits, and what is read off them."""

import numpy as np

from fastbp._compile import kernel
from fastbp._simd import fetch_add, flat, offset, stack_row, store_masked, width
from fastbp.backprop.step import (
    Parameters,
    Units,
    _activations,
    _batch_sums,
    _batch_weight,
    _bias_gradient,
    _errors,
    _forward,
    _mark_correct,
    _pass_rows,
    _scratch,
    _units,
)
from fastbp.backprop.tasks import ENTERED
from fastbp.kernels._matmul import STACK_PACKED, WAITING, stack_scratch
from fastbp.kernels.dense import gradient_rows


@kernel
def gradient(table, data, order, parameters, work, grad):
    """Write the gradient of the mean cross-entropy to ``grad``; return the mean.

    ``work`` has room for all rows of ``data``, which are taken in ``order``; ``grad`` is laid out
    as ``parameters``.
    """
    layers, rows, n, n_layers = flat(table), flat(order), order.size, table.shape[0]
    units, theta = _units(work), Parameters(flat(parameters), parameters.size)
    scratch = _scratch(work.packed, work.waiting, 0)
    _pass_rows(layers, n_layers, data, rows, theta, work, units, 0, n, 0, n, scratch)
    for number in range(1, n_layers):
        below, a = _activations(layers, units, number - 1)
        layer, delta = _errors(layers, n_layers, units, number)
        grad_b, grad_w = offset(flat(grad), layer.bias_at), offset(flat(grad), layer.weight_at)
        for k in range(0, layer.units, width(grad)):
            store_masked(grad_b, k, _bias_gradient(delta, layer, n, k, scratch), layer.units - k)
        room = n * layer.pitch + width(grad)
        gradient_rows(
            *(a, below.pitch, delta, layer.pitch, room, n, below.units, layer.units),
            *(grad_w, None, scratch),
        )
    loss, _ = _batch_sums(work.loss, work.correct, n, scratch)
    return loss / _batch_weight(data.row_weight, rows, 0, n, scratch)


@kernel
def logits(table, parameters, x, z, first_row, last_row, hidden, counters):
    """Write the logits of the rows ``first_row`` to ``last_row`` (excluded) of ``x`` to ``z``.

    The rows pass through in blocks of ``len(hidden)``; ``hidden`` holds their hidden activations.
    Any number of threads may call this at the same time, each with a ``hidden`` of its own.
    """
    capacity = hidden.shape[0]
    layers, theta = flat(table), Parameters(flat(parameters), parameters.size)
    units = Units(flat(x), flat(hidden), flat(hidden), flat(z), capacity)
    scratch = stack_scratch(stack_row(x, STACK_PACKED), stack_row(x, WAITING))
    while True:
        start = first_row + fetch_add(flat(counters), ENTERED) * capacity
        if start >= last_row:
            break
        _forward(
            *(layers, table.shape[0], theta, offset(flat(x), start * x.shape[1]), x.shape[1]),
            *(units, 0, min(capacity, last_row - start), offset(flat(z), start * z.shape[1])),
            *(0.0, scratch),
        )


@kernel
def mark_correct(z, labels, targets, row_weight, correct):
    """Write the weight of each row whose largest logit is the label's, and 0 for the others.

    Or that of the largest target, where there are no labels.  The first of equal logits counts, as
    with ``numpy.argmax``; a row that holds NaN is not correct.
    """
    _mark_correct(z, labels, targets, row_weight, 0, z.shape[0], correct)


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
