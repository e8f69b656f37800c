"""Calls leave the state of the process alone, and do not depend on it."""

import copy
import ctypes
import gc
import os
import pickle
import random
import subprocess
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

import calls
import entries
import numpy as np
import pytest
from entries import GOOD, WEIGHT, X, Y
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier as TheirClassifier
from surroundings import changes, floating_point_control, holdings, roundings, state

import fastbp
from fastbp import Adam, DivergenceError, MLPClassifier, ModelFileError, Network, convert, kernels

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DTYPE = np.dtype(np.float64)
SCALAR_KERNELS = ("exp", "log1p", "sigmoid", "sigmoid_derivative", "tanh")
FUNCTIONS = [
    name
    for name in fastbp.__all__
    if getattr(getattr(fastbp, name), "__module__", "") == "fastbp.functional"
]


def test_the_modes_of_floating_point_are_seen():
    """Flush to zero, for instance."""
    if not floating_point_control():
        pytest.skip("written for Linux on x86-64")
    libm, before, saved = ctypes.CDLL(None), state(), (ctypes.c_uint32 * 16)()
    libm.fegetenv(saved)
    changed = type(saved)(*saved)
    changed[7] |= 0x8040
    try:
        libm.fesetenv(changed)
        control, rounded = floating_point_control(), roundings()
    finally:
        libm.fesetenv(saved)
    assert (*control, *rounded) != before["floating point"]
    assert rounded != roundings()
    assert not changes(before, state())


# Every public call, and some that fail


def model(kind):
    return entries.model_of(kind, "float64")


@cache
def theirs():
    return TheirClassifier((5,), max_iter=2, random_state=0).fit(X, Y)


def there_and_back(kind, folder):
    path = folder / "model"
    for _ in range(2):
        model(kind).save(path)
    return type(model(kind)).load(path).predict_proba(X)


def with_a_checkpoint(folder):
    net, path = Network([3, 5, 4]), Path(tempfile.mkdtemp(dir=folder), "run")
    for epochs in (1, 2):
        net.fit(X, Y, epochs=epochs, checkpoint=path, checkpoint_every=1, resume=True)
    return net.parameters


def good_call(entry):
    """The entry with good arguments, on a copy of its model."""
    kind, _, method = entry.partition(".")
    if not method:
        return lambda folder: getattr(fastbp, entry)(**copy.deepcopy(GOOD[entry]))
    return lambda folder: getattr(copy.deepcopy(model(kind)), method)(**GOOD[entry])


def kernel_call(name):
    if name == "loss_sum":
        return lambda folder: kernels.loss_sum(np.ones(3))
    if name in SCALAR_KERNELS:
        return lambda folder: getattr(kernels, name)(np.float64(-1))
    return lambda folder: calls.sample(name, (3, 3), DTYPE)()


def rows_in_a_file(folder):
    np.save(folder / "rows.npy", X)
    rows = fastbp.open_rows(folder / "rows.npy", Y)
    return Network([3, 5, 4]).fit(rows, epochs=2, batch_size=2, buffer_rows=4).as_dict()["loss"]


CALLS = {
    **{entry: good_call(entry) for entry in GOOD},
    **{f"kernels.{name}": kernel_call(name) for name in kernels.__all__ if name != "AdamOptions"},
    "DivergenceError": lambda folder: DivergenceError("training diverged"),
    "ModelFileError": lambda folder: ModelFileError("damaged"),
    "Network": lambda folder: (Network([4, 3], seed=None), repr(model("Network"))),
    "Network.fit with more": lambda folder: (
        Network([3, 5, 4]).fit(X, Y, epochs=2, validation_data=(X, Y)),
        with_a_checkpoint(folder),
    ),
    "Network.forget": lambda folder: copy.copy(model("Network")).forget(),
    "open_rows": lambda folder: rows_in_a_file(folder),
    "Network.summary": lambda folder: model("Network").summary()._repr_html_(),
    "Network.reset": lambda folder: copy.copy(model("Network")).reset(),
    "Network.predict in threads": lambda folder: model("Network").predict(
        np.tile(X, (200, 1)), n_threads=2
    ),
    "MLPClassifier": lambda folder: pickle.loads(pickle.dumps(model("MLPClassifier"))),
    "MLPClassifier.fit with more": lambda folder: [
        MLPClassifier((5,), solver=solver, max_iter=2, random_state=0).fit(X, Y).coefs_
        for solver in ("lbfgs", "sgd", "adam")
    ],
    **{
        f"{kind}.{name}": lambda folder, kind=kind: there_and_back(kind, folder)
        for kind in ("Network", "MLPClassifier")
        for name in ("load", "save")
    },
    "convert.from_sklearn": lambda folder: convert.from_sklearn(theirs()),
    "convert.to_sklearn": lambda folder: convert.to_sklearn(model("Network")),
    "convert.from_torch": lambda folder: convert.from_torch(convert.to_torch(model("Network"))),
    "convert.to_torch": lambda folder: convert.to_torch(model("Network")),
    "convert.to_onnx": lambda folder: convert.to_onnx(model("Network")),
}


def a_damaged_file(folder):
    path = folder / "model"
    model("Network").save(path)
    os.truncate(path, 300)
    Network.load(path)


FAILING = {
    "cross_entropy": lambda folder: fastbp.cross_entropy(np.eye(3), [0, 1, 3]),
    "logsumexp": lambda folder: fastbp.logsumexp(np.eye(3), axis=7),
    "Network.load": a_damaged_file,
    "Network.save": lambda folder: model("Network").save(folder / "no" / "such" / "folder"),
    "Network.fit: diverges": lambda folder: Network([3, 4]).fit(X, Y, learning_rate=1e300),
    "Network.fit: callback": lambda folder: Network([3, 4]).fit(X, Y, callback=lambda *_: 1 // 0),
    "MLPClassifier.fit": lambda folder: MLPClassifier((5,)).fit(X, Y[:3]),
    "MLPClassifier.fit: diverges": lambda folder: MLPClassifier(
        (5,), activation="relu", solver="sgd", learning_rate_init=1e300, random_state=0
    ).fit(X, Y),
    "convert.to_sklearn": lambda folder: convert.to_sklearn(model("Network"), ["b", "a", "c"]),
}


def test_every_public_call_is_here():
    parts = {
        "": {name: getattr(fastbp, name) for name in fastbp.__all__},
        "kernels.": {name: getattr(kernels, name) for name in kernels.__all__},
        "Network.": {name: getattr(Network, name) for name in dir(Network)},
        "MLPClassifier.": {name: getattr(MLPClassifier, name) for name in dir(MLPClassifier)},
        "convert.": vars(convert),
    }
    found = {
        part + name
        for part, things in parts.items()
        for name, thing in things.items()
        if callable(thing) and not name.startswith("_") and name != "AdamOptions"
        if part == "kernels." or thing.__module__.startswith("fastbp.")
        if part != "convert." or thing.__module__.startswith("fastbp.convert.")
    }
    # of the methods that scikit-learn adds, score alone computes
    assert found | {"MLPClassifier", "MLPClassifier.score"} == {
        name for name in CALLS if " " not in name
    }


def assert_leaves_all_as_it_was(call):
    __tracebackhide__ = True
    before, (libraries, files) = state(), holdings()
    call()
    call()
    after, (libraries_after, files_after) = state(), holdings()
    assert not changes(before, after)
    assert libraries.items() <= libraries_after.items()
    assert not files_after - files


@pytest.mark.parametrize("name", CALLS)
def test_calls_leave_all_as_it_was(name, tmp_path):
    if name.endswith("torch"):
        pytest.importorskip("torch")
        convert.to_torch(model("Network"))  # imports more of it, which adds filters of warnings
    if "MLPClassifier" in name:
        model("MLPClassifier")  # trained before the state is taken
    assert_leaves_all_as_it_was(lambda: CALLS[name](tmp_path))


@pytest.mark.parametrize("name", FAILING)
def test_failing_calls_leave_all_as_it_was(name, tmp_path):
    def call():
        with pytest.raises((TypeError, ValueError, ZeroDivisionError, OSError)):
            FAILING[name](tmp_path)

    assert_leaves_all_as_it_was(call)


def test_without_a_random_state_numpys_is_used():
    """As by scikit-learn's estimators: the one exception."""
    fitted = []
    for _ in range(2):
        np.random.seed(3)  # noqa: NPY002
        before = state()
        fitted.append(MLPClassifier((5,), max_iter=2).fit(X, Y))
        assert set(changes(before, state())) == {"numpy.random"}
    np.testing.assert_array_equal(*(classifier.coefs_[0] for classifier in fitted))


FRESH = """
from surroundings import changes, holdings, state
import numpy as np
before = state(), holdings()
import fastbp
X, y = np.eye(600, 4), np.arange(600) % 3
fastbp.softmax_cross_entropy(X, y)
fastbp.Network([4, 3]).fit(X, y, epochs=1, n_threads=2)
after = state(), holdings()
assert not changes(before[0], after[0]), changes(before[0], after[0])
assert before[1][0].items() <= after[1][0].items()
assert not after[1][1] - before[1][1]
"""


@pytest.mark.compiled
def test_import_and_first_calls_leave_all_as_it_was():
    """Beside Numba, NumPy and scikit-learn, which are there already."""
    places = Path(__file__).parent, Path(fastbp.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    command = [sys.executable, "-W", "error", "-c", FRESH]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


# The other direction


def outcome(call):
    """Every bit of the result of a call, or its exception."""
    try:
        return bits(call())
    except Exception as error:
        return type(error), str(error)


def bits(value):
    if isinstance(value, (list, tuple)):
        return [bits(part) for part in value]
    array = np.asarray(value)
    return array.dtype.str, array.shape, array.tobytes()


def assert_surroundings_do_not_matter(call, *arguments, **options):
    """A program may have errors raised, warnings too, seeds set, and collect no garbage."""
    __tracebackhide__ = True
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = outcome(lambda: call(*arguments, **options))
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        for settings in ("warn", "raise"):
            random.seed(1)
            np.random.seed(1)  # noqa: NPY002
            gc.disable()
            with np.errstate(all=settings), warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.simplefilter("ignore", ConvergenceWarning)
                assert outcome(lambda: call(*arguments, **options)) == expected, settings
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        gc.enable()


SUBNORMAL = 5e-324
WIDE = np.concatenate([[SUBNORMAL, 1e-310], 10.0 ** np.linspace(-300, 300, 78)])
COST_OPTIONS = [
    {},
    {"reduction": "none"},
    {"reduction": "sum"},
    {"label_smoothing": 1e-300},
    {"label_smoothing": SUBNORMAL, "weight": [1, 2, 3, 4, SUBNORMAL]},
    {"weight": [1e-300, 1e-20, 1, 1e20, 1e30], "sample_weight": WIDE},
    {"weight": [1e-45] * 5},
    {"weight": [1e300] * 5},
    {"sample_weight": np.full(80, 1e-300), "reduction": "sum"},
]
OPTIONS = {
    **{name: [{"axis": -1}, {"axis": 0}] for name in ("softmax", "log_softmax", "logsumexp")},
    "cross_entropy": COST_OPTIONS,
    "softmax_cross_entropy": COST_OPTIONS,
    "adam_step": [{"learning_rate": 1e300}, {"learning_rate": SUBNORMAL, "epsilon": SUBNORMAL}],
    "momentum_step": [{"learning_rate": rate, "momentum": 0.9} for rate in (1e300, SUBNORMAL)],
    "nesterov_step": [{"learning_rate": rate, "momentum": 0.9} for rate in (1e300, SUBNORMAL)],
}


def hard_logits(dtype):
    limits, rng = np.finfo(dtype), np.random.default_rng(4)
    values = [0.0, -0.0, 1.0, -50.0, 80.0, -104.0, 709.0, -745.0, limits.max, -limits.max]
    values += [limits.tiny, limits.smallest_subnormal, -3 * limits.smallest_subnormal]
    finite = rng.choice(np.array(values), (40, 5))
    strange = rng.choice(np.array([*values, np.inf, -np.inf, np.nan]), (40, 5))
    with np.errstate(all="ignore"):
        return np.concatenate([finite, strange]).astype(dtype)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_in_any_surroundings(name, dtype):
    z, labels = hard_logits(dtype), np.arange(80) % 5
    a = np.linspace(0, 1, 400).reshape(80, 5).astype(dtype)
    a[::7] = np.finfo(dtype).tiny
    arrays = {"a": a, "w": z[:5], "w_next": z[:5], "b": z[0], "t": 1}
    taken = [argument for argument in GOOD[name] if "weight" not in argument]

    def call(y, options):
        given = {n: y if n == "y" else arrays.get(n, z) for n in taken} | options
        given = {n: x.copy() if isinstance(x, np.ndarray) else x for n, x in given.items()}
        result = getattr(fastbp, name)(**given)
        return [*given.values()] if result is None else result

    for options in OPTIONS.get(name, [{}]):
        for y in (labels, np.eye(5, dtype=dtype)[labels]) if "y" in taken else (None,):
            assert_surroundings_do_not_matter(call, y, options)


# Rows that float32 networks cannot take, or can hardly
HARD_ROWS = {
    "huge": np.full((7, 3), 1e300),
    "tiny": np.full((7, 3), 1e-300),
    "subnormal": X * 1e-39,
    "large": X * 1e37,
    "infinite": np.full((7, 3), np.inf),
    "NaN": np.full((7, 3), np.nan),
    "as large as can be": np.sign(X).astype(np.float32) * np.float32(1.7e38),
}
METHODS = "predict", "predict_log_proba", "predict_proba"


def trained(dtype, rows, **options):
    net = Network([3, 5, 4], dtype=dtype, activation="relu")
    history = net.fit(rows, Y, epochs=2, batch_size=4, **options)
    return net.parameters, net.velocity, net.second_moment, history.loss, history.accuracy


@pytest.mark.parametrize("rows", HARD_ROWS)
def test_network_in_any_surroundings(rows, dtype):
    x, net = HARD_ROWS[rows], Network([3, 5, 4], dtype=dtype)
    for name in ("logits", *METHODS):
        assert_surroundings_do_not_matter(getattr(net, name), x)
    for name in ("loss", "score", "gradients"):
        assert_surroundings_do_not_matter(getattr(net, name), x, Y)
    assert_surroundings_do_not_matter(trained, dtype, x)
    assert_surroundings_do_not_matter(trained, dtype, X, validation_data=(x, Y))


def test_training_in_any_surroundings(dtype):
    for options in (
        {"learning_rate": 1e300},
        {"learning_rate": SUBNORMAL, "l2": 1e300},
        {"optimizer": Adam(1e30, weight_decay=1e300)},
        {"optimizer": Adam(SUBNORMAL, epsilon=1e-30), "sample_weight": WIDE[:7]},
        {"sample_weight": np.full(7, 1e-310)},
    ):
        assert_surroundings_do_not_matter(trained, dtype, X, **options)


@pytest.mark.parametrize("value", [1e300, 1e-300, 1e38, 1e-38, np.nan, np.inf])
def test_parameters_in_any_surroundings(value, dtype):
    def assign(name):
        net = Network([3, 4], dtype=dtype)
        setattr(net, name, np.full(16, value))
        fitted = outcome(lambda: net.fit(X, Y, epochs=1).loss)
        return net.parameters, net.velocity, str(fitted)

    def there_and_back():
        net = Network([3, 2], dtype=dtype)
        net.parameters = np.where(np.arange(8) % 2, value, -value)
        classifier = convert.to_sklearn(net)
        return (
            classifier.coefs_,
            classifier.intercepts_,
            convert.from_sklearn(classifier).parameters,
        )

    assert_surroundings_do_not_matter(assign, "parameters")
    assert_surroundings_do_not_matter(assign, "velocity")
    assert_surroundings_do_not_matter(there_and_back)


@pytest.mark.compiled
@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "adam"])
def test_classifier_in_any_surroundings(solver, dtype):
    options = {"max_iter": 3, "random_state": 0, "activation": "relu", "solver": solver}
    fitted = MLPClassifier((5,), **options).fit(X.astype(dtype), Y)

    def train(rows, **more):
        classifier = MLPClassifier((5,), **options, **more).fit(rows, Y, WEIGHT)
        return [*classifier.coefs_, *classifier.intercepts_, classifier.loss_]

    for x in HARD_ROWS.values():
        with np.errstate(all="ignore"):
            given = [x] if solver == "adam" else [x.astype(dtype)]
        for rows in given:
            for name in ("decision_function", *METHODS):
                assert_surroundings_do_not_matter(getattr(fitted, name), rows)
            assert_surroundings_do_not_matter(train, rows)
    assert_surroundings_do_not_matter(train, X, alpha=1e300)
    assert_surroundings_do_not_matter(train, X, learning_rate_init=1e300)


@pytest.mark.compiled
def test_decisions_between_two_classes_in_any_surroundings():
    fitted = MLPClassifier((), max_iter=3, random_state=0).fit(X, Y > 0)
    fitted.coefs_ = [np.array([[-1.0, 1.0]] * 3) * 1e308]
    assert_surroundings_do_not_matter(fitted.decision_function, np.full((1, 3), 0.4))
