"""A user's program with types: clean under ``mypy --strict`` and pyright, which read all of it.

mypy --strict tests/typed_example.py
"""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastbp
from fastbp import kernels

Array = NDArray[Any]


def train(X: NDArray[np.float32], y: NDArray[np.intp]) -> float:
    """Train, predict, save and load."""
    net = fastbp.Network([64, 32, 10], dtype="float32", seed=0)
    history = net.fit(X, y, epochs=3, optimizer=fastbp.Adam(0.01), validation_data=(X, y))
    assert_type(history.loss, list[float])
    assert_type(net.predict(X), NDArray[np.intp])
    assert_type(net.predict_proba(X), Array)
    assert_type(net.weights, tuple[Array, ...])
    loss, grad_w, _ = net.gradients(X, y)
    assert_type(grad_w, list[Array])
    net.save("net.safetensors")
    assert_type(fastbp.Network.load("net.safetensors"), fastbp.Network)
    print(net.summary(), net.score(X, y))
    return loss


def step(z: NDArray[np.float64], labels: NDArray[np.intp], w: Array, a_prev: Array) -> float:
    """Call functions and a kernel."""
    assert_type(fastbp.softmax(z, axis=1), Array)
    assert_type(fastbp.sigmoid(z), Array)
    assert_type(fastbp.sigmoid(0.5), np.float64)
    loss, delta = fastbp.softmax_cross_entropy(z, labels)
    assert_type(delta, Array)
    assert_type(fastbp.output_error(fastbp.softmax(z), labels), Array)
    assert_type(fastbp.hidden_error(delta, w, a_prev), Array)
    assert_type(fastbp.weight_gradient(a_prev, delta), Array)
    kernels.softmax(z, z)
    cost: float = loss + fastbp.cross_entropy(z, labels) + fastbp.logsumexp(z[0])
    return cost


def classify(X: NDArray[np.float64], y: list[str]) -> Array:
    """Fit scikit-learn's face, and convert."""
    classifier = fastbp.MLPClassifier((50,), random_state=0).fit(X, y)
    assert_type(classifier, fastbp.MLPClassifier)
    assert_type(classifier.network_, fastbp.Network)
    fastbp.convert.to_sklearn(classifier)
    fastbp.display.TrainingCurveDisplay.from_estimator(classifier)
    return assert_type(classifier.predict(X), Array)
