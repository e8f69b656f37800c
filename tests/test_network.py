"""The model class: training, prediction, its state, and everything it refuses."""

import copy
import dataclasses
import hashlib
import math
import pickle
import re
import sys

import numpy as np
import pytest
import reference
import reference_network
import slices
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from together import together
from tolerances import FINITE_DIFFERENCE, STEP, assert_ulp

import fastbp
from fastbp import SGD, Adam, DivergenceError, Network, network
from fastbp.backprop import parallel, passes, state
from fastbp.kernels.activation import ACTIVATIONS
from fastbp.training import run as training_run
from fastbp.training import threads

SIZES = [6, 5, 4, 3]

every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
OPTIMIZERS = {
    "sgd": SGD(0.05),
    "nesterov": SGD(0.05, nesterov=True),
    "adam": Adam(0.01),
    "adamw": Adam(0.01, weight_decay=0.1),
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def data(rng):
    """Three classes that can be told apart, 61 rows."""
    y = rng.integers(0, 3, 61)
    X = rng.normal(scale=0.5, size=(61, 6)) + np.eye(3, 6)[y]
    return X, y


def digest(network):
    """SHA-256 of all that training changes."""
    vectors = network.parameters, network.velocity, network.second_moment
    return hashlib.sha256(b"".join(vector.tobytes() for vector in vectors)).hexdigest()


def assert_near(got, exact, dtype, factor=20):
    __tracebackhide__ = True
    exact = np.asarray(exact, float)
    allowed = factor * np.finfo(dtype).eps
    np.testing.assert_allclose(got, exact, rtol=allowed, atol=allowed * abs(exact).max())


# The network itself


def test_layout_and_views():
    net = Network(SIZES)
    assert net.layer_sizes == (6, 5, 4, 3)
    assert net.dtype == np.float32
    assert [w.shape for w in net.weights] == [(6, 5), (5, 4), (4, 3)]
    assert [b.shape for b in net.biases] == [(5,), (4,), (3,)]
    parts = [part.ravel() for part in (*net.weights, *net.biases)]
    np.testing.assert_array_equal(net.parameters, np.concatenate(parts))
    assert all(np.shares_memory(part, net.parameters) for part in parts)
    assert all(w.flags.c_contiguous and w.flags.writeable for w in net.weights)


def test_weights_set_in_place_are_honoured_at_once(dtype, rng):
    net = Network(SIZES, dtype=dtype)
    X, y = rng.normal(size=(9, 6)).astype(dtype), rng.integers(0, 3, 9)
    for part in (*net.weights, *net.biases):
        part[:] = rng.normal(size=part.shape)
    onehot = reference.onehot(y, 3)
    *_, z = reference_network.forward(net.weights, net.biases, X)
    assert_near(net.predict_proba(X), reference.softmax(z), dtype)
    before = reference_network.Trainer(net.weights, net.biases)
    net.fit(X, y, epochs=1, batch_size=9, momentum=0, shuffle=False, learning_rate=0.25)
    before.step(X, onehot, learning_rate=0.25)
    assert_near(net.parameters, before.flat(), dtype)


def test_weights_cannot_be_replaced_without_effect():
    net = Network(SIZES)
    with pytest.raises(TypeError):
        net.weights[0] = np.zeros((6, 5))
    with pytest.raises(AttributeError):
        net.weights = [np.zeros((6, 5))]


@pytest.mark.parametrize("name", ["parameters", "velocity"])
def test_vectors_are_assigned_by_value(name):
    net, values = Network([2, 2]), np.arange(6.0)
    weights = net.weights[0]
    setattr(net, name, values)
    values[:] = 9
    np.testing.assert_array_equal(getattr(net, name), np.arange(6))
    if name == "parameters":
        np.testing.assert_array_equal(weights, [[0, 1], [2, 3]])
    with pytest.raises(ValueError, match=rf"{name} must have shape \(6,\), got \(5,\)"):
        setattr(net, name, np.zeros(5))
    net.parameters += 1  # in place, and assigned to itself


def test_velocity_and_second_moment_are_copies_not_to_be_written(data):
    net = Network(SIZES)
    net.fit(*data, epochs=1, optimizer=Adam())
    before = digest(net)
    for vector in (net.velocity, net.second_moment):
        assert vector.shape == net.parameters.shape
        with pytest.raises(ValueError, match="read-only"):
            vector[0] = 1
        vector.flags.writeable = True
        vector[:] = 1
    assert digest(net) == before


def test_first_weights_follow_from_the_seed():
    one, same, other = Network(SIZES, seed=1), Network(SIZES, seed=1), Network(SIZES, seed=2)
    assert digest(one) == digest(same) != digest(other)
    double = Network(SIZES, seed=1, dtype="float64")
    np.testing.assert_array_equal(double.parameters.astype(np.float32), one.parameters)
    for layer, (w, b) in enumerate(zip(double.weights, double.biases, strict=True)):
        bound = (4 if layer else 1) * math.sqrt(6 / sum(w.shape))
        assert 0.8 * bound < abs(w).max() <= bound
        assert w.min() < 0 < w.max()
        assert not b.any()


def test_first_weights_and_row_order_are_the_same_everywhere():
    """Pinned: another NumPy, system or version of fastbp must not change what a seed means."""
    net = Network([2, 2], dtype="float64", seed=0)
    assert [value.hex() for value in net.weights[0].ravel().tolist()] == [
        "-0x1.324b483e3ca93p+0",
        "-0x1.4422173d8eacep-1",
        "-0x1.e7536d9adb45ep-1",
        "0x1.4323b5b9b4385p-3",
    ]
    assert row_order(net, 8) == [4, 1, 7, 6, 5, 2, 0, 3]


def row_order(net, n):
    """The order in which the next epoch would take ``n`` rows: each with a weight of its own."""
    seen = []
    X = np.zeros((n, net.layer_sizes[0]))
    for row in range(n):
        weight = np.zeros(n)
        weight[row] = 1
        trained = copy.deepcopy(net)
        # One row per step, and only one row counts: the momentum decays by the steps after it.
        trained.fit(X, [0] * n, epochs=1, batch_size=1, momentum=0.5, sample_weight=weight)
        seen.append(abs(trained.velocity).max())
    return np.argsort(seen).tolist()


def test_seed_none_draws_one_and_keeps_it():
    net = Network(SIZES, seed=None)
    assert 0 <= net.seed < 2**64
    assert digest(Network(SIZES, seed=net.seed)) == digest(net)
    assert Network(SIZES, seed=None).seed != net.seed


def test_largest_seed():
    assert Network([1, 1], seed=2**64 - 1).seed == 2**64 - 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([5],), ValueError, "layer_sizes must hold at least 2 sizes, got [5]"),
        (([],), ValueError, "layer_sizes must hold at least 2 sizes, got []"),
        (([5, 0, 2],), ValueError, "layer_sizes[1] must be an integer >= 1, got 0"),
        (([5, 2.0],), TypeError, "layer_sizes[1] must be an integer >= 1, got 2.0"),
        (([True, 2],), TypeError, "layer_sizes[0] must be an integer >= 1, got True"),
        ((5,), TypeError, "layer_sizes must be a sequence of integers, got 5"),
        (("64",), TypeError, "layer_sizes must be a sequence of integers, got '64'"),
    ],
)
def test_bad_layer_sizes(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Network(*arguments)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seed": -1}, ValueError, "seed must be an integer >= 0, got -1"),
        ({"seed": 2**64}, ValueError, "seed must be an integer below 2**64, got"),
        ({"seed": 0.0}, TypeError, "seed must be an integer >= 0, got 0.0"),
        ({"dtype": "float16"}, ValueError, "dtype must be 'float32' or 'float64', got 'float16'"),
        ({"dtype": int}, ValueError, "dtype must be 'float32' or 'float64', got"),
        ({"dtype": None}, ValueError, "dtype must be 'float32' or 'float64', got None"),
        (
            {"activation": "logistic"},
            ValueError,
            "activation must be 'identity', 'sigmoid', 'tanh'",
        ),
        ({"activation": "ReLU"}, ValueError, "got 'ReLU'"),
        ({"activation": None}, ValueError, "got None"),
        ({"activation": 1}, ValueError, "got 1"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Network([2, 2], **options)


@pytest.mark.parametrize("dtype", ["float64", np.float64, np.dtype("f8"), float])
def test_dtype_in_any_spelling(dtype):
    assert Network([2, 2], dtype=dtype).parameters.dtype == np.dtype("float64")


def test_repr(data):
    net = Network(SIZES, seed=3)
    assert repr(net) == "<Network 6-5-4-3 float32, seed 3: 74 parameters, 0 epochs trained>"
    net.fit(*data, epochs=1)
    assert "1 epoch trained" in repr(net)
    assert repr(Network([2, 2], activation="relu")).startswith("<Network 2-2 relu float32, seed 0:")


def test_first_weights_of_each_activation():
    words = Network(SIZES, dtype="float64")
    for activation, gain in (("identity", 1), ("tanh", 1), ("relu", math.sqrt(2))):
        net = Network(SIZES, activation=activation, dtype="float64")
        assert net.activation == activation
        np.testing.assert_array_equal(net.weights[0], words.weights[0])
        for ours, theirs in zip(net.weights[1:], words.weights[1:], strict=True):
            np.testing.assert_allclose(ours, theirs * (gain / 4), rtol=1e-15)


# Training


def test_fit_matches_the_reference(data):
    """Mini-batches, a short last one, momentum, L2 and weights, in float64."""
    X, y = data
    weight = np.random.default_rng(0).uniform(size=61)
    net = Network(SIZES, dtype="float64")
    expected = reference_network.Trainer(net.weights, net.biases)
    hyper = {"learning_rate": 0.2, "momentum": 0.8, "l2": 0.001}
    net.fit(X, y, epochs=3, batch_size=8, sample_weight=weight, shuffle=False, **hyper)
    onehot = reference.onehot(y, 3)
    for _ in range(3):
        for start in range(0, 61, 8):
            rows = slice(start, start + 8)
            expected.step(X[rows], onehot[rows], weight[rows], **hyper)
    assert_near(net.parameters, expected.flat(), float, factor=100)


def test_fit_agrees_with_scikit_learn(data):
    X, y = data
    peer = MLPClassifier(
        (5, 4),
        activation="logistic",
        solver="sgd",
        alpha=0,
        batch_size=8,
        learning_rate_init=0.3,
        momentum=0.9,
        nesterovs_momentum=False,
        shuffle=False,
        warm_start=True,
        max_iter=1,
        random_state=0,
    )
    with pytest.warns(ConvergenceWarning):
        peer.fit(X, y)
    net = Network(SIZES, dtype="float64")
    for ours, theirs in zip(net.weights + net.biases, peer.coefs_ + peer.intercepts_, strict=True):
        ours[:] = theirs
    peer.set_params(max_iter=5)
    with pytest.warns(ConvergenceWarning):
        peer.fit(X, y)  # from where it was, with a new optimiser
    history = net.fit(X, y, epochs=5, batch_size=8, learning_rate=0.3, shuffle=False)
    for ours, theirs in zip(net.weights + net.biases, peer.coefs_ + peer.intercepts_, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
    np.testing.assert_allclose(history.loss, peer.loss_curve_[-5:], rtol=0, atol=1e-9)
    np.testing.assert_allclose(net.predict_proba(X), peer.predict_proba(X), rtol=0, atol=1e-9)


def test_fit_agrees_with_torch(data):
    torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")
    X, y = data
    net = Network(SIZES, dtype="float64")
    parameters = [torch.tensor(p, requires_grad=True) for p in (*net.weights, *net.biases)]
    weights, biases = parameters[:3], parameters[3:]
    descent = torch.optim.SGD(parameters, lr=0.3, momentum=0.9)
    inputs, labels = torch.from_numpy(X), torch.from_numpy(y)
    for start in 5 * list(range(0, 61, 8)):
        a = inputs[start : start + 8]
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            a = torch.sigmoid(a @ w + b)
        z = a @ weights[-1] + biases[-1]
        descent.zero_grad()
        torch.nn.functional.cross_entropy(z, labels[start : start + 8]).backward()
        descent.step()
    net.fit(X, y, epochs=5, batch_size=8, learning_rate=0.3, shuffle=False)
    for ours, theirs in zip(net.weights + net.biases, parameters, strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-9)


def torch_optimizer(torch, optimizer, weights, biases):
    """torch's own of the same kind; its weight decay is for weights alone, as here."""
    if isinstance(optimizer, SGD):
        return torch.optim.SGD(
            [*weights, *biases],
            lr=optimizer.learning_rate,
            momentum=optimizer.momentum,
            nesterov=optimizer.nesterov,
        )
    groups = [
        {"params": weights, "weight_decay": optimizer.weight_decay},
        {"params": biases, "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if optimizer.weight_decay else torch.optim.Adam
    betas = (optimizer.beta_1, optimizer.beta_2)
    return kind(groups, lr=optimizer.learning_rate, betas=betas, eps=optimizer.epsilon)


@every_activation
@every_optimizer
def test_every_optimizer_agrees_with_torch(activation, optimizer, data):
    torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")
    activate = {"identity": lambda z: z}.get(activation) or getattr(torch, activation)
    X, y = data
    net = Network(SIZES, activation=activation, dtype="float64")
    parameters = [torch.tensor(p, requires_grad=True) for p in (*net.weights, *net.biases)]
    weights, biases = parameters[:3], parameters[3:]
    stepper = torch_optimizer(torch, optimizer, weights, biases)
    inputs, labels = torch.from_numpy(X), torch.from_numpy(y)
    for start in 5 * list(range(0, 61, 8)):
        a = inputs[start : start + 8]
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            a = activate(a @ w + b)
        z = a @ weights[-1] + biases[-1]
        stepper.zero_grad()
        torch.nn.functional.cross_entropy(z, labels[start : start + 8]).backward()
        stepper.step()
    before = net.parameters.copy()
    net.fit(X, y, epochs=5, batch_size=8, optimizer=optimizer, shuffle=False)
    assert abs(net.parameters - before).max() > 0.05
    for ours, theirs in zip(net.weights + net.biases, parameters, strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-10)


@every_activation
@every_optimizer
def test_fit_with_any_optimizer_matches_the_reference(activation, optimizer, data):
    X, y = data
    weight = np.random.default_rng(0).uniform(size=61)
    net = Network(SIZES, activation=activation, dtype="float64")
    expected = reference_network.Trainer(net.weights, net.biases, activation)
    how = dataclasses.asdict(optimizer)
    step = expected.adam_step if isinstance(optimizer, Adam) else expected.step
    net.fit(
        *(X, y),
        epochs=2,
        batch_size=8,
        sample_weight=weight,
        shuffle=False,
        optimizer=optimizer,
        l2=0.001,
    )
    onehot = reference.onehot(y, 3)
    for _ in range(2):
        for start in range(0, 61, 8):
            rows = slice(start, start + 8)
            step(X[rows], onehot[rows], weight[rows], l2=0.001, **how)
    assert_near(net.parameters, expected.flat(), float, factor=500)


def test_rate_and_momentum_stand_for_an_optimizer(data):
    nets = [Network(SIZES) for _ in range(4)]
    nets[0].fit(*data, epochs=2)
    nets[1].fit(*data, epochs=2, learning_rate=0.1, momentum=0.9)
    nets[2].fit(*data, epochs=2, optimizer=SGD())
    nets[3].fit(*data, epochs=2, optimizer=SGD(0.1, 0.9))
    assert len({digest(net) for net in nets}) == 1


@pytest.mark.compiled
@every_activation
@every_optimizer
def test_it_learns_with_any_optimizer(activation, optimizer, data, dtype):
    net = Network(SIZES, activation=activation, dtype=dtype)
    history = net.fit(*data, epochs=60, batch_size=8, optimizer=optimizer)
    assert history.loss[-1] < 0.7 * history.loss[0]
    assert net.score(*data) > 0.8


@pytest.mark.compiled
def test_it_learns(data, dtype):
    X, y = data
    net = Network(SIZES, dtype=dtype)
    history = net.fit(X, y, epochs=60, batch_size=8, learning_rate=0.3)
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert net.score(X, y) > 0.9


def test_same_bits_in_every_run_and_any_slices(data, dtype, monkeypatch):
    runs = [Network(SIZES, dtype=dtype) for _ in range(3)]
    histories = [net.fit(*data, epochs=4, batch_size=7) for net in runs[:2]]
    slices.one_by_one(monkeypatch)
    histories.append(runs[2].fit(*data, epochs=4, batch_size=7))
    assert len({digest(net) for net in runs}) == 1
    for history in histories[1:]:
        assert (history.loss, history.accuracy) == (histories[0].loss, histories[0].accuracy)


@every_optimizer
def test_fit_goes_on_where_it_ended(optimizer, data, dtype):
    whole, parts = Network(SIZES, dtype=dtype), Network(SIZES, dtype=dtype)
    how = {"batch_size": 8, "optimizer": optimizer}
    history = whole.fit(*data, epochs=5, **how)
    first, second = (parts.fit(*data, epochs=n, **how) for n in (2, 3))
    assert digest(whole) == digest(parts)
    assert whole.epoch == parts.epoch == 5
    assert history.loss == first.loss + second.loss


OTHER_KIND = [(SGD(0.1), Adam(0.01)), (Adam(0.01), SGD(0.1)), (Adam(0.01), None)]


@pytest.mark.parametrize(("first", "second"), OTHER_KIND, ids=["to adam", "to sgd", "to default"])
def test_a_change_of_the_optimizer_forgets_what_the_other_has_left(first, second, data):
    net, fresh = Network(SIZES), Network(SIZES)
    net.fit(*data, epochs=2, optimizer=first)
    assert net.second_moment.size == (net.parameters.size if isinstance(first, Adam) else 0)
    fresh.parameters = net.parameters
    for each in (net, fresh):
        each.fit(*data, epochs=1, optimizer=second, shuffle=False)
    assert digest(net) == digest(fresh)
    assert net.second_moment.size == (net.parameters.size if isinstance(second, Adam) else 0)


def test_a_change_of_the_numbers_forgets_nothing(data):
    for first, second in ((SGD(0.1), SGD(0.2, nesterov=True)), (Adam(), Adam(0.1, 0.5))):
        net, fresh = Network(SIZES), Network(SIZES)
        net.fit(*data, epochs=2, optimizer=first)
        fresh.parameters = net.parameters
        for each in (net, fresh):
            each.fit(*data, epochs=1, optimizer=second, shuffle=False)
        assert digest(net) != digest(fresh)


def test_a_refused_optimizer_forgets_nothing(data):
    net = Network(SIZES)
    net.fit(*data, epochs=1)
    before = digest(net)
    with pytest.raises(ValueError, match="must hold labels"):
        net.fit(data[0], data[1] + 9, optimizer=Adam())
    assert digest(net) == before


@every_optimizer
def test_reset_starts_over(optimizer, data):
    net = Network(SIZES)
    net.fit(*data, epochs=2, optimizer=optimizer)
    trained = digest(net)
    net.reset()
    assert (net.parameters == Network(SIZES).parameters).all()
    assert not net.velocity.any()
    assert not net.second_moment.any()
    assert net.epoch == 0
    net.fit(*data, epochs=2, optimizer=optimizer)
    assert digest(net) == trained


def test_velocity_can_be_forgotten(data):
    net, other = Network(SIZES), Network(SIZES)
    net.fit(*data, epochs=1)
    other.parameters = net.parameters
    net.velocity = np.zeros_like(net.parameters)
    for each in (net, other):
        each.fit(*data, epochs=1, shuffle=False)
    assert digest(net) == digest(other)


def test_shuffling(data):
    """Each epoch has its own order; none at all without shuffling."""
    X, y = data
    plain, shuffled = Network(SIZES), Network(SIZES)
    plain.fit(X, y, epochs=1, batch_size=8, shuffle=False)
    shuffled.fit(X, y, epochs=1, batch_size=8)
    assert digest(plain) != digest(shuffled)
    net = Network([2, 2])
    orders = []
    for _ in range(3):
        orders.append(row_order(net, 6))
        net.fit(np.zeros((6, 2)), [0] * 6, epochs=1)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert row_order(Network([2, 2], seed=1), 6) != orders[0]


def test_batch_larger_than_the_data_is_all_of_it(data):
    net, other = Network(SIZES), Network(SIZES)
    net.fit(*data, epochs=2, batch_size=61)
    other.fit(*data, epochs=2, batch_size=10**12)
    assert digest(net) == digest(other)


@pytest.mark.compiled
@pytest.mark.parametrize("sizes", [(6, 3), (6, 4, 3), (6, 7, 5, 4, 3, 3)])
def test_any_depth(data, sizes, dtype):
    net = Network(sizes, dtype=dtype)
    before = net.loss(*data)
    net.fit(*data, epochs=30, batch_size=8)
    assert net.loss(*data) < before


def test_one_class_has_nothing_to_learn(dtype):
    net = Network([2, 3, 1], dtype=dtype)
    before = net.parameters.copy()
    history = net.fit(np.eye(2), [0, 0], epochs=2)
    np.testing.assert_array_equal(net.parameters, before)
    assert history.loss == [0, 0]
    assert history.accuracy == [1, 1]
    np.testing.assert_array_equal(net.predict_proba(np.eye(2)), 1)


def test_data_stay_as_they_are(data):
    X, y = (array.copy() for array in data)
    weight = np.ones(61)
    for array in (X, y, weight):
        array.flags.writeable = False
    net = Network(SIZES, dtype="float64")
    net.fit(X, y, epochs=1, sample_weight=weight, validation_data=(X, y))
    np.testing.assert_array_equal(X, data[0])
    np.testing.assert_array_equal(y, data[1])


# Labels, weights and the types of data


def test_labels_onehot_and_probabilities(data, dtype):
    X, y = data
    onehot = reference.onehot(y, 3)
    results = []
    for answers in (y, y.astype(np.uint8), y.tolist(), onehot, onehot.astype(int), onehot.tolist()):
        net = Network(SIZES, dtype=dtype)
        history = net.fit(X, answers, epochs=3, batch_size=8)
        results.append((net.parameters, history.accuracy, net.score(X, answers)))
    for parameters, accuracy, score in results[1:]:
        assert_near(parameters, results[0][0], dtype, factor=200)
        assert accuracy == results[0][1]
        assert score == results[0][2]


def test_soft_targets(rng, dtype):
    X, y = rng.normal(size=(10, 6)), rng.dirichlet(np.ones(3), 10)
    net = Network(SIZES, dtype=dtype)
    loss, grad_w, _ = net.gradients(X, y)
    X, y = X.astype(dtype), y.astype(dtype)
    exact, exact_w, _ = reference_network.gradients(net.weights, net.biases, X, y)
    assert loss == pytest.approx(float(exact), rel=float(8 * np.finfo(dtype).eps))
    assert_near(grad_w[0], exact_w[0], dtype)
    assert net.loss(X, y) == pytest.approx(loss, rel=float(4 * np.finfo(dtype).eps))


def test_weights_of_rows_count_as_repetitions(data, dtype):
    X, y = data
    weight = np.random.default_rng(2).integers(0, 4, 61)
    weight[0] = 0
    repeated = np.repeat(np.arange(61), weight)
    net = Network(SIZES, dtype=dtype)
    loss, grad_w, grad_b = net.gradients(X, y, sample_weight=weight)
    other, other_w, other_b = net.gradients(X[repeated], y[repeated])
    assert loss == pytest.approx(other, rel=float(20 * np.finfo(dtype).eps))
    for ours, theirs in zip(grad_w + grad_b, other_w + other_b, strict=True):
        assert_near(ours, theirs, dtype)
    assert net.loss(X, y, sample_weight=weight) == pytest.approx(loss, rel=1e-6)
    expected = np.average(net.predict(X) == y, weights=weight)
    assert net.score(X, y, sample_weight=weight) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("scale", [2.0**-1074, 2.0**-1000, 2.0**1000, 2.0**1023])
def test_weights_of_rows_of_any_scale(scale, data, dtype):
    """A mean does not depend on it; of a power of two, not by a bit."""
    X, y = data
    weight = np.where(y == 0, 1.0, 0.0)
    results = []
    for factor in (1.0, scale):
        net = Network(SIZES, dtype=dtype)
        given = {"sample_weight": factor * weight}
        history = net.fit(X, y, epochs=2, batch_size=8, **given)
        loss, grad_w, _ = net.gradients(X, y, **given)
        figures = loss, net.loss(X, y, **given), net.score(X, y, **given)
        results.append((history.loss, digest(net), figures, [g.tolist() for g in grad_w]))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", ["shuffle", "progress", "resume"])
def test_flags_that_are_neither_true_nor_false(name, data):
    with pytest.raises(TypeError, match=rf"{name} must be True or False, got array\(\[1, 0\]\)"):
        Network(SIZES).fit(*data, **{name: np.array([1, 0])})


def test_callbacks_that_return_neither_true_nor_false(data):
    with pytest.raises(TypeError, match="what callback returns must be True or False, got array"):
        Network(SIZES).fit(*data, callback=lambda *_: np.array([1, 0]))


def test_batches_without_weight_are_no_obstacle(data):
    X, y = data
    weight = np.zeros(61)
    weight[40:] = 1
    net = Network(SIZES, dtype="float64")
    history = net.fit(X, y, epochs=2, batch_size=8, sample_weight=weight, shuffle=False)
    assert np.isfinite(history.loss).all()


def test_input_is_converted_once(data):
    X, y = data
    net, other = Network(SIZES), Network(SIZES)
    net.fit(X, y, epochs=2)
    other.fit(X.astype(np.float32), y, epochs=2)
    assert digest(net) == digest(other)
    assert net.predict_proba(X).dtype == np.float32


@pytest.mark.parametrize(
    "form",
    [
        lambda X: X.tolist(),
        lambda X: np.asfortranarray(X),
        lambda X: X.astype(">f8"),
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: X[::-1].copy()[::-1],
    ],
    ids=["list", "Fortran order", "big-endian", "strided", "negative strides"],
)
def test_input_in_any_form(data, form):
    X, y = data
    net, other = Network(SIZES, dtype="float64"), Network(SIZES, dtype="float64")
    net.fit(X, y, epochs=1)
    other.fit(form(X), y, epochs=1)
    assert digest(net) == digest(other)
    np.testing.assert_array_equal(net.predict_proba(form(X)), net.predict_proba(X))


def test_right_input_is_not_copied(data, monkeypatch):
    seen = []

    def make_data(x, labels, targets, row_weight, original=state.make_data):
        seen.append(x)
        return original(x, labels, targets, row_weight)

    monkeypatch.setattr(state, "make_data", make_data)
    X = data[0].astype(np.float32)
    Network(SIZES).fit(X, data[1], epochs=2)
    assert len(seen) == 1
    assert seen[0] is X


# History, validation, callback, progress


def test_history(data):
    X, y = data
    net = Network(SIZES, dtype="float64")
    before = net.loss(X, y), net.score(X, y)
    history = net.fit(X, y, epochs=3, batch_size=61)
    assert len(history) == 3
    assert [len(history.loss), len(history.accuracy), len(history.time)] == [3, 3, 3]
    assert history.val_loss == history.val_accuracy == []
    # One batch per epoch: the running mean is that of the parameters before the step.
    assert history.loss[0] == pytest.approx(before[0], rel=1e-14)
    assert history.accuracy[0] == before[1]
    assert all(seconds > 0 for seconds in history.time)
    values = history.loss + history.accuracy + history.time
    assert all(type(value) is float for value in values)


def test_history_is_a_running_weighted_mean(data):
    X, y = data
    weight = np.random.default_rng(0).uniform(size=61)
    net = Network(SIZES, dtype="float64")
    expected = reference_network.Trainer(net.weights, net.biases)
    onehot, total = reference.onehot(y, 3), 0
    for start in range(0, 61, 8):
        rows = slice(start, start + 8)
        loss = expected.step(
            X[rows], onehot[rows], weight[rows], learning_rate=0.1, momentum=0.9, l2=0.1
        )
        total += loss * weight[rows].sum()
    history = net.fit(X, y, epochs=1, batch_size=8, sample_weight=weight, shuffle=False, l2=0.1)
    assert history.loss[0] == pytest.approx(float(total / weight.sum()), rel=1e-13)


def test_validation(data):
    X, y = data
    net, other = Network(SIZES), Network(SIZES)
    history = net.fit(X[:40], y[:40], epochs=3, validation_data=(X[40:], y[40:]))
    for epoch in range(3):
        other.fit(X[:40], y[:40], epochs=1)
        assert history.val_loss[epoch] == other.loss(X[40:], y[40:])
        assert history.val_accuracy[epoch] == other.score(X[40:], y[40:])
    assert digest(net) == digest(other)  # looking on changes nothing


def test_callback(data):
    calls = []

    def callback(network, epoch, entry):
        calls.append((network, epoch, entry))
        return epoch == 4

    net = Network(SIZES)
    net.fit(*data, epochs=1)
    history = net.fit(*data, epochs=10, validation_data=data, callback=callback)
    assert len(history) == 3
    assert net.epoch == 4
    assert [epoch for _, epoch, _ in calls] == [2, 3, 4]
    assert all(network is net for network, _, _ in calls)
    names = ["loss", "accuracy", "time", "val_loss", "val_accuracy"]
    assert [list(entry) for _, _, entry in calls] == [names] * 3
    assert [entry["val_loss"] for _, _, entry in calls] == history.val_loss
    calls[0][2]["loss"] = -1  # the history is the network's own
    assert history.loss[0] > 0


def test_callback_that_fails_leaves_a_usable_network(data):
    def fail(network, epoch, entry):
        raise RuntimeError("no more")

    net, other = Network(SIZES), Network(SIZES)
    with pytest.raises(RuntimeError, match="no more"):
        net.fit(*data, epochs=3, callback=fail)
    other.fit(*data, epochs=1)
    assert (digest(net), net.epoch) == (digest(other), 1)


def test_progress_bar(data, capsys):
    pytest.importorskip("tqdm")
    net = Network(SIZES)
    net.fit(*data, epochs=2, batch_size=8, validation_data=data, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "16/16" in captured.err
    assert re.search(
        r"epoch 2/2  loss \d\.\d{4}  accuracy \d\.\d{4}  val_loss \d\.\d{4}  val_accuracy",
        captured.err,
    )


def test_progress_lines_without_tqdm(data, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    net = Network(SIZES)
    net.fit(*data, epochs=1)
    net.fit(*data, epochs=2, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 2
    for line, number in zip(lines, (2, 3), strict=True):
        assert re.fullmatch(rf"epoch {number}/3  loss [\d.]+  accuracy [\d.]+  [\d.]+ s", line)


def test_silent_by_default(data, capsys):
    Network(SIZES).fit(*data, epochs=1)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


# What goes wrong


def test_divergence_in_a_step(data):
    X, y = data
    net = Network([6, 3])
    net.fit(X, y, epochs=2)
    expected = net.parameters.copy()
    with np.errstate(all="ignore"), pytest.raises(DivergenceError) as caught:
        net.fit(X, y, epochs=5, batch_size=8, learning_rate=3e38, momentum=0.99)
    error = caught.value
    assert isinstance(error, FloatingPointError)
    assert isinstance(error, ValueError)
    assert error.epoch == 3
    assert 0 < error.step < 8
    assert len(error.history) == 0
    assert re.search(rf"the loss .* in epoch 3, step {error.step} of 8; .* epoch 2", str(error))
    np.testing.assert_array_equal(net.parameters, expected)
    assert net.epoch == 2
    assert not net.velocity.any()
    net.fit(X, y, epochs=1)
    assert np.isfinite(net.parameters).all()


@every_optimizer
def test_divergence_of_every_optimizer(optimizer, data):
    X, y = data
    net = Network(SIZES, activation="relu")
    net.fit(X, y, epochs=1, optimizer=optimizer)
    expected = net.parameters.copy()
    wild = dataclasses.replace(optimizer, learning_rate=1e30)
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match=r"below 1e\+30"):
        net.fit(X, y, epochs=20, batch_size=8, optimizer=wild)
    np.testing.assert_array_equal(net.parameters, expected)
    assert not net.velocity.any()
    assert not net.second_moment.any()
    fresh = Network(SIZES, activation="relu")
    fresh.parameters = expected
    for each in (net, fresh):  # the number of steps is forgotten, too
        each.fit(X, y, epochs=1, optimizer=optimizer, shuffle=False)
    assert digest(net) == digest(fresh)


def test_divergence_of_the_last_step(data):
    net = Network([6, 3])
    expected = net.parameters.copy()
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match="a parameter") as caught:
        net.fit(*data, epochs=1, batch_size=61, learning_rate=1e300)
    assert caught.value.step is None
    assert caught.value.epoch == 1
    np.testing.assert_array_equal(net.parameters, expected)
    assert not net.velocity.any()


def test_divergence_after_some_epochs(data):
    net = Network([6, 3])
    seen = []

    def keep(network, epoch, entry):
        seen.append(network.parameters.copy())

    with np.errstate(all="ignore"), pytest.raises(DivergenceError) as caught:
        net.fit(*data, epochs=100, batch_size=61, learning_rate=10, l2=10, callback=keep)
    assert 2 < len(seen) == net.epoch == len(caught.value.history) < 100
    assert caught.value.epoch == net.epoch + 1
    np.testing.assert_array_equal(net.parameters, seen[-1])
    assert np.isfinite(net.parameters).all()


def test_interrupt_of_a_run_that_has_diverged_unnoticed(data, monkeypatch):
    net = Network(SIZES)
    before = net.parameters.copy()
    slices.after_steps(monkeypatch, 3, slices.interrupt, spoil=True)
    with pytest.raises(KeyboardInterrupt):
        net.fit(*data, epochs=3, batch_size=8)
    np.testing.assert_array_equal(net.parameters, before)
    assert not net.velocity.any()


X0, Y0 = np.zeros((4, 2)), [0, 1, 1, 0]
BAD_X = [
    (np.zeros((4, 3)), ValueError, "{} must have 2 columns"),
    (np.zeros(2), ValueError, "{} must be 2-D, got shape (2,)"),
    (np.zeros((4, 2, 1)), ValueError, "{} must be 2-D, got shape (4, 2, 1)"),
    (np.zeros((4, 2), complex), TypeError, "{} must be an array of float32, float64 or integers"),
    (np.zeros((4, 2), np.float16), TypeError, "got dtype float16"),
    (np.zeros((4, 2), bool), TypeError, "got dtype bool"),
    (np.zeros((4, 2), object), TypeError, "got dtype object"),
    ([[0, 1], [0]], ValueError, "{} must be an array"),
    (np.ma.masked_equal(np.zeros((4, 2)), 0), TypeError, "{} must be an array without missing"),
]
BAD_Y = [
    ([0, 1, 2, 0], ValueError, "{} must hold labels from 0 to 1, got 2 in row 2"),
    ([0, 1, -1, 0], ValueError, "{} must hold labels from 0 to 1, got -1 in row 2"),
    ([0.0, 1.0, 1.0, 0.0], TypeError, "{} must be integer labels, got dtype float64"),
    (["a", "b", "a", "b"], TypeError, "{} must be integer labels, got dtype <U1"),
    ([0, 1, 1], ValueError, "{} must have shape (4,), got (3,)"),
    (0, ValueError, "{} must have shape (4,), got ()"),
    ([[0, 1], [0]], ValueError, "{} must be an array"),
    (np.zeros((4, 3)), ValueError, "{} must have shape (4, 2), got (4, 3)"),
    (np.zeros((4, 2)), ValueError, "{} must hold rows that sum to 1, got a sum of 0.0 in row 0"),
    (
        [[1, 0], [2, -1], [0, 1], [0, 1]],
        ValueError,
        "{} must hold probabilities, got -1.0 in row 1",
    ),
    (np.full((4, 2), np.nan), ValueError, "{} must hold probabilities, got nan in row 0"),
]
BAD_WEIGHT = [
    ([1, 1, -1, 1], ValueError, "sample_weight must be finite and not negative, got -1.0 in row 2"),
    ([1, np.nan, 1, 1], ValueError, "sample_weight must be finite and not negative, got nan"),
    ([1, np.inf, 1, 1], ValueError, "sample_weight must be finite and not negative, got inf"),
    ([0, 0, 0, 0], ValueError, "sample_weight must not be all zero"),
    ([1, 1], ValueError, "sample_weight must have shape (4,), got (2,)"),
]
NO_ROWS = (np.zeros((0, 2)), ValueError, "X must have at least one row, got shape (0, 2)")
BAD_OPTIONS = [
    ({"epochs": 0}, ValueError, "epochs must be an integer >= 1, got 0"),
    ({"epochs": 1.5}, TypeError, "epochs must be an integer >= 1, got 1.5"),
    ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1, got 0"),
    ({"batch_size": None}, TypeError, "batch_size must be an integer >= 1, got None"),
    ({"learning_rate": 0}, ValueError, "learning_rate must be a finite number > 0, got 0"),
    ({"learning_rate": math.nan}, ValueError, "learning_rate must be a finite number > 0, got nan"),
    ({"learning_rate": "0.1"}, TypeError, "learning_rate must be a finite number > 0, got '0.1'"),
    ({"momentum": 1.0}, ValueError, "momentum must be a number in [0, 1), got 1.0"),
    ({"momentum": -0.1}, ValueError, "momentum must be a number in [0, 1), got -0.1"),
    ({"l2": -1}, ValueError, "l2 must be a finite number >= 0, got -1"),
    ({"l2": math.inf}, ValueError, "l2 must be a finite number >= 0, got inf"),
    ({"callback": 3}, TypeError, "callback must be callable or None, got 3"),
    ({"optimizer": "adam"}, TypeError, "optimizer must be an SGD, an Adam or None, got 'adam'"),
    ({"optimizer": Adam}, TypeError, "optimizer must be an SGD, an Adam or None, got <class"),
    (
        {"optimizer": Adam(), "learning_rate": 0.1},
        ValueError,
        "learning_rate must be given to the optimizer or without one, got 0.1 and Adam(",
    ),
    (
        {"optimizer": SGD(), "momentum": 0.9},
        ValueError,
        "momentum must be given to the optimizer or without one, got 0.9 and SGD(",
    ),
    ({"validation_data": X0}, TypeError, "validation_data must be a pair (X, y), got ndarray"),
    ({"validation_data": (X0,)}, ValueError, "validation_data must be a pair (X, y), got 1 items"),
]
NOT_FINITE = [
    ([[0, 1], [np.nan, 1], [0, 0], [0, 0]], ValueError, "X must be finite, got nan in row 1"),
    ([[0, 1], [0, 1], [0, -np.inf], [0, 0]], ValueError, "X must be finite, got -inf in row 2"),
]


def refuse(message, error, name, method, *args, **options):
    """The call fails as it says, and the network is none the worse."""
    __tracebackhide__ = True
    net = Network([2, 3, 2])
    net.fit(X0, Y0, epochs=1)
    before = digest(net), net.epoch
    with pytest.raises(error, match=re.escape(message.format(name))):
        getattr(net, method)(*args, **options)
    assert (digest(net), net.epoch) == before


with_answers = pytest.mark.parametrize("method", ["fit", "loss", "score", "gradients"])


@with_answers
@pytest.mark.parametrize(("X", "error", "message"), [*BAD_X, NO_ROWS])
def test_bad_rows(method, X, error, message):
    refuse(message, error, "X", method, X, Y0)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
@pytest.mark.parametrize(("X", "error", "message"), BAD_X)
def test_bad_rows_to_predict(method, X, error, message):
    refuse(message, error, "X", method, X)


@with_answers
@pytest.mark.parametrize(("y", "error", "message"), BAD_Y)
def test_bad_answers(method, y, error, message):
    refuse(message, error, "y", method, X0, y)


@with_answers
@pytest.mark.parametrize(("weight", "error", "message"), BAD_WEIGHT)
def test_bad_weights(method, weight, error, message):
    refuse(message, error, "", method, X0, Y0, sample_weight=weight)


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS)
def test_bad_options_of_fit(options, error, message):
    refuse(message, error, "", "fit", X0, Y0, **options)


@pytest.mark.parametrize(("X", "error", "message"), BAD_X)
def test_bad_validation_rows(X, error, message):
    refuse(message, error, "validation_data[0]", "fit", X0, Y0, validation_data=(X, Y0))


@pytest.mark.parametrize(("y", "error", "message"), BAD_Y)
def test_bad_validation_answers(y, error, message):
    refuse(message, error, "validation_data[1]", "fit", X0, Y0, validation_data=(X0, y))


@pytest.mark.parametrize(("X", "error", "message"), NOT_FINITE)
def test_rows_to_learn_are_finite(X, error, message):
    refuse(message, error, "", "fit", X, Y0)


def test_parameters_to_start_from_are_finite():
    net = Network([2, 2])
    net.weights[0][0, 0] = np.nan
    with pytest.raises(ValueError, match="parameters must be finite"):
        net.fit(X0, Y0)


# Prediction and gradients


def test_predictions_match_the_reference(data, dtype):
    X, _ = data
    net = Network(SIZES, dtype=dtype)
    *_, z = reference_network.forward(net.weights, net.biases, X.astype(dtype))
    assert_near(net.predict_proba(X), reference.softmax(z), dtype)
    assert_near(net.predict_log_proba(X), reference.log_softmax(z), dtype)
    np.testing.assert_array_equal(net.predict(X), np.argmax(z, axis=1))
    assert net.predict(X).dtype == np.intp
    assert net.predict_proba(X).dtype == dtype


@pytest.mark.parametrize(
    "sizes",
    [SIZES, pytest.param([6, 1030, 3], marks=pytest.mark.compiled)],  # many rows are packed
    ids=["small", "wide"],
)
def test_a_row_does_not_depend_on_the_others(sizes, rng, dtype, monkeypatch):
    X = rng.normal(size=(301, 6)).astype(dtype)
    net = Network(sizes, dtype=dtype)
    together = net.predict_proba(X), net.predict_log_proba(X)
    for rows in (slice(0, 1), slice(7, 8), slice(255, 258), slice(300, 301), slice(3, 300, 7)):
        np.testing.assert_array_equal(net.predict_proba(X[rows]), together[0][rows])
        np.testing.assert_array_equal(net.predict_log_proba(X[rows]), together[1][rows])
        np.testing.assert_array_equal(net.predict(X[rows]), net.predict(X)[rows])
    slices.one_by_one(monkeypatch)
    np.testing.assert_array_equal(net.predict_proba(X), together[0])


@pytest.mark.parametrize("sizes", [(6, 3), SIZES])
def test_no_rows_to_predict(sizes):
    net = Network(sizes)
    nothing = np.empty((0, 6))
    assert net.predict(nothing).shape == (0,)
    assert net.predict_proba(nothing).shape == (0, 3)
    assert net.predict_log_proba(nothing).shape == (0, 3)


def test_rows_that_hold_nan(data):
    X = data[0].copy()
    X[5, 2] = np.nan
    net = Network(SIZES, dtype="float64")
    a = net.predict_proba(X)
    assert np.isnan(a[5]).all()
    others = np.arange(61) != 5
    np.testing.assert_array_equal(a[others], net.predict_proba(data[0])[others])
    with pytest.raises(ValueError, match=r"X must give finite logits, got \[nan.* in row 5"):
        net.predict(X)
    assert np.isnan(net.loss(X, data[1]))


def test_confident_predictions_keep_their_logarithm(dtype):
    net = Network([1, 2], dtype=dtype)
    net.parameters[:] = [40, -40, 0, 0]
    log_a = net.predict_log_proba([[1.0]])
    assert_ulp("log_softmax", log_a, reference.log_softmax(np.array([[40.0, -40.0]])))
    assert net.loss([[1.0]], [0]) == pytest.approx(math.exp(-80), rel=1e-6)
    assert net.loss([[1.0]], [1]) == pytest.approx(80, rel=1e-6)


@pytest.mark.parametrize("sizes", [(6, 3), (6, 5, 3), SIZES, (6, 5, 4, 5, 3)])
def test_gradients_are_the_slopes_of_the_loss(sizes, data):
    X, y = (array[:9] for array in data)
    net = Network(sizes, dtype="float64")
    loss, grad_w, grad_b = net.gradients(X, y)
    assert loss == pytest.approx(net.loss(X, y), rel=1e-14)
    slope = np.empty_like(net.parameters)
    for q, centre in enumerate(net.parameters.tolist()):
        net.parameters[q] = centre + STEP
        above = net.loss(X, y)
        net.parameters[q] = centre - STEP
        slope[q] = (above - net.loss(X, y)) / (2 * STEP)
        net.parameters[q] = centre
    got = np.concatenate([grad.ravel() for grad in grad_w + grad_b])
    np.testing.assert_allclose(got, slope, rtol=0, atol=FINITE_DIFFERENCE)


@every_activation
@pytest.mark.parametrize("sizes", [(6, 3), SIZES, (6, 5, 4, 5, 3)], ids=str)
def test_gradients_are_the_slopes_of_the_loss_in_longdouble(sizes, activation, data):
    """Of the loss alone: no derivative that the reference knows takes part."""
    X, y = (array[:9] for array in data)
    net = Network(sizes, activation=activation, dtype="float64")
    for b in net.biases:
        b[:] = 0.1  # where all units below are at rest, relu would be at its kink
    _, grad_w, grad_b = net.gradients(X, y)
    layers = [[reference.wide(p).copy() for p in part] for part in (net.weights, net.biases)]
    onehot, step = reference.onehot(y, 3), np.longdouble(2) ** -20

    def loss():
        *_, z = reference_network.forward(*layers, X, activation=activation)
        return reference.cross_entropy_targets(z, onehot).mean()

    for part, grad in zip(layers[0] + layers[1], grad_w + grad_b, strict=True):
        slope = np.empty(part.shape)
        for place in np.ndindex(part.shape):
            centre = part[place]
            part[place] = centre + step
            above = loss()
            part[place] = centre - step
            slope[place] = (above - loss()) / (2 * step)
            part[place] = centre
        # central differences with steps of 1e-6: what is left out is about 1e-12
        np.testing.assert_allclose(grad, slope, rtol=0, atol=1e-10)


@every_activation
def test_predictions_of_any_activation_match_the_reference(activation, data, dtype):
    X, _ = data
    net = Network(SIZES, activation=activation, dtype=dtype)
    net.biases[0][:] = 0.25
    *_, z = reference_network.forward(
        net.weights, net.biases, X.astype(dtype), activation=activation
    )
    assert_near(net.predict_proba(X), reference.softmax(z), dtype)
    assert_near(net.predict_log_proba(X), reference.log_softmax(z), dtype)


@pytest.mark.parametrize(
    ("scale", "allowed"),
    [(1, reference_network.FRESH), (10, reference_network.SATURATED)],
    ids=["fresh", "saturated"],
)
@pytest.mark.parametrize("sizes", [(64, 10), (64, 32, 10), (64, 100, 50, 10)], ids=str)
def test_gradients_are_accurate(sizes, scale, allowed, dtype, rng):
    X, y = rng.uniform(size=(32, 64)).astype(dtype), rng.integers(0, 10, 32)
    net = Network(sizes, dtype=dtype)
    net.parameters *= scale
    _, grad_w, grad_b = net.gradients(X, y)
    onehot = reference.onehot(y, 10)
    _, exact_w, exact_b = reference_network.gradients(net.weights, net.biases, X, onehot)
    _, rounded_w, rounded_b = reference_network.gradients(
        net.weights, net.biases, X, onehot, dtype=dtype
    )
    least = max(
        reference_network.norm_error(rounded, exact, dtype)
        for rounded, exact in zip(rounded_w + rounded_b, exact_w + exact_b, strict=True)
    )
    most = max(allowed, reference_network.TIMES_ROUNDED * least)
    for grad, exact in zip(grad_w + grad_b, exact_w + exact_b, strict=True):
        assert reference_network.norm_error(grad, exact, dtype) <= most


def test_gradients_are_new_arrays(data):
    net = Network(SIZES)
    before = digest(net)
    _, grad_w, _ = net.gradients(*data)
    grad_w[0][:] = 0
    assert net.gradients(*data)[1][0].any()
    assert digest(net) == before
    assert isinstance(grad_w, list)


# The order of the sums, and numbers too small to matter


def summed(numbers, add=reference.added_in_turn):
    """The sum over a batch: of blocks, then in a tree."""
    return reference.added_in_a_tree([add(numbers[b]) for b in reference.blocks_of(len(numbers))])


def error_of(net, X, labels, row_weight):
    """Of a network without hidden layers: output error, mean loss, accuracy; by the kernels."""
    weight, z, loss = summed(row_weight), net.logits(X), np.empty(len(X), net.dtype)
    delta = np.empty_like(z)
    fastbp.kernels.softmax_cross_entropy(z, labels, row_weight, loss, delta, 1 / weight)
    correct = np.where(np.argmax(z, axis=1) == labels, row_weight, 0)
    return delta, summed(loss, fastbp.kernels.loss_sum) / weight, summed(correct) / weight


@pytest.mark.compiled
@pytest.mark.parametrize("n", [1, 128, 129, 256, 257, 300, 513, 700, 1100])
def test_sums_over_a_batch_are_added_in_a_tree(n, rng, dtype):
    """Gradients, losses and weights, to the last bit; those of a step are in the velocity."""
    X, y, weight = rng.normal(size=(n, 230)).astype(dtype), rng.integers(0, 35, n), rng.random(n)
    net = Network([230, 35], dtype=dtype)
    delta, mean_loss, accuracy = error_of(net, X, y, weight)
    rows, columns = [0, 13, 229], [0, 16, 34]
    grad_w = reference.product_in_blocks(X.T[rows], delta[:, columns], reference.added_in_a_tree)
    grad_b = reference.column_sums_in_blocks(delta).astype(dtype)
    loss, (found_w,), (found_b,) = net.gradients(X, y, sample_weight=weight)
    np.testing.assert_array_equal(found_w[np.ix_(rows, columns)], grad_w)
    np.testing.assert_array_equal(found_b, grad_b)
    assert loss == mean_loss
    for optimizer, sign in ((SGD(1.0, momentum=0.0), -1), (Adam(beta_1=0.0), 1)):
        net = Network([230, 35], dtype=dtype)
        history = net.fit(
            *(X, y),
            epochs=1,
            batch_size=n,
            sample_weight=weight,
            optimizer=optimizer,
            shuffle=False,
        )
        step = Network([230, 35], dtype=dtype)
        step.parameters = sign * net.velocity
        np.testing.assert_array_equal(step.weights[0][np.ix_(rows, columns)], grad_w)
        np.testing.assert_array_equal(step.biases[0], grad_b)
        assert (history.loss, history.accuracy) == ([mean_loss], [accuracy])
    np.testing.assert_array_equal(net.second_moment, dtype.type(1 - 0.999) * net.velocity**2)


def test_tiny_activations_and_errors_are_zero_in_training_alone(dtype):
    """The smallest that count are 2^-60 and 2^-500; predictions and kernels keep all others."""
    tiny = 2.0 ** (-60 if dtype == np.float32 else -500)
    net = Network([1, 4, 2], activation="identity", dtype=dtype)
    w_1, w_2 = net.weights
    w_1[:] = [[tiny / 2, tiny, 1, 1]]
    w_2[:] = [[2 / tiny, 0], [0, 1], [1, 0.5], [tiny, 0]]
    X, y = np.ones((1, 1), dtype), np.zeros(1, np.intp)
    kept = np.empty((1, 4), dtype)
    fastbp.kernels.dense_forward(X, w_1, net.biases[0], kept)
    np.testing.assert_array_equal(kept, w_1)
    np.testing.assert_array_equal(net.logits(X), [[2, 0.5]])
    # a half of the smallest that counts is left out, and with it a logit of 1
    a, z = np.array([[0, tiny, 1, 1]], dtype), np.array([[1, 0.5]], dtype)
    loss, delta = np.empty(1, dtype), np.empty((1, 2), dtype)
    fastbp.kernels.softmax_cross_entropy(z, y, np.empty(0), loss, delta, 1.0)
    carried = np.empty_like(a)
    fastbp.kernels.hidden_error_of(delta, w_2, a, carried, 0)
    assert 0 < abs(carried[0, 3]) < tiny < abs(carried[0, 1])
    carried[0, 3] = 0
    found, grad_w, grad_b = net.gradients(X, y)
    assert found == loss[0]
    expected = [carried, a.T @ delta, carried[0], delta[0]]
    for got, right in zip(grad_w + grad_b, expected, strict=True):
        np.testing.assert_array_equal(got, right)
    net.fit(X, y, epochs=1, learning_rate=1.0, momentum=0.0)
    np.testing.assert_array_equal(-net.velocity, np.concatenate([g.ravel() for g in expected]))


def test_a_row_that_is_all_but_certain_is_learnt_from_no_more(dtype):
    net = Network([1, 2], dtype=dtype)
    net.parameters[:] = [50 if dtype == np.float32 else 400, 0, 0, 0]
    loss, grad_w, grad_b = net.gradients([[1.0]], [0])
    assert loss == net.loss([[1.0]], [0]) > 0
    assert not grad_w[0].any()
    assert not grad_b[0].any()
    net.fit([[1.0]], [0], epochs=1)
    assert not net.velocity.any()


# Copies


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, copy.copy, lambda net: pickle.loads(pickle.dumps(net))],
    ids=["deepcopy", "copy", "pickle"],
)
@every_optimizer
@every_activation
def test_copies(activation, optimizer, duplicate, data):
    net = Network(SIZES, activation=activation, dtype="float64", seed=7)
    net.fit(*data, epochs=2, optimizer=optimizer)
    twin = duplicate(net)
    assert twin.activation == activation
    assert repr(twin) == repr(net)
    assert digest(twin) == digest(net)
    assert not np.shares_memory(twin.parameters, net.parameters)
    assert not np.shares_memory(twin.velocity, net.velocity)
    assert not np.shares_memory(twin.second_moment, net.second_moment)
    for part in (*twin.weights, *twin.biases):
        assert np.shares_memory(part, twin.parameters)
    for each in (net, twin):
        each.fit(*data, epochs=2, optimizer=optimizer)
    assert digest(twin) == digest(net)
    twin.weights[0][:] = 0
    assert not twin.parameters[:30].any()
    assert net.parameters[:30].any()


def test_public_names():
    assert fastbp.Network is Network
    assert fastbp.DivergenceError is DivergenceError


# Threads


@pytest.fixture
def shared(monkeypatch):
    """The smallest work is shared by as many threads as there may be; what each run asked for."""
    asked = []
    run = threads.run

    def spy(n_threads, work):
        asked.append(n_threads)
        run(n_threads, work)

    monkeypatch.setattr(threads, "run", spy)
    threads.team.cache_clear()  # nothing is known yet of what is fast
    monkeypatch.setattr(training_run, "PER_THREAD", 1)
    monkeypatch.setattr(network, "_PER_THREAD", 1)
    return asked


@pytest.fixture(params=[False, True], ids=["large slices", "small slices"])
def sliced(request, monkeypatch):
    """Compiled code is entered now and then, or as often as can be."""
    if request.param:
        slices.one_by_one(monkeypatch)


N_THREADS = [1, 2, 3, 4, 7, 16]


@pytest.mark.compiled
@pytest.mark.usefixtures("sliced")
def test_predictions_have_the_same_bits_in_any_batch_for_any_number_of_threads(
    rng, dtype, shared, monkeypatch
):
    monkeypatch.setattr(network, "_BLOCK", 16)
    net = Network([33, 47, 21, 5], dtype=dtype)
    X = rng.normal(size=(203, 33)).astype(dtype)
    methods = net.predict_proba, net.predict_log_proba, net.predict
    alone = [
        np.concatenate([method(X[i : i + 1], n_threads=1) for i in range(len(X))])
        for method in methods
    ]
    for n_threads in N_THREADS:
        shared.clear()
        for first, last in ((0, 203), (0, 17), (3, 150), (187, 203)):
            for method, expected in zip(methods, alone, strict=True):
                found = method(X[first:last], n_threads=n_threads)
                np.testing.assert_array_equal(found, expected[first:last])
        assert max(shared) == min(n_threads, 203 // 16 + 1)


@pytest.mark.compiled
def test_loss_and_score_have_the_same_bits_for_any_number_of_threads(rng, dtype, shared):
    net = Network([33, 47, 21, 5], dtype=dtype)
    X, y = rng.normal(size=(900, 33)), rng.integers(0, 5, 900)
    found = [(net.loss(X, y, n_threads=n), net.score(X, y, n_threads=n)) for n in N_THREADS]
    assert len(set(found)) == 1
    assert set(shared) == {1, 2, 3, 4}  # as many as there are blocks of rows


def test_small_work_stays_on_this_thread(data, monkeypatch):
    def refuse():
        raise AssertionError("a thread was started")

    monkeypatch.setattr(threads, "_Worker", refuse)
    monkeypatch.setattr(threads, "_idle", [])
    net = Network(SIZES)
    net.fit(*data, epochs=2, n_threads=16)
    net.predict(np.zeros((1000, 6)), n_threads=16)


BAD_THREADS = [
    (0, ValueError, "n_threads must be an integer >= 1, got 0"),
    (-1, ValueError, "n_threads must be an integer >= 1, got -1"),
    (1.5, TypeError, "n_threads must be an integer >= 1, got 1.5"),
    ("2", TypeError, "n_threads must be an integer >= 1, got '2'"),
    (True, TypeError, "n_threads must be an integer >= 1, got True"),
]
with_threads = pytest.mark.parametrize(
    "method", ["fit", "predict", "predict_proba", "predict_log_proba", "loss", "score"]
)


def rows_for(method):
    """What the method takes: rows, and where it compares, answers."""
    return (X0,) if method.startswith("predict") else (X0, Y0)


@with_threads
@pytest.mark.parametrize(("n_threads", "error", "message"), BAD_THREADS)
def test_bad_numbers_of_threads(method, n_threads, error, message):
    refuse(message, error, "", method, *rows_for(method), n_threads=n_threads)


@with_threads
@pytest.mark.parametrize("n_threads", [None, 1, np.int64(2), np.uint8(3), 1000])
def test_any_integer_is_a_number_of_threads(method, n_threads):
    getattr(Network([2, 3, 2]), method)(*rows_for(method), n_threads=n_threads)


@pytest.mark.compiled
@pytest.mark.parametrize(("text", "expected"), [("", 3), ("2", 2), ("1", 1), ("100", 3)])
def test_default_number_of_threads(text, expected, shared, rng, monkeypatch):
    for name in threads.LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FASTBP_NUM_THREADS", text)
    monkeypatch.setattr(threads, "_allowed_cpus", lambda: 3)
    monkeypatch.setattr(threads, "_cgroup_quota", lambda root: None)
    X, y = rng.normal(size=(900, 6)), rng.integers(0, 3, 900)
    net = Network(SIZES)
    for method in (net.fit, net.loss, net.score):
        method(X, y)
    for method in (net.predict, net.predict_proba, net.predict_log_proba):
        method(X)
    net.fit(X, y, validation_data=(X, y))
    assert {expected} <= set(shared) <= {1, expected}


@pytest.mark.compiled
@pytest.mark.usefixtures("shared")
def test_several_networks_learn_at_once(rng, dtype):
    X, y = rng.normal(size=(400, 33)), rng.integers(0, 5, 400)

    def learn(sizes, n_threads):
        net = Network(sizes, dtype=dtype, seed=3)
        net.fit(X, y, epochs=6, batch_size=29, n_threads=n_threads)
        return digest(net)

    every_size = ([33, 47, 21, 5], [33, 5], [33, 20, 5])
    expected = [learn(sizes, 1) for sizes in every_size]
    for n_threads in (1, 2, 3):
        calls = (lambda args=(sizes, n_threads): learn(*args) for sizes in every_size)
        assert together(*calls) == expected


@pytest.mark.compiled
@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("n_threads", [1, 3])
def test_one_network_predicts_for_several_threads_at_once(n_threads, rng, dtype):
    net = Network([33, 47, 21, 5], dtype=dtype)
    X = rng.normal(size=(4, 900, 33)).astype(dtype)

    def predict(rows, n_threads):
        return [method(rows, n_threads=n_threads) for method in (net.predict_proba, net.predict)]

    expected = [predict(rows, 1) for rows in X]
    calls = (lambda rows=rows: [predict(rows, n_threads) for _ in range(5)] for rows in X)
    for several, right in zip(together(*calls), expected, strict=True):
        for found in several:
            for one, other in zip(found, right, strict=True):
                np.testing.assert_array_equal(one, other)


def test_rows_that_are_predicted_at_the_same_time_share_no_memory(rng, monkeypatch):
    """A second prediction begins within a first one; a third takes over what one of them had."""
    net, x = Network(SIZES), rng.random((1, 6), np.float32)
    net.logits(x)  # leaves memory for the next one
    logits, memory = passes.logits, []

    def spy(*arguments):
        memory.append((arguments[3], arguments[5]))
        if len(memory) == 1:
            net.logits(x)
        logits(*arguments)

    monkeypatch.setattr(parallel, "logits", spy)
    found = net.logits(x), net.logits(x)
    np.testing.assert_array_equal(*found)
    assert len(memory) == 3
    for first, second, third in zip(*memory, strict=True):
        assert not np.shares_memory(first, second)
        assert third is first or third is second


@pytest.mark.parametrize(
    "optimizer", [fastbp.SGD(0.1), fastbp.SGD(0.1, nesterov=True), fastbp.Adam()]
)
def test_what_is_remembered_of_a_silent_column_does_not_become_subnormal(optimizer):
    net = Network([3, 4, 2], seed=0)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 3)), rng.integers(0, 2, 8)
    net.fit(X, y, epochs=1, optimizer=optimizer)
    X[:, 1] = 0
    for memory in (net._memory.velocity, net._memory.second_moment):
        if memory is not None:
            memory *= np.float32(1e-35)  # as after some hundred steps
    net.fit(X, y, epochs=parallel.FLUSH * 5 - 1, optimizer=optimizer)
    smallest = np.finfo(np.float32).tiny
    for memory in (net.velocity, net.second_moment):
        assert ((memory == 0) | (abs(memory) >= smallest)).all()
    assert (net.velocity[4:8] == 0).all()  # of the weights that the column enters


def test_adam_whose_second_moment_overflows_has_diverged():
    """Its parameters would stand still, and the loss with them."""
    net = Network([1, 2], seed=0)
    before = net.parameters.copy()
    with pytest.raises(fastbp.DivergenceError, match="mean of a squared gradient became infinite"):
        net.fit([[1e22], [-1e22]], [0, 1], optimizer=fastbp.Adam(1e-30))
    np.testing.assert_array_equal(net.parameters, before)


def test_an_epsilon_that_float32_does_not_hold_is_refused():
    data = [[0.0, 1.0], [1.0, 0.0]], [0, 1]
    with pytest.raises(ValueError, match=r"epsilon must be at least 1\.18e-38, .* got 1e-50"):
        Network([2, 2]).fit(*data, optimizer=fastbp.Adam(epsilon=1e-50))
    Network([2, 2], dtype="float64").fit(*data, optimizer=fastbp.Adam(epsilon=1e-50))
