"""The front door: what it lets through, what it turns away, and what it says."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from layouts import LAYOUTS, Frame, Subclass
from tolerances import assert_same_bits

import fastbp
from fastbp import kernels
from fastbp._checks import arrays, scalars
from fastbp._checks import labels as labels_module

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)

NO_NUMBERS = {
    "bool": np.ones((2, 3), bool),
    "float16": np.ones((2, 3), np.float16),
    "complex64": np.ones((2, 3), np.complex64),
    "object": np.ones((2, 3), object),
    "<U1": np.full((2, 3), "1"),
    "datetime64[s]": np.zeros((2, 3), "datetime64[s]"),
}
if np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant:
    NO_NUMBERS[str(np.dtype(np.longdouble))] = np.ones((2, 3), np.longdouble)


def refused(error, message):
    return pytest.raises(error, match="^" + re.escape(message))


def numbers(dtype, shape=(3, 4)):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


# as_float_array


def test_plain_array_passes_as_itself(dtype):
    x = numbers(dtype)
    assert arrays.is_plain(x)
    assert arrays.as_float_array(x, "x") is x
    assert arrays.as_float_array(x, "x", dtype=dtype, ndim=2) is x


@layouts
def test_any_layout_becomes_plain(dtype, layout):
    x = numbers(dtype)
    got = arrays.as_float_array(layout(x), "x")
    assert type(got) is np.ndarray
    assert got.flags.carray
    assert got.dtype.isnative
    assert_same_bits(got, x)


@pytest.mark.parametrize("name", ["read-only", "memmap", "subclass", "nothing masked", "unpickled"])
def test_what_is_only_dressed_differently_is_not_copied(dtype, name):
    x = LAYOUTS[name](numbers(dtype))
    assert not arrays.is_plain(x) or name == "unpickled"
    assert np.shares_memory(arrays.as_float_array(x, "x"), x)


def test_lent_memory_outlives_its_owner():
    x = LAYOUTS["read-only"](np.arange(1000.0))
    got = arrays.as_float_array(x, "x")
    del x
    assert_same_bits(got, np.arange(1000.0))


@pytest.mark.compiled
@layouts
def test_no_layout_compiles_anew(dtype, layout):
    x = numbers(dtype)
    y = np.array([0, 1, 2])
    fastbp.softmax(x)
    fastbp.softmax_cross_entropy(x, y, sample_weight=np.ones(3))
    known = len(kernels.softmax.signatures), len(kernels.softmax_cross_entropy.signatures)
    fastbp.softmax(layout(x))
    fastbp.softmax_cross_entropy(layout(x), layout(y), sample_weight=layout(np.ones(3)))
    assert known == (
        len(kernels.softmax.signatures),
        len(kernels.softmax_cross_entropy.signatures),
    )


@pytest.mark.parametrize("x", [[[1, 2]], [[1.0, 2.0]], np.array([[1, 2]], np.uint8), ((1, 2.0),)])
def test_lists_and_integers_are_float64(x):
    got = arrays.as_float_array(x, "x")
    assert got.dtype == F64
    np.testing.assert_array_equal(got, [[1.0, 2.0]])


def test_numbers_beyond_float32_are_infinite_without_a_warning():
    x = np.array([1e300, -1e39, 3e38, np.nan])
    got = arrays.as_float_array(x, "x", dtype=F32)
    np.testing.assert_array_equal(got, np.array([np.inf, -np.inf, 3e38, np.nan], F32))


def test_signalling_nan_is_nan_without_a_warning():
    x = np.array([0x7F800001, 0xFF800001], np.uint32).view(np.float32)
    assert np.isnan(arrays.as_float_array(x, "x", dtype=F64)).all()


def test_scalars_keep_no_dimension():
    assert arrays.as_float_array(3, "x").shape == ()
    assert arrays.as_float_array(np.float32(3), "x").dtype == F32


@pytest.mark.parametrize("given", [F32, F64, np.dtype(">i2")])
def test_asked_dtype_wins(dtype, given):
    got = arrays.as_float_array(np.array([1, 2], given), "x", dtype=dtype)
    assert got.dtype == dtype
    assert got.flags.carray


@pytest.mark.parametrize(("name", "x"), NO_NUMBERS.items(), ids=NO_NUMBERS)
def test_what_is_no_number_is_named(name, x):
    expected = f"z must be an array of float32, float64 or integers, got dtype {name}"
    with refused(TypeError, expected):
        arrays.as_float_array(x, "z")
    with refused(TypeError, expected):
        arrays.as_float_array(Frame(x), "z")


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_matrix_is_refused(dtype):
    x = np.matrix([[1, 2]], dtype=dtype)
    with refused(TypeError, f"z must be an array, got a numpy.matrix of dtype {dtype}"):
        arrays.as_float_array(x, "z")


def test_masked_values_are_refused(dtype):
    x = np.ma.array(numbers(dtype), mask=np.eye(3, 4))
    message = f"z must be an array without missing values, got a masked array of dtype {dtype}"
    with refused(TypeError, message):
        arrays.as_float_array(x, "z")
    with refused(TypeError, "y must be an array without missing values, got a masked array"):
        labels_module.as_labels(np.ma.array([0, 1], mask=[0, 1]), (2,), 2, "y")


def test_ragged_list_is_refused():
    with refused(ValueError, "z must be an array, got "):
        arrays.as_float_array([[1.0], [1.0, 2.0]], "z")
    with refused(ValueError, "y must be an array, got "):
        labels_module.as_labels([[1], [1, 2]], (2,), 2, "y")


@pytest.mark.parametrize("x", [1.0, [1.0], [[[1.0]]]])
def test_dimensions_are_counted(x):
    with refused(ValueError, f"w must be 2-D, got shape {np.shape(x)}"):
        arrays.as_float_array(x, "w", ndim=2)


# as_rows, as_axes


@pytest.mark.parametrize("axes", [-1, 0, 1, 2, None, (), (0,), (1, 2), (0, 2), (2, 0), (-1, -2, 0)])
def test_rows_hold_the_asked_axes(dtype, axes):
    x = numbers(dtype, (2, 3, 4))
    rows, shape, found = arrays.as_class_rows(x, "x", axes)
    assert shape == x.shape
    assert rows.flags.carray
    asked = range(3) if axes is None else np.atleast_1d(np.array(axes, int)) % 3
    assert found == tuple(asked)
    others = [q for q in range(3) if q not in asked]
    expected = x.transpose([*others, *asked]).reshape(rows.shape)
    assert rows.shape[1] == math.prod(x.shape[q] for q in asked)
    assert_same_bits(rows, expected)


def test_rows_that_lie_ready_are_not_copied(dtype):
    x = numbers(dtype)
    assert arrays.as_class_rows(x, "x", -1)[0] is x
    assert np.shares_memory(arrays.as_class_rows(x, "x", 1)[0], x)
    assert np.shares_memory(arrays.as_class_rows(x, "x", None)[0], x)
    assert np.shares_memory(arrays.as_class_rows(x.T, "x", 0)[0], x)


@pytest.mark.parametrize("axis", [0, -1, None, ()])
def test_scalar_is_one_row_of_one_class(axis):
    rows, shape, axes = arrays.as_class_rows(2.0, "x", axis)
    assert (rows.shape, shape, axes) == ((1, 1), (), ())


@pytest.mark.parametrize("axis", [2, -3, (0, 2)])
def test_axis_out_of_range(axis):
    message = f"axis must be from -2 to 1 for 2 dimensions, got {axis!r}"
    with refused(np.exceptions.AxisError, message):
        arrays.as_axes(axis, 2)


@pytest.mark.parametrize("axis", [1.0, "1", [0, 1], True, (0, 1.0), np.array([0]), np.zeros(2)])
def test_axis_of_another_type(axis):
    message = f"axis must be an integer, a tuple of integers or None, got {axis!r}"
    with refused(TypeError, message):
        arrays.as_axes(axis, 2)


def test_axis_named_twice():
    with refused(ValueError, "axis must not name an axis twice, got (0, -2)"):
        arrays.as_axes((0, -2), 2)


@pytest.mark.parametrize(("shape", "axis"), [((2, 0), -1), ((0, 0), -1), ((0, 2), None), ((0,), 0)])
def test_rows_have_a_class(shape, axis):
    with refused(ValueError, f"z must have at least one class, got shape {shape}"):
        arrays.as_class_rows(np.zeros(shape), "z", axis)


# as_labels

INTEGERS = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64]


def test_plain_labels_pass_as_themselves():
    y = np.array([0, 2, 1], np.intp)
    assert labels_module.as_labels(y, (3,), 3, "y") is y


@pytest.mark.parametrize("integer", [*INTEGERS, np.longlong, ">i4", ">u8"])
def test_every_integer_dtype_is_a_label(integer):
    got = labels_module.as_labels(np.array([0, 2, 1], integer), (3,), 3, "y")
    assert got.dtype == np.intp
    assert got.flags.carray
    np.testing.assert_array_equal(got, [0, 2, 1])


@layouts
def test_labels_of_any_layout(layout):
    y = np.array([3, 0, 2, 1], np.intp)
    got = labels_module.as_labels(layout(y), (4,), 4, "y")
    assert type(got) is np.ndarray
    assert got.flags.carray
    np.testing.assert_array_equal(got, y)


def test_labels_of_a_list_or_of_nothing():
    np.testing.assert_array_equal(labels_module.as_labels([1, 0], (2,), 2, "y"), [1, 0])
    assert labels_module.as_labels([], (0,), 2, "y").shape == (0,)
    assert labels_module.as_labels(np.array(1), (), 2, "y").shape == (1,)


@pytest.mark.parametrize("y", [[0.0, 1.0], [True, False], np.zeros(2, "m8[s]"), ["0", "1"]])
def test_labels_of_another_type(y):
    dtype = np.asarray(y).dtype
    with refused(TypeError, f"y must be integer labels, got dtype {dtype}"):
        labels_module.as_labels(y, (2,), 2, "y")


@pytest.mark.parametrize(
    ("y", "value", "row"),
    [
        ([0, 3, 9], 3, 1),
        ([0, 1, -1], -1, 2),
        (np.array([0, 255, 1], np.uint8), 255, 1),
        (np.array([2**64 - 1, 0, 1], np.uint64), 2**64 - 1, 0),
        (np.array([0, 0, 2**63], np.uint64), 2**63, 2),
        (np.array([0, 0, 3], ">i4"), 3, 2),
    ],
)
def test_label_out_of_range_names_row_and_value(y, value, row):
    with refused(ValueError, f"y must hold labels from 0 to 2, got {value} in row {row}"):
        labels_module.as_labels(y, (3,), 3, "y")


def test_label_out_of_range_in_an_image():
    y = np.zeros((2, 3), int)
    y[1, 2] = 7
    with refused(ValueError, "y must hold labels from 0 to 4, got 7 in row (1, 2)"):
        labels_module.as_labels(y, (2, 3), 5, "y")
    with refused(ValueError, "y must hold labels from 0 to 4, got 7"):
        labels_module.as_labels(7, (), 5, "y")


@pytest.mark.parametrize("y", [[0, 1], [[0], [1], [2]], 1])
def test_labels_of_another_shape(y):
    with refused(ValueError, f"y must have shape (3,), got {np.shape(y)}"):
        labels_module.as_labels(y, (3,), 3, "y")


@pytest.mark.parametrize("ignore_index", [-100, 0, 1, 2, 3, 255])
def test_ignored_labels_become_negative(ignore_index):
    y = np.array([0, ignore_index, 2, ignore_index, 1], np.int16)
    got = labels_module.as_labels(y, (5,), 3, "y", ignore_index)
    np.testing.assert_array_equal(got, np.where(y == ignore_index, -1, y))
    np.testing.assert_array_equal(y, [0, ignore_index, 2, ignore_index, 1])


@pytest.mark.parametrize("bad", [-1, 3, 4])
def test_ignoring_one_label_allows_no_other(bad):
    with refused(ValueError, f"y must hold labels from 0 to 2, got {bad} in row 1"):
        labels_module.as_labels([-100, bad], (2,), 3, "y", -100)


def test_ignored_label_that_no_intp_can_hold():
    with refused(ValueError, f"y must hold labels from 0 to 2, got {2**64 - 1} in row 1"):
        labels_module.as_labels(np.array([0, 2**64 - 1], np.uint64), (2,), 3, "y", 2**64 - 1)
    assert labels_module.as_labels([0, 1], (2,), 3, "y", 2**70)[1] == 1
    # as an intp it would be -1, and pass for ignored
    with refused(ValueError, f"y must hold labels from 0 to 2, got {2**64 - 1} in row 0"):
        labels_module.as_labels(np.array([2**64 - 1, 0], np.uint64), (2,), 3, "y", -1)


# as_targets


def test_targets_pass_as_themselves(dtype):
    y = np.eye(3, 4, dtype=dtype)
    assert np.shares_memory(labels_module.as_targets(y, (3, 4), dtype, "y"), y)
    np.testing.assert_array_equal(labels_module.as_targets(y.astype(int), (3, 4), dtype, "y"), y)


@layouts
def test_targets_of_any_layout(dtype, layout):
    y = np.array([[0.25, 0.25, 0.5], [0.0, 1.0, 0.0]], dtype)
    assert_same_bits(labels_module.as_targets(layout(y), (2, 3), dtype, "y"), y)


def test_targets_along_another_axis(dtype):
    y = np.zeros((2, 3, 4), dtype)
    y[:, 1] = 1
    np.testing.assert_array_equal(
        labels_module.as_targets(y, (2, 3, 4), dtype, "y", 1), np.tile([0, 1, 0], (8, 1))
    )


@pytest.mark.parametrize("n_classes", [1, 2, 3, 4, 5, 7, 8, 33, 1000])
@pytest.mark.parametrize("given", [F32, F64])
def test_targets_sum_to_one_within_rounding(dtype, given, n_classes):
    u = max(np.finfo(dtype).eps, np.finfo(given).eps) / 2
    for k in {0, n_classes // 2, n_classes - 1}:
        y = np.full((2, n_classes), 1 / n_classes, given)
        labels_module.as_targets(y, y.shape, dtype, "y")
        y[1, k] += 6 * n_classes * u
        labels_module.as_targets(y, y.shape, dtype, "y")
        y[1, k] += 4 * n_classes * u
        with refused(ValueError, "y must hold rows that sum to 1, got a sum of 1.0"):
            labels_module.as_targets(y, y.shape, dtype, "y")
        y[1, k] -= 20 * n_classes * u
        with refused(ValueError, "y must hold rows that sum to 1, got a sum of 0.9"):
            labels_module.as_targets(y, y.shape, dtype, "y")


@pytest.mark.parametrize("n_classes", [2, 3, 4, 5, 9])
@pytest.mark.parametrize(("value", "said"), [(-0.5, "-0.5"), (np.nan, "nan")])
def test_targets_are_probabilities(dtype, n_classes, value, said):
    for k in range(n_classes):
        y = np.zeros((3, n_classes), dtype)
        y[:, 0] = 1
        y[2, k] = value
        y[2, k - 1] = 1 - value
        with refused(ValueError, f"y must hold probabilities, got {said} in row 2"):
            labels_module.as_targets(y, y.shape, dtype, "y")


def test_infinite_target_is_refused(dtype):
    with refused(ValueError, "y must hold rows that sum to 1, got a sum of inf in row 0"):
        labels_module.as_targets(np.array([[np.inf, 0]], dtype), (1, 2), dtype, "y")


def test_targets_of_another_shape(dtype):
    with refused(ValueError, "y must have shape (2, 3), got (3, 2)"):
        labels_module.as_targets(np.ones((3, 2)) / 2, (2, 3), dtype, "y")


def test_row_of_an_image_is_named(dtype):
    y = np.full((2, 3, 4), 1 / 3, dtype)
    y[1, 2, 3] = 0.5
    with pytest.raises(ValueError, match=r"in row \(1, 3\)$"):
        labels_module.as_targets(y, y.shape, dtype, "y", 1)


# weights


def test_row_weight_is_float64_or_empty():
    assert labels_module.as_sample_weight(None, 3, "w").shape == (0,)
    w = np.array([1.0, 0.0, 2.0])
    assert np.shares_memory(labels_module.as_sample_weight(w, 3, "w"), w)
    for given in (w.astype("f4"), w.astype(int), [1, 0, 2]):
        got = labels_module.as_sample_weight(given, 3, "w")
        assert got.dtype == F64
        np.testing.assert_array_equal(got, w)
    assert labels_module.as_sample_weight(np.ones((2, 3)), (2, 3), "w").shape == (6,)
    assert labels_module.as_sample_weight([], 0, "w").shape == (0,)


@pytest.mark.parametrize(("bad", "said"), [(-1.0, "-1.0"), (np.nan, "nan"), (np.inf, "inf")])
def test_weight_that_is_no_weight(dtype, bad, said):
    with refused(ValueError, f"s must be finite and not negative, got {said} in row 1"):
        labels_module.as_sample_weight([1.0, bad], 2, "s")
    with refused(ValueError, f"weight must be finite and not negative, got {said} for class 1"):
        labels_module.as_class_weight([1.0, bad], 2, dtype)


def test_weights_all_zero():
    with refused(ValueError, "s must not be all zero, got 3 zeros"):
        labels_module.as_sample_weight([0, 0, 0], 3, "s")


def test_weights_of_another_shape_or_type(dtype):
    with refused(ValueError, "s must have shape (2,), got (2, 1)"):
        labels_module.as_sample_weight([[1], [1]], 2, "s")
    with refused(ValueError, "weight must have shape (2,), got (3,)"):
        labels_module.as_class_weight([1, 1, 1], 2, dtype)
    with refused(TypeError, "s must be an array of float32, float64 or integers, got dtype bool"):
        labels_module.as_sample_weight([True, False], 2, "s")


def test_class_weight_follows_the_logits(dtype):
    assert labels_module.as_class_weight(None, 2, dtype).shape == (0,)
    got = labels_module.as_class_weight([1, 2], 2, dtype)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, [1, 2])


def test_class_weight_beyond_float32():
    with refused(ValueError, "weight must be finite and not negative, got inf for class 0"):
        labels_module.as_class_weight([1e300, 1.0], 2, F32)


# check_out


def test_out_of_any_layout_is_accepted(dtype):
    x = np.zeros((3, 4), dtype)
    for out in (x, np.asfortranarray(x), np.zeros((3, 8), dtype)[:, ::2], x.view(Subclass)):
        arrays.check_out(out, (3, 4), dtype)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_out_that_cannot_take_the_result(dtype):
    other = F64 if dtype == F32 else F32
    shape = (3, 4)
    with refused(ValueError, "out must have shape (3, 4), got (4, 3)"):
        arrays.check_out(np.zeros((4, 3), dtype), shape, dtype)
    with refused(TypeError, f"out must be of dtype {dtype}, got {other}"):
        arrays.check_out(np.zeros(shape, other), shape, dtype)
    swapped = dtype.newbyteorder()
    with refused(TypeError, f"out must be of dtype {dtype}, got {swapped}"):
        arrays.check_out(np.zeros(shape, swapped), shape, dtype)
    with refused(ValueError, "out must be writeable, got a read-only array"):
        arrays.check_out(LAYOUTS["read-only"](np.zeros(shape, dtype)), shape, dtype)
    for out, name in (
        ([[0.0] * 4] * 3, "list"),
        (np.ma.zeros(shape, dtype), "MaskedArray"),
        (np.matrix(np.zeros(shape, dtype)), "matrix"),
    ):
        with refused(TypeError, f"out must be a numpy.ndarray, got {name}"):
            arrays.check_out(out, shape, dtype)


def test_same_memory(dtype):
    x = np.zeros(6, dtype)
    assert arrays._same_memory(x, x)
    assert arrays._same_memory(x, x[:].reshape(2, 3))
    assert not arrays._same_memory(x, x.copy())
    assert not arrays._same_memory(x[:-1], x[1:])
    assert not arrays._same_memory(x, x[:-1])


# scalars


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), Fraction(1, 2), np.float64(0.5)])
def test_real_number(value):
    got = scalars.as_real(value, "x", 0, 1)
    assert type(got) is float
    assert got == 0.5


@pytest.mark.parametrize("value", [None, "0.5", True, np.True_, 0.5j, [0.5]])
def test_no_real_number(value):
    with refused(TypeError, f"x must be a number in [0, 1], got {value!r}"):
        scalars.as_real(value, "x", 0, 1)


@pytest.mark.parametrize(
    ("closed", "value", "expected"),
    [
        ("both", -0.1, "a number in [0, 1]"),
        ("both", 1.1, "a number in [0, 1]"),
        ("both", math.nan, "a number in [0, 1]"),
        ("left", 1.0, "a number in [0, 1)"),
        ("right", 0.0, "a number in (0, 1]"),
        ("neither", 1, "a number in (0, 1)"),
    ],
)
def test_real_number_out_of_range(closed, value, expected):
    with refused(ValueError, f"x must be {expected}, got {value!r}"):
        scalars.as_real(value, "x", 0, 1, closed)


def test_ends_of_the_range():
    assert scalars.as_real(0, "x", 0, 1) == 0
    assert scalars.as_real(1, "x", 0, 1) == 1
    assert scalars.as_real(0, "x", 0, 1, "left") == 0
    assert scalars.as_real(1, "x", 0, 1, "right") == 1


@pytest.mark.parametrize(
    "value", [math.inf, -math.inf, math.nan, 10**400, Fraction(10**400, 3), np.longdouble("inf")]
)
def test_real_number_is_finite(value):
    with refused(ValueError, f"x must be a finite number, got {value!r}"):
        scalars.as_real(value, "x")
    with refused(ValueError, f"x must be a finite number >= 0, got {value!r}"):
        scalars.as_real(value, "x", 0)
    with refused(ValueError, f"x must be a finite number > 0, got {value!r}"):
        scalars.as_real(value, "x", 0, closed="neither")


def test_integers():
    for value in (3, np.int8(3), np.uint64(3)):
        got = scalars.as_positive_int(value, "n")
        assert type(got) is int
        assert got == 3
    assert scalars.as_int(-5, "n") == -5
    for value in (0, -1):
        with refused(ValueError, f"n must be an integer >= 1, got {value}"):
            scalars.as_positive_int(value, "n")
    for value in (1.0, "1", True, np.True_, None):
        with refused(TypeError, f"n must be an integer >= 1, got {value!r}"):
            scalars.as_positive_int(value, "n")
    with refused(TypeError, "n must be an integer, got 1.0"):
        scalars.as_int(1.0, "n")


def test_choices():
    assert scalars.as_choice("sum", "reduction", ("mean", "sum", "none")) == "sum"
    for value in ("avg", None, ["sum"]):
        message = f"reduction must be 'mean', 'sum' or 'none', got {value!r}"
        with refused(ValueError, message):
            scalars.as_choice(value, "reduction", ("mean", "sum", "none"))


@pytest.mark.parametrize("given", ["float32", np.float32, np.dtype("f4"), ">f4"])
def test_float32_by_any_name(given):
    if given == ">f4":
        with refused(ValueError, "dtype must be 'float32' or 'float64', got '>f4'"):
            scalars.as_float_dtype(given)
    else:
        assert scalars.as_float_dtype(given) is arrays.FLOAT32


def test_dtypes():
    for given in ("float64", float, np.float64):
        assert scalars.as_float_dtype(given) is arrays.FLOAT64
    # NumPy raises SyntaxError for the first of these, and ValueError for the second.
    malformed = ("f4,,", {"names": [1]}, "f4,f4", ["f4"], object)
    for given in ("float16", int, None, "no such", 3, np.longdouble, *malformed):
        with refused(ValueError, f"dtype must be 'float32' or 'float64', got {given!r}"):
            scalars.as_float_dtype(given)
