"""Steps that are left early, and trainings that are kept apart."""

import copy
import os
import pickle
import threading

import children
import numpy as np
import pytest
import slices
from test_network import digest
from together import together

from fastbp import SGD, Adam, DivergenceError, Network
from fastbp.backprop import layout, parallel, state
from fastbp.training import run as training_run
from fastbp.training import threads

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is POSIX")
compiled = pytest.mark.compiled


@pytest.fixture
def data():
    rng = np.random.default_rng(5)
    y = rng.integers(0, 3, 61)
    return rng.normal(scale=0.5, size=(61, 6)) + np.eye(3, 6)[y], y


SIZES = [6, 37, 19, 3]  # two panels, of which no register is full

every_way = pytest.mark.parametrize(
    "how",
    [
        {"optimizer": SGD(0.05), "n_threads": 1},
        {"optimizer": Adam(0.01), "n_threads": 1, "l2": 0.01},
        pytest.param(
            {"optimizer": SGD(0.05, nesterov=True), "n_threads": 2, "l2": 0.01}, marks=compiled
        ),
        pytest.param({"optimizer": Adam(0.01), "n_threads": 2}, marks=compiled),
    ],
    ids=["sgd", "adam", "nesterov, two threads", "adam, two threads"],
)
BATCH, STEPS = 8, 8  # 61 rows: the last batch is a short one


@pytest.fixture
def shared(monkeypatch):
    """The smallest work is shared by as many threads as there may be."""
    monkeypatch.setattr(training_run, "PER_THREAD", 1)
    threads.team.cache_clear()
    yield
    threads.team.cache_clear()


def fit(net, data, **arguments):
    return net.fit(*data, **{"batch_size": BATCH, "shuffle": False, "epochs": 2, **arguments})


def after(n_steps, data, dtype, **how):
    """The network that so many steps lead to, each in a call of its own."""
    net = Network(SIZES, dtype=dtype)
    for step in range(n_steps):
        first = step % STEPS * BATCH
        fit(net, [array[first : first + BATCH] for array in data], epochs=1, **how)
    return net


# Between two steps, whoever looks at the network sees what the last one has left


@every_way
@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("n_steps", [3, STEPS, STEPS + 5])
def test_interrupted_between_two_steps(n_steps, how, data, dtype, monkeypatch):
    net, expected = Network(SIZES, dtype=dtype), after(n_steps, data, dtype, **how)
    slices.after_steps(monkeypatch, n_steps, slices.interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(net, data, **how)
    assert digest(net) == digest(expected)
    assert net.epoch == n_steps // (STEPS + 1)
    monkeypatch.undo()
    for each in (net, expected):
        fit(each, data, epochs=1, **how)
    assert digest(net) == digest(expected)


@every_way
@pytest.mark.usefixtures("shared")
def test_callback_sees_the_network_and_may_change_it(how, data, dtype):
    """Parameters in place, the velocity by assignment: the next epoch begins with these."""
    net, other = Network(SIZES, dtype=dtype), Network(SIZES, dtype=dtype)

    def change(network, epoch=0, entry=None):
        network.parameters *= 0.5
        network.weights[1][3] = 0.25
        network.velocity = network.velocity + 0.01

    def callback(network, epoch, entry):
        fit(other, data, epochs=1, **how)
        seen.append(digest(network) == digest(other))
        change(network)
        change(other)

    seen = []
    fit(net, data, epochs=3, callback=callback, **how)
    assert seen == [True] * 3
    assert digest(net) == digest(other)


def copied(net, tmp_path):
    return copy.copy(net)


def pickled(net, tmp_path):
    return pickle.loads(pickle.dumps(net))


def saved(net, tmp_path):
    net.save(tmp_path / "net")
    return Network.load(tmp_path / "net")


@every_way
@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("duplicate", [copied, pickled, saved])
def test_another_thread_sees_the_last_step(duplicate, how, data, dtype, tmp_path, monkeypatch):
    """In the midst of an epoch, when its own vector is still that of the beginning."""
    net, made, twins = Network(SIZES, dtype=dtype), [], []

    def look(shown, n):
        made.append(None)
        if len(made) in (3, STEPS + 2):
            together(lambda: twins.append(duplicate(net, tmp_path)))

    slices.one_by_one(monkeypatch)
    monkeypatch.setattr(training_run.Progress, "steps", look)
    fit(net, data, **how)
    expected = [digest(after(n_steps, data, dtype, **how)) for n_steps in (3, STEPS + 2)]
    assert list(map(digest, twins)) == expected


@pytest.mark.parametrize("optimizer", [SGD(0.05), Adam(0.01)], ids=["sgd", "adam"])
def test_another_thread_sees_no_half_of_what_is_written_back(optimizer, data, monkeypatch):
    """While the network's own vector is written, it waits, or is told the new parameters."""
    net, twins, threads = Network(SIZES), [], []

    def write_back(panels, original=layout.Panels.write_back):
        if not threads:
            threads.append(threading.Thread(target=lambda: twins.append(copy.copy(net))))
            threads[0].start()
            threads[0].join(0.1)
        original(panels)

    monkeypatch.setattr(layout.Panels, "write_back", write_back)
    fit(net, data, epochs=1, optimizer=optimizer)
    threads[0].join(20)
    monkeypatch.undo()
    assert [digest(twin) for twin in twins] == [digest(net)]


def interrupted(function):
    """The function, whose first call ends in Ctrl-C when half of its work is done."""
    calls = []

    def call(panels):
        calls.append(None)
        if len(calls) == 1:
            panels._pairs[0][0][:] = 7
            raise KeyboardInterrupt
        function(panels)

    return call


@pytest.mark.parametrize("optimizer", [SGD(0.05), Adam(0.01)], ids=["sgd", "adam"])
def test_interrupted_while_the_parameters_are_written_back(optimizer, data, monkeypatch):
    net, other = Network(SIZES), Network(SIZES)
    fit(other, data, optimizer=optimizer, epochs=1)
    write_back = layout.Panels.write_back
    monkeypatch.setattr(layout.Panels, "write_back", interrupted(write_back))
    with pytest.raises(KeyboardInterrupt):
        fit(net, data, optimizer=optimizer)
    assert digest(net) == digest(other)


@every_way
@pytest.mark.usefixtures("shared")
def test_divergence_after_a_checkpoint_in_mid_epoch(how, data, dtype, tmp_path, monkeypatch):
    """The parameters are those after the last epoch, whatever has been written since."""
    net, other = Network(SIZES, dtype=dtype), Network(SIZES, dtype=dtype)
    fit(other, data, epochs=1, **how)
    slices.after_steps(monkeypatch, STEPS + 5, lambda: None, spoil=True)
    with np.errstate(invalid="ignore"), pytest.raises(DivergenceError, match="epoch 2, step 5"):
        fit(net, data, checkpoint=tmp_path / "run", checkpoint_every=2, **how)
    np.testing.assert_array_equal(net.parameters, other.parameters)
    assert not net.velocity.any()
    assert not net.second_moment.any()
    monkeypatch.undo()
    kept = after(STEPS + 4, data, dtype, **how)
    assert digest(Network.load(tmp_path / "run")) == digest(kept)


@every_way
@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize(
    ("value", "moved"), [(np.nan, False), (-np.inf, False), (np.nan, True)], ids=str
)
def test_row_that_is_not_finite_leaves_the_network_as_it_was(value, moved, how, data, dtype):
    """It is noticed in the last batch, when the steps of the others have been made.

    Of an infinite number, sigmoid units make a finite loss; and a velocity might be lost.
    """
    net = Network(SIZES, dtype=dtype)
    if moved:
        net.velocity = np.linspace(-1, 1, net.parameters.size)
    before, X = digest(net), data[0].copy()
    X[60, 5] = value
    with pytest.raises(ValueError, match=rf"^X must be finite, got {value} in row 60$"):
        fit(net, (X, data[1]), **how)
    assert (digest(net), net.epoch, net.copies()[0].n_steps) == (before, 0, 0)


def test_row_that_is_not_finite_comes_before_divergence(data):
    """Whichever the steps meet first."""
    X = data[0].copy()
    X[60, 5] = np.inf
    with pytest.raises(ValueError, match=r"^X must be finite, got inf in row 60$"):
        fit(Network([6, 3]), (X, data[1]), optimizer=SGD(1e300))


@compiled
def test_errors_of_threads_do_not_hang(data, monkeypatch):
    def fail(*arguments):
        raise ArithmeticError

    monkeypatch.setattr(training_run, "PER_THREAD", 1)
    monkeypatch.setattr(parallel, "train", fail)
    with pytest.raises(ArithmeticError):
        fit(Network(SIZES), data, n_threads=2)


def test_a_slow_pace_makes_short_slices():
    """Ctrl-C is not to wait for a processor that others use as well."""
    net = Network([6, 5, 3])
    X, y = np.zeros((1000, 6)), np.zeros(1000, int)
    data = state.make_data(X.astype("f4"), y, None, np.empty(0))
    with net.run(data, SGD(0.05).update(), 10, 1) as run:
        run.begin()
        assert run._stretch(1) > 1000
        run._pace = 0.01
        assert run._stretch(1) == 3
        run._pace = 1.0
        assert run._stretch(1) == 1


# One training at a time


def test_a_fit_within_a_fit(data):
    """A callback that trains the network further would change what the steps depend on."""
    net, other = Network(SIZES), Network(SIZES)

    def callback(network, epoch, entry):
        with pytest.raises(RuntimeError, match="is being trained by another call"):
            network.fit(*data)
        Network(SIZES).fit(*data, epochs=1)  # another one may

    fit(net, data, callback=callback)
    fit(other, data)
    assert digest(net) == digest(other)
    fit(net, data)  # and afterwards it may be trained again


def test_after_a_failure_it_can_be_trained(data):
    net = Network(SIZES)

    def callback(network, epoch, entry):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fit(net, data, callback=callback)
    fit(net, data)


@compiled
def test_fits_of_two_threads(data):
    net, begun, go_on = Network(SIZES), threading.Event(), threading.Event()

    def callback(network, epoch, entry):
        begun.set()
        assert go_on.wait(20)

    training = threading.Thread(target=fit, args=(net, data), kwargs={"callback": callback})
    training.start()
    assert begun.wait(20)
    with pytest.raises(RuntimeError, match="is being trained by another call"):
        fit(net, data)
    net.predict(data[0])
    go_on.set()
    training.join(20)
    other = Network(SIZES)
    fit(other, data)
    assert digest(net) == digest(other)


@compiled
@forks
def test_a_child_has_no_training_of_its_parent(data):
    """Forked from a callback, it has no thread that trains, and trains itself."""
    results = []

    def callback(network, epoch, entry):
        if epoch == 1:
            results.append(children.run(lambda: (fit(network, data, epochs=1), digest(network))[1]))

    net, other = Network(SIZES), Network(SIZES)
    fit(net, data, callback=callback)
    fit(other, data)
    assert results == [digest(other)] == [digest(net)]
