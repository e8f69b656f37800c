"""The checked functions: the kernels' results for any array-like, any axis and any out=."""

import itertools
import re

import numpy as np
import pytest
import reference
import scipy.special
from layouts import LAYOUTS
from tolerances import FINITE_DIFFERENCE, STEP, assert_product, assert_same_bits, assert_ulp

import fastbp

#: What the reductions and the building of target rows may add to the kernels' errors, in eps.
ROUNDINGS = 8

N, K, J = 7, 5, 3  # rows, classes (or units), units of the layer before


def draw(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def draw_labels(*shape, n_classes=K, seed=0):
    return np.random.default_rng([seed, *shape]).integers(n_classes, size=shape)


def draw_targets(*shape, dtype=np.float64, axis=-1):
    y = np.random.default_rng(shape).exponential(size=shape)
    return (y / y.sum(axis=axis, keepdims=True)).astype(dtype)


def assert_close(got, exact, scale=1):
    """Within a few roundings of ``exact``, or of ``scale`` where entries cancel."""
    __tracebackhide__ = True
    eps = np.finfo(got.dtype).eps
    exact = np.asarray(exact, np.longdouble)
    allowed = ROUNDINGS * eps * np.maximum(np.abs(exact), scale * np.abs(exact).max(initial=0))
    error = np.abs(got.astype(np.longdouble) - exact)
    assert got.shape == exact.shape
    assert (error <= allowed).all(), f"got {got!r} instead of {exact!r}"


# Each function of one array and a class axis or none.

ELEMENTWISE = {
    "sigmoid": (fastbp.sigmoid, reference.sigmoid),
    "sigmoid_derivative": (fastbp.sigmoid_derivative, reference.sigmoid_derivative),
    "tanh": (fastbp.tanh, reference.tanh),
    "relu": (fastbp.relu, reference.relu),
}
ALONG_AN_AXIS = {
    "softmax": (fastbp.softmax, reference.softmax, scipy.special.softmax),
    "log_softmax": (fastbp.log_softmax, reference.log_softmax, scipy.special.log_softmax),
}
elementwise = pytest.mark.parametrize("name", ELEMENTWISE)
along_an_axis = pytest.mark.parametrize("name", ALONG_AN_AXIS)


@elementwise
@pytest.mark.parametrize("shape", [(), (1,), (9,), (0,), (2, 0), (3, 5), (2, 3, 4), (0, 3)])
def test_elementwise_of_any_shape(dtype, name, shape):
    function, exact = ELEMENTWISE[name]
    z = 30 * draw(*shape, dtype=dtype)
    got = function(z)
    assert got.shape == shape
    assert got.dtype == dtype
    assert_ulp(name, np.asarray(got), exact(z))


@along_an_axis
@pytest.mark.parametrize("n_classes", [1, 2, 10, 33, 1000])
def test_rows_match_reference(dtype, name, n_classes):
    function, exact, _ = ALONG_AN_AXIS[name]
    z = 5 * draw(11, n_classes, dtype=dtype)
    got = function(z)
    assert got.dtype == dtype
    assert_ulp(name, got, exact(z))


def test_logsumexp_matches_reference(dtype):
    z = 5 * draw(11, 13, dtype=dtype)
    got, exact = fastbp.logsumexp(z), reference.logsumexp(z)
    assert got.dtype == dtype
    assert_ulp("logsumexp", got, exact, np.maximum(np.abs(z).max(axis=1), np.abs(exact)))


AXES = [-1, 0, 1, 2, -3, None, (0,), (1, 2), (2, 1), (0, 2), (-1, 0), (0, 1, 2), ()]


@along_an_axis
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_axis_is_scipys(dtype, name, axis, order):
    function, _, expected = ALONG_AN_AXIS[name]
    z = np.asarray(draw(4, 3, 5, dtype=dtype), order=order)
    before = z.copy()
    got = function(z, axis)
    assert got.flags.c_contiguous
    assert got.dtype == dtype
    # log_softmax of a scalar row, 0, stays 0 in SciPy up to rounding
    np.testing.assert_allclose(got, expected(z, axis), rtol=32 * np.finfo(dtype).eps, atol=1e-14)
    assert_same_bits(z, before)
    out = np.full_like(z, np.nan)
    assert function(z, axis, out=out) is out
    assert_same_bits(out, got)
    assert function(z, axis, out=z) is z
    assert_same_bits(z, got)


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_axis_and_keepdims_of_logsumexp_are_scipys(dtype, axis, keepdims):
    z = draw(4, 3, 5, dtype=dtype)
    got = fastbp.logsumexp(z, axis, keepdims)
    expected = scipy.special.logsumexp(z, axis, keepdims=keepdims)
    assert got.shape == expected.shape
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=32 * np.finfo(dtype).eps, atol=1e-6)
    out = np.full(got.shape, np.nan, dtype)
    assert fastbp.logsumexp(z, axis, keepdims, out=out) is out
    assert_same_bits(out, np.asarray(got))


@pytest.mark.parametrize("axis", [-1, 0, None])
def test_scalars_are_scipys(axis):
    for name, (function, _, expected) in ALONG_AN_AXIS.items():
        got = function(1000, axis)
        assert np.isscalar(got), name
        assert got == expected(1000, axis)
    assert np.isscalar(fastbp.logsumexp(3.0, axis))
    assert fastbp.logsumexp(3.0, axis) == 3
    for function, _ in ELEMENTWISE.values():
        assert np.isscalar(function(0.0))
        assert function(np.float32(0)).dtype == np.float32


# The cost


WEIGHT = np.array([0.5, 2.0, 0.0, 1.25, 3.0])
SAMPLE_WEIGHT = np.array([1.0, 0.0, 2.5, 1.0, 0.125, 3.0, 1.0])
OPTIONS = {
    "weight": (None, WEIGHT),
    "sample_weight": (None, SAMPLE_WEIGHT),
    "ignore_index": (None, -100, 3),
    "label_smoothing": (0.0, 0.1, 1.0),
    "reduction": ("mean", "sum", "none"),
}
COMBINATIONS = [
    dict(zip(OPTIONS, values, strict=True)) for values in itertools.product(*OPTIONS.values())
]


def said(options):
    return "-".join(
        f"{name}={np.size(value) if np.ndim(value) else value}"
        for name, value in options.items()
        if value is not None and (name != "label_smoothing" or value)
    )


combinations = pytest.mark.parametrize("options", COMBINATIONS, ids=said)


def labels_for(options, *shape):
    y = draw_labels(*shape)
    if options["ignore_index"] == -100:
        y.reshape(-1)[1::3] = -100
    return y


@combinations
def test_cost_of_labels_matches_reference(dtype, options):
    z, y = draw(N, K, dtype=dtype), labels_for(options, N)
    exact_loss, exact_delta = reference.cost(z, y, **options)
    loss, delta = fastbp.softmax_cross_entropy(z, y, **options)
    assert loss.dtype == delta.dtype == dtype
    assert_close(loss, exact_loss)
    assert_close(delta, exact_delta, 1)
    alone = fastbp.cross_entropy(z, y, **options)
    assert alone.dtype == dtype
    assert_close(alone, exact_loss)


@pytest.mark.parametrize("options", [o for o in COMBINATIONS if not o["ignore_index"]], ids=said)
def test_cost_of_target_rows_matches_reference(dtype, options):
    z, y = draw(N, K, dtype=dtype), draw_targets(N, K, dtype=dtype)
    exact_loss, exact_delta = reference.cost(z, y, **options)
    loss, delta = fastbp.softmax_cross_entropy(z, y, **options)
    assert loss.dtype == delta.dtype == dtype
    assert_close(loss, exact_loss)
    assert_close(delta, exact_delta, 1)
    assert_close(fastbp.cross_entropy(z, y, **options), exact_loss)


@combinations
def test_one_hot_rows_equal_labels_up_to_the_divisor(options):
    if options["ignore_index"] is not None or options["weight"] is not None:
        options = options | {"ignore_index": None, "weight": None}
    z, y = draw(N, K), draw_labels(N)
    by_label = fastbp.softmax_cross_entropy(z, y, **options)
    by_row = fastbp.softmax_cross_entropy(z, np.eye(K)[y], **options)
    for one, other in zip(by_label, by_row, strict=True):
        assert_close(one, other, 1)


def as_torch(options, dtype, torch):
    weight = options["weight"]
    return {
        "weight": None if weight is None else torch.tensor(weight.astype(dtype)),
        "ignore_index": -100 if options["ignore_index"] is None else options["ignore_index"],
        "label_smoothing": options["label_smoothing"],
        "reduction": options["reduction"],
    }


@pytest.mark.parametrize("shape", [(N, K), (4, K, 3), (K,), (2, K, 3, 2)], ids=str)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param(kind, options, id=f"{kind}-{said(options)}")
        for kind in ("labels", "rows")
        for options in COMBINATIONS
        if options["sample_weight"] is None
        and (kind == "labels" or options["ignore_index"] is None)
    ],
)
def test_options_are_torchs(dtype, shape, kind, options):
    torch = pytest.importorskip("torch", reason="the peer whose options these are")
    axis = 0 if len(shape) == 1 else 1
    z = draw(*shape, dtype=dtype)
    if kind == "labels":
        y = labels_for(options, *shape[:axis], *shape[axis + 1 :])
    else:
        y = draw_targets(*shape, dtype=dtype, axis=axis)
    there = torch.tensor(z, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        there, torch.tensor(y), **as_torch(options, dtype, torch)
    )
    expected.sum().backward()
    loss, delta = fastbp.softmax_cross_entropy(z, y, axis=axis, **options)
    expected = expected.detach().numpy()
    assert np.isfinite(expected).all()  # some weight is left for every mean
    rtol = 64 * np.finfo(dtype).eps
    np.testing.assert_allclose(loss, expected, rtol, rtol)
    np.testing.assert_allclose(delta, there.grad.numpy(), rtol, rtol)
    assert np.shape(loss) == expected.shape
    assert delta.shape == shape
    assert delta.flags.c_contiguous
    np.testing.assert_allclose(
        fastbp.cross_entropy(z, y, axis=axis, **options), expected, rtol, rtol
    )


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_class_axis_moves_to_the_end(dtype, axis):
    z = draw(4, 3, 5, dtype=dtype)
    moved = np.moveaxis(z, axis, -1)
    y = draw_labels(*moved.shape[:-1], n_classes=z.shape[axis])
    s = np.random.default_rng(0).exponential(size=y.shape)
    for options in ({}, {"sample_weight": s, "reduction": "none"}, {"label_smoothing": 0.1}):
        loss, delta = fastbp.softmax_cross_entropy(z, y, axis=axis, **options)
        expected = fastbp.softmax_cross_entropy(moved, y, **options)
        assert_same_bits(np.asarray(loss), np.asarray(expected[0]))
        assert_same_bits(delta, np.moveaxis(expected[1], -1, axis))
    error = fastbp.output_error(z, y, axis=axis)
    assert_same_bits(error, np.moveaxis(fastbp.output_error(moved, y), -1, axis))


def test_target_rows_are_built_in_blocks(dtype, monkeypatch):
    z, y = draw(23, K, dtype=dtype), draw_labels(23)
    s = np.random.default_rng(0).exponential(size=23)
    rows = draw_targets(23, K, dtype=dtype)
    calls = [
        {"y": y, "label_smoothing": 0.1},
        {"y": y, "label_smoothing": 0.1, "weight": WEIGHT, "sample_weight": s},
        {"y": rows, "label_smoothing": 0.1, "sample_weight": s},
        {"y": rows, "weight": WEIGHT},
    ]
    whole = [fastbp.softmax_cross_entropy(z, **call) for call in calls]
    sizes = []
    empty = np.empty

    def watched(shape, *args, **kwargs):
        sizes.append(np.prod(shape))
        return empty(shape, *args, **kwargs)

    monkeypatch.setattr(fastbp.functional, "_BLOCK_SIZE", 4 * K + 1)
    monkeypatch.setattr(np, "empty", watched)
    for call, expected in zip(calls, whole, strict=True):
        sizes.clear()
        loss, delta = fastbp.softmax_cross_entropy(z, **call, out=z.copy())
        assert max(sizes) <= max(4 * K, 23)
        assert loss == expected[0]
        assert_same_bits(delta, expected[1])


@pytest.mark.parametrize("scale", [1e-300, 1e-60, 1e60, 1e300])
def test_mean_does_not_depend_on_the_scale_of_the_weights(dtype, scale):
    z, y = draw(N, K, dtype=dtype), draw_labels(N)
    s = SAMPLE_WEIGHT * scale
    expected = fastbp.softmax_cross_entropy(z, y, sample_weight=SAMPLE_WEIGHT)
    for one, other in zip(
        fastbp.softmax_cross_entropy(z, y, sample_weight=s), expected, strict=True
    ):
        assert_close(one, other)
    if 1e-37 < scale < 1e37 or dtype == np.float64:
        for smoothing in (0.0, 0.5):
            options = {"weight": WEIGHT * scale, "label_smoothing": smoothing}
            expected = reference.cost(z, y, weight=WEIGHT, label_smoothing=smoothing)
            got = fastbp.softmax_cross_entropy(z, y, **options)
            assert_close(got[0], expected[0])
            assert_close(got[1], expected[1], 1)


def test_loss_beyond_the_largest_number_is_inf():
    z = np.array([[3e38, -3e38], [1e38, -1e38]], np.float32)
    for reduction in ("sum", "mean"):
        assert fastbp.cross_entropy(z, [1, 1], reduction=reduction) == np.inf
    z /= 2
    assert fastbp.cross_entropy(z, [1, 1], reduction="sum") == np.inf
    assert fastbp.cross_entropy(z, [1, 1]) == np.float32(2e38)


@pytest.mark.compiled  # a hundred thousand rows
def test_mean_of_many_float32_losses_keeps_its_digits():
    z = np.zeros((100_003, 2), np.float32)
    z[1::2, 1] = -40
    y = np.zeros(len(z), int)
    exact = reference.cost(z[:2], y[:2], reduction="none")[0]
    n_even = (len(z) + 1) // 2
    exact = (exact[0] * n_even + exact[1] * (len(z) - n_even)) / len(z)
    got = fastbp.cross_entropy(z, y)
    assert got.dtype == np.float32
    assert_ulp("mean_cross_entropy", np.asarray(got), exact)


def test_delta_is_the_gradient_of_the_loss():
    z, y = draw(N, K), draw_labels(N)
    rows = draw_targets(N, K)
    for target, options in itertools.product(
        (y, rows),
        (
            {},
            {"reduction": "sum"},
            {"weight": WEIGHT, "sample_weight": SAMPLE_WEIGHT},
            {"label_smoothing": 0.2, "weight": WEIGHT},
        ),
    ):
        delta = fastbp.softmax_cross_entropy(z, target, **options)[1]
        for i, k in np.ndindex(z.shape):
            up, down = z.copy(), z.copy()
            up[i, k] += STEP
            down[i, k] -= STEP
            slope = fastbp.cross_entropy(up, target, **options)
            slope = (slope - fastbp.cross_entropy(down, target, **options)) / (2 * STEP)
            assert abs(slope - delta[i, k]) < FINITE_DIFFERENCE


def test_losses_of_rows_come_with_the_gradient_of_their_sum(dtype):
    z, y = draw(N, K, dtype=dtype), draw_labels(N)
    losses, delta = fastbp.softmax_cross_entropy(z, y, reduction="none")
    assert losses.shape == (N,)
    total, same = fastbp.softmax_cross_entropy(z, y, reduction="sum")
    assert_close(total, losses.astype(np.longdouble).sum())
    assert_same_bits(delta, same)


def test_targets_and_weights_follow_the_logits():
    z, y = draw(N, K, dtype=np.float32), draw_targets(N, K)
    loss, delta = fastbp.softmax_cross_entropy(z, y, weight=WEIGHT)
    assert loss.dtype == delta.dtype == np.float32
    same = fastbp.softmax_cross_entropy(z, y.astype("f4"), weight=WEIGHT.astype("f4"))
    assert loss == same[0]
    assert_same_bits(delta, same[1])
    # a float32 row sums to 1 as float32 rows do, whatever the logits are
    assert fastbp.cross_entropy(z.astype(float), y.astype("f4")).dtype == np.float64


@pytest.mark.parametrize("axis", [-1.0, np.array(-1.0), np.zeros(2), np.array([-1])])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_axis_that_is_none(name, axis):
    with pytest.raises(TypeError, match=r"^axis must be an integer, a tuple of integers or None"):
        getattr(fastbp, name)(draw(N, K), axis)


def test_ignore_index_needs_labels():
    with pytest.raises(ValueError, match="ignore_index must be None with target rows, got 3"):
        fastbp.cross_entropy(draw(N, K), draw_targets(N, K), ignore_index=3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reduction": "avg"}, ValueError, "reduction must be 'mean', 'sum' or 'none', got 'avg'"),
        ({"axis": None}, TypeError, "axis must be an integer, got None"),
        ({"axis": (0, 1)}, TypeError, "axis must be an integer, got (0, 1)"),
        ({"axis": -1.0}, TypeError, "axis must be an integer, got -1.0"),
        ({"axis": np.zeros(2)}, TypeError, "axis must be an integer, got array([0., 0.])"),
        (
            {"label_smoothing": False},
            TypeError,
            "label_smoothing must be a number in [0, 1], got False",
        ),
        (
            {"label_smoothing": np.zeros(2)},
            TypeError,
            "label_smoothing must be a number in [0, 1], got array([0., 0.])",
        ),
        (
            {"reduction": np.array([1, 2])},
            ValueError,
            "reduction must be 'mean', 'sum' or 'none', got array([1, 2])",
        ),
        ({"axis": 2}, np.exceptions.AxisError, "axis must be from -2 to 1 for 2 dimensions, got 2"),
        ({"ignore_index": 1.0}, TypeError, "ignore_index must be an integer, got 1.0"),
        (
            {"label_smoothing": "a"},
            TypeError,
            "label_smoothing must be a number in [0, 1], got 'a'",
        ),
        ({"weight": [1.0]}, ValueError, "weight must have shape (5,), got (1,)"),
        ({"sample_weight": [1.0]}, ValueError, "sample_weight must have shape (7,), got (1,)"),
    ],
)
def test_option_that_is_none(options, error, message):
    for function in (fastbp.cross_entropy, fastbp.softmax_cross_entropy):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            function(draw(N, K), draw_labels(N), **options)


def test_scalar_has_no_class_axis():
    with pytest.raises(ValueError, match="z must have a class axis, got a scalar"):
        fastbp.cross_entropy(1.0, 0)
    with pytest.raises(ValueError, match="a must have a class axis, got a scalar"):
        fastbp.output_error(1.0, 0)


def test_labels_of_another_shape():
    for y in (np.zeros(N + 1, int), np.zeros((N, 1), int), np.zeros((N, K, 1), int)):
        with pytest.raises(ValueError, match=r"^y must have shape \(7,"):
            fastbp.cross_entropy(draw(N, K), y)


# The pieces of backpropagation.


def test_output_error_matches_reference(dtype):
    a = fastbp.softmax(draw(N, K, dtype=dtype))
    y, rows = draw_labels(N), draw_targets(N, K, dtype=dtype)
    hot = reference.onehot(y, K)
    at = np.maximum(reference.wide(a), hot)
    assert_ulp("output_error", fastbp.output_error(a, y), reference.wide(a) - hot, at)
    exact = reference.wide(a) * reference.wide(rows).sum(axis=1, keepdims=True) - rows
    assert_ulp("output_error", fastbp.output_error(a, rows), exact, np.maximum(a, rows))


def layer(dtype, n=N):
    return {
        "a_prev": np.abs(draw(n, J, dtype=dtype, seed=1)),
        "w": draw(J, K, dtype=dtype, seed=2),
        "b": draw(K, dtype=dtype, seed=3),
        "delta": draw(n, K, dtype=dtype, seed=4),
        "a": reference.sigmoid(draw(n, J, seed=5)).astype(dtype),
    }


def test_dense_matches_reference(dtype):
    p = layer(dtype)
    got = fastbp.dense(p["a_prev"], p["w"], p["b"])
    exact = reference.dense_forward(p["a_prev"], p["w"], p["b"])
    magnitude = reference.dense_forward(p["a_prev"], np.abs(p["w"]), np.abs(p["b"]))
    assert got.dtype == dtype
    assert_product("dense_forward", got, exact, magnitude, J)


def test_hidden_error_matches_reference(dtype):
    p = layer(dtype)
    got = fastbp.hidden_error(p["delta"], p["w"], p["a"])
    exact = reference.hidden_error(p["delta"], p["w"], p["a"])
    magnitude = reference.hidden_error(np.abs(p["delta"]), np.abs(p["w"]), p["a"])
    assert got.dtype == dtype
    assert_product("hidden_error", got, exact, magnitude, K)


@pytest.mark.parametrize(
    ("activation", "slope"),
    [
        ("identity", lambda a: np.ones_like(a)),
        ("sigmoid", lambda a: a * (1 - a)),
        ("tanh", lambda a: 1 - a**2),
        ("relu", lambda a: np.where(a > 0, 1, 0)),
    ],
)
def test_hidden_error_of_each_activation(activation, slope, dtype):
    p = layer(dtype)
    a = p["a"].copy()
    a[::2] = 0  # a unit that relu has silenced
    got = fastbp.hidden_error(p["delta"], p["w"], a, activation=activation)
    delta, w, slopes = reference.wide(p["delta"]), reference.wide(p["w"]), slope(reference.wide(a))
    assert got.dtype == dtype
    magnitude = abs(delta) @ abs(w).T * abs(slopes)
    assert_product("hidden_error", got, delta @ w.T * slopes, magnitude, K)


def test_hidden_error_knows_its_activations():
    p = layer(np.dtype("float64"))
    with pytest.raises(ValueError, match=r"activation must be 'identity', .* or 'relu', got 'elu'"):
        fastbp.hidden_error(p["delta"], p["w"], p["a"], activation="elu")


def test_gradients_match_reference(dtype):
    p = layer(dtype)
    grad_w = fastbp.weight_gradient(p["a_prev"], p["delta"])
    grad_b = fastbp.bias_gradient(p["delta"])
    assert grad_w.dtype == grad_b.dtype == dtype
    size = np.abs(p["delta"])
    assert_product(
        "weight_gradient",
        grad_w,
        reference.weight_gradient(p["a_prev"], p["delta"]),
        reference.weight_gradient(p["a_prev"], size),
        N,
    )
    exact = reference.bias_gradient(p["delta"])
    assert_product("bias_gradient", grad_b, exact, reference.bias_gradient(size), N)


def test_first_argument_decides_the_dtype():
    one, other = layer(np.float32), layer(np.float64)
    assert fastbp.dense(one["a_prev"], other["w"], other["b"]).dtype == np.float32
    assert fastbp.dense(other["a_prev"], one["w"], one["b"]).dtype == np.float64
    assert fastbp.hidden_error(one["delta"], other["w"], other["a"]).dtype == np.float32
    assert fastbp.weight_gradient(one["a_prev"], other["delta"]).dtype == np.float32
    assert fastbp.dense([[1, 2, 3]], other["w"], one["b"]).dtype == np.float64


@pytest.mark.parametrize(("n", "fan_in", "fan_out"), [(0, 3, 2), (2, 0, 3), (2, 3, 0), (1, 1, 1)])
def test_layers_without_rows_or_units(dtype, n, fan_in, fan_out):
    a_prev, w = np.ones((n, fan_in), dtype), np.ones((fan_in, fan_out), dtype)
    b, delta = np.arange(fan_out, dtype=dtype), np.ones((n, fan_out), dtype)
    z = fastbp.dense(a_prev, w, b)
    np.testing.assert_array_equal(z, np.broadcast_to(b + fan_in, (n, fan_out)))
    error = fastbp.hidden_error(delta, w, a_prev / 2)
    np.testing.assert_array_equal(error, np.full((n, fan_in), fan_out / 4))
    if n:
        grad_w = fastbp.weight_gradient(a_prev, delta)
        np.testing.assert_array_equal(grad_w, np.ones((fan_in, fan_out)))
        np.testing.assert_array_equal(fastbp.bias_gradient(delta), np.ones(fan_out))


def test_gradients_over_no_rows_are_refused(dtype):
    nothing = np.ones((0, 3), dtype)
    message = re.escape("the mean is over no rows: delta has shape (0, 3)")
    with pytest.raises(ValueError, match=f"^{message}$"):
        fastbp.bias_gradient(nothing)
    with pytest.raises(ValueError, match=f"^{message}$"):
        fastbp.weight_gradient(nothing, nothing)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: fastbp.dense(p["a_prev"][0], p["w"], p["b"]),
            "a_prev must be 2-D, got shape (3,)",
        ),
        (
            lambda p: fastbp.dense(p["a_prev"], p["w"].T, p["b"]),
            "w must have shape (3, 3), got (5, 3)",
        ),
        (
            lambda p: fastbp.dense(p["a_prev"], p["w"], p["b"][:1]),
            "b must have shape (5,), got (1,)",
        ),
        (
            lambda p: fastbp.hidden_error(p["delta"], p["w"].T, p["a"]),
            "w_next must have shape (5, 5), got (5, 3)",
        ),
        (
            lambda p: fastbp.hidden_error(p["delta"], p["w"], p["a"].T),
            "a must have shape (7, 3), got (3, 7)",
        ),
        (
            lambda p: fastbp.weight_gradient(p["a_prev"], p["delta"][1:]),
            "delta must have shape (7, 5), got (6, 5)",
        ),
        (lambda p: fastbp.bias_gradient(p["b"]), "delta must be 2-D, got shape (5,)"),
    ],
)
def test_shapes_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call(layer(np.float64))


# out=, for every function that has it: (function, its arrays, shape of the result)


def with_out(dtype):
    p = layer(dtype)
    z, y, rows = draw(N, K, dtype=dtype), draw_labels(N), draw_targets(N, K, dtype=dtype)
    a = reference.softmax(z).astype(dtype)
    s = np.random.default_rng(0).exponential(size=N).astype(dtype)

    def losses(*args, **kwargs):
        return fastbp.cross_entropy(*args, reduction="none", **kwargs)

    def weighted(z, y, s, out=None):
        return fastbp.softmax_cross_entropy(z, y, sample_weight=s, out=out)[1]

    def smoothed(z, y, out=None):
        return fastbp.softmax_cross_entropy(z, y, label_smoothing=0.1, out=out)[1]

    def error(*args, out=None):
        return fastbp.softmax_cross_entropy(*args, out=out)[1]

    return {
        "sigmoid": (fastbp.sigmoid, (z,), (N, K)),
        "sigmoid 1-D": (fastbp.sigmoid, (z[0],), (K,)),
        "sigmoid_derivative": (fastbp.sigmoid_derivative, (z,), (N, K)),
        "tanh": (fastbp.tanh, (z,), (N, K)),
        "tanh 1-D": (fastbp.tanh, (z[0],), (K,)),
        "relu": (fastbp.relu, (z,), (N, K)),
        "relu 1-D": (fastbp.relu, (z[0],), (K,)),
        "softmax": (fastbp.softmax, (z,), (N, K)),
        "softmax 1-D": (fastbp.softmax, (z[0],), (K,)),
        "softmax axis 0": (lambda z, out=None: fastbp.softmax(z, 0, out=out), (z,), (N, K)),
        "softmax axis None": (lambda z, out=None: fastbp.softmax(z, None, out=out), (z,), (N, K)),
        "log_softmax": (fastbp.log_softmax, (z,), (N, K)),
        "logsumexp": (fastbp.logsumexp, (z,), (N,)),
        "logsumexp axis 0": (lambda z, out=None: fastbp.logsumexp(z, 0, out=out), (z,), (K,)),
        "cross_entropy": (losses, (z, y), (N,)),
        "cross_entropy of rows": (losses, (z, rows), (N,)),
        "softmax_cross_entropy": (error, (z, y), (N, K)),
        "softmax_cross_entropy of rows": (error, (z, rows), (N, K)),
        "softmax_cross_entropy weighted": (weighted, (z, y, s), (N, K)),
        "softmax_cross_entropy smoothed": (smoothed, (z, y), (N, K)),
        "softmax_cross_entropy axis 0": (
            lambda z, y, out=None: fastbp.softmax_cross_entropy(z, y, axis=0, out=out)[1],
            (np.ascontiguousarray(z.T), y),
            (K, N),
        ),
        "output_error": (fastbp.output_error, (a, y), (N, K)),
        "output_error of rows": (fastbp.output_error, (a, rows), (N, K)),
        "output_error axis 0": (
            lambda a, y, out=None: fastbp.output_error(a, y, axis=0, out=out),
            (np.ascontiguousarray(a.T), y),
            (K, N),
        ),
        "dense": (fastbp.dense, (p["a_prev"], p["w"], p["b"]), (N, K)),
        "hidden_error": (fastbp.hidden_error, (p["delta"], p["w"], p["a"]), (N, J)),
        "bias_gradient": (fastbp.bias_gradient, (p["delta"],), (K,)),
        "weight_gradient": (fastbp.weight_gradient, (p["a_prev"], p["delta"]), (J, K)),
    }


with_out_names = pytest.mark.parametrize("name", with_out(np.dtype(np.float64)))


@with_out_names
def test_out_is_filled_and_returned(dtype, name):
    function, arrays, shape = with_out(dtype)[name]
    expected = function(*arrays)
    assert expected.shape == shape
    assert expected.dtype == dtype
    gaps = [slice(None, None, 2)] * len(shape)
    for out in (
        np.full(shape, np.nan, dtype),
        np.full(shape[::-1], np.nan, dtype).T,
        np.full([2 * n for n in shape], np.nan, dtype)[tuple(gaps)],
        np.full(shape, np.nan, dtype)[::-1],
        LAYOUTS["subclass"](np.full(shape, np.nan, dtype)),
        unaligned(shape, dtype),
    ):
        before = [array.copy() for array in arrays]
        assert function(*arrays, out=out) is out
        assert_same_bits(np.array(out), expected)
        for array, kept in zip(arrays, before, strict=True):
            assert_same_bits(array, kept) if array.dtype == dtype else None


def unaligned(shape, dtype):
    size = int(np.prod(shape)) * dtype.itemsize
    return np.empty(size + 1, np.uint8)[1:].view(dtype).reshape(shape)


@with_out_names
def test_out_keeps_what_lies_beside_it(dtype, name):
    function, arrays, shape = with_out(dtype)[name]
    frame = np.full([n + 2 for n in shape], 7, dtype)
    inside = tuple(slice(1, -1) for _ in shape)
    expected = function(*arrays)
    function(*arrays, out=frame[inside])
    assert_same_bits(frame[inside], expected)
    frame[inside] = 7
    assert (frame == 7).all()


@with_out_names
def test_out_may_be_an_input_or_overlap_it(dtype, name):
    function, arrays, shape = with_out(dtype)[name]
    expected = function(*arrays)
    size = expected.size
    for i, array in enumerate(arrays):
        if array.dtype != dtype and array.dtype.itemsize != dtype.itemsize:
            continue  # labels in the memory of a float64 result
        room = max(array.size, size)
        for shift in (0, 1, size // 2, -1, -(array.size // 2)):
            buffer = np.empty(2 * room + 2, dtype)
            start = max(0, -shift)
            given = buffer[start : start + array.size].view(array.dtype).reshape(array.shape)
            given[...] = array
            out = buffer[start + shift : start + shift + size].reshape(shape)
            assert np.shares_memory(out, given) or abs(shift) > 1
            got = function(*arrays[:i], given, *arrays[i + 1 :], out=out)
            assert got is out
            assert_same_bits(got, expected, f"input {i} shifted by {shift}:")


@with_out_names
def test_out_that_does_not_fit_is_left_alone(dtype, name):
    function, arrays, shape = with_out(dtype)[name]
    other = np.dtype(np.float32 if dtype == np.float64 else np.float64)
    wrong_shapes = [(*shape, 1), (1, *shape), (shape[0] + 1, *shape[1:]), ()]
    if shape[-1:] != shape[:1]:
        wrong_shapes.append(shape[::-1])
    outs = [(ValueError, np.full(wrong, 7, dtype)) for wrong in wrong_shapes]
    outs += [(TypeError, np.full(shape, 7, other)), (TypeError, np.full(shape, 7, int))]
    outs += [(TypeError, np.full(shape, 7, dtype).tolist())]
    outs += [(TypeError, np.ma.array(np.full(shape, 7, dtype)))]
    read_only = np.full(shape, 7, dtype)
    read_only.flags.writeable = False
    outs.append((ValueError, read_only))
    for error, out in outs:
        with pytest.raises(error, match=r"^out must "):
            function(*arrays, out=out)
        assert (np.asarray(out) == 7).all()


def test_out_of_a_scalar_loss(dtype):
    z, y = draw(N, K, dtype=dtype), draw_labels(N)
    for options in ({}, {"reduction": "sum"}, {"label_smoothing": 0.1}):
        out = np.full((), np.nan, dtype)
        assert fastbp.cross_entropy(z, y, **options, out=out) is out
        assert out == fastbp.cross_entropy(z, y, **options)
    with pytest.raises(ValueError, match=r"^out must have shape \(\), got \(7,\)$"):
        fastbp.cross_entropy(z, y, out=np.zeros(N, dtype))


@with_out_names
def test_no_bad_argument_writes_to_out(dtype, name):
    function, arrays, shape = with_out(dtype)[name]
    for i in range(len(arrays)):
        out = np.full(shape, 7, dtype)
        bad = [array.copy() for array in arrays]
        bad[i] = bad[i].astype(complex)
        with pytest.raises(TypeError):
            function(*bad, out=out)
        assert (out == 7).all()


def test_a_flag_that_is_neither_true_nor_false():
    with pytest.raises(TypeError, match="keepdims must be True or False, got array"):
        fastbp.logsumexp([[1.0, 2.0]], keepdims=np.array([1, 0]))
    assert fastbp.logsumexp(np.ones((3, 2)), keepdims=np.bool_(True)).shape == (3, 1)
