"""Files are what the safetensors package takes them for, and hostile ones are turned away."""

import io
import os
import sys
import threading
import tracemalloc
from functools import partial

import hostile_files
import model_files
import numpy as np
import pytest

from fastbp import ModelFileError, Network
from fastbp._files import network_file, safetensors
from fastbp._files.safetensors import DTYPES, reading, write

safetensors_numpy = pytest.importorskip("safetensors.numpy")
from safetensors import SafetensorError, safe_open  # noqa: E402

RNG = np.random.default_rng(0)
ARRAYS = {
    f"{name} {shape}": RNG.integers(0, 2, shape).astype(dtype)
    for name, dtype in DTYPES.items()
    for shape in ((), (0,), (3,), (2, 5), (1, 2, 3))
}


def all_of(path):
    with reading(path) as reader:
        arrays = {
            name: reader.take(name, np.empty(place.shape, DTYPES[place.dtype]))
            for name, place in reader.places.items()
        }
        reader.finish()
    return arrays, reader.metadata


def assert_same(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.safetensors"


def test_what_is_written_is_read(path):
    settings = {"a": "1", "ü": 'ö "\\\n\0', "": ""}
    write(path, ARRAYS, settings)
    arrays, metadata = all_of(path)
    assert_same(arrays, ARRAYS)
    assert metadata == settings


def test_nothing_is_written_and_read(path):
    write(path, {}, {})
    assert all_of(path) == ({}, {})


def test_the_package_reads_it(path):
    write(path, ARRAYS, {"a": "1", "ü": "ö"})
    assert_same(safetensors_numpy.load_file(path), ARRAYS)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    del metadata["checksum"]
    assert metadata == {"a": "1", "ü": "ö"}


def test_what_the_package_writes_is_read(path):
    write(path, ARRAYS, {"a": "1"})
    header, _ = model_files.parse(path.read_bytes())
    # It puts the arrays in another order.
    safetensors_numpy.save_file(ARRAYS, path, header["__metadata__"])
    arrays, metadata = all_of(path)
    assert_same(arrays, ARRAYS)
    assert metadata == {"a": "1"}


def test_arrays_are_aligned_and_the_header_is_canonical(path):
    write(path, ARRAYS, {"a": "1"})
    header, _ = model_files.parse(path.read_bytes())
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0
    for name, place in header.items():
        if name != "__metadata__":
            assert place["data_offsets"][0] % model_files.SIZES[place["dtype"]] == 0


def test_the_checksum_is_the_documented_one(path):
    write(path, ARRAYS, {"a": "1"})
    header, data = model_files.parse(path.read_bytes())
    assert header["__metadata__"]["checksum"] == model_files.checksum(header, data)


def test_same_content_same_bytes(path, tmp_path):
    write(path, ARRAYS, {"a": "1", "b": "2"})
    write(tmp_path / "other", dict(reversed(ARRAYS.items())), {"b": "2", "a": "1"})
    arrays, metadata = all_of(tmp_path / "other")
    assert_same(arrays, all_of(path)[0])
    assert metadata == all_of(path)[1]


def test_too_much_for_a_header(path):
    with pytest.raises(ValueError, match="room for 5461 arrays"):
        write(path, {f"a{n}": np.zeros(1) for n in range(6000)}, {})
    with pytest.raises(ValueError, match="524288 bytes of names"):
        write(path, {}, {"a": "x" * (1 << 19)})
    assert not path.exists()


def test_read_in_pieces(path, monkeypatch):
    write(path, ARRAYS, {})
    monkeypatch.setattr(safetensors, "PIECE", 7)
    assert_same(all_of(path)[0], ARRAYS)


def test_not_all_arrays_need_be_read(path):
    write(path, {"a": np.arange(300_000.0), "b": np.arange(3)}, {})
    content = bytearray(path.read_bytes())
    with reading(path) as reader:
        reader.take("b", np.empty(3, "i8"))
        reader.finish()
    content[-1_500_000] ^= 1
    path.write_bytes(content)
    with reading(path) as reader:
        reader.take("b", np.empty(3, "i8"))
        with pytest.raises(ModelFileError, match="damaged"):
            reader.finish()


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("b", np.empty(3), "array 'b' is missing"),
        ("a", np.empty(4), r"'a' must be F64 of shape \(4,\), got F64 of shape \(3,\)"),
        ("a", np.empty(3, "f4"), r"must be F32 of shape \(3,\), got F64"),
    ],
)
def test_another_array_than_expected(name, array, message, path):
    write(path, {"a": np.zeros(3)}, {})
    with reading(path) as reader, pytest.raises(ModelFileError, match=message):
        reader.take(name, array)


# Files that are cut short after their size has been looked at


@pytest.mark.parametrize("what", ["array", "array that nobody asked for", "header"])
def test_cut_short_meanwhile(what, path, monkeypatch):
    write(path, {"a": np.zeros(3), "b": np.zeros(3)}, {})
    if what == "header":
        fstat = os.fstat

        def cut(file):
            status = fstat(file)
            os.truncate(path, 20)
            return status

        monkeypatch.setattr(os, "fstat", cut)
        with pytest.raises(ModelFileError, match="cut short"), reading(path):
            pass
        return
    with reading(path) as reader:
        os.truncate(path, path.stat().st_size - 8)
        read = partial(reader.take, "b", np.empty(3)) if what == "array" else reader.finish
        with pytest.raises(ModelFileError, match="cut short"):
            read()


def test_short_reads(path, monkeypatch):
    """What the system gives at a time is its affair."""
    write(path, ARRAYS, {})

    class Slow:
        def __init__(self, file):
            self.seek = file.seek
            self.read = lambda n: file.read(min(n, 5))
            self.readinto = lambda place: file.readinto(place[:3])

    original = safetensors.Reader.__init__
    monkeypatch.setattr(
        safetensors.Reader,
        "__init__",
        lambda self, file, size, name: original(self, Slow(file), size, name),
    )
    assert_same(all_of(path)[0], ARRAYS)


# What is no file


def test_no_file(path):
    with pytest.raises(FileNotFoundError), reading(path):
        pass
    path.mkdir()
    with pytest.raises((IsADirectoryError, ModelFileError)), reading(path):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX")
def test_a_pipe_is_not_waited_for(path):
    os.mkfifo(path)
    ended = threading.Event()

    def read():
        with pytest.raises(ModelFileError, match="not a regular file"), reading(path):
            pass
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    assert ended.wait(10)


@pytest.mark.parametrize("path", [3, None])
def test_no_path(path):
    with pytest.raises(TypeError, match="expected str"), reading(path):
        pass


# Hostile files


def small_network():
    net = Network([2, 3, 2], seed=3)
    net.velocity = np.linspace(-1, 1, 17)
    return net


def good_file():
    path = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"fastbp-{os.getpid()}.safetensors")
    small_network().save(path)
    with open(path, "rb") as file:
        content = file.read()
    os.unlink(path)
    return content


GOOD = good_file()
HOSTILE = hostile_files.of(GOOD)


def test_there_are_enough():
    assert len(HOSTILE) >= 80
    assert len(set(HOSTILE.values())) == len(HOSTILE)


def test_the_one_that_they_are_made_of_is_good(path):
    path.write_bytes(model_files.pack(*model_files.parse(GOOD)))
    assert Network.load(path).__getstate__().keys() == small_network().__getstate__().keys()
    path.write_bytes(model_files.pack(*model_files.parse(GOOD), padding=b"   "))
    np.testing.assert_array_equal(Network.load(path).parameters, small_network().parameters)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name, path):
    path.write_bytes(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=r"^.*file\.safetensors: ") as caught:
            Network.load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 400 + len(str(path))
    assert peak < len(HOSTILE[name]) + (16 << 20)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("seven bytes", "it has 7 bytes"),
        ("length of 2^63", "a header of 9223372036854775808 bytes is announced"),
        ("length one too long", "a header of [0-9]+ bytes is announced"),
        ("header: longer than any", "its header has [0-9]+ bytes, and 524288 are the most"),
        ("header: many lists", "its header has [0-9]+ brackets"),
        ("header: deep lists", "its header has 1[0-9]+ brackets"),
        ("header: a name twice", "not JSON: a name occurs twice"),
        ("settings null", "its __metadata__ must be strings"),
        ("checksum missing", "it has no checksum"),
        ("seed huge", "seed makes no sense: 18446744073709551616"),
        ("version of a later version", "its version is 2, and this version of fastbp reads 1"),
        ("weights.0 BF16", "array 'weights.0' must be one of BOOL, .*, got 'BF16'"),
        ("weights.0 of 20000 large dimensions", "must have 32 dimensions at most"),
        ("weights.0 of 100 dimensions", "must have 32 dimensions at most"),
        ("weights.0 of a shape of booleans", "shape of array 'weights.0' must be whole numbers"),
        ("weights.0 of a huge shape", "F32 of shape .* takes [0-9]+ bytes, and its place has 24"),
        ("a gap before the last array", "must begin at byte"),
        ("more room than numbers", "and its place has"),
        ("bytes behind the arrays", "longer than it should be"),
        ("a byte missing", "cut short"),
        ("numbers exchanged", "damaged"),
    ],
)
def test_what_is_said_of_them(name, message, path):
    path.write_bytes(HOSTILE[name])
    with pytest.raises(ModelFileError, match=message):
        Network.load(path)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_the_package_turns_away_is_turned_away(name, path):
    """The other way round, it is enough that we are stricter."""
    path.write_bytes(HOSTILE[name])
    try:
        with safe_open(path, "numpy") as file:
            file.keys()
    except (SafetensorError, OSError):
        with pytest.raises(ModelFileError):
            Network.load(path)


def state(network):
    return {
        name: value.tobytes() if isinstance(value, np.ndarray) else value
        for name, value in network.__getstate__().items()
    }


def loaded(content):
    """The network of a file, without the detour through a disk."""
    reader = safetensors.Reader(io.BytesIO(content), len(content), "file")
    file = network_file.NetworkFile(reader, ("network",))
    network = Network._of_file(file)
    file.finish()
    return network


def test_cut_short_everywhere():
    for length in range(len(GOOD)):
        with pytest.raises(ModelFileError):
            loaded(GOOD[:length])


def test_every_bit_turned():
    """An error, or, where a bit means nothing (a space), the identical model."""
    expected, n_errors = state(small_network()), 0
    for place in range(8 * len(GOOD)):
        content = bytearray(GOOD)
        content[place // 8] ^= 1 << place % 8
        try:
            assert state(loaded(content)) == expected
        except ModelFileError:
            n_errors += 1
    assert n_errors > 7.9 * len(GOOD)


@pytest.mark.skipif(sys.platform == "win32", reason="files of zeros that take no room")
def test_more_than_there_is_memory(path):
    """A file of 2^50 bytes, of which the disk holds a few; nobody has so much memory."""
    header, _ = model_files.parse(GOOD)
    n = 1 << 24
    header["__metadata__"]["layer_sizes"] = f"[{n}, {n}]"
    for name in ("weights.1", "biases.1", "velocity"):
        del header[name]
    header["weights.0"]["shape"], header["biases.0"]["shape"] = [n, n], [n]
    content = model_files.frame(model_files.json.dumps(model_files.lay_out(header)).encode(), b"")
    path.write_bytes(content)
    try:
        os.truncate(path, len(content) + 4 * n * (n + 1))
    except OSError:
        pytest.skip("this file system has no files that are so long")
    with pytest.raises(ModelFileError, match="memory"):
        Network.load(path)
