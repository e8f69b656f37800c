"""Training: steps of five networks and of every kind, and a fit on real digits."""

from ._common import DTYPES, SIZES, STEPS, Prepared, network, on_a_page, part, samples, threads


class Steps(Prepared):
    """One epoch, the mini-batches gathered in random order: 1024, 512, 128, 8 steps, and one."""

    params = (list(SIZES), DTYPES, [1, 2])
    param_names = ("layers x batch", "dtype", "threads")
    repeat = (3, 12, 0.25)
    version = "1"

    def prepare(self, size, dtype, n_threads):
        layers, batch = SIZES[size].layers, SIZES[size].batch
        self.network = network(layers, dtype)
        self.x, self.y = samples(STEPS[size] * batch, layers, dtype)
        self.how = {"batch_size": batch, "learning_rate": 0.01, "momentum": 0.9}
        self.how |= threads("fit", n_threads)
        few = slice(2 * batch)
        self.network.fit(self.x[few], self.y[few], epochs=1, **self.how)  # compile

    def time_steps(self, size, dtype, n_threads):
        self.network.fit(self.x, self.y, epochs=1, **self.how)


class _StepsOfAKind(Prepared):
    """As `Steps` on one core: sigmoid units and momentum, or something else in place of one."""

    params = (["S 784-30-10 x 10", "M 784-100-10 x 32"], DTYPES)
    param_names = ("layers x batch", "dtype")
    repeat = (3, 12, 0.25)
    version = "1"
    activation = "sigmoid"

    def optimizer(self):
        # So slow that nothing diverges, however often this is called.
        return part("SGD")(0.001, 0.9)

    def prepare(self, size, dtype):
        layers, batch = SIZES[size].layers, SIZES[size].batch
        self.network = network(layers, dtype, activation=self.activation)
        self.x, self.y = samples(STEPS[size] * batch, layers, dtype)
        self.how = {"batch_size": batch, "optimizer": self.optimizer(), **threads("fit", 1)}
        few = slice(2 * batch)
        self.network.fit(self.x[few], self.y[few], epochs=1, **self.how)  # compile

    def time_steps(self, size, dtype):
        self.network.fit(self.x, self.y, epochs=1, **self.how)


class Sgd(_StepsOfAKind):
    """What the others stand beside."""


class Identity(_StepsOfAKind):
    activation = "identity"


class Tanh(_StepsOfAKind):
    activation = "tanh"


class Relu(_StepsOfAKind):
    activation = "relu"


class Nesterov(_StepsOfAKind):
    def optimizer(self):
        return part("SGD")(0.001, 0.9, nesterov=True)


class Adam(_StepsOfAKind):
    def optimizer(self):
        return part("Adam")()


class StepsOfRanks(_StepsOfAKind):
    """What ranks do in a step, by one process: the gradient in two blocks, then the update."""

    params = (["M 784-100-10 x 32", "L 784-512-512-10 x 128"], DTYPES)

    def prepare(self, size, dtype):
        part("distributed")
        super().prepare(size, dtype)
        self.how["shards"] = 2
        self.time_steps(size, dtype)  # compile


class Gradients(Prepared):
    """The cost of one batch and its gradient, by themselves: 16 calls."""

    params = (["M 784-100-10 x 32"], DTYPES)
    param_names = ("layers x batch", "dtype")
    version = "1"

    def prepare(self, size, dtype):
        layers, batch = SIZES[size].layers, SIZES[size].batch
        self.network = network(layers, dtype)
        self.x, self.y = samples(batch, layers, dtype)
        self.network.gradients(self.x, self.y)  # compile

    def time_gradients(self, size, dtype):
        for _ in range(16):
            self.network.gradients(self.x, self.y)


class Digits(Prepared):
    """Five epochs of scikit-learn's digits, from one start."""

    params = (["64-32-10 x 32"], DTYPES)
    param_names = ("layers x batch", "dtype")
    version = "1"

    def prepare(self, size, dtype):
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise NotImplementedError("scikit-learn brings the digits") from None
        x, self.y = load_digits(return_X_y=True)
        self.x = on_a_page((x / 16).astype(dtype))
        self.fit(slice(64), epochs=1)  # compile

    def fit(self, rows, epochs):
        network([64, 32, 10], self.x.dtype).fit(
            self.x[rows],
            self.y[rows],
            epochs=epochs,
            batch_size=32,
            learning_rate=0.5,
            momentum=0.9,
            progress=False,
        )

    def time_five_epochs(self, size, dtype):
        self.fit(slice(None), epochs=5)
