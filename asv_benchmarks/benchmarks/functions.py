"""The checked functions: a kernel, and what the checks before it cost."""

from ._common import DTYPES, Prepared, calls, logits, numbers, part, zeros


class _Functions(Prepared):
    params = (["128 x 10", "4096 x 100"], DTYPES)
    param_names = ("rows x classes", "dtype")
    version = "1"

    def prepare(self, shape, dtype):
        z, labels = logits(*numbers(shape), dtype)
        self.arguments = (z, labels) if self.takes_labels else (z,)
        self.result = zeros(z.shape, dtype)
        self.function = part(self.name)
        self.function(*self.arguments, out=self.result)  # compile, touch
        self.repeats = calls(z.size)

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
