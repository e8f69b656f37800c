"""Number by number: the elementary functions, in a compiled loop and over arrays, and the steps."""

import numba
import numpy as np

import fastbp

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
        try:
            return part("kernels.sigmoid_derivative_forward")
        except NotImplementedError:
            return part("kernels.sigmoid_prime")  # its name in older versions


class Tanh(_Elementary):
    interval = (-10, 10)

    def find(self):
        return part("kernels.tanh_forward")


class TanhBackward(_Elementary):
    """The error is zero: however often this is called, it stays so."""

    interval = (-1, 1)

    def find(self):
        return part("kernels.tanh_backward")


class Relu(_Elementary):
    interval = (-10, 10)

    def find(self):
        return part("kernels.relu_forward")


class ReluBackward(TanhBackward):
    def find(self):
        return part("kernels.relu_backward")


class _Step(Prepared):
    params = (["1 x 1024", "1024 x 1024"], DTYPES)
    param_names = ("shape", "dtype")
    version = "1"

    def prepare(self, shape, dtype):
        # The gradient stays the same: the state tends to it, and the parameters move steadily.
        rng = np.random.default_rng(0)
        self.param, self.grad = (
            on_a_page(rng.standard_normal(numbers(shape), dtype)) for _ in range(2)
        )
        self.state = [zeros(self.param.shape, dtype) for _ in range(self.n_state)]
        self.kernel = part(self.name)
        self.kernel(self.param, self.grad, *self.state, *self.rates)  # compile, touch
        self.repeats = calls(self.param.size)

    def time_step(self, shape, dtype):
        kernel, param, grad = self.kernel, self.param, self.grad
        state, rates = self.state, self.rates
        for _ in self.repeats:
            kernel(param, grad, *state, *rates)


class NesterovStep(_Step):
    name = "kernels.nesterov_step"
    n_state = 1
    rates = (1e-3, 0.9)


class AdamStep(_Step):
    name = "kernels.adam_step"
    n_state = 2

    def prepare(self, shape, dtype):
        rates = 1e-3, 0.9, 0.999, 1e-8, 0.01
        # Older versions take the rates one by one.
        kernels = getattr(fastbp, "kernels", None)
        options = getattr(kernels, "AdamOptions", None)
        self.rates = (*rates, 1000) if options is None else (options(*rates), 1000)
        super().prepare(shape, dtype)
