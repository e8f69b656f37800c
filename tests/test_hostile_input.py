"""The table of edge cases in the functions' contract, once more, for the models."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas
import pytest
import reference_network
import scipy.sparse
from layouts import LAYOUTS
from tolerances import assert_same_bits

from fastbp import SGD, Adam, DivergenceError, MLPClassifier, Network
from fastbp.backprop import parallel, passes

NAN, INF = np.nan, np.inf
N, J, K = 11, 3, 4
RNG = np.random.default_rng(8)
X, Y = RNG.standard_normal((N, J)), np.arange(N) % K
ROWS = RNG.dirichlet(np.ones(K), N)
WEIGHT = RNG.uniform(0.5, 2, N)

pytestmark = [
    pytest.mark.compiled,  # hundreds of models; what is refused is refused before any kernel runs
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def make_network(dtype="float64"):
    """One that has been trained, so that there is something to spoil."""
    net = Network([J, 5, K], dtype=dtype)
    net.fit(X, Y, epochs=2, batch_size=4)
    return net


def make_classifier(dtype="float64", **parameters):
    defaults = {"hidden_layer_sizes": (5,), "max_iter": 2, "batch_size": 4, "random_state": 0}
    classifier = MLPClassifier(**defaults | {"warm_start": True} | parameters)
    return classifier.fit(X.astype(dtype), Y)


MODELS = {"Network": make_network, "MLPClassifier": make_classifier}
LEARN = {"Network": ["fit"], "MLPClassifier": ["fit", "partial_fit"]}
JUDGE = {"Network": ["loss", "score", "gradients"], "MLPClassifier": ["score"]}
PREDICT = {
    "Network": ["logits", "predict", "predict_proba", "predict_log_proba"],
    "MLPClassifier": ["decision_function", "predict", "predict_proba", "predict_log_proba"],
}


def bytes_of(thing):
    """What must not change: a model, an array, or whatever else was passed in."""
    if isinstance(thing, np.ma.MaskedArray):
        return thing.tobytes() + np.ma.getmaskarray(thing).tobytes()
    return pickle.dumps(thing)


def refuse(model, method, error, message, *arguments, **options):
    """The call fails as said; the model and what was passed in are as before, to the bit."""
    __tracebackhide__ = True
    things = [model, *arguments, *options.values()]
    before = [bytes_of(thing) for thing in things]
    with pytest.raises(error, match=message):
        getattr(model, method)(*arguments, **options)
    assert [bytes_of(thing) for thing in things] == before


def methods(*tables, models=MODELS):
    """Parametrise with each model and its methods in the tables."""
    pairs = [(model, method) for model in models for table in tables for method in table[model]]
    return pytest.mark.parametrize(("kind", "method"), pairs, ids=lambda name: name)


# Rows that no model takes: X, and what Network and MLPClassifier (scikit-learn) say of it.

T, V = TypeError, ValueError
BAD_X = {
    "no columns": (X[:, :0], (V, "X must have 3 columns"), (V, r"0 feature\(s\)")),
    "fewer columns": (X[:, :2], (V, r"got shape \(11, 2\)"), (V, "X has 2 features")),
    "more columns": (X[:, [0, 1, 2, 2]], (V, r"got shape \(11, 4\)"), (V, "X has 4 features")),
    "1-D": (X[:, 0], (V, "X must be 2-D"), (V, "Expected 2D array")),
    "3-D": (X[:, :, None], (V, "X must be 2-D"), (V, "Found array with dim 3")),
    "scalar": (np.array(1.0), (V, "X must be 2-D"), (V, "Expected 2D array")),
    "None": (None, (T, "X .* dtype object"), (V, "Expected 2D array")),
    "text": ("text", (T, "X .* dtype <U4"), (V, "Expected 2D array|could not convert")),
    "complex": (X.astype(complex), (T, "X .* dtype complex128"), (V, "Complex data")),
    "words": (np.full((N, J), "x"), (T, "X .* dtype <U1"), (V, "could not convert string")),
    "ragged": ([[1.0, 2.0, 3.0], [1.0]], (V, "X must be an array"), (V, "inhomogeneous")),
    "masked": (np.ma.array(X, mask=X > 1), (T, "X .* a masked array"), (T, "X .* a masked array")),
    "matrix": (X, (T, "X .* a numpy.matrix"), (T, "np.matrix is not supported")),
    # what scikit-learn converts, and so does MLPClassifier
    "bool": (X > 0, (T, "X .* dtype bool"), None),
    "float16": (X.astype(np.float16), (T, "X .* dtype float16"), None),
    "longdouble": (X.astype(np.longdouble), (T, "X .* dtype (float128|float96)"), None),
    "object": (X.astype(object), (T, "X .* dtype object"), None),
    "records": (np.zeros((N, J), [("a", "f8")]), (T, "X .* dtype"), None),
}


def bad_x(case, kind):
    bad, *said = BAD_X[case]
    if case == "matrix":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bad = np.matrix(bad)
    return bad, said[kind == "MLPClassifier"]


@methods(LEARN, JUDGE)
@pytest.mark.parametrize("case", BAD_X)
def test_rows_to_learn_from_that_are_refused(kind, method, case):
    bad, said = bad_x(case, kind)
    if said:
        refuse(MODELS[kind](), method, *said, bad, Y)
    else:
        getattr(MODELS[kind](), method)(bad, Y)


@methods(PREDICT)
@pytest.mark.parametrize("case", BAD_X)
def test_rows_to_predict_that_are_refused(kind, method, case):
    bad, said = bad_x(case, kind)
    model = MODELS[kind]()
    if said:
        refuse(model, method, *said, bad)
    else:
        same = np.asarray(bad, np.float64)
        assert_same_bits(getattr(model, method)(bad), getattr(model, method)(same))


@methods(LEARN, JUDGE)
def test_no_rows_to_learn_from(kind, method):
    message = {"Network": "X must have at least one row", "MLPClassifier": r"0 sample\(s\)"}
    refuse(MODELS[kind](), method, ValueError, message[kind], X[:0], Y[:0])


# NaN and infinity


@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e300])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (7, 2), (N - 1, 1)])
def test_training_refuses_what_is_not_finite_and_names_the_row(bad, row, column):
    x = X.copy()
    x[row, column] = bad
    said = "nan" if np.isnan(bad) else "-inf" if bad < 0 else "inf"
    net = make_network("float32")
    refuse(net, "fit", ValueError, f"^X must be finite, got {said} in row {row}$", x, Y)
    classifier = make_classifier("float32")
    for method in ("fit", "partial_fit"):
        refuse(classifier, method, ValueError, "Input X contains (NaN|infinity)", x, Y)


@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e300])
def test_a_prediction_spoils_the_rows_that_are_not_finite_and_no_others(dtype, bad):
    net = make_network(dtype)
    clean = np.random.default_rng(0).standard_normal((520, J)).astype(dtype)
    x = clean.astype(np.float64)
    spoilt = [0, 255, 256, 519]
    x[spoilt, [0, 1, 2, 0]] = bad
    others = np.setdiff1d(np.arange(520), spoilt)
    for method in ("logits", "predict_proba", "predict_log_proba"):
        for n_threads in (1, 2):
            got = getattr(net, method)(x, n_threads=n_threads)
            assert_same_bits(got[others], getattr(net, method)(clean)[others], method)
            if np.isnan(bad):
                assert np.isnan(got[spoilt]).all()
    if np.isnan(bad):
        refuse(net, "predict", ValueError, r"finite logits, got \[nan.*\] in row 0$", x)
        y = np.zeros(520, int)
        assert np.isnan(net.loss(x, y))
        assert 0 <= net.score(x, y) <= 1
        weight = np.ones(520)
        weight[spoilt] = 0  # nothing, whatever the rows hold
        assert net.loss(x, y, sample_weight=weight) == net.loss(clean, y, sample_weight=weight)


@methods(PREDICT, models=["MLPClassifier"])
@pytest.mark.parametrize("bad", [NAN, INF, 1e300])
def test_the_classifier_predicts_of_finite_rows_alone(kind, method, bad):
    x = X.copy()
    x[3, 1], x[4, 2] = bad, -bad
    refuse(MODELS[kind]("float32"), method, ValueError, "Input X contains (NaN|infinity)", x)


@pytest.mark.parametrize("bad", [NAN, INF])
@methods(LEARN, PREDICT, JUDGE)
def test_parameters_that_are_not_finite(kind, method, bad):
    model = MODELS[kind]()
    w = model.weights[0] if kind == "Network" else model.coefs_[0]
    w[:] = bad
    if method in ("fit", "partial_fit"):
        refuse(model, method, ValueError, "must be finite, got some that are infinite or NaN", X, Y)
    elif method == "predict" or (method, kind) == ("score", "MLPClassifier"):
        w[:] = NAN  # sigmoid units are finite for infinite weighted inputs
        arguments = (X,) if method == "predict" else (X, Y)
        refuse(model, method, ValueError, r"finite logits, got \[nan.*\] in row 0$", *arguments)
    else:
        before = bytes_of(model)
        getattr(model, method)(*((X,) if method in PREDICT[kind] else (X, Y)))
        assert bytes_of(model) == before


@pytest.mark.parametrize(
    "optimizer",
    [SGD(1e300), SGD(1e300, nesterov=True), Adam(1e300), Adam(weight_decay=1e300)],
    ids=["sgd", "nesterov", "adam", "adamw"],
)
def test_divergence_leaves_the_last_finite_parameters(dtype, optimizer):
    net = Network([J, 5, K], activation="relu", dtype=dtype)
    net.fit(X, Y, epochs=2, optimizer=type(optimizer)())
    kept = [net.parameters.copy()]

    def keep(network, epoch, entry):
        kept.append(network.parameters.copy())

    with np.errstate(all="ignore"), pytest.raises(DivergenceError):
        net.fit(X, Y, epochs=99, batch_size=4, optimizer=optimizer, callback=keep)
    assert_same_bits(net.parameters, kept[-1])
    assert net.epoch == 2 + len(kept) - 1
    assert np.isfinite(net.parameters).all()
    assert not net.velocity.any()
    assert np.isfinite(net.predict_proba(X)).all()


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_divergence_of_the_classifier_leaves_the_last_finite_parameters(solver, method):
    classifier = make_classifier(solver=solver, activation="relu", learning_rate_init=1e-3)
    before = [p.copy() for p in (*classifier.coefs_, *classifier.intercepts_)]
    proba = classifier.predict_proba(X)
    classifier.set_params(learning_rate_init=1e300, alpha=1e300)
    if method == "partial_fit":
        del classifier._optimizer  # the first call decides the rate
    with np.errstate(all="ignore"), pytest.raises(DivergenceError):
        getattr(classifier, method)(X, Y)
    for p, kept in zip((*classifier.coefs_, *classifier.intercepts_), before, strict=True):
        assert_same_bits(p, kept)
    assert_same_bits(classifier.predict_proba(X), proba)
    classifier.set_params(learning_rate_init=1e-3, alpha=1e-4).fit(X, Y)
    assert np.isfinite(classifier.predict_proba(X)).all()


# Layers


@pytest.mark.parametrize(
    ("size", "error"),
    [
        (0, V),
        (-1, V),
        (True, T),
        (np.True_, T),
        (3.0, T),
        (np.float64(3), T),
        ("3", T),
        (None, T),
        (NAN, T),
        (2**60, V),
        (10**30, V),
    ],
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_layers_of_no_size(size, error, position):
    sizes = [3, 3, 3]
    sizes[position] = size
    with pytest.raises(error, match=r"^layer_sizes"):
        Network(sizes)
    if position == 1:
        with pytest.raises(ValueError, match=r"layer_sizes"):
            MLPClassifier((2, size)).fit(X, Y)


# One sample, one class, a batch that is larger than the data


@pytest.mark.parametrize("batch_size", [1, 2, 10**6, 2**70])
def test_one_sample(dtype, batch_size):
    x, y = X[:1].astype(dtype), Y[:1]
    net = Network([J, 5, K], dtype=dtype)
    trainer = reference_network.Trainer(net.weights, net.biases)
    history = net.fit(x, y, epochs=2, batch_size=batch_size, learning_rate=0.5)
    losses = [trainer.step(x, np.eye(K)[y], learning_rate=0.5, momentum=0.9) for _ in range(2)]
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(history.loss, np.array(losses, float), rtol=50 * eps)
    np.testing.assert_allclose(net.parameters, trainer.flat().astype(float), atol=50 * eps)
    assert net.predict(x).shape == (1,)


def test_batch_of_several_blocks(dtype):
    """Sums over rows are cut into blocks of 128."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, J)).astype(dtype), np.arange(300) % K
    net = Network([J, 2, K], dtype=dtype)
    trainer = reference_network.Trainer(net.weights, net.biases)
    net.fit(x, y, epochs=1, batch_size=10**6, learning_rate=0.5, momentum=0)
    trainer.step(x, np.eye(K)[y], learning_rate=0.5)
    allowed = 20 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(net.parameters, trainer.flat().astype(float), atol=allowed)


@pytest.mark.filterwarnings("ignore:Got `batch_size`:UserWarning")
@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "adam"])
@pytest.mark.parametrize("batch_size", ["auto", 1, 2**70])
def test_one_sample_of_the_classifier(solver, batch_size):
    classifier = MLPClassifier((5,), solver=solver, batch_size=batch_size, max_iter=2)
    classifier.fit(X[:1], Y[:1] + 7)
    assert_same_bits(classifier.predict(X), np.full(N, 7))
    assert_same_bits(classifier.predict_proba(X), np.ones((N, 1)))
    assert_same_bits(classifier.predict_log_proba(X) + 0, np.zeros((N, 1)))
    assert_same_bits(classifier.decision_function(X), classifier.decision_function(X))


def test_one_class(dtype):
    net = Network([J, 5, 1], dtype=dtype)
    net.fit(X, 0 * Y, epochs=2)
    loss, grad_w, grad_b = net.gradients(X, 0 * Y)
    assert (loss, net.loss(X, 0 * Y), net.score(X, 0 * Y)) == (0, 0, 1)
    assert not any(gradient.any() for gradient in (*grad_w, *grad_b))
    assert_same_bits(net.predict_proba(X), np.ones((N, 1), dtype))
    refuse(net, "fit", ValueError, "y must hold labels from 0 to 0, got 1 in row 1", X, Y)


# Labels, target rows and weights

BAD_Y = {
    "label too large": ([*Y[:-1], K], V, "labels from 0 to 3, got 4 in row 10"),
    "label far too large": (np.r_[Y[:-1], 2**62], V, "got 4611686018427387904 in row 10"),
    "label beyond intp": (np.r_[Y[:-1], [0]].astype(np.uint64) + 2**63, V, "in row 0"),
    "negative label": (Y - 1, V, "got -1 in row 0"),
    "float": (Y.astype(float), T, "must be integer labels, got dtype float64"),
    "bool": (Y > 1, T, "must be integer labels, got dtype bool"),
    "object": (Y.astype(object), T, "must be integer labels, got dtype object"),
    "words": (Y.astype(str), T, "must be integer labels, got dtype <U21"),
    "None": (None, T, "must be integer labels, got dtype object"),
    "fewer": (Y[1:], V, r"must have shape \(11,\), got \(10,\)"),
    "masked": (np.ma.array(Y, mask=Y > 1), T, "a masked array of dtype int64"),
    "fewer classes": (ROWS[:, :3], V, r"must have shape \(11, 4\), got \(11, 3\)"),
    "a column": (Y[:, None], V, r"must have shape \(11, 4\), got \(11, 1\)"),
    "negative target": (ROWS - [0.5, -0.5, 0, 0], V, "must hold probabilities, got -"),
    "NaN target": (np.where(ROWS == ROWS[2, 1], NAN, ROWS), V, "got nan in row 2"),
    "infinite target": (np.where(ROWS == ROWS[2, 1], INF, ROWS), V, "sum of inf in row 2"),
    "huge target": (np.where(ROWS == ROWS[2, 1], 1e300, ROWS), V, "sum of inf in row 2"),
    "no probabilities": (ROWS * 1.001, V, "must hold rows that sum to 1, got a sum of 1.001"),
    "masked targets": (np.ma.array(ROWS, mask=ROWS > 0.5), T, "a masked array of dtype float64"),
    "complex targets": (ROWS.astype(complex), T, "dtype complex128"),
    "float16 targets": (np.eye(K, dtype=np.float16)[Y], T, "dtype float16"),
}


@methods(LEARN, JUDGE, models=["Network"])
@pytest.mark.parametrize("case", BAD_Y)
def test_answers_that_the_network_refuses(kind, method, case):
    y, error, message = BAD_Y[case]
    net = make_network("float32")
    refuse(net, method, error, f"^y .*{message}", X, y)
    if method == "fit":
        refuse(net, "fit", error, f"^validation_data.1. .*{message}", X, Y, validation_data=(X, y))


NEVER_SEEN = np.r_[Y[:-1], 9]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"y": NEVER_SEEN}, V, r"warm_start .* Previously got \[0 1 2 3\], `y` has \[0 1 2 3 9\]"),
        ({"y": Y % 2}, V, r"warm_start .* `y` has \[0 1\]"),
        ({"y": Y + 0.5}, V, "Unknown label type: continuous"),
        ({"y": np.where(Y > 2, NAN, Y)}, V, "Input y contains NaN"),
        ({"y": np.where(Y > 2, INF, Y)}, V, "Input y contains infinity"),
        ({"y": Y.astype(complex)}, V, "Complex data not supported"),
        ({"y": ROWS}, V, "Unknown label type: continuous-multioutput"),
        ({"y": None}, V, "y cannot be None|requires y"),
        ({"y": 0}, (T, V), "."),
        ({"y": Y[1:]}, V, "inconsistent numbers of samples"),
        ({"y": np.ma.array(Y, mask=Y > 1)}, T, "^y must .* masked array of dtype int64"),
        ({"X_val": X, "y_val": NEVER_SEEN}, V, r"y_val must hold labels of y, .*, got \[9\]"),
        ({"X_val": X[:0], "y_val": Y[:0]}, V, r"0 sample\(s\)"),
        ({"X_val": X * 1e300, "y_val": Y}, V, "contains infinity"),
        ({"X_val": np.ma.array(X, mask=X > 1), "y_val": Y}, T, "^X_val must .* masked array"),
        ({"X_val": X, "y_val": np.ma.array(Y, mask=Y > 1)}, T, "^y_val must .* masked array"),
        ({"sample_weight": np.full(N, NAN)}, V, "sample_weight contains NaN"),
        ({"sample_weight": np.full(N, INF)}, V, "sample_weight contains infinity"),
        ({"sample_weight": -WEIGHT}, V, "Negative values in data passed to `sample_weight`"),
        ({"sample_weight": 0 * WEIGHT}, V, "at least one non-zero"),
        ({"sample_weight": WEIGHT[1:]}, V, r"sample_weight.shape == \(10,\)"),
        ({"sample_weight": WEIGHT[:, None]}, V, "Sample weights must be 1D"),
        ({"sample_weight": WEIGHT.astype(complex)}, V, "Complex data not supported"),
        ({"sample_weight": np.ma.array(WEIGHT, mask=Y > 1)}, T, "^sample_weight must .* masked"),
    ],
)
def test_arguments_that_the_classifier_refuses(arguments, error, message):
    arguments = {"X": X, "y": Y} | arguments
    refuse(make_classifier("float32"), "fit", error, message, **arguments)
    if "X_val" not in arguments and "warm_start" not in message:
        refuse(make_classifier("float32"), "partial_fit", error, message, **arguments)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"class_weight": {1: NAN}}, "^class_weight must be finite .* got nan for class 1$"),
        ({"class_weight": {1: INF}}, "^class_weight must be finite .* got inf for class 1$"),
        ({"class_weight": {1: -1}}, "^class_weight must be finite .* got -1.0 for class 1$"),
        ({"class_weight": dict.fromkeys(range(K), 0)}, "^class_weight, .* not be all zero, got 11"),
        ({"class_weight": {9: 1.0}}, "not in class_weight"),
        ({"alpha": 10**400}, "^alpha must be a finite number >= 0, got 1000"),
        ({"alpha": NAN}, "'alpha' parameter|^alpha must"),
        ({"learning_rate_init": 10**400}, "^learning_rate must be a finite number > 0, got 1000"),
        ({"learning_rate_init": INF}, "'learning_rate_init' parameter|^learning_rate must"),
        ({"epsilon": 1e-300}, "^epsilon must be at least 1.18e-38, to be above 0 in float32"),
        ({"hidden_layer_sizes": [[1], [2, 3]]}, "^hidden_layer_sizes must be integers"),
    ],
)
@pytest.mark.parametrize("warm_start", [False, True])
def test_parameters_that_the_classifier_refuses(parameters, message, warm_start):
    classifier = make_classifier("float32", warm_start=warm_start).set_params(**parameters)
    refuse(classifier, "fit", ValueError, message, X.astype(np.float32), Y)
    refuse(classifier, "partial_fit", ValueError, message, X.astype(np.float32), Y)


def test_a_first_partial_fit_that_is_refused_leaves_nothing_behind():
    classifier = MLPClassifier((5,), random_state=0)
    refuse(classifier, "partial_fit", ValueError, "`y` has classes not in", X, Y, classes=[0, 1])
    refuse(classifier, "partial_fit", ValueError, "X contains NaN", NAN * X, Y, classes=range(K))
    refuse(classifier, "partial_fit", ValueError, "classes must be passed on the first", X, Y)
    other = MLPClassifier((5,), random_state=0).partial_fit(X, Y, classes=[4, 3, 2, 1, 0])
    classifier.partial_fit(X, Y, classes=[4, 3, 2, 1, 0])
    assert_same_bits(classifier.predict_proba(X), other.predict_proba(X))
    refuse(classifier, "partial_fit", ValueError, "`y` has classes not in", X, NEVER_SEEN)


INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


def train_network(x, y, weight=None, validation=None):
    net = Network([J, 5, K], dtype="float64")
    history = net.fit(
        *(x, y), epochs=2, batch_size=4, sample_weight=weight, validation_data=validation
    )
    loss, grad_w, grad_b = net.gradients(x, y, sample_weight=weight)
    numbers = [loss, net.loss(x, y, sample_weight=weight), net.score(x, y, sample_weight=weight)]
    numbers += [*history.loss, *history.val_loss, *history.val_accuracy]
    arrays = [net.parameters, *grad_w, *grad_b, net.logits(x), net.predict_proba(x), net.predict(x)]
    return [*arrays, net.predict_log_proba(x), np.array(numbers)]


def train_classifier(x, y, weight=None, validation=None):
    classifier = MLPClassifier((5,), max_iter=2, batch_size=4, random_state=0)
    x_val, y_val = validation or (None, None)
    classifier.fit(x, y, weight, X_val=x_val, y_val=y_val)
    score = classifier.score(x, y, weight)
    curve = [score, *classifier.loss_curve_, *(classifier.validation_scores_ or [])]
    classifier.partial_fit(x, y, weight)
    arrays = [*classifier.coefs_, *classifier.intercepts_, np.array(curve)]
    return [*arrays, classifier.predict_proba(x), classifier.decision_function(x)]


TRAIN = {"Network": train_network, "MLPClassifier": train_classifier}
models = pytest.mark.parametrize("kind", MODELS)


def assert_same_results(got, expected):
    for one, other in zip(got, expected, strict=True):
        assert_same_bits(one, other)


@models
@pytest.mark.parametrize("integer", [*INTEGERS, *(f">i{n}" for n in (2, 4, 8)), ">u2"])
def test_labels_of_every_integer_dtype(kind, integer):
    y = Y.astype(integer)
    before = y.tobytes()
    got = TRAIN[kind](X, y, validation=(X, y))
    assert_same_results(got, TRAIN[kind](X, Y, validation=(X, Y)))
    assert y.tobytes() == before


@models
@pytest.mark.parametrize("integer", [*INTEGERS, ">i4", ">u8"])
def test_rows_of_every_integer_dtype(kind, integer):
    x = RNG.integers(0, 9, (N, J)).astype(integer)
    assert_same_results(TRAIN[kind](x, Y), TRAIN[kind](x.astype(float), Y))


@models
@pytest.mark.parametrize("layout", [*LAYOUTS, "list", "DataFrame"])
def test_any_layout_gives_the_same_bits(kind, layout):
    if layout == "frame" and kind == "MLPClassifier":
        layout = "DataFrame"  # scikit-learn asks more of a frame than NumPy does
    dress = LAYOUTS | {"list": np.ndarray.tolist, "DataFrame": pandas.DataFrame}
    dressed = [dress[layout](array) for array in (X, Y, WEIGHT, ROWS)]
    if layout == "DataFrame":
        dressed[1:3] = (pandas.Series(array) for array in (Y, WEIGHT))
    x, y, weight, rows = dressed
    before = [bytes_of(np.array(array)) for array in dressed]
    expected = TRAIN[kind](X, Y, WEIGHT, (X, Y))
    assert_same_results(TRAIN[kind](x, y, weight, (x, y)), expected)
    if kind == "Network":
        expected = TRAIN[kind](X, ROWS, WEIGHT, (X, ROWS))
        assert_same_results(TRAIN[kind](x, rows, weight, (x, rows)), expected)
    assert [bytes_of(np.array(array)) for array in dressed] == before


@pytest.mark.compiled
@models
def test_no_read_only_input_compiles_anew(kind):
    """It takes half a minute, and a search in parallel hands out such arrays."""
    read_only = LAYOUTS["read-only"]
    wide, weight = X.astype(np.float64), WEIGHT
    TRAIN[kind](wide, Y, weight)
    counts = len(parallel.train.signatures), len(passes.logits.signatures)
    TRAIN[kind](read_only(wide), read_only(Y), read_only(weight))
    if kind == "MLPClassifier":
        sparse = scipy.sparse.csr_array(wide)
        TRAIN[kind](sparse, Y, weight)
        for name in ("data", "indices", "indptr"):
            setattr(sparse, name, read_only(getattr(sparse, name)))
        TRAIN[kind](sparse, Y, weight)
    assert (len(parallel.train.signatures), len(passes.logits.signatures)) == counts


# More data than memory

MEMORY = """
import resource, sys
import numpy as np
from fastbp import MLPClassifier, Network

path, kind = sys.argv[1:]
n, n_features = 2**17, 512
data = np.memmap(path, np.float32, "r", shape=(n, n_features))
assert data.nbytes == 2**28 and not data.flags.writeable
y = np.arange(n) % 2
if kind == "Network":
    model, options = Network([n_features, 2]), {"epochs": 1, "batch_size": 4096, "n_threads": 1}
else:
    model, options = MLPClassifier((), max_iter=1, batch_size=4096, n_threads=1), {}
model.fit(data[:10], y[:10], **(options | {"batch_size": 10} if options else {}))
model.predict(data[:10])
if kind == "MLPClassifier":
    model.score(data[:10], y[:10])  # all modules loaded

used = 1024 * next(
    int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")
)
# What is private and can be written counts, what a file backs does not.
limit = used + data.nbytes // 4
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.ones(data.shape, np.float32)
except MemoryError:
    pass
else:
    sys.exit("the limit has no effect")
model.fit(data, y, **options)
labels = model.predict(data)
p = model.predict_proba(data)
assert labels.shape == (n,) and p.shape == (n, 2) and np.isfinite(p).all()
assert model.score(data, y) == 0.5
print("done")
"""


@pytest.mark.compiled
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits anonymous memory alone")
@models
def test_data_larger_than_memory(kind, tmp_path):
    path = tmp_path / "rows"
    with path.open("wb") as file:
        file.truncate(2**28)  # no block is written: the file is a hole
    ignored = "ignore:Stochastic Optimizer,ignore:Got `batch_size`"
    done = subprocess.run(
        [sys.executable, "-W", ignored.split(",")[0], "-c", MEMORY, str(path), kind],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    assert path.stat().st_size == 2**28
