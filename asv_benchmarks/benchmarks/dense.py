"""The matrix kernels of one layer, and the update of its weights."""

import numpy as np

from ._common import DTYPES, PRODUCTS, Prepared, on_a_page, part, zeros

MULTIPLY_ADDS = 33_000_000  # what a timed call makes at least, in as many calls as it takes


class _Dense(Prepared):
    params = (list(PRODUCTS), DTYPES)
    param_names = ("batch x fan_in x fan_out", "dtype")
    version = "1"

    def prepare(self, shape, dtype):
        n, fan_in, fan_out = PRODUCTS[shape]
        rng = np.random.default_rng(0)
        self.a_prev = on_a_page(rng.random((n, fan_in), dtype))
        self.delta = on_a_page(rng.standard_normal((n, fan_out), dtype))
        self.w = on_a_page(rng.standard_normal((fan_in, fan_out), dtype))
        self.b, self.z = zeros(fan_out, dtype), zeros((n, fan_out), dtype)
        self.delta_prev = zeros((n, fan_in), dtype)
        self.grad_w, self.velocity = zeros(self.w.shape, dtype), zeros(self.w.shape, dtype)
        self.kernel = part(self.name)
        self.kernel(*self.arguments())  # compile, touch
        self.repeats = range(max(1, MULTIPLY_ADDS // (n * fan_in * fan_out)))

    def time_layer(self, shape, dtype):
        kernel, arguments = self.kernel, self.arguments()
        for _ in self.repeats:
            kernel(*arguments)


class Forward(_Dense):
    name = "kernels.dense_forward"

    def arguments(self):
        return self.a_prev, self.w, self.b, self.z


class HiddenError(_Dense):
    name = "kernels.hidden_error"

    def arguments(self):
        return self.delta, self.w, self.a_prev, self.delta_prev


class WeightGradient(_Dense):
    name = "kernels.weight_gradient"

    def arguments(self):
        return self.a_prev, self.delta, self.grad_w


class MomentumStep(_Dense):
    name = "kernels.momentum_step"
    params = (["32 x 784 x 100", "128 x 512 x 512"], DTYPES)

    def arguments(self):
        # The gradient is zero: however often this is called, the numbers stay ordinary.
        return self.w, self.grad_w, self.velocity, 0.1, 0.9
