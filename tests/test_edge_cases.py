"""The table of edge cases in the functions' contract, one test a row, for both dtypes."""

import re

import numpy as np
import pytest
from layouts import LAYOUTS
from tolerances import assert_same_bits

import fastbp

NAN, INF = np.nan, np.inf
K = 4
REDUCTIONS = ("mean", "sum", "none")


def losses(z, y, **options):
    return fastbp.cross_entropy(z, y, reduction="none", **options)


def losses_with_delta(z, y, **options):
    return fastbp.softmax_cross_entropy(z, y, reduction="none", **options)


def delta_of(z, y, **options):
    return fastbp.softmax_cross_entropy(z, y, reduction="sum", **options)[1]


# What takes logits and labels, with the options that lead to other kernels.
COSTS = {
    "labels": {},
    "weight": {"weight": [1.0, 2.0, 3.0, 0.5]},
    "label_smoothing": {"label_smoothing": 0.25},
    "rows": {"rows": True},
    "weighted rows": {"rows": True, "weight": [1.0, 2.0, 3.0, 0.5]},
}
both = pytest.mark.parametrize("cost", [fastbp.cross_entropy, fastbp.softmax_cross_entropy])


def arguments(cost, labels, n_classes=K):
    """Labels or one-hot rows, and the remaining options."""
    options = dict(cost)
    rows = options.pop("rows", False)
    return (np.eye(n_classes)[labels] if rows else np.asarray(labels)), options


ELEMENTWISE = (fastbp.sigmoid, fastbp.sigmoid_derivative, fastbp.tanh, fastbp.relu)


def batch(dtype, n=5, n_classes=K):
    return np.random.default_rng(n).standard_normal((n, n_classes)).astype(dtype)


def everything(z, labels):
    """All results of a batch, row by row."""
    yield "softmax", fastbp.softmax(z)
    yield "log_softmax", fastbp.log_softmax(z)
    for name, cost in COSTS.items():
        y, options = arguments(cost, labels, z.shape[1])
        yield f"loss of {name}", losses(z, y, **options)
        loss, delta = losses_with_delta(z, y, **options)
        yield f"loss with delta of {name}", loss
        yield f"delta of {name}", delta


@pytest.mark.parametrize("bad", [NAN, INF], ids=["nan", "inf"])
@pytest.mark.parametrize("n_classes", [K, 16, 37])
def test_row_with_nan_or_inf(dtype, bad, n_classes):
    labels = np.array([0, 1, 2, 3, 1])
    clean = batch(dtype, n_classes=n_classes)
    for row in range(5):
        for k in (0, 1, n_classes - 1):
            z = clean.copy()
            z[row, k] = bad
            others = np.arange(5) != row
            if n_classes == K:
                found, expected = everything(z, labels), everything(clean, labels)
            else:
                found = [("softmax", fastbp.softmax(z)), ("log_softmax", fastbp.log_softmax(z))]
                found += zip("ld", losses_with_delta(z, labels), strict=True)
                expected = [("", fastbp.softmax(clean)), ("", fastbp.log_softmax(clean))]
                expected += zip("ld", losses_with_delta(clean, labels), strict=True)
            for (name, got), (_, same) in zip(found, expected, strict=True):
                assert np.isnan(got[row]).all(), name
                assert_same_bits(got[others], same[others], name)
            lse = fastbp.logsumexp(z)
            np.testing.assert_array_equal(lse[row], bad)
            assert_same_bits(lse[others], fastbp.logsumexp(clean)[others])


def test_row_with_nan_and_inf(dtype):
    z = np.array([[NAN, INF, 0], [-INF, INF, NAN], [INF, -INF, -INF], [INF, INF, 0]], dtype)
    assert np.isnan(fastbp.softmax(z)).all()
    assert np.isnan(fastbp.log_softmax(z)).all()
    np.testing.assert_array_equal(fastbp.logsumexp(z), [NAN, NAN, INF, INF])


def test_reduced_loss_of_a_row_with_nan(dtype):
    z = batch(dtype)
    z[1, 1] = NAN
    for reduction in ("mean", "sum"):
        assert np.isnan(fastbp.cross_entropy(z, [0, 1, 2, 3, 0], reduction=reduction))
        assert np.isnan(fastbp.softmax_cross_entropy(z, [0, 1, 2, 3, 0], reduction=reduction)[0])


def test_minus_inf_logits(dtype):
    z = np.array([[0, -INF, 0], [-INF, 5, -INF], [-INF, 0, 1]], dtype)
    a = fastbp.softmax(z)
    np.testing.assert_array_equal(a[:2], [[0.5, 0, 0.5], [0, 1, 0]])
    assert a[2, 0] == 0
    assert (fastbp.log_softmax(z)[np.isneginf(z)] == -INF).all()
    assert fastbp.log_softmax(z)[1, 1] == 0
    assert fastbp.logsumexp(z)[1] == 5
    for y in ([0, 1, 1], np.eye(3)[[0, 1, 1]]):
        loss, delta = losses_with_delta(z, y)
        assert loss[1] == 0
        assert not np.signbit(loss[1])
        assert np.isfinite(loss).all()
        np.testing.assert_array_equal(delta[:2], [[-0.5, 0, 0.5], [0, 0, 0]])
        assert delta[2, 0] == 0
        np.testing.assert_allclose(delta[2, 1], -delta[2, 2], rtol=4 * np.finfo(dtype).eps)
        assert_same_bits(losses(z, y), loss)


def test_minus_inf_logit_of_the_label(dtype):
    z = np.array([[0, -INF, 0], [1, 2, 3]], dtype)
    for y in ([1, 1], np.eye(3)[[1, 1]]):
        loss, delta = losses_with_delta(z, y)
        assert loss[0] == INF
        assert np.isfinite(loss[1])
        np.testing.assert_array_equal(delta[0], [0.5, -1, 0.5])
        assert losses(z, y)[0] == INF
        for reduction in ("mean", "sum"):
            assert fastbp.cross_entropy(z, y, reduction=reduction) == INF
    # smoothing gives every class a share, and so the whole row
    assert losses(z, [0, 1], label_smoothing=0.1)[0] == INF
    # a row of weight 0 contributes 0, whatever it holds
    loss, delta = losses_with_delta(z, [1, 1], sample_weight=[0, 1])
    assert loss[0] == 0
    assert (delta[0] == 0).all()


def test_row_of_only_minus_inf(dtype):
    labels = np.array([0, 1, 2, 3, 1])
    clean = batch(dtype)
    z = clean.copy()
    z[2] = -INF
    others = np.arange(5) != 2
    for (name, got), (_, same) in zip(
        everything(z, labels), everything(clean, labels), strict=True
    ):
        assert np.isnan(got[2]).all(), name
        assert_same_bits(got[others], same[others], name)
    lse = fastbp.logsumexp(z)
    assert lse[2] == -INF
    assert_same_bits(lse[others], fastbp.logsumexp(clean)[others])


def test_soft_target_zero_on_a_minus_inf_logit(dtype):
    z = np.array([[1, -INF, 0, -INF], [1, 2, 3, 4]], dtype)
    y = np.array([[0.25, 0, 0.75, 0], [0.25, 0.25, 0.25, 0.25]], dtype)
    loss, delta = losses_with_delta(z, y)
    same_loss, same_delta = losses_with_delta(z[:1, ::2].copy(), y[:1, ::2].copy())
    np.testing.assert_allclose(loss[0], same_loss[0], rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(delta[0, ::2], same_delta[0], rtol=16 * np.finfo(dtype).eps)
    assert (delta[0, 1::2] == 0).all()
    assert_same_bits(losses(z, y), loss)
    # class weights leave the zero a zero
    weighted = losses(z, y, weight=[1.0, 2.0, 1.0, 0.0])
    np.testing.assert_allclose(weighted[0], loss[0], rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("value", [0.0, -1e30, 1e30, 3.0])
def test_one_class(dtype, value):
    z = np.full((3, 1), value, dtype)
    np.testing.assert_array_equal(fastbp.softmax(z), np.ones((3, 1)))
    assert_same_bits(fastbp.log_softmax(z) + 0, np.zeros((3, 1), dtype))
    assert_same_bits(fastbp.logsumexp(z), z[:, 0])
    for y in (np.zeros(3, int), np.ones((3, 1))):
        for options in ({}, {"label_smoothing": 0.5}, {"weight": [2.0]}):
            for reduction in REDUCTIONS:
                loss, delta = fastbp.softmax_cross_entropy(z, y, reduction=reduction, **options)
                alone = fastbp.cross_entropy(z, y, reduction=reduction, **options)
                for each in (loss, alone):
                    assert np.all(each == 0)
                    assert not np.signbit(each).any()
                np.testing.assert_array_equal(delta, np.zeros((3, 1)))


@pytest.mark.parametrize("kind", ["labels", "rows"])
def test_no_rows(dtype, kind):
    z = np.zeros((0, K), dtype)
    y = np.zeros(0, int) if kind == "labels" else np.zeros((0, K))
    for function in (fastbp.softmax, fastbp.log_softmax, *ELEMENTWISE):
        assert_same_bits(function(z), z)
    assert fastbp.logsumexp(z).shape == (0,)
    assert_same_bits(fastbp.output_error(z, y), z)
    for options in ({}, {"label_smoothing": 0.1}, {"weight": np.ones(K)}, {"sample_weight": []}):
        assert losses(z, y, **options).shape == (0,)
        assert_same_bits(delta_of(z, y, **options), z)
        total = fastbp.cross_entropy(z, y, reduction="sum", **options)
        assert total == 0
        assert not np.signbit(total)
        for function in (fastbp.cross_entropy, fastbp.softmax_cross_entropy):
            message = re.escape("the mean is over no rows: z has shape (0, 4)")
            with pytest.raises(ValueError, match=f"^{message}$"):
                function(z, y, **options)


@pytest.mark.parametrize("shape", [(3, 0), (0, 0), (0,)])
def test_no_classes(dtype, shape):
    z = np.zeros(shape, dtype)
    y = np.zeros(shape[:-1], int)
    for call in (
        lambda: fastbp.softmax(z),
        lambda: fastbp.log_softmax(z),
        lambda: fastbp.logsumexp(z),
        lambda: fastbp.softmax(z, None),
        lambda: fastbp.cross_entropy(z, y),
        lambda: fastbp.cross_entropy(z, z),
        lambda: fastbp.softmax_cross_entropy(z, y, reduction="sum"),
        lambda: fastbp.output_error(z, y),
    ):
        with pytest.raises(ValueError, match="must have at least one class, got shape"):
            call()


@pytest.mark.parametrize("label", [-1, K, -100, 255, 2**40])
def test_label_outside_the_classes(dtype, label):
    z = batch(dtype)
    y = np.array([0, 1, 2, 3, 0])
    y[3] = label
    message = f"^y must hold labels from 0 to 3, got {label} in row 3$"
    for function in (fastbp.cross_entropy, fastbp.softmax_cross_entropy, fastbp.output_error):
        for out in (z, np.full_like(z, 7)):
            before = out.copy()
            options = {"reduction": "none"} if function is fastbp.cross_entropy else {}
            given = out[:, 0] if options else out
            with pytest.raises(ValueError, match=message):
                function(z, y, out=given, **options)
            assert_same_bits(out, before)
        with pytest.raises(ValueError, match=message):
            function(z, y)
    with pytest.raises(ValueError, match=message):
        fastbp.cross_entropy(z, y, ignore_index=-7)
    with pytest.raises(ValueError, match=message):
        fastbp.cross_entropy(z, y, label_smoothing=0.1)


@pytest.mark.parametrize("cost", [cost for cost in COSTS.values() if "rows" not in cost])
def test_ignored_rows_contribute_nothing(dtype, cost):
    z = batch(dtype)
    z[1], z[3, 0] = NAN, INF
    y = np.array([0, 9, 2, 9, 3])
    kept = y != 9
    for reduction in REDUCTIONS:
        options = cost | {"reduction": reduction}
        loss, delta = fastbp.softmax_cross_entropy(z, y, ignore_index=9, **options)
        some = fastbp.softmax_cross_entropy(z[kept], y[kept], **options)
        if reduction == "none":
            assert (loss[~kept] == 0).all()
            loss = loss[kept]
        np.testing.assert_allclose(loss, some[0], rtol=4 * np.finfo(dtype).eps)
        np.testing.assert_array_equal(delta[~kept], np.zeros((2, K)))
        assert_same_bits(delta[kept], some[1])


def test_all_rows_ignored(dtype):
    z, y = batch(dtype), np.full(5, 2)
    for options in (
        {},
        {"weight": np.ones(K)},
        {"label_smoothing": 0.1},
        {"sample_weight": [1] * 5},
    ):
        options = options | {"ignore_index": 2}
        loss, delta = fastbp.softmax_cross_entropy(z, y, reduction="sum", **options)
        assert loss == 0
        assert not np.signbit(loss)
        np.testing.assert_array_equal(delta, np.zeros_like(z))
        np.testing.assert_array_equal(losses(z, y, **options), np.zeros(5))
        for function in (fastbp.cross_entropy, fastbp.softmax_cross_entropy):
            message = "^the mean is over no rows: every label is ignore_index$"
            with pytest.raises(ValueError, match=message):
                function(z, y, **options)


@pytest.mark.parametrize("y", [[0.0, 1.0], np.zeros(2, np.float32), [True, False], [0j, 1j]])
def test_labels_that_are_no_integers(dtype, y):
    for function in (fastbp.cross_entropy, fastbp.softmax_cross_entropy, fastbp.output_error):
        with pytest.raises(TypeError, match=r"^y must be integer labels, got dtype "):
            function(batch(dtype, 2), y)


@pytest.mark.parametrize(
    "integer", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", ">i4"]
)
def test_labels_of_every_integer_dtype(dtype, integer):
    z, y = batch(dtype), np.array([0, 3, 1, 2, 2])
    for function in (losses, delta_of, fastbp.output_error):
        assert_same_bits(function(z, y.astype(integer)), function(z, y))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.5, 0.75, -0.25, 0.0], "y must hold probabilities, got -0.25 in row 1"),
        ([0.5, NAN, 0.25, 0.0], "y must hold probabilities, got nan in row 1"),
        ([0.5, 0.25, 0.5, 0.0], "y must hold rows that sum to 1, got a sum of 1.25 in row 1"),
        ([0.0, 0.0, 0.0, 0.0], "y must hold rows that sum to 1, got a sum of 0.0 in row 1"),
        ([INF, 0.0, 0.0, 0.0], "y must hold rows that sum to 1, got a sum of inf in row 1"),
    ],
)
def test_soft_targets_that_are_no_probabilities(dtype, row, message):
    z = batch(dtype, 2)
    y = np.array([[1, 0, 0, 0], row], dtype)
    for function in (fastbp.cross_entropy, fastbp.softmax_cross_entropy, fastbp.output_error):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            function(z, y)


def test_soft_targets_within_rounding(dtype):
    u = np.finfo(dtype).eps / 2
    for off, fits in ((7.5, True), (-7.5, True), (9, False), (-9, False)):
        y = np.full((1, K), 0.25 + off * u, dtype)
        if fits:
            fastbp.cross_entropy(batch(dtype, 1), y)
        else:
            with pytest.raises(ValueError, match="must hold rows that sum to 1"):
                fastbp.cross_entropy(batch(dtype, 1), y)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@both
def test_sample_weights_that_are_none(dtype, cost, reduction):
    z = batch(dtype, 3)
    for y in (np.array([0, 1, 2]), np.eye(K)[:3]):
        for bad, said in ((-1.0, "-1.0"), (NAN, "nan"), (INF, "inf"), (-INF, "-inf")):
            message = f"sample_weight must be finite and not negative, got {said} in row 2"
            with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
                cost(z, y, sample_weight=[1, 1, bad], reduction=reduction)
            with pytest.raises(ValueError, match=r"^weight must be finite and not negative"):
                cost(z, y, weight=[1, 1, bad, 1], reduction=reduction)
        message = "^sample_weight must not be all zero, got 3 zeros$"
        with pytest.raises(ValueError, match=message):
            cost(z, y, sample_weight=[0, 0, 0], reduction=reduction)


@both
def test_mean_over_weights_that_sum_to_zero(dtype, cost):
    z = batch(dtype, 3)
    for y, options in (
        ([0, 1, 0], {"weight": [0, 0, 1, 1]}),
        ([0, 1, 2], {"sample_weight": [0, 0, 1], "ignore_index": 2}),
        ([0, 1, 2], {"sample_weight": [0, 0, 1], "weight": [1, 1, 0, 1], "label_smoothing": 0.5}),
    ):
        with pytest.raises(ValueError, match="the mean is over weights that sum to zero"):
            cost(z, y, **options)


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, NAN, INF, -1])
@both
def test_label_smoothing_outside_its_range(dtype, cost, smoothing):
    message = f"label_smoothing must be a number in [0, 1], got {smoothing!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        cost(batch(dtype, 1), [0], label_smoothing=smoothing)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (fastbp.sigmoid, [NAN, 1.0, 0.0, 0.5, 0.5]),
        (fastbp.sigmoid_derivative, [NAN, 0.0, 0.0, 0.25, 0.25]),
        (fastbp.tanh, [NAN, 1.0, -1.0, -0.0, 0.0]),
        (fastbp.relu, [NAN, INF, 0.0, -0.0, 0.0]),
    ],
)
def test_elementwise_special_values(dtype, function, expected):
    z = np.array([NAN, INF, -INF, -0.0, 0.0], dtype)
    assert_same_bits(function(z), np.array(expected, dtype))
    for z_i, expected_i in zip(z, expected, strict=True):
        assert_same_bits(np.asarray(function(z_i)), np.asarray(expected_i, dtype))


FUNCTIONS = {
    "sigmoid": fastbp.sigmoid,
    "sigmoid_derivative": fastbp.sigmoid_derivative,
    "tanh": fastbp.tanh,
    "relu": fastbp.relu,
    "softmax": fastbp.softmax,
    "log_softmax": fastbp.log_softmax,
    "logsumexp": fastbp.logsumexp,
    "cross_entropy": lambda z: losses(z, [0, 1, 2, 3, 0]),
    "softmax_cross_entropy": lambda z: delta_of(z, [0, 1, 2, 3, 0]),
    "output_error": lambda a: fastbp.output_error(a, [0, 1, 2, 3, 0]),
    "hidden_error": lambda a: fastbp.hidden_error(np.ones((5, 2)), np.ones((K, 2)), a),
    "hidden_error, first": lambda d: fastbp.hidden_error(d, np.ones((2, K)), np.ones((5, 2))),
    "bias_gradient": fastbp.bias_gradient,
    "weight_gradient": lambda a: fastbp.weight_gradient(a, np.ones((5, 2))),
    "dense": lambda a: fastbp.dense(a, np.ones((K, 2)), np.ones(2)),
    "dense, weights": lambda w: fastbp.dense(np.ones((2, 5)), w, np.ones(K)),
}
functions = pytest.mark.parametrize("name", FUNCTIONS)


@functions
@pytest.mark.parametrize("integer", ["int64", "uint8", ">i2", int])
def test_integer_logits(name, integer):
    z = np.random.default_rng(0).integers(0, 9, (5, K)).astype(integer)
    got = FUNCTIONS[name](z)
    assert got.dtype == np.float64
    assert_same_bits(got, FUNCTIONS[name](z.astype(np.float64)))
    assert_same_bits(got, FUNCTIONS[name](z.tolist()))


@functions
@pytest.mark.parametrize(
    "bad", ["bool", "float16", "complex64", "complex128", "object", "longdouble", "str"]
)
def test_dtypes_that_are_refused(name, bad):
    if bad == "longdouble" and np.finfo(bad).bits == 64:
        pytest.skip("longdouble is float64 on this platform")
    z = np.ones((5, K)).astype(bad)
    with pytest.raises(TypeError, match=re.escape(f"got dtype {z.dtype}")):
        FUNCTIONS[name](z)


@functions
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_matrices_and_masks_are_refused(dtype, name):
    z = batch(dtype)
    with pytest.raises(TypeError, match=f"got a numpy.matrix of dtype {dtype}"):
        FUNCTIONS[name](np.matrix(z))
    with pytest.raises(TypeError, match=f"got a masked array of dtype {dtype}"):
        FUNCTIONS[name](np.ma.array(z, mask=z > 0))


@functions
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_any_layout_gives_the_same_bits(dtype, name, layout):
    z = batch(dtype)
    expected = FUNCTIONS[name](z.copy())
    assert_same_bits(FUNCTIONS[name](layout(z)), expected)


@functions
def test_list_is_float64(name):
    z = batch(np.float64)
    assert_same_bits(FUNCTIONS[name](z.tolist()), FUNCTIONS[name](z))


IN_PLACE = {
    "sigmoid": fastbp.sigmoid,
    "sigmoid_derivative": fastbp.sigmoid_derivative,
    "tanh": fastbp.tanh,
    "relu": fastbp.relu,
    "softmax": fastbp.softmax,
    "softmax axis 0": lambda z, out=None: fastbp.softmax(z, 0, out=out),
    "log_softmax": fastbp.log_softmax,
    "softmax_cross_entropy": lambda z, out=None: fastbp.softmax_cross_entropy(
        z, [0, 1, 2, 3, 0], out=out
    )[1],
    "output_error": lambda a, out=None: fastbp.output_error(a, [0, 1, 2, 3, 0], out=out),
    "hidden_error": lambda a, out=None: fastbp.hidden_error(
        np.ones((5, 2), a.dtype), np.ones((K, 2)), a, out=out
    ),
}
in_place = pytest.mark.parametrize("name", IN_PLACE)


@in_place
@pytest.mark.parametrize("layout", ["plain", "Fortran order", "gaps", "negative strides"])
def test_out_is_the_input_itself(dtype, name, layout):
    z = batch(dtype)
    expected = IN_PLACE[name](z.copy())
    z = LAYOUTS[layout](z) if layout != "plain" else z
    assert IN_PLACE[name](z, out=z) is z
    assert_same_bits(z, expected)


@in_place
def test_out_overlaps_the_input(dtype, name):
    rows = batch(dtype, 7)
    for first, second in ((0, 1), (1, 0), (0, 2), (2, 0)):
        z = rows.copy()
        expected = IN_PLACE[name](z[first : first + 5].copy())
        out = z[second : second + 5]
        assert IN_PLACE[name](z[first : first + 5], out=out) is out
        assert_same_bits(out, expected)
        kept = [i for i in range(7) if not second <= i < second + 5]
        assert_same_bits(z[kept], rows[kept])
    z = rows[:5].copy()
    expected = IN_PLACE[name](z.copy())
    IN_PLACE[name](z, out=z[::-1])
    assert_same_bits(z[::-1], expected)


@in_place
def test_out_of_another_kind(dtype, name):
    z = batch(dtype)
    other = np.dtype(np.float32 if dtype == np.float64 else np.float64)
    for error, out in (
        (ValueError, np.full((4, K), 7, dtype)),
        (ValueError, np.full((5, K, 1), 7, dtype)),
        (TypeError, np.full((5, K), 7, other)),
        (TypeError, np.full((5, K), 7, dtype.newbyteorder())),
        (TypeError, [[7] * K] * 5),
        (ValueError, LAYOUTS["read-only"](np.full((5, K), 7, dtype))),
    ):
        with pytest.raises(error, match="out must"):
            IN_PLACE[name](z, out=out)
        assert (np.asarray(out) == 7).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_training_that_diverges(dtype):
    rng = np.random.default_rng(0)
    x = (1e3 * rng.standard_normal((64, 8))).astype(dtype)
    y = rng.integers(0, 3, 64)
    net = fastbp.Network([8, 4, 3], dtype=dtype, seed=0)
    largest = float(np.finfo(dtype).max)
    with pytest.raises(fastbp.DivergenceError):
        net.fit(x, y, epochs=50, batch_size=4, learning_rate=largest, progress=False)
    assert issubclass(fastbp.DivergenceError, FloatingPointError)
    assert issubclass(fastbp.DivergenceError, ValueError)
    for parameter in (*net.weights, *net.biases):
        assert np.isfinite(parameter).all()
