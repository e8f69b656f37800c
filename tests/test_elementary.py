"""exp, log1p, the sigmoid, its derivative and tanh, as scalars in compiled loops."""

import functools

import numba
import numpy as np
import plain_python
import pytest
import reference
from tolerances import assert_same_bits, assert_ulp

from fastbp import kernels
from fastbp._simd import lane, scalar
from fastbp.kernels import elementary

NAN, INF = np.nan, np.inf
EXACT = {
    "exp": lambda x: np.exp(reference.wide(x)),
    "log1p": lambda x: np.log1p(reference.wide(x)),
    "sigmoid": reference.sigmoid,
    "sigmoid_derivative": reference.sigmoid_derivative,
    "tanh": reference.tanh,
}
every_function = pytest.mark.parametrize("name", EXACT)


@functools.cache
def _loop(name):
    function = getattr(elementary, name)

    @numba.njit(error_model="numpy")
    def loop(x, out):
        for q in range(x.size):
            out[q] = function(x[q])

    return loop


def values(name, x):
    """The function at each of ``x``."""
    out = np.empty_like(x)
    with np.errstate(all="ignore"):
        _loop(name)(x, out)
    return out


def assert_right(name, x):
    __tracebackhide__ = True
    with np.errstate(all="ignore"):
        exact = EXACT[name](x)
    assert_ulp(name, values(name, x), exact)


def some_of_all(dtype):
    """Numbers of every size and sign, infinities and NaNs among them."""
    n = 500 if numba.config.DISABLE_JIT else 1_000_000
    if dtype == np.float32:
        step = 2**32 // n | 1
        return np.arange(0, 2**32, step, dtype=np.uint64).astype(np.uint32).view(np.float32)
    bits = np.random.default_rng(0).integers(0, 2**64, n // 4, dtype=np.uint64)
    return bits.view(np.float64)


def around(points, dtype):
    """The numbers next to each of ``points``, to both sides."""
    reach = 3 if numba.config.DISABLE_JIT else 30
    steps = np.arange(-reach, reach + 1) * (np.finfo(dtype).eps / 2)
    return (np.asarray(points, np.float64)[:, None] * (1 + steps)).ravel().astype(dtype)


@every_function
def test_matches_reference(dtype, name):
    assert_right(name, some_of_all(dtype))


@every_function
def test_matches_mpmath(dtype, name):
    x = np.random.default_rng(1).uniform(-30, 30, 50).astype(dtype)
    if name == "log1p":
        x = np.abs(x)
    exact = {
        "exp": reference.exp_mp,
        "log1p": reference.log1p_mp,
        "sigmoid": reference.sigmoid_mp,
        "sigmoid_derivative": reference.sigmoid_derivative_mp,
        "tanh": reference.tanh_mp,
    }[name]
    assert_ulp(name, values(name, x), reference.from_mp([exact(v) for v in x]))


@every_function
def test_edges_of_the_reduction(dtype, name):
    """Multiples of ln 2 and the middles between them; 1 + x a power of two, or half-way."""
    halves = np.arange(-2160, 2060, 40 if numba.config.DISABLE_JIT else 1) * (np.log(2) / 2)
    powers = np.ldexp(1.0, np.arange(-60, 61))
    mantissas = np.array([1, 1.25, 4 / 3, np.sqrt(2), 1.5, 1.75])
    assert_right(name, around(halves, dtype))
    assert_right(name, around(halves / 2, dtype))  # tanh reduces 2 z
    assert_right(name, around((powers[:, None] * mantissas).ravel() - 1, dtype))
    assert_right(name, around(np.concatenate((powers, -powers)), dtype))


@every_function
def test_limits(dtype, name):
    """Where results overflow, become subnormal, and vanish."""
    info = np.finfo(dtype)
    smallest = float(info.smallest_subnormal)
    logs = np.log([float(info.max), float(info.tiny), float(info.eps)])
    # the logarithm of half the smallest subnormal, which is none itself
    logs = np.append(logs, np.log(float(info.tiny)) - np.log(2) * np.array([info.nmant, 1]))
    logs = np.append(logs, logs[-2] - np.log(2))
    assert_right(name, around(np.concatenate((logs, -logs)), dtype))
    ends = np.array([info.max, info.tiny, smallest, 2 * smallest, info.tiny / 2], dtype)
    assert_right(name, np.concatenate((ends, -ends)))
    one = (np.log(8 / float(info.eps)) / 2 * np.linspace(0.8, 1.2, 81)).astype(dtype)
    assert_right(name, np.concatenate((one, -one)))  # where tanh rounds to it


@every_function
def test_subnormal_results(dtype, name):
    info = np.finfo(dtype)
    low = np.log(float(info.tiny)) - np.log(2) * (info.nmant + 1)
    n = 100 if numba.config.DISABLE_JIT else 100_000
    x = np.random.default_rng(2).uniform(low, np.log(float(info.tiny)), n).astype(dtype)
    assert_right(name, x)
    assert_right(name, -x)
    assert_right(name, np.ldexp(x, -1000).astype(dtype))


SPECIAL = {
    "exp": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (NAN, NAN), (1e6, INF), (-1e6, 0.0)],
    "log1p": [
        (0.0, 0.0),
        (-0.0, -0.0),
        (INF, INF),
        (-1.0, -INF),
        (-1.5, NAN),
        (-INF, NAN),
        (NAN, NAN),
    ],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (INF, 1.0), (-INF, 0.0), (NAN, NAN), (1e6, 1.0)],
    "sigmoid_derivative": [(0.0, 0.25), (-0.0, 0.25), (INF, 0.0), (-INF, 0.0), (NAN, NAN)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (-1e6, -1.0)],
}


@every_function
def test_special_values(dtype, name):
    x, expected = np.array(SPECIAL[name], dtype).T.copy()
    assert_same_bits(values(name, x), expected)
    # in the middle and in the tail of a vector
    for n in (7, 33):
        for i in range(n):
            padded = np.ones(n, dtype)
            padded[i] = x[i % len(x)]
            assert_same_bits(values(name, padded)[i : i + 1], expected[i % len(x)][None])


@every_function
def test_every_place_in_a_loop_gives_the_same(dtype, name):
    """A vector and the scalar left-overs behind it agree to the last bit."""
    x = np.random.default_rng(3).normal(0, 20, 67).astype(dtype)
    whole = values(name, x)
    for first in range(0, 67, 3):
        for n in (1, 2, 5, 15, 16, 17):
            part = x[first : first + n]
            assert_same_bits(values(name, part), whole[first : first + n])


def test_sigmoid_is_a_probability(dtype):
    a = values("sigmoid", some_of_all(dtype))
    a = a[~np.isnan(a)]
    assert (a >= 0).all()
    assert (a <= 1).all()


def test_sigmoid_derivative_is_even(dtype):
    x = some_of_all(dtype)
    assert_same_bits(values("sigmoid_derivative", -x), values("sigmoid_derivative", x))


def test_tanh_is_odd(dtype):
    x = some_of_all(dtype)
    assert_same_bits(values("tanh", -x), -values("tanh", x))


def test_tanh_stays_between_its_limits(dtype):
    x = some_of_all(dtype)
    x = x[~np.isnan(x)]
    a = values("tanh", x)
    assert (np.abs(a) <= 1).all()
    assert (np.abs(a) <= np.abs(x)).all()


def test_tanh_of_small_numbers_is_their_own_value(dtype):
    """Down to the smallest subnormal; and it is theirs as long as z^3 / 3 is below half an ulp."""
    info = np.finfo(dtype)
    sizes = np.ldexp(dtype.type(1), np.arange(info.minexp - info.nmant, -info.nmant // 2 - 1))
    x = np.concatenate((sizes, 3 * sizes[:-2], info.tiny - sizes[: info.nmant]))
    assert (x > 0).all()
    assert_same_bits(values("tanh", x), x)
    assert_same_bits(values("tanh", -x), -x)


def test_tanh_of_neighbours_keeps_their_order(dtype):
    """Consecutive numbers: around what the reduction and the ends turn on, and anywhere."""
    kind = np.dtype(f"i{dtype.itemsize}")
    rng = np.random.default_rng(5)
    turns = np.log(2) / 4 * np.arange(1, 110, 2)
    anywhere = np.ldexp(rng.uniform(1, 2, 100), rng.integers(-30, 5, 100))
    starts = np.concatenate((turns, anywhere, [2.0**-54, 9.1, 19.1, 1.0, 0.5])).astype(dtype)
    if numba.config.DISABLE_JIT:
        starts = starts[::15]
    reach = np.arange(-10, 11) if numba.config.DISABLE_JIT else np.arange(-2000, 2001)
    for start in starts:
        x = (start.view(kind) + reach.astype(kind)).view(dtype)
        assert (np.diff(x) > 0).all()
        assert (np.diff(values("tanh", x)) >= 0).all(), start


@every_function
def test_gradient(name):
    derivative = {
        "exp": np.exp,
        "log1p": lambda x: 1 / (1 + x),
        "sigmoid": lambda x: values("sigmoid_derivative", x),
        "sigmoid_derivative": lambda x: (
            values("sigmoid_derivative", x) * (1 - 2 * values("sigmoid", x))
        ),
        "tanh": lambda x: 1 - values("tanh", x) ** 2,
    }[name]
    x, step = np.linspace(-0.9, 3, 40), 1e-5
    slope = (values(name, x + step) - values(name, x - step)) / (2 * step)
    np.testing.assert_allclose(slope, derivative(x), rtol=1e-6, atol=1e-10)


@numba.njit
def _exp_parts(x):
    r, small, shifted = elementary.exp_parts(lane(x))
    return scalar(r), scalar(small), scalar(shifted)


def test_parts_of_exp_are_more_precise_than_their_sum(dtype):
    """On average within a fortieth of eps, which a sum would round to a quarter of it."""
    x = np.random.default_rng(0).uniform(-5, 5, 2000).astype(dtype)
    r, small, shifted = reference.wide(np.array([_exp_parts(number) for number in x])).T
    n = shifted - 1.5 * 2.0 ** np.finfo(dtype).nmant
    exact = np.exp(reference.wide(x) - n * np.log(reference.wide(np.array(2.0))))
    error = np.abs((1 + r + small) / exact - 1)
    assert error.mean() <= np.finfo(dtype).eps / 40


@pytest.mark.compiled
def test_compiled_equals_plain_python(dtype):
    x = np.random.default_rng(4).normal(0, 30, 200).astype(dtype)
    batches = {name: np.append(x, np.array(SPECIAL[name], dtype)[:, 0]) for name in EXACT}
    jobs = [(name, (batch,)) for name, batch in batches.items()]
    for name, (found,) in zip(EXACT, plain_python.results_of(jobs), strict=True):
        assert found.dtype == dtype
        with np.errstate(all="ignore"):
            assert_ulp(name, found, EXACT[name](batches[name]))


@every_function
def test_scalar_call(dtype, name):
    """From Python, one number."""
    x = dtype.type(0.75)
    assert getattr(elementary, name)(x) == values(name, np.array([x]))[0]


@pytest.mark.parametrize("name", kernels.__all__)
def test_every_public_kernel_is_a_function(name):
    """A module of the same name would hide it."""
    assert callable(getattr(kernels, name))
