"""The epochs of a fit and its steps: history, callbacks, interrupts, divergence, one at a time."""

import copy
import dataclasses
import os
import pickle
import re
import sys
import threading

import children
import numpy as np
import pytest
import reference
import scipy.optimize
import trainings
from together import together
from trainings import OPTIMIZERS, digest

import fastbp
from fastbp import SGD, Adam, DivergenceError, Network
from fastbp.backprop import layout, parallel, updates
from fastbp.training import progress, threads
from fastbp.training import run as training_run

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is POSIX")
compiled = pytest.mark.compiled

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
    trainings.share_all(monkeypatch)


def fit(net, data, **arguments):
    return net.fit(*data, **{"batch_size": BATCH, "shuffle": False, "epochs": 2, **arguments})


def after(n_steps, data, dtype, **how):
    """The network that so many steps lead to, each in a call of its own."""
    net = Network(SIZES, dtype=dtype)
    for step in range(n_steps):
        first = step % STEPS * BATCH
        fit(net, [array[first : first + BATCH] for array in data], epochs=1, **how)
    return net


# History, validation, callback, progress


def test_history_is_a_running_weighted_mean(data):
    """Of the parameters before each step, without the penalty."""
    X, y = data
    weight = np.random.default_rng(0).uniform(size=61)
    net = Network(SIZES, dtype="float64")
    expected = reference.Trainer(net.weights, net.biases)
    onehot, loss, correct = reference.onehot(y, 3), 0, 0
    for start in range(0, 61, 8):
        rows = slice(start, start + 8)
        *_, z = reference.forward(expected.weights, expected.biases, X[rows])
        correct += weight[rows][np.argmax(z, axis=1) == y[rows]].sum()
        how = {"learning_rate": 0.1, "momentum": 0.9, "l2": 0.1}
        loss += expected.step(X[rows], onehot[rows], weight[rows], **how) * weight[rows].sum()
    history = fit(net, data, epochs=1, sample_weight=weight, l2=0.1)
    assert history.loss[0] == pytest.approx(float(loss / weight.sum()), rel=1e-13)
    assert history.accuracy[0] == pytest.approx(float(correct / weight.sum()), rel=1e-13)
    assert history.val_loss == history.val_accuracy == []
    assert history.time[0] > 0
    assert {type(v) for v in (*history.loss, *history.accuracy, *history.time)} == {float}


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


@every_way
@pytest.mark.usefixtures("shared")
def test_callback_may_change_the_network(how, data, dtype):
    """Parameters in place, the velocity by assignment: the next epoch begins with these."""
    net, other, seen = Network(SIZES, dtype=dtype), Network(SIZES, dtype=dtype), []

    def change(network):
        network.parameters *= 0.5
        network.weights[1][3] = 0.25
        network.velocity = network.velocity + 0.01

    def callback(network, epoch, entry):
        fit(other, data, epochs=1, **how)
        seen.append(digest(network) == digest(other))
        change(network)
        change(other)

    fit(net, data, epochs=3, callback=callback, **how)
    assert seen == [True] * 3
    assert digest(net) == digest(other)


@pytest.mark.parametrize("answer", [[], [1], 0, 1.0, "stop", np.array([1, 0]), None], ids=repr)
def test_callback_that_fails_leaves_a_usable_network(answer, data):
    def callback(network, epoch, entry):
        if answer is None:
            raise ArithmeticError("no more")
        return answer

    net, other = Network(SIZES), Network(SIZES)
    error = "no more" if answer is None else "callback must return None, True or False, got"
    with pytest.raises((ArithmeticError, TypeError), match=error):
        fit(net, data, callback=callback)
    fit(other, data, epochs=1)
    assert (digest(net), net.epoch) == (digest(other), 1)
    fit(net, data)


def test_progress(data, capsys, monkeypatch):
    """A bar in a terminal; lines in a log file, or without tqdm; by default nothing."""
    pytest.importorskip("tqdm")
    with monkeypatch.context() as patched:
        patched.setattr(sys.stderr, "isatty", lambda: True)
        Network(SIZES).fit(*data, epochs=2, batch_size=8, validation_data=data, progress=True)
    out, err = capsys.readouterr()
    assert (out, "128/128" in err, " rows/s" in err) == ("", True, True)
    value = r"\d\.\d{4}"
    line = f"epoch 2/2  loss {value}  accuracy {value}  val_loss {value}  val_accuracy"
    assert re.search(line, err)
    for is_installed in (True, False):
        if not is_installed:
            monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        net = Network(SIZES)
        net.fit(*data, epochs=1)
        assert capsys.readouterr() == ("", "")
        net.fit(*data, epochs=2, progress=True)
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 2)
        for line, number in zip(err.splitlines(), (2, 3), strict=True):
            assert re.fullmatch(rf"epoch {number}/3  loss [\d.]+  accuracy [\d.]+  [\d.]+ s", line)


# Slices, and what is seen between two steps


def test_same_bits_in_every_run_and_any_slices(data, dtype, monkeypatch):
    runs = [Network(SIZES, dtype=dtype) for _ in range(3)]
    histories = [net.fit(*data, epochs=4, batch_size=7) for net in runs[:2]]
    trainings.one_by_one(monkeypatch)
    histories.append(runs[2].fit(*data, epochs=4, batch_size=7))
    assert len({digest(net) for net in runs}) == 1
    assert len({(*h.loss, *h.accuracy) for h in histories}) == 1


def test_a_slow_pace_makes_short_slices(data, monkeypatch):
    """Ctrl-C is not to wait for a processor that others use as well."""
    made, clock = [], iter(range(1000))
    monkeypatch.setattr(progress.Progress, "steps", lambda _, n: made.append(n))
    monkeypatch.setattr(training_run.time, "perf_counter", lambda: next(clock) * 0.01)
    fit(Network(SIZES), data, epochs=1, batch_size=1)
    assert made == [61]
    made.clear()
    monkeypatch.setattr(training_run, "FIRST_SLICE_MULTIPLY_ADDS", 0)
    fit(Network(SIZES), data, epochs=1, batch_size=1)
    assert made[:2] == [1, 3]  # by a clock that says 10 ms for each slice
    made.clear()
    monkeypatch.setattr(training_run.time, "perf_counter", lambda: next(clock) * 1.0)
    fit(Network(SIZES), data, epochs=1, batch_size=1)
    assert made == [1] * 61


@every_way
@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("n_steps", [3, STEPS, STEPS + 5])
def test_interrupted_between_two_steps(n_steps, how, data, dtype, monkeypatch):
    net, expected = Network(SIZES, dtype=dtype), after(n_steps, data, dtype, **how)
    trainings.after_steps(monkeypatch, n_steps, trainings.interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(net, data, **how)
    assert digest(net) == digest(expected)
    assert net.epoch == n_steps // (STEPS + 1)
    monkeypatch.undo()
    for each in (net, expected):
        fit(each, data, epochs=1, **how)
    assert digest(net) == digest(expected)


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

    trainings.one_by_one(monkeypatch)
    monkeypatch.setattr(progress.Progress, "steps", look)
    fit(net, data, **how)
    expected = [digest(after(n_steps, data, dtype, **how)) for n_steps in (3, STEPS + 2)]
    assert list(map(digest, twins)) == expected


@pytest.mark.parametrize("optimizer", [SGD(0.05), Adam(0.01)], ids=["sgd", "adam"])
def test_another_thread_sees_no_half_of_what_is_written_back(optimizer, data, monkeypatch):
    """While the network's own vector is written, it waits."""
    net, twins, lookers = Network(SIZES), [], []

    def write_back(panels, original=layout.Panels.write_back):
        if not lookers:
            lookers.append(threading.Thread(target=lambda: twins.append(copy.copy(net))))
            lookers[0].start()
            lookers[0].join(0.1)
        original(panels)

    monkeypatch.setattr(layout.Panels, "write_back", write_back)
    fit(net, data, epochs=1, optimizer=optimizer)
    lookers[0].join(20)
    monkeypatch.undo()
    assert [digest(twin) for twin in twins] == [digest(net)]


@compiled
def test_errors_of_threads_do_not_hang(data, monkeypatch):
    def fail(*arguments):
        raise ArithmeticError

    trainings.share_all(monkeypatch)
    monkeypatch.setattr(parallel, "train", fail)
    with pytest.raises(ArithmeticError):
        fit(Network(SIZES), data, n_threads=2)


@compiled
@pytest.mark.usefixtures("shared")
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_lbfgs_uses_the_threads_and_gives_the_same_bits(data, monkeypatch):
    found, asked, run = [], [], threads.run
    monkeypatch.setattr(threads, "run", lambda n, work: (asked.append(n), run(n, work)))
    for n_threads in (1, 2, 3):
        asked.clear()
        how = {"solver": "lbfgs", "max_iter": 5, "random_state": 0, "n_threads": n_threads}
        model = fastbp.MLPClassifier((37, 19), **how).fit(*data)
        found.append(b"".join(w.tobytes() for w in model.coefs_))
        assert set(asked) == {n_threads}
    assert len(set(found)) == 1


# Divergence


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_divergence_in_a_step(optimizer, data):
    """The parameters are those after the last epoch; state and number of steps are forgotten."""
    net = Network(SIZES, activation="relu")
    fit(net, data, optimizer=optimizer)
    expected = net.parameters.copy()
    wild = dataclasses.replace(optimizer, learning_rate=1e30)
    with np.errstate(all="ignore"), pytest.raises(DivergenceError) as caught:
        fit(net, data, epochs=20, optimizer=wild)
    error = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(error, FloatingPointError)
    assert isinstance(error, ValueError)
    assert (error.epoch, len(error.history)) == (3, 0)
    where = rf"the loss .* in epoch 3, step {error.step} of 8; .* after epoch 2.* below 1e\+30"
    assert re.search(where, str(error))
    assert 0 < error.step < 8
    np.testing.assert_array_equal(net.parameters, expected)
    assert net.epoch == 2
    assert not net.velocity.any()
    assert not net.second_moment.any()
    fresh = Network(SIZES, activation="relu")
    fresh.parameters = expected
    for each in (net, fresh):
        fit(each, data, epochs=1, optimizer=optimizer)
    assert digest(net) == digest(fresh)


@pytest.mark.parametrize(
    ("rate", "l2", "n_epochs"), [(1e300, 0, 0), (10, 10, None)], ids=["first epoch", "later"]
)
def test_divergence_of_an_epochs_last_step(rate, l2, n_epochs, data):
    net, seen = Network([6, 3]), []
    before = net.parameters.copy()
    how = {"batch_size": 61, "learning_rate": rate, "l2": l2, "epochs": 100}
    keep = lambda network, *_: seen.append(network.parameters.copy())  # noqa: E731
    with np.errstate(all="ignore"), pytest.raises(DivergenceError) as caught:
        fit(net, data, callback=keep, **how)
    assert len(seen) == net.epoch == len(caught.value.history) == caught.value.epoch - 1
    assert (len(seen) == 0 and "a parameter" in str(caught.value)) is (n_epochs == 0)
    np.testing.assert_array_equal(net.parameters, [before, *seen][-1])
    assert np.isfinite(net.parameters).all()


def test_adam_whose_second_moment_overflows_has_diverged():
    """Its parameters would stand still, and the loss with them."""
    net = Network([1, 2], seed=0)
    before = net.parameters.copy()
    with pytest.raises(DivergenceError, match="mean of a squared gradient became infinite"):
        net.fit([[1e22], [-1e22]], [0, 1], optimizer=Adam(1e-30))
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize(
    "optimizer", [SGD(0.1), SGD(0.1, nesterov=True), Adam()], ids=["sgd", "nesterov", "adam"]
)
def test_the_state_of_a_silent_column_does_not_become_subnormal(optimizer):
    net = Network([3, 4, 2], seed=0)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 3)), rng.integers(0, 2, 8)
    net.fit(X, y, epochs=1, optimizer=optimizer)
    X[:, 1] = 0
    for moment in net._learner.optimizer_state[:2]:
        if moment is not None:
            moment *= np.float32(1e-35)  # as after some hundred steps
    net.fit(X, y, epochs=updates.FLUSH_STEPS * 5 - 1, optimizer=optimizer)
    smallest = np.finfo(np.float32).tiny
    for moment in (net.velocity, net.second_moment):
        assert ((moment == 0) | (abs(moment) >= smallest)).all()
    assert (net.velocity[4:8] == 0).all()  # of the weights that the column enters


def test_interrupt_of_a_run_that_has_diverged_unnoticed(data, monkeypatch):
    net = Network(SIZES)
    before = net.parameters.copy()
    trainings.after_steps(monkeypatch, 3, trainings.interrupt, spoil=True)
    with pytest.raises(KeyboardInterrupt):
        fit(net, data)
    np.testing.assert_array_equal(net.parameters, before)
    assert not net.velocity.any()


@every_way
@pytest.mark.usefixtures("shared")
def test_divergence_after_a_checkpoint_in_mid_epoch(how, data, dtype, tmp_path, monkeypatch):
    """The parameters are those after the last epoch, whatever has been written since."""
    net, other = Network(SIZES, dtype=dtype), Network(SIZES, dtype=dtype)
    fit(other, data, epochs=1, **how)
    trainings.after_steps(monkeypatch, STEPS + 5, lambda: None, spoil=True)
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

    Of an infinite element, sigmoid units make a finite loss; and a velocity might be lost.
    """
    net = Network(SIZES, dtype=dtype)
    if moved:
        net.velocity = np.linspace(-1, 1, net.parameters.size)
    before, X = digest(net), data[0].copy()
    X[60, 5] = value
    with pytest.raises(ValueError, match=rf"^X must be finite, got {value} in row 60$"):
        fit(net, (X, data[1]), **how)
    assert (digest(net), net.epoch) == (before, 0)
    assert net._learner.optimizer_state.n_updates[0] == 0
    with pytest.raises(ValueError, match=r"^X must be finite"):  # though a step diverges first
        fit(Network(SIZES), (X, data[1]), optimizer=SGD(1e300))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("method", "solver"),
    [("fit", "sgd"), ("fit", "adam"), ("fit", "lbfgs"), ("partial_fit", "sgd")],
)
def test_divergence_of_the_estimator_has_a_history(method, solver, data):
    how = {"solver": solver, "learning_rate_init": 1e300, "activation": "identity"}
    more = {"classes": [0, 1, 2]} if method == "partial_fit" else {}
    model = fastbp.MLPClassifier((3,), random_state=0, **how)
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match="non-finite") as caught:
        getattr(model, method)(data[0] * 1e300, data[1], **more)
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.epoch == len(error.history) + 1 == 1


def test_divergence_of_lbfgs_after_some_iterations(data, monkeypatch):
    def minimize(cost, start, callback, **options):
        for fun in (3.0, 2.0):
            callback(intermediate_result=scipy.optimize.OptimizeResult(x=start + fun, fun=fun))
        return scipy.optimize.OptimizeResult(x=np.full_like(start, np.nan))

    monkeypatch.setattr(scipy.optimize, "minimize", minimize)
    model = fastbp.MLPClassifier((3,), solver="lbfgs", random_state=0)
    with pytest.raises(DivergenceError, match="non-finite") as caught:
        model.fit(*data)
    assert (caught.value.epoch, caught.value.history.loss) == (3, [3.0, 2.0])
    assert np.isfinite(model.coefs_[0]).all()


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
