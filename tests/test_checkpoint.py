"""A run that goes on from its checkpoint ends at the bits of one that was never interrupted."""

import json
import os

import endurance
import model_files
import numpy as np
import pytest
import trainings
from trainings import OPTIMIZERS, SIZES, digest

from fastbp import SGD, Adam, DivergenceError, ModelFileError, Network
from fastbp.training.progress import Progress

pytestmark = pytest.mark.compiled  # hundreds of fits, for which no kernel matters

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is POSIX")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


class Stopped(Exception):
    """Stands for whatever ends a process."""


def stop():
    raise Stopped


def same(history, expected):
    """Whether two histories tell the same, but for the time."""
    return all(
        getattr(history, name) == getattr(expected, name)
        for name in ("loss", "accuracy", "val_loss", "val_accuracy")
    ) and len(history.time) == len(expected.time)


@pytest.mark.parametrize(
    ("optimizer", "every"),
    [("sgd", None), ("sgd", 8), ("sgd", 100), ("nesterov", 1), ("adamw", 3)],
)
def test_interrupted_after_every_step(optimizer, every, data, path, dtype, monkeypatch):
    """61 rows in batches of 8, three epochs: 24 steps."""
    arguments = {
        "epochs": 3,
        "batch_size": 8,
        "optimizer": OPTIMIZERS[optimizer],
        "validation_data": data,
        "sample_weight": np.linspace(0, 1, 61),
        "l2": 0.01,
    }
    net = Network(SIZES, dtype=dtype)
    expected = net.fit(*data, **arguments)
    for n_steps in range(1, 25):
        with monkeypatch.context() as patch:
            trainings.after_steps(patch, n_steps, stop)
            with pytest.raises(Stopped):
                Network(SIZES, dtype=dtype).fit(
                    *data, **arguments, checkpoint=path, checkpoint_every=every
                )
        other = Network(SIZES, dtype=dtype)
        history = other.fit(
            *data, **arguments, checkpoint=path, resume=True, n_threads=1 + n_steps % 2
        )
        assert digest(other) == digest(net)
        assert same(history, expected)
        assert other.epoch == 3
        path.unlink()


def test_no_step_is_made_twice_after_an_interrupt(data, path, monkeypatch):
    """The last checkpoint is of the moment of the interrupt, whatever the interval."""
    net = Network(SIZES)
    with monkeypatch.context() as patch:
        trainings.after_steps(patch, 13, stop)
        with pytest.raises(Stopped):
            net.fit(*data, epochs=3, batch_size=8, checkpoint=path, checkpoint_every=1000)
    assert digest(Network.load(path)) == digest(net)
    made = trainings.after_steps(monkeypatch, 1000, stop)
    net.fit(*data, epochs=3, batch_size=8, checkpoint=path, resume=True)
    assert len(made) == 24 - 13


@forks
def test_killed_after_a_step(path):
    """A run of 200 steps, killed after some of them, and ended by another process."""
    assert endurance.kill_steps(path, range(1, 201, 40)) == 5


@forks
def test_killed_again_and_again(path):
    """Each run is killed at some moment and begun again, until it gets through."""
    assert endurance.kills(path, 10) == 10


def test_a_finished_run_is_not_run_again(data, path, monkeypatch):
    net = Network(SIZES)
    expected = net.fit(*data, epochs=3, checkpoint=path, validation_data=data)
    made = trainings.after_steps(monkeypatch, 1, stop)
    other = Network(SIZES)
    history = other.fit(*data, epochs=3, checkpoint=path, validation_data=data, resume=True)
    assert not made
    assert history == expected
    assert digest(other) == digest(net)
    assert other.epoch == 3


def test_more_epochs(data, path):
    net, other = Network(SIZES), Network(SIZES)
    expected = net.fit(*data, epochs=5)
    Network(SIZES).fit(*data, epochs=3, checkpoint=path)
    history = other.fit(*data, epochs=5, checkpoint=path, resume=True)
    assert same(history, expected)
    assert digest(other) == digest(net)


def test_fewer_epochs(data, path):
    net = Network(SIZES)
    before = digest(net)
    Network(SIZES).fit(*data, epochs=3, checkpoint=path)
    with pytest.raises(ValueError, match=r"epochs must be at least 3, .* got 2"):
        net.fit(*data, epochs=2, checkpoint=path, resume=True)
    assert digest(net) == before


def test_after_other_training(data, path):
    """The second of two runs goes on where the first one ended, in a new process, too."""

    def both(resume):
        net = Network(SIZES)
        first, second = path, path.with_name("second")
        net.fit(*data, epochs=2, checkpoint=first, resume=resume)
        net.fit(*data, epochs=3, batch_size=7, checkpoint=second, resume=resume)
        return net

    expected = both(False)
    again = both(True)
    assert digest(again) == digest(expected)
    assert again.epoch == 5


def test_without_shuffling(data, path, monkeypatch):
    arguments = {"epochs": 2, "batch_size": 8, "shuffle": False}
    net = Network(SIZES)
    net.fit(*data, **arguments)
    with monkeypatch.context() as patch:
        trainings.after_steps(patch, 11, stop)
        with pytest.raises(Stopped):
            Network(SIZES).fit(*data, **arguments, checkpoint=path)
    other = Network(SIZES)
    other.fit(*data, **arguments, checkpoint=path, resume=True)
    assert digest(other) == digest(net)


def test_a_callback_ends_it_once(data, path):
    seen = []

    def callback(network, epoch, entry):
        seen.append(epoch)
        return epoch == 2

    for _ in range(2):
        net = Network(SIZES)
        history = net.fit(*data, epochs=9, callback=callback, checkpoint=path, resume=True)
        assert len(history) == net.epoch == 2
    assert seen == [1, 2]


def test_a_callback_that_fails_is_called_again(data, path):
    expected = Network(SIZES)
    expected.fit(*data, epochs=4)
    seen = []

    def callback(network, epoch, entry):
        seen.append((epoch, entry["loss"]))
        if len(seen) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        Network(SIZES).fit(*data, epochs=4, callback=callback, checkpoint=path)
    net = Network(SIZES)
    history = net.fit(*data, epochs=4, callback=callback, checkpoint=path, resume=True)
    assert [epoch for epoch, _ in seen] == [1, 2, 2, 3, 4]
    assert seen[1] == seen[2]
    assert len(history) == 4
    assert digest(net) == digest(expected)


def test_time_goes_on(data, path, monkeypatch):
    """The time of an epoch holds what was spent on it before the interruption."""
    with monkeypatch.context() as patch:
        trainings.after_steps(patch, 12, stop)
        with pytest.raises(Stopped):
            Network(SIZES).fit(*data, epochs=2, batch_size=8, checkpoint=path)
    header, rest = model_files.parse(path.read_bytes())
    position = json.loads(header["__metadata__"]["position"])
    assert position[:3] == [0, 1, 4]
    position[4] = 1000.0
    header["__metadata__"]["position"] = json.dumps(position)
    path.write_bytes(model_files.pack(header, rest))
    history = Network(SIZES).fit(*data, epochs=2, batch_size=8, checkpoint=path, resume=True)
    assert history.time[1] > 1000 > history.time[0]


def test_progress_goes_on(data, path, monkeypatch, capsys):
    """The bar of a resumed run begins where the run is."""
    with monkeypatch.context() as patch:
        trainings.after_steps(patch, 12, stop)
        with pytest.raises(Stopped):
            Network(SIZES).fit(*data, epochs=3, batch_size=8, checkpoint=path)
    seen = []
    monkeypatch.setattr(Progress, "steps", lambda self, n: seen.append(n))
    net = Network(SIZES)
    net.fit(*data, epochs=3, batch_size=8, checkpoint=path, resume=True, progress=True)
    assert seen[0] == 12
    assert sum(seen) == 24
    assert "epoch 3/3" in capsys.readouterr().err


def test_divergence_after_a_resumption(data, path, monkeypatch):
    """The parameters are those after the last epoch, as without the interruption."""
    arguments = {"epochs": 100, "batch_size": 8, "learning_rate": 10, "l2": 10}
    net, other = Network([6, 3]), Network([6, 3])
    with np.errstate(all="ignore"), pytest.raises(DivergenceError) as expected:
        net.fit(*data, **arguments)
    n_steps = 8 * expected.value.epoch - 8 + expected.value.step
    with monkeypatch.context() as patch:
        trainings.after_steps(patch, n_steps - 1, stop)
        with pytest.raises(Stopped):
            Network([6, 3]).fit(*data, **arguments, checkpoint=path)
    with np.errstate(all="ignore"), pytest.raises(DivergenceError) as caught:
        other.fit(*data, **arguments, checkpoint=path, resume=True)
    assert str(caught.value) == str(expected.value)
    assert same(caught.value.history, expected.value.history)
    assert digest(other) == digest(net)


def test_interrupted_when_it_has_diverged_already(data, path, monkeypatch):
    """The last checkpoint that was any good is kept."""
    net = Network(SIZES)
    trainings.after_steps(monkeypatch, 13, stop, spoil=True)
    with pytest.raises(Stopped):
        net.fit(*data, epochs=3, batch_size=8, checkpoint=path, checkpoint_every=5)
    kept = Network.load(path)
    assert np.isfinite(kept.parameters).all()
    assert kept.__getstate__()["n_steps"] == 10


# Another run's


OTHERS = {
    "batch_size": {"batch_size": 7},
    "optimizer": {"optimizer": SGD(0.2)},
    "optimizer, its kind": {"optimizer": Adam()},
    "optimizer, its momentum": {"momentum": 0.8},
    "l2": {"l2": 0.1},
    "shuffle": {"shuffle": False},
    "sample_weight": {"sample_weight": np.ones(61)},
    "validation_data": {"validation_data": None},
}


@pytest.mark.parametrize("name", OTHERS)
def test_arguments_that_differ_are_named(name, data, path):
    arguments = {"epochs": 2, "batch_size": 8, "validation_data": data}
    Network(SIZES).fit(*data, **arguments, checkpoint=path)
    content = path.read_bytes()
    net = Network(SIZES)
    net.velocity = np.ones_like(net.parameters)
    before = digest(net)
    field = name.split(",")[0]
    with pytest.raises(ModelFileError, match=rf"another run's: {field} is not the same"):
        net.fit(*data, **(arguments | OTHERS[name]), checkpoint=path, resume=True)
    assert digest(net) == before
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("X", lambda X, y: (np.nextafter(X, 9), y)),
        ("X", lambda X, y: (X[:-1], y[:-1])),
        ("X", lambda X, y: (X[::-1], y)),
        ("y", lambda X, y: (X, np.roll(y, 1))),
        ("y", lambda X, y: (X, np.eye(3)[y])),
    ],
)
def test_data_that_differ_are_named(field, change, data, path):
    Network(SIZES, dtype="float64").fit(*data, checkpoint=path)
    with pytest.raises(ModelFileError, match=f"another run's: {field} is not the same$"):
        Network(SIZES, dtype="float64").fit(*change(*data), checkpoint=path, resume=True)


def test_the_same_data_in_another_form(data, path):
    X, y = data
    Network(SIZES).fit(X, y, checkpoint=path)
    Network(SIZES).fit(np.asfortranarray(X, ">f8"), y.tolist(), checkpoint=path, resume=True)


@pytest.mark.parametrize(
    ("field", "values", "other"),
    [
        ("layer_sizes", r"was \(6, 5, 4, 3\), and is \(6, 5, 3\)", Network([6, 5, 3])),
        ("activation", "was sigmoid, and is tanh", Network(SIZES, activation="tanh")),
        ("dtype", "was float32, and is float64", Network(SIZES, dtype="float64")),
        ("seed", "was 0, and is 1", Network(SIZES, seed=1)),
    ],
)
def test_networks_that_differ_are_named(field, values, other, data, path):
    Network(SIZES).fit(*data, checkpoint=path)
    with pytest.raises(ModelFileError, match=f"another network's: {field} {values}"):
        other.fit(*data, checkpoint=path, resume=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("position", None),
        ("position", "[0, 1, 0]"),
        ("position", "[0, 1, 99, [0.0, 0.0, 0.0, 0.0], 0.0, false]"),
        ("position", "[0, 7, 0, [0.0, 0.0, 0.0, 0.0], 0.0, false]"),
        ("position", "[-1, 2, 0, [0.0, 0.0, 0.0, 0.0], 0.0, false]"),
        ("position", "[0, 1, 0, [0.0, 0.0, NaN, 0.0], 0.0, false]"),
        ("position", "[0, 1, 0, 0.0, 0.0, false]"),
        ("position", "[0, 1, 0, [0.0, 0.0, 0.0, 0.0], 0, 0]"),
        ("run", None),
        ("run", "{}"),
        ("run", "[]"),
    ],
)
def test_settings_that_make_no_sense(name, value, data, path):
    Network(SIZES).fit(*data, epochs=1, checkpoint=path)
    header, rest = model_files.parse(path.read_bytes())
    if value is None:
        del header["__metadata__"][name]
    else:
        header["__metadata__"][name] = value
    path.write_bytes(model_files.pack(header, rest))
    with pytest.raises(ModelFileError, match=name):
        Network(SIZES).fit(*data, epochs=9, checkpoint=path, resume=True)


def test_moments_and_no_adam(data, path):
    Network(SIZES).fit(*data, epochs=1, checkpoint=path)
    header, rest = model_files.parse(path.read_bytes())
    header["second_moment"] = dict(header["velocity"])
    rest += rest[slice(*header["velocity"]["data_offsets"])]
    path.write_bytes(model_files.pack(model_files.lay_out(header), rest))
    with pytest.raises(ModelFileError, match="second moment"):
        Network(SIZES).fit(*data, epochs=9, checkpoint=path, resume=True)


def test_a_model_is_no_checkpoint(data, path):
    Network(SIZES).save(path)
    with pytest.raises(ModelFileError, match="it holds a network, not a checkpoint"):
        Network(SIZES).fit(*data, checkpoint=path, resume=True)


# Arguments


def test_a_file_that_is_there_is_not_overwritten(data, path):
    path.write_bytes(b"precious")
    net = Network(SIZES)
    before = digest(net)
    with pytest.raises(FileExistsError, match="resume=True"):
        net.fit(*data, checkpoint=path)
    assert path.read_bytes() == b"precious"
    assert digest(net) == before


def test_a_folder_that_is_not_there(data, tmp_path):
    """Said at the beginning, not after the first epoch."""
    net = Network(SIZES)
    before = digest(net)
    with pytest.raises(FileNotFoundError, match="missing"):
        net.fit(*data, checkpoint=tmp_path / "missing" / "run")
    assert digest(net) == before


def test_the_disk_fills_up(data, path, monkeypatch):
    """The error ends training; the last checkpoint is there, and training can go on from it."""
    net = Network(SIZES)
    net.fit(*data, epochs=4)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:

        def callback(network, epoch, entry):
            if epoch == 2:
                patch.setattr(os, "fsync", fail)

        with pytest.raises(OSError, match="No space left") as caught:
            Network(SIZES).fit(*data, epochs=4, checkpoint=path, callback=callback)
    assert "the last checkpoint is an older one" in caught.value.__notes__[0]
    assert Network.load(path).epoch == 1
    other = Network(SIZES)
    other.fit(*data, epochs=4, checkpoint=path, resume=True)
    assert digest(other) == digest(net)
