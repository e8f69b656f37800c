"""Random changes of model files: an error, or the model that the file holds; nothing else.

Half of the changes are made to the bytes of a file, the other half to what its header says, with a
checksum that is right afterwards: no checksum keeps out who means harm.
"""

import copy
import json
import os
import random
import tempfile
import time
import traceback
from dataclasses import asdict
from pathlib import Path

import model_files
import numpy as np
from sklearn.datasets import load_iris

import fastbp
from fastbp._files import checkpoint
from fastbp.backprop import state
from fastbp.optimizers import SGD
from fastbp.training.history import History

STATM = Path("/proc/self/statm")

# What settings and fields of the header are replaced by
VALUES = [None, True, False, 0, 1, -1, 2, 3, 4, 7, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**400]
VALUES += [0.0, 1.0, -0.5, 1e308, float("inf"), float("nan"), "", "x", "F32", "F64", "U8", "0"]
VALUES += ["[2, 3]", [], [0], [1, 2], [2, 3], [3, 2], [0, 24], [[]], [None], {}, {"a": 1}]
VALUES += ["sigmoid", "tanh", "str", "object", "number", "network", "classifier", "checkpoint"]
VALUES += [{"tuple": [3]}, {"dict": [[1, 2]]}, {"array": ["<i8", [3]]}, {"array": ["O", [3]]}]
VALUES += [{"RandomState": [[1], 0, 0, 0.0]}, "NUL\0", "ü"]


def networks():
    """A file of each kind, and what reads it."""
    net = fastbp.Network([2, 3, 2], seed=3)
    net.velocity = np.linspace(-1, 1, 17)
    adam = fastbp.Network([1, 2], activation="relu", dtype="float64")
    adam.fit([[0.0], [1.0]], [0, 1], epochs=1, optimizer=fastbp.Adam())
    X, y = load_iris(return_X_y=True)
    strings = np.array(["one", "two", "three"])[y]
    sgd = {"solver": "sgd", "learning_rate": "adaptive", "hidden_layer_sizes": (2,)}
    for settings, labels in (({"hidden_layer_sizes": [3]}, y), (sgd, strings)):
        classifier = fastbp.MLPClassifier(max_iter=2, random_state=0, **settings)
        yield (
            classifier.partial_fit(X, labels, classes=np.unique(labels)),
            fastbp.MLPClassifier.load,
        )
    yield net, fastbp.Network.load
    yield adam, fastbp.Network.load


class CheckpointFile:
    """A checkpoint in the middle of an epoch, as something to save and to load."""

    X, y = np.arange(12.0).reshape(6, 2), np.array([0, 1] * 3)

    def __init__(self):
        net = fastbp.Network([2, 3, 2], dtype="float64")
        data = state.Data(self.X, None, self.y, None, np.empty(0))
        self._identity = checkpoint.identity_of(data, None, SGD(), 2, 0.0, True, 1)
        self._metadata = net._metadata(0)

    def save(self, path):
        def stop(network, epoch, entry):
            raise ArithmeticError

        try:
            fastbp.Network([2, 3, 2], dtype="float64").fit(
                *(self.X, self.y), batch_size=2, checkpoint=path, callback=stop
            )
        except ArithmeticError:
            pass

    def load(self, path):
        file = checkpoint.Checkpoint(path, None, self._identity, self._metadata)
        return file.load(3, False, asdict(History()))


def changed_bytes(rng, content, other):
    """The bytes of a file after some damage."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        first = rng.randrange(len(content) + 1)
        last = min(len(content), first + rng.choice([1, 1, 2, 8, 60]))
        kind = rng.randrange(7)
        if kind == 0 and first < len(content):
            content[first] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[first:last] = rng.randbytes(last - first)
        elif kind == 2:
            del content[first:last]
        elif kind == 3:
            content[first:first] = rng.randbytes(last - first)
        elif kind == 4:
            del content[first:]
        elif kind == 5:
            content[first:first] = content[first:last]
        else:
            content[first:last] = other[first:last]
    return bytes(content)


def changed_header(rng, content):
    """A file whose header says something else, with the right checksum."""
    header, data = model_files.parse(content)
    header = copy.deepcopy(header)
    for _ in range(rng.choice([1, 1, 2])):
        kind = rng.randrange(6)
        settings = header.get("__metadata__")
        if kind < 3 and isinstance(settings, dict) and settings:
            name = rng.choice(sorted(settings))
            try:
                settings[name] = json.dumps(changed_value(rng, json.loads(settings[name])))
            except (ValueError, TypeError):
                settings[name] = rng.choice(["", "[", "nul", "\ud800", "1e999"])
        elif kind == 3:
            header.pop(rng.choice(sorted(header)), None)
        else:
            name = rng.choice(sorted(header))
            header[name] = changed_value(rng, header[name])
    if rng.random() < 0.3:
        try:
            header = model_files.lay_out(header)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
            pass
    return model_files.pack(header, data)


def changed_value(rng, value):
    """A JSON value with something in it replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(sorted(value))
        return {**value, name: changed_value(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], changed_value(rng, value[place]), *value[place + 1 :]]
    return copy.deepcopy(rng.choice(VALUES))


def meaning(content):
    """What a file holds: its settings and arrays, wherever they lie."""
    header, data = model_files.parse(content)
    header["__metadata__"].pop("checksum", None)
    header["__metadata__"].pop("kind", None)  # a network is read from files of any kind
    held = {name: json.loads(text) for name, text in header.pop("__metadata__").items()}
    for name, place in header.items():
        start, end = place["data_offsets"]
        held[name] = place["dtype"], place["shape"], data[start:end]
    return held


def resident():
    return int(STATM.read_text().split()[1]) * 4096 if STATM.exists() else 0


def run(seconds, seed):
    """Try changed files for some time; return how many."""
    rng = random.Random(seed)
    folder = "/dev/shm" if os.path.isdir("/dev/shm") else None
    n_tried = n_refused = 0
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path, again = os.path.join(place, "model"), os.path.join(place, "again")
        files = []
        saved = CheckpointFile()
        for model, load in (*networks(), (saved, saved.load)):
            model.save(path)
            files.append((Path(path).read_bytes(), load))
            os.unlink(path)
        before, until = resident(), time.monotonic() + seconds  # compiled, or loaded, by now
        while time.monotonic() < until:
            if n_tried == 1000:
                before = resident()  # by now, all is in memory that is kept for the next time
            content, load = rng.choice(files)
            in_header = rng.random() < 0.5
            if in_header:
                hostile = changed_header(rng, content)
            else:
                hostile = changed_bytes(rng, content, rng.choice(files)[0])
            with open(path, "wb") as file:
                file.write(hostile)
            n_tried += 1
            try:
                loaded = load(path)
            except fastbp.ModelFileError:
                n_refused += 1
                continue
            except BaseException:
                keep(hostile, n_tried, seed)
                raise
            if isinstance(loaded, checkpoint.Snapshot):
                continue
            try:
                loaded.save(again)
                held = meaning(hostile if in_header else content)
                assert same(meaning(Path(again).read_bytes()), held)
            except BaseException:
                keep(hostile, n_tried, seed)
                raise
        grown = resident() - before
    print(
        f"{n_refused} files refused, {n_tried - n_refused} read; memory grew by {grown >> 10} KiB"
    )
    if grown > 16 << 20:
        raise AssertionError(f"the process has grown by {grown} bytes")
    return n_tried


def same(found, said):
    """Whether what was saved again is what the file said, but for what nobody looks at."""
    return all(rounded(found[name]) == rounded(said[name]) for name in found)


def rounded(value):
    """A JSON value with numbers as the floats that they are read as."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return repr(float(value)) if type(value) is int and abs(value) < 10**300 else repr(value)


def keep(content, number, seed):
    """Leave a file that broke something to be looked at."""
    traceback.print_exc()
    path = os.path.join(tempfile.gettempdir(), f"fastbp-hostile-{seed}-{number}")
    Path(path).write_bytes(content)
    print(f"file {number} of seed {seed} is kept as {path}")
