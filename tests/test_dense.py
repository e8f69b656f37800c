"""The matrix kernels: z = a W + b, BP2, BP3 and BP4."""

import calls
import numpy as np
import pytest
import reference
from inputs import CLASSES, ROWS, many_rows
from tolerances import assert_product, assert_same_bits

from fastbp import kernels

# widths that are a vector or a tile, and their neighbours
WIDTHS = tuple(k for k in CLASSES if k < 140)
NAN, INF = np.nan, np.inf


def draw(*shape, dtype, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def integers(*shape, dtype, seed=0):
    """Small whole numbers, whose products add up exactly."""
    return np.random.default_rng([seed, *shape]).integers(-8, 9, shape).astype(dtype)


def dense_forward(n, fan_in, fan_out, dtype, draw=draw):
    a_prev, w = draw(n, fan_in, dtype=dtype), draw(fan_in, fan_out, dtype=dtype, seed=1)
    return calls.dense_forward(a_prev, w, draw(fan_out, dtype=dtype, seed=2))


def hidden_error(n, width, next_width, dtype, draw=draw):
    delta_next = draw(n, next_width, dtype=dtype)
    w_next = draw(width, next_width, dtype=dtype, seed=1)
    a = reference.sigmoid(draw(n, width, dtype=dtype, seed=2)).astype(dtype)
    return calls.hidden_error(delta_next, w_next, a)


def weight_gradient(n, fan_in, fan_out, dtype, draw=draw):
    a_prev, delta = draw(n, fan_in, dtype=dtype), draw(n, fan_out, dtype=dtype, seed=1)
    return calls.weight_gradient(a_prev, delta)


def bias_gradient(n, fan_in, fan_out, dtype, draw=draw):
    return calls.bias_gradient(draw(n, fan_out, dtype=dtype))


KERNELS = (dense_forward, hidden_error, weight_gradient, bias_gradient)
every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.__name__)


def assert_right(call):
    __tracebackhide__ = True
    name = call.kernel.__name__
    exact = getattr(reference, name)(*call.inputs)
    magnitude = getattr(reference, name)(*map(np.abs, call.inputs))
    # of as many terms is each result the sum
    n_terms = {
        "dense_forward": call.inputs[0].shape[1] + 1,
        "hidden_error": call.inputs[0].shape[1],
        "weight_gradient": len(call.inputs[0]),
        "bias_gradient": len(call.inputs[0]),
    }[name]
    assert_product(name, call(), exact, magnitude, n_terms)


@every_kernel
@pytest.mark.parametrize("width", WIDTHS)
def test_matches_reference(dtype, kernel, width):
    """Each shape with one side of ``width`` and the others in turn."""
    for turn, n in enumerate(ROWS):
        other = WIDTHS[(7 * turn + width) % len(WIDTHS)]
        assert_right(kernel(n, width, other, dtype))
        assert_right(kernel(n, other, width, dtype))


@every_kernel
@pytest.mark.parametrize(
    "shape",
    [
        (3, 513, 65),
        (32, 784, 30),
        pytest.param((130, 257, 300), marks=pytest.mark.compiled),
        (7, 1000, 10),
    ],
    ids=str,
)
def test_matches_reference_on_large_shapes(dtype, kernel, shape):
    assert_right(kernel(*shape, dtype))


@pytest.mark.parametrize("kernel", [dense_forward])
@pytest.mark.parametrize("width", WIDTHS)
def test_whole_numbers_are_exact(dtype, kernel, width):
    for turn, n in enumerate(ROWS):
        other = WIDTHS[(5 * turn + width) % len(WIDTHS)]
        for call in (
            kernel(n, width, other, dtype, integers),
            kernel(n, other, width, dtype, integers),
        ):
            exact = reference.dense_forward(*call.inputs).astype(dtype)
            np.testing.assert_array_equal(call(), exact)


@pytest.mark.parametrize("n", [1, 2, 16, 32])
def test_gradients_of_whole_numbers_are_exact(dtype, n):
    """Means over a power of two."""
    for width in WIDTHS:
        call = weight_gradient(n, width, 17, dtype, integers)
        exact = reference.weight_gradient(*call.inputs).astype(dtype)
        np.testing.assert_array_equal(call(), exact)
        call = bias_gradient(n, 1, width, dtype, integers)
        np.testing.assert_array_equal(call(), reference.bias_gradient(*call.inputs).astype(dtype))


@pytest.mark.parametrize("width", WIDTHS)
def test_bias_gradient_keeps_what_a_large_error_hides(dtype, width):
    """Of float64 as of float32: one and one, between numbers that cancel."""
    large = 2.0**30 if dtype == np.float32 else 2.0**60
    delta = np.outer([large, 1, 1, -large], np.arange(1, width + 1)).astype(dtype)
    found = calls.bias_gradient(delta)()
    np.testing.assert_array_equal(found, np.arange(1, width + 1) / 2)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("place", [0, 1, 4])
def test_bias_gradient_of_special_values(dtype, place, value):
    """An infinite error gives an infinite mean, in its column alone."""
    call = bias_gradient(5, 1, 19, dtype)
    expected = call()
    call.inputs[0][place, 3] = value
    expected[3] = value
    assert_same_bits(call(), expected)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_special_values_stay_in_their_row(dtype, value):
    for kernel, n, width, other in ((dense_forward, 9, 17, 19), (hidden_error, 9, 17, 19)):
        call = kernel(n, width, other, dtype)
        expected = call()
        call.inputs[0][4, 3] = value
        found = call()
        rows = np.arange(n) != 4
        assert not np.isfinite(found[4]).any()
        assert_same_bits(found[rows], expected[rows])


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_special_weights_stay_in_their_column(dtype, value):
    call = dense_forward(9, 17, 19, dtype)
    expected = call()
    call.inputs[1][3, 4] = value
    found = call()
    columns = np.arange(19) != 4
    assert not np.isfinite(found[:, 4]).any()
    assert_same_bits(found[:, columns], expected[:, columns])


def test_saturated_units_pass_nothing_back(dtype):
    call = hidden_error(5, 17, 19, dtype)
    call.inputs[2][:, ::2] = 0
    call.inputs[2][:, 1::4] = 1
    found = call()
    np.testing.assert_array_equal(found[:, ::2], 0)
    np.testing.assert_array_equal(found[:, 1::4], 0)
    assert (found[:, 3::4] != 0).all()


def test_no_inputs_leave_the_bias(dtype):
    a_prev, w, b = np.empty((3, 0), dtype), np.empty((0, 5), dtype), draw(5, dtype=dtype)
    assert_same_bits(calls.dense_forward(a_prev, w, b)(), np.tile(b, (3, 1)))


def test_no_units_above_leave_no_error(dtype):
    nothing = np.zeros((3, 0), dtype), np.zeros((19, 0), dtype)
    np.testing.assert_array_equal(calls.hidden_error(*nothing, np.ones((3, 19), dtype))(), 0)


def test_no_rows(dtype):
    assert dense_forward(0, 4, 5, dtype)().shape == (0, 5)
    assert hidden_error(0, 4, 5, dtype)().shape == (0, 4)


@pytest.mark.parametrize("kernel", [dense_forward, hidden_error], ids=lambda k: k.__name__)
@pytest.mark.parametrize("width", WIDTHS)
def test_rows_are_independent(dtype, kernel, width):
    """The same multiply-adds in the same order, in the tiles and at their edges."""
    for other in (width, WIDTHS[(3 * width) % len(WIDTHS)]):
        assert_rows_independent(kernel(many_rows(width), width, other, dtype))


def assert_rows_independent(call):
    __tracebackhide__ = True
    if call.kernel is kernels.dense_forward:
        a_prev, w, b = call.inputs
        calls.assert_rows_independent(lambda rows: calls.dense_forward(rows, w, b), a_prev)
    else:
        delta, w, a = call.inputs
        calls.assert_rows_independent(lambda d, a: calls.hidden_error(d, w, a), delta, a)


@pytest.mark.parametrize("n_terms", [1, 2, 64, 65, 130])
def test_sums_are_made_in_blocks_of_fused_multiply_adds(dtype, n_terms):
    """To the last bit, in the first and last rows and columns of shapes with several tiles."""
    n, wide = 26, 35
    some = np.ix_([0, 12, 25], [0, 16, 34])
    a_prev, w, b = dense_forward(n, n_terms, wide, dtype).inputs
    expected = reference.product_in_blocks(a_prev[some[0][:, 0]], w[:, some[1][0]]) + b[some[1]]
    assert_same_bits(calls.dense_forward(a_prev, w, b)()[some], expected)

    delta_next, w_next, a = hidden_error(n, wide, n_terms, dtype).inputs
    a[...] = 0.5  # a (1 - a) is a power of two
    carried = reference.product_in_blocks(delta_next[some[0][:, 0]], w_next[some[1][0]].T)
    assert_same_bits(calls.hidden_error(delta_next, w_next, a)()[some], carried * dtype.type(0.25))


@pytest.mark.parametrize(
    "n", [1, 64, 128, 129, 257, 300, 513, pytest.param(1100, marks=pytest.mark.compiled)]
)
def test_sums_over_a_batch_are_added_in_a_tree(dtype, n):
    some = np.ix_([0, 12, 229], [0, 16, 34])
    a_prev, delta = weight_gradient(n, 230, 35, dtype).inputs
    total = reference.product_in_blocks(
        a_prev.T[some[0][:, 0]], delta[:, some[1][0]], reference.added_in_a_tree
    )
    found = calls.weight_gradient(a_prev, delta)()[some]
    # the mean, rounded once more
    assert (reference.ulp_error(found, reference.wide(total) / n) <= 0.501).all()
    mean = (reference.column_sums_in_blocks(delta) / n).astype(dtype)
    assert_same_bits(calls.bias_gradient(delta)(), mean)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((40, 1700, 1030), marks=pytest.mark.compiled),  # terms packed in two parts
        pytest.param((520, 130, 1030), marks=pytest.mark.compiled),  # and so are rows
        (25, 3, 1025),
        pytest.param((23, 130, 1100), marks=pytest.mark.compiled),  # as many rows are not packed
    ],
    ids=str,
)
def test_packed_products_have_the_bits_of_others(dtype, shape):
    """Of fewer rows, of fewer columns, and of the reference."""
    n, n_terms, wide = shape
    parts = [slice(i, i + 20) for i in range(0, n, 20)]
    rows, columns = [0, 6, n - 1], [0, 31, wide - 1]
    some = np.ix_(rows, columns)
    a_prev, w, b = dense_forward(n, n_terms, wide, dtype).inputs
    z = calls.dense_forward(a_prev, w, b)()
    assert_same_bits(z[some], reference.product_in_blocks(a_prev[rows], w[:, columns]) + b[columns])
    flat = np.concatenate([calls.dense_forward(a_prev[part], w, b)() for part in parts])
    assert_same_bits(z, flat)
    narrow = calls.dense_forward(a_prev, w[:, :90].copy(), b[:90])()
    assert_same_bits(z[:, :90], narrow)

    call = hidden_error(n, wide, n_terms, dtype)
    delta_next, w_next, a = call.inputs
    a[...] = 0.5
    delta = call()
    carried = reference.product_in_blocks(delta_next[rows], w_next[columns].T)
    assert_same_bits(delta[some], carried * dtype.type(0.25))
    flat = [calls.hidden_error(delta_next[part], w_next, a[part])() for part in parts]
    assert_same_bits(delta, np.concatenate(flat))
    narrow = calls.hidden_error(delta_next, w_next[:90], a[:, :90].copy())()
    assert_same_bits(delta[:, :90], narrow)

    call = weight_gradient(n, n_terms, wide, dtype)
    a_prev, delta = call.inputs
    narrow = calls.weight_gradient(a_prev, delta[:, :90].copy())()
    assert_same_bits(call()[:, :90], narrow)


@pytest.mark.compiled
def test_stays_within_its_arguments():
    calls.assert_stays_within_pages(*(kernel.__name__ for kernel in KERNELS))


@every_kernel
def test_read_only_inputs(kernel):
    calls.assert_reads_read_only(kernel(5, 17, 19, np.dtype("f4")))


@every_kernel
def test_overwrites_what_was_there(dtype, kernel):
    call = kernel(9, 17, 19, dtype)
    expected = call()
    for value in (0, NAN, INF, 1e30):
        call.written[0][...] = value
        assert_same_bits(call(), expected)


def test_gradient():
    """BP2, BP3 and BP4 are the derivatives of a loss that is linear in z."""
    n, fan_in, fan_out = 4, 3, 5
    a_prev, w, b = dense_forward(n, fan_in, fan_out, np.float64).inputs
    slope = draw(n, fan_out, dtype=np.float64, seed=3)  # the derivative of the loss by z
    step = 1e-3  # the loss is linear: any step is right up to rounding

    def loss(a_prev, w, b):
        return (slope * calls.dense_forward(a_prev, w, b)()).sum() / n

    def derivative(position, at):
        arguments = [a_prev, w, b]
        moved = [np.array(arguments[position]) for _ in range(2)]
        moved[0][at] += step
        moved[1][at] -= step
        losses = []
        for array in moved:
            arguments[position] = array
            losses.append(loss(*arguments))
        return (losses[0] - losses[1]) / (2 * step)

    grad_w, grad_b = calls.weight_gradient(a_prev, slope)(), calls.bias_gradient(slope)()
    for at in np.ndindex(w.shape):
        np.testing.assert_allclose(grad_w[at], derivative(1, at), rtol=1e-9, atol=1e-12)
    for at in np.ndindex(b.shape):
        np.testing.assert_allclose(grad_b[at], derivative(2, at), rtol=1e-9, atol=1e-12)
    a = np.full_like(a_prev, 0.5)
    error = calls.hidden_error(slope, w, a)()
    for at in np.ndindex(a_prev.shape):
        np.testing.assert_allclose(error[at] / n, derivative(0, at) / 4, rtol=1e-9, atol=1e-12)


@pytest.mark.compiled
def test_compiled_equals_plain_python(dtype):
    shapes = (1, 1, 1), (3, 5, 2), (5, 17, 19)
    some = [kernel(*shape, dtype) for kernel in KERNELS for shape in shapes]
    # sums of about ten numbers of about one, with and without fused multiply-adds
    calls.assert_plain_is_close(some, at_least=4.0)


@every_kernel
@pytest.mark.compiled
def test_one_specialisation_for_each_dtype(kernel):
    calls.assert_one_specialisation(lambda shape, dtype: kernel(*shape, 19, dtype))
