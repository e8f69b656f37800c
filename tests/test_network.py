"""The model class: its state, training, prediction, gradients, and everything it refuses."""

import copy
import dataclasses
import math
import pickle
import tracemalloc

import numpy as np
import pytest
import reference
import trainings
from together import together
from tolerances import assert_ulp
from trainings import OPTIMIZERS, SIZES, digest

import fastbp
from fastbp import SGD, Adam, Network
from fastbp.backprop import passes, state
from fastbp.kernels.activation import ACTIVATIONS
from fastbp.training import cpus, predict, threads

compiled = pytest.mark.compiled
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def assert_near(got, exact, dtype, factor=20):
    __tracebackhide__ = True
    exact = np.asarray(exact, float)
    allowed = factor * np.finfo(dtype).eps
    np.testing.assert_allclose(got, exact, rtol=allowed, atol=allowed * abs(exact).max())


# The network itself


def test_weights_and_biases_are_views_of_one_vector():
    net = Network(SIZES)
    assert (net.layer_sizes, net.dtype) == ((6, 5, 4, 3), np.float32)
    assert [w.shape for w in net.weights] == [(6, 5), (5, 4), (4, 3)]
    assert [b.shape for b in net.biases] == [(5,), (4,), (3,)]
    parts = [part.ravel() for part in (*net.weights, *net.biases)]
    np.testing.assert_array_equal(net.parameters, np.concatenate(parts))
    assert all(np.shares_memory(part, net.parameters) for part in parts)
    with pytest.raises(TypeError):
        net.weights[0] = np.zeros((6, 5))
    with pytest.raises(AttributeError):
        net.weights = [np.zeros((6, 5))]


def test_weights_set_in_place_are_honoured_at_once(dtype, rng):
    net = Network(SIZES, dtype=dtype)
    X, y = rng.normal(size=(9, 6)).astype(dtype), rng.integers(0, 3, 9)
    for part in (*net.weights, *net.biases):
        part[:] = rng.normal(size=part.shape)
    *_, z = reference.forward(net.weights, net.biases, X)
    assert_near(net.predict_proba(X), reference.softmax(z), dtype)
    before = reference.Trainer(net.weights, net.biases)
    net.fit(X, y, epochs=1, batch_size=9, momentum=0, shuffle=False, learning_rate=0.25)
    before.step(X, reference.onehot(y, 3), learning_rate=0.25)
    assert_near(net.parameters, before.flat(), dtype)


@pytest.mark.parametrize("name", ["parameters", "velocity"])
def test_vectors_are_assigned_by_value(name):
    net, values = Network([2, 2]), np.arange(6.0)
    setattr(net, name, values)
    values[:] = 9
    np.testing.assert_array_equal(getattr(net, name), np.arange(6))
    if name == "parameters":
        np.testing.assert_array_equal(net.weights[0], [[0, 1], [2, 3]])
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
    drawn = Network(SIZES, seed=None)
    assert 0 <= drawn.seed < 2**64
    assert digest(Network(SIZES, seed=drawn.seed)) == digest(drawn)
    assert Network([1, 1], seed=2**64 - 1).seed == 2**64 - 1
    assert Network(SIZES, seed=None).seed != drawn.seed


def test_first_weights_of_each_activation():
    sigmoid = Network(SIZES, dtype="float64")
    for activation, gain in {"identity": 1, "tanh": 1, "relu": math.sqrt(2), "sigmoid": 4}.items():
        net = Network(SIZES, activation=activation, dtype="float64")
        for layer, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
            bound = (gain if layer else 1) * math.sqrt(6 / sum(w.shape))
            assert 0.8 * bound < abs(w).max() <= bound
            assert w.min() < 0 < w.max()
            assert not b.any()
            expected = sigmoid.weights[layer] * (gain / 4 if layer else 1)
            np.testing.assert_allclose(w, expected, rtol=1e-15)


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
        trained = copy.deepcopy(net)
        # One row per step, and only one row counts: the momentum decays by the steps after it.
        how = {"batch_size": 1, "momentum": 0.5, "sample_weight": np.eye(n)[row]}
        trained.fit(X, [0] * n, epochs=1, **how)
        seen.append(abs(trained.velocity).max())
    return np.argsort(seen).tolist()


def test_repr_and_dtype_in_any_spelling(data):
    net = Network(SIZES, seed=3)
    assert repr(net) == "<Network 6-5-4-3 float32, seed 3: 74 parameters, 0 epochs trained>"
    net.fit(*data, epochs=1)
    assert "1 epoch trained" in repr(net)
    assert repr(Network([2, 2], activation="relu")).startswith("<Network 2-2 relu float32, seed 0:")
    for dtype in ("float64", np.float64, np.dtype("f8"), float):
        assert Network([2, 2], dtype=dtype).parameters.dtype == np.dtype("float64")


# Training


DEPTHS = dict(zip(ACTIVATIONS, [(6, 3), SIZES, (6, 4, 3), (6, 7, 5, 4, 3, 3)], strict=True))


@every_activation
@every_optimizer
def test_fit_matches_the_reference(activation, optimizer, data):
    """Mini-batches, a short last one, L2 and weights, in float64."""
    X, y = data
    weight = np.random.default_rng(0).uniform(size=61)
    net = Network(DEPTHS[activation], activation=activation, dtype="float64")
    expected = reference.Trainer(net.weights, net.biases, activation)
    step = expected.adam_step if isinstance(optimizer, Adam) else expected.step
    how = {"epochs": 2, "batch_size": 8, "l2": 0.001, "optimizer": optimizer}
    net.fit(X, y, sample_weight=weight, shuffle=False, **how)
    onehot = reference.onehot(y, 3)
    for start in 2 * list(range(0, 61, 8)):
        rows = slice(start, start + 8)
        step(X[rows], onehot[rows], weight[rows], l2=0.001, **dataclasses.asdict(optimizer))
    assert_near(net.parameters, expected.flat(), float, factor=500)


def test_rate_and_momentum_stand_for_an_optimizer(data):
    nets = [Network(SIZES) for _ in range(3)]
    nets[0].fit(*data, epochs=2)
    nets[1].fit(*data, epochs=2, learning_rate=0.1, momentum=0.9)
    nets[2].fit(*data, epochs=2, optimizer=SGD(0.1, 0.9))
    assert len({digest(net) for net in nets}) == 1


@compiled
def test_it_learns(data, dtype):
    X, y = data
    net = Network(SIZES, dtype=dtype)
    history = net.fit(X, y, epochs=60, batch_size=8, learning_rate=0.3)
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert net.score(X, y) > 0.9


@every_optimizer
def test_fit_goes_on_where_it_ended(optimizer, data, dtype):
    whole, parts = Network(SIZES, dtype=dtype), Network(SIZES, dtype=dtype)
    how = {"batch_size": 8, "optimizer": optimizer}
    history = whole.fit(*data, epochs=5, **how)
    first, second = (parts.fit(*data, epochs=n, **how) for n in (2, 3))
    assert digest(whole) == digest(parts)
    assert whole.epoch == parts.epoch == 5
    assert history.loss == first.loss + second.loss


@pytest.mark.parametrize(
    ("first", "second", "forgets"),
    [
        (SGD(0.1), Adam(0.01), True),
        (Adam(0.01), SGD(0.1), True),
        (Adam(0.01), None, True),
        (SGD(0.1), SGD(0.2, nesterov=True), False),
        (Adam(), Adam(0.1, 0.5), False),
    ],
)
def test_a_change_of_the_kind_of_optimizer_forgets_its_state(first, second, forgets, data):
    net, fresh = Network(SIZES), Network(SIZES)
    net.fit(*data, epochs=2, optimizer=first)
    assert net.second_moment.size == (net.parameters.size if isinstance(first, Adam) else 0)
    before = digest(net)
    with pytest.raises(ValueError, match="must hold labels"):
        net.fit(data[0], data[1] + 9, optimizer=second)
    assert digest(net) == before
    fresh.parameters = net.parameters
    for each in (net, fresh):
        each.fit(*data, epochs=1, optimizer=second, shuffle=False)
    assert (digest(net) == digest(fresh)) is forgets
    assert net.second_moment.size == (net.parameters.size if isinstance(second, Adam) else 0)


@every_optimizer
def test_reset_and_forget(optimizer, data):
    net, other = Network(SIZES), Network(SIZES)
    net.fit(*data, epochs=2, optimizer=optimizer)
    trained = digest(net)
    other.parameters = net.parameters
    net.forget()
    assert net.epoch == 2
    for each in (net, other):
        each.fit(*data, epochs=1, optimizer=optimizer, shuffle=False)
    assert digest(net) == digest(other)
    net.reset()
    assert (net.parameters == Network(SIZES).parameters).all()
    assert not net.velocity.any()
    assert not net.second_moment.any()
    assert net.epoch == 0
    net.fit(*data, epochs=2, optimizer=optimizer)
    assert digest(net) == trained


def test_shuffling(data):
    """Each epoch has its own order; none at all without shuffling."""
    plain, shuffled = Network(SIZES), Network(SIZES)
    plain.fit(*data, epochs=1, batch_size=8, shuffle=False)
    shuffled.fit(*data, epochs=1, batch_size=8)
    assert digest(plain) != digest(shuffled)
    net, orders = Network([2, 2]), []
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


def test_one_class_has_nothing_to_learn(dtype):
    net = Network([2, 3, 1], dtype=dtype)
    before = net.parameters.copy()
    history = net.fit(np.eye(2), [0, 0], epochs=2)
    np.testing.assert_array_equal(net.parameters, before)
    assert (history.loss, history.accuracy) == ([0, 0], [1, 1])
    np.testing.assert_array_equal(net.predict_proba(np.eye(2)), 1)


# Labels, weights and the types of data


def test_labels_onehot_and_probabilities(data, dtype):
    X, y = data
    onehot = reference.onehot(y, 3)
    results = []
    for answers in (y, y.astype(np.uint8), y.tolist(), onehot, onehot.astype(int), onehot.tolist()):
        net = Network(SIZES, dtype=dtype)
        history = net.fit(X, answers, epochs=3, batch_size=8)
        results.append((net.parameters, history.accuracy, net.score(X, answers)))
    for parameters, *others in results[1:]:
        assert_near(parameters, results[0][0], dtype, factor=200)
        assert tuple(others) == results[0][1:]


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
    """A mean does not depend on it, nor a bit on a power of two.  Some batches weigh nothing."""
    X, y = data
    weight = np.where((y == 0) & (np.arange(61) >= 40), 1.0, 0.0)
    results = []
    for factor in (1.0, scale):
        net, given = Network(SIZES, dtype=dtype), {"sample_weight": factor * weight}
        history = net.fit(X, y, epochs=2, batch_size=8, shuffle=False, **given)
        loss, grad_w, _ = net.gradients(X, y, **given)
        figures = loss, net.loss(X, y, **given), net.score(X, y, **given)
        results.append((history.loss, digest(net), figures, [g.tolist() for g in grad_w]))
    assert results[0] == results[1]
    assert np.isfinite(results[0][0]).all()


@pytest.mark.parametrize(
    "form",
    [
        lambda X: X.tolist(),
        np.asfortranarray,
        lambda X: X.astype(">f8"),
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: X[::-1].copy()[::-1],
    ],
    ids=["list", "Fortran order", "big-endian", "strided", "negative strides"],
)
def test_input_in_any_form(data, form):
    X, y = data
    net, other = Network(SIZES), Network(SIZES)
    net.fit(X.astype("f4"), y, epochs=1)
    other.fit(form(X), y, epochs=1)
    assert digest(net) == digest(other)
    np.testing.assert_array_equal(net.predict_proba(form(X)), net.predict_proba(X))


def test_right_input_is_neither_copied_nor_changed(data, monkeypatch):
    seen = []

    def make_data(x, *others, original=state.Data):
        seen.append(x)
        return original(x, *others)

    monkeypatch.setattr(state, "Data", make_data)
    X, y, weight = data[0].astype(np.float32), data[1].copy(), np.ones(61)
    for array in (y, weight):
        array.flags.writeable = False
    Network(SIZES).fit(X, y, epochs=2, sample_weight=weight)
    assert len(seen) == 1
    assert seen[0] is X
    X.flags.writeable = False
    Network(SIZES).fit(X, y, epochs=2, validation_data=(X, y))
    np.testing.assert_array_equal(X, data[0].astype(np.float32))


def test_parameters_to_start_from_are_finite():
    net = Network([2, 2])
    net.weights[0][0, 0] = np.nan
    with pytest.raises(ValueError, match="parameters must be finite"):
        net.fit(np.zeros((4, 2)), [0, 1, 1, 0])


# Prediction and gradients


@every_activation
def test_predictions_match_the_reference(activation, data, dtype):
    X, _ = data
    net = Network(SIZES, activation=activation, dtype=dtype)
    net.biases[0][:] = 0.25
    *_, z = reference.forward(net.weights, net.biases, X.astype(dtype), activation=activation)
    assert_near(net.logits(X), z, dtype)
    assert_near(net.predict_proba(X), reference.softmax(z), dtype)
    assert_near(net.predict_log_proba(X), reference.log_softmax(z), dtype)
    np.testing.assert_array_equal(net.predict(X), np.argmax(z, axis=1))
    assert (net.predict(X).dtype, net.predict_proba(X).dtype) == (np.intp, dtype)


@pytest.mark.parametrize("sizes", [(6, 3), SIZES])
def test_no_rows_to_predict(sizes):
    net, nothing = Network(sizes), np.empty((0, 6))
    assert net.predict(nothing).shape == (0,)
    assert net.predict_proba(nothing).shape == net.predict_log_proba(nothing).shape == (0, 3)


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


@every_activation
@pytest.mark.parametrize("sizes", [(6, 3), SIZES, (6, 5, 4, 5, 3)], ids=str)
def test_gradients_are_the_slopes_of_the_loss(sizes, activation, data):
    """In longdouble, of the loss alone: no derivative that the reference knows takes part."""
    X, y = (array[:9] for array in data)
    net = Network(sizes, activation=activation, dtype="float64")
    for b in net.biases:
        b[:] = 0.1  # keeps relu off its kink at 0
    found, grad_w, grad_b = net.gradients(X, y)
    assert found == pytest.approx(net.loss(X, y), rel=1e-14)
    layers = [[reference.wide(p).copy() for p in part] for part in (net.weights, net.biases)]
    onehot, step = reference.onehot(y, 3), np.longdouble(2) ** -20

    def loss():
        *_, z = reference.forward(*layers, X, activation=activation)
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
        # Central differences with steps of 1e-6 err by about 1e-12.
        np.testing.assert_allclose(grad, slope, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("scale", "allowed"),
    [(1, reference.FRESH), (10, reference.SATURATED)],
    ids=["fresh", "saturated"],
)
@pytest.mark.parametrize("soft", [False, True], ids=["labels", "targets"])
@pytest.mark.parametrize("sizes", [(64, 10), (64, 100, 50, 10)], ids=str)
def test_gradients_are_accurate(sizes, soft, scale, allowed, dtype, rng):
    X, y = rng.uniform(size=(32, 64)).astype(dtype), rng.integers(0, 10, 32)
    targets = rng.dirichlet(np.ones(10), 32).astype(dtype) if soft else reference.onehot(y, 10)
    net = Network(sizes, dtype=dtype)
    net.parameters *= scale
    loss, grad_w, grad_b = net.gradients(X, targets if soft else y)
    exact, exact_w, exact_b = reference.gradients(net.weights, net.biases, X, targets)
    _, rounded_w, rounded_b = reference.gradients(net.weights, net.biases, X, targets, dtype=dtype)
    assert loss == pytest.approx(float(exact), rel=float(8 * np.finfo(dtype).eps))
    least = max(
        reference.norm_error(rounded, right, dtype)
        for rounded, right in zip(rounded_w + rounded_b, exact_w + exact_b, strict=True)
    )
    most = max(allowed, reference.TIMES_ROUNDED * least)
    for grad, right in zip(grad_w + grad_b, exact_w + exact_b, strict=True):
        assert reference.norm_error(grad, right, dtype) <= most


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
@pytest.mark.parametrize("n", [1, 128, 129, 257, 513, 1100])
def test_sums_over_a_batch_are_added_in_a_tree(n, rng, dtype):
    """Gradients, losses and weights, to the last bit.  After one step, the velocity holds them."""
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
    single = dtype == np.float32
    optimizer, sign = (SGD(1.0, momentum=0.0), -1) if single else (Adam(beta_1=0.0), 1)
    how = {"epochs": 1, "batch_size": n, "shuffle": False, "optimizer": optimizer}
    history = net.fit(X, y, sample_weight=weight, **how)
    step = Network([230, 35], dtype=dtype)
    step.parameters = sign * net.velocity
    np.testing.assert_array_equal(step.weights[0][np.ix_(rows, columns)], grad_w)
    np.testing.assert_array_equal(step.biases[0], grad_b)
    assert (history.loss, history.accuracy) == ([mean_loss], [accuracy])
    if not single:
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
def test_copies(optimizer, duplicate, data):
    net = Network(SIZES, activation="relu", dtype="float64", seed=7)
    net.fit(*data, epochs=2, optimizer=optimizer)
    twin = duplicate(net)
    assert repr(twin) == repr(net)
    assert digest(twin) == digest(net)
    assert not np.shares_memory(twin.parameters, net.parameters)
    for part in (*twin.weights, *twin.biases):
        assert np.shares_memory(part, twin.parameters)
    for each in (net, twin):
        each.fit(*data, epochs=2, optimizer=optimizer)
    assert digest(twin) == digest(net)
    twin.weights[0][:] = 0
    assert not twin.parameters[:30].any()
    assert net.parameters[:30].any()


# Threads


@pytest.fixture
def shared(monkeypatch):
    """The smallest work is shared by as many threads as there may be; what each run asked for."""
    asked, run = [], threads.run

    def spy(n_threads, work):
        asked.append(n_threads)
        run(n_threads, work)

    monkeypatch.setattr(threads, "run", spy)
    trainings.share_all(monkeypatch)
    return asked


N_THREADS = [1, 2, 3, 4, 7, 16]


@compiled
@pytest.mark.parametrize("sizes", [[33, 47, 21, 5], [33, 1030, 5]], ids=["small", "packed"])
@pytest.mark.parametrize("in_slices", [False, True], ids=["large slices", "small slices"])
def test_rows_have_the_same_bits_in_any_batch_for_any_number_of_threads(
    sizes, in_slices, rng, dtype, shared, monkeypatch
):
    if in_slices:
        trainings.one_by_one(monkeypatch)
    monkeypatch.setattr(predict, "ROWS_PER_BLOCK", 16)
    net = Network(sizes, dtype=dtype)
    X = rng.normal(size=(203, 33)).astype(dtype)
    methods = net.predict_proba, net.predict_log_proba, net.predict
    alone = [
        np.concatenate([method(X[i : i + 1], n_threads=1) for i in range(len(X))])
        for method in methods
    ]
    for n_threads in N_THREADS:
        shared.clear()
        for rows in (slice(203), slice(17), slice(3, 150), slice(187, 203), slice(3, 200, 7)):
            for method, expected in zip(methods, alone, strict=True):
                found = method(X[rows], n_threads=n_threads)
                np.testing.assert_array_equal(found, expected[rows])
        assert max(shared) == min(n_threads, 203 // 16 + 1)


@compiled
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
    net.gradients(*data)


@compiled
@pytest.mark.parametrize(("text", "expected"), [("", 3), ("2", 2), ("1", 1), ("100", 3)])
def test_default_number_of_threads(text, expected, shared, rng, monkeypatch):
    for name in cpus.LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FASTBP_NUM_THREADS", text)
    monkeypatch.setattr(cpus, "allowed_cpus", lambda: 3)
    monkeypatch.setattr(cpus, "_cgroup_quota", lambda root: None)
    X, y = rng.normal(size=(900, 6)), rng.integers(0, 3, 900)
    net = Network(SIZES)
    for call in (net.loss, net.score, net.predict, net.predict_proba, net.predict_log_proba):
        call(*[X, y][: 2 if call in (net.loss, net.score) else 1])
    net.fit(X, y, validation_data=(X, y))
    assert set(shared) == {expected}


@compiled
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


@compiled
@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("n_threads", [1, 3])
def test_one_network_predicts_for_several_threads_at_once(n_threads, rng, dtype):
    net = Network([33, 47, 21, 5], dtype=dtype)
    X = rng.normal(size=(4, 900, 33)).astype(dtype)
    expected = [net.logits(rows, n_threads=1) for rows in X]
    calls = (
        lambda rows=rows: [net.logits(rows, n_threads=n_threads) for _ in "12345"] for rows in X
    )
    for several, right in zip(together(*calls), expected, strict=True):
        for found in several:
            np.testing.assert_array_equal(found, right)


def test_rows_that_are_predicted_at_the_same_time_share_no_memory(rng, monkeypatch):
    """A second prediction begins within a first one; a third takes over what one of them had."""
    net, x = Network(SIZES), rng.random((1, 6), np.float32)
    net.logits(x)  # leaves memory for the next one
    logits, memory = passes.logits, []

    def spy(*arguments):
        memory.append(arguments[6])
        if len(memory) == 1:
            net.logits(x)
        logits(*arguments)

    monkeypatch.setattr(passes, "logits", spy)
    np.testing.assert_array_equal(net.logits(x), net.logits(x))
    first, second, third = memory
    assert not np.shares_memory(first, second)
    assert third is first or third is second


def test_summary_counts_what_there_is():
    net = Network([6, 5, 3], activation="tanh", dtype="float64")
    summary = net.summary()
    assert [row[:4] for row in summary.rows] == [(1, "tanh", 6, 5), (2, "softmax", 5, 3)]
    assert [row.n_parameters for row in summary.rows] == [35, 18]
    assert (summary.n_parameters, summary.n_bytes) == (net.parameters.size, net.parameters.nbytes)
    assert summary.optimizer == "velocity after 0 updates"
    assert summary.n_optimizer_bytes >= net.velocity.nbytes
    of_velocity = summary.n_optimizer_bytes
    net.fit(np.zeros((4, 6)), [0, 1, 2, 0], epochs=1, batch_size=4, optimizer=Adam())
    summary = net.summary()
    assert summary.optimizer == "first and second moment of Adam after 1 update"
    assert summary.n_optimizer_bytes == 2 * of_velocity
    text, html = str(summary), net._repr_html_()
    assert text.splitlines()[0] == repr(net)
    for cell in ("5 x 3", "144", "53", "424"):
        assert f" {cell}" in text
        assert f"<td>{cell}</td>" in html
    assert "&lt;Network 6-5-3 tanh float64" in html


@pytest.mark.compiled
def test_many_rows_of_bytes_are_not_copied():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (1 << 14, 1 << 10), np.uint8)
    y, weight = rng.integers(0, 3, len(X)), rng.random(len(X))
    X.flags.writeable = False
    results = []
    for x in (X, X.astype("float32")):
        net = Network([X.shape[1], 4, 3], seed=1)
        how = {"epochs": 1, "batch_size": 500, "learning_rate": 1e-4, "sample_weight": weight}
        history = net.fit(x, y, **how, validation_data=(x, y))
        measured = history.val_loss, net.loss(x, y), net.score(x, y), net.predict_proba(x).tobytes()
        results.append((digest(net), measured))
        tracemalloc.start()
        net.fit(x, y, **how, validation_data=(x, y))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < X.nbytes + 2**24  # of floats, 4 times as much
    assert results[0] == results[1]
