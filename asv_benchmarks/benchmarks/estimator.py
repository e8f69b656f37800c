"""MLPClassifier: epochs of scikit-learn's digits, by themselves and beside scikit-learn's class."""

import warnings

import numpy as np

from ._common import DTYPES, Prepared, on_a_page, part
from .ratios import EPOCH_SECONDS, _OnOneCore

SOLVERS = {
    "64-100-10 x 200 adam": {"solver": "adam", "learning_rate_init": 0.001},
    "64-100-10 x 200 sgd": {"solver": "sgd", "learning_rate_init": 0.05},
}
SETTINGS = {"activation": "relu", "hidden_layer_sizes": (100,), "batch_size": 200}


def classifier(size, n_threads):
    try:
        kind = part("MLPClassifier")
    except ImportError:
        raise NotImplementedError("MLPClassifier needs a later scikit-learn") from None
    return kind(**SETTINGS, **SOLVERS[size], random_state=0, n_threads=n_threads)


def digits(dtype):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return on_a_page((x / 16).astype(dtype)), y


def epochs_of(classifier, x, y):
    """A block of epochs, each of which goes on where the last one ended."""

    def train(n_epochs):
        for _ in range(n_epochs):
            classifier.partial_fit(x, y)

    return train


class Epochs(Prepared):
    """Five epochs by partial_fit: what a call checks and copies is in it."""

    params = (list(SOLVERS), DTYPES, [1, 2])
    param_names = ("layers x batch", "dtype", "threads")
    version = "1"

    def prepare(self, size, dtype, n_threads):
        self.classifier = classifier(size, n_threads)
        self.x, self.y = digits(dtype)
        self.classifier.partial_fit(self.x, self.y, classes=np.arange(10))  # compile

    def time_five_epochs(self, size, dtype, n_threads):
        epochs_of(self.classifier, self.x, self.y)(5)


class Sparse(Prepared):
    """Sparse rows with 100 entries each: an epoch by partial_fit, and their probabilities."""

    params = (["2000 x 30000"], DTYPES, [1, 2])
    param_names = ("rows x columns", "dtype", "threads")
    version = "1"

    def prepare(self, size, dtype, n_threads):
        from scipy import sparse

        n, n_features = map(int, size.split(" x "))
        rng = np.random.default_rng(0)
        columns = rng.integers(0, n_features, (n, 100)).ravel()
        entries = rng.standard_normal(columns.size).astype(dtype), columns, np.arange(n + 1) * 100
        self.x = sparse.csr_matrix(entries, (n, n_features))
        self.x.sum_duplicates()
        self.y = np.arange(n) % 10
        self.classifier = classifier("64-100-10 x 200 sgd", n_threads)
        self.classifier.partial_fit(self.x, self.y, classes=np.arange(10))  # compile
        self.classifier.predict_proba(self.x)

    def time_epoch(self, size, dtype, n_threads):
        self.classifier.partial_fit(self.x, self.y)

    def time_predict_proba(self, size, dtype, n_threads):
        self.classifier.predict_proba(self.x)


class Ratios(_OnOneCore):
    """Epochs by partial_fit, of the same parameters."""

    params = (list(SOLVERS), DTYPES, [1], ["scikit-learn"])
    param_names = ("layers x batch", "dtype", "threads", "implementation")

    def setup(self, size, dtype, n_threads, implementation):
        ours = classifier(size, n_threads)
        super().setup(implementation)
        from sklearn.neural_network import MLPClassifier

        x, y = digits(dtype)
        theirs = MLPClassifier(**SETTINGS, **SOLVERS[size], random_state=0)
        self.candidates = {"fastbp": ours, implementation: theirs}
        self.prove_equal(x, y)
        self.blocks = {name: epochs_of(kind, x, y) for name, kind in self.candidates.items()}

    def prove_equal(self, x, y):
        """From one random state both come to the same coefficients."""
        for model in self.candidates.values():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # three epochs do not converge
                model.set_params(max_iter=3).fit(x, y)
        ours, theirs = self.candidates.values()
        tolerance = 1e-9 if x.dtype == np.float64 else 1e-3
        for name in ("coefs_", "intercepts_"):
            for mine, other in zip(getattr(ours, name), getattr(theirs, name), strict=True):
                np.testing.assert_allclose(mine, other, tolerance, tolerance, err_msg=name)

    def track_epochs(self, size, dtype, n_threads, implementation):
        return self.ratio(self.blocks, implementation, EPOCH_SECONDS)
