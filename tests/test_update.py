"""Momentum SGD."""

import calls
import numpy as np
import plain_python
import pytest
import reference
from tolerances import assert_same_bits

from fastbp import kernels

SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 1000, 4097)


def draw(size, dtype, seed=0):
    rng = np.random.default_rng([seed, size])
    # of many sizes, so that a fused multiply-add or another order changes bits
    sizes = np.ldexp(1.0, rng.integers(-10, 11, (3, size)))
    return (rng.standard_normal((3, size)) * sizes).astype(dtype)


def assert_right(param, grad, velocity, *rates):
    """Every operation is rounded to the type of the parameters: the result is known bit by bit."""
    __tracebackhide__ = True
    expected = reference.momentum_step(param, grad, velocity, *rates)
    found = calls.momentum_step(param, grad, velocity, *rates)()
    assert_same_bits(found[1], expected[1], "velocity:")
    assert_same_bits(found[0], expected[0], "param:")


@pytest.mark.parametrize("size", SIZES)
def test_matches_reference(dtype, size):
    for rates in ((0.1, 0.9), (1e-3, 0.0), (0.5, 0.99), (1 / 3, 1.0), (0.0, 0.5)):
        assert_right(*draw(size, dtype), *rates)


def test_equals_the_form_of_hinton(dtype):
    """d = mu d + g, theta = theta - eta d, with v = -eta d: exact where eta is a power of two."""
    param, grad, d = draw(100, dtype)
    found, velocity = calls.momentum_step(param, grad, -0.25 * d, 0.25, 0.5)()
    d = dtype.type(0.5) * d + grad
    assert_same_bits(velocity, -0.25 * d)
    assert_same_bits(found, param - 0.25 * d)


def test_special_values(dtype):
    """NaN and infinities go through; an infinite gradient with a rate of 0 is NaN."""
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], dtype)
    arrays = [part.ravel() for part in np.meshgrid(values, values, values)]
    with np.errstate(invalid="ignore"):
        for rates in ((0.1, 0.9), (0.0, 0.0), (0.1, 0.0)):
            assert_right(*arrays, *rates)


def test_extreme_inputs(dtype):
    info = np.finfo(dtype)
    values = np.array([info.max, -info.max, info.tiny, info.smallest_subnormal, 1.0], dtype)
    arrays = [part.ravel() for part in np.meshgrid(values, values, values)]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for rates in ((0.1, 0.9), (1e30, 1.0), (1e-30, 1e-30)):
            assert_right(*arrays, *rates)


def test_no_parameters(dtype):
    assert_right(*draw(0, dtype), 0.1, 0.9)


@pytest.mark.compiled
def test_stays_within_its_arguments():
    calls.assert_stays_within_pages("momentum_step")


def test_read_only_gradient(dtype):
    calls.assert_reads_read_only(calls.momentum_step(*draw(17, dtype)))


def test_step_goes_down_the_gradient():
    """Of f(x) = x^2 / 2."""
    x, velocity = np.array([3.0, -2.0]), np.zeros(2)
    for _ in range(300):
        kernels.momentum_step(x, x.copy(), velocity, 0.1, 0.9)
    np.testing.assert_allclose(x, 0, atol=1e-5)


@pytest.mark.compiled
def test_compiled_equals_plain_python(dtype):
    batches = [draw(size, dtype) for size in SIZES[:9]]
    jobs = [("momentum_step", (*batch, 0.1, 0.9)) for batch in batches]
    for batch, (param, _, velocity) in zip(batches, plain_python.results_of(jobs), strict=True):
        found = calls.momentum_step(*batch)()
        calls.assert_same_results(found, [param, velocity])


@pytest.mark.compiled
def test_one_specialisation_for_each_dtype():
    calls.assert_one_specialisation(
        lambda shape, dtype: calls.momentum_step(*draw(shape[0] * shape[1], dtype)),
        kernels.momentum_step,
    )
