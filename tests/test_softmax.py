"""softmax, log_softmax, logsumexp and the row maximum."""

import itertools

import calls
import numpy as np
import pytest
import reference
from inputs import CLASSES, KINDS, SPREADS, batches, logits, many_rows
from tolerances import FINITE_DIFFERENCE, STEP, assert_same_bits, assert_ulp

KERNELS = (calls.row_max, calls.softmax, calls.log_softmax, calls.logsumexp)
kernels = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.__name__)
NAN, INF = np.nan, np.inf


def assert_right(z):
    """All kernels of this file match the reference on ``z``, and p keeps its invariants."""
    __tracebackhide__ = True
    exact = reference.Rows(z)
    a, log_a = calls.softmax(z)(), calls.log_softmax(z)()
    assert_ulp("softmax", a, exact.softmax())
    assert_ulp("log_softmax", log_a, exact.log_softmax())
    lse = exact.logsumexp()
    at = np.maximum(np.abs(exact.z_max), np.abs(lse))
    assert_ulp("logsumexp", calls.logsumexp(z)(), lse, at)
    np.testing.assert_array_equal(calls.row_max(z)(), np.max(z, axis=1))
    good = ~np.isnan(a)
    assert (a[good] >= 0).all()
    assert (a[good] <= 1).all()
    assert (log_a[good] <= 0).all()
    assert_ordered(z, a)
    assert_ordered(z, log_a)


def assert_ordered(z, values):
    """x_i > x_j implies p_i >= p_j, and equal logits have equal results."""
    __tracebackhide__ = True
    order = np.argsort(z, axis=1)
    z, values = np.take_along_axis(z, order, 1), np.take_along_axis(values, order, 1)
    good = ~np.isnan(values[:, :1]) & np.ones(z.shape, bool)
    good = good[:, 1:]
    falls = good & (values[:, 1:] < values[:, :-1])
    assert not falls.any(), f"order lost at {np.argwhere(falls)[:3]}"
    differs = good & (z[:, 1:] == z[:, :-1]) & (values[:, 1:] != values[:, :-1])
    assert not differs.any(), f"ties lost at {np.argwhere(differs)[:3]}"


@pytest.mark.parametrize("n_classes", CLASSES)
def test_matches_reference(dtype, n_classes):
    for z in batches(n_classes, dtype):
        assert_right(z)


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("kind", KINDS)
def test_matches_reference_at_any_spread(dtype, kind, spread):
    for n_classes in CLASSES[2::3]:
        assert_right(logits(kind, spread, (12, n_classes), dtype, seed=1))


@pytest.mark.compiled
def test_many_classes(dtype):
    for kind in KINDS:
        assert_right(logits(kind, 30.0, (2, 65536), dtype))


def test_matches_mpmath_on_confident_rows(dtype):
    for spread in (20.0, 40.0, 100.0, 700.0):
        for row in (row for kind in KINDS for row in logits(kind, spread, (2, 5), dtype)):
            z = row[None]
            exact = reference.from_mp(reference.softmax_mp(row))
            assert_ulp("softmax", calls.softmax(z)()[0], exact)
            exact = reference.from_mp(reference.log_softmax_mp(row))
            assert_ulp("log_softmax", calls.log_softmax(z)()[0], exact)
            exact = reference.from_mp([reference.logsumexp_mp(row)])
            at = np.maximum(np.abs(exact), abs(row.max()))
            assert_ulp("logsumexp", calls.logsumexp(z)(), exact, at)


@pytest.mark.compiled
def test_order_of_neighbouring_logits(dtype):
    """Runs of consecutive numbers around the edges and the middles of every reduction by ln 2."""
    for z_max in (0.0, 1 / 3, 100 / 3):
        edges = -np.arange(1, 300) * (np.log(2) / 2)
        steps = np.arange(-300, 301) * np.finfo(dtype).eps / 2
        z = (edges[:, None] * (1 + steps)).ravel() + z_max
        z = np.append(z, z_max).astype(dtype)[None]
        assert_ordered(z, calls.softmax(z)())
        assert_ordered(z, calls.log_softmax(z)())


SPECIAL = {
    # row: (softmax, log_softmax, logsumexp)
    "nan": ([0, NAN, 1], [NAN] * 3, [NAN] * 3, NAN),
    "inf": ([0, INF, 1], [NAN] * 3, [NAN] * 3, INF),
    "two infs": ([INF, 0, INF], [NAN] * 3, [NAN] * 3, INF),
    "inf and -inf": ([-INF, INF, 0], [NAN] * 3, [NAN] * 3, INF),
    "nan and inf": ([NAN, INF, -INF], [NAN] * 3, [NAN] * 3, NAN),
    "inf and nan": ([INF, 0, NAN], [NAN] * 3, [NAN] * 3, NAN),
    "only -inf": ([-INF] * 3, [NAN] * 3, [NAN] * 3, -INF),
    "-inf": ([-INF, 0, -INF], [0, 1, 0], [-INF, 0, -INF], 0.0),
    "-inf first": ([-INF, 2, 2], [0, 0.5, 0.5], [-INF, -np.log(2), -np.log(2)], 2 + np.log(2)),
    "nan first": ([NAN, 0, 1], [NAN] * 3, [NAN] * 3, NAN),
    "nan last": ([0, 1, NAN], [NAN] * 3, [NAN] * 3, NAN),
}


@pytest.mark.parametrize("case", SPECIAL)
def test_special_rows(dtype, case):
    row, a, log_a, lse = SPECIAL[case]
    z = np.array([row], dtype)
    np.testing.assert_allclose(calls.softmax(z)()[0], a, rtol=1e-6)
    np.testing.assert_allclose(calls.log_softmax(z)()[0], log_a, rtol=1e-6)
    np.testing.assert_allclose(calls.logsumexp(z)()[0], lse, rtol=1e-6)
    np.testing.assert_array_equal(calls.row_max(z)(), np.max(z, axis=1))


@pytest.mark.parametrize("n_classes", CLASSES)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_special_rows_leave_the_others_alone(dtype, value, n_classes):
    """Wherever in the row the value stands, and whichever row it is."""
    n = 9
    z = logits("normal", 3.0, (n, n_classes), dtype)
    expected = [kernel(z)() for kernel in KERNELS]
    for k in sorted({0, n_classes // 3, n_classes // 2, n_classes - 1}):
        special = z.copy()
        special[2::3, k] = value
        assert_right(special)
        for kernel, good in zip(KERNELS, expected, strict=True):
            others = np.arange(n) % 3 != 2
            assert_same_bits(kernel(special)()[others], good[others])


@pytest.mark.parametrize("z_0", [0.0, -0.0, 1.0, -7.7, 0.3, 1e30, -1e30, 1e-45, 3e38, -3e38])
def test_one_class_is_exact(dtype, z_0):
    z = np.full((5, 1), z_0, dtype)
    assert_same_bits(calls.softmax(z)(), np.ones_like(z))
    assert_same_bits(np.abs(calls.log_softmax(z)()), np.zeros_like(z))
    np.testing.assert_array_equal(calls.logsumexp(z)(), z[:, 0])


def test_no_rows(dtype):
    z = np.empty((0, 4), dtype)
    for kernel in KERNELS:
        assert kernel(z)().size == 0


@pytest.mark.parametrize("n_classes", CLASSES[1:])
def test_extreme_logits(dtype, n_classes):
    """The largest and smallest numbers together: z - z_max may overflow or be subnormal."""
    info = np.finfo(dtype)
    numbers = np.array([info.max, -info.max, info.tiny, -info.tiny, 0, -0.0, 1, -1, info.max / 2])
    subnormal = float(info.smallest_subnormal)
    numbers = np.concatenate((numbers, [subnormal, -subnormal, info.eps, 700, -700, -INF]))
    rng = np.random.default_rng(n_classes)
    z = rng.choice(numbers, (40, n_classes)).astype(dtype)
    z[:, 0] = rng.choice(numbers[:-1], 40)  # a row of only -inf is another matter
    z[0] = -info.max
    z[1] = info.max
    z[2], z[2, -1] = -info.max, info.max
    z[3] = subnormal
    assert_right(z)


def test_subnormal_probabilities(dtype):
    """As small as the type can hold, and not zero before that."""
    info = np.finfo(dtype)
    smallest = np.log(float(info.smallest_subnormal)) if dtype == np.float32 else -744.4400719213812
    z = np.linspace(smallest - 2, np.log(float(info.tiny)) + 2, 1001).astype(dtype)
    z = np.stack([np.zeros_like(z), z], axis=1)
    a = calls.softmax(z)()
    assert_ulp("softmax", a, reference.softmax(z))
    assert a[-1, 1] > info.tiny
    assert ((a[:, 1] > 0) & (a[:, 1] < info.tiny)).sum() > 500


def test_no_confident_row_is_rounded_to_zero(dtype):
    """log(sum) of 1 + tiny is what most implementations get wrong."""
    z = np.array([[0, -40], [100, 20], [-3, -90.0], [1, 80]], dtype)
    log_a = calls.log_softmax(z)().max(axis=1)
    assert (log_a < 0).all()
    assert_ulp("log_softmax", log_a, reference.log_softmax(z).max(axis=1))


@kernels
@pytest.mark.parametrize("n_classes", CLASSES)
def test_rows_are_independent(dtype, kernel, n_classes):
    z = logits("normal", 5.0, (many_rows(n_classes), n_classes), dtype)
    z[1::7, 0] = -INF if n_classes > 1 else 0
    z[3::7, n_classes // 2] = NAN
    calls.assert_rows_independent(kernel, z)


@pytest.mark.compiled
def test_stays_within_its_arguments():
    calls.assert_stays_within_pages(*(kernel.__name__ for kernel in KERNELS))


@kernels
def test_read_only_logits(kernel):
    calls.assert_reads_read_only(kernel(logits("normal", 5.0, (5, 17), np.dtype("f4"))))


@pytest.mark.parametrize("kernel", [calls.softmax, calls.log_softmax])
@pytest.mark.parametrize("n_classes", CLASSES)
def test_in_place(dtype, kernel, n_classes):
    for kind, n in itertools.product(("normal", "masked"), (1, 9, 17)):
        calls.assert_in_place(kernel(logits(kind, 5.0, (n, n_classes), dtype)), 0)


@kernels
def test_overwrites_what_was_there(dtype, kernel):
    call = kernel(logits("normal", 5.0, (9, 17), dtype))
    expected = call()
    for value in (0, NAN, INF, 1e30):
        call.written[0][...] = value
        assert_same_bits(call(), expected)


def test_gradient():
    """d ln a_k / d z_i = [k = i] - a_i, and d logsumexp / d z_i = a_i."""
    z = logits("normal", 1.0, (6, 7), np.float64)
    a = calls.softmax(z)()
    for i in range(z.shape[1]):
        step = STEP * (np.arange(z.shape[1]) == i)
        up, down = z + step, z - step
        slope = (calls.logsumexp(up)() - calls.logsumexp(down)()) / (2 * STEP)
        np.testing.assert_allclose(slope, a[:, i], rtol=0, atol=FINITE_DIFFERENCE)
        slope = (calls.log_softmax(up)() - calls.log_softmax(down)()) / (2 * STEP)
        expected = (np.arange(z.shape[1]) == i) - a[:, i, None]
        np.testing.assert_allclose(slope, expected, rtol=0, atol=FINITE_DIFFERENCE)
        # da_i/dz_i = a_i (1 - a_i), da_j/dz_i = -a_j a_i
        slope = (calls.softmax(up)() - calls.softmax(down)()) / (2 * STEP)
        expected = a * ((np.arange(z.shape[1]) == i) - a[:, i, None])
        np.testing.assert_allclose(slope, expected, rtol=0, atol=FINITE_DIFFERENCE)


@pytest.mark.compiled
def test_compiled_equals_plain_python(dtype):
    batches = [
        logits(kind, 20.0, (3, n_classes), dtype)
        for kind, n_classes in itertools.product(("normal", "masked"), (1, 3, 10, 17, 33))
    ]
    calls.assert_plain_is_close([kernel(z) for kernel, z in itertools.product(KERNELS, batches)])


@kernels
@pytest.mark.compiled
def test_one_specialisation_for_each_dtype(kernel):
    calls.assert_one_specialisation(lambda *shape: kernel(logits("normal", 1, *shape)))
