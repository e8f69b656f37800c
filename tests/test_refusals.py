"""The table of refusals: arguments that public entries refuse, and the words of the messages.

A refused call writes nothing: neither ``out``, nor another argument, nor the model.
"""

import inspect
import itertools
import pickle
import re
from fractions import Fraction

import entries
import numpy as np
import pandas
import pytest
from entries import GOOD, LEARN, OUT_SHAPES, J, K, X, Y, model_of
from layouts import LAYOUTS, Frame
from scipy.sparse import csr_array  # noqa: F401 (in the table)

import fastbp
from fastbp import Network

pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass")

NAN, INF, AxisError = np.nan, np.inf, np.exceptions.AxisError
IMAGE = np.full((2, 3, 4), 1 / 3)  # target rows along axis 1
PLAIN = {"weight": None, "sample_weight": None}
AXIS_1 = {"axis": 1, **PLAIN}


def spoilt(array, place, value):
    """A copy with another value at one place."""
    array = np.array(array, float if isinstance(value, float) else None)
    array[place] = value
    return array


def masked(array):
    return np.ma.array(array, mask=array > np.mean(array))


GROUPS = {
    "ALONG_AXES": ("softmax", "log_softmax", "logsumexp"),
    "COST": ("cross_entropy", "softmax_cross_entropy"),
    "STEPS": ("momentum_step", "nesterov_step", "adam_step"),
    "NETWORK": [entry for entry in GOOD if entry.startswith("Network.")],
    "CLASSIFIER": [entry for entry in GOOD if entry.startswith("MLPClassifier.")],
    "TRAIN": ("MLPClassifier.fit", "MLPClassifier.partial_fit"),
    "JUDGE": [f"Network.{name}" for name in ("fit", "loss", "score", "gradients")],
}
GROUPS["WEIGHTED"] = [*GROUPS["COST"], *GROUPS["JUDGE"]]
GROUPS["LABELLED"] = [*GROUPS["WEIGHTED"], "output_error"]

# entry or group (changes of good arguments) -> exception: the first words of its message
# "..." stands for any words before the others.
TABLE = """
dense(a_prev=X[0]) -> ValueError: a_prev must be 2-D, got shape (3,)
dense(w=W.T) -> ValueError: w must have shape (3, 3), got (4, 3)
dense(b=W[0, :1]) -> ValueError: b must have shape (4,), got (1,)
hidden_error(w_next=W.T) -> ValueError: w_next must have shape (4, 4), got (4, 3)
hidden_error(a=X.T) -> ValueError: a must have shape (7, 3), got (3, 7)
weight_gradient(delta=Z[1:]) -> ValueError: delta must have shape (7, 4), got (6, 4)
weight_gradient(a_prev=X[:0], delta=Z[:0]) -> ValueError: the mean is over no rows: delta has shape
bias_gradient(delta=1.0) -> ValueError: delta must be 2-D, got shape ()
bias_gradient(delta=Z[:0]) -> ValueError: the mean is over no rows: delta has shape (0, 4)
ALONG_AXES(z=Z[:, :0]) -> ValueError: z must have at least one class, got shape (7, 0)
ALONG_AXES(z=Z[:0], axis=None) -> ValueError: z must have at least one class, got shape (0, 4)
ALONG_AXES(axis=2) -> AxisError: axis must be from -2 to 1 for 2 dimensions, got 2
ALONG_AXES(axis=(0, -3)) -> AxisError: axis must be from -2 to 1 for 2 dimensions, got (0, -3)
ALONG_AXES(axis=(0, -2)) -> ValueError: axis must not name an axis twice, got (0, -2)
COST(axis=2) -> AxisError: axis must be from -2 to 1 for 2 dimensions, got 2
output_error(axis=-3) -> AxisError: axis must be from -2 to 1 for 2 dimensions, got -3
COST(z=Z[:, :0]) -> ValueError: z must have at least one class, got shape (7, 0)
COST(z=Z[:, :0], y=Z[:, :0]) -> ValueError: z must have at least one class, got shape (7, 0)
output_error(a=Z[:0], axis=0) -> ValueError: a must have at least one class, got shape (0, 4)
COST(z=1.0) -> ValueError: z must have a class axis, got a scalar
output_error(a=1.0) -> ValueError: a must have a class axis, got a scalar
COST(z=Z[:0], y=Y[:0], sample_weight=None) -> ValueError: the mean is over no rows: z has shape (0,
COST(z=Z[:0], y=Z[:0], sample_weight=[]) -> ValueError: the mean is over no rows: z has shape (0, 4)
COST(y=0 * Y, ignore_index=0) -> ValueError: the mean is over no rows: every label is ignore_index
COST(y=0 * Y, ignore_index=0, label_smoothing=0.1) -> ValueError: the mean is over no rows: every
COST(y=0 * Y, ignore_index=0, **PLAIN) -> ValueError: the mean is over no
COST(y=Y % 2, weight=[0, 0, 1, 1]) -> ValueError: the mean is over weights that sum to zero
COST(sample_weight=1 * (Y == 2), ignore_index=2) -> ValueError: the mean is over weights that sum
COST(y=ROWS, ignore_index=3) -> ValueError: ignore_index must be None with target rows, got 3
LABELLED(y=spoilt(Y, 3, 4)) -> ValueError: y must hold labels from 0 to 3, got 4 in row 3
LABELLED(y=spoilt(Y, 6, -1)) -> ValueError: y must hold labels from 0 to 3, got -1 in row 6
LABELLED(y=spoilt(Y, 0, 2**62)) -> ValueError: y must hold labels from 0 to 3, got 4611686018427387
LABELLED(y=spoilt(Y, 3, 4).astype(">i4")) -> ValueError: y must hold labels from 0 to 3, got 4 in r
LABELLED(y=spoilt(Y, 3, 255).astype("u1")) -> ValueError: y must hold labels from 0 to 3, got 255 i
LABELLED(y=Y.astype("u8") + 2**63) -> ValueError: y must hold labels from 0 to 3, got 9223372036854
COST(y=spoilt(Y, 1, -100), ignore_index=2) -> ValueError: y must hold labels from 0 to 3, got -100
COST(y=spoilt(Y, 1, 4), label_smoothing=0.1) -> ValueError: y must hold labels from 0 to 3, got 4 i
COST(y=Y.astype("u8") - 1, ignore_index=-1) -> ValueError: y must hold labels from 0 to 3, got 1844
COST(y=Y.astype("u8") - 1, ignore_index=2**64 - 1) -> ValueError: y must hold labels from 0 to 3, g
COST(z=IMAGE, y=7 * np.eye(2, 3, 1, int), sample_weight=None) -> ValueError: ... 7 in row (0, 1)
COST(y=spoilt(Y, 3, 4), **PLAIN) -> ValueError: y must hold labels from 0 to 3, got 4 in row 3
COST(y=spoilt(Y, 6, -1), reduction="sum", **PLAIN) -> ValueError: y must hold labels from 0 to 3
COST(z=Z[0], y=9, sample_weight=None) -> ValueError: y must hold labels from 0 to 3, got 9
LABELLED(y=Y.astype(float)) -> TypeError: y must be integer labels, got dtype float
LABELLED(y=Y > 1) -> TypeError: y must be integer labels, got dtype bool
LABELLED(y=Y.astype(object)) -> TypeError: y must be integer labels, got dtype object
LABELLED(y=Y.astype(str)) -> TypeError: y must be integer labels, got dtype <U21
LABELLED(y=Y.astype("m8[s]")) -> TypeError: y must be integer labels, got dtype timedelta64[s]
LABELLED(y=None) -> TypeError: y must be an array, got NoneType
LABELLED(y=map(int, Y)) -> TypeError: y must be an array, got map
LABELLED(y=csr_array(np.eye(4)[Y])) -> TypeError: y must be a dense array, got a sparse csr_array:
LABELLED(y=masked(Y)) -> TypeError: y must be an array without missing values, got a masked array
LABELLED(y=[[1], [1, 2]]) -> ValueError: y must be an array, got
LABELLED(y=Y[1:]) -> ValueError: y must have shape (7,), got (6,)
LABELLED(y=Y[:, None]) -> ValueError: y must have shape (7,), got (7, 1)
LABELLED(y=Y[:, None, None]) -> ValueError: y must have shape (7,) or (7, 4), got (7, 1, 1)
LABELLED(y=ROWS[:, :, None]) -> ValueError: y must have shape (7,) or (7, 4), got (7, 4, 1)
COST(z=Y, y=Z, **PLAIN) -> ValueError: y must have shape () or (7,), got (7, 4)
LABELLED(y=ROWS[:, :3]) -> ValueError: y must have shape (7, 4), got (7, 3)
LABELLED(y=masked(ROWS)) -> TypeError: y must be an array without missing values, got a masked arra
LABELLED(y=ROWS.astype(complex)) -> TypeError: y must be an array of float16, float32, float64, int
LABELLED(y=spoilt(ROWS, (2, 1), -0.25)) -> ValueError: y must hold probabilities, got -0.25 in row 2
LABELLED(y=spoilt(ROWS, (2, 1), NAN)) -> ValueError: y must hold probabilities, got nan in row 2
LABELLED(y=spoilt(ROWS, (2, 3), INF)) -> ValueError: y must hold rows that sum to 1, got a sum of in
LABELLED(y=spoilt(ROWS, 6, 0.0)) -> ValueError: y must hold rows that sum to 1, got a sum of 0.0 in
LABELLED(y=ROWS * 1.001) -> ValueError: y must hold rows that sum to 1, got a sum of 1.001
COST(z=IMAGE, y=spoilt(IMAGE, (1, 2, 3), 0.5), **AXIS_1) -> ValueError: ... in row (1, 3)
JUDGE(sample_weight=spoilt(WEIGHT, 1, -1.0)) -> ValueError: ... not negative, got -1.0 in row 1
WEIGHTED(sample_weight=spoilt(WEIGHT, 1, NAN)) -> ValueError: sample_weight must be finite
WEIGHTED(sample_weight=spoilt(WEIGHT, 6, -INF)) -> ValueError: sample_weight must be finite
JUDGE(sample_weight=0 * WEIGHT) -> ValueError: sample_weight must not be all zero, got 7 zeros
COST(sample_weight=0 * WEIGHT) -> ValueError: the mean is over weights that sum to zero
COST(sample_weight=[1, -1, 0, 0, 0, 2, -2], weight=None) -> ValueError: the mean is over weights tha
WEIGHTED(sample_weight=WEIGHT[1:]) -> ValueError: sample_weight must have shape (7,), got (6,)
WEIGHTED(sample_weight=WEIGHT[:, None]) -> ValueError: sample_weight must have shape (7,), got (7, 1
COST(weight=[1, 1, 1, NAN], y=ROWS) -> ValueError: weight must be finite, got nan for class 3
COST(weight=[-INF, 1, 1, 1], reduction="sum") -> ValueError: weight must be finite, got -inf for c
COST(weight=[1.0]) -> ValueError: weight must have shape (4,), got (1,)
STEPS(param=[1.0] * 6) -> TypeError: param must be a numpy.ndarray of float32 or float64, got list
STEPS(param=np.ones(6, "f2")) -> TypeError: param must be a numpy.ndarray of float32 or float64, go
STEPS(param=np.ones(6, int)) -> TypeError: param must be a numpy.ndarray of float32 or float64, got
STEPS(param=np.ma.ones(6)) -> TypeError: param must be a numpy.ndarray, got MaskedArray
STEPS(param=LAYOUTS["read-only"](np.ones(6))) -> ValueError: param must be writeable, got a read-on
STEPS(grad=np.ones(5)) -> ValueError: grad must have shape (6,), got (5,)
momentum_step(velocity=np.ones(6, "f2")) -> TypeError: velocity must be of dtype float
nesterov_step(velocity=np.ones(5)) -> ValueError: velocity must have shape (6,), got (5,)
adam_step(m=[1.0] * 6) -> TypeError: m must be a numpy.ndarray, got list
adam_step(v=LAYOUTS["read-only"](np.ones(6))) -> ValueError: v must be writeable, got a read-only a
Network(layer_sizes=[5]) -> ValueError: layer_sizes must hold at least 2 sizes, got [5]
Network(layer_sizes=5) -> TypeError: layer_sizes must be a sequence of integers, got 5
Network(layer_sizes="64") -> TypeError: layer_sizes must be a sequence of integers, got '64'
Network(layer_sizes=[3, 2**60, 3]) -> ValueError: layer_sizes
Network(seed=2**64) -> ValueError: seed must be an integer below 2**64, got 18446744073709551616
Network.fit(callback=3) -> TypeError: callback must be callable or None, got 3
Network.fit(optimizer="adam") -> TypeError: optimizer must be an SGD, an Adam or None, got 'adam'
Network.fit(optimizer=fastbp.Adam) -> TypeError: optimizer must be an SGD, an Adam or None, got <cl
Network.fit(optimizer=fastbp.Adam(), learning_rate=0.1) -> ValueError: learning_rate must be given t
Network.fit(optimizer=fastbp.SGD(), momentum=0.9) -> ValueError: momentum must be given to the optim
Network.fit(optimizer=fastbp.Adam(epsilon=1e-320)) -> ValueError: epsilon must be at least
Network.fit(validation_data=X) -> TypeError: validation_data must be a pair (X, y), got ndarray
Network.fit(validation_data=(X,)) -> ValueError: validation_data must be a pair (X, y), got 1 items
Network.fit(checkpoint_every=3) -> ValueError: checkpoint_every needs a checkpoint, got 3 without
Network.fit(resume=True) -> ValueError: resume needs a checkpoint, got True without one
Network.fit(checkpoint="/") -> IsADirectoryError: checkpoint must be a file, got the folder '/'
Network.fit(checkpoint="/", resume=True) -> IsADirectoryError: checkpoint must be a file
NETWORK(X=csr_array(X)) -> TypeError: X must be a dense array, got a sparse csr_array: call its toar
NETWORK(X=map(list, X)) -> TypeError: X must be an array, got map
softmax(z=csr_array(Z)) -> TypeError: z must be a dense array, got a sparse csr_array: call its toar
Network.fit(checkpoint=3) -> TypeError: checkpoint must be the path of a file, got 3
NETWORK(X=X[:, :2]) -> ValueError: X must have 3 columns, one per unit of the first layer, got shape
NETWORK(X=X[:, [0, 1, 2, 2]]) -> ValueError: X must have 3 columns, one per unit of the first layer
NETWORK(X=X[:, 0]) -> ValueError: X must be 2-D, got shape (7,)
NETWORK(X=X[:, :, None]) -> ValueError: X must be 2-D, got shape (7, 3, 1)
JUDGE(X=X[:0], y=Y[:0], sample_weight=None) -> ValueError: X must have at least one row, got shape
Network.fit(X=spoilt(X, (0, 1), NAN)) -> ValueError: X must be finite, got nan in row 0
Network.fit(X=spoilt(X, (6, 2), -INF)) -> ValueError: X must be finite, got -inf in row 6
Network.predict(X=spoilt(X, (3, 0), NAN)) -> ValueError: X must give finite logits, got [nan
CLASSIFIER(X=X[:, :0]) -> ValueError: ... 0 feature(s)
CLASSIFIER(X=X[:, :2]) -> ValueError: X has 2 features
CLASSIFIER(X=X[:, 0]) -> ValueError: Expected 2D array
CLASSIFIER(X=X[:, :, None]) -> ValueError: Found array with dim 3
CLASSIFIER(X=None) -> ValueError: Expected 2D array
CLASSIFIER(X=X.astype(complex)) -> ValueError: Complex data not supported
CLASSIFIER(X=np.full((7, 3), "x")) -> ValueError: could not convert string
CLASSIFIER(X=[[1.0, 2.0, 3.0], [1.0]]) -> ValueError: ... inhomogeneous
CLASSIFIER(X=masked(X)) -> TypeError: X must be an array without missing values, got a masked array
CLASSIFIER(X=spoilt(X, (3, 1), NAN)) -> ValueError: Input X contains NaN
CLASSIFIER(X=spoilt(X, (3, 1), -INF)) -> ValueError: Input X contains infinity
TRAIN(X=X[:0], y=Y[:0], sample_weight=None) -> ValueError: ... 0 sample(s)
TRAIN(y=spoilt(Y, 6, 9)) -> ValueError: ... `y` has [0 1 2 3 9]
TRAIN(y=Y % 2) -> ValueError: ... `y` has [0 1]
TRAIN(y=Y + 0.5) -> ValueError: Unknown label type: continuous
TRAIN(y=spoilt(Y, 1, NAN)) -> ValueError: Input y contains NaN
TRAIN(y=spoilt(Y, 1, INF)) -> ValueError: Input y contains infinity
TRAIN(y=Y.astype(complex)) -> ValueError: Complex data not supported
TRAIN(y=ROWS) -> ValueError: Unknown label type: continuous-multioutput
TRAIN(y=None) -> ValueError: ...
TRAIN(y=0) -> TypeError: Input should have at least 1 dimension
TRAIN(y=Y[1:]) -> ValueError: ... inconsistent numbers of samples
TRAIN(y=masked(Y)) -> TypeError: y must be an array without missing values, got a masked array
TRAIN(sample_weight=NAN * WEIGHT) -> ValueError: ... sample_weight contains NaN
TRAIN(sample_weight=INF * WEIGHT) -> ValueError: ... sample_weight contains infinity
TRAIN(sample_weight=-WEIGHT) -> ValueError: Negative values in data passed to `sample_weight`
TRAIN(sample_weight=0 * WEIGHT) -> ValueError: ... at least one non-zero
TRAIN(sample_weight=WEIGHT[1:]) -> ValueError: sample_weight.shape == (6,)
TRAIN(sample_weight=WEIGHT[:, None]) -> ValueError: Sample weights must be 1D
TRAIN(sample_weight=WEIGHT.astype(complex)) -> ValueError: Complex data not supported
TRAIN(sample_weight=masked(WEIGHT)) -> TypeError: sample_weight must be an array without missing
MLPClassifier.fit(X_val=X, y_val=spoilt(Y, 6, 9)) -> ValueError: y_val must hold labels of y,
MLPClassifier.fit(X_val=X[:0], y_val=Y[:0]) -> ValueError: ... 0 sample(s)
MLPClassifier.fit(X_val=INF * X, y_val=Y) -> ValueError: Input X contains infinity
MLPClassifier.fit(X_val=masked(X), y_val=Y) -> TypeError: X_val must be an array without missing
MLPClassifier.fit(X_val=X, y_val=masked(Y)) -> TypeError: y_val must be an array without missing
TRAIN(class_weight={1: NAN}) -> ValueError: class_weight must be finite and not negative, got nan f
TRAIN(class_weight={1: INF}) -> ValueError: class_weight must be finite and not negative, got inf f
TRAIN(class_weight={1: -1}) -> ValueError: class_weight must be finite and not negative, got -1.0 f
TRAIN(class_weight=dict.fromkeys(range(4), 0)) -> ValueError: ... must not be all zero, got 7 zeros
TRAIN(class_weight={9: 1.0}) -> ValueError: ... not in class_weight
TRAIN(alpha=10**400) -> ValueError: alpha must be a finite number >= 0, got 1000
TRAIN(alpha=NAN) -> ValueError: ... alpha
TRAIN(learning_rate_init=10**400) -> ValueError: learning_rate must be a finite number > 0, got 100
TRAIN(learning_rate_init=INF) -> ValueError: ... learning_rate
TRAIN(epsilon=1e-320) -> ValueError: epsilon must be at least
TRAIN(hidden_layer_sizes=[[1], [2, 3]]) -> ValueError: hidden_layer_sizes must be integers, one per
TRAIN(hidden_layer_sizes=(5, True)) -> ValueError: hidden_layer_sizes must be integers, one per lay
TRAIN(hidden_layer_sizes=(5, 0)) -> ValueError: hidden_layer_sizes must be > 0, got [5, 0]
"""

# Numbers, choices, dtypes, axes

CLOSED, HALF_OPEN = "a number in [0, 1]", "a number in [0, 1)"
AT_LEAST_0, ABOVE_0 = "a finite number >= 0", "a finite number > 0"
NOT_REAL = [None, "0.5", True, np.True_, 0.5j, [0.5], np.array([1, 2]), np.zeros(1, int)]
OUT_OF_RANGE = [NAN, INF, -INF, 10**400, Fraction(10**400, 3), np.longdouble("inf"), -0.1]
NOT_INTEGER = [1.0, "1", True, np.True_, None, [1], np.array([1]), Fraction(1), 1j]
# Entries, argument, expected values, and values of the right type out of range
NUMBERS = [
    ("COST", "label_smoothing", CLOSED, [1.5]),
    ("STEPS", "learning_rate", AT_LEAST_0, []),
    ("SGD Adam Network.fit", "learning_rate", ABOVE_0, [0, 0.0]),
    ("momentum_step nesterov_step SGD", "momentum", CLOSED, [1.5]),
    ("Network.fit", "momentum", HALF_OPEN, [1.0]),
    ("adam_step Adam", "beta_1", HALF_OPEN, [1, 1.0]),
    ("adam_step Adam", "beta_2", HALF_OPEN, [1, 1.0]),
    ("adam_step", "epsilon", AT_LEAST_0, []),
    ("Adam", "epsilon", ABOVE_0, [0]),
    ("adam_step Adam", "weight_decay", AT_LEAST_0, []),
    ("Network.fit", "l2", AT_LEAST_0, []),
    ("COST", "ignore_index", "an integer", []),
    ("COST output_error", "axis", "an integer", []),
    ("adam_step", "t", "an integer >= 1", [0, -1]),
    ("Network.fit", "epochs", "an integer >= 1", [0, np.int8(-1)]),
    ("Network.fit", "batch_size", "an integer >= 1", [0]),
    ("NETWORK", "n_threads", "an integer >= 1", [0]),
    ("Network", "seed", "an integer >= 0", [-1]),
]
DTYPES = ["float16", ">f4", int, None, 3, "f4,,", {"names": [1]}, "f4,f4", ["f4"], object]
NO_CHOICE = ["avg", None, 1, ["sum"], np.array([1, 2])]
NO_AXIS = [1.0, "1", [0, 1], True, (0, 1.0), np.array([0]), np.array([0, 1]), np.array(-1.0)]
NOT_NUMERIC = ["bool", "f2", "c8", "c16", "O", "U1", "M8[s]"]
if np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant:
    NOT_NUMERIC.append("longdouble")


def lines_of(entry):
    """Rows of `TABLE`: changes, exception, words."""
    for line in TABLE.strip().splitlines():
        name, changes, error, words = re.fullmatch(
            r"([\w.]+)\((.*)\) -> (\w+): (.*)", line
        ).groups()
        if entry in GROUPS.get(name, [name]):
            names = vars(entries) | globals()
            yield eval(f"dict({changes})", names), eval(error), words


def options_of(entry):
    """Options of a wrong type or out of range."""
    taken = inspect.signature(call_of(entry, np.dtype(float), {})[0]).parameters
    for where, name, expected, out_of_range in NUMBERS:
        found = [each for part in where.split() for each in GROUPS.get(part, [part])]
        if entry not in found or name not in taken:
            continue
        kinds = NOT_INTEGER if "integer" in expected else NOT_REAL
        needs = taken[name].default is not None and name != "seed"
        values = [(x, TypeError) for x in kinds if x is not None or needs]
        limits = out_of_range if "integer" in expected else out_of_range + OUT_OF_RANGE
        for value, error in values + [(x, ValueError) for x in limits]:
            yield {name: value}, error, f"{name} must be {expected}, got {value!r}"
    for name in {"keepdims", "shuffle", "progress", "resume"} & set(taken):
        if not entry.startswith("MLPClassifier"):
            yield {name: np.array([1, 0])}, TypeError, f"{name} must be True or False, got array([1"
    for value in NO_AXIS if entry in GROUPS["ALONG_AXES"] else []:
        words = f"axis must be an integer, a tuple of integers or None, got {value!r}"
        yield {"axis": value}, TypeError, words
    for value in NO_CHOICE:
        if entry in GROUPS["COST"]:
            words = f"reduction must be 'mean', 'sum' or 'none', got {value!r}"
            yield {"reduction": value}, ValueError, words
        if entry in ("hidden_error", "Network"):
            words = f"activation must be 'identity', 'sigmoid', 'tanh' or 'relu', got {value!r}"
            yield {"activation": value}, ValueError, words
    if entry == "Network":
        for value in DTYPES:
            words = f"dtype must be 'float32' or 'float64', got {value!r}"
            yield {"dtype": value}, ValueError, words
        for q, value in itertools.product(range(3), [0, -1, *NOT_INTEGER]):
            sizes = [*[3] * q, value, *[3] * (2 - q)]
            words = f"layer_sizes[{q}] must be an integer >= 1, got {value!r}"
            yield {"layer_sizes": sizes}, ValueError if value in (0, -1) else TypeError, words


def arrays_of(entry):
    """Values that are no numeric array, for each array that the entry reads."""
    written = {"param", "velocity", "m", "v"}
    for name, good in GOOD[entry].items():
        kind = np.asarray(good).dtype.kind
        if entry.startswith("MLP") or name in written or np.ndim(good) == 0 or kind != "f":
            continue
        is_feature = entry.startswith("Network") and name == "X"
        kinds = "float16, float32, float64, integers or bool"
        kinds = kinds if is_feature else "float32, float64 or integers"
        words = f"{name} must be an array of {kinds}, got dtype"
        for dtype in NOT_NUMERIC[2:] if is_feature else NOT_NUMERIC:
            bad = np.ones(good.shape).astype(dtype)
            yield {name: bad}, TypeError, f"{words} {bad.dtype}"
        if not is_feature:
            yield {name: Frame(good > 0)}, TypeError, f"{words} bool"
        if "weight" not in name:
            yield {name: None}, TypeError, f"{name} must be an array, got NoneType"
        words = f"{name} must be an array without missing values, got a masked array of dtype float"
        yield {name: np.ma.array(good, mask=True)}, TypeError, words
        yield {name: [[1.0], [1.0, 2.0]]}, ValueError, f"{name} must be an array, got"
        words = f"{name} must be an array, got a numpy.matrix of dtype float"
        yield {name: np.matrix(good)}, TypeError, words


def outs_of(entry, dtype):
    """Arrays that cannot take a result."""
    if entry not in OUT_SHAPES:
        return
    shape = OUT_SHAPES[entry]
    good, other = np.full(shape, 7, dtype), np.dtype("f8" if dtype == np.float32 else "f4")
    for wrong in ((*shape, 1), (1, *shape), (2, *shape[1:]), shape[::-1] if shape[1:] else (8,)):
        words = f"out must have shape {shape}, got {wrong}"
        yield {"out": np.full(wrong, 7, dtype)}, ValueError, words
    for wrong in (other, np.dtype(int), dtype.newbyteorder()):
        words = f"out must be of dtype {dtype}, got {wrong}"
        yield {"out": good.astype(wrong)}, TypeError, words
    for bad in (good.tolist(), np.ma.array(good), np.matrix(np.ones((2, 2), dtype))):
        yield {"out": bad}, TypeError, f"out must be a numpy.ndarray, got {type(bad).__name__}"
    words = "out must be writeable, got a read-only array"
    yield {"out": LAYOUTS["read-only"](good)}, ValueError, words


def as_dtype(name, value, dtype):
    """Float64 arrays in ``dtype``, all else as it is."""
    if name == "out" or not isinstance(value, np.ndarray) or value.dtype != float or not value.ndim:
        return value
    converted = value.astype(dtype)
    converted.flags.writeable = value.flags.writeable
    return converted


def call_of(entry, dtype, changes):
    """What to call, its model if there is one, and good arguments with the changes."""
    model, changes = None, dict(changes)
    kind, _, method = entry.partition(".")
    function = getattr(fastbp, kind)
    if method:
        model = model_of(kind, dtype.name)
        parameters = set(changes) & set(model.get_params() if kind == "MLPClassifier" else ())
        if parameters:
            model = pickle.loads(pickle.dumps(model))
            model.set_params(**{name: changes.pop(name) for name in parameters})
        function = getattr(model, method)
    arguments = GOOD[entry] | changes
    return function, model, {name: as_dtype(name, x, dtype) for name, x in arguments.items()}


def assert_refused(entry, dtype, changes, error, words):
    __tracebackhide__ = True
    function, model, arguments = call_of(entry, dtype, changes)
    outs = [{}]
    if entry in OUT_SHAPES and "out" not in changes:
        outs.append({"out": np.full(OUT_SHAPES[entry], 7, dtype)})
        first = next(iter(arguments.values()))
        if type(first) is np.ndarray and (first.shape, first.dtype) == (OUT_SHAPES[entry], dtype):
            outs.append({"out": first})
    for out in outs:
        before = pickle.dumps((model, arguments, out))
        with pytest.raises(error) as caught:
            function(**arguments, **out)
        message = str(caught.value)
        found = words[4:] in message if words.startswith("...") else message.startswith(words)
        assert found, f"{entry}{changes}: {message!r} instead of {words!r}"
        assert pickle.dumps((model, arguments, out)) == before, f"{entry}{changes} has written"


@pytest.mark.parametrize(
    "entry",
    [pytest.param(e, marks=[pytest.mark.compiled] if e.startswith("MLP") else []) for e in GOOD],
)
def test_refusals(entry, dtype):
    rows = [*lines_of(entry), *options_of(entry), *arrays_of(entry), *outs_of(entry, dtype)]
    assert rows
    for row in rows:
        assert_refused(entry, dtype, *row)


def test_validation_rows_are_refused_as_rows_to_learn_from(dtype):
    names = {"X must": "validation_data[0] must", "y must": "validation_data[1] must"}
    for changes, error, words in [*lines_of("Network.fit"), *arrays_of("Network.fit")]:
        if changes.keys() <= {"X", "y"} and words[:6] in names and "finite" not in words:
            pair = tuple((LEARN | changes)[name] for name in ("X", "y"))
            words = names[words[:6]] + words[6:]
            assert_refused("Network.fit", dtype, {"validation_data": pair}, error, words)


def test_numbers_beyond_float32_are_infinite():
    single, x = np.dtype(np.float32), spoilt(X, (3, 1), 1e300).tolist()
    words = "X must be finite, got inf in row 3"
    assert_refused("Network.fit", single, {"X": x}, ValueError, words)
    words = "weight must be finite, got inf for class 0"
    assert_refused("cross_entropy", single, {"weight": [1e300, 1, 1, 1]}, ValueError, words)


def test_frames_with_missing_values_are_refused(dtype):
    net = Network([J, 5, K], dtype=dtype)
    frame, labels = pandas.DataFrame(X).convert_dtypes(), pandas.Series(Y, dtype="Int64")
    assert net.loss(frame, labels) == net.loss(X, Y)
    frame.iloc[3, 1] = labels[4] = None
    for name, arguments in (("X", (frame, Y)), ("y", (X, labels))):
        with pytest.raises(
            TypeError, match=f"^{name} must be an array without missing values, got"
        ):
            net.loss(*arguments)


@pytest.mark.parametrize("entry", GROUPS["STEPS"])
def test_updated_arrays_that_overlap_are_refused(entry, dtype):
    names = [name for name in GOOD[entry] if name in ("param", "velocity", "m", "v")]
    for first, second in itertools.combinations(names, 2):
        buffer = np.ones(11, dtype)
        arrays = {name: np.ones(6, dtype) for name in names}
        arrays |= {first: buffer[:6], second: buffer[5:]}
        with pytest.raises(ValueError, match=f"^{second} must not overlap {first}$"):
            getattr(fastbp, entry)(**GOOD[entry] | arrays)
        assert (buffer == 1).all()


def test_parameters_that_are_not_finite_are_refused(dtype):
    for bad in (NAN, INF):
        net = Network([J, 5, K], dtype=dtype)
        net.parameters[3] = bad
        before = pickle.dumps(net)
        with pytest.raises(ValueError, match=r"^parameters must be finite, got some that are inf"):
            net.fit(X, Y)
        assert pickle.dumps(net) == before


def test_every_public_function_is_here():
    functions = {name for name in fastbp.__all__ if callable(getattr(fastbp, name))}
    functions = {n for n in functions if getattr(fastbp, n).__module__ == "fastbp.functional"}
    assert functions <= set(GOOD)
    with_out = {n for n in functions if "out" in inspect.signature(getattr(fastbp, n)).parameters}
    assert with_out == set(OUT_SHAPES)
