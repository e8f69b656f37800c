"""The sigmoid, tanh and relu over a batch, forward and backward."""

import calls
import numpy as np
import pytest
import reference
from inputs import CLASSES, ROWS, logits, many_rows
from numba import config
from tolerances import FINITE_DIFFERENCE, STEP, assert_same_bits, assert_ulp

NAN, INF = np.nan, np.inf
# Of z: the call, the quantity, and what it should give.
OF_Z = {
    "sigmoid_forward": (calls.sigmoid_forward, "sigmoid", reference.sigmoid),
    "sigmoid_derivative_forward": (
        calls.sigmoid_derivative_forward,
        "sigmoid_derivative",
        reference.sigmoid_derivative,
    ),
    "tanh_forward": (calls.tanh_forward, "tanh", reference.tanh),
    "relu_forward": (calls.relu_forward, "relu", reference.relu),
}
# Of activations and errors: the activations of z as well.
BACKWARD = {
    "sigmoid_backward": (calls.sigmoid_backward, reference.sigmoid, reference.sigmoid_backward),
    "tanh_backward": (calls.tanh_backward, reference.tanh, reference.tanh_backward),
    "relu_backward": (calls.relu_backward, reference.relu, reference.relu_backward),
}
KERNELS = tuple(OF_Z) + tuple(BACKWARD)
every_kernel = pytest.mark.parametrize("name", KERNELS)


def call_of(name, z):
    if name in OF_Z:
        return OF_Z[name][0](z)
    call, activation, _ = BACKWARD[name]
    return call(activation(z).astype(z.dtype), z[:, ::-1].copy())


def where_fused(exact, delta):
    """Where to measure errors: plain Python's multiply-add has eleven bits more, not all of them.

    The bits that it lacks are those of delta a^2, most of which 1 - a^2 takes away.
    """
    return np.maximum(np.abs(exact), np.abs(delta) * 2.0**-10) if config.DISABLE_JIT else None


@every_kernel
@pytest.mark.parametrize("width", CLASSES)
def test_matches_reference(dtype, name, width):
    for turn, n in enumerate(ROWS):
        z = logits("normal", (1.0, 30.0, 300.0)[turn % 3], (n, width), dtype)
        if name in OF_Z:
            call, quantity, exact = OF_Z[name]
            assert_ulp(quantity, call(z)(), exact(z))
        else:
            call, activation, exact = BACKWARD[name]
            a, delta = activation(z).astype(dtype), logits("normal", 1.0, z.shape, dtype, seed=1)
            assert_ulp(name, call(a, delta)(), exact(a, delta), where_fused(exact(a, delta), delta))


SPECIAL = {
    "sigmoid_forward": [(NAN, NAN), (INF, 1), (-INF, 0), (-0.0, 0.5)],
    "sigmoid_derivative_forward": [(NAN, NAN), (INF, 0), (-INF, 0), (-0.0, 0.25)],
    "tanh_forward": [(NAN, NAN), (INF, 1), (-INF, -1), (-0.0, -0.0), (0.0, 0.0)],
    "relu_forward": [(NAN, NAN), (INF, INF), (-INF, 0.0), (-0.0, -0.0), (0.0, 0.0), (-1e-45, 0.0)],
}


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("width", [1, 7, 16, 33])
def test_special_values(dtype, name, width):
    call = OF_Z[name][0]
    ones = call(np.ones((3, width), dtype))()
    for i in range(width):
        for value, expected in SPECIAL[name]:
            z = np.ones((3, width), dtype)
            z[1, i] = value
            found = call(z)()
            assert_same_bits(found[1, i : i + 1], np.array([expected], dtype))
            others = np.ones(z.shape, bool)
            others[1, i] = False
            assert_same_bits(found[others], ones[others])


@pytest.mark.parametrize(
    ("name", "a", "delta", "expected"),
    [
        # saturated activations pass nothing back, and NaN goes through
        (
            "sigmoid_backward",
            [0, 1, 0.5, NAN, 0.5, 0.5],
            [7, 7, -0.0, 1, NAN, INF],
            [0, 0, -0.0, NAN, NAN, INF],
        ),
        (
            "tanh_backward",
            [1, -1, 0.0, -0.0, 0.5, NAN, 0.5, 0.5],
            [7, 7, 7, 7, -0.0, 1, NAN, INF],
            [0, 0, 7, 7, -0.0, NAN, NAN, INF],
        ),
        # a unit that is off passes nothing back, whatever comes; any other unit all of it
        (
            "relu_backward",
            [0.0, -0.0, 0.0, 0.0, 3, INF, 1e-45, 3, NAN],
            [7, 7, NAN, INF, -0.0, 7, NAN, -INF, 7],
            [0, 0, 0, 0, -0.0, 7, NAN, -INF, 7],
        ),
    ],
)
def test_special_values_backward(dtype, name, a, delta, expected):
    a, delta, expected = (np.array([row], dtype) for row in (a, delta, expected))
    assert_same_bits(BACKWARD[name][0](a, delta)(), expected)


def test_extreme_inputs(dtype):
    info = np.finfo(dtype)
    ends = [info.max, -info.max, info.tiny, -info.tiny, info.smallest_subnormal]
    z = np.array([[*ends, -info.smallest_subnormal, info.tiny / 2]], dtype)
    for call, quantity, exact in OF_Z.values():
        assert_ulp(quantity, call(z)(), exact(z))
    near_one, tiny, least = 1 - info.eps / 2, info.tiny, info.smallest_subnormal
    a = np.array([[tiny, least, near_one, 0.5, near_one, near_one, 1]], dtype)
    for name, (call, _, exact) in BACKWARD.items():
        assert_ulp(name, call(a, z)(), exact(a, z), where_fused(exact(a, z), z))


def test_no_rows(dtype):
    for name in KERNELS:
        assert call_of(name, np.empty((0, 4), dtype))().size == 0


@every_kernel
@pytest.mark.parametrize("width", CLASSES)
def test_rows_are_independent(dtype, name, width):
    z = logits("normal", 5.0, (many_rows(width), width), dtype)
    calls.assert_rows_independent(lambda rows: call_of(name, rows), z)


@pytest.mark.compiled
def test_stays_within_its_arguments():
    calls.assert_stays_within_pages(*KERNELS)


@every_kernel
def test_read_only_inputs(name):
    calls.assert_reads_read_only(call_of(name, logits("normal", 5.0, (5, 17), np.dtype("f4"))))


@pytest.mark.parametrize("name", OF_Z)
@pytest.mark.parametrize("width", CLASSES)
def test_in_place(dtype, name, width):
    for n in (1, 9):
        calls.assert_in_place(call_of(name, logits("normal", 5.0, (n, width), dtype)), 0)


@pytest.mark.parametrize("name", BACKWARD)
def test_gradient(name):
    z = logits("normal", 2.0, (5, 7), np.float64)
    z[np.abs(z) < 2 * STEP] = 1  # relu has a corner at 0
    forward = OF_Z[name.replace("backward", "forward")][0]
    slope = (forward(z + STEP)() - forward(z - STEP)()) / (2 * STEP)
    if name == "sigmoid_backward":
        found = calls.sigmoid_derivative_forward(z)()
        np.testing.assert_allclose(found, slope, rtol=0, atol=FINITE_DIFFERENCE)
    delta = logits("normal", 1.0, (5, 7), np.float64, seed=1)
    found = BACKWARD[name][0](forward(z)(), delta)()
    np.testing.assert_allclose(found, delta * slope, rtol=0, atol=5 * FINITE_DIFFERENCE)


@pytest.mark.compiled
def test_compiled_equals_plain_python(dtype):
    widths = 1, 3, 16, 17
    small = [logits("normal", 1.0, (3, width), dtype) for width in widths]
    batches = small + [logits("normal", 20.0, (3, width), dtype) for width in widths]
    jobs = [
        call_of(name, z)
        for name in KERNELS
        # 1 - a^2 cancels for large z: see `where_fused`
        for z in (small if name == "tanh_backward" else batches)
    ]
    calls.assert_plain_is_close(jobs)


@every_kernel
@pytest.mark.compiled
def test_one_specialisation_for_each_dtype(name):
    calls.assert_one_specialisation(lambda *shape: call_of(name, logits("normal", 1, *shape)))
