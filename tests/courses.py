"""Ten trainings, which must give the same bits by any number of threads and on any processor.

As a program, it prints the digest of each.
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


def by_network(hidden, dtype, batch_size, activation="sigmoid", soft=False, weighted=False, **how):
    """A course of `Network.fit`."""

    def train(n_threads):
        X, y, soft_y, weight = drawn()
        net = Network([FEATURES, *hidden, CLASSES], activation=activation, dtype=dtype)
        how_often = {"epochs": EPOCHS, "batch_size": batch_size, "n_threads": n_threads}
        given = {"sample_weight": weight} if weighted else {}
        history = net.fit(X, soft_y if soft else y, **how_often, **given, **how)
        found = net.parameters, net.velocity, net.second_moment, history.loss, history.accuracy
        return found, net.gradients(X[:batch_size], y[:batch_size])

    return train


def by_classifier(form, **how):
    """A course of `MLPClassifier.fit`, whose loss counts the penalty."""

    def train(n_threads):
        X, y, *_ = drawn()
        model = MLPClassifier(
            (47, 21), alpha=0.5, max_iter=EPOCHS, random_state=0, n_threads=n_threads, **how
        )
        with warnings.catch_warnings(action="ignore"):
            model.fit(form(X.astype("f4")), y)
        return model.coefs_, model.intercepts_, model.loss_curve_

    return train


# Batches on both sides of one block of rows and of two; layers that are wider than a panel
COURSES = {
    "small batches": by_network((47, 21), "float32", 29, weighted=True, l2=0.01),
    "a block": by_network((47,), "float32", 128, optimizer=SGD(0.1, nesterov=True)),
    "more than a block": by_network(
        (47, 21), "float32", 129, soft=True, weighted=True, optimizer=Adam(0.01, weight_decay=0.1)
    ),
    "two blocks": by_network((65,), "float32", 256, "relu", weighted=True),
    "packed": by_network((1030, 21), "float32", 300),
    "more than two blocks": by_network((47, 21), "float64", 257, "tanh", weighted=True, l2=0.01),
    "five blocks": by_network((47, 21), "float64", 513, optimizer=SGD(0.1, nesterov=True)),
    "all rows": by_network((), "float64", ROWS),
    "penalty": by_classifier(np.asarray, solver="adam", batch_size=100),
    "sparse": by_classifier(csr_array, solver="sgd", batch_size=300),
}


def digest(found):
    """Of numbers in arrays, lists and tuples."""
    content = hashlib.sha256()

    def add(part):
        if isinstance(part, list | tuple):
            for each in part:
                add(each)
        else:
            content.update(np.asarray(part).tobytes())

    add(found)
    return content.hexdigest()


def digests(n_threads):
    """Of what each course leads to."""
    return {name: digest(train(n_threads)) for name, train in COURSES.items()}


if __name__ == "__main__":
    json.dump(digests(1), sys.stdout)
