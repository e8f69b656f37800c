"""Steps that are left early, and trainings that are kept apart."""

import collections
import contextlib
import os
import signal
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace

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


@pytest.fixture
def interrupt_in():
    """Raise KeyboardInterrupt in this thread, the main one, after some seconds."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, handler)


class Many:
    """Rows enough for steps of some milliseconds, three an epoch."""

    sizes = (40, 300, 200, 3)

    def __init__(self, dtype, optimizer):
        rng = np.random.default_rng(5)
        self.y = rng.integers(0, 3, 700)
        self.x = rng.normal(scale=0.5, size=(700, 40)).astype(dtype)
        self.dtype, self.optimizer = dtype, optimizer

    def network(self):
        return Network(self.sizes, dtype=self.dtype)

    def fit(self, network, **arguments):
        return network.fit(
            *(self.x, self.y), epochs=2, batch_size=300, optimizer=self.optimizer, **arguments
        )

    def states(self):
        """Digests after 0, 1, ... 6 steps, made without threads and without haste."""
        states = []
        for n_steps in range(7):
            network, made = self.network(), []

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
                    self.fit(network, n_threads=1)
            states.append(digest(network))
        return states


def measured_by_coverage():
    """A lock of its own is left locked by an exception that comes out of nowhere."""
    coverage = sys.modules.get("coverage")
    return coverage is not None and coverage.Coverage.current() is not None


@compiled
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="alarms are POSIX")
@pytest.mark.skipif(measured_by_coverage(), reason="coverage does not survive Ctrl-C everywhere")
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("undo", [True, False])
@pytest.mark.parametrize("optimizer", [OPTIMIZERS["sgd"], OPTIMIZERS["adam"]], ids=["sgd", "adam"])
@pytest.mark.usefixtures("long_steps")
def test_interrupted_at_any_moment(optimizer, undo, n_threads, interrupt_in, tmp_path, monkeypatch):
    """The parameters are those after a step, and the run can go on from there to the same bits."""
    monkeypatch.setattr(_training, "UNDOABLE", 1 if undo else 10**9)
    many = Many("float64", optimizer)
    states, seen = many.states(), collections.Counter()
    began = time.perf_counter()
    many.fit(many.network(), n_threads=n_threads)
    length = time.perf_counter() - began
    run, copy = _threads.run, _training.Run._copy

    def counted_run(n, work):
        seen["finished"] += isinstance(work, partial)  # the rest of a step, without a look-out
        run(n, work)

    def counted_copy(arrays, places):
        seen["undone"] += np.shares_memory(places[0], net.parameters)
        copy(arrays, places)

    monkeypatch.setattr(_threads, "run", counted_run)
    monkeypatch.setattr(_training.Run, "_copy", staticmethod(counted_copy))
    rng = np.random.default_rng(0)
    for n in range(300):
        net, path = many.network(), tmp_path / f"{n}"
        arguments = {"checkpoint": path, "n_threads": n_threads}
        interrupt_in(rng.uniform(0, length) + 1e-6)
        try:
            many.fit(net, **arguments)
            interrupt_in(0)
        except KeyboardInterrupt:
            seen["interrupted"] += 1
        else:
            continue
        n_steps = net.copies()[0].n_steps
        # before the first, Adam may not have made room for its moments
        assert digest(net) in (states[n_steps], digest(many.network()) if n_steps == 0 else "")
        if n % 10 == 0 and path.exists():
            many.fit(net, **arguments, resume=True)
            assert digest(net) == states[-1]
        if seen["interrupted"] > 40 and seen["undone" if undo else "finished"] > 3:
            break
    assert seen["interrupted"] > 40
    assert seen["undone" if undo else "finished"] > 3
    assert not seen["finished" if undo else "undone"]


class Interrupted(threading.Event):
    """What the main thread waits for; it is interrupted when that has come."""

    def wait(self):
        assert super().wait(20)
        raise KeyboardInterrupt


@pytest.mark.parametrize("undo", [True, False])
@pytest.mark.usefixtures("long_steps")
def test_interrupted_in_the_second_phase(undo, data, monkeypatch):
    """The step, of which a part is done, is undone or finished, even if Ctrl-C comes again."""
    monkeypatch.setattr(_training, "UNDOABLE", 1 if undo else 10**9)
    # there alone: the pool waits for threads with events, too
    monkeypatch.setattr(
        _training, "threading", SimpleNamespace(**{**vars(threading), "Event": Interrupted})
    )
    net, calls, sums = Network(SIZES), [], []
    before = digest(net)

    def train(table, data, order, parameters, memory, *rest):
        board, totals = rest[4], rest[5]
        calls.append(int(board[_layout.PAUSED]))
        sums.append(totals)
        if board[_layout.OPEN] == 0:
            parameters[0] = totals[0] = memory.velocity[0] = 7
            board[_layout.OPEN] = 1
        elif board[_layout.OPEN] == 1:
            memory.n_steps[0] += 1
            board[_layout.OPEN] = 2
            if len(calls) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(backprop, "train", train)
    with pytest.raises(KeyboardInterrupt):
        fit(net, data)
    assert calls == ([0] if undo else [0, 0, 0])
    assert (digest(net) == before) == undo
    assert sums[0][0] == (0 if undo else 7)
    assert net.copies()[0].n_steps == (0 if undo else 1)


@compiled
@pytest.mark.usefixtures("long_steps")
def test_errors_of_threads_do_not_hang(data, monkeypatch):
    def fail(*arguments):
        raise ArithmeticError

    monkeypatch.setattr(backprop, "train", fail)
    with pytest.raises(ArithmeticError):
        fit(Network(SIZES), data)


@compiled
@pytest.mark.usefixtures("long_steps")
def test_long_steps_of_another_thread(data):
    """It is never interrupted, and makes them as others."""
    net, other = Network(SIZES), Network(SIZES)
    fit(net, data)
    thread = threading.Thread(target=fit, args=(other, data))
    thread.start()
    thread.join(20)
    assert digest(net) == digest(other)


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
