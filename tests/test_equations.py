"""Each equation that the kernels are named after, proved by itself.

Derivatives are compared with central differences of the cost, computed by the kernels in float64.
"""

import numpy as np
import pytest
from tolerances import FINITE_DIFFERENCE, STEP

from fastbp import kernels

N, FAN_IN, HIDDEN, CLASSES = 7, 5, 6, 4
ONES = np.empty(0)  # every row weighs one
EACH_CLASS = [0, 1, 2, 3]


def differences(cost, variable):
    """Central differences of ``cost()`` with respect to each entry of ``variable``."""
    slope = np.empty_like(variable)
    for q in np.ndindex(variable.shape):
        centre = variable[q]
        variable[q] = centre + STEP
        above = cost()
        variable[q] = centre - STEP
        slope[q] = (above - cost()) / (2 * STEP)
        variable[q] = centre
    cost()  # leaves all that was computed as it was
    return slope


def assert_slope(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=FINITE_DIFFERENCE)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def network(rng):
    """One hidden layer and everything a pass over it computes, in float64."""
    return Pass(rng)


class Pass:
    """Arrays named as in the equations, of the last two layers of a network."""

    def __init__(self, rng):
        self.a_prev = rng.uniform(0, 1, (N, FAN_IN))
        self.w, self.b = rng.normal(size=(FAN_IN, HIDDEN)), rng.normal(size=HIDDEN)
        self.w_next, self.b_next = rng.normal(size=(HIDDEN, CLASSES)), rng.normal(size=CLASSES)
        self.labels = rng.integers(0, CLASSES, N)
        self.z, self.z_next = np.empty((N, HIDDEN)), np.empty((N, CLASSES))
        self.a, self.a_next = np.empty_like(self.z), np.empty_like(self.z_next)
        self.delta, self.delta_next = np.empty_like(self.z), np.empty_like(self.z_next)
        self.from_input()
        kernels.softmax(self.z_next, self.a_next)
        kernels.output_error(self.a_next, self.labels, self.delta_next)
        kernels.hidden_error(self.delta_next, self.w_next, self.a, self.delta)

    def from_input(self):
        """Mean cost, from a^(l-1) on."""
        kernels.dense_forward(self.a_prev, self.w, self.b, self.z)
        return self.from_hidden()

    def from_hidden(self):
        """Mean cost, from z^l on."""
        kernels.sigmoid_forward(self.z, self.a)
        kernels.dense_forward(self.a, self.w_next, self.b_next, self.z_next)
        return self.from_logits()

    def from_logits(self):
        """Mean cost, from z^L on."""
        loss = np.empty(N)
        kernels.cross_entropy(self.z_next, self.labels, ONES, loss)
        return kernels.loss_sum(loss) / N


@pytest.mark.parametrize("i", EACH_CLASS)
@pytest.mark.parametrize("j", EACH_CLASS)
def test_softmax_derivative(network, i, j):
    """On the diagonal a_i (1 - a_i); off it -a_j a_i."""
    z, a, moved = network.z_next.copy(), network.a_next, np.empty_like(network.z_next)
    slope = 0.0
    for sign in (1, -1):
        z[:, i] = network.z_next[:, i] + sign * STEP
        kernels.softmax(z, moved)
        slope += sign * moved[:, j] / (2 * STEP)
    assert_slope(slope, a[:, i] * (1 - a[:, i]) if i == j else -a[:, j] * a[:, i])


def test_bp1_output_error(network):
    """delta^L = a^L - y is the derivative of the cost of a row with respect to z^L."""
    assert_slope(network.delta_next / N, differences(network.from_logits, network.z_next))


@pytest.mark.parametrize("total", [1.0, 0.3, 2.5])
def test_bp1_output_error_of_soft_targets(network, rng, total):
    """delta^L = a^L sum(y) - y, which is a^L - y where y sums to one."""
    y = total * rng.dirichlet(np.ones(CLASSES), N)
    loss, delta, fused = np.empty(N), np.empty((N, CLASSES)), np.empty((N, CLASSES))

    def cost():
        kernels.cross_entropy_targets(network.z_next, y, ONES, loss)
        return kernels.loss_sum(loss)

    kernels.output_error_targets(network.a_next, y, delta)
    kernels.softmax_cross_entropy_targets(network.z_next, y, ONES, loss, fused, 1.0)
    assert_slope(delta, differences(cost, network.z_next))
    np.testing.assert_allclose(fused, delta, rtol=0, atol=1e-14)
    if total == 1.0:
        np.testing.assert_allclose(delta, network.a_next - y, rtol=0, atol=1e-14)


def test_bp2_hidden_error(network):
    """delta^l = (delta^(l+1) W^(l+1)T) * a^l (1 - a^l)."""
    assert_slope(network.delta / N, differences(network.from_hidden, network.z))


def test_bp3_bias_gradient(network):
    """dC/db^l = the mean of delta^l over the batch."""
    for delta, b in ((network.delta, network.b), (network.delta_next, network.b_next)):
        grad_b = np.empty_like(b)
        kernels.bias_gradient(delta, grad_b)
        assert_slope(grad_b, differences(network.from_input, b))


def test_bp4_weight_gradient(network):
    """dC/dW^l = a^(l-1)T delta^l / n."""
    first = (network.a_prev, network.delta, network.w)
    for a_prev, delta, w in (first, (network.a, network.delta_next, network.w_next)):
        grad_w = np.empty_like(w)
        kernels.weight_gradient(a_prev, delta, grad_w)
        assert_slope(grad_w, differences(network.from_input, w))
