"""Models that are saved come back to the bit; files that are wrong are turned away."""

import json
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import hostile_files
import model_files
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from trainings import OPTIMIZERS, SIZES, digest

import fastbp
from fastbp import ModelFileError, Network
from fastbp.backprop import layout
from fastbp.kernels.activation import ACTIVATIONS


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
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


@pytest.mark.parametrize("sizes", [[1, 1], [2, 1, 1], [5, 4, 3, 2, 1], [1] * 3000], ids=len)
def test_of_any_shape(sizes, path):
    net = Network(sizes)
    net.save(path)
    content = path.read_bytes()
    again = Network.load(path)
    assert again.layer_sizes == net.layer_sizes
    assert digest(again) == digest(net)
    again.save(path)
    assert path.read_bytes() == content


def test_it_is_an_ordinary_network(data, path):
    class Mine(Network):
        pass

    Network(SIZES).save(path)
    again = Mine.load(path)
    assert type(again) is Mine
    assert np.shares_memory(again.weights[1], again.parameters)
    again.weights[0][:] = 0
    assert not again.parameters[:30].any()
    assert not again.velocity.any()
    Network.load(path).fit(*data)
    pickle.loads(pickle.dumps(Network.load(path))).fit(*data)


def test_what_the_file_holds(data, path):
    net = Network(SIZES, seed=7)
    net.fit(*data, epochs=3)
    net.save(path)
    arrays = load_file(path)
    for layer in range(3):
        np.testing.assert_array_equal(arrays[f"weights.{layer}"], net.weights[layer])
        np.testing.assert_array_equal(arrays[f"biases.{layer}"], net.biases[layer])
    np.testing.assert_array_equal(arrays["velocity"], net.velocity)
    assert len(arrays) == 7
    header, rest = model_files.parse(path.read_bytes())
    settings = {name: json.loads(text) for name, text in header["__metadata__"].items()}
    assert settings.pop("checksum") == model_files.checksum(header, rest)
    assert settings == {
        "kind": "network",
        "version": 1,
        "layer_sizes": SIZES,
        "activation": "sigmoid",
        "seed": 7,
        "epoch": 3,
        "n_steps": 6,
    }
    net.forget()
    net.save(path)
    assert "velocity" not in load_file(path)


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


@pytest.mark.parametrize("name", ["a network", os.fsencode("a network"), Path("a network")])
def test_paths(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Network([2, 2]).save(name)
    assert os.listdir(tmp_path) == ["a network"]
    Network.load(name)


@pytest.mark.parametrize("path", [None, 3, ["a"]])
def test_no_path(path):
    for call in (Network([2, 2]).save, Network.load):
        with pytest.raises(TypeError, match="expected str"):
            call(path)


def test_no_file(path):
    with pytest.raises(FileNotFoundError):
        Network.load(path)
    path.mkdir()
    with pytest.raises(ModelFileError, match="not a regular file"):
        Network.load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX")
def test_a_pipe_is_not_waited_for(path):
    os.mkfifo(path)
    with pytest.raises(ModelFileError, match="not a regular file"):
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
    """The network of a checkpoint can be loaded; a classifier is more than a network."""
    net = Network(SIZES)
    net.fit(*data, epochs=2, checkpoint=path)
    assert digest(Network.load(path)) == digest(net)
    with pytest.raises(ModelFileError, match="it holds a checkpoint, not a classifier"):
        fastbp.MLPClassifier.load(path)


def test_a_file_of_other_hands(path):
    save_file({"w": np.ones(3), "b": np.ones(3)}, path, {"format": "np"})
    with pytest.raises(ModelFileError, match=r"metadata hold no 'fastbp', .* the arrays b, w$"):
        Network.load(path)


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
Network.load(sys.argv[2])
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells of this")
def test_resident_size(tmp_path):
    """The parameters, the file's pages, and a copy of its longest array."""
    small, large = tmp_path / "small", tmp_path / "large"
    Network([2, 2]).save(small)
    Network([2000, 2000, 1000]).save(large)
    done = subprocess.run(
        [sys.executable, "-c", STATUS, small, large],
        env={**os.environ, "PYTHONPATH": str(Path(fastbp.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 3 * large.stat().st_size + (16 << 20)


def test_nothing_is_allocated_for_a_file_that_is_wrong(path, monkeypatch):
    Network([2, 3, 2]).save(path)
    header, rest = model_files.parse(path.read_bytes())
    header["__metadata__"]["layer_sizes"] = "[2, 3, 3]"
    path.write_bytes(model_files.pack(header, rest))

    def allocate(*arguments):
        raise AssertionError("too early")

    monkeypatch.setattr(layout, "aligned", allocate)
    with pytest.raises(ModelFileError, match=r"'weights\.1' must be F32 of shape \(3, 3\)"):
        Network.load(path)


# Hostile files


def small_network():
    net = Network([2, 3, 2], seed=3)
    net.velocity = np.linspace(-1, 1, 17)
    return net


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The content of a good file."""
    path = tmp_path_factory.mktemp("good") / "file"
    small_network().save(path)
    return path.read_bytes()


def test_hostile_files(good, path):
    path.write_bytes(model_files.pack(*model_files.parse(good), padding=b"   "))
    assert digest(Network.load(path)) == digest(small_network())
    files = hostile_files.of(good)
    assert len(set(files.values())) == len(files) > 150
    for name, content in files.items():
        path.write_bytes(content)
        tracemalloc.start()
        try:
            with pytest.raises(ModelFileError, match=r"^.*net\.safetensors: ") as caught:
                Network.load(path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(str(caught.value)) < 500 + len(str(path)), name
        assert peak < len(content) + (16 << 20), name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "(?i)damaged, or no model file: .*header ?too ?small"),
        ("settings of others", "metadata hold no 'fastbp'"),
        ("settings no JSON", "its settings are not JSON"),
        ("checksum missing", "checksum is missing"),
        ("seed huge", "seed makes no sense: 18446744073709551616"),
        ("version of a later version", "its version is 2, and this version of fastbp reads 1"),
        ("weights.0 BF16", "array 'weights.0' must be of BOOL, .*, got BF16"),
        ("weights.0 I32", "weights must be F32 or F64, got I32"),
        ("numbers exchanged", "damaged: its content"),
    ],
)
def test_messages(name, message, good, path):
    path.write_bytes(hostile_files.of(good)[name])
    with pytest.raises(ModelFileError, match=message):
        Network.load(path)


def test_every_byte_cut_or_changed(good, path):
    """An error, or, where a bit means nothing (a space), the identical model."""
    expected, n_errors = digest(small_network()), 0
    for place in range(len(good)):
        path.write_bytes(good[:place])
        with pytest.raises(ModelFileError):
            Network.load(path)
        path.write_bytes(good[:place] + bytes([good[place] ^ 1 << place % 8]) + good[place + 1 :])
        try:
            assert digest(Network.load(path)) == expected
        except ModelFileError:
            n_errors += 1
    assert n_errors > 0.98 * len(good)
