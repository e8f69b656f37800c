"""One interface to training in each library, so that all of them can be given the same work.

A trainer starts from the weights of the problem. ``epoch(order)`` makes one epoch over the rows in
the given order and returns the mean of its losses; ``train(epochs)`` makes epochs in orders that
the library draws in its own way, the mini-batches gathered as they come.
"""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastbp
from comparison.timing import OptionalModule

torch = OptionalModule("torch")
jax = OptionalModule("jax")
neural_network = OptionalModule("sklearn.neural_network")

Parameters = list[tuple[np.ndarray, np.ndarray]]  # w (fan_in, fan_out) and b (fan_out,), by layer


@dataclass
class Problem:
    """What is learnt, from where and how: plain momentum SGD on the mean cross-entropy.

    The mini-batches divide the rows evenly; all arrays of numbers are float32.
    """

    x: np.ndarray
    labels: np.ndarray
    parameters: Parameters
    batch: int
    learning_rate: float
    momentum: float


class Fastbp:
    def __init__(self, problem: Problem, n_threads: int | None) -> None:
        self.problem = problem
        self.network = fastbp_network(problem.parameters)
        # Benchmarks measure versions of fastbp without threads, too.
        has_threads = "n_threads" in inspect.signature(self.network.fit).parameters
        self.threads = {"n_threads": n_threads} if has_threads else {}

    def epoch(self, order: np.ndarray) -> float:
        x, labels = self.problem.x[order], self.problem.labels[order]
        return self._fit(x, labels, epochs=1, shuffle=False).loss[0]

    def train(self, epochs: int) -> None:
        self._fit(self.problem.x, self.problem.labels, epochs=epochs)

    def _fit(self, x, labels, **how):
        return self.network.fit(
            x,
            labels,
            batch_size=self.problem.batch,
            learning_rate=self.problem.learning_rate,
            momentum=self.problem.momentum,
            **self.threads,
            **how,
        )

    def parameters(self) -> Parameters:
        return list(zip(self.network.weights, self.network.biases, strict=True))


class Torch:
    def __init__(self, problem: Problem, compiled: bool = False) -> None:
        self.batch = problem.batch
        self.x, self.labels = torch.from_numpy(problem.x), torch.from_numpy(problem.labels)
        self.model = torch_model(problem.parameters)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), problem.learning_rate, problem.momentum, fused=True
        )

        def mean_loss(x, labels):
            return torch.nn.functional.cross_entropy(self.model(x), labels)

        # With the optimiser compiled as well, steps of small networks take 10 % longer.
        self.mean_loss = torch.compile(mean_loss) if compiled else mean_loss

    def epoch(self, order: np.ndarray) -> float:
        return self._epoch(torch.from_numpy(order))

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            self._epoch(torch.randperm(len(self.x)))

    def _epoch(self, order) -> float:
        losses = []
        for rows in order.split(self.batch):
            x, labels = self.x.index_select(0, rows), self.labels.index_select(0, rows)
            self.optimizer.zero_grad()
            loss = self.mean_loss(x, labels)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def parameters(self) -> Parameters:
        linear = [layer for layer in self.model if isinstance(layer, torch.nn.Linear)]
        return [(p.weight.detach().numpy().T, p.bias.detach().numpy()) for p in linear]


class Jax:
    """The whole epoch is one compiled call, its steps the turns of a loop inside."""

    def __init__(self, problem: Problem) -> None:
        self.batch = problem.batch
        self.data = jax.numpy.asarray(problem.x), jax.numpy.asarray(problem.labels)
        self.rng = np.random.default_rng(0)
        parameters = jax.tree.map(jax.numpy.asarray, problem.parameters)
        self.state = parameters, jax.tree.map(jax.numpy.zeros_like, parameters)
        learning_rate, momentum = problem.learning_rate, problem.momentum

        def mean_loss(parameters, x, labels):
            log_a = jax.nn.log_softmax(jax_logits(parameters, x))
            return -jax.numpy.take_along_axis(log_a, labels[:, None], axis=1).mean()

        @jax.jit
        def epoch(state, data, steps):
            def step(state, rows):
                parameters, velocity = state
                loss, grad = jax.value_and_grad(mean_loss)(parameters, *(a[rows] for a in data))
                velocity = jax.tree.map(
                    lambda v, g: momentum * v - learning_rate * g, velocity, grad
                )
                return (jax.tree.map(jax.numpy.add, parameters, velocity), velocity), loss

            state, losses = jax.lax.scan(step, state, steps)
            return state, losses.mean()

        self.compiled_epoch = epoch

    def epoch(self, order: np.ndarray) -> float:
        steps = jax.numpy.asarray(order.reshape(-1, self.batch))
        self.state, loss = self.compiled_epoch(self.state, self.data, steps)
        return float(loss)  # waits until it is there

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            self.epoch(self.rng.permutation(len(self.data[0])))

    def parameters(self) -> Parameters:
        return jax.tree.map(np.asarray, self.state[0])


class ScikitLearn:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.model = scikit_learn_model(
            problem.parameters,
            batch_size=problem.batch,
            learning_rate_init=problem.learning_rate,
            momentum=problem.momentum,
        )

    def epoch(self, order: np.ndarray) -> float:
        # No order can be handed over: the rows come in that order instead.
        self.model.set_params(shuffle=False)
        self.model.partial_fit(self.problem.x[order], self.problem.labels[order])
        self.model.set_params(shuffle=True)
        return self.model.loss_

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            self.model.partial_fit(self.problem.x, self.problem.labels)

    def parameters(self) -> Parameters:
        return list(zip(self.model.coefs_, self.model.intercepts_, strict=True))


INSTALLED = {
    "fastbp": True,
    "torch": bool(torch),
    "torch.compile": bool(torch),
    "jax": bool(jax),
    "scikit-learn": bool(neural_network),
}


def trainers(names: Iterable[str], problem: Problem, n_threads: int | None) -> dict[str, Any]:
    """The trainers of these names whose library is installed; ``n_threads`` is for fastbp."""
    makers = {
        "fastbp": lambda: Fastbp(problem, n_threads),
        "torch": lambda: Torch(problem),
        "torch.compile": lambda: Torch(problem, compiled=True),
        "jax": lambda: Jax(problem),
        "scikit-learn": lambda: ScikitLearn(problem),
    }
    return {name: makers[name]() for name in names if INSTALLED[name]}


def fastbp_network(parameters: Parameters) -> fastbp.Network:
    network = fastbp.Network([*(len(w) for w, _ in parameters), len(parameters[-1][1])])
    for layer, (w, b) in enumerate(parameters):
        network.weights[layer][:] = w
        network.biases[layer][:] = b
    return network


def torch_model(parameters: Parameters):
    layers = []
    for w, b in parameters:
        linear = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w.T))
            linear.bias.copy_(torch.from_numpy(b))
        layers += [linear, torch.nn.Sigmoid()]
    return torch.nn.Sequential(*layers[:-1])


def jax_logits(parameters, x):
    *hidden, (w_last, b_last) = parameters
    for w, b in hidden:
        x = jax.nn.sigmoid(x @ w + b)
    return x @ w_last + b_last


def scikit_learn_model(parameters: Parameters, batch_size: int = 1, **settings):
    n_classes = len(parameters[-1][1])
    model = neural_network.MLPClassifier(
        [len(b) for _, b in parameters[:-1]],
        activation="logistic",
        solver="sgd",
        nesterovs_momentum=False,
        alpha=0,
        batch_size=batch_size,
        **settings,
    )
    # It makes its arrays when it first sees data. The optimiser keeps them, hence in place; what
    # this first step left as velocity has to go as well, and there is no public way to it.
    nothing = np.zeros((batch_size, len(parameters[0][0])), np.float32)
    model.partial_fit(nothing, np.zeros(batch_size, int), classes=np.arange(n_classes))
    for layer, (w, b) in enumerate(parameters):
        model.coefs_[layer][:] = w
        model.intercepts_[layer][:] = b
    for velocity in model._optimizer.velocities:
        velocity[:] = 0
    return model
