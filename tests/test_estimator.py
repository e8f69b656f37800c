"""MLPClassifier against scikit-learn's own models, and all that it promises besides."""

import ast
import copy
import inspect
import io
import os
import pickle
import re
import subprocess
import sys
import warnings
from importlib.util import find_spec

import joblib
import numpy as np
import pandas
import pytest
import scipy.optimize
import scipy.sparse
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import DivergenceError, MLPClassifier
from fastbp.backprop import parallel
from fastbp.training import run as training_run

pytestmark = [
    # Most fits here end after a few epochs; where the warning is the matter, tests expect it.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # Hundreds of fits take minutes as plain Python, where the engine has its own tests.
    pytest.mark.compiled,
]

ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]
OPTIMIZERS = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05, "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.05},
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
}
SOLVERS = ["lbfgs", "sgd", "adam"]
needs_callbacks = pytest.mark.skipif(
    find_spec("sklearn.callback") is None, reason="scikit-learn has callbacks from 1.9 on"
)
needs_weights = pytest.mark.skipif(
    "sample_weight" not in inspect.signature(neural_network.MLPClassifier.fit).parameters,
    reason="scikit-learn's own class takes weights from 1.7 on",
)
WEIGHTED = [
    pytest.param(False, id="unweighted"),
    pytest.param(True, id="weighted", marks=needs_weights),
]
SPARSE = [
    getattr(scipy.sparse, f"{form}_{kind}")
    for form in ("csr", "csc", "coo")
    for kind in ("matrix", "array")
]


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def data(rng):
    """Three classes that overlap, 83 rows: a prime, so that the last batch is a short one."""
    y = rng.integers(0, 3, 83)
    X = rng.standard_normal((83, 6)) + 1.5 * np.eye(3, 6)[y]
    return X, y


@pytest.fixture
def weight(rng):
    """Weights of the rows, some of them 0."""
    return rng.uniform(0.1, 3, 83) * (rng.random(83) > 0.1)


@pytest.fixture
def sparse_data(data):
    """The same, most of it zeros."""
    X, y = data
    return np.where(X > 0.5, X, 0), y


def small(**parameters):
    """A classifier that is soon trained."""
    return MLPClassifier(
        **{"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0} | parameters
    )


def parameters_of(classifier):
    return [*classifier.coefs_, *classifier.intercepts_]


def assert_same(one, other):
    """The same parameters, to the last bit."""
    __tracebackhide__ = True
    for ours, theirs in zip(parameters_of(one), parameters_of(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def assert_close(ours, theirs, rtol=1e-9):
    """The same course, and the same end, as scikit-learn's."""
    __tracebackhide__ = True
    for mine, other in zip(parameters_of(ours), parameters_of(theirs), strict=True):
        np.testing.assert_allclose(mine, other, rtol=rtol, atol=rtol)
    assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_)
    for name in (
        "loss_",
        "loss_curve_",
        "best_loss_",
        "validation_scores_",
        "best_validation_score_",
    ):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert (mine is None) == (other is None), name
        if mine is not None:
            np.testing.assert_allclose(mine, other, rtol=rtol, err_msg=name)


#: What callbacks hear of.
STEPS = {"sgd": "epoch", "adam": "epoch", "lbfgs": "lbfgs-iter"}


def pair(**parameters):
    """Our classifier and scikit-learn's, of the same parameters."""
    defaults = {"hidden_layer_sizes": (7,), "activation": "tanh", "batch_size": 10, "max_iter": 5}
    defaults |= {"learning_rate_init": 0.001, "random_state": 0, "tol": 0}
    parameters = defaults | parameters
    return MLPClassifier(**parameters), neural_network.MLPClassifier(**parameters)


# scikit-learn's MLPClassifier takes the same course


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_same_random_state_same_coefficients(data, activation, optimizer):
    ours, theirs = pair(activation=activation, **OPTIMIZERS[optimizer])
    assert_close(ours.fit(*data), theirs.fit(*data))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_same_start_same_coefficients(data, rng, activation, optimizer):
    how = {"activation": activation, "shuffle": False, "warm_start": True, "max_iter": 1}
    both = pair(**how, **OPTIMIZERS[optimizer])
    w = [rng.normal(size=(6, 7)), rng.normal(size=(7, 3))]
    b = [rng.normal(size=7), rng.normal(size=3)]
    for classifier in both:
        classifier.fit(*data)
        classifier.coefs_, classifier.intercepts_ = copy.deepcopy(w), copy.deepcopy(b)
        classifier.set_params(max_iter=5, random_state=None).fit(*data)
    assert_close(*both)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"alpha": 0.1}, id="alpha"),
        pytest.param({"hidden_layer_sizes": (9, 8, 7)}, id="three-hidden-layers"),
        pytest.param({"hidden_layer_sizes": ()}, id="no-hidden-layer"),
        pytest.param({"hidden_layer_sizes": 4}, id="an-integer"),
        pytest.param({"batch_size": 83}, id="one-batch"),
        pytest.param({"batch_size": "auto"}, id="batch-auto"),
        pytest.param({"shuffle": False}, id="in-order"),
        pytest.param({"early_stopping": True, "validation_fraction": 0.3}, id="early-stopping"),
        pytest.param({"max_iter": 60, "n_iter_no_change": 2, "tol": 0.05}, id="until-it-stops"),
    ],
)
@pytest.mark.parametrize("optimizer", ["nesterov", "adam"])
@pytest.mark.parametrize("weighted", WEIGHTED)
def test_same_course(data, weight, how, optimizer, weighted):
    ours, theirs = pair(**{"alpha": 0.01} | how, **OPTIMIZERS[optimizer])
    weights = (weight,) if weighted else ()
    assert_close(ours.fit(*data, *weights), theirs.fit(*data, *weights))
    if how.get("tol"):
        assert ours.n_iter_ < 60


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"learning_rate": "invscaling", "power_t": 0.3}, id="invscaling"),
        pytest.param(
            {"learning_rate": "adaptive", "tol": 0.01, "n_iter_no_change": 1, "max_iter": 200},
            id="adaptive",
        ),
        pytest.param({"momentum": 0}, id="no-momentum"),
    ],
)
def test_same_course_of_sgd(data, how):
    ours, theirs = pair(solver="sgd", **{"learning_rate_init": 0.2} | how)
    assert_close(ours.fit(*data), theirs.fit(*data))
    assert ours._optimizer.learning_rate == theirs._optimizer.learning_rate
    if how.get("learning_rate") == "adaptive":
        assert ours.n_iter_ < 200
        assert ours._optimizer.learning_rate <= 1e-6


def test_same_course_of_adam_with_other_decays(data):
    ours, theirs = pair(solver="adam", beta_1=0.5, beta_2=0.9, epsilon=1e-3)
    assert_close(ours.fit(*data), theirs.fit(*data))


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_same_course_of_two_warm_starts(data, optimizer, early_stopping):
    how = {"warm_start": True, "early_stopping": early_stopping, "validation_fraction": 0.3}
    ours, theirs = pair(**how, **OPTIMIZERS[optimizer])
    for _ in range(3):
        assert_close(ours.fit(*data), theirs.fit(*data))
        # Theirs are the very arrays that hold the best so far: a warm start would train these.
        theirs.coefs_, theirs.intercepts_ = copy.deepcopy((theirs.coefs_, theirs.intercepts_))


@needs_weights
@pytest.mark.parametrize("learning_rate", ["constant", "invscaling"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_same_course_of_partial_fits(data, weight, optimizer, learning_rate):
    both = pair(learning_rate=learning_rate, **OPTIMIZERS[optimizer])
    (X, y), classes = data, [0, 1, 2]
    for rows in (slice(30), slice(30, 83), slice(30)):
        for classifier in both:
            classifier.partial_fit(X[rows], y[rows], weight[rows], classes=classes)
        assert_close(*both)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_same_course_in_float32(data, optimizer):
    X, y = data
    ours, theirs = pair(**OPTIMIZERS[optimizer])
    X = X.astype(np.float32)
    assert_close(ours.fit(X, y), theirs.fit(X, y), rtol=1e-4)
    assert {array.dtype for array in parameters_of(ours)} == {np.dtype(np.float32)}
    for method in ("predict_proba", "predict_log_proba", "decision_function"):
        got = getattr(ours, method)(X)
        assert got.dtype == np.float32
        if hasattr(theirs, method):
            np.testing.assert_allclose(got, getattr(theirs, method)(X), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "how",
    [
        {"solver": "sgd"},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1},
        {"solver": "adam", "tol": 10.0, "n_iter_no_change": 1},
        {"solver": "adam", "early_stopping": True, "tol": 2.0, "n_iter_no_change": 2},
    ],
)
def test_prints_what_scikit_learn_prints(data, capsys, how):
    printed = []
    for classifier in pair(**{"verbose": True, "max_iter": 40, "learning_rate_init": 0.01} | how):
        classifier.fit(*data)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert printed[0].startswith("Iteration 1, loss = ")


def test_lbfgs_prints_a_line(data, capsys):
    classifier = small(solver="lbfgs", verbose=1).fit(*data)
    output = capsys.readouterr().out
    assert re.fullmatch(r"3 iterations, \d+ evaluations, loss = [\d.]+\n", output)
    assert f"{classifier.loss_:.8f}" in output


# Without a hidden layer the minimum is that of scikit-learn's logistic regression


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"solver": "lbfgs", "tol": 1e-10, "max_iter": 10000}, id="lbfgs"),
        pytest.param(
            {"solver": "sgd", "learning_rate_init": 0.5, "max_iter": 1500},
            id="sgd",
            marks=pytest.mark.compiled,
        ),
        pytest.param(
            {"solver": "adam", "learning_rate_init": 0.01, "max_iter": 4000},
            id="adam",
            marks=pytest.mark.compiled,
        ),
    ],
)
def test_finds_the_minimum_of_logistic_regression(data, weight, how, weighted):
    X, y = data
    weights = weight if weighted else None
    how = {"alpha": 2.0, "tol": 0, "n_iter_no_change": np.inf, "batch_size": 83} | how
    ours = MLPClassifier((), random_state=0, **how).fit(X, y, weights)
    theirs = LogisticRegression(C=1 / 2.0, tol=1e-10, max_iter=10000).fit(X, y, weights)
    np.testing.assert_allclose(ours.coefs_[0].T, theirs.coef_, rtol=0, atol=1e-6)
    # The same number added to all intercepts changes nothing.
    intercept = ours.intercepts_[0] - ours.intercepts_[0].mean()
    np.testing.assert_allclose(intercept, theirs.intercept_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-6)
    penalty = 0.5 * 2.0 * np.square(theirs.coef_).sum() / (83 if weights is None else weights.sum())
    expected = log_loss(y, theirs.predict_proba(X), sample_weight=weights) + penalty
    np.testing.assert_allclose(ours.loss_, expected, rtol=1e-9)


# Labels and names


@pytest.mark.parametrize(
    "names",
    [
        np.array(["owl", "ant", "zebra"]),
        np.array(["owl", "ant", "zebra"], object),
        np.array([7, -5, 100]),
        np.array([0.0, 2.0, 1.0]),
    ],
    ids=["str", "object", "int", "float"],
)
def test_labels_of_any_kind(data, names):
    X, y = data
    by_number = small().fit(X, np.argsort(np.argsort(names))[y])
    classifier = small().fit(X, names[y])
    assert_same(classifier, by_number)
    np.testing.assert_array_equal(classifier.classes_, np.sort(names))
    expected = np.sort(names)[by_number.predict(X)]
    np.testing.assert_array_equal(classifier.predict(X), expected)
    assert classifier.predict(X).dtype == names.dtype
    assert classifier.score(X, names[y]) == by_number.score(X, np.argsort(np.argsort(names))[y])


@pytest.mark.parametrize("load", [load_iris, load_breast_cancer, load_digits])
@pytest.mark.parametrize("solver", SOLVERS)
def test_one_changed_import_gives_the_same_model(load, solver):
    """Of two classes, too: one output unit, and all shapes."""
    X, y = load(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    ours, theirs = (
        kind(solver=solver, max_iter=20, random_state=0).fit(X, y)
        for kind in (MLPClassifier, neural_network.MLPClassifier)
    )
    for one, other in zip(parameters_of(ours), parameters_of(theirs), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    for name in ("n_iter_", "n_layers_", "n_outputs_", "out_activation_"):
        assert getattr(ours, name) == getattr(theirs, name)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    found, expected = ours.predict_proba(X), theirs.predict_proba(X)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_two_classes_have_one_output(data, solver):
    X, y = data
    classifier = small(solver=solver, max_iter=40, learning_rate_init=0.2)
    classifier.fit(X, y == 1)
    assert classifier.classes_.tolist() == [False, True]
    assert classifier.coefs_[-1].shape == (5, 1)
    proba, z = classifier.predict_proba(X), classifier.decision_function(X)
    predicted = classifier.predict(X)
    assert predicted.dtype == bool
    assert z.shape == (83,)
    np.testing.assert_array_equal(predicted, z > 0)
    np.testing.assert_array_equal(predicted, proba[:, 1] > 0.5)
    np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-z)), rtol=1e-12)
    assert accuracy_score(y == 1, predicted) > 0.8
    network = classifier.network_
    assert not network.weights[-1][:, 0].any()
    assert network.biases[-1][0] == 0
    np.testing.assert_array_equal(network.predict_proba(X), proba)


def test_a_confident_row_of_two_classes_costs_its_tiny_loss(data):
    """Where scikit-learn, which clips probabilities, finds another."""
    X, y = data
    classifier = small().fit(X, y == 1)
    classifier.coefs_[-1] *= 1e3
    z = classifier.decision_function(X)
    log_a = classifier.predict_log_proba(X)
    np.testing.assert_allclose(log_a[:, 1], -np.logaddexp(0, -z), rtol=1e-13)
    np.testing.assert_allclose(log_a[:, 0], -np.logaddexp(0, z), rtol=1e-13)


def test_probabilities_come_in_the_order_of_the_classes(data):
    X, y = data
    names = np.array(["owl", "ant", "zebra"])
    classifier = small(max_iter=30, learning_rate_init=0.05).fit(X, names[y])
    assert classifier.classes_.tolist() == ["ant", "owl", "zebra"]
    proba = classifier.predict_proba(X)
    for column, name in enumerate(classifier.classes_):
        is_it = names[y] == name
        assert proba[is_it, column].mean() > proba[~is_it, column].mean() + 0.3
    np.testing.assert_array_equal(classifier.classes_[proba.argmax(axis=1)], classifier.predict(X))
    np.testing.assert_allclose(np.exp(classifier.predict_log_proba(X)), proba, rtol=1e-12)
    z = classifier.decision_function(X)
    np.testing.assert_allclose(proba, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_class_is_always_right(data, solver):
    X, _ = data
    classifier = small(solver=solver).fit(X, ["only"] * 83)
    assert classifier.predict(X).tolist() == ["only"] * 83
    np.testing.assert_array_equal(classifier.predict_proba(X), np.ones((83, 1)))
    assert classifier.coefs_[-1].shape == (5, 1)


def test_names_of_columns(data):
    X, y = data
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    classifier = small().fit(frame, pandas.Series(y))
    assert classifier.feature_names_in_.tolist() == list("abcdef")
    assert_same(classifier, small().fit(X, y))
    np.testing.assert_array_equal(classifier.predict(frame), small().fit(X, y).predict(X))
    with pytest.raises(ValueError, match="feature names should match"):
        classifier.predict(frame.rename(columns={"a": "z"}))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        classifier.predict(X)
    # Held-out rows have the names, too: no warning.
    small(early_stopping=True).fit(frame, y)
    small(early_stopping=True).fit(frame, y, X_val=frame, y_val=y)


# X of any kind


@pytest.mark.parametrize("kind", SPARSE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("solver", SOLVERS)
def test_sparse_equals_dense(sparse_data, weight, solver, kind):
    X, y = sparse_data
    dense = small(solver=solver, batch_size=10).fit(X, y, weight)
    sparse = small(solver=solver, batch_size=10).fit(kind(X), y, weight)
    assert_same(sparse, dense)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        expected = getattr(dense, method)(X)
        np.testing.assert_array_equal(getattr(sparse, method)(X), expected)
        np.testing.assert_array_equal(getattr(sparse, method)(kind(X)), expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_sparse_partial_fit_equals_dense(sparse_data, optimizer):
    X, y = sparse_data
    both = [small(batch_size=10, **OPTIMIZERS[optimizer]) for _ in range(2)]
    for rows in (slice(40), slice(40, 83)):
        both[0].partial_fit(X[rows], y[rows], classes=[0, 1, 2])
        both[1].partial_fit(scipy.sparse.csr_array(X[rows]), y[rows], classes=[0, 1, 2])
    assert_same(*both)


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("explicit", [False, True], ids=["held-out", "X_val"])
def test_sparse_validation_equals_dense(sparse_data, weight, explicit, weighted):
    X, y = sparse_data
    results = []
    for kind in (np.asarray, scipy.sparse.csr_array, scipy.sparse.coo_matrix):
        how = {"X_val": kind(X[:20]), "y_val": y[:20]} if explicit else {}
        if explicit and weighted:
            how["sample_weight_val"] = weight[:20]
        classifier = small(early_stopping=True)
        classifier.fit(kind(X[20:]), y[20:], weight[20:] if weighted else None, **how)
        results.append(classifier)
    for sparse in results[1:]:
        assert_same(sparse, results[0])
        assert sparse.validation_scores_ == results[0].validation_scores_
        assert sparse.validation_loss_curve_ == results[0].validation_loss_curve_


def test_duplicates_of_a_sparse_x_are_summed(sparse_data):
    X, y = sparse_data
    once = scipy.sparse.csr_array(X)
    # Each entry in two halves, the columns of a row from right to left.
    rows = [slice(*ends) for ends in zip(once.indptr[:-1], once.indptr[1:], strict=True)]
    halves = np.concatenate([np.tile(once.data[row][::-1] / 2, 2) for row in rows])
    columns = np.concatenate([np.tile(once.indices[row][::-1], 2) for row in rows])
    twice = scipy.sparse.csr_array((halves, columns, 2 * once.indptr), shape=X.shape)
    assert not twice.has_canonical_format
    before = [array.copy() for array in (twice.data, twice.indices, twice.indptr)]
    classifier = small().fit(twice, y)
    assert_same(classifier, small().fit(X, y))
    np.testing.assert_array_equal(classifier.predict_proba(twice), classifier.predict_proba(X))
    for array, copied in zip((twice.data, twice.indices, twice.indptr), before, strict=True):
        np.testing.assert_array_equal(array, copied)


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_array, scipy.sparse.coo_matrix])
@pytest.mark.parametrize("solver", SOLVERS)
def test_inputs_are_left_alone(sparse_data, weight, solver, kind):
    X, y = sparse_data
    X, class_weight = kind(X), {0: 2.0}
    given = [X, y, weight, class_weight]
    before = copy.deepcopy(given)
    classifier = small(solver=solver, class_weight=class_weight, hidden_layer_sizes=[5])
    if solver == "lbfgs":
        classifier.fit(X, y, weight)
    else:
        classifier.fit(X, y, weight, X_val=X, y_val=y, sample_weight_val=weight)
        classifier.partial_fit(X, y, weight)
    classifier.predict_proba(X)
    for now, then in zip(given[:3], before[:3], strict=True):
        dense_now, dense_then = (
            a.toarray() if scipy.sparse.issparse(a) else a for a in (now, then)
        )
        np.testing.assert_array_equal(dense_now, dense_then)
    assert class_weight == before[3]
    assert classifier.hidden_layer_sizes == [5]


@pytest.mark.parametrize("solver", SOLVERS)
def test_layout_of_x_changes_nothing(data, weight, solver):
    X, y = data
    expected = small(solver=solver).fit(X, y, weight)
    read_only = X.copy()
    read_only.flags.writeable = False
    wide = np.zeros((2 * 83, 13))
    wide[::2, 1::2] = X
    backwards = np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]
    for x in (read_only, np.asfortranarray(X), wide[::2, 1::2], backwards, X.tolist()):
        classifier = small(solver=solver).fit(x, y, weight)
        assert_same(classifier, expected)
        np.testing.assert_array_equal(classifier.predict_proba(x), expected.predict_proba(X))


@pytest.mark.parametrize("solver", SOLVERS)
def test_integers_are_trained_in_float64(data, solver):
    X, y = data
    X = (10 * X).astype(int)
    classifier = small(solver=solver).fit(X, y)
    assert_same(classifier, small(solver=solver).fit(X.astype(float), y))
    assert classifier.predict_proba(X).dtype == np.float64


# Weights


@pytest.mark.parametrize("solver", SOLVERS)
def test_class_weight_is_a_weight_of_rows(data, weight, solver):
    X, y = data
    y = np.array(["owl", "ant", "zebra"])[np.where(weight > 1, y, 0)]
    of_class = {"ant": 2.5, "owl": 0.5}
    factor = np.array([of_class.get(label, 1.0) for label in y])
    by_class = small(solver=solver, class_weight=of_class)
    assert_same(by_class.fit(X, y), small(solver=solver).fit(X, y, factor))
    assert_same(by_class.fit(X, y, weight), small(solver=solver).fit(X, y, factor * weight))


@pytest.mark.parametrize("solver", SOLVERS)
def test_balanced_classes_weigh_the_same(data, weight, solver):
    X, y = data
    y = np.where(weight > 1, y, 0)
    balanced = small(solver=solver, class_weight="balanced")
    n = np.bincount(y)
    assert_same(balanced.fit(X, y), small(solver=solver).fit(X, y, (83 / (3 * n))[y]))
    n = np.bincount(y, weight)
    factor = (n.sum() / (3 * n))[y]
    assert_same(balanced.fit(X, y, weight), small(solver=solver).fit(X, y, factor * weight))


def test_a_class_of_rows_that_weigh_nothing_is_not_balanced(data):
    X, y = data
    weight = np.where(y == 2, 0.0, 1.0)
    classifier = small(class_weight="balanced", max_iter=30, learning_rate_init=0.1)
    classifier.fit(X, y, weight)
    n = np.bincount(y[y < 2])
    factor = np.append(n.sum() / (2 * n), 0.0)[y]
    assert_same(classifier, clone(classifier).set_params(class_weight=None).fit(X, y, factor))
    assert classifier.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_row_that_weighs_nothing_is_as_good_as_absent(data, weight, solver):
    X, y = data
    how = {"solver": solver, "shuffle": False, "batch_size": 83, "max_iter": 5}
    with_it = small(**how).fit(X, y, weight)
    there = weight > 0
    without = small(**how | {"batch_size": int(there.sum())})
    without.fit(X[there], y[there], weight[there])
    for one, other in zip(parameters_of(with_it), parameters_of(without), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


# partial_fit and warm_start


@pytest.mark.parametrize("learning_rate", ["constant", "invscaling"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_partial_fits_equal_a_fit_of_as_many_epochs(data, optimizer, learning_rate):
    X, y = data
    how = {"shuffle": False, "batch_size": 10, "learning_rate": learning_rate}
    how |= OPTIMIZERS[optimizer]
    at_once = small(max_iter=4, **how).fit(X, y)
    in_parts = small(**how)
    for _ in range(4):
        in_parts.partial_fit(X, y, classes=[0, 1, 2])
    assert_same(in_parts, at_once)
    assert in_parts.loss_curve_ == at_once.loss_curve_
    assert (in_parts.t_, in_parts.n_iter_) == (4 * 83, 1)


def test_partial_fit_on_some_of_the_classes(data):
    X, y = data
    of_class = {0: 2.0, 2: 3.0}
    classifier = small(class_weight=of_class)
    expected = small()
    for part in ([0, 1], [2], [1, 2]):
        rows = np.isin(y, part)
        classifier.partial_fit(X[rows], y[rows], classes=[2, 0, 1])
        factor = np.array([of_class.get(label, 1.0) for label in y[rows].tolist()])
        expected.partial_fit(X[rows], y[rows], factor, classes=[0, 1, 2])
    assert_same(classifier, expected)
    assert classifier.classes_.tolist() == [0, 1, 2]
    assert classifier.predict_proba(X).shape == (83, 3)


def test_partial_fit_goes_on_after_fit(data):
    X, y = data
    classifier = small(shuffle=False).fit(X, y)
    assert_same(classifier.partial_fit(X, y), small(shuffle=False, max_iter=4).fit(X, y))


def test_a_warm_start_goes_on_and_a_cold_one_does_not(data):
    cold = small().fit(*data)
    first = copy.deepcopy(cold)
    assert_same(cold.fit(*data), first)
    assert len(cold.loss_curve_) == 3
    warm = small(warm_start=True).fit(*data)
    assert_same(warm, first)
    warm.fit(*data)
    assert len(warm.loss_curve_) == 6
    assert warm.loss_curve_[3] < warm.loss_curve_[0]


# Validation rows


def test_validation_rows_are_looked_at_after_each_epoch(data, weight):
    X, y = data
    how = {"X_val": X[60:], "y_val": y[60:], "sample_weight_val": weight[60:]}
    classifier = small(max_iter=6).fit(X[:60], y[:60], **how)
    assert_same(classifier, small(max_iter=6).fit(X[:60], y[:60]))
    assert classifier.best_validation_score_ is None
    for epoch in range(1, 7):
        then = small(max_iter=epoch).fit(X[:60], y[:60])
        loss = log_loss(y[60:], then.predict_proba(X[60:]), sample_weight=weight[60:])
        score = accuracy_score(y[60:], then.predict(X[60:]), sample_weight=weight[60:])
        np.testing.assert_allclose(classifier.validation_loss_curve_[epoch - 1], loss, rtol=1e-12)
        np.testing.assert_allclose(classifier.validation_scores_[epoch - 1], score, rtol=1e-12)
    assert len(classifier.validation_scores_) == 6


@pytest.mark.parametrize("explicit", [False, True], ids=["held-out", "X_val"])
def test_early_stopping_keeps_the_best(data, explicit):
    X, y = data
    how = {"early_stopping": True, "learning_rate_init": 0.3, "n_iter_no_change": 4}
    how |= {"max_iter": 100, "validation_fraction": 0.3}
    validation = {"X_val": X[60:], "y_val": y[60:]} if explicit else {}
    classifier = small(**how).fit(X[:60], y[:60], **validation)
    scores = classifier.validation_scores_
    assert classifier.n_iter_ == len(scores) < 100
    best = int(np.argmax(scores))
    assert 0 < best < len(scores) - 1
    assert classifier.best_validation_score_ == scores[best]
    assert classifier.best_loss_ is None
    then = small(**how | {"max_iter": best + 1}).fit(X[:60], y[:60], **validation)
    assert_same(classifier, then)
    if explicit:
        assert classifier.score(X[60:], y[60:]) == scores[best]


# What is refused, and what is left behind


@pytest.fixture
def fitted(data):
    return small(warm_start=True).fit(*data)


REFUSED = {
    "y_val missing": ("X_val is provided, but y_val was not", {"X_val": "X"}),
    "X_val missing": ("y_val is provided, but X_val was not", {"y_val": "y"}),
    "sample_weight_val alone": (
        "sample_weight_val is provided, but X_val was not",
        {"sample_weight_val": "y"},
    ),
    "unknown labels": (
        r"y_val must hold labels of y, \[0 1 2\], got \[3 4 5\]",
        {"X_val": "X", "y_val": "y + 3"},
    ),
    "other features": (
        "X has 5 features, but MLPClassifier is expecting 6",
        {"X_val": "X[:, :5]", "y_val": "y"},
    ),
    "rows of validation": ("inconsistent numbers of samples", {"X_val": "X", "y_val": "y[:9]"}),
    "weights of validation": (
        "Negative values in data passed to `sample_weight`",
        {"X_val": "X", "y_val": "y", "sample_weight_val": "-1.0 - y"},
    ),
    "multilabel": (
        r"y must hold one label a row.* got a multilabel-indicator y of shape \(83, 3\)",
        {"y": "np.eye(3, dtype=int)[y]"},
    ),
    "several outputs": (
        r"y must hold one label a row.* got a multiclass-multioutput y of shape \(83, 2\)",
        {"y": "np.column_stack([y, y])"},
    ),
    "continuous": ("Unknown label type: continuous", {"y": "y + 0.5"}),
    "NaN": ("Input X contains NaN", {"X": "np.where(X > 2, np.nan, X)"}),
    "infinite": ("Input X contains infinity", {"X": "np.where(X > 2, np.inf, X)"}),
    "rows": ("inconsistent numbers of samples", {"y": "y[:82]"}),
    "features": ("X has 5 features, but MLPClassifier is expecting 6", {"X": "X[:, :5]"}),
    "negative weights": (
        "Negative values in data passed to `sample_weight`",
        {"sample_weight": "-1.0 - y"},
    ),
    "no weight": (
        "Sample weights must contain at least one non-zero",
        {"sample_weight": "0.0 * y"},
    ),
    "other classes": (
        r"warm_start can only .* Previously got \[0 1 2\], `y` has \[0 1\]",
        {"y": "y % 2"},
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_data_leaves_the_estimator_as_it_was(fitted, data, case):
    message, changed = REFUSED[case]
    names = dict(zip(("X", "y"), data, strict=True), np=np)
    arguments = {"X": data[0], "y": data[1]}
    arguments |= {name: eval(expression, names) for name, expression in changed.items()}
    before = copy.deepcopy(fitted)
    with pytest.raises(ValueError, match=message):
        fitted.fit(**arguments)
    assert_same(fitted, before)
    assert vars(fitted).keys() == vars(before).keys()
    np.testing.assert_array_equal(fitted.predict_proba(data[0]), before.predict_proba(data[0]))
    assert_same(fitted.fit(*data), before.fit(*data))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"hidden_layer_sizes": (6,)}, r"as in the first call.*\[6, 5, 3\], got \[6, 6, 3\]"),
        ({"hidden_layer_sizes": ()}, r"as in the first call.*\[6, 5, 3\], got \[6, 3\]"),
        ({"hidden_layer_sizes": (5, 0)}, r"hidden_layer_sizes must be > 0, got \[5, 0\]"),
        ({"hidden_layer_sizes": (5, -1)}, r"hidden_layer_sizes must be > 0, got \[5, -1\]"),
        ({"hidden_layer_sizes": (5.5,)}, r"must be integers, one per layer, got \(5.5,\)"),
        ({"hidden_layer_sizes": [[5]]}, r"must be integers, one per layer, got \[\[5\]\]"),
        ({"hidden_layer_sizes": 0}, "'hidden_layer_sizes' parameter"),
        ({"activation": "sigmoid"}, "'activation' parameter"),
        ({"solver": "newton"}, "'solver' parameter"),
        ({"class_weight": "equal"}, "'class_weight' parameter"),
        ({"n_threads": 0}, "'n_threads' parameter"),
        ({"momentum": 1.5}, "'momentum' parameter"),
        ({"alpha": -1}, "'alpha' parameter"),
    ],
)
def test_refused_parameters_leave_the_estimator_as_it_was(fitted, data, parameters, message):
    before = copy.deepcopy(fitted)
    kept = {name: fitted.get_params()[name] for name in parameters}
    with pytest.raises(ValueError, match=message):
        fitted.set_params(**parameters).fit(*data)
    fitted.set_params(**kept)
    assert_same(fitted, before)
    assert_same(fitted.fit(*data), before.fit(*data))


def test_lbfgs_takes_no_validation_rows(data):
    X, y = data
    with pytest.raises(ValueError, match="X_val is only for solver='sgd' and 'adam'"):
        small(solver="lbfgs").fit(X, y, X_val=X, y_val=y)


@pytest.mark.parametrize("warm_start", [False, True])
def test_too_few_rows_to_hold_out(fitted, data, warm_start):
    before = copy.deepcopy(fitted)
    fitted.set_params(early_stopping=True, validation_fraction=0.01, warm_start=warm_start)
    with pytest.raises(ValueError, match="The validation set is too small"):
        fitted.fit(*data)
    assert_same(fitted, before)
    assert fitted.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(fitted.predict_proba(data[0]), before.predict_proba(data[0]))


def test_what_partial_fit_refuses(fitted, data):
    X, y = data
    before = copy.deepcopy(fitted)
    fitted.set_params(warm_start=False)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        small().partial_fit(X, y)
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit"):
        fitted.partial_fit(X, y, classes=[0, 1, 3])
    with pytest.raises(ValueError, match=r"`y` has classes not in `self.classes_`.* \[3 4 5\]"):
        fitted.partial_fit(X, y + 3)
    with pytest.raises(ValueError, match="X has 5 features"):
        fitted.partial_fit(X[:, :5], y)
    for parameters, message in (
        ({"class_weight": "balanced"}, "'balanced' is not supported for partial_fit"),
        ({"early_stopping": True}, "partial_fit does not support early_stopping=True"),
        ({"hidden_layer_sizes": (9,)}, "hidden_layer_sizes must be as in the first call"),
    ):
        kept = {name: fitted.get_params()[name] for name in parameters}
        with pytest.raises(ValueError, match=message):
            fitted.set_params(**parameters).partial_fit(X, y)
        fitted.set_params(**kept)
    assert_same(fitted, before)
    assert not hasattr(small(solver="lbfgs"), "partial_fit")
    assert_same(fitted.partial_fit(X, y), before.set_params(warm_start=False).partial_fit(X, y))


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_log_proba", "decision_function"]
)
def test_what_a_prediction_refuses(fitted, data, method):
    X, _ = data
    with pytest.raises(NotFittedError):
        getattr(small(), method)(X)
    with pytest.raises(ValueError, match="X has 5 features, but MLPClassifier is expecting 6"):
        getattr(fitted, method)(X[:, :5])
    with pytest.raises(ValueError, match="contains NaN"):
        getattr(fitted, method)(np.full((2, 6), np.nan))


@pytest.mark.parametrize("size", [84, 1000])
def test_a_batch_larger_than_the_data_is_clipped(data, size):
    with pytest.warns(
        UserWarning, match="larger than sample size. It is going to be clipped"
    ) as got:
        classifier = small(batch_size=size).fit(*data)
    assert_same(classifier, small(batch_size=83).fit(*data))
    assert {warning.filename for warning in got} == {__file__}


# Endings


@pytest.mark.parametrize("solver", SOLVERS)
def test_warns_where_it_did_not_converge(data, solver):
    with pytest.warns(ConvergenceWarning) as got:
        small(solver=solver).fit(*data)
    assert len(got) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier = small(solver=solver, tol=0.5, max_iter=500).fit(*data)
    assert classifier.n_iter_ < 500


NOT_FINITE = "Solver produced non-finite parameter weights. The input data may contain large values"


@pytest.mark.parametrize("early_stopping", [False, True])
def test_divergence_in_the_first_epoch_is_an_error(data, early_stopping):
    how = {"activation": "relu", "solver": "sgd", "learning_rate_init": 1e300}
    classifier = small(early_stopping=early_stopping, batch_size=10, **how)
    with pytest.raises(ValueError, match=NOT_FINITE) as caught:
        classifier.fit(*data)
    assert isinstance(caught.value, DivergenceError)
    assert (caught.value.epoch, classifier.n_iter_) == (1, 0)
    assert np.isfinite(classifier.predict_proba(data[0])).all()
    assert classifier.set_params(learning_rate_init=0.01).fit(*data).n_iter_ == 3


def test_divergence_with_early_stopping_keeps_the_best(data):
    # One step an epoch: the parameters grow for some epochs before they overflow.
    how = {"activation": "relu", "solver": "sgd", "learning_rate_init": 1e6, "max_iter": 500}
    how |= {"n_iter_no_change": np.inf, "alpha": 1.0}
    with pytest.raises(ValueError, match=NOT_FINITE):
        small(**how).fit(*data)
    stopped = small(early_stopping=True, **how)
    with pytest.warns(ConvergenceWarning, match="what had the best validation score is kept"):
        stopped.fit(*data)
    assert 0 < stopped.n_iter_ < 500
    best = int(np.argmax(stopped.validation_scores_))
    assert stopped.best_validation_score_ == stopped.validation_scores_[best]
    then = small(early_stopping=True, **how | {"max_iter": best + 1}).fit(*data)
    assert_same(stopped, then)
    assert np.isfinite(stopped.predict_proba(data[0])).all()


class Callback:
    """It notes what it is told, and does something at the end of an epoch."""

    def __init__(self, at_end=lambda epoch: None):
        self.at_end = at_end
        self.heard = []

    def setup(self, estimator, context):
        self.heard.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.heard.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context):
        self.heard.append(f"end {context.task_name}")
        return self.at_end(context.task_id + 1) if context.task_name in STEPS.values() else None

    def teardown(self, estimator, context):
        self.heard.append("teardown")


def interrupt_after(epochs):
    def at_end(epoch):
        if epoch == epochs:
            raise KeyboardInterrupt

    return Callback(at_end)


@needs_callbacks
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_interrupt_ends_training_with_a_warning(data, optimizer):
    classifier = small(max_iter=50, **OPTIMIZERS[optimizer]).set_callbacks(interrupt_after(4))
    with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$") as got:
        classifier.fit(*data)
    assert len(got) == 1
    assert classifier.n_iter_ == 4
    assert_same(classifier, small(max_iter=4, **OPTIMIZERS[optimizer]).fit(*data))
    assert classifier.predict(data[0]).shape == (83,)


def test_an_interrupt_in_the_middle_of_an_epoch(data, monkeypatch):
    advance = training_run.Run.advance

    def interrupted(run, number, *arguments):
        if number == 3:
            raise KeyboardInterrupt
        advance(run, number, *arguments)

    monkeypatch.setattr(training_run.Run, "advance", interrupted)
    classifier = small(max_iter=50, early_stopping=True)
    with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
        classifier.fit(*data)
    assert (classifier.n_iter_, len(classifier.loss_curve_)) == (2, 2)
    best = int(np.argmax(classifier.validation_scores_))
    assert_same(classifier, small(max_iter=best + 1, early_stopping=True).fit(*data))


# What it holds


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("how", ["pickle", "joblib", "deepcopy"])
def test_copies_are_equal_and_apart(data, tmp_path, solver, how):
    classifier = small(solver=solver, shuffle=False).fit(*data)
    if how == "pickle":
        copied = pickle.loads(pickle.dumps(classifier))
    elif how == "joblib":
        joblib.dump(classifier, tmp_path / "classifier")
        copied = joblib.load(tmp_path / "classifier")
    else:
        copied = copy.deepcopy(classifier)
    assert_same(copied, classifier)
    assert copied.get_params() == classifier.get_params()
    for name in ("loss_curve_", "n_iter_", "t_", "best_loss_", "n_layers_", "n_features_in_"):
        assert getattr(copied, name) == getattr(classifier, name)
    np.testing.assert_array_equal(copied.predict_proba(data[0]), classifier.predict_proba(data[0]))
    if solver != "lbfgs":  # the momentum came along, too
        assert_same(
            copied.partial_fit(*data), small(solver=solver, shuffle=False, max_iter=4).fit(*data)
        )
    copied.coefs_[0][:] = 0
    assert classifier.coefs_[0].any()


def test_a_pickle_holds_the_parameters_once(rng):
    X, y = rng.standard_normal((5, 100)), [0, 1, 2, 0, 1]
    classifier = MLPClassifier((400,), solver="lbfgs", max_iter=2).fit(X, y)
    n_bytes = sum(array.nbytes for array in parameters_of(classifier))
    # the parameters, and the velocity of the same length
    assert 2 * n_bytes < len(pickle.dumps(classifier)) < 2.1 * n_bytes
    file = io.BytesIO()
    joblib.dump(classifier, file)
    assert len(file.getvalue()) < 2.1 * n_bytes


def test_clones_and_parameters(data):
    parameters = {"hidden_layer_sizes": (4, 3), "class_weight": {0: 2.0}, "n_threads": 1}
    classifier = small(**parameters).fit(*data)
    copied = clone(classifier)
    assert copied.get_params() == classifier.get_params()
    assert copied.get_params() | parameters == copied.get_params()
    assert not hasattr(copied, "coefs_")
    assert_same(copied.fit(*data), classifier)
    assert copied.set_params(alpha=0.5).alpha == 0.5
    assert small().get_params().keys() >= neural_network.MLPClassifier().get_params().keys()
    with pytest.raises(ValueError, match="Invalid parameter 'depth'"):
        copied.set_params(depth=3)


def test_defaults_are_those_of_scikit_learn():
    theirs = neural_network.MLPClassifier().get_params()
    ours = MLPClassifier().get_params()
    assert {name: ours[name] for name in theirs} == theirs
    assert ours.keys() - theirs.keys() == {"class_weight", "n_threads"}


def test_documented_defaults_are_those_of_the_signature():
    section = inspect.getdoc(MLPClassifier).partition("Parameters")[2].partition("Attributes")[0]
    documented = {}
    for names, defaults in re.findall(r"^(\w[\w, ]*) : .*?default=(.*)$", section, re.M):
        values = ast.literal_eval(defaults)
        documented |= zip(names.split(", "), values if ", " in names else [values], strict=True)
    assert documented == MLPClassifier().get_params()


def test_a_refused_fit_on_other_columns_leaves_the_fitted_classifier_alone(data):
    X, y = data
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    classifier = small().fit(frame, y)
    expected = classifier.predict_proba(frame)
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        classifier.fit(X[:, :3], y + 1, sample_weight=-np.ones(len(y)))
    np.testing.assert_array_equal(classifier.predict_proba(frame), expected)
    assert classifier.feature_names_in_.tolist() == list("abcdef")
    np.testing.assert_array_equal(classifier.classes_, [0, 1, 2])


def test_coefficients_can_be_set(data):
    X, y = data
    one, other = small(random_state=1).fit(X, y), small(random_state=2).fit(X, y)
    expected = other.predict_proba(X)
    replaced = copy.deepcopy(one)
    replaced.coefs_ = [w.copy() for w in other.coefs_]
    replaced.intercepts_ = [b.copy() for b in other.intercepts_]
    np.testing.assert_array_equal(replaced.predict_proba(X), expected)
    written = copy.deepcopy(one)
    for mine, theirs in zip(parameters_of(written), parameters_of(other), strict=True):
        mine[:] = theirs
    np.testing.assert_array_equal(written.predict_proba(X), expected)
    in_the_list = copy.deepcopy(one)
    for layer in range(2):
        in_the_list.coefs_[layer] = other.coefs_[layer]
        in_the_list.intercepts_[layer] = other.intercepts_[layer]
    pickled = pickle.loads(pickle.dumps(in_the_list))
    for classifier in (in_the_list, pickled):
        np.testing.assert_array_equal(classifier.predict_proba(X), expected)
    in_the_list.coefs_[0][:] = 0
    assert other.coefs_[0].any()
    one.coefs_ = one.coefs_[:1]
    with pytest.raises(ValueError, match="intercepts_ must hold 1 arrays, got 2"):
        one.predict(X)


@pytest.mark.parametrize("power_t", [0, 1, 300, 1e308, 10**400])
def test_an_inverse_power_of_any_size(data, power_t):
    rates = {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.05}
    classifier = small(power_t=power_t, **rates).fit(*data)
    rate = classifier._optimizer.learning_rate
    expected = 0.05 / 250.0 ** min(power_t, 1) if power_t < 2 else 0.0  # 3 epochs of 83 rows
    assert rate == pytest.approx(expected, abs=1e-300)
    assert rate > 0


def test_an_integer_alpha_is_a_number_as_any_other(data):
    expected = small(alpha=1.0).fit(*data)
    n_compiled = len(parallel.train.signatures)
    assert_same(small(alpha=1).fit(*data), expected)
    assert len(parallel.train.signatures) == n_compiled


def test_copies_before_fit_are_not_fitted(data):
    for copied in (copy.deepcopy(small()), pickle.loads(pickle.dumps(small()))):
        with pytest.raises(NotFittedError):
            copied.predict(data[0])
        assert_same(copied.fit(*data), small().fit(*data))


def test_lbfgs_that_ends_at_nan_is_an_error(data, monkeypatch):
    def minimize(cost, start, **options):
        return scipy.optimize.OptimizeResult(x=np.full_like(start, np.nan))

    monkeypatch.setattr(scipy.optimize, "minimize", minimize)
    classifier = small(solver="lbfgs")
    with pytest.raises(ValueError, match=NOT_FINITE):
        classifier.fit(*data)
    assert np.isfinite(classifier.predict_proba(data[0])).all()


@pytest.mark.compiled
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_threads_gives_the_same_bits(rng, solver, dtype):
    X = rng.standard_normal((2500, 200)).astype(dtype)
    y = rng.integers(0, 5, 2500)
    results = [
        small(solver=solver, hidden_layer_sizes=(120,), batch_size=400, n_threads=n).fit(X, y)
        for n in (1, 2, 3)
    ]
    for result in results[1:]:
        assert_same(result, results[0])
        np.testing.assert_array_equal(result.predict_proba(X), results[0].predict_proba(X))


# Callbacks


@needs_callbacks
@pytest.mark.parametrize("solver", SOLVERS)
def test_callbacks_hear_of_each_epoch(data, solver):
    callback = Callback()
    classifier = small(solver=solver).set_callbacks(callback).fit(*data)
    epochs = [f"begin {STEPS[solver]}", f"end {STEPS[solver]}"] * 3
    assert callback.heard == ["setup", "begin fit", *epochs, "end fit", "teardown"]
    assert_same(classifier, small(solver=solver).fit(*data))


@needs_callbacks
def test_callbacks_hear_of_partial_fit(data):
    callback = Callback()
    small().set_callbacks(callback).partial_fit(*data, classes=[0, 1, 2])
    assert callback.heard == [
        "setup",
        "begin fit",
        "begin epoch",
        "end epoch",
        "end fit",
        "teardown",
    ]


@needs_callbacks
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_callback_may_end_training(data, solver):
    callback = Callback(lambda epoch: epoch == 5)
    classifier = small(solver=solver, max_iter=50, tol=1e-9).set_callbacks(callback)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.fit(*data)
    assert classifier.n_iter_ == 5
    assert callback.heard.count(f"end {STEPS[solver]}") == 5
    assert callback.heard[-2:] == ["end fit", "teardown"]
    assert_same(classifier, small(solver=solver, max_iter=5, tol=1e-9).fit(*data))


@needs_callbacks
@pytest.mark.parametrize("solver", SOLVERS)
def test_lbfgs_or_not_the_last_epoch_may_end_by_itself(data, solver):
    callback = Callback()
    classifier = small(solver=solver, max_iter=500, tol=0.02).set_callbacks(callback).fit(*data)
    assert classifier.n_iter_ < 500
    begun, ended = (callback.heard.count(f"{what} {STEPS[solver]}") for what in ("begin", "end"))
    assert begun == ended
    assert classifier.n_iter_ <= ended <= classifier.n_iter_ + 1
    assert callback.heard[-2:] == ["end fit", "teardown"]


@needs_callbacks
@pytest.mark.parametrize("solver", SOLVERS)
def test_callbacks_are_torn_down_when_a_fit_fails(data, solver):
    def fail(epoch):
        raise RuntimeError("it failed")

    callback = Callback(fail)
    classifier = small(solver=solver).set_callbacks(callback)
    with pytest.raises(RuntimeError, match="it failed"):
        classifier.fit(*data)
    epoch = [f"begin {STEPS[solver]}", f"end {STEPS[solver]}"]
    assert callback.heard == ["setup", "begin fit", *epoch, "teardown"]
    assert classifier.set_callbacks().fit(*data).n_iter_ == 3


@needs_callbacks
@pytest.mark.parametrize("solver", SOLVERS)
def test_scoring_monitor_scores_each_epoch(data, weight, solver):
    from sklearn.callback import ScoringMonitor

    X, y = data
    monitor = ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    classifier = small(solver=solver, max_iter=4).set_callbacks(monitor).fit(X, y, weight)
    log = monitor.get_logs().data
    per_epoch = [entry for entry in log if entry["task_name"] in STEPS.values()]
    assert len(per_epoch) == 4
    for epoch, entry in enumerate(per_epoch, start=1):
        then = small(solver=solver, max_iter=epoch).fit(X, y, weight)
        expected = accuracy_score(y, then.predict(X), sample_weight=weight)
        assert entry["accuracy"] == expected
        expected = -log_loss(y, then.predict_proba(X), sample_weight=weight)
        np.testing.assert_allclose(entry["neg_log_loss"], expected, rtol=1e-12)
    assert_same(classifier, small(solver=solver, max_iter=4).fit(X, y, weight))
    of_the_fit = [entry for entry in log if entry["task_name"] == "fit"]
    assert [entry["accuracy"] for entry in of_the_fit] == [classifier.score(X, y, weight)]


@needs_callbacks
def test_progress_bar(data, capsys):
    from sklearn.callback import ProgressBar

    small(max_iter=20).set_callbacks(ProgressBar()).fit(*data)
    assert "MLPClassifier - fit" in capsys.readouterr().out


@needs_callbacks
def test_callbacks_reach_it_in_a_search(data):
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring="accuracy")
    pipeline = make_pipeline(StandardScaler(), small().set_callbacks(monitor))
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [0.01, 0.1]}, cv=2, refit=True)
    search.fit(*data)
    epochs = [
        entry
        for log in monitor.get_logs(select="all")
        for entry in log.data
        if entry["task_name"] in STEPS.values()
    ]
    assert len(epochs) == 3 * (2 * 2 + 1)


# Among scikit-learn's tools


def test_weights_are_routed_to_it(data, weight):
    from sklearn import config_context

    X, y = data
    X = StandardScaler().fit_transform(X)
    with config_context(enable_metadata_routing=True):
        classifier = small().set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, classifier).fit(X, y, sample_weight=weight)
        scaled = pipeline[0].transform(X)
        assert_same(pipeline[1], small().fit(scaled, y, weight))
        unrequested = make_pipeline(scaler, small())
        with pytest.raises(ValueError, match="sample_weight"):
            unrequested.fit(X, y, sample_weight=weight)


SEARCH = """
import os, sys, warnings
import numpy as np
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from fastbp import MLPClassifier
from fastbp.training import cpus

def threads_of_a_worker():
    return os.getpid(), os.environ.get("OMP_NUM_THREADS"), cpus.default_threads()

def main():
    X, y = load_digits(return_X_y=True)
    classifier = MLPClassifier((20,), max_iter=4, learning_rate_init=0.01, random_state=0)
    grid = {"mlpclassifier__alpha": [1e-3, 1e-1], "mlpclassifier__activation": ["relu", "tanh"]}
    results = {}
    for backend, n_jobs in (("loky", 1), ("loky", 2), ("threading", 2)):
        with parallel_config(backend):
            pipeline = make_pipeline(StandardScaler(), classifier)
            search = GridSearchCV(pipeline, grid, cv=3, n_jobs=n_jobs).fit(X, y)
            results[backend, n_jobs] = search.cv_results_
            if backend == "loky" and n_jobs == 2:
                seen = Parallel(n_jobs=2)(delayed(threads_of_a_worker)() for _ in range(4))
                for pid, limit, n_threads in seen:
                    assert pid != os.getpid()
                    assert limit == "1" and n_threads == 1, (limit, n_threads)
    first, *others = results.values()
    for other in others:
        for name, values in first.items():
            if "time" not in name and name != "params":
                np.testing.assert_array_equal(np.asarray(values), np.asarray(other[name]), name)
    print("best", first["mean_test_score"].max())

if __name__ == "__main__":
    main()
"""


@pytest.mark.compiled
def test_a_search_in_parallel_gives_the_same_scores(tmp_path):
    script = tmp_path / "search.py"
    script.write_text(SEARCH, "utf-8")
    ignored = "ignore:Stochastic Optimizer"
    environment = {**os.environ, "PYTHONWARNINGS": ignored}
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "FASTBP_NUM_THREADS"):
        environment.pop(name, None)  # joblib would leave a given one alone
    environment["LOKY_MAX_CPU_COUNT"] = "2"
    done = subprocess.run(
        [sys.executable, script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert float(done.stdout.split()[1]) > 0.8
