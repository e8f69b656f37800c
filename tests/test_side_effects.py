"""Calls change nothing but what they are about, and what surrounds them does not change them."""

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
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier as TheirClassifier
from surroundings import changes, floating_point_control, holdings, roundings, state

import fastbp
from fastbp import (
    SGD,
    Adam,
    DivergenceError,
    MLPClassifier,
    ModelFileError,
    Network,
    convert,
    kernels,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


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

X = np.random.default_rng(0).standard_normal((24, 4))
Y = np.arange(24) % 3
Z = np.array([[1.0, -2.0, 0.5], [700.0, -745.0, 3e-310], [0.0, 1e300, -np.inf]])
HOT = np.eye(3)
A = np.array([[0.25, 0.5, 0.25], [1.0, 0.0, 0.0], [0.5, 0.25, 0.25]])
EVERY = np.empty(0)  # every row weighs one
LABELS = np.arange(3)


@cache
def network():
    net = Network([4, 5, 3])
    net.fit(X, Y, epochs=1)
    return net


@cache
def classifier():
    return MLPClassifier((5,), max_iter=2, random_state=0).fit(X, Y)


@cache
def theirs():
    return TheirClassifier((5,), max_iter=2, random_state=0).fit(X, Y)


def step(function, n_arrays, *rates, **options):
    arrays = np.ones((n_arrays, 6))
    function(*arrays, *rates, **options)
    return arrays


def there_and_back(model):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model")
        model.save(path)
        model.save(path)
        again = type(model).load(path)
    return again.predict_proba(X)


def with_a_checkpoint(net):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run")
        for epochs in (1, 2):
            net.fit(X, Y, epochs=epochs, checkpoint=path, checkpoint_every=1, resume=True)
    return net.parameters


def a_damaged_file():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model")
        network().save(path)
        os.truncate(path, 300)
        Network.load(path)


CALLS = {
    "SGD": lambda: SGD(0.1),
    "Adam": lambda: Adam(0.1),
    "DivergenceError": lambda: DivergenceError("training diverged"),
    "adam_step": lambda: step(fastbp.adam_step, 4, t=1),
    "bias_gradient": lambda: fastbp.bias_gradient(A),
    "cross_entropy": lambda: fastbp.cross_entropy(Z, LABELS, weight=[1, 2, 3]),
    "dense": lambda: fastbp.dense(A, HOT, np.ones(3)),
    "hidden_error": lambda: fastbp.hidden_error(A, HOT, A),
    "log_softmax": lambda: fastbp.log_softmax(Z),
    "logsumexp": lambda: fastbp.logsumexp(Z, axis=None),
    "momentum_step": lambda: step(fastbp.momentum_step, 3, 0.1, 0.9),
    "nesterov_step": lambda: step(fastbp.nesterov_step, 3, 0.1, 0.9),
    "output_error": lambda: fastbp.output_error(A, LABELS),
    "relu": lambda: fastbp.relu(Z),
    "sigmoid": lambda: fastbp.sigmoid(Z),
    "sigmoid_derivative": lambda: fastbp.sigmoid_derivative(Z),
    "softmax": lambda: fastbp.softmax(Z, axis=0),
    "softmax_cross_entropy": lambda: fastbp.softmax_cross_entropy(Z, HOT, label_smoothing=0.1),
    "tanh": lambda: fastbp.tanh(Z),
    "weight_gradient": lambda: fastbp.weight_gradient(X, HOT[Y]),
    "Network": lambda: (Network([4, 3], seed=None), copy.deepcopy(network()), repr(network())),
    "ModelFileError": lambda: ModelFileError("damaged"),
    "Network.fit": lambda: (
        Network([4, 5, 3]).fit(X, Y, epochs=2, validation_data=(X, Y)),
        with_a_checkpoint(Network([4, 5, 3])),
    ),
    "Network.forget": lambda: copy.copy(network()).forget(),
    "Network.gradients": lambda: network().gradients(X, Y),
    "Network.logits": lambda: network().logits(X),
    "Network.loss": lambda: network().loss(X, HOT[Y]),
    "Network.predict": lambda: network().predict(np.tile(X, (50, 1)), n_threads=2),
    "Network.predict_log_proba": lambda: network().predict_log_proba(X),
    "Network.predict_proba": lambda: network().predict_proba(X),
    "Network.reset": lambda: copy.copy(network()).reset(),
    "Network.load": lambda: there_and_back(network()),
    "Network.save": lambda: there_and_back(network()),
    "Network.score": lambda: network().score(X, Y),
    "MLPClassifier": lambda: pickle.loads(pickle.dumps(classifier())),
    "MLPClassifier.decision_function": lambda: classifier().decision_function(X),
    "MLPClassifier.fit": lambda: [
        MLPClassifier((5,), solver=solver, max_iter=2, early_stopping=True, random_state=0).fit(
            X, Y
        )
        for solver in ("lbfgs", "sgd", "adam")
    ],
    "MLPClassifier.load": lambda: there_and_back(classifier()),
    "MLPClassifier.save": lambda: there_and_back(classifier()),
    "MLPClassifier.partial_fit": lambda: MLPClassifier((5,), random_state=0).partial_fit(
        X, Y, classes=LABELS
    ),
    "MLPClassifier.predict": lambda: classifier().predict(X),
    "MLPClassifier.predict_log_proba": lambda: classifier().predict_log_proba(X),
    "MLPClassifier.predict_proba": lambda: classifier().predict_proba(X),
    "MLPClassifier.score": lambda: classifier().score(X, Y),
    "convert.from_sklearn": lambda: convert.from_sklearn(theirs()),
    "convert.from_torch": lambda: convert.from_torch(convert.to_torch(network())),
    "convert.to_sklearn": lambda: convert.to_sklearn(network()),
    "convert.to_torch": lambda: convert.to_torch(network()),
    "kernels.adam_step": lambda: calls.adam_step(*np.ones((4, 6)))(),
    "kernels.bias_gradient": lambda: calls.bias_gradient(A)(),
    "kernels.cross_entropy": lambda: calls.cross_entropy(Z, LABELS)(),
    "kernels.cross_entropy_targets": lambda: calls.cross_entropy_targets(Z, HOT)(),
    "kernels.dense_forward": lambda: calls.dense_forward(A, HOT, np.ones(3))(),
    "kernels.exp": lambda: kernels.exp(np.float64(710)),
    "kernels.hidden_error": lambda: calls.hidden_error(A, HOT, A)(),
    "kernels.hidden_error_of": lambda: calls.hidden_error_of(A, HOT, A)(),
    "kernels.log1p": lambda: kernels.log1p(np.float64(-1)),
    "kernels.log_softmax": lambda: calls.log_softmax(Z)(),
    "kernels.logsumexp": lambda: calls.logsumexp(Z)(),
    "kernels.loss_sum": lambda: kernels.loss_sum(np.ones(3)),
    "kernels.momentum_step": lambda: calls.momentum_step(*np.ones((3, 6)))(),
    "kernels.nesterov_step": lambda: calls.nesterov_step(*np.ones((3, 6)))(),
    "kernels.output_error": lambda: calls.output_error(A, LABELS)(),
    "kernels.output_error_targets": lambda: calls.output_error_targets(A, HOT)(),
    "kernels.relu_backward": lambda: calls.relu_backward(A, HOT)(),
    "kernels.relu_forward": lambda: calls.relu_forward(Z)(),
    "kernels.row_max": lambda: calls.row_max(Z)(),
    "kernels.sigmoid": lambda: kernels.sigmoid(np.float64(-745)),
    "kernels.sigmoid_backward": lambda: calls.sigmoid_backward(A, HOT)(),
    "kernels.sigmoid_derivative": lambda: kernels.sigmoid_derivative(np.float64(-745)),
    "kernels.sigmoid_forward": lambda: calls.sigmoid_forward(Z)(),
    "kernels.sigmoid_prime": lambda: calls.sigmoid_prime(Z)(),
    "kernels.smoothed_targets": lambda: calls.smoothed_targets(LABELS, EVERY, (3, 3), "d", 0.1)(),
    "kernels.softmax": lambda: calls.softmax(Z)(),
    "kernels.softmax_cross_entropy": lambda: calls.softmax_cross_entropy(Z, LABELS)(),
    "kernels.softmax_cross_entropy_targets": lambda: calls.softmax_cross_entropy_targets(Z, HOT)(),
    "kernels.tanh": lambda: kernels.tanh(np.float64(1e-300)),
    "kernels.tanh_backward": lambda: calls.tanh_backward(A, HOT)(),
    "kernels.tanh_forward": lambda: calls.tanh_forward(Z)(),
    "kernels.weight_gradient": lambda: calls.weight_gradient(A, HOT)(),
}

HUGE = np.full((24, 4), 1e300)

FAILING = {
    "softmax": lambda: fastbp.softmax(np.array([object()])),
    "logsumexp": lambda: fastbp.logsumexp(Z, axis=7),
    "cross_entropy": lambda: fastbp.cross_entropy(Z, [0, 1, 3]),
    "softmax_cross_entropy": lambda: fastbp.softmax_cross_entropy(Z, A * 2),
    "dense": lambda: fastbp.dense(A, HOT[:2], np.ones(3)),
    "momentum_step": lambda: fastbp.momentum_step([1.0], [1.0], [1.0], 0.1, 0.9),
    "Adam": lambda: Adam(-1.0),
    "Network": lambda: Network([4]),
    "Network.load": a_damaged_file,
    "Network.save": lambda: network().save(os.path.join("no", "such", "folder")),
    "Network.fit: labels": lambda: Network([4, 3]).fit(X, Y + 1),
    "Network.fit: rows": lambda: Network([4, 3]).fit(X * np.nan, Y),
    "Network.fit: diverges": lambda: Network([4, 3]).fit(X, Y, learning_rate=1e300),
    "Network.fit: callback": lambda: Network([4, 3]).fit(X, Y, callback=lambda *_: 1 // 0),
    "Network.predict": lambda: network().predict(X[:, :2]),
    "MLPClassifier.fit": lambda: MLPClassifier((5,)).fit(X, Y[:3]),
    "MLPClassifier.fit: diverges": lambda: MLPClassifier(
        (5,), activation="relu", solver="sgd", learning_rate_init=1e300, random_state=0
    ).fit(X, Y),
    "MLPClassifier.predict": lambda: MLPClassifier().predict(X),
    "convert.from_sklearn": lambda: convert.from_sklearn(network()),
    "convert.to_sklearn": lambda: convert.to_sklearn(network(), ["b", "a", "c"]),
}


def public_calls():
    """What can be called, by the names that users have for it."""
    parts = {
        "": {name: getattr(fastbp, name) for name in fastbp.__all__},
        "kernels.": {name: getattr(kernels, name) for name in kernels.__all__},
    }
    for part, home in (("Network.", Network), ("MLPClassifier.", MLPClassifier)):
        parts[part] = {name: getattr(home, name) for name in dir(home)}
    parts["convert."] = vars(convert)
    # of what others have lent, scikit-learn's score alone computes
    return {"MLPClassifier", "MLPClassifier.score"} | {
        part + name
        for part, things in parts.items()
        for name, thing in things.items()
        if callable(thing) and not name.startswith("_")
        if name != "AdamOptions"
        if part == "kernels." or thing.__module__.startswith("fastbp.")
        if part != "convert." or thing.__module__ == "fastbp.convert"
    }


def test_every_public_call_is_here():
    assert set(CALLS) == public_calls()


def assert_leaves_all_as_it_was(call):
    __tracebackhide__ = True
    before, (libraries, files) = state(), holdings()
    call()
    call()
    after, (libraries_after, files_after) = state(), holdings()
    assert not changes(before, after)
    assert libraries.items() <= libraries_after.items()
    assert not files_after - files


def needs_torch(name):
    if name.endswith("torch"):
        pytest.importorskip("torch")
        convert.to_torch(network())  # imports more of it, which adds filters of warnings


@pytest.mark.parametrize("name", CALLS)
def test_calls_leave_all_as_it_was(name):
    needs_torch(name)
    assert_leaves_all_as_it_was(CALLS[name])


@pytest.mark.parametrize("name", FAILING)
def test_failing_calls_leave_all_as_it_was(name):
    def call():
        with pytest.raises((TypeError, ValueError, ZeroDivisionError, OSError)):
            FAILING[name]()

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
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FRESH],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# The other direction


def outcome(call):
    """Every bit of what a call returns, or its exception."""
    try:
        return bits(call())
    except Exception as error:
        return type(error), str(error)


def bits(value):
    if isinstance(value, (list, tuple)):
        return [bits(part) for part in value]
    if isinstance(value, type):
        return value  # of an exception
    array = np.asarray(value)
    return array.dtype.str, array.shape, array.tobytes()


def assert_surroundings_do_not_matter(call):
    """A program may have errors raised, warnings too, numbers seeded, and collect no garbage."""
    __tracebackhide__ = True
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = outcome(call)
    kept = random.getstate(), np.random.get_state(), gc.isenabled()  # noqa: NPY002
    try:
        for settings in ("warn", "raise"):
            random.seed(1)
            np.random.seed(1)  # noqa: NPY002
            gc.disable()
            with np.errstate(all=settings), warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.simplefilter("ignore", ConvergenceWarning)
                assert outcome(call) == expected, settings
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        if kept[2]:
            gc.enable()


def hard_logits(dtype):
    limits = np.finfo(dtype)
    values = [0.0, -0.0, 1.0, -50.0, 80.0, -104.0, 709.0, -745.0, limits.max, -limits.max]
    values += [limits.tiny, limits.smallest_subnormal, -3 * limits.smallest_subnormal]
    rng = np.random.default_rng(4)
    finite = rng.choice(np.array(values), (40, 5))
    strange = rng.choice(np.array([*values, np.inf, -np.inf, np.nan]), (40, 5))
    with np.errstate(all="ignore"):
        return np.concatenate([finite, strange]).astype(dtype)


SUBNORMAL = 5e-324
WIDE = np.concatenate([[SUBNORMAL, 1e-310], 10.0 ** np.linspace(-300, 300, 78)])

# Each with logits, labels, target rows, and arrays of activations.
HARD = {
    "bias_gradient": lambda z, y, t, a: fastbp.bias_gradient(z),
    "cross_entropy": lambda z, y, t, a: fastbp.cross_entropy(z, y),
    "cross_entropy none": lambda z, y, t, a: fastbp.cross_entropy(z, y, reduction="none"),
    "cross_entropy of rows": lambda z, y, t, a: fastbp.cross_entropy(z, t, label_smoothing=1e-300),
    "cross_entropy smoothed": lambda z, y, t, a: fastbp.cross_entropy(z, y, label_smoothing=1e-3),
    "cross_entropy sum": lambda z, y, t, a: fastbp.cross_entropy(z, y, reduction="sum"),
    "cross_entropy tiny": lambda z, y, t, a: fastbp.cross_entropy(a, y, weight=[1e-45] * 5),
    "cross_entropy tiny sum": lambda z, y, t, a: fastbp.cross_entropy(
        a, y, sample_weight=np.full(len(y), 1e-300), reduction="sum"
    ),
    "cross_entropy weighted": lambda z, y, t, a: fastbp.cross_entropy(
        z, t, weight=[1e-300, 1e-20, 1, 1e20, 1e30], sample_weight=WIDE
    ),
    "cross_entropy too heavy": lambda z, y, t, a: fastbp.cross_entropy(z, y, weight=[1e300] * 5),
    "dense": lambda z, y, t, a: fastbp.dense(z, z[:5], z[0]),
    "hidden_error": lambda z, y, t, a: fastbp.hidden_error(z, z[:5], a),
    "log_softmax": lambda z, y, t, a: fastbp.log_softmax(z, axis=0),
    "logsumexp": lambda z, y, t, a: fastbp.logsumexp(z),
    "output_error": lambda z, y, t, a: fastbp.output_error(a, t),
    "relu": lambda z, y, t, a: fastbp.relu(z),
    "sigmoid": lambda z, y, t, a: fastbp.sigmoid(z),
    "sigmoid_derivative": lambda z, y, t, a: fastbp.sigmoid_derivative(z),
    "softmax": lambda z, y, t, a: fastbp.softmax(z),
    "softmax_cross_entropy": lambda z, y, t, a: fastbp.softmax_cross_entropy(z, y),
    "softmax_cross_entropy smoothed": lambda z, y, t, a: fastbp.softmax_cross_entropy(
        z, y, label_smoothing=SUBNORMAL, weight=[1, 2, 3, 4, SUBNORMAL]
    ),
    "softmax_cross_entropy weighted": lambda z, y, t, a: fastbp.softmax_cross_entropy(
        z, y, sample_weight=WIDE
    ),
    "tanh": lambda z, y, t, a: fastbp.tanh(z),
    "weight_gradient": lambda z, y, t, a: fastbp.weight_gradient(z, z),
    "momentum_step": lambda z, y, t, a: step_on(fastbp.momentum_step, z, 1e300, 0.9),
    "nesterov_step": lambda z, y, t, a: step_on(fastbp.nesterov_step, z, SUBNORMAL, 0.9),
    "adam_step": lambda z, y, t, a: step_on(fastbp.adam_step, z, 1e300),
}


def step_on(function, z, *rates):
    arrays = [z.copy() for _ in range(4 if function is fastbp.adam_step else 3)]
    function(*arrays, *rates, **{"t": 1} if len(arrays) == 4 else {})
    return arrays


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", HARD)
def test_functions_in_any_surroundings(name, dtype):
    z = hard_logits(dtype)
    labels, targets = np.arange(80) % 5, np.eye(5, dtype=dtype)[np.arange(80) % 5]
    activations = np.linspace(0, 1, 400).reshape(80, 5).astype(dtype)
    activations[::7] = np.finfo(dtype).tiny
    assert_surroundings_do_not_matter(lambda: HARD[name](z, labels, targets, activations))


def test_every_function_has_hard_inputs():
    functions = {
        name
        for name in fastbp.__all__
        if getattr(getattr(fastbp, name), "__module__", "") == "fastbp.functional"
    }
    assert {name.split()[0] for name in HARD} == functions


# Rows of 4 features that float32 networks cannot take, or can hardly
ROWS = {
    "huge": np.full((24, 4), 1e300),
    "tiny": np.full((24, 4), 1e-300),
    "subnormal": X * 1e-39,
    "large": X * 1e37,
    "infinite": np.full((24, 4), np.inf),
    "NaN": np.full((24, 4), np.nan),
    "as large as can be": np.sign(X).astype(np.float32) * np.float32(1.7e38),
}
METHODS = "logits", "predict", "predict_log_proba", "predict_proba"


def trained(dtype, rows, **options):
    net = Network([4, 5, 3], dtype=dtype, activation="relu")
    history = net.fit(rows, Y, epochs=2, batch_size=8, **options)
    return net.parameters, net.velocity, net.second_moment, history.loss, history.accuracy


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", ROWS)
def test_network_in_any_surroundings(rows, dtype):
    x = ROWS[rows]
    net = Network([4, 5, 3], dtype=dtype)
    net.fit(X, Y, epochs=1)
    for name in METHODS:
        assert_surroundings_do_not_matter(lambda name=name: getattr(net, name)(x))
    for name in ("loss", "score", "gradients"):
        assert_surroundings_do_not_matter(lambda name=name: getattr(net, name)(x, Y))
    assert_surroundings_do_not_matter(lambda: net.loss(X, Y, sample_weight=np.full(24, 1e-310)))
    assert_surroundings_do_not_matter(lambda: trained(dtype, x))
    assert_surroundings_do_not_matter(lambda: trained(dtype, X, validation_data=(x, Y)))
    for options in (
        {"learning_rate": 1e300},
        {"learning_rate": SUBNORMAL, "l2": 1e300},
        {"optimizer": Adam(1e30, weight_decay=1e300)},
        {"optimizer": Adam(SUBNORMAL, epsilon=1e-30), "sample_weight": WIDE[:24]},
    ):
        assert_surroundings_do_not_matter(lambda options=options: trained(dtype, X, **options))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [1e300, 1e-300, np.nan, np.inf])
@pytest.mark.parametrize("name", ["parameters", "velocity"])
def test_assignment_in_any_surroundings(name, value, dtype):
    def assign():
        net = Network([4, 3], dtype=dtype)
        setattr(net, name, np.full(15, value))
        return net.parameters, net.velocity, outcome(lambda: trained_on(net))

    def trained_on(net):
        net.fit(X, Y, epochs=1)
        return net.parameters

    assert_surroundings_do_not_matter(assign)


SKLEARN_OPTIONS = {"max_iter": 3, "random_state": 0, "activation": "relu"}


@pytest.mark.compiled
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", sorted({*ROWS} - {"as large as can be"}))
@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "adam"])
def test_classifier_in_any_surroundings(solver, rows, dtype):
    with np.errstate(all="ignore"):
        x, x_fitted = ROWS[rows].astype(dtype), X.astype(dtype)
    options = {**SKLEARN_OPTIONS, "solver": solver}

    def train(data, **more):
        model = MLPClassifier((5,), **{**options, **more}).fit(data, Y)
        return [*model.coefs_, *model.intercepts_, model.loss_]

    fitted = MLPClassifier((5,), **options).fit(x_fitted, Y)
    for name in ("decision_function", *METHODS[1:]):
        assert_surroundings_do_not_matter(lambda name=name: getattr(fitted, name)(x))
    assert_surroundings_do_not_matter(lambda: train(x))
    assert_surroundings_do_not_matter(lambda: train(x_fitted, alpha=1e300))
    assert_surroundings_do_not_matter(lambda: train(x_fitted, learning_rate_init=1e300))


@pytest.mark.compiled
@pytest.mark.parametrize("rows", ["huge", "tiny", "subnormal", "as large as can be"])
def test_rows_that_a_classifier_converts_in_any_surroundings(rows):
    fitted = MLPClassifier((5,), **SKLEARN_OPTIONS).fit(X.astype("f"), Y)
    assert_surroundings_do_not_matter(lambda: fitted.predict_proba(ROWS[rows]))


@pytest.mark.compiled
def test_decisions_between_two_classes_in_any_surroundings():
    fitted = MLPClassifier((), **SKLEARN_OPTIONS).fit(X, Y > 0)
    fitted.coefs_ = [np.array([[-1.0, 1.0]] * 4) * 1e308]
    assert_surroundings_do_not_matter(lambda: fitted.decision_function(np.full((1, 4), 0.4)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-300, 1e-38, 1.0, 1e38, 1e300])
def test_conversion_in_any_surroundings(scale, dtype):
    net = Network([4, 2], dtype=dtype)
    with np.errstate(all="ignore"):
        net.parameters[:] = np.where(np.arange(10) % 2, 3, -3) * scale

    def there_and_back():
        classifier = convert.to_sklearn(net)
        again = convert.from_sklearn(classifier)
        return classifier.coefs_, classifier.intercepts_, again.parameters

    assert_surroundings_do_not_matter(there_and_back)


def test_overflow_in_a_conversion_gives_the_documented_error():
    net = Network([4, 3])
    with np.errstate(all="raise"):
        with pytest.raises(ValueError, match="X must be finite"):
            net.fit(ROWS["huge"], Y)
        with pytest.raises(ValueError, match="X must give finite logits"):
            net.predict(ROWS["huge"])
        with pytest.raises(ValueError, match="weight must be finite"):
            fastbp.cross_entropy(X.astype("f"), Y, weight=[1e300] * 4)
        net.parameters = np.full(15, 1e300)
        with pytest.raises(ValueError, match="parameters must be finite"):
            net.fit(X, Y)
