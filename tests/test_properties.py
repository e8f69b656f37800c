"""What holds for every row of logits that Hypothesis can think of."""

import math

import calls
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tolerances import EPS, assert_same_bits

DTYPES = st.sampled_from([np.dtype(np.float32), np.dtype(np.float64)])


@st.composite
def batches(draw, minimum_classes=1, minus_infinity=True):
    """Finite or -inf logits of any size; every row has a finite maximum."""
    dtype = draw(DTYPES)
    shape = draw(st.integers(1, 20)), draw(st.integers(minimum_classes, 40))
    bound = draw(st.sampled_from([1e-3, 1.0, 10.0, 90.0, 800.0, float(np.finfo(np.float32).max)]))
    width = dtype.itemsize * 8
    bound = float(np.float32(bound))
    elements = st.floats(-bound, bound, width=width)
    if minus_infinity:
        elements |= st.just(-math.inf)
    z = draw(hnp.arrays(dtype, shape, elements=elements, fill=elements))
    z[np.isneginf(z).all(axis=1), 0] = 0
    return z


@st.composite
def labelled(draw, minimum_classes=1):
    """A batch and a label for each row."""
    z = draw(batches(minimum_classes))
    labels = draw(hnp.arrays(np.intp, len(z), elements=st.integers(0, z.shape[1] - 1)))
    return z, labels


def tolerance(name, z):
    """For the sum of a row of about one: eps times the root of the number of classes."""
    return EPS[name] * np.finfo(z.dtype).eps * math.sqrt(z.shape[1])


@given(batches())
def test_rows_sum_to_one(z):
    a = calls.softmax(z)()
    assert (a >= 0).all()
    assert (a <= 1).all()
    off = np.abs(a.sum(axis=1, dtype=np.longdouble) - 1)
    assert (off <= tolerance("rows_sum_to_one", z)).all()


@given(batches())
def test_order_is_preserved(z):
    a, log_a = calls.softmax(z)(), calls.log_softmax(z)()
    greater = z[:, :, None] > z[:, None, :]
    equal = z[:, :, None] == z[:, None, :]
    for p in (a, log_a):
        assert (p[:, :, None] >= p[:, None, :])[greater].all()
        assert (p[:, :, None] == p[:, None, :])[equal].all()


@given(batches())
def test_log_softmax_is_never_positive(z):
    assert (calls.log_softmax(z)() <= 0).all()


@given(batches(), st.integers(-8, 8))
def test_shift_invariance(z, shift):
    """Where adding a number to all logits is exact, it changes nothing but roundings."""
    z = np.round(np.clip(z, -1000, 1000).astype(np.float64) * 64) / 64
    batches = z.astype(np.float32), (z + shift).astype(np.float32)
    labels = np.zeros(len(z), np.intp)
    allowed = EPS["shift"] * np.finfo(np.float32).eps
    for kernel in (calls.softmax, calls.log_softmax):
        expected, found = (kernel(part)() for part in batches)
        np.testing.assert_allclose(found, expected, rtol=allowed, atol=1e-44)
    expected, found = (calls.softmax_cross_entropy(part, labels)() for part in batches)
    np.testing.assert_allclose(found[0], expected[0], rtol=allowed, atol=1e-44)
    np.testing.assert_allclose(found[1], expected[1], rtol=allowed, atol=1e-44)


@given(labelled(), st.randoms(use_true_random=False))
def test_permutation_of_the_classes(case, random):
    """The sums change by rounding, and nothing else."""
    z, labels = case
    order = np.array(random.sample(range(z.shape[1]), z.shape[1]))
    moved = np.ascontiguousarray(z[:, order])
    allowed = EPS["permutation"] * np.finfo(z.dtype).eps
    np.testing.assert_allclose(calls.softmax(moved)(), calls.softmax(z)()[:, order], rtol=allowed)
    found = calls.cross_entropy(moved, np.argsort(order)[labels])()
    np.testing.assert_allclose(found, calls.cross_entropy(z, labels)(), rtol=allowed)


@given(batches(), st.randoms(use_true_random=False))
def test_permutation_of_the_rows(z, random):
    """A row's bits do not depend on its place."""
    order = random.sample(range(len(z)), len(z))
    for kernel in (calls.softmax, calls.log_softmax, calls.logsumexp, calls.row_max):
        assert_same_bits(kernel(z[order].copy())(), kernel(z)()[order])


@given(labelled())
def test_loss_and_delta_have_their_signs(case):
    z, labels = case
    loss, delta = calls.softmax_cross_entropy(z, labels)()
    assert (loss >= 0).all()
    assert not np.signbit(loss).any()
    at_label = np.arange(z.shape[1]) == labels[:, None]
    assert (delta[at_label] <= 0).all()
    assert (delta[~at_label] >= 0).all()
    assert (np.abs(delta) <= 1).all()


@given(labelled())
def test_delta_rows_sum_to_zero(case):
    z, labels = case
    for delta in (
        calls.softmax_cross_entropy(z, labels)()[1],
        calls.output_error(calls.softmax(z)(), labels)(),
    ):
        off = np.abs(delta.sum(axis=1, dtype=np.longdouble))
        assert (off <= tolerance("delta_rows_sum_to_zero", z)).all()


@given(labelled(minimum_classes=2))
def test_loss_is_minus_log_softmax_at_the_label(case):
    """Up to the tolerance of each: none of them may round a confident row to zero."""
    z, labels = case
    loss = calls.cross_entropy(z, labels)()
    log_a = calls.log_softmax(z)()[np.arange(len(z)), labels]
    np.testing.assert_allclose(loss, -log_a, rtol=EPS["permutation"] * np.finfo(z.dtype).eps)


@given(DTYPES, st.floats(width=32), st.integers(1, 20))
def test_one_class_is_exact(dtype, value, n):
    z, labels = np.full((n, 1), value, dtype), np.zeros(n, np.intp)
    loss, delta = calls.softmax_cross_entropy(z, labels)()
    one, zero = (1, 0) if math.isfinite(value) else (math.nan, math.nan)
    np.testing.assert_array_equal(calls.softmax(z)(), np.full((n, 1), one, dtype))
    assert_same_bits(loss, np.full(n, zero, dtype))
    np.testing.assert_array_equal(delta, np.full((n, 1), zero, dtype))


@given(batches(minus_infinity=False))
def test_logsumexp_is_between_the_maximum_and_the_maximum_plus_log_of_the_classes(z):
    lse, z_max = calls.logsumexp(z)(), z.max(axis=1)
    assert (lse >= z_max).all()
    slack = 4 * np.finfo(z.dtype).eps * (np.abs(z_max.astype(np.float64)) + 4)
    assert (lse <= z_max.astype(np.float64) + math.log(z.shape[1]) + slack).all()


@given(labelled(), st.data())
def test_rows_without_weight_change_nothing_and_cost_nothing(case, data):
    z, labels = case
    weight = data.draw(hnp.arrays(np.float64, len(z), elements=st.sampled_from([0.0, 1.0])))
    loss, delta = calls.softmax_cross_entropy(z, labels, weight)()
    whole_loss, whole_delta = calls.softmax_cross_entropy(z, labels)()
    kept = weight > 0
    assert_same_bits(loss[kept], whole_loss[kept])
    assert_same_bits(delta[kept], whole_delta[kept])
    assert (loss[~kept] == 0).all()
    assert (delta[~kept] == 0).all()
