"""Special values: the table of edge cases, for both dtypes."""

import numpy as np
import pytest
from tolerances import assert_same_bits

import fastbp

NAN, INF = np.nan, np.inf
N, K = 5, 4
Y = np.array([0, 1, 2, 3, 1])
REDUCTIONS = ("mean", "sum", "none")
WEIGHT = [1.0, 2.0, 3.0, 0.5]
# Options that lead to other kernels, and whether the answers are target rows
COSTS = {
    "labels": ({}, False),
    "weight": ({"weight": WEIGHT}, False),
    "label_smoothing": ({"label_smoothing": 0.25}, False),
    "rows": ({}, True),
    "weighted rows": ({"weight": WEIGHT}, True),
}


def losses(z, y, **options):
    return fastbp.cross_entropy(z, y, reduction="none", **options)


def losses_with_delta(z, y, **options):
    return fastbp.softmax_cross_entropy(z, y, reduction="none", **options)


def batch(dtype, n_classes=K):
    return np.random.default_rng(N).standard_normal((N, n_classes)).astype(dtype)


def everything(z):
    """All results of a batch, row by row."""
    results = {"softmax": fastbp.softmax(z), "log_softmax": fastbp.log_softmax(z)}
    for name, (options, by_row) in COSTS.items():
        if "weight" in options and z.shape[1] != K:
            continue
        y = np.eye(z.shape[1])[Y] if by_row else Y
        results[f"losses, {name}"] = losses(z, y, **options)
        loss, results[f"delta, {name}"] = losses_with_delta(z, y, **options)
        assert_same_bits(loss, results[f"losses, {name}"])
    return results


@pytest.mark.parametrize("n_classes", [K, 16, 37])
@pytest.mark.parametrize("bad", [NAN, INF, -INF], ids=["nan", "inf", "only -inf"])
def test_a_bad_row_is_nan_and_others_keep_their_bits(dtype, bad, n_classes):
    clean = batch(dtype, n_classes)
    expected, lse = everything(clean), fastbp.logsumexp(clean)
    for row, k in enumerate((0, 1, n_classes // 2, n_classes - 2, n_classes - 1)):
        z = clean.copy()
        z[row, slice(None) if bad == -INF else k] = bad
        others = np.arange(N) != row
        for name, got in everything(z).items():
            assert np.isnan(got[row]).all(), name
            assert_same_bits(got[others], expected[name][others], name)
        np.testing.assert_array_equal(fastbp.logsumexp(z), np.where(others, lse, bad))
        for reduction in ("mean", "sum"):
            assert np.isnan(fastbp.cross_entropy(z, Y, reduction=reduction))
            assert np.isnan(fastbp.softmax_cross_entropy(z, Y, reduction=reduction)[0])


def test_row_with_nan_and_inf(dtype):
    z = np.array([[NAN, INF, 0], [-INF, INF, NAN], [INF, -INF, -INF], [INF, INF, 0]], dtype)
    assert np.isnan(fastbp.softmax(z)).all()
    assert np.isnan(fastbp.log_softmax(z)).all()
    np.testing.assert_array_equal(fastbp.logsumexp(z), [NAN, NAN, INF, INF])


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
        assert loss[0] == losses(z, y)[0] == INF
        assert np.isfinite(loss[1])
        np.testing.assert_array_equal(delta[0], [0.5, -1, 0.5])
        for reduction in ("mean", "sum"):
            assert fastbp.cross_entropy(z, y, reduction=reduction) == INF
    # smoothing gives every class a share
    assert losses(z, [0, 1], label_smoothing=0.1)[0] == INF
    # a row of weight 0 contributes 0 even for an infinite loss
    loss, delta = losses_with_delta(z, [1, 1], sample_weight=[0, 1])
    assert loss[0] == 0
    assert (delta[0] == 0).all()


def test_soft_target_zero_on_a_minus_inf_logit(dtype):
    z = np.array([[1, -INF, 0, -INF], [1, 2, 3, 4]], dtype)
    y = np.array([[0.25, 0, 0.75, 0], [0.25, 0.25, 0.25, 0.25]], dtype)
    eps = np.finfo(dtype).eps
    loss, delta = losses_with_delta(z, y)
    same_loss, same_delta = losses_with_delta(z[:1, ::2].copy(), y[:1, ::2].copy())
    np.testing.assert_allclose(loss[0], same_loss[0], rtol=4 * eps)
    np.testing.assert_allclose(delta[0, ::2], same_delta[0], rtol=16 * eps)
    assert (delta[0, 1::2] == 0).all()
    assert_same_bits(losses(z, y), loss)
    # class weights leave the zero a zero
    weighted = losses(z, y, weight=[1.0, 2.0, 1.0, 0.0])
    np.testing.assert_allclose(weighted[0], loss[0], rtol=4 * eps)


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


def test_no_rows(dtype):
    z = np.zeros((0, K), dtype)
    names = "softmax", "log_softmax", "sigmoid", "sigmoid_derivative", "tanh", "relu"
    for function in (getattr(fastbp, name) for name in names):
        assert_same_bits(function(z), z)
    assert fastbp.logsumexp(z).shape == (0,)
    for y in (np.zeros(0, int), np.zeros((0, K))):
        assert_same_bits(fastbp.output_error(z, y), z)
        for options in ({}, {"label_smoothing": 0.1}, {"weight": WEIGHT}, {"sample_weight": []}):
            assert losses(z, y, **options).shape == (0,)
            total, delta = fastbp.softmax_cross_entropy(z, y, reduction="sum", **options)
            assert total == fastbp.cross_entropy(z, y, reduction="sum", **options) == 0
            assert not np.signbit(total)
            assert_same_bits(delta, z)


@pytest.mark.parametrize("cost", [name for name in COSTS if "rows" not in name])
def test_ignored_rows_contribute_nothing(dtype, cost):
    z, y = batch(dtype), np.array([0, 9, 2, 9, 3])
    z[1], z[3, 0] = NAN, INF
    kept = y != 9
    for reduction in REDUCTIONS:
        options = COSTS[cost][0] | {"reduction": reduction}
        loss, delta = fastbp.softmax_cross_entropy(z, y, ignore_index=9, **options)
        some = fastbp.softmax_cross_entropy(z[kept], y[kept], **options)
        if reduction == "none":
            assert (loss[~kept] == 0).all()
            loss = loss[kept]
        np.testing.assert_allclose(loss, some[0], rtol=4 * np.finfo(dtype).eps)
        np.testing.assert_array_equal(delta[~kept], np.zeros((2, K)))
        assert_same_bits(delta[kept], some[1])
    loss, delta = fastbp.softmax_cross_entropy(
        z, 0 * y, ignore_index=0, reduction="sum", **COSTS[cost][0]
    )
    assert loss == 0
    assert not np.signbit(loss)
    np.testing.assert_array_equal(delta, np.zeros_like(z))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sigmoid", [NAN, 1.0, 0.0, 0.5, 0.5]),
        ("sigmoid_derivative", [NAN, 0.0, 0.0, 0.25, 0.25]),
        ("tanh", [NAN, 1.0, -1.0, -0.0, 0.0]),
        ("relu", [NAN, INF, 0.0, -0.0, 0.0]),
    ],
)
def test_elementwise_special_values(dtype, name, expected):
    z, expected = np.array([NAN, INF, -INF, -0.0, 0.0], dtype), np.array(expected, dtype)
    assert_same_bits(getattr(fastbp, name)(z), expected)
    alone = [getattr(fastbp, name)(z_i) for z_i in z]
    assert_same_bits(np.array(alone), expected)
