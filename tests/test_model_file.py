"""Models that are saved come back to the bit, and go on as if nothing had happened."""

import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import model_files
import numpy as np
import pytest
from test_network import OPTIMIZERS, SIZES, digest

import fastbp
from fastbp import ModelFileError, Network
from fastbp.backprop import layout
from fastbp.kernels.activation import ACTIVATIONS

every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@pytest.fixture
def data():
    rng = np.random.default_rng(5)
    y = rng.integers(0, 3, 61)
    return rng.normal(scale=0.5, size=(61, 6)) + np.eye(3, 6)[y], y


@pytest.mark.parametrize("activation", ACTIVATIONS)
@every_optimizer
def test_a_network_comes_back(activation, optimizer, dtype, data, path):
    net = Network(SIZES, activation=activation, dtype=dtype, seed=2**64 - 1)
    net.fit(*data, epochs=2, optimizer=optimizer)
    net.save(path)
    again = Network.load(path)
    assert repr(again) == repr(net)
    assert digest(again) == digest(net)
    assert again.__getstate__().keys() == net.__getstate__().keys()
    for network in (net, again):
        network.fit(*data, epochs=2, optimizer=optimizer)
    assert digest(again) == digest(net)


@pytest.mark.parametrize("sizes", [[1, 1], [3, 2], [2, 1, 1], [5, 4, 3, 2, 1], [1] * 200])
def test_of_any_shape(sizes, path):
    net = Network(sizes)
    net.save(path)
    again = Network.load(path)
    assert again.layer_sizes == net.layer_sizes
    assert digest(again) == digest(net)


def test_it_is_an_ordinary_network(data, path):
    Network(SIZES).save(path)
    again = Network.load(path)
    assert np.shares_memory(again.weights[1], again.parameters)
    again.weights[0][:] = 0
    assert not again.parameters[:30].any()
    assert not again.velocity.any()
    pickle.loads(pickle.dumps(again)).fit(*data)


def test_what_the_file_holds(data, path):
    safetensors_numpy = pytest.importorskip("safetensors.numpy")
    net = Network(SIZES, seed=7)
    net.fit(*data, epochs=3)
    net.save(path)
    arrays = safetensors_numpy.load_file(path)
    for layer in range(3):
        np.testing.assert_array_equal(arrays[f"weights.{layer}"], net.weights[layer])
        np.testing.assert_array_equal(arrays[f"biases.{layer}"], net.biases[layer])
    np.testing.assert_array_equal(arrays["velocity"], net.velocity)
    assert len(arrays) == 7
    header, _ = model_files.parse(path.read_bytes())
    settings = {name: text for name, text in header["__metadata__"].items() if name != "checksum"}
    assert {name: json.loads(text) for name, text in settings.items()} == {
        "fastbp": "network",
        "version": 1,
        "layer_sizes": SIZES,
        "activation": "sigmoid",
        "seed": 7,
        "epoch": 3,
        "n_steps": 6,
    }


def test_without_its_memory_it_is_half_as_long(data, path):
    net = Network([6, 50, 3])
    net.fit(*data)
    net.save(path)
    length = path.stat().st_size
    net.forget()
    net.save(path)
    assert length - path.stat().st_size > 4 * net.parameters.size
    assert not Network.load(path).velocity.any()


def test_odd_numbers(path, dtype):
    """Bits are bits: infinite, NaN with a payload, subnormal, minus zero."""
    net = Network([3, 2], dtype=dtype)
    kind = np.dtype(f"u{dtype.itemsize}")
    net.parameters[:] = np.nan, np.inf, -np.inf, -0.0, 0.0, np.finfo(dtype).smallest_subnormal, 1, 2
    net.parameters.view(kind)[0] ^= 5
    net.save(path)
    np.testing.assert_array_equal(
        Network.load(path).parameters.view(kind), net.parameters.view(kind)
    )


def test_subclasses(path):
    class Mine(Network):
        pass

    Network([2, 2]).save(path)
    assert type(Mine.load(path)) is Mine


def test_too_many_layers(path):
    with pytest.raises(ValueError, match="room for"):
        Network([1] * 3000).save(path)
    assert not path.exists()


@pytest.mark.parametrize("name", ["a network", os.fsencode("a network"), Path("a network")])
def test_paths(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Network([2, 2]).save(name)
    assert os.listdir(tmp_path) == ["a network"]
    Network.load(name)


@pytest.mark.parametrize("path", [None, 3, ["a"]])
def test_no_path(path):
    with pytest.raises(TypeError, match="expected str"):
        Network([2, 2]).save(path)
    with pytest.raises(TypeError, match="expected str"):
        Network.load(path)


@pytest.mark.compiled
def test_saved_while_another_thread_trains(data, path):
    """What is saved is a state between two steps, and one that training really passed."""
    passed = set()

    def note(network, epoch, entry):
        passed.add(digest(network))
        return ended.is_set()

    ended = threading.Event()
    net = Network(SIZES, dtype="float64")
    # one step an epoch: every state between two steps is passed by the callback
    training = threading.Thread(
        target=net.fit, args=data, kwargs={"epochs": 10**6, "batch_size": 61, "callback": note}
    )
    training.start()
    saved = []
    for _ in range(50):
        net.save(path)
        saved.append(Network.load(path))
    ended.set()
    training.join(20)
    passed.add(digest(Network(SIZES, dtype="float64")))
    states = {digest(network) for network in saved}
    assert len(states) > 3
    assert states <= passed


def test_files_of_other_kinds(data, path):
    """The network of a checkpoint can be had; a classifier is more than a network."""
    net = Network(SIZES)
    net.fit(*data, epochs=2, checkpoint=path)
    assert digest(Network.load(path)) == digest(net)
    with pytest.raises(ModelFileError, match="it holds a checkpoint, not a classifier"):
        fastbp.MLPClassifier.load(path)


STATUS = """
import sys
from fastbp import ModelFileError, Network

def resident(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) * 1024

Network.load(sys.argv[1])
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = resident("VmRSS")
try:
    Network.load(sys.argv[2])
except ModelFileError as error:
    print(error, file=sys.stderr)
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells of this")
@pytest.mark.parametrize("kind", ["network", "with a velocity", "damaged", "hostile header"])
def test_resident_size(kind, tmp_path):
    """No more than the file, and a bit; and the velocity once more, before it is in panel form."""
    small, large = tmp_path / "small", tmp_path / "large"
    net = Network([2, 2])
    net.save(small)
    net = Network([2000, 2000, 1000])
    if kind == "with a velocity":
        net.velocity = np.ones_like(net.parameters)
    net.save(large)
    size = large.stat().st_size
    if kind == "damaged":
        with open(large, "r+b") as file:
            file.seek(-3, os.SEEK_END)
            file.write(b"xxx")
    if kind == "hostile header":
        # what costs a parser of JSON the most, within what is let through
        names = ",".join(f'"{n:x}":{{}}' for n in range(16000)) + ',"x":"' + "ü" * 150_000 + '"'
        text = ("{" + names + "}").encode()
        large.write_bytes(model_files.frame(text, b""))
        size = large.stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", STATUS, small, large],
        env={**os.environ, "PYTHONPATH": str(Path(fastbp.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("damaged" in done.stderr) == (kind == "damaged")
    if kind == "with a velocity":
        size += net.parameters.nbytes
    assert int(done.stdout) < size + (16 << 20)


def test_nothing_is_allocated_for_a_file_that_is_wrong(path, monkeypatch):
    net = Network([2, 3, 2])
    net.save(path)
    header, data = model_files.parse(path.read_bytes())
    header["__metadata__"]["layer_sizes"] = "[2, 3, 3]"
    path.write_bytes(model_files.pack(header, data))

    def allocate(*arguments):
        raise AssertionError("too early")

    monkeypatch.setattr(layout, "aligned", allocate)
    with pytest.raises(ModelFileError, match=r"'weights\.1' must be F32 of shape \(3, 3\)"):
        Network.load(path)
