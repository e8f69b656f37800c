"""Trainings that give the same bits by any number of threads and on any processor.

As a program: print the digests of the named courses.
"""

import hashlib
import json
import sys
import warnings

import numpy as np
from scipy.sparse import csr_array

from fastbp import SGD, Adam, MLPClassifier, Network

ROWS, FEATURES, CLASSES = 1100, 33, 5
EPOCHS = 2


def drawn():
    """Rows with zeros, labels, probabilities, and weights of rows."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(ROWS, FEATURES)) * (rng.random((ROWS, FEATURES)) < 0.7)
    y = rng.integers(0, CLASSES, ROWS)
    return X, y, rng.dirichlet(np.ones(CLASSES), ROWS), rng.uniform(size=ROWS)


def by_network(hidden, batch_size, activation="sigmoid", *, dtype, soft=False, **how):
    """A course of `Network.fit`, with weights of rows."""

    def train(n_threads):
        X, y, soft_y, weight = drawn()
        net = Network([FEATURES, *hidden, CLASSES], activation=activation, dtype=dtype)
        given = {"batch_size": batch_size, "n_threads": n_threads, "sample_weight": weight, **how}
        history = net.fit(X, soft_y if soft else y, epochs=EPOCHS, **given)
        return net.parameters, net.velocity, net.second_moment, history.loss, history.accuracy

    return train


def by_classifier(form, **how):
    """A course of `MLPClassifier.fit`; its loss includes the penalty."""

    def train(n_threads):
        X, y, *_ = drawn()
        model = MLPClassifier(
            (47, 21), alpha=0.5, max_iter=EPOCHS, random_state=0, n_threads=n_threads, **how
        )
        with warnings.catch_warnings(action="ignore"):
            model.fit(form(X.astype("f4")), y)
        return model.coefs_, model.intercepts_, model.loss_curve_

    return train


# Batches on both sides of one block of rows and of two; layers wider than a panel.  All dense steps
# are of two kinds: each further kind would have to be compiled for each processor.
BY_LABELS = {"dtype": "float32"}
BY_TARGETS = {"dtype": "float64", "soft": True, "optimizer": Adam(0.01, weight_decay=0.1)}
COURSES = {
    "small batches": by_network((47, 21), 29, **BY_LABELS, l2=0.01),
    "a block": by_network((147,), 128, "relu", **BY_LABELS, optimizer=SGD(0.1, nesterov=True)),
    "more than a block": by_network((47, 21), 129, **BY_TARGETS),
    "two blocks": by_network((65,), 256, "relu", **BY_TARGETS),
    "packed": by_network((1030, 21), 300, "tanh", **BY_TARGETS),
    "all rows": by_network((), ROWS, **BY_TARGETS, l2=0.01),
    "sparse, with a penalty": by_classifier(csr_array, solver="sgd", batch_size=300),
}


def digest(found):
    """SHA-256 of all elements of nested lists, tuples and arrays."""
    content = hashlib.sha256()

    def add(part):
        if isinstance(part, list | tuple):
            for each in part:
                add(each)
        else:
            content.update(np.asarray(part).tobytes())

    add(found)
    return content.hexdigest()


def digests(n_threads, names=tuple(COURSES)):
    """The digest of each course's result."""
    return {name: digest(COURSES[name](n_threads)) for name in names}


if __name__ == "__main__":
    json.dump(digests(1, sys.argv[1:]), sys.stdout)
