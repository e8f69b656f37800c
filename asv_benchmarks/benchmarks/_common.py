"""What the modules of the suite share: the parts of a version of fastbp, and a way to prepare."""

import inspect
import operator

import numpy as np

import fastbp
from comparison import sizes
from comparison.memory import on_a_page

DTYPES = ["float32", "float64"]

# By what they are called: batch x fan_in x fan_out.
PRODUCTS = {" x ".join(map(str, shape)): shape for shape in sizes.PRODUCTS}
# By what they are called: layers x batch.
SIZES = {str(size): size for size in sizes.SIZES}
# Steps of the epoch that is timed.
STEPS = dict(zip(SIZES, (1024, 512, 128, 8, 1), strict=True))


class Prepared:
    """A base for benchmarks whose ``prepare`` is worth calling once, not before every sample."""

    rounds = 2
    repeat = (5, 15, 0.25)  # samples: at least, at most, unless so many seconds have passed
    warmup_time = 0.05
    timeout = 120
    _prepared = None

    def setup(self, *params):
        if self._prepared != params:
            self.prepare(*params)
            self._prepared = params

    def prepare(self, *params):
        raise NotImplementedError


def part(name):
    """A part of fastbp such as ``kernels.softmax``, to be looked up in ``setup``.

    asv skips a benchmark whose ``setup`` raises NotImplementedError.
    """
    try:
        return operator.attrgetter(name)(fastbp)
    except AttributeError:
        raise NotImplementedError(f"this version has no fastbp.{name}") from None


def network(layers, dtype, **options):
    kind = part("Network")
    for name in options:
        if name not in inspect.signature(kind).parameters:
            raise NotImplementedError(f"the networks of this version have no {name}")
    return kind(layers, dtype=dtype, seed=0, **options)


def threads(method, n_threads):
    """The arguments by which a method of Network is given this number of threads."""
    if "n_threads" in inspect.signature(part(f"Network.{method}")).parameters:
        return {"n_threads": n_threads}
    if n_threads > 1:
        raise NotImplementedError("this version has no threads")
    return {}


def numbers(shape):
    """The numbers of a shape such as "128 x 10", as parameters are written."""
    return tuple(map(int, shape.split(" x ")))


def logits(n, n_classes, dtype):
    """Rows of logits, and a label for each."""
    rng = np.random.default_rng(0)
    z = 3 * rng.standard_normal((n, n_classes), dtype)
    return on_a_page(z), on_a_page(rng.integers(0, n_classes, n))


def calls(size):
    """How often to repeat a job of this size, so that a million numbers are gone through."""
    return range(max(1, 1_000_000 // size))


def zeros(shape, dtype):
    return on_a_page(np.zeros(shape, dtype))


def samples(n, layers, dtype):
    rng = np.random.default_rng(0)
    return on_a_page(rng.random((n, layers[0]), dtype)), rng.integers(0, layers[-1], n)
