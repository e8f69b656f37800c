"""Softmax, and the cost with its gradient, over rows of logits."""

import numpy as np

import fastbp

SHAPES = {
    "128 x 10": (128, 10),
    "65536 x 10": (65536, 10),
    "4096 x 100": (4096, 100),
    "1024 x 1000": (1024, 1000),
    "256 x 32000": (256, 32000),
    "64 x 128000": (64, 128000),
}


class _RowKernel:
    """Logits, outputs and a compiled kernel.

    asv times single calls where there is a ``setup``, and 128 rows of 10 take a few microseconds:
    one timed call handles a million logits or more, in as many calls of the kernel as it takes.
    """

    params = (list(SHAPES), ["float32", "float64"])
    param_names = ("rows x classes", "dtype")
    version = "1"

    def setup(self, shape, dtype):
        n, n_classes = SHAPES[shape]
        rng = np.random.default_rng(0)
        self.z = 3 * rng.standard_normal((n, n_classes), dtype)
        self.labels = rng.integers(0, n_classes, n)
        self.row_weight = np.empty(0)
        self.loss = np.zeros(n, dtype)
        self.result = np.zeros_like(self.z)
        self.repeats = range(max(1, 1_000_000 // self.z.size))
        self.kernel = self.find_kernel()
        self.arguments = self.rows(slice(2))
        self.time_rows()  # compile
        self.arguments = self.rows(slice(None))
        self.kernel(*self.arguments)  # touch

    def time_rows(self, *_):
        kernel, arguments = self.kernel, self.arguments
        for _ in self.repeats:
            kernel(*arguments)


class Softmax(_RowKernel):
    """fastbp.kernels.softmax"""

    def find_kernel(self):
        return fastbp.kernels.softmax

    def rows(self, rows):
        return self.z[rows], self.result[rows]


class CostAndGradient(_RowKernel):
    """fastbp.kernels.softmax_cross_entropy"""

    def find_kernel(self):
        return fastbp.kernels.softmax_cross_entropy

    def rows(self, rows):
        labels, loss = self.labels[rows], self.loss[rows]
        return self.z[rows], labels, self.row_weight, loss, self.result[rows], 1 / len(self.z)
