"""The training step: gather, forward, output error, backward, update; BP1 to BP4 in order.

All parameters of a network live in one flat vector: the weights of every layer first, each matrix
in C order, then the biases of every layer.  Offsets into that vector take the place of lists of
arrays, so that one compiled specialisation per dtype serves every architecture, and an optimiser
or an L2 penalty (weights only: one slice) sees a single buffer.

Everything here is unchecked: ``fastbp.network`` checks once per call and then calls

``make_plan``, ``weight_views``, ``bias_views``
    where each layer lies in a flat vector;
``make_data``, ``make_batch``, ``make_workspace``
    what a training run reads, and the memory it works in;
``train``
    many steps of mini-batch gradient descent in one compiled call;
``gradient``, ``logits``
    one backward pass without an update, and the forward pass alone;
``shuffle``, ``largest``, ``count_correct``, ``all_finite``
    the small loops around them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp._compile import kernel
from fastbp.kernels import (
    bias_gradient,
    dense_forward,
    hidden_error,
    loss_sum,
    momentum_step,
    sigmoid_forward,
    softmax_cross_entropy,
    softmax_cross_entropy_targets,
    weight_gradient,
)

FloatArray = npt.NDArray[Any]
IndexArray = npt.NDArray[np.intp]

# Compiled code is entered once per slice of about this many multiply-adds: 3 ms to 100 ms, from
# the fastest kernels to the slowest.  Long enough to cost nothing, short enough for Ctrl-C.
SLICE_COST = 200_000_000


class Plan(NamedTuple):
    """Where the layers l = 1..L of a network lie in the flat vectors (arrays of intp).

    ``sizes`` (L+1,) counts the units of each layer, the input included.  Layer l has its weights
    at ``weight_at[l-1]``, its biases at ``bias_at[l-1]`` and, if hidden, its activations for n
    rows at ``n * unit_at[l-1]``; the last entry of each is where the next layer would start.
    """

    sizes: IndexArray
    weight_at: IndexArray
    bias_at: IndexArray
    unit_at: IndexArray


class Data(NamedTuple):
    """What is learnt from: ``labels`` (n,) or ``targets`` (n, K), the other one empty."""

    x: FloatArray
    labels: IndexArray
    targets: FloatArray
    row_weight: npt.NDArray[np.float64]  # (n,), or (0,): every row weighs 1


class Workspace(NamedTuple):
    """Memory of a training step: activations and errors of one mini-batch, one gradient."""

    hidden: FloatArray  # activations of the hidden layers, flat
    delta: FloatArray  # errors of the hidden layers, flat like `hidden`
    z: FloatArray  # (n, K) logits
    delta_out: FloatArray  # (n, K) output error
    loss: FloatArray  # (n,)
    grad: FloatArray  # flat like the parameters


def make_plan(layer_sizes: Sequence[int]) -> Plan:
    """Lay the layers of ``layer_sizes`` out: all weights, then all biases."""
    sizes = np.array(layer_sizes, dtype=np.intp)
    weight_at = np.zeros(sizes.size, dtype=np.intp)
    weight_at[1:] = np.cumsum(sizes[:-1] * sizes[1:])
    bias_at = np.empty_like(weight_at)
    bias_at[0] = weight_at[-1]
    bias_at[1:] = weight_at[-1] + np.cumsum(sizes[1:])
    unit_at = np.zeros(sizes.size - 1, dtype=np.intp)
    unit_at[1:] = np.cumsum(sizes[1:-1])
    return Plan(sizes, weight_at, bias_at, unit_at)


def n_parameters(plan: Plan) -> int:
    """Count the weights and biases."""
    return int(plan.bias_at[-1])


def weight_views(plan: Plan, flat: FloatArray) -> tuple[FloatArray, ...]:
    """Return the weights of each layer, shape (fan_in, fan_out), as views of ``flat``."""
    return tuple(
        flat[start:stop].reshape(fan_in, fan_out)
        for start, stop, fan_in, fan_out in zip(
            plan.weight_at[:-1], plan.weight_at[1:], plan.sizes[:-1], plan.sizes[1:], strict=True
        )
    )


def bias_views(plan: Plan, flat: FloatArray) -> tuple[FloatArray, ...]:
    """Return the biases of each layer, shape (fan_out,), as views of ``flat``."""
    return tuple(
        flat[start:stop] for start, stop in zip(plan.bias_at[:-1], plan.bias_at[1:], strict=True)
    )


def make_data(
    x: FloatArray,
    labels: IndexArray | None,
    targets: FloatArray | None,
    row_weight: npt.NDArray[np.float64],
) -> Data:
    """Put an empty array of the right type in place of the labels or targets that are missing."""
    return Data(
        x,
        np.empty(0, dtype=np.intp) if labels is None else labels,
        np.empty((0, 0), dtype=x.dtype) if targets is None else targets,
        row_weight,
    )


def make_batch(data: Data, batch_size: int) -> Data:
    """Allocate the memory that mini-batches of ``data`` are gathered into."""
    return Data(
        np.empty((batch_size, data.x.shape[1]), data.x.dtype),
        np.empty(batch_size if data.labels.size else 0, np.intp),
        np.empty((batch_size if data.targets.size else 0, data.targets.shape[1]), data.x.dtype),
        np.empty(batch_size if data.row_weight.size else 0, np.float64),
    )


def make_workspace(plan: Plan, batch_size: int, dtype: np.dtype[Any]) -> Workspace:
    """Allocate what a pass over up to ``batch_size`` rows writes."""
    n_classes = int(plan.sizes[-1])
    n_hidden = batch_size * int(plan.unit_at[-1])
    return Workspace(
        hidden=np.empty(n_hidden, dtype),
        delta=np.empty(n_hidden, dtype),
        z=np.empty((batch_size, n_classes), dtype),
        delta_out=np.empty((batch_size, n_classes), dtype),
        loss=np.empty(batch_size, dtype),
        grad=np.empty(n_parameters(plan), dtype),
    )


def rows_per_slice(plan: Plan, passes: int) -> int:
    """Count the rows that cost about ``SLICE_COST``: a training step makes 3 passes over each."""
    # A unit costs an exponential, worth some 20 multiply-adds; a row costs its bookkeeping.
    return max(1, SLICE_COST // (passes * int(plan.weight_at[-1] + 20 * plan.sizes.sum() + 500)))


@kernel
def _weights(plan, flat, layer):
    fan_in, fan_out = plan.sizes[layer], plan.sizes[layer + 1]
    return flat[plan.weight_at[layer] : plan.weight_at[layer + 1]].reshape((fan_in, fan_out))


@kernel
def _biases(plan, flat, layer):
    return flat[plan.bias_at[layer] : plan.bias_at[layer + 1]]


@kernel
def _units(plan, flat, layer, n):
    start, stop = n * plan.unit_at[layer], n * plan.unit_at[layer + 1]
    return flat[start:stop].reshape((n, plan.sizes[layer + 1]))


@kernel
def _gather(data, rows, batch):
    for i in range(rows.shape[0]):
        row = rows[i]
        batch.x[i, :] = data.x[row]
        if data.labels.size:
            batch.labels[i] = data.labels[row]
        else:
            batch.targets[i, :] = data.targets[row]
        if data.row_weight.size:
            batch.row_weight[i] = data.row_weight[row]


@kernel
def _first_rows(batch, n):
    return Data(batch.x[:n], batch.labels[:n], batch.targets[:n], batch.row_weight[:n])


@kernel
def _forward(plan, parameters, x, hidden, z):
    n = x.shape[0]
    last = plan.sizes.shape[0] - 2
    a = x
    for layer in range(last):
        w, b = _weights(plan, parameters, layer), _biases(plan, parameters, layer)
        a_next = _units(plan, hidden, layer, n)
        dense_forward(a, w, b, a_next)
        sigmoid_forward(a_next, a_next)
        a = a_next
    dense_forward(a, _weights(plan, parameters, last), _biases(plan, parameters, last), z)


@kernel
def _total_weight(batch):
    if batch.row_weight.size:
        return loss_sum(batch.row_weight)
    return np.float64(batch.x.shape[0])


@kernel
def _output_error(batch, total_weight, z, loss, delta):
    # BP1: delta^L = w (a^L - y).  The gradients divide by the number of rows n; a weighted mean
    # divides by the sum of the weights.
    scale = 1.0
    if batch.row_weight.size:
        scale = batch.x.shape[0] / total_weight if total_weight > 0.0 else 0.0
    if batch.labels.size:
        softmax_cross_entropy(z, batch.labels, batch.row_weight, loss, delta, scale)
    else:
        softmax_cross_entropy_targets(z, batch.targets, batch.row_weight, loss, delta, scale)


@kernel
def _backward(plan, parameters, x, hidden, delta_hidden, delta_out, grad):
    n = x.shape[0]
    layer = plan.sizes.shape[0] - 2
    delta = delta_out
    while layer > 0:
        a_prev = _units(plan, hidden, layer - 1, n)
        bias_gradient(delta, _biases(plan, grad, layer))  # BP3
        weight_gradient(a_prev, delta, _weights(plan, grad, layer))  # BP4
        delta_prev = _units(plan, delta_hidden, layer - 1, n)
        hidden_error(delta, _weights(plan, parameters, layer), a_prev, delta_prev)  # BP2
        delta = delta_prev
        layer -= 1
    bias_gradient(delta, _biases(plan, grad, 0))
    weight_gradient(x, delta, _weights(plan, grad, 0))


@kernel
def _add_l2(plan, parameters, l2, grad):
    n_weights = plan.weight_at[-1]
    w = parameters[:n_weights]
    grad_w = grad[:n_weights]
    penalty = w.dtype.type(l2)
    for q in range(n_weights):
        grad_w[q] += penalty * w[q]


@kernel
def count_correct(z, labels, targets, row_weight):
    """Sum the weights of the rows whose largest logit is the label's (or the largest target's).

    The first of equal logits counts, as with ``numpy.argmax``.
    """
    correct = 0.0
    for i in range(z.shape[0]):
        label = labels[i] if labels.size else np.argmax(targets[i])
        if np.argmax(z[i]) == label:
            correct += row_weight[i] if row_weight.size else 1.0
    return correct


@kernel
def train(
    plan,
    data,
    order,
    parameters,
    velocity,
    batch,
    work,
    totals,
    first_step,
    last_step,
    batch_size,
    learning_rate,
    momentum,
    l2,
):
    """Make the steps ``first_step`` to ``last_step`` (excluded) of an epoch.

    Step s learns from the rows ``order[s * batch_size : (s + 1) * batch_size]``; the last batch
    of an epoch may be short, and is a mean over its own rows.

    Parameters
    ----------
    plan, data, order
        Layout; rows to learn from; a permutation of their numbers, intp.
    parameters, velocity : (n_parameters,) updated
    batch, work : written
        Memory from `make_batch` and `make_workspace`.
    totals : (3,) float64, updated
        The sums of loss, correctly classified weight, and weight over the rows are added to it.
    first_step, last_step, batch_size : int
    learning_rate, momentum, l2 : float

    Returns
    -------
    int
        ``last_step``, or the first step whose loss was not finite; that step is not applied.
    """
    for step in range(first_step, last_step):
        rows = order[step * batch_size : (step + 1) * batch_size]
        n = rows.shape[0]
        _gather(data, rows, batch)
        part = _first_rows(batch, n)
        z, delta_out, loss = work.z[:n], work.delta_out[:n], work.loss[:n]
        _forward(plan, parameters, part.x, work.hidden, z)
        weight = _total_weight(part)
        _output_error(part, weight, z, loss, delta_out)
        batch_loss = loss_sum(loss)
        if not np.isfinite(batch_loss):
            return step
        totals[0] += batch_loss
        totals[1] += count_correct(z, part.labels, part.targets, part.row_weight)
        totals[2] += weight
        _backward(plan, parameters, part.x, work.hidden, work.delta, delta_out, work.grad)
        if l2 > 0.0:
            _add_l2(plan, parameters, l2, work.grad)
        momentum_step(parameters, work.grad, velocity, learning_rate, momentum)
    return last_step


@kernel
def gradient(plan, parameters, data, work):
    """Write the gradient of the mean cross-entropy over all rows to ``work.grad``; return the mean.

    ``work`` must have room for all rows of ``data``.
    """
    n = data.x.shape[0]
    z, delta_out, loss = work.z[:n], work.delta_out[:n], work.loss[:n]
    _forward(plan, parameters, data.x, work.hidden, z)
    weight = _total_weight(data)
    _output_error(data, weight, z, loss, delta_out)
    _backward(plan, parameters, data.x, work.hidden, work.delta, delta_out, work.grad)
    return loss_sum(loss) / weight


@kernel
def logits(plan, parameters, x, hidden, z, first_row, last_row):
    """Write the logits of the rows ``first_row`` to ``last_row`` (excluded) of ``x`` to ``z``.

    The rows pass through in blocks of as many as ``hidden`` has room for.
    """
    width = plan.unit_at[-1]
    block = max(1, hidden.shape[0] // width) if width > 0 else max(1, last_row - first_row)
    for start in range(first_row, last_row, block):
        stop = min(start + block, last_row)
        _forward(plan, parameters, x[start:stop], hidden, z[start:stop])


@kernel
def largest(z, labels):
    """Write the index of each row's largest logit, the first of equals, to ``labels``.

    Returns
    -------
    int
        The first row without a finite largest logit, or -1.
    """
    bad = -1
    for i in range(z.shape[0]):
        labels[i] = np.argmax(z[i])
        if bad < 0 and not np.isfinite(z[i, labels[i]]):
            bad = i
    return bad


@kernel
def shuffle(bits, order):
    """Write a permutation of 0..n-1 to ``order``: Fisher-Yates with one 64-bit word per draw.

    ``bits`` (n,) uint64.  The remainder favours small numbers by less than n / 2^64.
    """
    n = order.shape[0]
    for i in range(n):
        order[i] = i
    for i in range(n - 1, 0, -1):
        j = np.intp(bits[i] % np.uint64(i + 1))
        swapped = order[i]
        order[i] = order[j]
        order[j] = swapped


@kernel
def all_finite(flat):
    """Tell whether a one-dimensional array holds neither NaN nor infinity."""
    finite = True
    for q in range(flat.shape[0]):
        finite &= np.isfinite(flat[q])
    return finite
