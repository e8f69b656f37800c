"""Probabilities by the network 784-30-10."""

from ._common import DTYPES, Prepared, network, samples, threads

LAYERS = [784, 30, 10]
# rows of a call, and the calls that are timed together
CALLS = {"1": (1, 2000), "2000": (2000, 4)}


class Probabilities(Prepared):
    params = (list(CALLS), DTYPES, [1, 2])
    param_names = ("rows", "dtype", "threads")
    version = "1"

    def prepare(self, rows, dtype, n_threads):
        n, self.calls = CALLS[rows]
        self.x, _ = samples(n, LAYERS, dtype)
        self.network = network(LAYERS, dtype)
        self.threads = threads("predict_proba", n_threads)
        self.network.predict_proba(self.x, **self.threads)  # compile

    def time_predict_proba(self, rows, dtype, n_threads):
        predict_proba, x, threads = self.network.predict_proba, self.x, self.threads
        for _ in range(self.calls):
            predict_proba(x, **threads)
