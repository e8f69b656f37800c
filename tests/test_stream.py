"""Rows in a file: the order they are taken in, the bits of memory, interruptions and refusals."""

import os
import tracemalloc

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from trainings import OPTIMIZERS, digest

import fastbp
from fastbp import Network
from fastbp.training.rows import BLOCKS_PER_BUFFER, Shuffle

pytestmark = pytest.mark.compiled

N, FEATURES, CLASSES = 1003, 7, 3
SCALE = 1 / 255


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def data(rng):
    """Rows of uint8, labels and weights."""
    X = rng.integers(0, 256, (N, FEATURES), np.uint8)
    return X, rng.integers(0, CLASSES, N), rng.random(N)


@pytest.fixture
def saved(tmp_path):
    """A function that saves an array and returns the path."""

    def save(array, name="x.npy"):
        np.save(tmp_path / name, array)
        return tmp_path / name

    return save


def new():
    return Network([FEATURES, 5, CLASSES], seed=3)


def rows_of(shuffle, epoch):
    """Numbers of all rows in the order in which an epoch takes them."""
    numbers = []
    for k in range(shuffle.n_buffers):
        held = np.concatenate([np.arange(s.first, s.first + s.n) for s in shuffle.spans(epoch, k)])
        numbers.append(held[shuffle.order(epoch, k)])
    return np.concatenate(numbers)


# The order


@pytest.mark.parametrize("n_rows", [1, 257, 1003, 10000])
@pytest.mark.parametrize("buffer_rows", [1, 255, 256, 3000])
def test_each_epoch_takes_each_row_once(n_rows, buffer_rows):
    shuffle = Shuffle(n_rows, buffer_rows, seed=1)
    first, second = rows_of(shuffle, 1), rows_of(shuffle, 2)
    for numbers in (first, second):
        assert sorted(numbers.tolist()) == list(range(n_rows))
    assert n_rows == 1 or (first != second).any()
    np.testing.assert_array_equal(rows_of(shuffle, 1), first)
    np.testing.assert_array_equal(rows_of(shuffle._replace(seed=None), 1), np.arange(n_rows))


def test_a_buffer_holds_rows_from_everywhere():
    """Sorted rows are learnt as well as shuffled ones only if each buffer is a fair sample."""
    shuffle = Shuffle(100_000, 10_000, seed=1)
    for k in range(shuffle.n_buffers):
        spans = shuffle.spans(1, k)
        assert len(spans) >= BLOCKS_PER_BUFFER
        places = [span.first for span in spans]
        assert 35_000 < np.mean(places) < 65_000


# The bits of rows in memory


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", "int32"])
def test_rows_that_fit_into_a_buffer_give_the_bits_of_memory(data, saved, dtype):
    X, y, weight = data
    X = X.astype(dtype)
    scale = SCALE if dtype == "uint8" else None
    how = {"epochs": 2, "batch_size": 20, "learning_rate": 1e-3, "sample_weight": weight}
    expected = new()
    expected.fit(X.astype("float32") * np.float32(scale or 1), y, **how)
    path = saved(X)
    for source in (path, str(path), np.load(path, mmap_mode="r"), X):
        net = new()
        net.fit(fastbp.open_rows(source, saved(y, "y.npy"), scale=scale), **how)
        assert digest(net) == digest(expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("shuffle", [True, False])
def test_buffers_give_the_bits_of_memory_in_their_order(data, saved, rng, optimizer, shuffle):
    X, y, weight = data
    if optimizer == "nesterov":  # rows of probabilities, too
        y = rng.dirichlet(np.ones(CLASSES), N)
    batch_size, buffer_rows = 20, 310  # 300 rows in whole batches, and 103 in the last
    order = Shuffle(N, 300, 3 if shuffle else None)
    how = {"batch_size": batch_size, "optimizer": OPTIMIZERS[optimizer]}
    expected, losses = new(), []
    for epoch in (1, 2, 3):
        numbers = rows_of(order, epoch)
        x = X[numbers].astype("float32") * np.float32(SCALE)
        history = expected.fit(
            x, y[numbers], sample_weight=weight[numbers], epochs=1, shuffle=False, **how
        )
        losses += history.loss
    if optimizer in ("nesterov", "adamw"):  # floats, too
        rows = fastbp.open_rows(saved(X.astype("float32") * np.float32(SCALE)), y)
    else:
        rows = fastbp.open_rows(saved(X), y, scale=SCALE)
    for n_threads in (1, 2):
        net = new()
        history = net.fit(
            *(rows,),
            sample_weight=weight,
            epochs=3,
            shuffle=shuffle,
            buffer_rows=buffer_rows,
            n_threads=n_threads,
            **how,
        )
        assert digest(net) == digest(expected)
        assert history.loss == losses


class Stop(Exception):
    pass


@pytest.mark.parametrize("n_epochs_before", [1, 2])
def test_an_interrupted_run_goes_on_to_the_same_bits(data, saved, tmp_path, n_epochs_before):
    X, y, _ = data
    rows = fastbp.open_rows(saved(X), y, scale=SCALE)
    how = {"epochs": 4, "batch_size": 20, "learning_rate": 0.01, "buffer_rows": 200}
    expected = new()
    expected.fit(rows, **how)
    checkpoint = {"checkpoint": tmp_path / "run", "checkpoint_every": 7}

    def stop(network, epoch, entry):
        if epoch == n_epochs_before:
            raise Stop

    with pytest.raises(Stop):
        new().fit(rows, **how, **checkpoint, callback=stop)
    net = new()
    net.fit(rows, **how, **checkpoint, resume=True)
    assert digest(net) == digest(expected)
    with pytest.raises(ValueError, match="buffer_rows"):
        new().fit(rows, **how | {"buffer_rows": 400}, **checkpoint, resume=True)
    X[3] += 1
    other = fastbp.open_rows(saved(X, "other.npy"), y, scale=SCALE)
    with pytest.raises(ValueError, match="X"):
        new().fit(other, **how, **checkpoint, resume=True)


def test_another_scale_is_another_run(data, tmp_path):
    X, y, _ = data
    how = {"learning_rate": 0.01, "checkpoint": tmp_path / "run"}
    new().fit(fastbp.open_rows(X, y, scale=SCALE), epochs=1, **how)
    with pytest.raises(ValueError, match="X"):
        new().fit(fastbp.open_rows(X, y, scale=1 / 256), epochs=2, **how, resume=True)


def test_a_run_goes_on_from_the_middle_of_a_buffer(data, saved, tmp_path, monkeypatch):
    X, y, _ = data
    rows = fastbp.open_rows(saved(X.astype("float32")), y)
    how = {"epochs": 2, "batch_size": 20, "learning_rate": 1e-4, "buffer_rows": 200}
    expected = new()
    expected.fit(rows, **how)
    saves, replace = [], os.replace

    def stop_at_the_fifth(*names, **options):
        replace(*names, **options)
        saves.append(names)
        if len(saves) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop_at_the_fifth)
    checkpoint = {"checkpoint": tmp_path / "run", "checkpoint_every": 7}
    with pytest.raises(KeyboardInterrupt):
        new().fit(rows, **how, **checkpoint)
    net = new()
    net.fit(rows, **how, **checkpoint, resume=True)
    assert digest(net) == digest(expected)


def test_memory_holds_two_buffers(rng, saved):
    X = rng.integers(0, 256, (1 << 16, 1 << 8), np.uint8)
    path, y = saved(X), np.zeros(len(X), np.intp)
    rows, net = fastbp.open_rows(path, y), Network([X.shape[1], 2, 2])
    how = {"batch_size": 256, "learning_rate": 1e-4, "buffer_rows": 1 << 12}
    net.fit(rows, epochs=1, **how)
    del X
    tracemalloc.start()
    net.fit(rows, epochs=2, **how)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (2 << 20) * 2  # of 16 MiB


# Parquet and Arrow files


def table_of(X, y, kind):
    """The rows as columns of numbers, as lists of fixed or any size, or as bytes; and labels."""
    if kind == "columns":
        columns = {f"x{j}": X[:, j] for j in range(X.shape[1])}
    elif kind == "bytes":
        binary = pyarrow.binary(X.shape[1])
        columns = {"x": pyarrow.array([row.tobytes() for row in X], binary)}
    elif kind == "fixed lists":
        columns = {
            "x": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(X.ravel()), X.shape[1])
        }
    else:
        columns = {"x": pyarrow.array(list(X))}
    return pyarrow.table({**columns, "label": y})


def write(table, path, rows):
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=rows)
    else:
        with pyarrow.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=rows)
    return path


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("kind", ["columns", "bytes", "fixed lists", "lists"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_columns_give_the_bits_of_memory(data, tmp_path, kind, dtype, ending):
    X, y, _ = data
    if kind == "bytes" and dtype != "uint8":
        return
    X = X.astype(dtype)
    for part in (0, 1):  # two files, the second with rows of its own
        half = slice(part * 500, N if part else 500)
        write(table_of(X[half], y[half], kind), tmp_path / f"part-{part}.{ending}", 60)
    paths = [str(tmp_path / f"part-{part}.{ending}") for part in (0, 1)]
    scale = {"scale": SCALE} if dtype == "uint8" else {}
    rate = 0.01 if dtype == "uint8" else 1e-5
    how = {"epochs": 2, "batch_size": 20, "learning_rate": rate}
    expected = new()
    expected.fit(fastbp.open_rows(X, y, **scale), **how)
    for source in (paths, str(tmp_path / f"part-*.{ending}")):
        rows = fastbp.open_rows(source, label="label", **scale)
        assert (len(rows), rows.n_features, rows.dtype) == (N, FEATURES, np.dtype(dtype))
        net = new()
        net.fit(rows, **how)
        assert digest(net) == digest(expected)
    sizes = np.array([60] * 8 + [20] + [60] * 8 + [23])
    order, streamed = Shuffle(N, 200, 3, sizes), new()
    streamed.fit(rows, **how, buffer_rows=200)
    expected = new()
    for epoch in (1, 2):
        numbers = rows_of(order, epoch)
        assert sorted(numbers.tolist()) == list(range(N))
        chosen = fastbp.open_rows(X[numbers], y[numbers], **scale)
        expected.fit(chosen, **how | {"epochs": 1}, shuffle=False)
    assert digest(streamed) == digest(expected)


def test_refusals_of_columns(data, tmp_path):
    X, y, _ = data
    good = write(table_of(X, y, "columns"), tmp_path / "good.parquet", 100)
    (tmp_path / "text.parquet").write_text("nothing")
    with_null = pyarrow.table({"x": [1.0] * 30 + [None], "label": [0] * 31})
    ragged = pyarrow.table({"x": [[1.0, 2.0], [3.0]], "label": [0, 1]})
    words = pyarrow.table({"x": ["a", "b"], "label": [0, 1]})
    other = write(pyarrow.table({"x0": X[:1, 0], "label": [0]}), tmp_path / "other.parquet", 1)
    no_label = pyarrow.table({"x": [1.0, 2.0], "label": pyarrow.array([None, 1])})
    for error, message, X_, how in (
        (FileNotFoundError, "no file", tmp_path / "nowhere.parquet", {"label": "label"}),
        (ValueError, "must be a Parquet or Arrow file: .*text", tmp_path / "text.parquet", {}),
        (ValueError, r"\.parquet or \.arrow files, got .*x\.npy", [good, "x.npy"], {}),
        (ValueError, "X must have one column 'z', ", good, {"features": ["z"]}),
        (ValueError, "X must have one column 'x1', .*other", [good, other], {"label": "label"}),
        (
            ValueError,
            "must hold no null, column 'x' of .*bad.parquet does",
            with_null,
            {"label": "label"},
        ),
        (ValueError, "X must have lists of one length", ragged, {"label": "label"}),
        (TypeError, "features must be numbers, lists or bytes", words, {"label": "label"}),
        (ValueError, "must hold no null, column 'label'", no_label, {"label": "label"}),
        (TypeError, "y must be given", good, {"features": ["x0"]}),
        (TypeError, "y must be left out where label", good, {"y": y, "label": "label"}),
        (TypeError, "features must be a sequence of names", good, {"features": "x0", "y": y}),
        (TypeError, "label must be None but for Parquet", X, {"label": "label", "y": y}),
    ):
        if isinstance(X_, pyarrow.Table):
            X_ = write(X_, tmp_path / "bad.parquet", 10)
        with pytest.raises(error, match=message):
            fastbp.open_rows(X_, **how)


# Refusals


def test_a_row_that_is_not_finite_is_named(data, saved):
    X, y, _ = data
    X = X.astype("float64")
    X[777, 2] = np.nan
    rows, net = fastbp.open_rows(saved(X), y), new()
    with pytest.raises(ValueError, match=r"^X must be finite, got nan in row 777 of .*x\.npy$"):
        net.fit(rows, epochs=1, batch_size=10, learning_rate=1e-4, buffer_rows=100)
    assert np.isfinite(net.parameters).all()


def test_a_file_that_became_shorter_is_named(data, saved):
    X, y, _ = data
    path = saved(X)
    rows = fastbp.open_rows(path, y)
    os.truncate(path, os.path.getsize(path) - 10 * FEATURES)
    with pytest.raises(OSError, match=rf"^X: .*x\.npy ends before row \d+ of {N}$"):
        new().fit(rows, epochs=1, buffer_rows=100, learning_rate=1e-4)


def test_refusals_of_open_rows(data, saved, tmp_path):
    X, y, _ = data
    path = saved(X)
    (tmp_path / "text.npy").write_text("no array")
    np.savez(tmp_path / "many.npz", X)
    for error, message, arguments in (
        (FileNotFoundError, "nowhere", (tmp_path / "nowhere.npy", y)),
        (IsADirectoryError, "X must be a file, got the folder", (tmp_path, y)),
        (ValueError, r"X must be a \.npy file of numbers: .*text\.npy", (tmp_path / "text.npy", y)),
        (ValueError, r"X must be a \.npy file of one array", (tmp_path / "many.npz", y)),
        (ValueError, "X must be in C order", (saved(np.asfortranarray(X), "f.npy"), y)),
        (ValueError, r"X must have shape \(n, n_features\), got \(1003,\)", (saved(y, "y.npy"), y)),
        (ValueError, "X must have at least one row", (saved(X[:0], "e.npy"), [])),
        (TypeError, "X must be an array of float16", (saved(X.astype("S3"), "s.npy"), y)),
        (TypeError, "y must be given", (path,)),
        (ValueError, r"y must have 1003 rows, as X has, got shape \(1002,\)", (path, y[1:])),
    ):
        with pytest.raises(error, match=message):
            fastbp.open_rows(*arguments)
    with pytest.raises(ValueError, match="scale must be given for rows of uint8 alone"):
        fastbp.open_rows(X.astype("float32"), y, scale=SCALE)
    with pytest.raises(TypeError, match="scale must be a finite number"):
        fastbp.open_rows(path, y, scale="1/255")


def test_refusals_of_fit(data, saved):
    X, y, _ = data
    rows, net = fastbp.open_rows(saved(X), y), new()
    before = digest(net)
    for error, message, arguments, options in (
        (TypeError, "y must be left out", (rows, y), {}),
        (TypeError, "y must be an array, got NoneType", (X,), {}),
        (ValueError, "buffer_rows must be None without open_rows", (X, y), {"buffer_rows": 99}),
        (ValueError, "buffer_rows must be at least batch_size, 32", (rows,), {"buffer_rows": 9}),
        (ValueError, "X must have 7 columns", (fastbp.open_rows(X[:, 1:], y),), {}),
        (ValueError, "y must hold labels from 0 to 2", (fastbp.open_rows(X, y + 1),), {}),
        (ValueError, "sample_weight must have shape", (rows,), {"sample_weight": np.ones(3)}),
    ):
        with pytest.raises(error, match=message):
            net.fit(*arguments, **options)
    assert digest(net) == before
