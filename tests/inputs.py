"""Logits at which naive formulas and tiled loops break."""

import numba
import numpy as np

if numba.config.DISABLE_JIT:
    CLASSES = (1, 2, 3, 10, 15, 17, 33, 129)
    ROWS = (1, 3, 17)
else:
    # one, primes, a vector and its neighbours, several tiles
    CLASSES = (1, 2, 3, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129)
    CLASSES += (255, 256, 257, 511, 512, 513, 1000, 4097)
    ROWS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 130)

KINDS = ("normal", "uniform", "confident", "ties", "masked", "offset", "inexact", "neighbours")
SPREADS = (1e-3, 0.1, 1.0, 10.0, 80.0, 104.0, 300.0, 745.0, 1400.0)
if numba.config.DISABLE_JIT:
    SPREADS = SPREADS[1::3]


def many_rows(n_classes):
    """How many rows are worth comparing one by one."""
    return 8 if numba.config.DISABLE_JIT else max(min(40, 20_000 // n_classes), 4)


def logits(kind, spread, shape, dtype, seed=0):
    """Rows of one of `KINDS`; every row has a finite maximum."""
    rng = np.random.default_rng([seed, KINDS.index(kind), *shape])
    n, n_classes = shape
    rows = np.arange(n)
    some = rng.integers(n_classes, size=n)
    z = rng.uniform(-spread, 0, shape)
    if kind == "normal":
        z = spread * rng.standard_normal(shape)
    elif kind == "confident":
        z = rng.standard_normal(shape)
        z[rows, some] += spread
    elif kind == "ties":
        z = -spread * rng.integers(0, 3, shape) / 2
    elif kind == "masked":
        z[rng.random(shape) < 0.5] = -np.inf
        z[rows, some] = rng.standard_normal(n)
    elif kind == "offset":
        z += np.ldexp(rng.uniform(-1, 1, (n, 1)), rng.integers(0, 40, (n, 1)))
    elif kind == "inexact":
        # entries of every size below a maximum that uses all its bits: z - z_max is rounded
        z = spread * np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-30, 1, shape))
        z[rows, some] = spread * rng.uniform(0.3, 1, n)
    elif kind == "neighbours":
        # numbers that follow each other: their order must survive
        step = np.finfo(dtype).eps * spread / 2
        z = rng.uniform(-spread, 0, (n, 1)) + step * rng.integers(-2, 3, shape)
        z[rows, some] = spread * rng.uniform(0, 0.1, n)
    return z.astype(dtype)


def batches(n_classes, dtype):
    """A batch of each number of rows, the kinds and spreads taking turns."""
    for turn, n in enumerate(ROWS):
        kind = KINDS[(turn + n_classes) % len(KINDS)]
        spread = SPREADS[(turn + n_classes // 8) % len(SPREADS)]
        yield logits(kind, spread, (n, n_classes), dtype)


def labels_of(z, seed=0):
    """In turn the maximum, the minimum, and any class, of each row."""
    labels = np.random.default_rng(seed).integers(z.shape[1], size=len(z)).astype(np.intp)
    labels[0::3] = z[0::3].argmax(axis=1)
    labels[1::3] = z[1::3].argmin(axis=1)
    return labels


def targets_of(z, seed=0):
    """Rows that sum to about one, with zeros, and with zeros wherever a logit is -inf."""
    rng = np.random.default_rng(seed)
    y = rng.exponential(size=z.shape) * (rng.random(z.shape) < 0.7)
    y[np.isneginf(z)] = 0
    y[np.arange(len(z)), z.argmax(axis=1)] += 2.0**-20
    return (y / y.sum(axis=1, keepdims=True)).astype(z.dtype)


def weights_of(n, seed=0):
    """Row weights, some of them 0."""
    rng = np.random.default_rng(seed)
    return rng.exponential(size=n) * (rng.random(n) < 0.8)
