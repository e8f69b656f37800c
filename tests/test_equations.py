"""Each equation that the kernels are named after, proved by itself.

Derivatives are compared with central differences of the cost, computed by the kernels in float64,
and with longdouble.
"""

import numpy as np
import pytest
import reference
from tolerances import EPS, FINITE_DIFFERENCE, STEP, assert_product, assert_ulp

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


def test_weighted_input(network):
    """z^l = a^(l-1) W^l + b^l."""
    exact = reference.dense_forward(network.a_prev, network.w, network.b)
    magnitude = reference.dense_forward(abs(network.a_prev), abs(network.w), abs(network.b))
    assert_product("dense_forward", network.z, exact, magnitude, FAN_IN)


def test_sigmoid_and_its_derivative():
    """a' = a (1 - a)."""
    z = np.linspace(-5, 5, 21).reshape(3, 7)
    a, a_prime, above, below = (np.empty_like(z) for _ in range(4))
    kernels.sigmoid_forward(z, a)
    kernels.sigmoid_prime(z, a_prime)
    kernels.sigmoid_forward(z + STEP, above)
    kernels.sigmoid_forward(z - STEP, below)
    assert_slope(a_prime, (above - below) / (2 * STEP))
    np.testing.assert_allclose(a_prime, a * (1 - a), rtol=1e-13)


def test_softmax_rows_sum_to_one(rng, dtype):
    z = rng.normal(scale=20, size=(50, CLASSES)).astype(dtype)
    a = np.empty_like(z)
    kernels.softmax(z, a)
    error = abs(reference.wide(a).sum(axis=1) - 1)
    assert (error <= EPS["rows_sum_to_one"] * CLASSES**0.5 * np.finfo(dtype).eps).all()
    assert (a >= 0).all()
    assert (a <= 1).all()


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


def test_cross_entropy_of_a_label_is_minus_log_of_its_probability(network):
    """C_x = -sum_i y_i ln a_i = -ln a_label."""
    y = reference.onehot(network.labels, CLASSES)
    by_label, by_targets = np.empty(N), np.empty(N)
    kernels.cross_entropy(network.z_next, network.labels, ONES, by_label)
    kernels.cross_entropy_targets(network.z_next, y, ONES, by_targets)
    expected = -np.log(network.a_next[np.arange(N), network.labels])
    np.testing.assert_allclose(by_label, expected, rtol=1e-13)
    np.testing.assert_allclose(by_targets, expected, rtol=1e-13)
    assert_ulp("cross_entropy", by_label, reference.cross_entropy(network.z_next, network.labels))


def test_bp1_output_error(network):
    """delta^L = a^L - y is the derivative of the cost of a row with respect to z^L."""
    assert_slope(network.delta_next / N, differences(network.from_logits, network.z_next))
    exact = reference.Rows(network.z_next).output_error(network.labels)
    # a - y as two roundings of numbers below one
    assert (abs(network.delta_next - exact) <= 4 * np.finfo(float).eps).all()


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
    exact = reference.hidden_error(network.delta_next, network.w_next, network.a)
    magnitude = abs(network.delta_next) @ abs(network.w_next).T * network.a * (1 - network.a)
    assert_product("hidden_error", network.delta, exact, magnitude, CLASSES)
    assert_slope(network.delta / N, differences(network.from_hidden, network.z))


def test_bp3_bias_gradient(network):
    """dC/db^l = the mean of delta^l over the batch."""
    for delta, b in ((network.delta, network.b), (network.delta_next, network.b_next)):
        grad_b = np.empty_like(b)
        kernels.bias_gradient(delta, grad_b)
        exact = reference.bias_gradient(delta)
        assert_product("bias_gradient", grad_b, exact, abs(delta).mean(axis=0), N)
        assert_slope(grad_b, differences(network.from_input, b))


def test_bp4_weight_gradient(network):
    """dC/dW^l = a^(l-1)T delta^l / n."""
    first = (network.a_prev, network.delta, network.w)
    for a_prev, delta, w in (first, (network.a, network.delta_next, network.w_next)):
        grad_w = np.empty_like(w)
        kernels.weight_gradient(a_prev, delta, grad_w)
        exact = reference.weight_gradient(a_prev, delta)
        assert_product("weight_gradient", grad_w, exact, a_prev.T @ abs(delta) / N, N)
        assert_slope(grad_w, differences(network.from_input, w))


def velocity_form(theta, gradients, learning_rates, momentum):
    """v <- mu v - eta g; theta <- theta + v."""
    theta, v = theta.copy(), np.zeros_like(theta)
    for g, eta in zip(gradients, learning_rates, strict=True):
        kernels.momentum_step(theta, g, v, eta, momentum)
    return theta, v


def hinton_form(theta, gradients, learning_rates, momentum):
    """d <- mu d + g; theta <- theta - eta d."""
    d = np.zeros_like(theta)
    for g, eta in zip(gradients, learning_rates, strict=True):
        d = momentum * d + g
        theta = theta - eta * d
    return theta, d


def test_both_forms_of_momentum_are_equal_while_the_learning_rate_is_constant(rng):
    """v = -eta d."""
    theta, gradients = rng.normal(size=11), rng.normal(size=(40, 11))
    by_velocity, v = velocity_form(theta, gradients, [0.1] * 40, 0.9)
    by_hinton, d = hinton_form(theta, gradients, [0.1] * 40, 0.9)
    np.testing.assert_allclose(by_velocity, by_hinton, rtol=0, atol=1e-14)
    np.testing.assert_allclose(v, -0.1 * d, rtol=0, atol=1e-15)


def test_the_forms_of_momentum_part_when_the_learning_rate_changes(rng):
    theta, gradients = rng.normal(size=11), rng.normal(size=(2, 11))
    by_velocity, _ = velocity_form(theta, gradients, [0.1, 0.2], 0.9)
    by_hinton, _ = hinton_form(theta, gradients, [0.1, 0.2], 0.9)
    # d of the first step counts with the new eta: mu (eta_2 - eta_1) g_1
    np.testing.assert_allclose(by_velocity - by_hinton, 0.9 * 0.1 * gradients[0], atol=1e-15)


def test_momentum_step_rounds_each_operation(rng, dtype):
    theta, g, v = (rng.normal(size=101).astype(dtype) for _ in range(3))
    expected, expected_v = reference.momentum_step(theta, g, v, 0.1, 0.9)
    kernels.momentum_step(theta, g, v, 0.1, 0.9)
    np.testing.assert_array_equal(theta, expected)
    np.testing.assert_array_equal(v, expected_v)
