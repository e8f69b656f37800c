"""The checks: which arguments pass, and which arrays and numbers they become."""

import math
from fractions import Fraction

import numpy as np
import pandas
import pytest
from layouts import LAYOUTS, Subclass
from tolerances import assert_same_bits

import fastbp
from fastbp import kernels
from fastbp._checks import arrays, labels, scalars

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
INTEGERS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "q", ">i4", ">u8")
layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def draw(dtype, shape=(3, 4)):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


# Arrays


def test_plain_array_passes_as_itself(dtype):
    x = draw(dtype)
    assert arrays.is_plain(x)
    assert arrays.as_float_array(x, "x") is x
    assert arrays.as_float_array(x, "x", dtype=dtype, ndim=2) is x
    for other in ("read-only", "memmap", "subclass", "nothing masked", "unpickled"):
        x = LAYOUTS[other](draw(dtype))
        assert not arrays.is_plain(x) or other == "unpickled"
        assert np.shares_memory(arrays.as_float_array(x, "x"), x), other


@layouts
def test_any_layout_becomes_plain(dtype, layout):
    x, y = draw(dtype), np.array([3, 0, 2, 1], np.intp)
    rows = np.array([[0.25, 0.25, 0.5], [0.0, 1.0, 0.0]], dtype)
    for got, expected in (
        (arrays.as_float_array(layout(x), "x"), x),
        (labels.as_labels(layout(y), (4,), 4, "y"), y),
        (labels.as_targets(layout(rows), (2, 3), dtype, "y"), rows),
    ):
        assert type(got) is np.ndarray
        assert got.flags.carray
        assert got.dtype.isnative
        assert_same_bits(got, expected)


def test_view_of_read_only_memory_keeps_it_alive():
    x = LAYOUTS["read-only"](np.arange(1000.0))
    got = arrays.as_float_array(x, "x")
    del x
    assert_same_bits(got, np.arange(1000.0))


@pytest.mark.compiled
def test_no_layout_compiles_anew(dtype):
    x, y, counts = draw(dtype), np.array([0, 1, 2]), []
    for layout in (np.copy, *LAYOUTS.values()):
        fastbp.softmax(layout(x))
        fastbp.softmax_cross_entropy(layout(x), layout(y), sample_weight=layout(np.ones(3)))
        fused = kernels.softmax_cross_entropy
        counts.append((len(kernels.softmax.signatures), len(fused.signatures)))
    assert len(set(counts)) == 1


@pytest.mark.parametrize(
    ("x", "dtype", "expected"),
    [
        ([[1, 2]], None, np.array([[1.0, 2.0]])),
        (((1, 2.0),), None, np.array([[1.0, 2.0]])),
        (np.array([1, 2], np.uint8), None, np.array([1.0, 2.0])),
        (np.array([1, 2], ">i2"), F32, np.array([1, 2], F32)),
        (np.array([1, 2], F32), F64, np.array([1.0, 2.0])),
        (3, None, np.array(3.0)),
        (np.float32(3), None, np.array(3, F32)),
        # without a warning
        ([1e300, -1e39, 3e38, np.nan], F32, np.array([np.inf, -np.inf, 3e38, np.nan], F32)),
        (np.array([0x7F800001], "u4").view(F32), F64, np.array([np.nan])),  # signalling
    ],
)
def test_conversions(x, dtype, expected):
    assert_same_bits(arrays.as_float_array(x, "x", dtype=dtype), expected)


@pytest.mark.parametrize("axes", [-1, 0, 1, 2, None, (), (0,), (1, 2), (0, 2), (2, 0), (-1, -2, 0)])
def test_rows_along_axes(dtype, axes):
    x = draw(dtype, (2, 3, 4))
    rows, shape, found = arrays.as_class_rows(x, "x", axes)
    expected = range(3) if axes is None else np.atleast_1d(np.array(axes, int)) % 3
    assert (shape, found) == (x.shape, tuple(expected))
    others = [q for q in range(3) if q not in expected]
    moved = x.transpose([*others, *expected])
    assert rows.flags.carray
    assert_same_bits(rows, moved.reshape(-1, math.prod(moved.shape[len(others) :])))


def test_rows_are_copied_only_where_they_must(dtype):
    x = draw(dtype)
    assert arrays.as_class_rows(x, "x", -1)[0] is x
    for view, axis in ((x, 1), (x, None), (x.T, 0)):
        assert np.shares_memory(arrays.as_class_rows(view, "x", axis)[0], x)
    for axis in (0, -1, None, ()):
        rows, shape, axes = arrays.as_class_rows(2.0, "x", axis)
        assert (rows.shape, shape, axes) == ((1, 1), (), ())


def test_results_go_to_out_itself_where_that_is_safe(dtype):
    x = draw(dtype)
    for out in (x, np.asfortranarray(x), draw(dtype, (3, 8))[:, ::2], x.view(Subclass)):
        arrays.check_out(out, (3, 4), dtype)
    for out, is_safe in ((x, True), (x[:], True), (x.copy(), True), (x.T.copy().T, False)):
        assert (arrays.destination(out, (3, 4), dtype, over=x) is out) == is_safe
    flat = draw(dtype, (7,))
    shifted = arrays.destination(flat[1:], (6,), dtype, over=flat[:-1])
    assert not np.shares_memory(shifted, flat)
    assert not np.shares_memory(arrays.destination(flat[:4], (4,), dtype, flat[3:]), flat)
    assert not np.shares_memory(arrays.destination(flat, (7,), dtype, flat), flat)


# Labels, target rows, weights


def test_labels():
    y = np.array([0, 2, 1], np.intp)
    assert labels.as_labels(y, (3,), 3, "y") is y
    for integer in INTEGERS:
        assert_same_bits(labels.as_labels(y.astype(integer), (3,), 3, "y"), y)
    assert_same_bits(labels.as_labels(y.tolist(), (3,), 3, "y"), y)
    assert labels.as_labels([], (0,), 2, "y").shape == (0,)
    assert labels.as_labels(np.array(1), (), 2, "y").shape == (1,)


def test_ignored_labels_become_negative():
    for ignore_index in (-100, 0, 1, 2, 3, 255):
        y = np.array([0, ignore_index, 2, ignore_index, 1], np.int16)
        before = y.copy()
        got = labels.as_labels(y, (5,), 3, "y", ignore_index)
        np.testing.assert_array_equal(got, np.where(y == ignore_index, -1, y))
        assert_same_bits(y, before)
    assert labels.as_labels([0, 1], (2,), 3, "y", 2**70).tolist() == [0, 1]


@pytest.mark.parametrize("n_classes", [1, 2, 5, 100, 1000])
def test_target_rows_sum_to_one_within_rounding_of_float32(dtype, n_classes):
    tolerance = max(1e-5, 8 * n_classes * 2.0**-24)
    for given, k in ((F32, 0), (F64, n_classes // 2)):
        for off, fits in ((0, True), (0.8, True), (-0.8, True), (1.2, False), (-1.2, False)):
            y = np.full((2, n_classes), 1 / n_classes, given)
            y[1, k] += off * tolerance
            if fits:
                assert labels.as_targets(y, y.shape, dtype, "y").dtype == dtype
                continue
            with pytest.raises(ValueError, match=r"^y must hold rows that sum to 1, got a sum of"):
                labels.as_targets(y, y.shape, dtype, "y")


def test_target_rows_from_float32_a_table_and_dummies(dtype):
    rows = np.random.default_rng(0).dirichlet(np.ones(7), 50)
    for y in (rows.astype("f4").tolist(), np.round(rows, 6)):
        np.testing.assert_array_equal(labels.as_targets(y, (50, 7), dtype, "y"), dtype.type(y))
    dummies = pandas.get_dummies(np.arange(50) % 7)
    assert set(dummies.dtypes) == {np.dtype(bool)}
    found = labels.as_labels_or_targets(dummies, (50, 7), dtype, "y")
    np.testing.assert_array_equal(found, np.eye(7)[np.arange(50) % 7])


@pytest.mark.parametrize("n_classes", [2, 3, 4, 5, 9])
def test_target_rows_are_probabilities(dtype, n_classes):
    for k in range(n_classes):
        for bad in (-0.5, np.nan):
            y = np.eye(n_classes, dtype=dtype)
            y[1, k], y[1, k - 1] = bad, 1 - bad
            with pytest.raises(ValueError, match=rf"must hold probabilities, got {bad} in row 1$"):
                labels.as_targets(y, y.shape, dtype, "y")


def test_target_rows_along_another_axis(dtype):
    y = np.zeros((2, 3, 4), dtype)
    y[:, 1] = 1
    expected = np.tile(np.array([0, 1, 0], dtype), (8, 1))
    assert_same_bits(labels.as_targets(y, (2, 3, 4), dtype, "y", 1), expected)
    assert_same_bits(labels.as_targets(y.astype(int), (2, 3, 4), dtype, "y", 1), expected)


def test_weights(dtype):
    w = np.array([1.0, 0.0, 2.0])
    assert labels.as_row_weight(None, (3,)).shape == (0,)
    assert np.shares_memory(labels.as_row_weight(w, (3,)), w)
    for given in (w.astype("f4"), w.astype(int), [1, 0, 2]):
        assert_same_bits(labels.as_row_weight(given, (3,)), w)
    assert labels.as_row_weight(np.ones((2, 3)), (2, 3)).shape == (6,)
    assert labels.as_row_weight([], (0,)).shape == (0,)
    assert labels.as_class_weight(None, 2, dtype).shape == (0,)
    assert_same_bits(labels.as_class_weight([1, 2], 2, dtype), np.array([1, 2], dtype))


# Numbers, flags, choices, dtypes


def test_numbers():
    for value in (0.5, np.float32(0.5), Fraction(1, 2), np.float64(0.5)):
        assert scalars.as_real(value, "x", 0, 1).hex() == "0x1.0000000000000p-1"
    for closed, end in (("both", 0), ("both", 1), ("left", 0), ("right", 1)):
        assert scalars.as_real(end, "x", 0, 1, closed) == end
    for closed, end, words in (("left", 1, r"\[0, 1\)"), ("right", 0, r"\(0, 1\]")):
        with pytest.raises(ValueError, match=f"^x must be a number in {words}, got {end}$"):
            scalars.as_real(end, "x", 0, 1, closed)
    for value in (3, np.int8(3), np.uint64(3)):
        assert repr(scalars.as_positive_int(value, "n")) == "3"
    assert scalars.as_int(-5, "n") == -5
    assert scalars.as_flag(np.bool_(True), "keepdims") is True
    assert scalars.as_choice("sum", "reduction", ("mean", "sum", "none")) == "sum"


def test_dtypes():
    for given in ("float32", np.float32, np.dtype("f4")):
        assert scalars.as_float_dtype(given) is arrays.FLOAT32
    for given in ("float64", float, np.float64):
        assert scalars.as_float_dtype(given) is arrays.FLOAT64
