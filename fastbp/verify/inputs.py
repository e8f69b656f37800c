"""Inputs at which naive formulas lose accuracy: for `fastbp verify`."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastbp.verify.ulp import Array


def float64_inputs(n: int, seed: int = 0) -> Array:
    """About ``9 n`` float64 inputs where exp, log1p, the sigmoid and tanh are hard."""
    rng = np.random.default_rng(seed)
    anywhere = rng.integers(0, 2**64, n, dtype=np.uint64).view(np.float64)
    steps = np.arange(-64, 65) * 2.0**-52

    def around(points: Array) -> Array:
        near: Array = points[:, None] * (1 + steps)
        return near.ravel()

    reduction = np.arange(-2160, 2060) * (np.log(2) / 2)  # the edges and centres of k ln 2
    edges = np.array([709.782712893384, -745.1332191019411, -744.4400719213812, -708.3964185322641])
    powers = np.ldexp(1.0, np.arange(-80, 81))
    mantissas = np.array([1.0, np.sqrt(2), 1.5, 4 / 3, 1.75])
    # log1p reduces 1 + x, so its edges lie one below those of log
    log1p_edges = (powers[:, None] * mantissas).ravel()
    return np.concatenate(
        [
            [0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, 2.0**-1074, -(2.0**-1074)],
            [np.finfo(float).max, np.finfo(float).tiny],
            anywhere,
            rng.uniform(-746, 710, 2 * n),
            rng.uniform(-746, -708, n),  # subnormal results
            rng.standard_normal(n) * np.ldexp(1.0, rng.integers(-60, 10, n)),
            rng.uniform(-1, 3, n),
            np.expm1(rng.uniform(-36, 36, n)),
            -1 + np.ldexp(rng.uniform(1, 2, n // 4), rng.integers(-53, -1, n // 4)),
            rng.choice(around(reduction), n),
            around(np.concatenate((edges, -edges))),
            rng.choice(around(log1p_edges) - 1, n // 2),
            rng.choice(around(-1 / log1p_edges) + 1, n // 2),
            # where tanh is not its limit; where it is just below a power of two, and errors count
            # most; the edges of its reduction, that of 2 x
            rng.uniform(-20, 20, n // 2),
            np.arctanh(np.ldexp(rng.uniform(0.95, 1, n), rng.integers(-6, 0, n))),
            rng.choice(around(reduction), n // 4) / 2,
        ]
    )


@dataclass(frozen=True)
class Case:
    """A batch of logits, labels and soft targets of one kind."""

    kind: str
    spread: float
    z: Array
    labels: Array
    y: Array


KINDS = ("normal", "uniform", "confident", "ties", "masked", "offset", "inexact")
SPREADS = (1e-3, 1e-2, 0.1, 1.0, 3.0, 10.0, 30.0, 88.0, 104.0, 300.0, 745.0, 1400.0)
CLASSES = (1, 2, 3, 5, 8, 10, 16, 17, 33, 100, 257, 1000, 4097, 65536)


def make_case(kind: str, spread: float, shape: tuple[int, int], dtype: str, seed: int) -> Case:
    """Draw the rows of a case; the labels are the maximum, the minimum and any class in turn."""
    rng = np.random.default_rng([seed, KINDS.index(kind), *shape, int(spread * 1000)])
    n, n_classes = shape
    rows = np.arange(n)
    z = rng.uniform(-spread, 0, shape)
    if kind == "normal":
        z = spread * rng.standard_normal(shape)
    elif kind == "confident":
        z = rng.standard_normal(shape)
        z[rows, rng.integers(n_classes, size=n)] += spread
    elif kind == "ties":
        z = -spread * rng.integers(0, 3, shape) / 2
    elif kind == "masked":
        z[rng.random(shape) < 0.5] = -np.inf
        z[rows, rng.integers(n_classes, size=n)] = rng.standard_normal(n)
    elif kind == "offset":
        z += np.ldexp(rng.uniform(-1, 1, (n, 1)), rng.integers(0, 40, (n, 1)))
    elif kind == "inexact":
        # entries of every size below a maximum with all its bits in use: z - z_max is rounded
        z = spread * np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-30, 1, shape))
        z[rows, rng.integers(n_classes, size=n)] = spread * rng.uniform(0.3, 1, n)
    z = z.astype(dtype)
    labels = rng.integers(n_classes, size=n)
    labels[0::3] = z[0::3].argmax(axis=1)
    labels[1::3] = z[1::3].argmin(axis=1)
    weight = rng.exponential(size=shape) * (rng.random(shape) < 0.7)
    weight[np.isneginf(z)] = 0
    weight[rows, z.argmax(axis=1)] += 2.0**-20
    y = (weight / weight.sum(axis=1, keepdims=True)).astype(dtype)
    return Case(kind, spread, z, labels.astype(np.intp), y)


def cases(dtype: str, quick: bool) -> Iterator[Case]:
    """All row cases: every kind, spread and number of classes."""
    classes = [1, 2, 3, 10, 17, 100, 1000, 4097] if quick else list(CLASSES)
    spreads = SPREADS[::3] + SPREADS[-1:] if quick else SPREADS
    elements = 1 << 11 if quick else 1 << 17
    for kind, spread, n_classes in itertools.product(KINDS, spreads, classes):
        shape = max(elements // n_classes, 3), n_classes
        yield make_case(kind, spread, shape, dtype, seed=0)
