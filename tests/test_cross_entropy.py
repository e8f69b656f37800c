"""Cross-entropy from logits, the output error, both in one pass, targets and the sum of losses."""

import itertools
import math

import calls
import numpy as np
import pytest
import reference
from inputs import (
    CLASSES,
    KINDS,
    SPREADS,
    batches,
    labels_of,
    logits,
    many_rows,
    targets_of,
    weights_of,
)
from tolerances import (
    EPS,
    FINITE_DIFFERENCE,
    STEP,
    assert_same_bits,
    assert_ulp,
)

from fastbp import kernels

NAN, INF = np.nan, np.inf


def assert_right(z):
    """Loss and output error match the reference on ``z``, and keep their invariants."""
    __tracebackhide__ = True
    labels = labels_of(z)
    exact_loss, exact_delta = reference.softmax_cross_entropy(z, labels)
    loss, delta = calls.softmax_cross_entropy(z, labels)()
    assert_ulp("cross_entropy", calls.cross_entropy(z, labels)(), exact_loss)
    assert_ulp("cross_entropy", loss, exact_loss)
    assert_ulp("delta", delta, exact_delta)
    good = ~np.isnan(loss)
    assert not np.signbit(loss[good]).any()
    at_label = np.zeros(z.shape, bool)
    at_label[np.arange(len(z)), labels] = True
    assert (delta[at_label][good] <= 0).all()
    assert (delta[~at_label & good[:, None]] >= 0).all()


def assert_right_targets(z):
    """The same with target rows."""
    __tracebackhide__ = True
    y = targets_of(z)
    exact_loss, exact_delta = reference.softmax_cross_entropy_targets(z, y)
    loss, delta = calls.softmax_cross_entropy_targets(z, y)()
    assert_ulp("cross_entropy_targets", calls.cross_entropy_targets(z, y)(), exact_loss)
    assert_ulp("cross_entropy_targets", loss, exact_loss)
    assert_ulp("delta_targets", delta, exact_delta, larger_term(z, y))
    assert not np.signbit(loss[~np.isnan(loss)]).any()


def larger_term(z, y):
    """The larger of a sum(y) and y, whose difference delta is."""
    return np.maximum(reference.softmax(z) * reference.wide(y).sum(axis=1, keepdims=True), y)


@pytest.mark.parametrize("n_classes", CLASSES)
def test_matches_reference(dtype, n_classes):
    for z in batches(n_classes, dtype):
        assert_right(z)


@pytest.mark.parametrize("n_classes", CLASSES)
def test_targets_match_reference(dtype, n_classes):
    for z in batches(n_classes, dtype):
        assert_right_targets(z)


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("kind", KINDS)
def test_matches_reference_at_any_spread(dtype, kind, spread):
    for n_classes in CLASSES[2::3]:
        z = logits(kind, spread, (12, n_classes), dtype, seed=1)
        assert_right(z)
        assert_right_targets(z)


@pytest.mark.compiled
def test_many_classes(dtype):
    for kind in KINDS:
        z = logits(kind, 30.0, (3, 65536), dtype)
        assert_right(z)
        assert_right_targets(z)


def test_matches_mpmath_on_confident_rows(dtype):
    for spread in (20.0, 40.0, 100.0, 700.0):
        for row in (row for kind in KINDS for row in logits(kind, spread, (2, 5), dtype)):
            for label in (int(row.argmax()), int(row.argmin())):
                y = np.arange(5) == label
                loss, delta = calls.softmax_cross_entropy(row[None], np.array([label]))()
                exact = reference.from_mp([reference.cross_entropy_mp(row, y)])
                assert_ulp("cross_entropy", loss, exact)
                exact = reference.from_mp(reference.output_error_mp(row, y))
                assert_ulp("delta", delta[0], exact)


def test_onehot_targets_are_labels(dtype):
    """Confident rows included: neither the loss nor the label's entry may be rounded to zero."""
    for z in itertools.chain(batches(10, dtype), batches(3, dtype)):
        labels = labels_of(z)
        y = reference.onehot(labels, z.shape[1]).astype(dtype)
        loss, delta = calls.softmax_cross_entropy_targets(z, y)()
        exact_loss, exact_delta = reference.softmax_cross_entropy(z, labels)
        assert_ulp("cross_entropy_targets", loss, exact_loss)
        assert_ulp("delta_targets", delta, exact_delta, np.maximum(np.abs(exact_delta), y))


@pytest.mark.parametrize("n_classes", CLASSES)
def test_weights_and_scale(dtype, n_classes):
    for scale, z in zip(itertools.cycle((1.0, 1 / 3, 1e-3, 64.0)), batches(n_classes, dtype)):
        labels, y, weight = labels_of(z), targets_of(z), weights_of(len(z))
        exact_loss, exact_delta = reference.softmax_cross_entropy(z, labels, weight, scale)
        tiny = weight * float(np.finfo(dtype).tiny)
        loss_at = np.maximum(exact_loss, tiny)
        loss, delta = calls.softmax_cross_entropy(z, labels, weight, scale)()
        assert_ulp("weighted_cross_entropy", loss, exact_loss, loss_at)
        delta_at = np.maximum(np.abs(exact_delta), scale * tiny[:, None])
        assert_ulp("scaled_delta", delta, exact_delta, delta_at)
        loss = calls.cross_entropy(z, labels, weight)()
        assert_ulp("weighted_cross_entropy", loss, exact_loss, loss_at)

        exact_loss, exact_delta = reference.softmax_cross_entropy_targets(z, y, weight, scale)
        loss, delta = calls.softmax_cross_entropy_targets(z, y, weight, scale)()
        loss_at = np.maximum(exact_loss, tiny)
        assert_ulp("weighted_cross_entropy", loss, exact_loss, loss_at)
        delta_at = reference.weigh(scale * larger_term(z, y), weight)
        delta_at = np.maximum(delta_at, scale * tiny[:, None])
        assert_ulp("delta_targets", delta, exact_delta, delta_at)
        loss = calls.cross_entropy_targets(z, y, weight)()
        assert_ulp("weighted_cross_entropy", loss, exact_loss, loss_at)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_weight_of_one_and_scale_of_one_change_nothing(dtype, label):
    z = logits("normal", 5.0, (17, 10), dtype)
    labels, ones = np.full(17, label), np.ones(17)
    expected = calls.softmax_cross_entropy(z, labels)()
    calls.assert_same_results(calls.softmax_cross_entropy(z, labels, ones)(), expected)
    y = targets_of(z)
    expected = calls.softmax_cross_entropy_targets(z, y)()
    calls.assert_same_results(calls.softmax_cross_entropy_targets(z, y, ones)(), expected)


def test_targets_of_any_sum(dtype):
    """delta = a sum(y) - y."""
    for factor in (0.0, 0.25, 3.0):
        z = logits("normal", 5.0, (9, 17), dtype)
        y = (factor * targets_of(z)).astype(dtype)
        exact_loss, exact_delta = reference.softmax_cross_entropy_targets(z, y)
        loss, delta = calls.softmax_cross_entropy_targets(z, y)()
        assert_ulp("cross_entropy_targets", loss, exact_loss)
        assert_ulp("delta_targets", delta, exact_delta, larger_term(z, y))


# row, label, loss, delta; what numbers there are is exact
SPECIAL = {
    "nan": ([0, NAN, 1], 0, NAN, [NAN] * 3),
    "nan at the label": ([0, NAN, 1], 1, NAN, [NAN] * 3),
    "inf": ([0, INF, 1], 0, NAN, [NAN] * 3),
    "inf at the label": ([0, INF, 1], 1, NAN, [NAN] * 3),
    "only -inf": ([-INF, -INF, -INF], 2, NAN, [NAN] * 3),
    "-inf": ([-INF, 0, 0], 1, np.log(2), [0, -0.5, 0.5]),
    "-inf at the label": ([-INF, 0, 0], 0, INF, [-1, 0.5, 0.5]),
    "only the label": ([-INF, 7, -INF], 1, 0, [0, 0, 0]),
    "only another": ([-INF, 7, -INF], 2, INF, [0, 1, -1]),
}


@pytest.mark.parametrize("case", SPECIAL)
def test_special_rows(dtype, case):
    row, label, expected_loss, expected_delta = SPECIAL[case]
    z, labels = np.array([row], dtype), np.array([label])
    loss, delta = calls.softmax_cross_entropy(z, labels)()
    np.testing.assert_allclose(loss, [expected_loss], rtol=1e-6)
    np.testing.assert_allclose(delta, [expected_delta], rtol=1e-6)
    np.testing.assert_allclose(calls.cross_entropy(z, labels)(), [expected_loss], rtol=1e-6)
    assert not np.signbit(loss[loss == 0]).any()
    y = reference.onehot(labels, 3).astype(dtype)
    loss, delta = calls.softmax_cross_entropy_targets(z, y)()
    np.testing.assert_allclose(loss, [expected_loss], rtol=1e-6)
    np.testing.assert_allclose(delta, [expected_delta], rtol=1e-6)
    np.testing.assert_allclose(calls.cross_entropy_targets(z, y)(), [expected_loss], rtol=1e-6)
    # a weight of zero leaves the row out, whatever it holds
    no_weight = np.zeros(1)
    loss, delta = calls.softmax_cross_entropy(z, labels, no_weight)()
    assert_same_bits(loss, np.zeros(1, dtype))
    np.testing.assert_array_equal(delta, np.zeros((1, 3)))
    assert_same_bits(calls.cross_entropy(z, labels, no_weight)(), np.zeros(1, dtype))
    y = reference.onehot(labels, 3).astype(dtype)
    loss, delta = calls.softmax_cross_entropy_targets(z, y, no_weight)()
    assert_same_bits(loss, np.zeros(1, dtype))
    np.testing.assert_array_equal(delta, np.zeros((1, 3)))
    assert_same_bits(calls.cross_entropy_targets(z, y, no_weight)(), np.zeros(1, dtype))


def test_target_of_zero_on_minus_infinity_contributes_nothing(dtype):
    z = np.array([[-INF, 0, 0], [1, -INF, -INF], [-INF, 3, -INF]], dtype)
    y = np.array([[0, 0.5, 0.5], [1, 0, 0], [0, 1, 0]], dtype)
    loss, delta = calls.softmax_cross_entropy_targets(z, y)()
    np.testing.assert_allclose(loss, [np.log(2), 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(delta, np.zeros((3, 3)))
    np.testing.assert_array_equal(calls.cross_entropy_targets(z, y)(), loss)


def test_positive_target_on_minus_infinity_costs_infinitely(dtype):
    z = np.array([[-INF, 0, 0]], dtype)
    y = np.array([[0.5, 0.25, 0.25]], dtype)
    loss, delta = calls.softmax_cross_entropy_targets(z, y)()
    np.testing.assert_array_equal(loss, [INF])
    np.testing.assert_array_equal(delta, [[-0.5, 0.25, 0.25]])
    np.testing.assert_array_equal(calls.cross_entropy_targets(z, y)(), [INF])


def all_calls(z, labels, y, weight):
    return {
        "cross_entropy": calls.cross_entropy(z, labels, weight),
        "cross_entropy_targets": calls.cross_entropy_targets(z, y, weight),
        "softmax_cross_entropy": calls.softmax_cross_entropy(z, labels, weight, 0.25),
        "softmax_cross_entropy_targets": calls.softmax_cross_entropy_targets(z, y, weight, 0.25),
        "output_error": calls.output_error(y, labels),
        "output_error_targets": calls.output_error_targets(np.sqrt(y), y),
    }


NAMES = list(all_calls(*[np.zeros((1, 1)), np.zeros(1, np.intp), np.zeros((1, 1)), np.zeros(0)]))
every_kernel = pytest.mark.parametrize("name", NAMES)


def make(name):
    return lambda z, labels, y, weight: all_calls(z, labels, y, weight)[name]


def arguments(shape, dtype, weighted=True):
    z = logits("normal", 5.0, shape, dtype)
    if shape[1] > 1:
        z[1::5, 0] = -INF
    weight = weights_of(shape[0]) if weighted else calls.EVERY_ROW
    return z, labels_of(z), targets_of(z), weight


@pytest.mark.parametrize("n_classes", CLASSES)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_special_rows_leave_the_others_alone(dtype, value, n_classes):
    n = 9
    z, labels, y, weight = arguments((n, n_classes), dtype, weighted=False)
    for k in sorted({0, n_classes // 3, n_classes // 2, n_classes - 1}):
        special = z.copy()
        special[2::3, k] = value
        special_y = y.copy()
        special_y[2::3] = targets_of(special[2::3]) if value == -INF and n_classes > 1 else 1
        if n_classes > 1 or value != -INF:
            assert_right(special)
        for name in NAMES[:4]:
            expected = make(name)(z, labels, y, weight)()
            found = make(name)(special, labels, special_y, weight)()
            for one, good in zip(calls._listed(found), calls._listed(expected), strict=True):
                others = np.arange(n) % 3 != 2
                assert_same_bits(one[others], good[others])


@pytest.mark.parametrize("z_0", [0.0, -0.0, 1.0, -7.7, 0.3, 1e30, -1e30, 1e-45])
def test_one_class_is_exact(dtype, z_0):
    z, zeros, ones = np.full((5, 1), z_0, dtype), np.zeros(5, np.intp), np.ones((5, 1), dtype)
    for call in (
        calls.softmax_cross_entropy(z, zeros),
        calls.softmax_cross_entropy_targets(z, ones),
    ):
        loss, delta = call()
        assert_same_bits(loss, np.zeros(5, dtype))
        np.testing.assert_array_equal(delta, np.zeros((5, 1)))
    assert_same_bits(calls.cross_entropy(z, zeros)(), np.zeros(5, dtype))
    assert_same_bits(calls.cross_entropy_targets(z, ones)(), np.zeros(5, dtype))


def test_no_rows(dtype):
    z, labels = np.empty((0, 4), dtype), np.empty(0, np.intp)
    for call in all_calls(z, labels, z, calls.EVERY_ROW).values():
        assert all(result.size == 0 for result in calls._listed(call()))
    assert kernels.loss_sum(np.empty(0, dtype)) == 0.0


@pytest.mark.parametrize("n_classes", CLASSES[1:])
def test_extreme_logits(dtype, n_classes):
    info = np.finfo(dtype)
    numbers = np.array([info.max, -info.max, info.tiny, -info.tiny, 0, -0.0, 1, -1, info.max / 2])
    numbers = np.append(numbers, [float(info.smallest_subnormal), 700, -700, -INF])
    rng = np.random.default_rng(n_classes)
    z = rng.choice(numbers, (40, n_classes)).astype(dtype)
    z[:, 0] = rng.choice(numbers[:-1], 40)
    z[0], z[1] = -info.max, info.max
    z[2], z[2, -1] = -info.max, info.max
    assert_right(z)
    # a small part of an infinite term is infinite, though exactly it may not be
    assert_right_targets(z / 4)


@every_kernel
@pytest.mark.parametrize("n_classes", CLASSES)
@pytest.mark.parametrize("weighted", [True, False])
def test_rows_are_independent(dtype, name, n_classes, weighted):
    z, *others = arguments((many_rows(n_classes), n_classes), dtype, weighted)
    z[3::7, n_classes // 2] = NAN
    calls.assert_rows_independent(make(name), z, *others)


@pytest.mark.compiled
def test_stays_within_its_arguments():
    calls.assert_stays_within_pages(*NAMES, "smoothed_targets")


@every_kernel
def test_read_only_inputs(name):
    calls.assert_reads_read_only(make(name)(*arguments((5, 17), np.dtype("f4"))))


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("cross_entropy")])
@pytest.mark.parametrize("n_classes", CLASSES)
def test_in_place(dtype, name, n_classes):
    """delta may be the logits, or the activations."""
    for n in (1, 9, 17):
        calls.assert_in_place(make(name)(*arguments((n, n_classes), dtype)), 0)


@every_kernel
def test_overwrites_what_was_there(dtype, name):
    call = make(name)(*arguments((9, 17), dtype))
    expected = call()
    for value in (0, NAN, INF, 1e30):
        for array in call.written:
            array[...] = value
        calls.assert_same_results(call(), expected)


@pytest.mark.parametrize("n_classes", CLASSES)
def test_output_error(dtype, n_classes):
    """BP1, from the activations."""
    for z in batches(n_classes, dtype):
        a = reference.softmax(z).astype(dtype)
        labels = labels_of(z)
        onehot = reference.onehot(labels, n_classes)
        exact = reference.wide(a) - onehot
        assert_ulp("output_error", calls.output_error(a, labels)(), exact, np.maximum(a, onehot))
        for factor in (1, 0.3):
            y = (factor * targets_of(z)).astype(dtype)
            total = reference.wide(y).sum(axis=1, keepdims=True)
            exact = a * total - y
            at = np.maximum(a * total, y)
            assert_ulp("output_error", calls.output_error_targets(a, y)(), exact, at)


def test_gradient():
    """delta is the derivative of the loss by the logits, weights and scale included."""
    z = logits("normal", 1.0, (6, 7), np.float64)
    labels, y, weight = labels_of(z), 2 * targets_of(z), weights_of(len(z))
    _, delta = calls.softmax_cross_entropy(z, labels, weight, 0.5)()
    _, delta_targets = calls.softmax_cross_entropy_targets(z, y, weight, 0.5)()
    for k in range(z.shape[1]):
        step = STEP * (np.arange(z.shape[1]) == k)
        up = calls.cross_entropy(z + step, labels, weight)()
        down = calls.cross_entropy(z - step, labels, weight)()
        slope = 0.5 * (up - down) / (2 * STEP)
        np.testing.assert_allclose(slope, delta[:, k], rtol=0, atol=FINITE_DIFFERENCE)
        up = calls.cross_entropy_targets(z + step, y, weight)()
        down = calls.cross_entropy_targets(z - step, y, weight)()
        slope = 0.5 * (up - down) / (2 * STEP)
        np.testing.assert_allclose(slope, delta_targets[:, k], rtol=0, atol=FINITE_DIFFERENCE)


@pytest.mark.compiled
def test_compiled_equals_plain_python(dtype):
    batches = [arguments((3, n_classes), dtype) for n_classes in (1, 3, 10, 17, 33)]
    for targets in (True, False):
        names = [name for name in NAMES if name.endswith("targets") == targets]
        # a sum(y) and y are at most about one each, and their difference may be anything
        at_least = 1.0 if targets else 0
        some = [make(name)(*batch) for name in names for batch in batches]
        calls.assert_plain_is_close(some, at_least)


@every_kernel
@pytest.mark.compiled
def test_one_specialisation_for_each_dtype(name):
    calls.assert_one_specialisation(lambda *shape: make(name)(*arguments(*shape)))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("n_classes", CLASSES)
def test_smoothed_targets(dtype, n_classes, label_smoothing):
    n = 9
    rng = np.random.default_rng(n_classes)
    labels = rng.integers(0, n_classes, n).astype(np.intp)
    for class_weight in (np.empty(0, dtype), rng.exponential(size=n_classes).astype(dtype)):
        shape = n, n_classes
        call = calls.smoothed_targets(labels, class_weight, shape, dtype, label_smoothing)
        exact = reference.smoothed_targets(labels, class_weight, n_classes, label_smoothing)
        assert_ulp("smoothed_targets", call(), exact)
        calls.assert_reads_read_only(call)


def test_smoothing_of_zero_is_exactly_onehot(dtype):
    labels = np.array([2, 0, 2, 1])
    call = calls.smoothed_targets(labels, np.empty(0, dtype), (4, 3), dtype, 0.0)
    assert_same_bits(call(), reference.onehot(labels, 3).astype(dtype))


def test_loss_sum(dtype):
    """Exact up to one rounding however many rows there are, and whatever their sizes."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 15, 16, 17, 31, 33, 1000, 4097):
        for power in (0, 3, 30):
            loss = (rng.exponential(size=n) * 10.0 ** rng.uniform(-power, power, n)).astype(dtype)
            exact = math.fsum(loss.tolist())
            allowed = EPS["loss_sum"] * np.finfo(float).eps * exact
            assert abs(float(kernels.loss_sum(loss)) - exact) <= allowed
    assert isinstance(kernels.loss_sum(loss), float)


def test_loss_sum_of_many_small_after_a_large(dtype):
    loss = np.full(20_001, 2.0**-30, dtype)
    loss[0] = 2.0**23
    assert kernels.loss_sum(loss) == 2.0**23 + 20_000 * 2.0**-30


@pytest.mark.parametrize("n", [2, 3, 7, 8, 9, 16, 17, 33])
def test_loss_sum_of_small_beside_a_large(dtype, n):
    """Rounded once: nothing is lost where lanes are added, either."""
    for place in range(n):
        loss = np.ones(n, dtype)
        loss[place] = 2.0 ** (np.finfo(dtype).nmant + 1)
        assert kernels.loss_sum(loss) == math.fsum(loss.tolist())


@pytest.mark.parametrize("value", [INF, NAN])
@pytest.mark.parametrize("n", [1, 7, 16, 33])
def test_loss_sum_keeps_inf_and_nan(dtype, n, value):
    for i in range(n):
        loss = np.ones(n, dtype)
        loss[i] = value
        np.testing.assert_equal(kernels.loss_sum(loss), value)


@pytest.mark.compiled
def test_batch_mean(dtype):
    for kind, spread in itertools.product(KINDS[:4], SPREADS):
        z = logits(kind, spread, (500, 10), dtype)
        labels = labels_of(z)
        loss = calls.cross_entropy(z, labels)()
        exact = reference.cross_entropy(z, labels).mean()
        mean = np.array([kernels.loss_sum(loss) / len(loss)])
        allowed = 2 * np.finfo(dtype).eps * exact
        assert abs(mean[0] - exact) <= allowed, (kind, spread)
