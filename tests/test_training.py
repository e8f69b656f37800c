"""Steps that are left early, and trainings that are kept apart."""

import contextlib
import os
import threading

import children
import numpy as np
import pytest
from test_network import OPTIMIZERS, SIZES, digest

from fastbp import Network, _layout, _threads, _training, backprop

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is POSIX")
compiled = pytest.mark.compiled


@pytest.fixture
def data():
    rng = np.random.default_rng(5)
    y = rng.integers(0, 3, 61)
    return rng.normal(scale=0.5, size=(61, 6)) + np.eye(3, 6)[y], y


@pytest.fixture
def long_steps(monkeypatch):
    """Steps as small as those of these tests count as long ones, and are cut as finely."""
    monkeypatch.setattr(_training, "LONG", 1)
    monkeypatch.setattr(_training, "BLOCK_ROWS", 4)
    monkeypatch.setattr(_training, "PER_THREAD", 1)
    monkeypatch.setattr(_layout, "ITEM", 1)
    _threads.team.cache_clear()
    yield
    _threads.team.cache_clear()


def fit(net, data, **arguments):
    return net.fit(*data, **{"epochs": 2, "batch_size": 30, "n_threads": 1, **arguments})


@pytest.mark.parametrize("n_threads", [1, pytest.param(2, marks=compiled)])
@pytest.mark.parametrize("undo", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_long_steps_are_steps(optimizer, undo, n_threads, data, dtype, request, monkeypatch):
    net, other = Network(SIZES, dtype=dtype), Network(SIZES, dtype=dtype)
    expected = fit(net, data, optimizer=optimizer)
    request.getfixturevalue("long_steps")
    monkeypatch.setattr(_training, "UNDOABLE", 1 if undo else 10**9)
    history = fit(other, data, optimizer=optimizer, n_threads=n_threads)
    assert digest(other) == digest(net)
    assert history.loss == expected.loss


@compiled
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("undo", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.usefixtures("long_steps")
def test_interrupted_after_every_item(optimizer, undo, n_threads, data, tmp_path, monkeypatch):
    """The parameters are those after a step, and the run can go on from there to the same bits."""
    monkeypatch.setattr(_training, "UNDOABLE", 1 if undo else 10**9)
    states, caller = states_between_steps(data, optimizer), threading.get_ident()
    for n_items in range(1, 60):
        count = iter(range(n_items - 1))

        def train(*arguments, original=backprop.train, count=count):
            original(*arguments)
            if threading.get_ident() == caller and next(count, None) is None:
                raise KeyboardInterrupt

        net, path = Network(SIZES), tmp_path / f"{n_items}"
        arguments = {"optimizer": optimizer, "checkpoint": path, "n_threads": n_threads}
        with monkeypatch.context() as patch:
            patch.setattr(backprop, "train", train)
            with contextlib.suppress(KeyboardInterrupt):  # with two threads, it may not come to it
                fit(net, data, **arguments)
        assert digest(net) == states[net.copies()[0].n_steps]
        fit(net, data, **arguments, resume=True)
        assert digest(net) == states[-1]


def states_between_steps(data, optimizer):
    """Digests of a run of two epochs of 61 rows in batches of 30, after 0, 1, ... 6 steps."""
    states = []
    for n_steps in range(7):
        net, made = Network(SIZES), []

        def train(*arguments, original=backprop.train, made=made, n_steps=n_steps):
            if len(made) == n_steps:
                raise KeyboardInterrupt
            original(*arguments)
            made.append(None)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_training, "SLICE", 1)
            patch.setattr(_training, "LONG", 2**62)
            patch.setattr(backprop, "train", train)
            with contextlib.suppress(KeyboardInterrupt):
                fit(net, data, optimizer=optimizer)
        states.append(digest(net))
    return states


@compiled
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.usefixtures("long_steps")
def test_interrupted_a_second_time(optimizer, data, monkeypatch):
    """While the step is being finished: it is, all the same."""
    monkeypatch.setattr(_training, "UNDOABLE", 10**9)
    states = states_between_steps(data, optimizer)
    original, runs = _threads.run, []

    def run(n_threads, work):
        runs.append(work)
        if len(runs) == 2:
            raise KeyboardInterrupt  # before anything of the rest is done
        original(n_threads, work)

    def train(*arguments, original=backprop.train):
        original(*arguments)
        board = arguments[9]
        if board[_layout.OPEN] == 1 and len(runs) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(_threads, "run", run)
    net = Network(SIZES)
    monkeypatch.setattr(backprop, "train", train)
    with pytest.raises(KeyboardInterrupt):
        fit(net, data, optimizer=optimizer)
    assert len(runs) == 2
    assert digest(net) == states[1]


def test_a_slow_pace_makes_short_slices():
    """Ctrl-C is not to wait for a processor that others use as well."""
    net = Network([6, 5, 3])
    X, y = np.zeros((1000, 6)), np.zeros(1000, int)
    data = _layout.make_data(X.astype("f4"), y, None, np.empty(0))
    with net.run(data, OPTIMIZERS["sgd"].update(), 10, 1) as run:
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
