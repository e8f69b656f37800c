"""The largest errors of row kernels on hard rows, in units in the last place (ULP)."""

import numpy as np

from ._common import DTYPES, numbers, part

DIGITS = 60  # of the exact results


class LargestError:
    params = (["200 x 10", "5 x 1000"], DTYPES)
    param_names = ("rows x classes", "dtype")
    unit = "ULP"
    timeout = 120
    version = "1"

    def setup(self, shape, dtype):
        try:
            import mpmath
        except ImportError:
            raise NotImplementedError("mpmath gives the exact results") from None
        self.softmax = part("kernels.softmax")
        self.softmax_cross_entropy = part("kernels.softmax_cross_entropy")
        self.mp = mpmath.MPContext()
        self.mp.dps = DIGITS
        self.z, self.labels = hard_rows(*numbers(shape), dtype)
        self.result = np.zeros_like(self.z)
        self.loss = np.zeros(len(self.z), dtype)

    def track_softmax(self, shape, dtype):
        self.softmax(self.z, self.result)
        return self.largest_error(self.result, [a for _, a in self.exact_rows()])

    def track_loss(self, shape, dtype):
        self.cost_and_gradient()
        exact = [
            [self.mp.log1p(self.others(e, y) / e[y])]
            for (e, _), y in zip(self.exact_rows(), self.labels, strict=True)
        ]
        return self.largest_error(self.loss[:, None], exact)

    def track_delta(self, shape, dtype):
        """BP1, delta = a - y."""
        self.cost_and_gradient()
        exact = []
        for (e, a), y in zip(self.exact_rows(), self.labels, strict=True):
            a[y] = -self.others(e, y) / self.mp.fsum(e)
            exact.append(a)
        return self.largest_error(self.result, exact)

    def cost_and_gradient(self):
        every_row_weighs_one = np.empty(0)
        self.softmax_cross_entropy(
            self.z, self.labels, every_row_weighs_one, self.loss, self.result, 1.0
        )

    def exact_rows(self):
        """Of each row the exponentials, and their shares of the sum."""
        for row in self.z.tolist():
            e = [self.mp.exp(z) for z in row]
            total = self.mp.fsum(e)
            yield e, [e_k / total for e_k in e]

    def others(self, e, y):
        return self.mp.fsum(e[:y] + e[y + 1 :])

    def largest_error(self, results, exact_results):
        limits = np.finfo(results.dtype)
        # The spacing of numbers is at least that of the subnormal ones.
        lowest, places = int(limits.minexp), int(limits.nmant)
        largest = 0.0
        for row, exact_row in zip(results.tolist(), exact_results, strict=True):
            for result, exact in zip(row, exact_row, strict=True):
                exponent = max(int(self.mp.frexp(exact)[1]) - 1, lowest)
                error = abs(self.mp.mpf(result) - exact) / self.mp.ldexp(1, exponent - places)
                largest = max(largest, float(error))
        return largest


def hard_rows(n, n_classes, dtype):
    """Rows spread over 0.001 to 300, common offsets up to 1000, ties, and one class far ahead."""
    rng = np.random.default_rng(0)
    spread = np.exp(rng.uniform(np.log(1e-3), np.log(300), (n, 1)))
    z = spread * rng.uniform(-1, 1, (n, n_classes)) + rng.uniform(-1000, 1000, (n, 1))
    z[::5] -= z[::5].max(axis=1, keepdims=True)
    z[1::5, 1] = z[1::5, 0]
    labels = rng.integers(0, n_classes, n)
    ahead = np.arange(2, n, 5)
    z[ahead, labels[ahead]] = z[ahead].max(axis=1) + rng.uniform(0, 60, len(ahead))
    return z.astype(dtype), labels
