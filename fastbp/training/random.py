"""Random numbers that are the same on every machine and with every version of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp._compile import kernel

# Rows that are shuffled at a time: Ctrl-C is seen in between.
PIECE = 1 << 21


def random_words(seed: int, stream: int, n: int) -> npt.NDArray[np.uint64]:
    """Return the first ``n`` raw words of Philox with the key (seed, stream)."""
    return np.random.Philox(key=np.array([seed, stream], np.uint64)).random_raw(n)


def shuffle(seed: int, stream: int, order: npt.NDArray[Any]) -> None:
    """Write a permutation of 0..n-1 to ``order``."""
    n = len(order)
    words = random_words(seed, stream, n)
    order[:] = np.arange(n)
    for last in range(n, 0, -PIECE):
        _shuffle(words, order, max(last - PIECE, 0), last)


@kernel
def _shuffle(bits: npt.NDArray[np.uint64], order: npt.NDArray[Any], first: int, last: int) -> None:
    """Shuffle ``order`` (n,): Fisher-Yates with one 64-bit word of ``bits`` (n,) per draw.

    This call fills the places from ``last`` (excluded) down to ``first``; the first one has ``last
    = n``, and calls for the places below go on with it.  The remainder favours small numbers by
    less than n / 2^64.
    """
    for i in range(last - 1, max(first, 1) - 1, -1):
        j = np.intp(bits[i] % np.uint64(i + 1))
        swapped = order[i]
        order[i] = order[j]
        order[j] = swapped
