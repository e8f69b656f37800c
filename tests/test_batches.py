"""Learning from mini-batches that a function makes."""

import numpy as np
import pytest
from test_distributed import SIZES, problem, state_of

import fastbp

X, LABELS, TARGETS, WEIGHT = problem(500)


def batches(size, *columns):
    """Return a function that makes batches of ``size`` rows, and counts its calls."""

    def make():
        make.n_calls += 1
        for first in range(0, len(columns[0]), size):
            yield tuple(column[first : first + size] for column in columns)

    make.n_calls = 0
    return make


def fit(*data, dtype="float32", **arguments):
    network = fastbp.Network(SIZES, dtype=dtype)
    return state_of(network, network.fit(*data, **arguments))


@pytest.mark.compiled
@pytest.mark.parametrize("form", ["labels", "targets, weights", "bytes"])
def test_batches_have_the_bits_of_the_rows_in_memory(form):
    columns = (X, TARGETS, WEIGHT) if form == "targets, weights" else (X, LABELS)
    if form == "bytes":
        columns = (X * 255).astype(np.uint8), LABELS
    x, y, *weight = columns
    arguments = {"epochs": 3, "l2": 1e-3, "sample_weight": weight[0] if weight else None}
    expected = fit(x, y, batch_size=120, shuffle=False, **arguments)
    del arguments["sample_weight"]
    make = batches(120, *columns)
    assert fit(make, **arguments) == expected  # the last one is short
    assert make.n_calls == 3
    assert fit(batches(240, *columns), batch_size=120, **arguments) == expected
    assert fit(lambda: list(make()), **arguments) == expected  # any iterable


def test_batches_of_any_size_and_kind_follow_each_other():
    """Of more rows than the first, then of others: weights, probabilities."""
    made = [
        (X[:7], LABELS[:7]),
        (X[7:200], LABELS[7:200]),
        (X[200:230], TARGETS[200:230]),
        (X[230:260], LABELS[230:260], WEIGHT[230:260]),
        (X[260:].tolist(), LABELS[260:].tolist()),
    ]
    one, other = fastbp.Network(SIZES), fastbp.Network(SIZES)
    one.fit(lambda: made, epochs=2)
    for x, y, *weight in 2 * made:
        weight = weight[0] if weight else None
        other.fit(x, y, epochs=1, batch_size=len(x), sample_weight=weight, shuffle=False)
    assert (one.epoch, other.epoch) == (2, 10)
    np.testing.assert_array_equal(one.parameters, other.parameters)
    np.testing.assert_array_equal(one.velocity, other.velocity)


def test_batch_without_weight_has_no_gradient():
    network = fastbp.Network(SIZES)
    before = network.parameters.copy()
    history = network.fit(lambda: [(X[:9], LABELS[:9], np.zeros(9))], epochs=1)
    np.testing.assert_array_equal(network.parameters, before)
    assert np.isnan(history.loss).all()


def test_iterator_serves_one_epoch():
    make = batches(100, X, LABELS)
    assert fit(make(), epochs=1) == fit(make, epochs=1)
    network = fastbp.Network(SIZES)
    with pytest.raises(TypeError, match=r"^X can be read only once, and epochs is 2: give the fun"):
        network.fit(make(), epochs=2)


@pytest.mark.compiled
@pytest.mark.parametrize("every", [None, 2])
def test_run_goes_on_where_a_function_was_interrupted(every, tmp_path):
    path = tmp_path / "checkpoint"

    def make(fails_at, rng):
        """Batches that differ from epoch to epoch."""
        order = rng.permutation(len(X))
        for number, first in enumerate(range(0, 500, 90)):
            if number == fails_at and make.epoch == 2:
                raise OSError("the disk is gone")
            yield X[order[first : first + 90]], LABELS[order[first : first + 90]]
        make.epoch += 1

    def maker(fails_at=None):
        rng = np.random.default_rng(3)
        make.epoch = 0
        return lambda: make(fails_at, rng)

    expected = fit(maker(), epochs=5)
    kept = {"checkpoint": path, "checkpoint_every": every, "epochs": 5}
    with pytest.raises(OSError, match="the disk is gone"):
        fit(maker(fails_at=4), **kept)
    assert fit(maker(), **kept, resume=True) == expected


def test_function_that_makes_less_than_before_is_refused(tmp_path):
    path = tmp_path / "checkpoint"

    def make():
        yield from batches(100, X, LABELS)()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        fit(make, checkpoint=path)
    with pytest.raises(ValueError, match="X must make the batches that it made before"):
        fit(batches(300, X, LABELS), checkpoint=path, resume=True)


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        ([], ValueError, "X must make at least one batch, made none in epoch 1"),
        (3, TypeError, r"X must return an iterator of \(X, y\), got int"),
        ([X[:3]], TypeError, r"X must make \(X, y\) or .*, got a ndarray"),
        ([(X[:3],)], TypeError, r"X must make \(X, y\) or .*, got a tuple of 1"),
        ([(X[:3], LABELS[:2])], ValueError, r"y of batch 0 must have shape \(3,\)"),
        ([(X[:3, :4], LABELS[:3])], ValueError, "X of batch 0 must have 20 columns"),
        ([(X[:0], LABELS[:0])], ValueError, "X of batch 0 must have at least one row"),
        ([(X[:3], LABELS[:3]), (X[:3] * np.nan, LABELS[:3])], ValueError,
         "X of batch 1 must be finite, got nan in row 0"),
        ([(X[:3], LABELS[:3], [1, 1])], ValueError, "sample_weight must have shape"),
    ],
)  # fmt: skip
def test_bad_batches_are_refused(made, error, message):
    with pytest.raises(error, match=f"^{message}"):
        fit(lambda: made)


@pytest.mark.parametrize("name", ["y", "sample_weight", "buffer_rows"])
def test_what_a_function_brings_along_is_left_out(name):
    with pytest.raises(TypeError, match=f"^{name} must be left out where a function makes the"):
        fit(batches(100, X, LABELS), **{name: 5})


def test_progress_without_an_end(capsys):
    fit(batches(100, X, LABELS), epochs=2, progress=True)
    assert "epoch 2/2" in capsys.readouterr().err
