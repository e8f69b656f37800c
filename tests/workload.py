"""A fit and predictions of each model for threads and processes, with the bits of a serial one.

Small, yet large enough for two threads to share every step and every prediction.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

import fastbp

MODELS = "network", "classifier"
ROWS, FEATURES, HIDDEN, CLASSES = 2000, 100, 64, 8
BATCH, EPOCHS = 500, 2


def data():
    """Classes that can be told apart, more or less."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, ROWS)
    X = rng.standard_normal((ROWS, FEATURES), np.float32)
    X[np.arange(ROWS), y] += 1
    return X, y


class _AfterEpochs:
    """A callback of scikit-learn's kind."""

    def __init__(self, call):
        self._call = call

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self._call()

    def teardown(self, estimator, context):
        pass


@dataclass(frozen=True)
class Job:
    """What is done with a model; called, it tells whether that gave the bits of ``serial``."""

    model: str
    serial: str = ""

    def fit(self, n_threads=2, after_epoch=None):
        """A trained model."""
        X, y = data()
        if self.model == "network":
            network = fastbp.Network([FEATURES, HIDDEN, CLASSES])
            options = {"epochs": EPOCHS, "batch_size": BATCH, "n_threads": n_threads}
            callback = None if after_epoch is None else lambda *_: after_epoch()
            network.fit(X, y, **options, callback=callback)
            return network
        classifier = fastbp.MLPClassifier(
            (HIDDEN,), batch_size=BATCH, max_iter=EPOCHS, random_state=0, n_threads=n_threads
        )
        if after_epoch is None:
            return classifier.fit(X, y)
        return classifier.set_callbacks(_AfterEpochs(after_epoch)).fit(X, y).set_callbacks()

    def digest(self, fitted):
        """Of the parameters of a trained model and of all that it predicts."""
        X, y = data()
        if self.model == "network":
            found, given = [fitted.parameters], {"n_threads": 2}
        else:
            found, given = [*fitted.coefs_, *fitted.intercepts_], {}
        for name in ("predict", "predict_proba", "predict_log_proba"):
            found.append(getattr(fitted, name)(X, **given))
        found.append(fitted.score(X, y, **given))
        return hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in found)).hexdigest()

    def knows(self, fitted):
        """Whether it is what a serial fit gives, and predicts the same."""
        return self.digest(fitted) == self.serial

    def __call__(self):
        """Whether a fit gives that."""
        return self.knows(self.fit())


def serial_job(model):
    """The job, after it has been done by one thread."""
    job = Job(model)
    return Job(model, job.digest(job.fit(n_threads=1)))
