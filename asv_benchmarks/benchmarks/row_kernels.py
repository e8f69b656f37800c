"""The kernels over rows of logits."""

import numpy as np

from ._common import DTYPES, Prepared, calls, logits, numbers, on_a_page, part, zeros

SHAPES = ["128 x 10", "4096 x 100", "65536 x 10", "1024 x 1000", "256 x 32000"]
FEW_SHAPES = ["128 x 10", "4096 x 100", "1024 x 1000"]


class _Rows(Prepared):
    params = (SHAPES, DTYPES)
    param_names = ("rows x classes", "dtype")
    version = "1"

    def prepare(self, shape, dtype):
        n, n_classes = numbers(shape)
        self.z, self.labels = logits(n, n_classes, dtype)
        self.loss = zeros(n, dtype)
        self.row_weight = np.empty(0)  # every row weighs one
        self.result = zeros((n, n_classes), dtype)
        self.kernel = part(self.name)
        self.kernel(*self.arguments(slice(2)))  # compile
        self.kernel(*self.arguments(slice(None)))  # touch
        self.repeats = calls(self.z.size)

    def time_rows(self, shape, dtype):
        kernel, arguments = self.kernel, self.arguments(slice(None))
        for _ in self.repeats:
            kernel(*arguments)


class Softmax(_Rows):
    name = "kernels.softmax"

    def arguments(self, rows):
        return self.z[rows], self.result[rows]


class LogSoftmax(Softmax):
    name = "kernels.log_softmax"


class LogSumExp(_Rows):
    name = "kernels.logsumexp"

    def arguments(self, rows):
        return self.z[rows], self.loss[rows]


class Cost(_Rows):
    """One label a row."""

    name = "kernels.cross_entropy"

    def arguments(self, rows):
        return self.z[rows], self.labels[rows], self.row_weight, self.loss[rows]


class CostAndGradient(_Rows):
    """One label a row."""

    name = "kernels.softmax_cross_entropy"

    def arguments(self, rows):
        labels, loss = self.labels[rows], self.loss[rows]
        return self.z[rows], labels, self.row_weight, loss, self.result[rows], 1 / len(self.z)


class CostAndGradientOfTargets(_Rows):
    """A row of target probabilities a row."""

    name = "kernels.softmax_cross_entropy_targets"
    params = (FEW_SHAPES, DTYPES)

    def prepare(self, shape, dtype):
        self.targets = on_a_page(np.random.default_rng(1).random(numbers(shape), dtype))
        self.targets /= self.targets.sum(axis=1, keepdims=True)
        super().prepare(shape, dtype)

    def arguments(self, rows):
        targets, loss = self.targets[rows], self.loss[rows]
        return self.z[rows], targets, self.row_weight, loss, self.result[rows], 1 / len(self.z)
