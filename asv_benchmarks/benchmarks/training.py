"""Training steps and predictions, from the smallest networks to large ones."""

import inspect

import numpy as np

import fastbp

# layers, batch, rows: an epoch over the rows takes some ten milliseconds or more
SIZES = {
    "XS 64-32-10 x 32": ([64, 32, 10], 32, 32768),
    "S 784-30-10 x 10": ([784, 30, 10], 10, 10000),
    "M 784-100-10 x 32": ([784, 100, 10], 32, 8192),
    "L 784-512-512-10 x 128": ([784, 512, 512, 10], 128, 1280),
    "XL 784-2048-2048-10 x 512": ([784, 2048, 2048, 10], 512, 1024),
}
HAS_THREADS = "n_threads" in inspect.signature(fastbp.Network.fit).parameters


class _Trained:
    """A network that has been compiled and touched; one call of `train` is an epoch."""

    def build(self, layers, n, dtype, n_threads):
        if not HAS_THREADS and n_threads > 1:
            raise NotImplementedError("this version has no threads")
        self.threads = {"n_threads": n_threads} if HAS_THREADS else {}
        rng = np.random.default_rng(0)
        self.x = rng.random((n, layers[0]), dtype)
        self.y = rng.integers(0, layers[-1], n)
        self.network = fastbp.Network(layers, dtype=dtype, seed=0)

    def train(self, batch, rows=None):
        self.network.fit(
            self.x[:rows],
            self.y[:rows],
            epochs=1,
            batch_size=batch,
            learning_rate=0.01,
            momentum=0.9,
            **self.threads,
        )


class Epoch(_Trained):
    """One epoch, mini-batches gathered in random order."""

    params = (list(SIZES), ["float32", "float64"], [1, 2])
    param_names = ("size", "dtype", "threads")
    version = "1"

    def setup(self, size, dtype, n_threads):
        layers, self.batch, n = SIZES[size]
        self.build(layers, n, dtype, n_threads)
        self.train(self.batch, rows=2 * self.batch)

    def time_epoch(self, size, dtype, n_threads):
        self.train(self.batch)


class Prediction(_Trained):
    """Probabilities by 784-30-10: two thousand calls of one row, one call of two thousand."""

    params = (["float32", "float64"], [1, 2])
    param_names = ("dtype", "threads")
    version = "1"

    def setup(self, dtype, n_threads):
        self.build([784, 30, 10], 2000, dtype, n_threads)
        self.rows = [self.x[i : i + 1] for i in range(2000)]
        self.network.predict_proba(self.x, **self.threads)

    def time_one_row(self, dtype, n_threads):
        predict_proba, threads = self.network.predict_proba, self.threads
        for row in self.rows:
            predict_proba(row, **threads)

    def time_2000_rows(self, dtype, n_threads):
        self.network.predict_proba(self.x, **self.threads)
