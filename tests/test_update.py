"""The parameter update: momentum, Nesterov's momentum, Adam."""

from fractions import Fraction

import calls
import numba
import numpy as np
import plain_python
import pytest
import reference
from tolerances import ADAM, assert_same_bits

from fastbp import kernels
from fastbp._simd import flat
from fastbp.kernels import update

SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 1000, 4097)
WITH_VELOCITY = ("momentum_step", "nesterov_step")
STEPS = (*WITH_VELOCITY, "adam_step")
with_velocity = pytest.mark.parametrize("name", WITH_VELOCITY)
every_step = pytest.mark.parametrize("name", STEPS)


def draw(size, dtype, seed=0):
    rng = np.random.default_rng([seed, size])
    # of many sizes, so that a fused multiply-add or another order changes bits
    sizes = np.ldexp(1.0, rng.integers(-10, 11, (3, size)))
    return (rng.standard_normal((3, size)) * sizes).astype(dtype)


def arrays_of(name, size, dtype, seed=0):
    """Parameters, gradient and state of a step."""
    arrays = draw(size, dtype, seed)
    if name != "adam_step":
        return arrays
    return [*arrays, (draw(size, dtype, seed + 1)[0] ** 2).astype(dtype)]


def assert_right(name, param, grad, velocity, *rates):
    """Every operation is rounded to the type of the parameters: the result is known bit by bit."""
    __tracebackhide__ = True
    expected = getattr(reference, name)(param, grad, velocity, *rates)
    found = getattr(calls, name)(param, grad, velocity, *rates)()
    assert_same_bits(found[1], expected[1], "velocity:")
    assert_same_bits(found[0], expected[0], "param:")


def assert_adam_right(param, grad, first, second, **rates):
    """The moments are known bit by bit, the parameters up to a few roundings."""
    __tracebackhide__ = True
    found, m, v = calls.adam_step(param, grad, first, second, **rates)()
    betas = rates.get("beta_1", 0.9), rates.get("beta_2", 0.999)
    expected = reference.moments(grad, first, second, *betas)
    assert_same_bits(m, expected[0], "first:")
    assert_same_bits(v, expected[1], "second:")
    exact, size = reference.adam_step(param, grad, first, second, **rates)
    error = np.abs(reference.wide(found) - exact) / size
    allowed = ADAM * np.finfo(param.dtype).eps + CORRECTIONS
    assert (error <= allowed).all(), f"{error.max() / allowed} times what is allowed"


#: Relative error of the step size, from both 1 - beta^t: three roundings for each doubling of t.
CORRECTIONS = 40 * 2.0**-53


@with_velocity
@pytest.mark.parametrize("size", SIZES)
def test_matches_reference(dtype, name, size):
    for rates in ((0.1, 0.9), (1e-3, 0.0), (0.5, 0.99), (1 / 3, 1.0), (0.0, 0.5)):
        assert_right(name, *draw(size, dtype), *rates)


@pytest.mark.parametrize("size", SIZES)
def test_adam_matches_reference(dtype, size):
    arrays = arrays_of("adam_step", size, dtype)
    for rates in (
        {},
        {"t": 2, "learning_rate": 0.1},
        {"t": 50, "weight_decay": 0.01, "learning_rate": 0.5},
        {"t": 1000, "beta_1": 0.0, "beta_2": 0.5, "epsilon": 1.0},
        {"t": 10**12, "beta_1": 0.99, "beta_2": 0.0, "weight_decay": 1.0, "learning_rate": 1.0},
        {"t": 3, "epsilon": 0.0, "learning_rate": 0.0, "weight_decay": 5.0},
    ):
        assert_adam_right(*arrays, **rates)


def test_adam_in_its_first_fifty_steps(dtype):
    """Each step is compared from where the last one has ended."""
    rng = np.random.default_rng(0)
    param, first, second = draw(37, dtype)[0], np.zeros(37, dtype), np.zeros(37, dtype)
    for t in range(1, 51):
        grad = rng.standard_normal(37).astype(dtype)
        rates = {"learning_rate": 0.1, "weight_decay": 0.01 * (t % 2), "t": t}
        assert_adam_right(param, grad, first, second, **rates)
        param, first, second = calls.adam_step(param, grad, first, second, **rates)()


def test_adam_steps_by_the_learning_rate_while_the_gradient_stays(dtype):
    """Both moments, their bias removed, are then those of the gradient, at every t."""
    grad = draw(33, dtype)[0]
    param, first, second = np.zeros(33, dtype), np.zeros(33, dtype), np.zeros(33, dtype)
    for t in range(1, 51):
        before = param.copy()
        options = kernels.AdamOptions(0.125, 0.9, 0.999, 0.0, 0.0)
        kernels.adam_step(param, grad, first, second, options, t)
        step = reference.wide(param) - before
        # the moments have gathered t roundings, the sum of the steps its own
        atol = (0.125 * 3 * t + np.abs(param).max()) * np.finfo(dtype).eps
        atol += 0.125 * CORRECTIONS
        np.testing.assert_allclose(step, -0.125 * np.sign(grad), rtol=0, atol=atol)


def test_adam_without_gradients(dtype):
    """Nothing moves but what decays."""
    param, zeros = draw(19, dtype)[0], np.zeros(19, dtype)
    for t in range(1, 51):
        found = calls.adam_step(param, zeros, zeros, zeros, t=t)()
        calls.assert_same_results(found, [param, zeros, zeros])
    found = calls.adam_step(param, zeros, zeros, zeros, 0.5, weight_decay=0.5, t=7)()
    calls.assert_same_results(found, [param - dtype.type(0.25) * param, zeros, zeros])


def test_one_minus_a_power():
    """A small difference from 1 keeps its digits."""
    for base in (0.0, 0.25, 0.5, 0.9, 0.999, 1 - 2.0**-53):
        for n in (*range(1, 51), 1000, 12_345):
            exact = 1 - Fraction(base) ** n
            allowed = 3 * n.bit_length() * exact / 2**53
            assert abs(Fraction(_one_minus_power(base, n)) - exact) <= allowed
    assert _one_minus_power(0.5, 10) == 1 - 2.0**-10
    assert _one_minus_power(0.999, 10**12) == 1


@numba.njit
def _one_minus_power(base, n):
    return update.one_minus_power(base, n)


@pytest.mark.parametrize("size", SIZES[:12])
def test_subnormal_numbers_of_either_sign_become_zero(dtype, size):
    info = np.finfo(dtype)
    values = [0.0, info.smallest_subnormal, info.tiny / 2, info.tiny, 1.0, info.max, np.inf, np.nan]
    memory = np.resize(np.array([*values, *np.negative(values)], dtype), size + 1)
    expected = np.where(np.abs(memory) < info.tiny, dtype.type(0), memory)
    expected[-1] = memory[-1] = info.smallest_subnormal  # behind the end
    _flush(memory, size)
    np.testing.assert_array_equal(memory, expected)


@numba.njit
def _flush(memory, n):
    update.flush(flat(memory), n)


def torch_steps(torch, optimizer, param, grads, **options):
    there = torch.tensor(param)
    there.requires_grad = True
    method = optimizer([there], **options)
    for grad in grads:
        there.grad = torch.tensor(grad)
        method.step()
    return there.detach().numpy()


@pytest.mark.parametrize("decay", [0.0, 0.01, 0.5])
def test_adam_is_torchs(decay):
    torch = pytest.importorskip("torch", reason="the peer whose optimisers these are")
    rng = np.random.default_rng(0)
    param, grads = rng.standard_normal(37), rng.standard_normal((20, 37))
    grads[:, 5] = 0
    names = {"AdamW": {"weight_decay": decay}} | ({} if decay else {"Adam": {}})
    for betas, eps in (((0.9, 0.999), 1e-8), ((0.5, 0.9), 1e-3)):
        theta, first, second = param.copy(), np.zeros(37), np.zeros(37)
        for t, grad in enumerate(grads, 1):
            options = kernels.AdamOptions(0.01, *betas, eps, decay)
            kernels.adam_step(theta, grad, first, second, options, t)
        for name, options in names.items():
            options = options | {"lr": 0.01, "betas": betas, "eps": eps}
            expected = torch_steps(torch, getattr(torch.optim, name), param, grads, **options)
            np.testing.assert_allclose(theta, expected, rtol=1e-12, atol=0)


def test_nesterov_is_torchs():
    """Whose velocity is -1 / eta times ours, and which leaves out the first look ahead."""
    torch = pytest.importorskip("torch", reason="the peer whose optimisers these are")
    rng = np.random.default_rng(0)
    param, grads = rng.standard_normal(37), rng.standard_normal((20, 37))
    theta, velocity = param.copy(), np.zeros(37)
    for grad in grads:
        kernels.nesterov_step(theta, grad, velocity, 0.1, 0.9)
    options = {"lr": 0.1, "momentum": 0.9, "nesterov": True}
    expected = torch_steps(torch, torch.optim.SGD, param, grads, **options)
    np.testing.assert_allclose(theta, expected, rtol=1e-12, atol=1e-14)


def test_equals_the_form_of_hinton(dtype):
    """d = mu d + g, theta = theta - eta d, with v = -eta d: exact where eta is a power of two."""
    param, grad, d = draw(100, dtype)
    found, velocity = calls.momentum_step(param, grad, -0.25 * d, 0.25, 0.5)()
    d = dtype.type(0.5) * d + grad
    assert_same_bits(velocity, -0.25 * d)
    assert_same_bits(found, param - 0.25 * d)


def test_nesterov_looks_ahead():
    """theta + mu v follows the form with the gradient at theta + mu v, which Sutskever writes."""
    x, v, ahead, velocity = 3.0, 0.0, np.array([3.0]), np.zeros(1)
    for _ in range(30):
        v = 0.875 * v - 0.25 * (x + 0.875 * v)  # the gradient of x^2 / 2
        x += v
        kernels.nesterov_step(ahead, ahead.copy(), velocity, 0.25, 0.875)
        np.testing.assert_allclose(ahead, x + 0.875 * v, rtol=0, atol=1e-14)
        np.testing.assert_allclose(velocity, v, rtol=0, atol=1e-14)


@with_velocity
def test_special_values(dtype, name):
    """NaN and infinities go through; an infinite gradient with a rate of 0 is NaN."""
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], dtype)
    arrays = [part.ravel() for part in np.meshgrid(values, values, values)]
    with np.errstate(invalid="ignore"):
        for rates in ((0.1, 0.9), (0.0, 0.0), (0.1, 0.0)):
            assert_right(name, *arrays, *rates)


@pytest.mark.parametrize("place", [0, 1, 7, 15, 16, 17])
def test_special_values_of_adam(dtype, place):
    """A parameter's NaN and infinities are its own."""
    arrays = arrays_of("adam_step", 18, dtype)
    clean = calls.adam_step(*arrays)()
    others = np.arange(18) != place
    theta = arrays[0][place]
    for changes, expected in (
        ({1: np.nan}, (np.nan, np.nan, np.nan)),
        ({1: np.inf}, (np.nan, np.inf, np.inf)),
        ({1: -np.inf}, (np.nan, -np.inf, np.inf)),
        ({0: np.inf}, (np.nan, None, None)),  # inf - 0 inf: the share that decays
        ({2: np.nan}, (np.nan, np.nan, None)),
        ({2: -np.inf}, (np.inf, -np.inf, None)),
        ({3: np.inf}, (theta, None, np.inf)),
    ):
        changed = [array.copy() for array in arrays]
        for which, value in changes.items():
            changed[which][place] = value
        with np.errstate(invalid="ignore"):
            found = calls.adam_step(*changed)()
        for one, same, value in zip(found, clean, expected, strict=True):
            value = same[place] if value is None else value
            assert_same_bits(one[place : place + 1], np.array([value], dtype))
            assert_same_bits(one[others], same[others])


@with_velocity
def test_extreme_inputs(dtype, name):
    info = np.finfo(dtype)
    values = np.array([info.max, -info.max, info.tiny, info.smallest_subnormal, 1.0], dtype)
    arrays = [part.ravel() for part in np.meshgrid(values, values, values)]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for rates in ((0.1, 0.9), (1e30, 1.0), (1e-30, 1e-30)):
            assert_right(name, *arrays, *rates)


def test_extreme_inputs_of_adam(dtype):
    """A gradient whose square overflows moves nothing; one whose square is 0 is below epsilon."""
    info = np.finfo(dtype)
    grad = np.array([info.max, -info.max, info.tiny, -info.smallest_subnormal], dtype)
    zeros, ones = np.zeros(4, dtype), np.ones(4, dtype)
    with np.errstate(over="ignore", under="ignore"):
        theta, first, second = calls.adam_step(ones, grad, zeros, zeros)()
        expected = reference.moments(grad, zeros, zeros, 0.9, 0.999)
    assert_same_bits(first, expected[0])
    assert_same_bits(second, expected[1])
    np.testing.assert_array_equal(second, [np.inf, np.inf, 0, 0])
    np.testing.assert_array_equal(theta, ones)


@every_step
def test_no_parameters(dtype, name):
    found = getattr(calls, name)(*arrays_of(name, 0, dtype))()
    assert all(array.size == 0 for array in found)


@pytest.mark.compiled
def test_stays_within_its_arguments():
    calls.assert_stays_within_pages(*STEPS)


@every_step
def test_read_only_gradient(name):
    calls.assert_reads_read_only(getattr(calls, name)(*arrays_of(name, 17, np.dtype("f4"))))


@with_velocity
def test_step_goes_down_the_gradient(name):
    """Of f(x) = x^2 / 2."""
    x, velocity = np.array([3.0, -2.0]), np.zeros(2)
    for _ in range(300):
        getattr(kernels, name)(x, x.copy(), velocity, 0.1, 0.9)
    np.testing.assert_allclose(x, 0, atol=1e-5)


def test_adam_goes_down_the_gradient():
    """Of f(x) = x^2 / 2: to the minimum and around it."""
    x, first, second = np.array([3.0, -2.0]), np.zeros(2), np.zeros(2)
    for t in range(1, 1001):
        options = kernels.AdamOptions(0.02, 0.9, 0.999, 1e-8, 0.0)
        kernels.adam_step(x, x.copy(), first, second, options, t)
    np.testing.assert_allclose(x, 0, atol=0.02)


@every_step
@pytest.mark.compiled
def test_compiled_equals_plain_python(dtype, name):
    rates = (0.1, 0.9, 0.999, 1e-8, 0.01, 7) if name == "adam_step" else (0.1, 0.9)
    batches = [arrays_of(name, size, dtype) for size in SIZES[:9]]
    arguments = (kernels.AdamOptions(*rates[:5]), 7) if name == "adam_step" else rates
    jobs = [(name, (*batch, *arguments)) for batch in batches]
    for batch, (param, _, *state) in zip(batches, plain_python.results_of(jobs), strict=True):
        found = getattr(calls, name)(*batch, *rates)()
        calls.assert_same_results(found, [param, *state])


@every_step
@pytest.mark.compiled
def test_one_specialisation_for_each_dtype(name):
    calls.assert_one_specialisation(
        lambda shape, dtype: getattr(calls, name)(*arrays_of(name, shape[0] * shape[1], dtype)),
        getattr(kernels, name),
    )
