"""The checked functions: right for any array-like, any axis, any option and any ``out``."""

import itertools

import numpy as np
import pytest
import reference
import scipy.special
from layouts import LAYOUTS
from tolerances import FINITE_DIFFERENCE, STEP, assert_product, assert_same_bits, assert_ulp

import fastbp

#: Errors of the reductions and of the building of target rows, beside the kernels', in eps.
ROUNDINGS = 8

N, K, J = 7, 5, 3  # rows, classes (or units), units of the layer before


def draw(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def draw_labels(*shape, n_classes=K):
    return np.random.default_rng([0, *shape]).integers(n_classes, size=shape)


def draw_targets(*shape, dtype=np.float64, axis=-1):
    y = np.random.default_rng(shape).exponential(size=shape)
    return (y / y.sum(axis=axis, keepdims=True)).astype(dtype)


def assert_close(got, exact, scale=1):
    """Within a few roundings of ``exact``, or of ``scale`` where entries cancel."""
    __tracebackhide__ = True
    exact = np.asarray(exact, np.longdouble)
    size = np.maximum(np.abs(exact), scale * np.abs(exact).max(initial=0))
    error = np.abs(got.astype(np.longdouble) - exact)
    assert got.shape == exact.shape
    allowed = ROUNDINGS * np.finfo(got.dtype).eps * size
    assert (error <= allowed).all(), f"got {got!r} instead of {exact!r}"


# Functions of one array, element by element and along axes

ELEMENTWISE = ("sigmoid", "sigmoid_derivative", "tanh", "relu")
AXES = [-1, 0, 1, 2, -3, None, (0,), (1, 2), (2, 1), (0, 2), (-1, 0), (0, 1, 2), ()]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_functions_match_the_reference(dtype, name):
    for shape in ((), (1,), (9,), (0,), (2, 0), (3, 5), (2, 3, 4), (0, 3)):
        z = 30 * draw(*shape, dtype=dtype)
        got = getattr(fastbp, name)(z)
        assert np.shape(got) == shape
        assert got.dtype == dtype
        assert_ulp(name, np.asarray(got), getattr(reference, name)(z))
    assert np.isscalar(getattr(fastbp, name)(0.0))
    assert getattr(fastbp, name)(np.float32(0)).dtype == np.float32


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_functions_of_rows_match_the_reference(dtype, name):
    for n_classes in (1, 2, 10, 33, 1000):
        z = 5 * draw(11, n_classes, dtype=dtype)
        got, exact = getattr(fastbp, name)(z), getattr(reference, name)(z)
        assert got.dtype == dtype
        at = np.maximum(np.abs(z).max(axis=1), np.abs(exact)) if name == "logsumexp" else None
        assert_ulp(name, got, exact, at)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_axis_is_scipys(dtype, name):
    function, expected = getattr(fastbp, name), getattr(scipy.special, name)
    kept = ({}, {"keepdims": True}) if name == "logsumexp" else ({},)
    rtol = 32 * np.finfo(dtype).eps
    for axis, order, options in itertools.product(AXES, "CF", kept):
        z = np.asarray(draw(4, 3, 5, dtype=dtype), order=order)
        before = z.copy()
        got = function(z, axis, **options)
        assert got.dtype == dtype
        # log_softmax of a row of one class, 0, stays 0 in SciPy up to rounding
        np.testing.assert_allclose(got, expected(z, axis, **options), rtol, atol=rtol)
        assert_same_bits(z, before)
        outs = [np.full(np.shape(got), np.nan, dtype)]
        outs += [z] if name != "logsumexp" else []
        for out in outs:
            assert function(z, axis, out=out, **options) is out
            assert_same_bits(out, np.asarray(got))
    for axis in (-1, 0, None):
        got = function(1000, axis)
        assert np.isscalar(got)
        assert got == expected(1000, axis)


# The cost

WEIGHT = np.array([0.5, 2.0, 0.0, -1.3, 3.0])
SAMPLE_WEIGHT = np.array([1.0, 0.0, 2.5, -1.0, 0.125, 3.0, 1.0])
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
kinds = pytest.mark.parametrize("kind", ["labels", "rows"])


def answers(kind, options, *shape, axis=-1, dtype=np.float64):
    """Labels, some of them to be ignored, or target rows."""
    if kind == "rows":
        return draw_targets(*shape, dtype=dtype, axis=axis)
    y = draw_labels(*np.delete(shape, axis))
    if options["ignore_index"] == -100:
        y.reshape(-1)[1::3] = -100
    return y


@kinds
def test_cost_matches_the_reference(dtype, kind):
    z = draw(N, K, dtype=dtype)
    for options in COMBINATIONS:
        if kind == "rows" and options["ignore_index"]:
            continue
        y = answers(kind, options, N, K, dtype=dtype)
        exact_loss, exact_delta = reference.cost(z, y, **options)
        loss, delta = fastbp.softmax_cross_entropy(z, y, **options)
        alone = fastbp.cross_entropy(z, y, **options)
        assert loss.dtype == delta.dtype == alone.dtype == dtype
        assert_close(loss, exact_loss)
        assert_close(alone, exact_loss)
        assert_close(delta, exact_delta, 1)


@kinds
def test_options_are_torchs(dtype, kind):
    torch = pytest.importorskip("torch", reason="the peer whose options these are")
    rtol = 64 * np.finfo(dtype).eps
    shapes = itertools.cycle([(N, K), (4, K, 3), (K,), (2, K, 3, 2)])
    for options, shape in zip(COMBINATIONS, shapes, strict=False):
        if options["sample_weight"] is not None or (kind == "rows" and options["ignore_index"]):
            continue
        axis = 0 if len(shape) == 1 else 1
        z = draw(*shape, dtype=dtype)
        y = answers(kind, options, *shape, axis=axis, dtype=dtype)
        theirs = {name: x for name, x in options.items() if name != "sample_weight"}
        if theirs["weight"] is not None:
            theirs["weight"] = torch.tensor(WEIGHT.astype(dtype))
        theirs["ignore_index"] = theirs["ignore_index"] or -100
        there = torch.tensor(z, requires_grad=True)
        expected = torch.nn.functional.cross_entropy(there, torch.tensor(y), **theirs)
        expected.sum().backward()
        expected = expected.detach().numpy()
        assert np.isfinite(expected).all()  # some weight is left for every mean
        loss, delta = fastbp.softmax_cross_entropy(z, y, axis=axis, **options)
        alone = fastbp.cross_entropy(z, y, axis=axis, **options)
        assert np.shape(loss) == np.shape(alone) == expected.shape
        for got, right in ((loss, expected), (alone, expected), (delta, there.grad.numpy())):
            np.testing.assert_allclose(got, right, rtol, rtol)


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
        assert delta.flags.c_contiguous
    error = fastbp.output_error(z, y, axis=axis)
    assert_same_bits(error, np.moveaxis(fastbp.output_error(moved, y), -1, axis))


def test_target_rows_are_built_in_blocks(dtype, monkeypatch):
    z, y, rows = draw(23, K, dtype=dtype), draw_labels(23), draw_targets(23, K, dtype=dtype)
    s = np.random.default_rng(0).exponential(size=23)
    calls = [
        {"y": y, "label_smoothing": 0.1},
        {"y": y, "label_smoothing": 0.1, "weight": WEIGHT, "sample_weight": s},
        {"y": rows, "label_smoothing": 0.1, "sample_weight": s},
        {"y": rows, "weight": WEIGHT},
    ]
    whole = [fastbp.softmax_cross_entropy(z, **call) for call in calls]
    sizes, empty = [], np.empty

    def watched(shape, *args):
        sizes.append(np.prod(shape))
        return empty(shape, *args)

    monkeypatch.setattr(fastbp.functional, "_BLOCK_SIZE", 4 * K + 1)
    monkeypatch.setattr(np, "empty", watched)
    for call, expected in zip(calls, whole, strict=True):
        loss, delta = fastbp.softmax_cross_entropy(z, **call, out=z.copy())
        assert loss == expected[0]
        assert_same_bits(delta, expected[1])
    assert max(sizes) <= max(4 * K, 23)


@pytest.mark.parametrize("scale", [1e-300, 1e-60, 1e60, 1e300])
def test_mean_does_not_depend_on_the_scale_of_the_weights(dtype, scale):
    z, y = draw(N, K, dtype=dtype), draw_labels(N)
    calls = [{"sample_weight": SAMPLE_WEIGHT}]
    if dtype == np.float64:
        calls += [{"weight": WEIGHT, "label_smoothing": e} for e in (0.0, 0.5)]
    for call in calls:
        scaled = {name: x * scale if np.ndim(x) else x for name, x in call.items()}
        got, exact = fastbp.softmax_cross_entropy(z, y, **scaled), reference.cost(z, y, **call)
        assert_close(got[0], exact[0])
        assert_close(got[1], exact[1], 1)


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


@kinds
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduction": "sum"},
        {"weight": WEIGHT, "sample_weight": SAMPLE_WEIGHT},
        {"label_smoothing": 0.2, "weight": WEIGHT},
    ],
    ids=["mean", "sum", "weighted", "smoothed"],
)
def test_delta_is_the_gradient_of_the_loss(kind, options):
    z, y = draw(N, K), answers(kind, {"ignore_index": None}, N, K)
    delta = fastbp.softmax_cross_entropy(z, y, **options)[1]
    for place in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[place] += STEP
        down[place] -= STEP
        rise = fastbp.cross_entropy(up, y, **options) - fastbp.cross_entropy(down, y, **options)
        assert abs(rise / (2 * STEP) - delta[place]) < FINITE_DIFFERENCE


def test_logits_decide_the_dtype():
    z, y = draw(N, K, dtype=np.float32), draw_targets(N, K)
    loss, delta = fastbp.softmax_cross_entropy(z, y, weight=WEIGHT)
    assert loss.dtype == delta.dtype == np.float32
    same = fastbp.softmax_cross_entropy(z, y.astype("f4"), weight=WEIGHT.astype("f4"))
    assert loss == same[0]
    assert_same_bits(delta, same[1])


# The pieces of backpropagation


def layer(dtype, n=N):
    return {
        "a_prev": np.abs(draw(n, J, dtype=dtype, seed=1)),
        "w": draw(J, K, dtype=dtype, seed=2),
        "b": draw(K, dtype=dtype, seed=3),
        "delta": draw(n, K, dtype=dtype, seed=4),
        "a": reference.sigmoid(draw(n, J, seed=5)).astype(dtype),
    }


def test_layers_match_the_reference(dtype):
    p = layer(dtype)
    for name, arguments, n_terms in (
        ("dense", ("a_prev", "w", "b"), J),
        ("hidden_error", ("delta", "w", "a"), K),
        ("bias_gradient", ("delta",), N),
        ("weight_gradient", ("a_prev", "delta"), N),
    ):
        arrays = [p[argument] for argument in arguments]
        exactly = getattr(reference, "dense_forward" if name == "dense" else name)
        got, magnitude = getattr(fastbp, name)(*arrays), exactly(*map(np.abs, arrays))
        assert got.dtype == dtype
        assert_product(exactly.__name__, got, exactly(*arrays), magnitude, n_terms)


def test_output_error_matches_the_reference(dtype):
    a, y = fastbp.softmax(draw(N, K, dtype=dtype)), draw_labels(N)
    for given, rows in ((y, reference.onehot(y, K)), (draw_targets(N, K, dtype=dtype),) * 2):
        exact = reference.wide(a) * reference.wide(rows).sum(axis=1, keepdims=True) - rows
        assert_ulp("output_error", fastbp.output_error(a, given), exact, np.maximum(a, rows))


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
    p["a"][::2] = 0  # units that relu has silenced
    got = fastbp.hidden_error(p["delta"], p["w"], p["a"], activation=activation)
    delta, w, a = (reference.wide(p[name]) for name in ("delta", "w", "a"))
    magnitude = abs(delta) @ abs(w).T * abs(slope(a))
    assert_product("hidden_error", got, delta @ w.T * slope(a), magnitude, K)


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
    z, error = fastbp.dense(a_prev, w, b), fastbp.hidden_error(delta, w, a_prev / 2)
    assert_same_bits(z, np.tile(b + dtype.type(fan_in), (n, 1)))
    assert_same_bits(error, np.full((n, fan_in), fan_out / 4, dtype))
    if n:
        assert_same_bits(fastbp.weight_gradient(a_prev, delta), np.ones_like(w))
        assert_same_bits(fastbp.bias_gradient(delta), np.ones_like(b))


# Every function that has ``out``: how it is called, and with which arrays


def error_of(*arrays, out=None, **options):
    return fastbp.softmax_cross_entropy(*arrays, out=out, **options)[1]


def with_weights(z, y, s, out=None):
    return error_of(z, y, sample_weight=s, out=out)


def cases(dtype):
    p, z, y = layer(dtype), draw(N, K, dtype=dtype), draw_labels(N)
    rows, s = draw_targets(N, K, dtype=dtype), np.abs(draw(N, dtype=dtype))
    a, transposed = reference.softmax(z).astype(dtype), np.ascontiguousarray(z.T)
    row = np.ascontiguousarray(z[0])
    return {
        **{name: (getattr(fastbp, name), {}, (z,)) for name in (*ELEMENTWISE, "softmax")},
        **{f"{name} 1-D": (getattr(fastbp, name), {}, (row,)) for name in ("tanh", "softmax")},
        "softmax axis 0": (fastbp.softmax, {"axis": 0}, (z,)),
        "softmax axis None": (fastbp.softmax, {"axis": None}, (z,)),
        "log_softmax": (fastbp.log_softmax, {}, (z,)),
        "logsumexp": (fastbp.logsumexp, {}, (z,)),
        "logsumexp axis 0": (fastbp.logsumexp, {"axis": 0}, (z,)),
        "cross_entropy": (fastbp.cross_entropy, {}, (z, y)),
        "cross_entropy summed": (fastbp.cross_entropy, {"label_smoothing": 0.1}, (z, y)),
        "losses": (fastbp.cross_entropy, {"reduction": "none"}, (z, y)),
        "losses of rows": (fastbp.cross_entropy, {"reduction": "none"}, (z, rows)),
        "softmax_cross_entropy": (error_of, {}, (z, y)),
        "softmax_cross_entropy of rows": (error_of, {}, (z, rows)),
        "softmax_cross_entropy weighted": (with_weights, {}, (z, y, s)),
        "softmax_cross_entropy smoothed": (error_of, {"label_smoothing": 0.1}, (z, y)),
        "softmax_cross_entropy axis 0": (error_of, {"axis": 0}, (transposed, y)),
        "output_error": (fastbp.output_error, {}, (a, y)),
        "output_error of rows": (fastbp.output_error, {}, (a, rows)),
        "output_error axis 0": (fastbp.output_error, {"axis": 0}, (transposed, y)),
        "dense": (fastbp.dense, {}, (p["a_prev"], p["w"], p["b"])),
        "hidden_error": (fastbp.hidden_error, {}, (p["delta"], p["w"], p["a"])),
        "bias_gradient": (fastbp.bias_gradient, {}, (p["delta"],)),
        "weight_gradient": (fastbp.weight_gradient, {}, (p["a_prev"], p["delta"])),
    }


NAMES = [*cases(np.dtype(np.float64))]
every_case = pytest.mark.parametrize("name", NAMES)


@every_case
def test_any_layout_gives_the_same_bits(dtype, name):
    function, options, arrays = cases(dtype)[name]
    expected = np.asarray(function(*arrays, **options))
    for i, layout in itertools.product(range(len(arrays)), LAYOUTS.values()):
        changed = [layout(x) if q == i else x for q, x in enumerate(arrays)]
        assert_same_bits(np.asarray(function(*changed, **options)), expected)


@every_case
def test_lists_and_integers_are_float64(name):
    function, options, arrays = cases(np.dtype(np.float64))[name]
    lists = [x.tolist() for x in arrays]
    expected = np.asarray(function(*arrays, **options))
    assert_same_bits(np.asarray(function(*lists, **options)), expected)
    first, *others = arrays
    whole = np.trunc(np.abs(4 * first)) + 1
    expected = np.asarray(function(whole, *others, **options))
    for integer in ("i8", "u1", ">i2"):
        got = np.asarray(function(whole.astype(integer), *others, **options))
        assert_same_bits(got, expected)


@every_case
def test_out_is_filled_and_nothing_beside_it(dtype, name):
    function, options, arrays = cases(dtype)[name]
    before = [array.copy() for array in arrays]
    expected = np.asarray(function(*arrays, **options))
    shape, gaps = expected.shape, (..., *[slice(None, None, 2)] * expected.ndim)
    frame = np.full([n + 2 for n in shape], 7, dtype)
    inside = (..., *[slice(1, -1)] * expected.ndim)
    for out in (
        np.full(shape, np.nan, dtype),
        np.full(shape[::-1], np.nan, dtype).T,
        np.full([2 * n for n in shape], np.nan, dtype)[gaps],
        np.full(shape, np.nan, dtype)[..., *[slice(None, None, -1)] * expected.ndim],
        LAYOUTS["subclass"](np.full(shape, np.nan, dtype)),
        np.empty(expected.nbytes + 1, np.uint8)[1:].view(dtype).reshape(shape),  # unaligned
        frame[inside],
    ):
        assert function(*arrays, out=out, **options) is out
        assert_same_bits(np.array(out), expected)
    for array, kept in zip(arrays, before, strict=True):
        assert array.tobytes() == kept.tobytes()
    frame[inside] = 7
    assert (frame == 7).all()


@every_case
def test_out_may_be_an_input_or_overlap_it(dtype, name):
    function, options, arrays = cases(dtype)[name]
    expected = np.asarray(function(*arrays, **options))
    size = expected.size
    for i, array in enumerate(arrays):
        if array.dtype.itemsize != dtype.itemsize:
            continue  # labels in the memory of a float64 result
        for shift in (0, 1, size // 2, -1, -(array.size // 2)):
            buffer = np.empty(2 * max(array.size, size) + 2, dtype)
            start = max(0, -shift)
            given = buffer[start : start + array.size].view(array.dtype).reshape(array.shape)
            given[...] = array
            out = buffer[start + shift : start + shift + size].reshape(expected.shape)
            got = function(*arrays[:i], given, *arrays[i + 1 :], out=out, **options)
            assert got is out
            assert_same_bits(got, expected, f"input {i} shifted by {shift}:")


@pytest.mark.parametrize(
    "name",
    [n for n in NAMES if n.startswith(("sigmoid", "tanh", "relu", "softmax", "log_so", "output"))],
)
def test_out_may_be_the_input_in_any_layout(dtype, name):
    function, options, arrays = cases(dtype)[name]
    expected = np.asarray(function(*arrays, **options))
    for layout in ("Fortran order", "gaps", "negative strides"):
        z = LAYOUTS[layout](arrays[0].copy())
        assert function(z, *arrays[1:], out=z, **options) is z
        assert_same_bits(np.array(z), expected)
    z = arrays[0].copy()
    function(z, *arrays[1:], out=z[::-1], **options)
    assert_same_bits(z[::-1].copy(), expected)
