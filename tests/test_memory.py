"""What training takes in memory, above the data."""

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import trainings

from fastbp import Network
from fastbp.backprop import layout

STATM = Path("/proc/self/statm")

pytestmark = pytest.mark.compiled


def resident_bytes():
    return int(STATM.read_text().split()[1]) * 4096


def drawn(n, n_features, dtype="float32"):
    rng = np.random.default_rng(0)
    return rng.random((n, n_features), dtype), rng.integers(0, 10, n)


@pytest.mark.skipif(not STATM.exists(), reason="only Linux tells the resident size this way")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_resident_size_is_flat_over_epochs(n_threads, monkeypatch):
    trainings.share_all(monkeypatch)
    X, y = drawn(100, 64)
    net = Network([64, 32, 10])
    net.fit(X, y, epochs=50, n_threads=n_threads)
    before = resident_bytes()
    net.fit(X, y, epochs=1000, n_threads=n_threads)
    assert resident_bytes() - before < 2**20


@pytest.mark.parametrize("sizes", [(300, 400, 10), (64, 500, 300, 10)])
def test_peak_is_three_times_the_parameters_and_one_batch(sizes, dtype):
    X, y = drawn(200, sizes[0], dtype)
    tracemalloc.start()
    try:
        net = Network(sizes, dtype=dtype)
        net.fit(X[:20], y[:20], epochs=1, batch_size=20)  # compiled or loaded
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        net.fit(X, y, epochs=2, batch_size=20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    itemsize = np.dtype(dtype).itemsize
    # in panel form, rows are filled up to whole vectors
    lanes = 64 // itemsize
    in_panels = sum((m + 1) * -(-n // lanes) * lanes for m, n in itertools.pairwise(sizes))
    # activations and errors; rows are padded by up to two lines, arrays by up to a page and a line
    batch = 20 * 2 * sum(n + 2 * layout.LINE for n in sizes) * itemsize
    order = 4 * len(X) * 8  # row numbers, random words, labels
    # two of the three are the network's own: the value and the velocity
    assert held > 2 * net.parameters.nbytes
    assert peak - held < in_panels * itemsize + batch + order + 8 * layout.PAGE_BYTES
