"""The oracle against digits worked by hand, and its fast forms against its plain ones."""

import ast
from fractions import Fraction
from pathlib import Path

import inputs
import numpy as np
import pytest
import reference
from mpmath import mp

LN2 = "0.693147180559945309417232121458176568"
EXP_MINUS_40 = "4.24835425529158899532923478286e-18"


def test_imports_nothing_of_the_package():
    tree = ast.parse(Path(reference.__file__).read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    assert modules
    assert not any(module.startswith("fastbp") for module in modules)


def close(found, digits):
    with mp.workprec(200):
        return abs(mp.mpf(found) - mp.mpf(digits)) < mp.mpf(10) ** -27 * abs(mp.mpf(digits))


def test_softmax_worked_by_hand():
    """Equal logits share equally; of the others e^2 / (e^2 + e + 1), to 30 digits."""
    assert [float(p) for p in reference.softmax_mp([0, 0])] == [0.5, 0.5]
    assert [float(p) for p in reference.softmax_mp([3, 3, 3, 3])] == [0.25] * 4
    p = reference.softmax_mp([2, 1, 0])
    assert close(p[0], "0.665240955774821889529018280175")
    assert close(p[2], "0.0900305731703804579980221014845")
    assert close(reference.log_softmax_mp([2, 1, 0])[0], "-0.407605964444380304482919904545")


def test_confident_row_worked_by_hand():
    """ln(1 + t) = t - t^2/2 + ...: with t = e^-40 the second term is past the digits here."""
    t = EXP_MINUS_40
    loss = reference.cross_entropy_mp([40, 0], [1, 0])
    with mp.workprec(200):
        t = mp.mpf(t)
        assert close(loss, t - t**2 / 2 + t**3 / 3)
        delta = reference.output_error_mp([40, 0], [1, 0])
        assert close(delta[0], -t / (1 + t))
        assert close(delta[1], t / (1 + t))


def test_logsumexp_and_cross_entropy_worked_by_hand():
    assert close(reference.logsumexp_mp([0, 0]), LN2)
    assert close(reference.logsumexp_mp([1, 1, 1, 1]), "2.38629436111989061883446424292")
    assert close(reference.cross_entropy_mp([0, 0], [0, 1]), LN2)
    # half of ln 2 from each class
    assert close(reference.cross_entropy_mp([5, 5], [0.5, 0.5]), LN2)
    assert [float(v) for v in reference.output_error_mp([0, 0], [1, 2])] == [0.5, -0.5]


def test_sigmoid_worked_by_hand():
    assert reference.sigmoid_mp(0) == 0.5
    assert reference.sigmoid_derivative_mp(0) == 0.25
    assert close(reference.sigmoid_mp(1), "0.731058578630004879251159241822")
    assert close(reference.sigmoid_mp(-1), "0.268941421369995120748840758178")
    assert close(reference.sigmoid_derivative_mp(1), "0.196611933241481852537424733586")
    assert close(reference.exp_mp(1), "2.71828182845904523536028747135")
    assert close(reference.log1p_mp(1), LN2)


def test_ulp_worked_by_hand():
    assert reference.ulp(1.0, np.float64) == 2.0**-52
    assert reference.ulp(np.nextafter(2.0, 0), np.float64) == 2.0**-52
    assert reference.ulp(-2.0, np.float32) == 2.0**-22
    assert reference.ulp(2.0**-126, np.float32) == 2.0**-149
    assert reference.ulp(1e-45, np.float32) == 2.0**-149
    assert reference.ulp(0.0, np.float64) == 2.0**-1074
    assert reference.ulp(np.inf, np.float32) == 2.0**104


@pytest.mark.parametrize(
    ("got", "exact", "error"),
    [
        (1.0, 1.0, 0),
        (1.0, 1 + 2.0**-23, 1),
        (1.0, 1 + 2.0**-24, 0.5),
        (1.0, 1 - 2.0**-25, 0.5),  # below 1 the unit is half as large
        (0.0, 2.0**-150, 0.5),
        (2.0**-149, 2.0**-150, 0.5),
        (np.inf, 1e60, 0),
        (np.inf, 2.0**128, 0),
        (3.4028234663852886e38, 2.0**128, 1),
        (np.inf, 3.4028234663852886e38, 1),
        (-np.inf, -np.inf, 0),
        (np.nan, np.nan, 0),
        (np.nan, 1.0, np.inf),
        (1.0, np.nan, np.inf),
    ],
)
def test_ulp_error_worked_by_hand(got, exact, error):
    assert reference.ulp_error(np.float32(got), exact) == error


def test_ulp_error_at_another_place():
    assert reference.ulp_error(np.float32(0), 2.0**-23, at=1.0) == 1


ROWS = [
    np.array([0.0, -40.0]),
    np.array([700.0, 0.0, 699.0]),
    np.array([-1400.0, 0.0, -1399.5, -0.25]),
    np.array([1 / 3, -700.1, 1e-300, 0.2]),
    np.array([1e30, 1.0, -1e30]),
    np.array([0.0, -np.inf, 0.0]),
    np.array([5.0]),
]
ROWS += [row for kind in inputs.KINDS for row in inputs.logits(kind, 300.0, (2, 5), np.float64)]


def error(found, exact):
    """Largest distance in ulp of float64; a thousandth of what the kernels may be off is well."""
    exact = reference.from_mp(exact)
    found = reference.wide(found)
    with np.errstate(invalid="ignore"):
        distance = np.abs(found - exact) / reference.ulp(exact, np.float64)
    return np.where(found == exact, 0, distance).max()


@pytest.mark.skipif(not reference.WIDE_ENOUGH, reason="longdouble is no wider than float64 here")
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_batches_equal_mpmath(row):
    z = row[None]
    assert error(reference.softmax(z)[0], reference.softmax_mp(row)) < 0.01
    assert error(reference.log_softmax(z)[0], reference.log_softmax_mp(row)) < 0.01
    lse = reference.logsumexp_mp(row)
    at = max(abs(lse), float(np.abs(row.max())))
    assert abs(reference.logsumexp(z)[0] - reference.from_mp([lse])[0]) <= 0.01 * reference.ulp(
        float(at), np.float64
    )
    for label in range(len(row)):
        y = reference.onehot([label], len(row))
        loss, delta = reference.softmax_cross_entropy(z, [label])
        assert error(loss, [reference.cross_entropy_mp(row, y[0])]) < 0.01
        assert error(delta[0], reference.output_error_mp(row, y[0])) < 0.01
    y = np.where(np.isneginf(row), 0, np.arange(1, len(row) + 1) / 8)
    loss, delta = reference.softmax_cross_entropy_targets(z, y[None])
    assert error(loss, [reference.cross_entropy_mp(row, y)]) < 0.01
    exact = reference.from_mp(reference.output_error_mp(row, y))
    at = reference.ulp(y.sum(), np.float64)
    assert (np.abs(delta[0] - exact) <= 0.01 * at).all()


@pytest.mark.parametrize("z", [-744.0, -710.5, -40.0, -1e-10, 0.0, 0.3, 36.0, 710.0])
def test_sigmoid_equals_mpmath(z):
    if reference.WIDE_ENOUGH:
        assert error(reference.sigmoid([z]), [reference.sigmoid_mp(z)]) < 0.01
        assert error(reference.sigmoid_derivative([z]), [reference.sigmoid_derivative_mp(z)]) < 0.01


def test_tanh_worked_by_hand():
    assert reference.tanh_mp(0) == 0
    assert close(reference.tanh_mp(1), "0.761594155955764888119458282605")
    assert close(reference.tanh_mp(-1), "-0.761594155955764888119458282605")


@pytest.mark.parametrize("z", [-20.0, -1.5, -1e-10, -5e-324, 0.0, 1e-300, 0.3, 18.7, 710.0])
def test_tanh_equals_mpmath(z):
    if reference.WIDE_ENOUGH:
        assert error(reference.tanh([z]), [reference.tanh_mp(z)]) < 0.01
        assert np.signbit(reference.tanh(-z)) == (z >= 0)


def test_special_rows():
    """As the table of edge cases says."""
    nan, inf = np.nan, np.inf
    z = np.array([[0, nan], [0, inf], [-inf, -inf], [-inf, 3], [nan, inf]])
    np.testing.assert_array_equal(reference.softmax(z)[:, 1], [nan, nan, nan, 1, nan])
    np.testing.assert_array_equal(reference.log_softmax(z)[:, 0], [nan, nan, nan, -inf, nan])
    np.testing.assert_array_equal(reference.logsumexp(z), [nan, inf, -inf, 3, nan])
    loss, delta = reference.softmax_cross_entropy(z, [0, 0, 0, 0, 0])
    np.testing.assert_array_equal(loss, [nan, nan, nan, inf, nan])
    np.testing.assert_array_equal(delta[:, 1], [nan, nan, nan, 1, nan])
    loss, delta = reference.softmax_cross_entropy(z, [0, 0, 0, 0, 0], np.zeros(5))
    np.testing.assert_array_equal(loss, np.zeros(5))
    np.testing.assert_array_equal(delta, np.zeros((5, 2)))
    loss, delta = reference.softmax_cross_entropy_targets(z[3:4], np.array([[0, 1.0]]))
    np.testing.assert_array_equal(loss, [0])
    np.testing.assert_array_equal(delta, [[0, 0]])


def test_weights_and_scale_worked_by_hand():
    z, labels = np.zeros((2, 2)), [0, 1]
    loss, delta = reference.softmax_cross_entropy(z, labels, [1.0, 3.0], 0.5)
    np.testing.assert_allclose(loss.astype(float), [np.log(2), 3 * np.log(2)], rtol=1e-15)
    np.testing.assert_array_equal(delta, [[-0.25, 0.25], [0.75, -0.75]])


def test_smoothed_targets_worked_by_hand():
    found = reference.smoothed_targets([1, 0], [], 4, 0.5)
    np.testing.assert_array_equal(
        found, [[0.125, 0.625, 0.125, 0.125], [0.625, 0.125, 0.125, 0.125]]
    )
    found = reference.smoothed_targets([0], [2.0, 4.0], 2, 0.0)
    np.testing.assert_array_equal(found, [[2, 0]])


def test_network_equations_worked_by_hand():
    a, w, b = np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 0, 2], [0, 1, 2]]), np.array([0, 1, 0])
    np.testing.assert_array_equal(reference.dense_forward(a, w, b), [[1, 3, 6], [3, 5, 14]])
    delta = np.array([[1.0, 0, 1], [0, 2, 0]])
    np.testing.assert_array_equal(reference.weight_gradient(a, delta), [[0.5, 3, 0.5], [1, 4, 1]])
    np.testing.assert_array_equal(reference.bias_gradient(delta), [0.5, 1, 0.5])
    half = np.full((2, 2), 0.5)
    np.testing.assert_array_equal(reference.hidden_error(delta, w, half), [[0.75, 0.5], [0, 0.5]])
    np.testing.assert_array_equal(reference.sigmoid_backward([0.5, 1.0], [8.0, 3.0]), [2, 0])
    np.testing.assert_array_equal(reference.tanh_backward([0.5, -1.0], [8.0, 3.0]), [6, 0])
    np.testing.assert_array_equal(reference.relu([2.0, -3.0, 0.0]), [2, 0, 0])
    np.testing.assert_array_equal(reference.relu_backward([2.0, 0.0], [8.0, 3.0]), [8, 0])


def test_fractions_are_rounded_once():
    """Float64 does not see on which side of the middle of two float32 they are."""
    middle, little = 1 + Fraction(1, 2**24), Fraction(1, 2**60)
    for exact, expected in (
        (middle, 1),
        (middle + little, 1 + 2**-23),
        (middle - little, 1),
        (middle + Fraction(1, 2**23), 1 + 2**-22),
        (middle + Fraction(1, 2**23) - little, 1 + 2**-23),
    ):
        for sign in (1, -1):
            found = reference.rounded(sign * exact, np.float32)
            assert found.dtype == np.float32
            assert found == sign * expected
    middle = 1 + Fraction(1, 2**53)
    assert reference.rounded(middle, np.float64) == 1
    assert reference.rounded(middle + little, np.float64) == 1 + 2**-52


def test_product_in_blocks_worked_by_hand():
    """2^24 + 1 is no float32: which terms vanish tells in which order they were added."""
    big, ones = np.float32(2**24), np.ones((5, 1), np.float32)
    row = np.array([[big, 1, 1, 1, 1]], np.float32)
    assert reference.product_in_blocks(row, ones, longest=5) == big
    assert reference.product_in_blocks(row, ones, longest=4) == big + 2  # 3 and 2 terms
    assert reference.product_in_blocks(row, ones, longest=2) == big + 4  # 2, 2 and 1
    assert reference.product_in_blocks(row, ones, longest=1) == big
    in_a_tree = reference.product_in_blocks(row, ones, reference.added_in_a_tree, longest=1)
    assert in_a_tree == big + 4  # ((big + 1) + (1 + 1)) + 1, a tie
    assert reference.product_in_blocks(row, ones, chain=3) == big + 2  # chains of 3 and 2 terms
    assert reference.product_in_blocks(row, ones, chain=1) == big
    # (1 + e)(1 - e) - 1 = -e^2, if the product is not rounded before the sum
    e = np.float32(2**-20)
    row, column = np.array([[-1, 1 + e]], np.float32), np.array([[1], [1 - e]], np.float32)
    assert reference.product_in_blocks(row, column) == -(e**2)
    assert reference.product_in_blocks(row.astype(float), column.astype(float)) == -(float(e) ** 2)


def test_momentum_worked_by_hand():
    param, velocity = reference.momentum_step(
        np.array([1.0]), np.array([2.0]), np.array([4.0]), 0.25, 0.5
    )
    assert (param[0], velocity[0]) == (2.5, 1.5)


def test_nesterov_worked_by_hand():
    param, velocity = reference.nesterov_step(
        np.array([1.0]), np.array([2.0]), np.array([4.0]), 0.25, 0.5
    )
    assert (param[0], velocity[0]) == (1.25, 1.5)


def test_adam_worked_by_hand():
    """b1 = b2 = 1/2, t = 2: the moments 3 and 4 times 4/3 are 4 and 16/3."""
    g, m, v = np.array([4.0]), np.array([2.0]), np.array([-8.0])
    assert reference.moments(g, m, v, 0.5, 0.5) == (3, 4)
    rates = {"learning_rate": 0.25, "beta_1": 0.5, "beta_2": 0.5, "epsilon": 0.0}
    theta, size = reference.adam_step(np.array([1.0]), g, m, v, **rates, t=2)
    np.testing.assert_allclose(theta.astype(float), 1 - 0.25 * 4 / (16 / 3) ** 0.5, rtol=1e-15)
    np.testing.assert_allclose(size.astype(float), 1 + 0.25 * 4 / (16 / 3) ** 0.5, rtol=1e-15)
    theta, _ = reference.adam_step(np.array([1.0]), 0 * g, 0 * m, 1 - 0 * v, 0.5, weight_decay=0.5)
    assert theta == 0.75
