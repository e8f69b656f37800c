"""The training step, against the same step in longdouble, and by any number of threads."""

import hashlib
import threading
import time

import numpy as np
import pytest
import reference
from reference_network import Trainer, forward, gradients, norm_error
from together import together

from fastbp import SGD, Adam
from fastbp.backprop import layout, parallel, passes, state, tasks
from fastbp.kernels.activation import ACTIVATIONS
from fastbp.optimizers import step_options

#: No hidden layer, one to four of them, and sizes that no vector divides.
ARCHITECTURES = [
    (5, 3),
    (7, 5, 3),
    (17, 31, 10),
    (4, 9, 6, 2),
    (3, 5, 4, 3, 2),
    (13, 7, 11, 5, 17, 3),
    (1, 1, 1),
    (64, 33, 10),
]
architectures = pytest.mark.parametrize(
    "sizes", ARCHITECTURES, ids=["-".join(map(str, sizes)) for sizes in ARCHITECTURES]
)

#: Largest error of one step's parameters and velocity, in unit roundoffs of their largest entry.
STEP_ERROR = 40


#: Ways to use a gradient.
UPDATES = {
    "sgd": step_options(SGD(0.03, 0.9), l2=0.01),
    "nesterov": step_options(SGD(0.03, 0.9, nesterov=True), l2=0.01, alpha=0.5),
    "adam": step_options(Adam(0.01)),
    "adam, penalty": step_options(Adam(0.01, 0.8, 0.99, 1e-3), l2=0.01, alpha=0.5),
    "adamw": step_options(Adam(0.01, weight_decay=0.1)),
    "adam, epsilon first": step_options(Adam(0.01, epsilon=1e-3), epsilon_is_corrected=False),
}
every_update = pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


class Problem:
    """A network, rows to learn, and all memory that a run needs.

    ``parameters``, ``velocity`` and ``second`` lie as in a network; `train` brings them to panel
    form and back.
    """

    def __init__(
        self,
        sizes,
        dtype,
        n=23,
        batch_size=8,
        soft=False,
        weighted=False,
        seed=0,
        *,
        activation="sigmoid",
        adam=False,
        form="positive",
        with_penalty=False,
    ):
        rng = np.random.default_rng(seed)
        self.activation, self.with_penalty = activation, with_penalty
        self.plan = layout.make_plan(sizes, activation)
        size = self.plan.n_parameters
        self.parameters = state.make_parameters(self.plan, dtype)
        self.memory = state.make_optimizer_state(self.plan, dtype, adam)
        self.panels = layout.Panels(self.plan, self.parameters)
        self.parameters[:] = rng.normal(scale=0.5, size=size)
        self.velocity = rng.normal(scale=0.01, size=size).astype(dtype)
        x = rng.uniform(size=(n, sizes[0])).astype(dtype)
        labels = rng.integers(0, sizes[-1], n)
        self.y = reference.onehot(labels, sizes[-1]).astype(dtype)
        if soft:
            self.y = rng.dirichlet(np.ones(sizes[-1]), n).astype(dtype)
        row_weight = rng.integers(0, 4, n) * 0.7 if weighted else np.empty(0)
        self.order = rng.permutation(n)
        self.second = rng.uniform(1e-4, 1e-2, size).astype(dtype) if adam else None
        if form != "positive":
            x = with_zeros(x, rng)
        self.data = state.make_data(
            compressed(x) if form == "sparse" else x,
            None if soft else labels,
            self.y if soft else None,
            row_weight,
        )
        self.x = x
        self.batch_size = batch_size
        self.n_steps = -(-n // batch_size)
        self.work = state.make_workspace(self.plan, self.data, batch_size, 16, with_penalty)
        self.totals = np.zeros(4)

    @property
    def layers(self):
        """Weights and biases."""
        return (
            layout.weight_views(self.plan, self.parameters),
            layout.bias_views(self.plan, self.parameters),
        )

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

    def train(
        self,
        first=0,
        last=None,
        *,
        learning_rate=0.3,
        momentum=0.9,
        l2=0.0,
        update=None,
        n_blocks=1,
        n_threads=None,
        team=None,
        board=None,
    ):
        """Some steps of an epoch; return the step that was not made, or -1.

        ``team`` calls the given function, in as many threads as it likes.
        """
        n_threads = n_threads or n_blocks
        board = tasks.make_counters(n_threads) if board is None else board
        last = self.n_steps if last is None else last
        if update is None:
            # also a rate of 0, which nobody may ask for
            update = step_options(SGD(momentum=momentum), l2)._replace(learning_rate=learning_rate)
        parts = tasks.make_weight_blocks(self.plan, n_threads)
        memory = [(self.velocity, self.memory.velocity)]
        if self.second is not None:
            memory.append((self.second, self.memory.second_moment))
        self.panels.fill()
        for plain, numbers in memory:
            layout.as_panels(self.plan, plain, numbers)

        def work():
            model = parallel.Model(self.panels.table, self.panels.numbers, self.memory)
            batches = parallel.Batches(self.order, self.batch_size, first, last)
            shared = parallel.Tasks(parts, n_blocks, n_threads, board)
            parallel.train(model, self.data, batches, update, self.work, shared, self.totals)

        (team or (lambda call: call()))(work)
        self.panels.write_back()
        for plain, numbers in memory:
            plain[:] = layout.as_plain(self.plan, numbers)
        return int(board[tasks.DIVERGED])

    def differentiate(self, grad, n_threads=1):
        """Write the gradient over all rows; return the mean loss."""
        n = len(self.order)
        blocks, counters = (
            tasks.make_weight_blocks(self.plan, n_threads),
            tasks.make_counters(n_threads),
        )
        shared, sums = parallel.Tasks(blocks, n_threads, n_threads, counters), np.zeros(4)
        batch = parallel.Batches(np.arange(n), n, 0, 1)
        inputs = (self.plan.table, self.parameters, self.data, batch)
        team(*[0] * n_threads)(
            lambda: parallel.differentiate(*inputs, self.work, shared, grad, sums)
        )
        return sums[0] / sums[2]


def with_zeros(x, rng):
    """The rows with zeros in most places; one of them all zeros, one full at both its ends."""
    x = x * (rng.random(x.shape) < 0.3)
    x[len(x) // 2] = 0
    x[-1] = 0
    x[1, [0, -1]] = 0.5
    return x


def compressed(x):
    """Sparse rows, as `state.make_data` takes them."""
    counts = np.count_nonzero(x, axis=1)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)
    rows, columns = np.nonzero(x)
    return np.empty((0, x.shape[1]), x.dtype), starts, columns.astype(np.intp), x[rows, columns]


def assert_near(got, exact, unit_roundoffs):
    __tracebackhide__ = True
    error = abs(reference.wide(got) - exact).max()
    assert error <= unit_roundoffs * np.finfo(got.dtype).eps / 2 * abs(exact).max()


def assert_steps_match(problem, **hyper):
    """Each step of an epoch is the step of the reference from the same start."""
    __tracebackhide__ = True
    eta_and_mu = {"learning_rate": 0.3, "momentum": 0.9, **hyper}
    # The step computes with the rate and the momentum as its dtype has them.
    rounded = {name: problem.parameters.dtype.type(v) for name, v in eta_and_mu.items()}
    for step in range(problem.n_steps):
        expected = problem.trainer()
        x, y, row_weight = problem.rows(step)
        loss = expected.step(x, y, row_weight, **rounded)
        problem.totals[:] = 0
        assert problem.train(step, step + 1, **hyper) == -1
        assert_near(problem.parameters, expected.flat(), STEP_ERROR)
        assert_near(problem.velocity, expected.flat_velocity(), STEP_ERROR)
        weight = row_weight.sum() if row_weight.size else len(x)
        assert problem.totals[2] == pytest.approx(weight, rel=1e-15)
        relative = 4 * float(np.finfo(problem.parameters.dtype).eps)
        assert problem.totals[0] == pytest.approx(float(loss * weight), rel=relative, abs=relative)


@architectures
def test_step_matches_the_reference(sizes, dtype):
    assert_steps_match(Problem(sizes, dtype))


@pytest.mark.parametrize("batch_size", [1, 2, 7, 22, 23])
def test_step_on_any_batch_size(batch_size, dtype):
    assert_steps_match(Problem((7, 5, 3), dtype, batch_size=batch_size))


@pytest.mark.parametrize(
    "hyper", [{"momentum": 0.0}, {"l2": 0.1}, {"learning_rate": 1e-3}], ids=str
)
def test_step_with_other_rates(hyper, dtype):
    assert_steps_match(Problem((7, 5, 3), dtype), **hyper)


@architectures
@pytest.mark.parametrize("weighted", [False, True])
def test_step_on_soft_targets(sizes, weighted, dtype):
    assert_steps_match(Problem(sizes, dtype, soft=True, weighted=weighted))


@architectures
def test_step_on_weighted_rows(sizes, dtype):
    assert_steps_match(Problem(sizes, dtype, weighted=True))


def exact_step(trainer, rows, update):
    """The step of the reference that ``update`` stands for; its loss before that."""
    how = update._asdict()
    is_adam, nesterov = how.pop("is_adam"), how.pop("nesterov")
    if is_adam:
        return trainer.adam_step(*rows, beta_1=how.pop("momentum"), **how)
    names = ("learning_rate", "momentum", "l2", "alpha")
    return trainer.step(*rows, nesterov=nesterov, **{name: how[name] for name in names})


def assert_updates_match(problem, update):
    """Each step of an epoch is the step of the reference from the same start."""
    __tracebackhide__ = True
    relative = 8 * float(np.finfo(problem.parameters.dtype).eps)
    for step in range(problem.n_steps):
        expected, rows = problem.trainer(), problem.rows(step)
        penalty = expected.penalty(rows[0], rows[2], l2=update.l2, alpha=update.alpha)
        loss = exact_step(expected, rows, update)
        problem.totals[:] = 0
        assert problem.train(step, step + 1, update=update) == -1
        assert_near(problem.parameters, expected.flat(), STEP_ERROR)
        assert_near(problem.velocity, expected.flat_velocity(), STEP_ERROR)
        if update.is_adam:
            assert_near(problem.second, expected.flat_second_moment(), STEP_ERROR)
        assert problem.memory.n_updates[0] == expected.n_steps == step + 1
        objective = loss + penalty if problem.with_penalty else loss
        total = float(len(rows[0]) * objective)
        assert problem.totals[3] == pytest.approx(total, rel=relative, abs=relative)


@every_activation
@every_update
@pytest.mark.parametrize(
    ("sizes", "n", "batch_size", "weighted"),
    [
        ((5, 3), 23, 8, True),
        ((7, 5, 3), 23, 8, False),
        ((13, 7, 11, 5, 17, 3), 15, 8, True),
        pytest.param((64, 33, 10), 50, 20, False, marks=pytest.mark.compiled),
        # weights in several parts, and sums over units and over rows in several blocks
        pytest.param((130, 61, 4), 300, 140, True, marks=pytest.mark.compiled),
    ],
    ids=str,
)
def test_step_of_any_kind(sizes, n, batch_size, weighted, activation, update, dtype):
    problem = Problem(
        *(sizes, dtype, n, batch_size),
        weighted=weighted,
        activation=activation,
        adam=update.is_adam,
        with_penalty=True,
    )
    assert_updates_match(problem, update)


@every_update
def test_objective_without_penalty_is_the_loss(update, dtype):
    problem = Problem((7, 5, 3), dtype, weighted=True, soft=True, adam=update.is_adam)
    assert_updates_match(problem, update)


@every_update
def test_batch_without_weight_has_no_alpha(update):
    problem = Problem((4, 3, 2), "float64", n=8, weighted=True, adam=update.is_adam)
    problem.data.row_weight[:] = 0
    assert_updates_match(problem, update._replace(alpha=0.5))


@every_update
def test_moments_from_the_first_step_on(update):
    """From nothing: the bias of the moments is largest, and is corrected by t over all epochs."""
    problem = Problem((7, 6, 3), "float64", n=50, adam=update.is_adam, activation="tanh")
    problem.velocity[:] = 0
    if update.is_adam:
        problem.second[:] = 0
    expected = problem.trainer()
    for _ in range(4):
        problem.train(update=update)
        for step in range(problem.n_steps):
            exact_step(expected, problem.rows(step), update)
    assert problem.memory.n_updates[0] == 4 * problem.n_steps
    np.testing.assert_allclose(problem.parameters, expected.flat().astype(float), atol=1e-12)


@every_update
@pytest.mark.parametrize("sizes", [(7, 5, 3), (130, 61, 4)], ids=str)
def test_subnormal_memory_is_looked_for_every_64_steps(sizes, update, dtype):
    """Of all weights and biases; without a gradient, each step halves what is remembered."""
    problem = Problem(sizes, dtype, n=16, weighted=True, adam=update.is_adam)
    problem.data.row_weight[:] = 0
    problem.memory.n_updates[:] = 62
    update = update._replace(momentum=0.5, beta_2=0.5, l2=0.0, alpha=0.0)
    tiny = np.finfo(dtype).tiny
    memory = [problem.velocity, *([problem.second] if update.is_adam else [])]
    for array in memory:
        array[:] = np.resize([1.0, tiny, 4 * tiny, 3 * tiny], array.size)
    before = memory[0].copy()
    assert problem.train(0, 1, update=update) == -1
    for array in memory:
        np.testing.assert_array_equal(array, before / 2)
    assert problem.train(1, 2, update=update) == -1
    for array in memory:
        np.testing.assert_array_equal(array, np.where(before / 4 < tiny, 0, before / 4))


@every_activation
@every_update
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("sizes", [(1, 3), (7, 5, 3), (17, 31, 10), (33, 2, 4)], ids=str)
def test_sparse_rows_give_the_bits_of_dense_ones(sizes, soft, activation, update, dtype):
    options = {"soft": soft, "weighted": soft, "activation": activation, "adam": update.is_adam}
    dense, sparse = (Problem(sizes, dtype, form=form, **options) for form in ("dense", "sparse"))
    assert len(sparse.data.x) == 0 < sparse.data.sparse.values.size < dense.data.x.size
    for problem in (dense, sparse):
        for _ in range(2):
            assert problem.train(update=update) == -1
    assert_same_state(sparse, dense)


def test_sparse_rows_that_are_not_finite_stop_a_step():
    problem = Problem((5, 3), "float32", n=24, form="sparse")
    problem.order[:] = np.roll(np.arange(24), 8)  # row 1, which is not empty, in the second step
    problem.data.sparse.values[problem.data.sparse.starts[1]] = np.nan
    assert problem.train() == 1


def assert_same_state(got, expected):
    __tracebackhide__ = True
    np.testing.assert_array_equal(got.parameters, expected.parameters)
    np.testing.assert_array_equal(got.velocity, expected.velocity)
    if expected.second is not None:
        np.testing.assert_array_equal(got.second, expected.second)
    assert got.memory.n_updates == expected.memory.n_updates
    np.testing.assert_array_equal(got.totals, expected.totals)


@pytest.mark.parametrize("soft", [False, True])
def test_batch_without_weight_has_no_gradient(soft, dtype):
    problem = Problem((4, 3, 2), dtype, n=8, batch_size=4, soft=soft, weighted=True)
    problem.data.row_weight[problem.order[:4]] = 0
    problem.data.row_weight[problem.order[4:]] = 1
    before, velocity = problem.parameters.copy(), problem.velocity.copy()
    assert problem.train(0, 1, momentum=0.5) == -1
    np.testing.assert_array_equal(problem.velocity, velocity * dtype.type(0.5))
    np.testing.assert_array_equal(problem.parameters, before + problem.velocity)
    np.testing.assert_array_equal(problem.totals, 0)
    assert problem.train(1, 2) == -1
    assert problem.totals[2] == 4


def test_l2_leaves_biases_alone():
    plain, penalised = (Problem((4, 3, 2), "float64", n=8) for _ in range(2))
    plain.train(l2=0.0)
    penalised.train(l2=0.5)
    n_weights = plain.plan.n_weights
    assert (plain.parameters[:n_weights] != penalised.parameters[:n_weights]).all()
    np.testing.assert_array_equal(plain.parameters[n_weights:], penalised.parameters[n_weights:])
    np.testing.assert_array_equal(plain.totals, penalised.totals)  # the loss of the data alone


def test_epoch_matches_the_reference_in_the_long_run():
    problem = Problem((7, 6, 5, 3), "float64", n=50, weighted=True)
    expected = problem.trainer()
    for _ in range(20):
        problem.train(l2=0.01)
        for step in range(problem.n_steps):
            expected.step(*problem.rows(step), learning_rate=0.3, momentum=0.9, l2=0.01)
    np.testing.assert_allclose(problem.parameters, expected.flat().astype(float), atol=1e-12)


@pytest.mark.parametrize("sizes", [(7, 5, 3), (5, 3)])
def test_slices_make_up_an_epoch(sizes, dtype):
    whole, sliced = Problem(sizes, dtype), Problem(sizes, dtype)
    whole.train()
    for step in range(sliced.n_steps):
        sliced.train(step, step + 1)
    assert digest(whole) == digest(sliced)
    np.testing.assert_array_equal(whole.totals, sliced.totals)


def digest(problem):
    """SHA-256 of parameters and velocity."""
    return hashlib.sha256(problem.parameters.tobytes() + problem.velocity.tobytes()).hexdigest()


def test_runs_are_equal_to_the_bit(dtype):
    first, second = Problem((17, 31, 10), dtype), Problem((17, 31, 10), dtype)
    for problem in (first, second):
        for _ in range(5):
            problem.train()
    assert digest(first) == digest(second)


@pytest.mark.parametrize("soft", [False, True])
def test_what_is_learnt_from_stays_as_it_is(soft):
    problem = Problem((7, 5, 3), "float32", soft=soft, weighted=True)
    arrays = [array for array in (*problem.data, problem.order) if array is not None]
    before = [array.copy() for array in arrays]
    problem.train()
    for array, expected in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_step_whose_loss_is_not_finite_is_not_made(value):
    problem = Problem((5, 3), "float32", n=24)
    problem.data.x[problem.order[9], 2] = value
    before = Problem((5, 3), "float32", n=24)
    before.order[:] = problem.order
    before.train(0, 1)
    with np.errstate(invalid="ignore"):
        assert problem.train() == 1  # the step that was not made
    assert digest(problem) == digest(before)
    np.testing.assert_array_equal(problem.totals, before.totals)


def test_step_whose_loss_is_infinite_is_not_made(dtype):
    """Of finite logits that lie too far apart for their difference."""
    problem = Problem((5, 3), dtype, n=24)
    problem.parameters[:] = problem.velocity[:] = 0
    (b,) = layout.bias_views(problem.plan, problem.parameters)
    b[:2] = np.finfo(dtype).max, -np.finfo(dtype).max
    problem.data.labels[:] = 0
    problem.data.labels[problem.order[9]] = 1
    before = problem.parameters.copy()
    assert problem.train() == 1
    np.testing.assert_array_equal(problem.parameters, before)
    np.testing.assert_array_equal(problem.velocity, 0)
    np.testing.assert_array_equal(problem.totals, [0, 8, 8, 0])


@architectures
@pytest.mark.parametrize(("soft", "n_threads"), [(False, 1), (True, 1), (True, 3)])
@every_activation
def test_gradient_matches_the_reference(activation, sizes, soft, n_threads, dtype):
    problem = Problem(sizes, dtype, batch_size=23, soft=soft, weighted=True, activation=activation)
    flat = np.full_like(problem.parameters, np.nan)
    loss = problem.differentiate(flat, n_threads)
    weight = problem.data.row_weight
    exact_loss, exact_w, exact_b = gradients(
        *(*problem.layers, problem.data.x, problem.y, weight), activation=activation
    )
    assert loss == pytest.approx(float(exact_loss), rel=8 * float(np.finfo(dtype).eps))
    got = [*layout.weight_views(problem.plan, flat), *layout.bias_views(problem.plan, flat)]
    for grad, exact in zip(got, [*exact_w, *exact_b], strict=True):
        if not exact.any():
            assert not grad.any()  # one class, or units that are all at rest: nothing to learn
        else:
            assert norm_error(grad, exact, dtype) <= STEP_ERROR


@architectures
@every_activation
def test_logits_match_the_reference_in_any_blocks(activation, sizes, dtype):
    problem = Problem(sizes, dtype, activation=activation)
    n, x = 23, problem.data.x
    exact = forward(*problem.layers, x, activation=activation)[-1]
    results = []
    for capacity in (1, 5, 23, 40):
        z = np.full((n, sizes[-1]), np.nan, dtype)
        hidden = np.empty((capacity, problem.plan.n_hidden), dtype)
        arguments = (problem.plan.table, problem.parameters, x, z)
        passes.logits(*arguments, 0, 11, hidden, tasks.make_counters(1))
        assert np.isnan(z[11:]).all()
        passes.logits(*arguments, 11, n, hidden, tasks.make_counters(1))
        assert_near(z, exact, STEP_ERROR)
        results.append(z)
    for z in results[1:]:
        np.testing.assert_array_equal(z, results[0])


def test_largest_takes_the_first_of_equals_and_tells_of_bad_rows():
    z = np.array([[1, 3, 2], [5, 5, 1], [-np.inf, 0, 0]])
    labels = np.empty(3, np.intp)
    assert passes.largest(z, labels) == -1
    np.testing.assert_array_equal(labels, [1, 0, 1])
    z[1] = np.nan
    z[2, 2] = np.inf
    assert passes.largest(z, labels) == 1
    assert labels[0] == 1


def test_mark_correct():
    z = np.array([[1.0, 3.0], [5.0, 5.0], [0.0, -1.0], [np.nan, 1.0]])
    labels, targets = np.array([1, 0, 1, 1]), np.array([[0.2, 0.8], [0.5, 0.5], [0, 1.0], [0, 1.0]])
    weight = np.array([0.5, 2.0, 7.0, 9.0])
    for row_weight, expected in ((np.empty(0), [1, 1, 0, 0]), (weight, [0.5, 2, 0, 0])):
        for y in ((labels, None), (None, targets)):
            correct = np.full(4, np.nan)
            passes.mark_correct(z, *y, row_weight, correct)
            np.testing.assert_array_equal(correct, expected)


@pytest.mark.parametrize("n_classes", [1, 2, 15, 16, 17, 33])
def test_first_of_equal_logits_is_the_answer(n_classes, dtype):
    z = np.random.default_rng(n_classes).integers(-2, 2, (50, n_classes)).astype(dtype)
    for label in range(n_classes):
        correct = np.empty(50)
        passes.mark_correct(z, np.full(50, label), None, np.empty(0), correct)
        np.testing.assert_array_equal(correct, np.argmax(z, axis=1) == label)


@pytest.mark.parametrize("n_classes", [1, 2, 15, 16, 17, 33])
def test_first_of_equal_targets_is_the_label(n_classes, dtype):
    targets = np.random.default_rng(n_classes).integers(0, 4, (50, n_classes)).astype(dtype)
    for label in range(n_classes):
        z, correct = np.zeros((50, n_classes), dtype), np.empty(50)
        z[:, label] = 1
        passes.mark_correct(z, None, targets, np.empty(0), correct)
        np.testing.assert_array_equal(correct, np.argmax(targets, axis=1) == label)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 50, 100])
def test_all_finite(value, where, dtype):
    flat = np.ones(101, dtype)
    assert passes.all_finite(flat)
    assert passes.all_finite(flat[:0])
    flat[where] = value
    assert not passes.all_finite(flat)


@pytest.mark.compiled
@pytest.mark.parametrize("soft", [False, True])
def test_one_specialisation_serves_every_architecture(soft):
    """Of the same kind of answers; weights of rows make no difference."""
    Problem((5, 3), "float32", soft=soft).train()
    n_compiled = len(parallel.train.signatures)
    for sizes in ARCHITECTURES:
        for weighted in (False, True):
            Problem(sizes, "float32", soft=soft, weighted=weighted).train()
    assert len(parallel.train.signatures) == n_compiled


@pytest.mark.compiled
def test_steps_allocate_nothing():
    from numba.core.runtime import _nrt_python, rtsys

    enabled = _nrt_python.memsys_stats_enabled()
    _nrt_python.memsys_enable_stats()
    try:
        problem = Problem((7, 5, 3), "float32", n=400, weighted=True)
        problem.train(0, 1)
        counts = []
        for last in (2, 50):
            before = rtsys.get_allocation_stats()
            problem.train(1, last)
            after = rtsys.get_allocation_stats()
            counts.append(after.alloc - before.alloc)
    finally:
        if not enabled:
            _nrt_python.memsys_disable_stats()
    assert counts[0] == counts[1]


# Threads


def team(*lateness):
    """A thread for each of these numbers; it joins in so many seconds later."""

    def call(work):
        def join(seconds):
            time.sleep(seconds)
            work()

        together(*(lambda seconds=seconds: join(seconds) for seconds in lateness))

    return call


def assert_same_by_teams(make, teams, update=None):
    """Each team, for blocks of as many: the parameters, memory and totals of one thread alone."""
    __tracebackhide__ = True
    how = {"l2": 0.01, "update": update}
    alone = make()
    for _ in range(2):
        assert alone.train(**how) == -1
    for n_blocks, threads in teams:
        shared = make()
        for _ in range(2):
            assert shared.train(**how, n_blocks=n_blocks, team=threads) == -1
        assert_same_state(shared, alone)


TEAM_SIZES = (1, 2, 3, 4, 7, 16)


@pytest.mark.compiled
@pytest.mark.parametrize(("soft", "weighted"), [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    ("sizes", "n", "batch_size"),
    [
        ((5, 3), 301, 7),  # fewer rows than threads
        ((17, 31, 10), 203, 33),  # blocks of unequal length, and a short last batch
        ((101, 53, 67, 19), 150, 64),
        ((13, 7, 11, 5, 17, 3), 500, 1),
        ((3, 200, 40), 77, 77),
    ],
    ids=str,
)
def test_same_bits_by_any_number_of_threads(sizes, n, batch_size, soft, weighted, dtype):
    def make():
        return Problem(sizes, dtype, n, batch_size, soft, weighted)

    assert_same_by_teams(make, [(n, team(*[0] * n)) for n in TEAM_SIZES])


@pytest.mark.compiled
@every_activation
@every_update
@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_same_bits_by_any_number_of_threads_for_every_update(form, update, activation, dtype):
    def make():
        return Problem(
            *((101, 63, 37, 19), dtype, 203, 33),
            weighted=True,
            activation=activation,
            adam=update.is_adam,
            form=form,
            with_penalty=True,
        )

    assert_same_by_teams(make, [(n, team(*[0] * n)) for n in (1, 2, 3)], update)


@pytest.mark.parametrize("n_blocks", TEAM_SIZES)
@pytest.mark.parametrize("soft", [False, True])
def test_same_bits_by_any_number_of_blocks(n_blocks, soft, dtype):
    """One thread takes the parts of those that never come."""

    def make():
        return Problem((7, 6, 5), dtype, n=40, batch_size=17, soft=soft, weighted=True)

    assert_same_by_teams(make, [(n_blocks, None)])


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("n_blocks", "lateness"),
    [(4, (0, 0.005)), (3, (0, 0.001, 0.002, 0.004)), (2, (0, 0.01, 0.2)), (7, (0.01, 0, 0.02))],
)
def test_some_begin_late_and_others_never(n_blocks, lateness, dtype):
    def make():
        return Problem((40, 90, 10), dtype, n=8000, batch_size=50, weighted=True)

    assert_same_by_teams(make, [(n_blocks, team(*lateness))])


@pytest.mark.compiled
@pytest.mark.parametrize("n_threads", [2, 5])
@pytest.mark.parametrize("bad_step", [0, 4, 12])
def test_all_stop_at_a_step_whose_loss_is_not_finite(n_threads, bad_step, dtype):
    def make():
        return Problem((7, 5, 3), dtype, n=100)

    stopped, before = make(), make()
    before.train(0, bad_step)
    stopped.data.x[stopped.order[8 * bad_step + 3], 2] = np.nan
    assert stopped.train(n_blocks=n_threads, team=team(*[0] * n_threads)) == bad_step
    assert digest(stopped) == digest(before)
    np.testing.assert_array_equal(stopped.totals, before.totals)


@pytest.mark.compiled
@pytest.mark.parametrize("claimed", ["block", "part"])
def test_no_phase_begins_before_the_last_has_ended(claimed):
    """The first of two threads has claimed an item and never finishes: the test, on the board."""
    problem, after = Problem((7, 5, 3), "float64"), Problem((7, 5, 3), "float64")
    problem.velocity[:] = after.velocity[:] = 0
    problem.train(0, 1, learning_rate=0.0)  # the first phase alone: nothing changes
    after.train(0, 1)
    expected = problem.parameters.copy()
    n_threads = 2
    board = tasks.make_counters(n_threads)
    blocks, parts = board[tasks.TAKEN :].reshape(2, n_threads, tasks.LINE_OF_COUNTERS)[..., 0]
    board[tasks.ENTERED] = 1
    if claimed == "block":
        blocks[0] = 1
    else:
        blocks[:], board[tasks.DONE], board[tasks.OPEN] = 1, n_threads, 1
        # the part that is the first layer; the last layer remains
        parts[0] = 1
        for views in (layout.weight_views, layout.bias_views):
            views(problem.plan, expected)[1][:] = views(problem.plan, after.parameters)[1]
    phase = board[tasks.OPEN]
    arguments = {"n_blocks": n_threads, "board": board}
    thread = threading.Thread(target=problem.train, kwargs=arguments, daemon=True)
    thread.start()
    thread.join(0.1)
    waits = thread.is_alive()
    assert board[tasks.OPEN] == phase
    board[tasks.OPEN] = 2**62  # let it go
    thread.join(20)
    assert waits
    assert not thread.is_alive()
    np.testing.assert_array_equal(problem.parameters, expected)


@pytest.mark.parametrize("n_threads", [2, 3, 5])
def test_one_thread_does_what_is_cut_for_several(n_threads):
    """Those that do not come are not waited for: their blocks and parts are taken over."""
    alone, others = Problem((7, 5, 3), "float64"), Problem((7, 5, 3), "float64")
    alone.train()
    others.train(n_blocks=2 * n_threads - 1, n_threads=n_threads)
    assert digest(others) == digest(alone)
    np.testing.assert_array_equal(others.totals, alone.totals)
