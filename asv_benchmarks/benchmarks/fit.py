"""Training from start to end, on data of the size of scikit-learn's digits."""

import numpy as np

import fastbp


class Fit:
    """Five epochs of 1797 samples of 64 numbers, 10 classes, 32 hidden units, batches of 32."""

    params = (["float32", "float64"],)
    param_names = ("dtype",)
    version = "1"

    def setup(self, dtype):
        rng = np.random.default_rng(0)
        self.x = rng.random((1797, 64), dtype)
        self.y = rng.integers(0, 10, 1797)
        self.network = fastbp.Network([64, 32, 10], dtype=dtype, seed=0)
        self.train(rows=64, epochs=1)  # compile

    def train(self, rows, epochs):
        self.network.fit(
            self.x[:rows],
            self.y[:rows],
            epochs=epochs,
            batch_size=32,
            learning_rate=0.5,
            momentum=0.9,
            progress=False,
        )

    def time_five_epochs(self, dtype):
        self.train(rows=None, epochs=5)
