"""Calls of kernels between guard zones, and assertions that hold for every kernel."""

import itertools
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import inputs
import numba
import numpy as np
import plain_python
import pytest
import reference
from tolerances import PLAIN, assert_same_bits

from fastbp import kernels

RATES = {"learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
RATES |= {"weight_decay": 0.0, "t": 1}
EVERY_ROW = np.empty(0)  # the row weights that mean one for each row
ZONE = 64
_turn = itertools.count()


def _between_zones(array):
    """A copy of ``array`` inside a larger buffer of NaNs (labels: of a label far outside)."""
    poison = np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).max // 2
    # every alignment that the dtype allows has its turn
    start = ZONE + next(_turn) % 16
    buffer = np.full(start + array.size + ZONE, poison, array.dtype)
    inside = buffer[start : start + array.size].reshape(array.shape)
    inside[...] = array
    return buffer, inside


@dataclass
class Call:
    """A kernel and its arguments: inputs, then the arrays it writes, then scalars."""

    kernel: object
    inputs: list
    written: list
    scalars: tuple = ()

    def __call__(self):
        """Run on copies between guard zones; the written arrays, a single one bare."""
        inputs = [_between_zones(array) for array in self.inputs]
        before = [buffer.tobytes() for buffer, _ in inputs]
        written = [_between_zones(array) for array in self.written]
        arrays = [inside for _, inside in (*inputs, *written)]
        self.kernel(*arrays, *self.scalars)
        assert [buffer.tobytes() for buffer, _ in inputs] == before, "an input was written"
        for buffer, inside in written:
            outside = np.ones(buffer.size, bool)
            first = (inside.ctypes.data - buffer.ctypes.data) // buffer.itemsize
            outside[first : first + inside.size] = False
            assert np.isnan(buffer[outside]).all(), "something outside the output was written"
        return _bare([inside.copy() for _, inside in written])

    def on(self, place):
        """Run on arrays made by ``place`` from copies of the arguments; the written ones."""
        arrays = [place(array) for array in (*self.inputs, *self.written)]
        self.kernel(*arrays, *self.scalars)
        return _bare(arrays[len(self.inputs) :])

    def into(self, position, written=-1):
        """Run with one of the written arrays being input number ``position``; that array."""
        inputs = [array.copy() for array in self.inputs]
        outputs = [array.copy() for array in self.written]
        outputs[written] = inputs[position]
        self.kernel(*inputs, *outputs, *self.scalars)
        return _bare(outputs)


def _bare(arrays):
    return arrays[0] if len(arrays) == 1 else arrays


def _listed(arrays):
    return arrays if isinstance(arrays, list) else [arrays]


def assert_same_results(got, expected, message=""):
    """Every written array has the same bits."""
    __tracebackhide__ = True
    for one, other in zip(_listed(got), _listed(expected), strict=True):
        assert_same_bits(one, other, message)


def assert_in_place(call, position, written=-1):
    """Writing over input number ``position`` gives the same bits."""
    __tracebackhide__ = True
    assert_same_results(call.into(position, written), call(), "in place:")


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def assert_reads_read_only(call):
    """Inputs may be read-only."""
    __tracebackhide__ = True
    inputs = [_read_only(array) for array in call.inputs]
    written = [array.copy() for array in call.written]
    call.kernel(*inputs, *written, *call.scalars)
    assert_same_results(_bare(written), call())


def assert_rows_independent(make, *arrays):
    """A row's result has the same bits alone, in any part of the batch, and at any place."""
    __tracebackhide__ = True
    n = len(arrays[0])

    def rows(chosen):
        # no row weights at all stay no row weights
        return _listed(make(*(array[chosen] if len(array) else array for array in arrays))())

    whole = rows(np.arange(n))
    backwards = rows(np.arange(n)[::-1])
    assert_same_results([result[::-1] for result in backwards], whole, "backwards:")
    for i in range(n):
        expected = [result[i : i + 1] for result in whole]
        assert_same_results(rows(np.arange(i, i + 1)), expected, f"row {i} of {n} alone:")
    for first in range(0, n, 5):
        last = first + 1 + (3 * first + n) % (n - first)
        expected = [result[first:last] for result in whole]
        found = rows(np.arange(first, last))
        assert_same_results(found, expected, f"rows {first} to {last} of {n}:")


def assert_one_specialisation(make, kernel=None):
    """Shapes, alignments and values do not matter: a kernel compiles once for each dtype."""
    __tracebackhide__ = True
    for dtype in ("float32", "float64"):
        first, *others = (make(shape, np.dtype(dtype)) for shape in ((1, 1), (3, 17), (16, 64)))
        first()
        if numba.config.DISABLE_JIT:
            continue
        before = list((kernel or first.kernel).signatures)
        for call in others:
            call()
        assert (kernel or first.kernel).signatures == before


def assert_plain_is_close(calls, at_least=0):
    """Kernels as plain Python give the same, up to the multiply-adds that it cannot fuse.

    A difference is measured in ulp of the result, or of ``at_least`` if that is larger.
    """
    __tracebackhide__ = True
    # the child returns all arrays, read or written
    jobs = [(call.kernel.__name__, (*call.inputs, *call.written, *call.scalars)) for call in calls]
    for call, found in zip(calls, plain_python.results_of(jobs), strict=True):
        for one, other in zip(found[len(call.inputs) :], _listed(call()), strict=True):
            at = np.maximum(np.abs(other), at_least)
            error = reference.ulp_error(one, other, at)
            assert (error <= PLAIN).all(), f"{call.kernel.__name__}: {error.max()} ulp"


def assert_stays_within_pages(*names):
    """No read and no write beyond the arguments: in a child process, which would crash."""
    __tracebackhide__ = True
    if sys.platform == "win32":
        pytest.skip("guard pages are made with mmap and mprotect")
    script = Path(__file__).with_name("page_edges.py")
    child = subprocess.run(
        [sys.executable, str(script), *names], capture_output=True, text=True, check=False
    )
    last = child.stdout.splitlines()[-1:]
    assert child.returncode == 0, f"{child.returncode} in or after {last}: {child.stderr[-2000:]}"
    assert last == ["done"]


def _new(*shape, dtype):
    # neither an element that some kernel may leave in place unseen, nor NaN
    return np.full(shape, -123.0, dtype)


def _named(kernel, make):
    make.__name__ = kernel.__name__
    return make


def _like_first(kernel):
    """Calls of a kernel whose result has the shape of its first argument."""
    return _named(
        kernel, lambda x, *more: Call(kernel, [x, *more], [_new(*x.shape, dtype=x.dtype)])
    )


def _per_row(kernel):
    """Calls of a kernel whose result has an element for each row."""
    return _named(kernel, lambda z, *more: Call(kernel, [z, *more], [_new(len(z), dtype=z.dtype)]))


def _of_loss(kernel):
    """The same, of a loss: without row weights, each row weighs one."""
    of_rows = _per_row(kernel)
    return _named(kernel, lambda z, y, row_weight=EVERY_ROW: of_rows(z, y, row_weight))


def _fused(kernel):
    """Calls of a kernel that writes the losses and delta."""

    def make(z, y, row_weight=EVERY_ROW, scale=1.0):
        written = [_new(len(z), dtype=z.dtype), _new(*z.shape, dtype=z.dtype)]
        return Call(kernel, [z, y, row_weight], written, (scale,))

    return _named(kernel, make)


def _backward(kernel):
    """Calls of a kernel that updates delta."""
    return _named(kernel, lambda a, delta: Call(kernel, [a], [delta]))


row_max, logsumexp = _per_row(kernels.row_max), _per_row(kernels.logsumexp)
softmax, log_softmax = _like_first(kernels.softmax), _like_first(kernels.log_softmax)
cross_entropy = _of_loss(kernels.cross_entropy)
cross_entropy_targets = _of_loss(kernels.cross_entropy_targets)
softmax_cross_entropy = _fused(kernels.softmax_cross_entropy)
softmax_cross_entropy_targets = _fused(kernels.softmax_cross_entropy_targets)
output_error = _like_first(kernels.output_error)
output_error_targets = _like_first(kernels.output_error_targets)
sigmoid_forward, sigmoid_derivative_forward = map(
    _like_first, (kernels.sigmoid_forward, kernels.sigmoid_derivative_forward)
)
tanh_forward, relu_forward = map(_like_first, (kernels.tanh_forward, kernels.relu_forward))
sigmoid_backward, tanh_backward = map(_backward, (kernels.sigmoid_backward, kernels.tanh_backward))
relu_backward = _backward(kernels.relu_backward)


def smoothed_targets(labels, class_weight, shape, dtype, label_smoothing):
    written = [_new(*shape, dtype=dtype)]
    return Call(kernels.smoothed_targets, [labels, class_weight], written, (label_smoothing,))


def dense_forward(a_prev, w, b):
    z = _new(len(a_prev), w.shape[1], dtype=w.dtype)
    return Call(kernels.dense_forward, [a_prev, w, b], [z])


def hidden_error(delta_next, w_next, a):
    return Call(kernels.hidden_error, [delta_next, w_next, a], [_new(*a.shape, dtype=a.dtype)])


def hidden_error_of(delta_next, w_next, a, activation=3):
    delta = _new(*a.shape, dtype=a.dtype)
    return Call(kernels.hidden_error_of, [delta_next, w_next, a], [delta], (activation,))


def weight_gradient(a_prev, delta):
    grad_w = _new(a_prev.shape[1], delta.shape[1], dtype=delta.dtype)
    return Call(kernels.weight_gradient, [a_prev, delta], [grad_w])


def bias_gradient(delta):
    return Call(kernels.bias_gradient, [delta], [_new(delta.shape[1], dtype=delta.dtype)])


def _step(kernel):
    """A step with the array that it reads first."""
    return _named(kernel, lambda grad, param, *others: kernel(param, grad, *others))


_momentum_step, _nesterov_step = _step(kernels.momentum_step), _step(kernels.nesterov_step)
_adam_step = _step(kernels.adam_step)


def momentum_step(param, grad, velocity, *rates):
    return Call(_momentum_step, [grad], [param, velocity], rates or (0.1, 0.9))


def nesterov_step(param, grad, velocity, *rates):
    return Call(_nesterov_step, [grad], [param, velocity], rates or (0.1, 0.9))


def adam_step(param, grad, m, v, *rates, **named):
    *options, t = (RATES | dict(zip(RATES, rates, strict=False)) | named).values()
    return Call(_adam_step, [grad], [param, m, v], (kernels.AdamOptions(*options), t))


def sample(name, shape, dtype):
    """A call of the kernel of this name on a batch of logits of this shape."""
    z = inputs.logits("normal", 10.0, shape, dtype)
    labels, y, weights = inputs.labels_of(z), inputs.targets_of(z), inputs.weights_of(len(z))
    w = inputs.logits("normal", 1.0, (shape[1], 19), dtype)
    back = z, np.ascontiguousarray(w.T), np.ascontiguousarray(z[:, :1] + w[:1])
    flat = z.ravel()
    arguments = {
        "cross_entropy": (z, labels, weights),
        "cross_entropy_targets": (z, y, weights),
        "output_error": (y, labels),
        "output_error_targets": (y, y),
        "softmax_cross_entropy": (z, labels, weights, 0.5),
        "softmax_cross_entropy_targets": (z, y, weights, 0.5),
        "smoothed_targets": (labels, z[0], shape, dtype, 0.1),
        **{f"{activation}_backward": (y, z) for activation in ("sigmoid", "tanh", "relu")},
        "dense_forward": (z, w, w[0]),
        "hidden_error": back,
        "hidden_error_of": back,
        "weight_gradient": (z, y),
        "momentum_step": (flat, flat, flat),
        "nesterov_step": (flat, flat, flat),
        "adam_step": (flat, flat, flat, y.ravel()),
    }
    return globals()[name](*arguments.get(name, (z,)))
