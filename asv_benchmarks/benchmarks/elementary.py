"""The elementary functions: called from a compiled loop, and the kernels over arrays."""

import numba
import numpy as np

from ._common import DTYPES, Prepared, calls, numbers, on_a_page, part, zeros


def loop_over(function):
    """A compiled loop of a user's. Not cached: Numba would keep it when fastbp changes."""

    @numba.njit
    def loop(x, result):
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                result[i, j] = function(x[i, j])

    return loop


class _Elementary(Prepared):
    params = (["1 x 1024", "1024 x 1024"], DTYPES)
    param_names = ("shape", "dtype")
    version = "1"

    def prepare(self, shape, dtype):
        x = np.random.default_rng(0).uniform(*self.interval, numbers(shape))
        self.x = on_a_page(x.astype(dtype))
        self.result = zeros(self.x.shape, dtype)
        self.job = self.find()
        self.job(self.x, self.result)  # compile, touch
        self.repeats = calls(self.x.size)

    def time_numbers(self, shape, dtype):
        for _ in self.repeats:
            self.job(self.x, self.result)


class Exp(_Elementary):
    interval = (-50, 50)

    def find(self):
        return loop_over(part("kernels.exp"))


class Log1p(_Elementary):
    interval = (0, 1)

    def find(self):
        return loop_over(part("kernels.log1p"))


class Sigmoid(_Elementary):
    interval = (-20, 20)

    def find(self):
        return part("kernels.sigmoid_forward")


class SigmoidDerivative(_Elementary):
    interval = (-20, 20)

    def find(self):
        return part("kernels.sigmoid_prime")
