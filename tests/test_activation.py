"""The sigmoid over a batch, forward and backward."""

import calls
import numpy as np
import pytest
import reference
from inputs import CLASSES, ROWS, logits, many_rows
from tolerances import FINITE_DIFFERENCE, STEP, assert_same_bits, assert_ulp

NAN, INF = np.nan, np.inf
KERNELS = {
    "sigmoid_forward": lambda z: calls.sigmoid_forward(z),
    "sigmoid_prime": lambda z: calls.sigmoid_prime(z),
    "sigmoid_backward": lambda z: calls.sigmoid_backward(activations(z), z[:, ::-1].copy()),
}
every_kernel = pytest.mark.parametrize("name", KERNELS)


def activations(z):
    return reference.sigmoid(z).astype(z.dtype)


@pytest.mark.parametrize("width", CLASSES)
def test_matches_reference(dtype, width):
    for turn, n in enumerate(ROWS):
        z = logits("normal", (1.0, 30.0, 300.0)[turn % 3], (n, width), dtype)
        a, delta = activations(z), logits("normal", 1.0, (n, width), dtype, seed=1)
        assert_ulp("sigmoid", calls.sigmoid_forward(z)(), reference.sigmoid(z))
        assert_ulp("sigmoid_derivative", calls.sigmoid_prime(z)(), reference.sigmoid_derivative(z))
        exact = reference.sigmoid_backward(a, delta)
        assert_ulp("sigmoid_backward", calls.sigmoid_backward(a, delta)(), exact)


@pytest.mark.parametrize("width", [1, 7, 16, 33])
def test_special_values(dtype, width):
    for i in range(width):
        for value, a, a_prime in ((NAN, NAN, NAN), (INF, 1, 0), (-INF, 0, 0), (-0.0, 0.5, 0.25)):
            z = np.ones((3, width), dtype)
            ones = calls.sigmoid_forward(z)(), calls.sigmoid_prime(z)()
            z[1, i] = value
            found = calls.sigmoid_forward(z)(), calls.sigmoid_prime(z)()
            np.testing.assert_array_equal([found[0][1, i], found[1][1, i]], [a, a_prime])
            others = np.ones(z.shape, bool)
            others[1, i] = False
            assert_same_bits(found[0][others], ones[0][others])
            assert_same_bits(found[1][others], ones[1][others])


def test_special_values_backward(dtype):
    """Saturated activations pass nothing back, and NaN goes through."""
    a = np.array([[0, 1, 0.5, NAN, 0.5, 0.5]], dtype)
    delta = np.array([[7, 7, -0.0, 1, NAN, INF]], dtype)
    expected = np.array([[0, 0, -0.0, NAN, NAN, INF]], dtype)
    assert_same_bits(calls.sigmoid_backward(a, delta)(), expected)


def test_extreme_inputs(dtype):
    info = np.finfo(dtype)
    z = np.array([[info.max, -info.max, info.tiny, -info.tiny, info.smallest_subnormal]], dtype)
    assert_ulp("sigmoid", calls.sigmoid_forward(z)(), reference.sigmoid(z))
    assert_ulp("sigmoid_derivative", calls.sigmoid_prime(z)(), reference.sigmoid_derivative(z))
    a, delta = np.array([[info.tiny, info.tiny, 1 - info.eps / 2, 0.5]], dtype), z[:, :4].copy()
    exact = reference.sigmoid_backward(a, delta)
    assert_ulp("sigmoid_backward", calls.sigmoid_backward(a, delta)(), exact)


def test_no_rows(dtype):
    for kernel in KERNELS.values():
        assert kernel(np.empty((0, 4), dtype))().size == 0


@every_kernel
@pytest.mark.parametrize("width", CLASSES)
def test_rows_are_independent(dtype, name, width):
    z = logits("normal", 5.0, (many_rows(width), width), dtype)
    calls.assert_rows_independent(KERNELS[name], z)


@pytest.mark.compiled
def test_stays_within_its_arguments():
    calls.assert_stays_within_pages(*KERNELS)


@every_kernel
def test_read_only_inputs(dtype, name):
    calls.assert_reads_read_only(KERNELS[name](logits("normal", 5.0, (5, 17), dtype)))


@pytest.mark.parametrize("name", ["sigmoid_forward", "sigmoid_prime"])
@pytest.mark.parametrize("width", CLASSES)
def test_in_place(dtype, name, width):
    for n in (1, 9):
        calls.assert_in_place(KERNELS[name](logits("normal", 5.0, (n, width), dtype)), 0)


def test_gradient():
    z = logits("normal", 2.0, (5, 7), np.float64)
    slope = calls.sigmoid_forward(z + STEP)() - calls.sigmoid_forward(z - STEP)()
    slope /= 2 * STEP
    np.testing.assert_allclose(calls.sigmoid_prime(z)(), slope, rtol=0, atol=FINITE_DIFFERENCE)
    delta = logits("normal", 1.0, (5, 7), np.float64, seed=1)
    found = calls.sigmoid_backward(calls.sigmoid_forward(z)(), delta)()
    np.testing.assert_allclose(found, delta * slope, rtol=0, atol=5 * FINITE_DIFFERENCE)


@pytest.mark.compiled
def test_compiled_equals_plain_python(dtype):
    batches = [logits("normal", 20.0, (3, width), dtype) for width in (1, 3, 16, 17)]
    calls.assert_plain_is_close([kernel(z) for kernel in KERNELS.values() for z in batches])


@every_kernel
@pytest.mark.compiled
def test_one_specialisation_for_each_dtype(name):
    calls.assert_one_specialisation(lambda *shape: KERNELS[name](logits("normal", 1, *shape)))
