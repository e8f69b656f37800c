"""Random numbers that are the same on every machine and with every version of NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp._compile import kernel

# Rows to shuffle per compiled call: Ctrl-C takes effect between two calls.
ROWS_PER_CALL = 1 << 21

# How much wider the first weights are in a layer that reads units of this activation.
_GAIN = {"identity": 1.0, "sigmoid": 4.0, "tanh": 1.0, "relu": 2.0**0.5}


def random_words(seed: int, stream: int, n: int) -> npt.NDArray[np.uint64]:
    """Return the first ``n`` raw words of Philox with the key (seed, stream)."""
    return np.random.Philox(key=np.array([seed, stream], np.uint64)).random_raw(n)


def glorot_bound(w: npt.NDArray[Any], factor: float = 6.0) -> float:
    """sqrt(factor / (fan_in + fan_out)): how far the first weights of a layer reach from 0."""
    return float(np.sqrt(factor / sum(w.shape)))


def first_weights(seed: int, weights: Sequence[npt.NDArray[Any]], activation: str) -> None:
    """Draw W^l uniformly from ±r sqrt(6 / (fan_in + fan_out)); see the notes of `Network`.

    Parameters
    ----------
    seed : int
    weights : sequence of ndarray, written
        Of each layer.
    activation : str
        Of the hidden layers: decides r of every layer but the first.
    """
    words = random_words(seed, 0, sum(w.size for w in weights))
    uniform = (words >> np.uint64(11)) * 2.0**-52 - 1  # 53 bits in [-1, 1)
    first = 0
    for layer, w in enumerate(weights):
        gain = _GAIN[activation] if layer > 0 else 1.0
        w[:] = gain * glorot_bound(w) * uniform[first : first + w.size].reshape(w.shape)
        first += w.size


def shuffle(seed: int, stream: int, order: npt.NDArray[Any]) -> None:
    """Write a permutation of 0..n-1 to ``order``."""
    n = len(order)
    words = random_words(seed, stream, n)
    order[:] = np.arange(n)
    for last in range(n, 0, -ROWS_PER_CALL):
        _shuffle(words, order, max(last - ROWS_PER_CALL, 0), last)


@kernel
def _shuffle(words: npt.NDArray[np.uint64], order: npt.NDArray[Any], first: int, last: int) -> None:
    """Shuffle ``order`` (n,): Fisher-Yates with one 64-bit word of ``words`` (n,) per draw.

    Fills the places from ``last`` (excluded) down to ``first``.  The first call has ``last = n``,
    and later calls go on with the places below.  The remainder favours small numbers by less than
    n / 2^64.
    """
    for i in range(last - 1, max(first, 1) - 1, -1):
        j = np.intp(words[i] % np.uint64(i + 1))
        swapped = order[i]
        order[i] = order[j]
        order[j] = swapped
