"""How steps use a gradient: the rules of momentum and Adam, and updates by a whole gradient."""

from typing import Any, NamedTuple

from fastbp._compile import inlined, kernel
from fastbp._simd import (
    convert,
    fetch_add,
    flat,
    load_like,
    load_masked,
    offset,
    panel_width,
    stack_row,
    store,
    to_float64,
    width,
)
from fastbp.backprop.step import layer_of
from fastbp.backprop.tasks import ENTERED
from fastbp.kernels._matmul import offset_or_none, panel_row_stride
from fastbp.kernels.update import (
    AdamOptions,
    AdamRates,
    Rule,
    SgdRates,
    adam_rates,
    flush,
    update_parameters,
)

# Steps between two searches for subnormal numbers in the optimizer's state
FLUSH_STEPS = 64

# Weights that a thread updates at a time, given the gradient: whole vectors
UPDATE_CHUNK = 1 << 14


class Model(NamedTuple):
    """What training changes: parameters and optimizer state in panel form, and their layout."""

    table: Any  # ``Panels.table``
    parameters: Any
    state: Any


@inlined
def flat_or_none(array):
    if array is None:
        return None
    else:
        return flat(array)


@inlined
def penalty(options, batch_weight):
    """l2 of a step; ``alpha`` counts for the sum over the batch, not for the mean."""
    return options.l2 + (options.alpha / batch_weight if batch_weight > 0.0 else 0.0)


@inlined
def rules(options, batch_weight, t, u):
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
def flush_block(net, block, vector):
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


@kernel
def update(model, weights, rest, options, batch_weight, counters):
    """Update the parameters by sums over a whole batch, to the bits of `train`.

    Any number of threads may call this at the same time with the same arguments, of which
    ``counters`` are new.  ``n_updates`` stays what it is.

    Parameters
    ----------
    model : Model, updated
    weights : (n,) ndarray
        The gradient of the weights, in panel form.
    rest : (m,) float64
        A row of ``Sums.rest``.
    options : StepOptions
    batch_weight : float
    counters : ndarray of int64
    """
    theta, v = flat(model.parameters), flat(model.state.velocity)
    u, grad, n_weights = flat_or_none(model.state.second_moment), flat(weights), weights.size
    t = model.state.n_updates[0] + 1
    of_weights, of_biases = rules(options, batch_weight, t, u)
    while True:
        chunk = fetch_add(flat(counters), ENTERED)
        first = chunk * UPDATE_CHUNK
        if first >= n_weights:
            break
        n = min(UPDATE_CHUNK, n_weights - first)
        w, v_w, u_w = offset(theta, first), offset(v, first), offset_or_none(u, first)
        update_parameters(w, offset(grad, first), v_w, u_w, n, of_weights)
        if chunk == 0:
            b, u_b = offset(theta, n_weights), offset_or_none(u, n_weights)
            n_biases = model.parameters.size - n_weights
            _update_biases(b, flat(rest), offset(v, n_weights), u_b, n_biases, of_biases)
            if t % FLUSH_STEPS == 0:
                _flush_part(v, n_weights, n_biases)
                _flush_part(u, n_weights, n_biases)
        if t % FLUSH_STEPS == 0:
            _flush_part(v, first, n)
            _flush_part(u, first, n)


@inlined
def _flush_part(vector, first, n):
    if vector is None:
        return
    flush(offset(vector, first), n)


@inlined
def _update_biases(b, sums, v, u, n, rule):
    like, g = to_float64(load_masked(b, 0, 0, 0.0)), stack_row(b, 1)
    for k in range(0, n, width(b)):
        store(g, 0, convert(load_like(sums, k, like), b))
        update_parameters(offset(b, k), g, offset(v, k), offset_or_none(u, k), width(b), rule)
