"""Every public entry with good arguments: the functions, and the methods of both models."""

import warnings
from functools import cache

import numpy as np

from fastbp import MLPClassifier, Network

N, J, K = 7, 3, 4  # rows, features, classes
RNG = np.random.default_rng(8)
X, Y, Z = RNG.standard_normal((N, J)), np.arange(N) % K, RNG.standard_normal((N, K))
ROWS, WEIGHT, W = RNG.dirichlet(np.ones(K), N), RNG.uniform(0.5, 2, N), RNG.normal(size=(J, K))

LOGITS = {"z": Z, "y": Y, "weight": np.ones(K), "sample_weight": WEIGHT}
STEP = {name: np.ones(6) for name in ("param", "grad", "velocity")}
STEP |= {"learning_rate": 0.1, "momentum": 0.9}
LEARN = {"X": X, "y": Y, "sample_weight": WEIGHT}
GOOD = {
    **{name: {"z": Z} for name in ("sigmoid", "sigmoid_derivative", "tanh", "relu")},
    **{name: {"z": Z} for name in ("softmax", "log_softmax", "logsumexp")},
    **dict.fromkeys(("cross_entropy", "softmax_cross_entropy"), LOGITS),
    "output_error": {"a": ROWS, "y": Y},
    "dense": {"a_prev": X, "w": W, "b": W[0]},
    "hidden_error": {"delta_next": Z, "w_next": W, "a": X},
    "bias_gradient": {"delta": Z},
    "weight_gradient": {"a_prev": X, "delta": Z},
    **dict.fromkeys(("momentum_step", "nesterov_step"), STEP),
    "adam_step": {name: np.ones(6) for name in ("param", "grad", "m", "v")} | {"t": 1},
    "SGD": {},
    "Adam": {},
    "Network": {"layer_sizes": [3, 5, 4]},
}
PREDICT = ("predict", "predict_proba", "predict_log_proba")
GOOD |= {f"Network.{name}": LEARN for name in ("fit", "loss", "score", "gradients")}
GOOD |= {f"Network.{name}": {"X": X} for name in ("logits", *PREDICT)}
GOOD |= {f"MLPClassifier.{name}": LEARN for name in ("fit", "partial_fit", "score")}
GOOD |= {f"MLPClassifier.{name}": {"X": X} for name in ("decision_function", *PREDICT)}
OUT_SHAPES = dict.fromkeys(list(GOOD)[:11], (N, K)) | {"logsumexp": (N,), "cross_entropy": ()}
OUT_SHAPES |= {"hidden_error": (N, J), "bias_gradient": (K,), "weight_gradient": (J, K)}


@cache
def model_of(kind, dtype):
    """A model with something to spoil."""
    if kind == "Network":
        net = Network([J, 5, K], dtype=dtype)
        net.velocity = np.ones(net.parameters.size)
        return net
    classifier = MLPClassifier((5,), max_iter=2, batch_size=4, random_state=0, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return classifier.fit(X.astype(dtype), Y)
