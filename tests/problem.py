"""A network, rows to learn, and all memory of a run: steps without a model around them."""

import hashlib
import time
from unittest import mock

import numpy as np
import reference
from reference import Trainer
from together import together

from fastbp import SGD, Adam
from fastbp.backprop import layout, parallel, state, tasks, updates
from fastbp.optimizers import step_options
from fastbp.training import differentiate

#: Ways to use a gradient.
UPDATES = {
    "sgd": step_options(SGD(0.03, 0.9)),
    "sgd, penalty": step_options(SGD(0.03, 0.9), l2=0.01),
    "nesterov": step_options(SGD(0.03, 0.9, nesterov=True), l2=0.01, alpha=0.5),
    "adam": step_options(Adam(0.01)),
    "adam, penalty": step_options(Adam(0.01, 0.8, 0.99, 1e-3), l2=0.01, alpha=0.5),
    "adamw": step_options(Adam(0.01, weight_decay=0.1)),
    "adam, epsilon first": step_options(Adam(0.01, epsilon=1e-3), epsilon_is_corrected=False),
}


SCALE = 1 / 255


class Problem:
    """A network of random parameters, velocities and rows.

    ``parameters``, ``velocity`` and ``second`` lie as in a network; `train` brings them to panel
    form and back. ``form``: rows are "positive", "with zeros" or "sparse", which are the same
    numbers as "with zeros"; "scaled bytes", or "bytes" that are scaled as they are gathered.
    """

    def __init__(
        self,
        sizes,
        dtype,
        n=23,
        batch_size=8,
        *,
        update="sgd",
        activation="sigmoid",
        soft=False,
        weighted=True,
        form="positive",
        with_penalty=True,
    ):
        rng = np.random.default_rng(0)
        self.update = UPDATES[update]
        self.activation, self.with_penalty = activation, with_penalty
        self.plan = layout.make_plan(sizes, activation)
        size, adam = self.plan.n_parameters, self.update.is_adam
        self.parameters = state.make_parameters(self.plan, dtype)
        self.memory = state.make_optimizer_state(self.plan, dtype, adam)
        self.panels = layout.Panels(self.plan, self.parameters)
        self.parameters[:] = rng.normal(scale=0.5, size=size)
        self.velocity = rng.normal(scale=0.01, size=size).astype(dtype)
        self.second = rng.uniform(1e-4, 1e-2, size).astype(dtype) if adam else None
        self.x = rng.uniform(size=(n, sizes[0])).astype(dtype)
        if form in ("with zeros", "sparse"):
            self.x = with_zeros(self.x, rng)
        bytes_ = rng.integers(0, 256, (n, sizes[0])).astype(np.uint8)
        if form in ("bytes", "scaled bytes"):
            self.x = bytes_.astype(dtype) * np.dtype(dtype).type(SCALE)
        labels = rng.integers(0, sizes[-1], n)
        self.y = reference.onehot(labels, sizes[-1]).astype(dtype)
        if soft:
            self.y = rng.dirichlet(np.ones(sizes[-1]), n).astype(dtype)
        self.data = state.Data(
            *(compressed(self.x) if form == "sparse" else (self.x, None)),
            None if soft else labels,
            self.y if soft else None,
            rng.integers(0, 4, n) * 0.7 if weighted else np.empty(0),
        )
        if form == "bytes":
            self.data = self.data._replace(x=bytes_, scale=SCALE)
        self.order = rng.permutation(n)
        self.batch_size, self.n_steps = batch_size, -(-n // batch_size)
        self.work = state.make_workspace(self.plan, self.data, dtype, batch_size, 16, with_penalty)
        self.totals = np.zeros(4)

    @property
    def layers(self):
        """Weights and biases."""
        return [
            views(self.plan, self.parameters) for views in (layout.weight_views, layout.bias_views)
        ]

    @property
    def vectors(self):
        """All that a step changes."""
        return [v for v in (self.parameters, self.velocity, self.second) if v is not None]

    def trainer(self):
        """The same network in longdouble."""
        trainer = Trainer(*self.layers, self.activation)
        trainer.v_weights, trainer.v_biases = self._wide(self.velocity)
        if self.second is not None:
            trainer.second_weights, trainer.second_biases = self._wide(self.second)
        trainer.n_steps = int(self.memory.n_updates[0])
        return trainer

    def _wide(self, flat):
        """Copies of the weights and biases of a vector, in longdouble."""
        views = layout.weight_views(self.plan, flat), layout.bias_views(self.plan, flat)
        return [list(map(reference.wide, layers)) for layers in views]

    def rows(self, step):
        """The rows of a step: x, y, and their weights."""
        rows = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        weight = self.data.row_weight
        return self.x[rows], self.y[rows], weight[rows] if weight.size else weight

    def train(self, first=0, last=None, *, n_blocks=1, n_threads=None, team=None, counters=None):
        """Make some steps of an epoch; return the step that was not made, or -1.

        ``team`` calls the given function, in as many threads as it likes.
        """
        n_threads = n_threads or n_blocks
        counters = tasks.make_counters(n_threads) if counters is None else counters
        batches = parallel.Batches(
            self.order, self.batch_size, first, self.n_steps if last is None else last
        )
        blocks = tasks.make_weight_blocks(self.plan, n_threads)
        shared = parallel.Tasks(blocks, n_blocks, n_threads, counters)
        model = updates.Model(self.panels.table, self.panels.numbers, self.memory)
        memory = [(self.velocity, self.memory.velocity)]
        if self.second is not None:
            memory.append((self.second, self.memory.second_moment))
        self.panels.fill()
        for plain, panels in memory:
            layout.as_panels(self.plan, plain, panels)
        (team or (lambda call: call()))(
            lambda: parallel.train(
                model, self.data, batches, self.update, self.work, shared, self.totals
            )
        )
        self.panels.write_back()
        for plain, panels in memory:
            plain[:] = layout.as_plain(self.plan, panels)
        return int(counters[tasks.DIVERGED])

    def differentiate(self, grad, n_threads=1):
        """Write the gradient over all rows; return the mean loss."""
        dtype = self.parameters.dtype
        with mock.patch.object(differentiate, "MULTIPLY_ADDS_PER_THREAD", 1):
            mean = differentiate.Differentiator(self.plan, self.data, dtype, n_threads)
        return mean(self.parameters, grad)


def with_zeros(x, rng):
    """The rows with zeros in most places; one of them all zeros, one full at both its ends."""
    x = x * (rng.random(x.shape) < 0.3)
    x[len(x) // 2] = 0
    x[-1] = 0
    x[1, [0, -1]] = 0.5
    return x


def compressed(x):
    """No dense rows, and the sparse ones."""
    counts = np.count_nonzero(x, axis=1)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)
    rows, columns = np.nonzero(x)
    values, n_features = x[rows, columns], x.shape[1]
    sparse = state.make_sparse_rows(starts, columns.astype(np.intp), values, n_features)
    return np.empty((0, n_features), x.dtype), sparse


def team_of(n_threads, lateness=()):
    """A team of so many threads; each begins as late as its entry of ``lateness`` says."""

    def call(work):
        delays = [*lateness, *[0] * (n_threads - len(lateness))]
        together(*(lambda seconds=seconds: (time.sleep(seconds), work()) for seconds in delays))

    return call


def digest(problem):
    """SHA-256 of all that a step changes, and of the totals."""
    vectors = *problem.vectors, problem.totals, problem.memory.n_updates
    return hashlib.sha256(b"".join(vector.tobytes() for vector in vectors)).hexdigest()
