"""pytest plugin: scikit-learn's tests of its optimisers, run against fastbp's steps.

The classes are swapped in the collected module, where the tests look them up when they run.  The
calls are counted, because a swap that did not take would look like a success.
"""

import math

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from fastbp import kernels

CALLS = {"momentum_step": 0, "nesterov_step": 0, "adam_step": 0}

ADAM_RTOL = 1e-14


def _step(name, arrays, *rates):
    CALLS[name] += 1
    getattr(kernels, name)(*(array.reshape(-1) for array in arrays), *rates)


class SGDOptimizer:
    """scikit-learn's, as far as its tests of the updates go."""

    def __init__(self, params, learning_rate_init, *, momentum, nesterov):
        self.rates = float(learning_rate_init), float(momentum)
        self.name = "nesterov_step" if nesterov else "momentum_step"
        self.velocities = [np.zeros_like(param) for param in params]

    def update_params(self, params, grads):
        for param, grad, velocity in zip(params, grads, self.velocities, strict=True):
            _step(self.name, (param, grad, velocity), *self.rates)


class AdamOptimizer:
    """scikit-learn's, as far as its tests of the updates go."""

    def __init__(self, params, learning_rate_init, beta_1, beta_2, epsilon):
        self.rates = learning_rate_init, float(beta_1), float(beta_2)
        self.epsilon = epsilon
        self.t = 0
        self.ms = [np.zeros_like(param) for param in params]
        self.vs = [np.zeros_like(param) for param in params]

    def update_params(self, params, grads):
        self.t += 1
        # scikit-learn adds epsilon to the root of the second moment before its bias is removed.
        # Its test comes to a beta_2 of 1, which fastbp.adam_step refuses: then nothing moves.
        root = math.sqrt(1 - self.rates[2] ** self.t) or 1.0
        for arrays in zip(params, grads, self.ms, self.vs, strict=True):
            options = kernels.AdamOptions(*self.rates, self.epsilon / root, 0.0)
            _step("adam_step", arrays, options, self.t)


def pytest_collection_finish(session):
    for module in {item.module for item in session.items}:
        for kind in (SGDOptimizer, AdamOptimizer):
            if not hasattr(module, kind.__name__):
                raise AttributeError(f"{module.__name__} has no {kind.__name__} to swap")
            setattr(module, kind.__name__, kind)


def pytest_runtest_setup(item):
    # Equal to the last bit, but for Adam: fastbp multiplies beta^t out where pow rounds once.
    nearly = item.name == "test_adam_optimizer"
    item.module.assert_array_equal = _assert_nearly_equal if nearly else assert_array_equal


def _assert_nearly_equal(expected, found):
    assert_allclose(found, expected, rtol=ADAM_RTOL, atol=0)


def pytest_terminal_summary(terminalreporter):
    for name, count in CALLS.items():
        terminalreporter.write_line(f"kernels.{name} was called {count} times")
