"""Dask: training on workers, and searches of scikit-learn over them."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import fastbp

distributed = pytest.importorskip("distributed", reason="trains on Dask's workers")

pytestmark = [
    pytest.mark.compiled,
    # of Dask's own: event loops and sockets that end with the cluster
    pytest.mark.filterwarnings("ignore"),
]

SIZES = (20, 16, 4)


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.random((1500, 20), dtype=np.float32), rng.integers(0, 4, 1500)


@pytest.mark.parametrize("optimizer", [None, fastbp.Adam()], ids=str)
def test_workers_have_the_bits_of_one_process(client, data, optimizer, tmp_path):
    import fastbp.dask

    arguments = {"epochs": 3, "batch_size": 512, "optimizer": optimizer}
    alone = fastbp.Network(SIZES)
    history = alone.fit(*data, **arguments)
    np.save(tmp_path / "x.npy", data[0])
    for given in (data, (fastbp.open_rows(tmp_path / "x.npy", data[1]),)):
        network = fastbp.Network(SIZES)
        weights = network.weights[0]
        found = fastbp.dask.fit(client, network, *given, **arguments)
        assert found.loss == history.loss
        assert network.epoch == 3
        assert weights is network.weights[0]
        np.testing.assert_array_equal(network.parameters, alone.parameters)
        np.testing.assert_array_equal(network.velocity, alone.velocity)
        np.testing.assert_array_equal(network.second_moment, alone.second_moment)


def test_error_on_a_worker_is_raised_here(client, data):
    import fastbp.dask

    def callback(network, epoch, entry):
        raise KeyError("the callback failed")

    network = fastbp.Network(SIZES)
    before = network.parameters.copy()
    with pytest.raises(KeyError, match="the callback failed"):
        fastbp.dask.fit(client, network, *data, batch_size=512, callback=callback)
    with pytest.raises(ValueError, match=r"^X must have 20 columns"):
        fastbp.dask.fit(client, network, data[0][:, :3], data[1], batch_size=512)
    np.testing.assert_array_equal(network.parameters, before)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"comm": 3}, TypeError, "comm must be left out: the workers' sockets take its place"),
        ({"workers": []}, ValueError, "workers must be at least one, got none"),
        ({"workers": ["tcp://1:2"]}, ValueError, "workers must be different workers of the client"),
    ],
)
def test_refusals(client, data, arguments, error, message):
    import fastbp.dask

    with pytest.raises(error, match=f"^{message}"):
        fastbp.dask.fit(client, fastbp.Network(SIZES), *data, **arguments)


def test_lost_worker_does_not_hang(data):
    import fastbp.dask

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        pids = client.run(os.getpid)
        lost = sorted(pids)[1]
        network = fastbp.Network(SIZES)
        before, started = network.parameters.copy(), time.monotonic()
        timer = threading.Timer(4, os.kill, (pids[lost], signal.SIGKILL))
        timer.start()
        with pytest.raises(fastbp.distributed.DistributedError, match=r"^rank 1 of 2"):
            fastbp.dask.fit(client, network, *data, batch_size=512, epochs=10**7)
        assert time.monotonic() - started < 34
        np.testing.assert_array_equal(network.parameters, before)


def test_searches_over_workers_find_what_serial_ones_do(client):
    """scikit-learn's, on joblib's backend for Dask, without a line of ours."""
    import joblib
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = load_digits(return_X_y=True)
    x = x[:600].astype(np.float32)

    def search(kind):
        classifier = fastbp.MLPClassifier(max_iter=8, random_state=0)
        pipeline = make_pipeline(StandardScaler(), classifier)
        choices = {
            "mlpclassifier__hidden_layer_sizes": [(8,), (16,)],
            "mlpclassifier__alpha": [1e-4, 1.0],
        }
        more = {} if kind is GridSearchCV else {"n_iter": 3, "random_state": 0}
        return kind(pipeline, choices, cv=3, error_score="raise", **more)

    for kind in (GridSearchCV, RandomizedSearchCV):
        serial = search(kind).fit(x, y[:600])
        with joblib.parallel_backend("dask"):
            shared = search(kind).fit(x, y[:600])
        assert shared.best_params_ == serial.best_params_
        for name in serial.cv_results_:
            if name.startswith("split"):
                np.testing.assert_array_equal(shared.cv_results_[name], serial.cv_results_[name])
        found, expected = shared.best_estimator_[-1].coefs_, serial.best_estimator_[-1].coefs_
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_incremental_learning_over_parts(client):
    """dask-ml's Incremental calls partial_fit, part by part."""
    wrappers = pytest.importorskip("dask_ml.wrappers", reason="the wrapper itself")
    from dask import array
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, classes = x.astype(np.float32), np.arange(10)
    wrapped = wrappers.Incremental(
        fastbp.MLPClassifier((16,), random_state=0), shuffle_blocks=False
    )
    parts = array.from_array(x, chunks=(300, 64)), array.from_array(y, chunks=300)
    wrapped.fit(*parts, classes=classes)
    by_hand = fastbp.MLPClassifier((16,), random_state=0)
    for first in range(0, len(x), 300):
        by_hand.partial_fit(x[first : first + 300], y[first : first + 300], classes=classes)
    for one, other in zip(wrapped.estimator_.coefs_, by_hand.coefs_, strict=True):
        np.testing.assert_array_equal(one, other)
