"""What the modules of the suite share: the parts of a version of fastbp, and a way to prepare."""

import inspect
import operator

import numpy as np

import fastbp
from comparison import sizes

DTYPES = ["float32", "float64"]
LINE = 64  # bytes

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


def network(layers, dtype):
    return part("Network")(layers, dtype=dtype, seed=0)


def threads(method, n_threads):
    """The arguments by which a method of Network is given this number of threads."""
    if "n_threads" in inspect.signature(part(f"Network.{method}")).parameters:
        return {"n_threads": n_threads}
    if n_threads > 1:
        raise NotImplementedError("this version has no threads")
    return {}


def on_a_line(array):
    """A copy that begins with a cache line.

    NumPy begins anywhere on 16 bytes, elsewhere in each process: a quarter of the time of a kernel
    can hang on that.
    """
    memory = np.empty(array.nbytes + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def zeros(shape, dtype):
    return on_a_line(np.zeros(shape, dtype))


def samples(n, layers, dtype):
    rng = np.random.default_rng(0)
    return on_a_line(rng.random((n, layers[0]), dtype)), rng.integers(0, layers[-1], n)
