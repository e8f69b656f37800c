"""The checked functions: a kernel, and what the checks before it cost."""

import numpy as np

from ._common import DTYPES, Prepared, on_a_page, part, zeros

SHAPES = {"128 x 10": (128, 10), "4096 x 100": (4096, 100)}
LOGITS = 1_000_000  # what a timed call goes through at least, in as many calls as it takes


class _Functions(Prepared):
    params = (list(SHAPES), DTYPES)
    param_names = ("rows x classes", "dtype")
    version = "1"

    def prepare(self, shape, dtype):
        n, n_classes = SHAPES[shape]
        rng = np.random.default_rng(0)
        self.arguments = [on_a_page(3 * rng.standard_normal((n, n_classes), dtype))]
        if self.takes_labels:
            self.arguments.append(on_a_page(rng.integers(0, n_classes, n)))
        self.result = zeros((n, n_classes), dtype)
        self.function = part(self.name)
        self.function(*self.arguments, out=self.result)  # compile, touch
        self.repeats = range(max(1, LOGITS // (n * n_classes)))

    def time_rows(self, shape, dtype):
        function, arguments, result = self.function, self.arguments, self.result
        for _ in self.repeats:
            function(*arguments, out=result)


class Softmax(_Functions):
    name = "softmax"
    takes_labels = False


class LogSoftmax(_Functions):
    name = "log_softmax"
    takes_labels = False


class CostAndGradient(_Functions):
    name = "softmax_cross_entropy"
    takes_labels = True
