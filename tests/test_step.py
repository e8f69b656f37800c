"""A step of training is the step of the reference, in longdouble, from the same start."""

import numpy as np
import pytest
import reference
from problem import UPDATES, Problem, digest
from reference import gradients, norm_error

from fastbp.backprop import layout, parallel, passes, state, tasks
from fastbp.kernels.activation import ACTIVATIONS

#: Largest error of one step's parameters and memory, in unit roundoffs of their largest entry.
STEP_ERROR = 40

#: No hidden layer, one to four of them, and sizes that no vector divides.
ARCHITECTURES = [
    (5, 3),
    (7, 5, 3),
    (17, 31, 10),
    (4, 9, 6, 2),
    (13, 7, 11, 5, 17, 3),
    (1, 1, 1),
    (64, 33, 10),
]
architectures = pytest.mark.parametrize("sizes", ARCHITECTURES, ids=str)
every_update = pytest.mark.parametrize("update", UPDATES)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def takes_targets(update, dtype):
    """Soft targets for two of the four combinations: each one is compiled by itself."""
    return UPDATES[update].is_adam == (dtype == np.float32)


def assert_near(got, exact):
    __tracebackhide__ = True
    error = abs(reference.wide(got) - exact).max()
    assert error <= STEP_ERROR * np.finfo(got.dtype).eps / 2 * abs(exact).max()


def exact_step(trainer, rows, update):
    """The step of the reference that ``update`` stands for; its loss before that."""
    how = update._asdict()
    is_adam, nesterov = how.pop("is_adam"), how.pop("nesterov")
    if is_adam:
        return trainer.adam_step(*rows, beta_1=how.pop("momentum"), **how)
    names = ("learning_rate", "momentum", "l2", "alpha")
    # A step of gradient descent computes with the rates as its dtype has them.
    return trainer.step(*rows, nesterov=nesterov, **{name: how[name] for name in names})


def assert_steps_match(problem):
    """Each step of an epoch, and what it adds to the totals."""
    __tracebackhide__ = True
    update = problem.update
    relative = 8 * float(np.finfo(problem.parameters.dtype).eps)
    for step in range(problem.n_steps):
        expected, rows = problem.trainer(), problem.rows(step)
        x, _, row_weight = rows
        penalty = expected.penalty(x, row_weight, l2=update.l2, alpha=update.alpha)
        loss = exact_step(expected, rows, update)
        problem.totals[:] = 0
        assert problem.train(step, step + 1) == -1
        assert_near(problem.parameters, expected.flat())
        assert_near(problem.velocity, expected.flat_velocity())
        if update.is_adam:
            assert_near(problem.second, expected.flat_second_moment())
        assert problem.memory.n_updates[0] == expected.n_steps == step + 1
        weight = row_weight.sum() if row_weight.size else len(x)
        cost = loss + penalty if problem.with_penalty else loss
        exact = float(loss * weight), weight, float(len(x) * cost)
        assert problem.totals[[0, 2, 3]] == pytest.approx(exact, rel=relative, abs=relative)


@architectures
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("update", ["sgd", "adam"])
def test_step_of_any_architecture(sizes, weighted, update, dtype):
    soft = weighted and takes_targets(update, dtype)
    options = {"update": update, "soft": soft, "weighted": weighted, "with_penalty": not weighted}
    assert_steps_match(Problem(sizes, dtype, **options))


@pytest.mark.parametrize("batch_size", [1, 2, 7, 22, 23])
def test_step_on_any_batch_size(batch_size, dtype):
    assert_steps_match(Problem((7, 5, 3), dtype, batch_size=batch_size, update="nesterov"))


@every_activation
@every_update
@pytest.mark.parametrize(
    ("sizes", "n", "batch_size"),
    [
        ((5, 3), 23, 8),
        ((13, 7, 11, 5, 17, 3), 15, 8),
        # weights in several parts, and sums over units and over rows in several blocks
        pytest.param((130, 61, 4), 300, 140, marks=pytest.mark.compiled),
    ],
    ids=str,
)
def test_step_of_any_kind(sizes, n, batch_size, activation, update, dtype):
    assert_steps_match(Problem(sizes, dtype, n, batch_size, update=update, activation=activation))


@pytest.mark.parametrize("update", ["nesterov", "adam, penalty"])
@pytest.mark.parametrize(
    ("sizes", "n", "batch_size"), [((130, 61, 4), 150, 140), ((3, 2), 300, 300)], ids=str
)
def test_step_of_several_blocks(sizes, n, batch_size, update, dtype):
    """Of rows, of units and of weights: also as plain Python."""
    soft = takes_targets(update, dtype)
    assert_steps_match(Problem(sizes, dtype, n, batch_size, update=update, soft=soft))


@every_update
def test_moments_from_the_first_step_on(update):
    """From nothing: the bias of the moments is largest, and is corrected by t over all epochs."""
    problem = Problem((7, 6, 3), "float64", n=50, update=update, activation="tanh")
    for vector in problem.vectors[1:]:
        vector[:] = 0
    expected = problem.trainer()
    for _ in range(4):
        problem.train()
        for step in range(problem.n_steps):
            exact_step(expected, problem.rows(step), problem.update)
    assert problem.memory.n_updates[0] == 4 * problem.n_steps
    np.testing.assert_allclose(problem.parameters, expected.flat().astype(float), atol=1e-12)


@every_update
@pytest.mark.parametrize("sizes", [(7, 5, 3), (130, 61, 4)], ids=str)
def test_subnormal_memory_is_looked_for_every_64_steps(sizes, update, dtype):
    """Of all weights and biases; without a gradient, each step halves what is remembered."""
    problem = Problem(sizes, dtype, n=16, update=update)
    problem.data.row_weight[:] = 0
    problem.memory.n_updates[:] = 62
    problem.update = problem.update._replace(momentum=0.5, beta_2=0.5, l2=0.0, alpha=0.0)
    tiny = np.finfo(dtype).tiny
    memory = problem.vectors[1:]
    for array in memory:
        array[:] = np.resize([1.0, tiny, 4 * tiny, 3 * tiny], array.size)
    before = memory[0].copy()
    assert problem.train(0, 1) == -1
    for array in memory:
        np.testing.assert_array_equal(array, before / 2)
    assert problem.train(1, 2) == -1
    for array in memory:
        np.testing.assert_array_equal(array, np.where(before / 4 < tiny, 0, before / 4))


@every_activation
@pytest.mark.parametrize(
    ("update", "dtype"), [("nesterov", "float32"), ("adam, penalty", "float64")]
)
@pytest.mark.parametrize(
    ("sizes", "n", "batch_size"),
    [
        ((1, 3), 23, 8),
        ((17, 31, 10), 23, 8),
        ((140, 2, 4), 150, 140),  # several blocks of columns, and of a batch's rows
        pytest.param((301, 150, 3), 700, 390, marks=pytest.mark.compiled),  # and of units
    ],
    ids=str,
)
def test_sparse_rows_give_the_bits_of_dense_ones(sizes, n, batch_size, activation, update, dtype):
    options = {"update": update, "activation": activation}
    dense, sparse = (
        Problem(sizes, dtype, n, batch_size, form=form, **options)
        for form in ("with zeros", "sparse")
    )
    assert len(sparse.data.x) == 0 < sparse.data.sparse.values.size < dense.data.x.size
    for problem in (dense, sparse):
        for _ in range(2):
            assert problem.train() == -1
    assert digest(sparse) == digest(dense)


@pytest.mark.parametrize("n_features", [1, 16, 37])
def test_rows_of_bytes_give_the_bits_of_floats(n_features, dtype):
    of_floats, of_bytes = (
        Problem((n_features, 5, 3), dtype, form=form, with_penalty=False)
        for form in ("scaled bytes", "bytes")
    )
    assert of_bytes.data.x.dtype == np.uint8
    gradients = []
    for problem in (of_floats, of_bytes):
        assert problem.train() == -1
        problem.work = state.make_workspace(problem.plan, problem.data, dtype, 23)
        gradients.append(np.full_like(problem.parameters, np.nan))
        problem.differentiate(gradients[-1])
    assert digest(of_bytes) == digest(of_floats)
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("sizes", [(1, 3), (140, 20, 4)], ids=str)
def test_logits_and_gradient_of_sparse_rows_have_the_bits_of_dense_ones(sizes, dtype):
    n, results = 150, []
    for form in ("with zeros", "sparse"):
        problem = Problem(sizes, dtype, n, n, form=form, with_penalty=False)
        grad, z = np.full_like(problem.parameters, np.nan), np.empty((n, sizes[-1]), dtype)
        loss = problem.differentiate(grad)
        hidden, counters = np.empty((40, problem.plan.n_hidden), dtype), tasks.make_counters(1)
        pass_through = passes.logits if form == "with zeros" else passes.sparse_logits
        x = problem.x if form == "with zeros" else problem.data.sparse
        arguments = problem.plan.table, problem.parameters, x, z
        pass_through(*arguments, 0, n, hidden, counters)
        results.append((loss, grad, z))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("update", ["sgd", "adam, penalty"])
def test_batch_without_weight_has_no_gradient(update, dtype):
    problem = Problem(*((4, 3, 2), dtype, 8, 4), update=update, soft=takes_targets(update, dtype))
    problem.data.row_weight[problem.order[:4]] = 0
    problem.data.row_weight[problem.order[4:]] = 1
    assert_steps_match(problem)


def test_penalty_leaves_biases_alone():
    plain, penalised = (Problem((4, 3, 2), "float64", n=8) for _ in range(2))
    penalised.update = penalised.update._replace(l2=0.5)
    for problem in (plain, penalised):
        problem.train()
    n_weights = plain.plan.n_weights
    assert (plain.parameters[:n_weights] != penalised.parameters[:n_weights]).all()
    np.testing.assert_array_equal(plain.parameters[n_weights:], penalised.parameters[n_weights:])
    np.testing.assert_array_equal(plain.totals[:3], penalised.totals[:3])  # the loss of the data


@pytest.mark.parametrize("sizes", [(7, 5, 3), (5, 3)], ids=str)
def test_slices_make_up_an_epoch(sizes, dtype):
    whole, sliced = Problem(sizes, dtype), Problem(sizes, dtype)
    data = [array for array in (*whole.data, whole.order) if isinstance(array, np.ndarray)]
    before = [array.copy() for array in data]
    whole.train()
    for step in range(sliced.n_steps):
        sliced.train(step, step + 1)
    assert digest(whole) == digest(sliced)
    for array, expected in zip(data, before, strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("form", ["positive", "sparse"])
def test_step_whose_loss_is_not_finite_is_not_made(value, form):
    stopped, before = (Problem((5, 3), "float32", n=24, form=form) for _ in range(2))
    for problem in (stopped, before):
        problem.order[:] = np.roll(
            np.arange(24), 8
        )  # row 1, which is not empty, in the second step
        problem.data.row_weight[:] = 1
    before.train(0, 1)
    if form == "sparse":
        stopped.data.sparse.values[stopped.data.sparse.starts[1]] = value
    else:
        stopped.data.x[1, 2] = value
    with np.errstate(invalid="ignore"):
        assert stopped.train() == 1  # the step that was not made
    assert digest(stopped) == digest(before)


def test_step_whose_loss_is_infinite_is_not_made(dtype):
    """Of finite logits that lie too far apart for their difference."""
    problem = Problem((5, 3), dtype, n=24, weighted=False)
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
@pytest.mark.parametrize(
    ("soft", "n_threads"), [(False, 1), pytest.param(True, 3, marks=pytest.mark.compiled)]
)
@every_activation
def test_gradient_matches_the_reference(activation, sizes, soft, n_threads, dtype):
    problem = Problem(
        sizes, dtype, batch_size=23, soft=soft, activation=activation, with_penalty=False
    )
    flat = np.full_like(problem.parameters, np.nan)
    loss = problem.differentiate(flat, n_threads)
    exact_loss, exact_w, exact_b = gradients(
        *(*problem.layers, problem.x, problem.y, problem.data.row_weight), activation=activation
    )
    assert loss == pytest.approx(float(exact_loss), rel=8 * float(np.finfo(dtype).eps))
    got = [*layout.weight_views(problem.plan, flat), *layout.bias_views(problem.plan, flat)]
    for grad, exact in zip(got, [*exact_w, *exact_b], strict=True):
        if not exact.any():
            assert not grad.any()  # one class, or units that are all at rest: nothing to learn
        else:
            assert norm_error(grad, exact, dtype) <= STEP_ERROR


@pytest.mark.compiled
def test_one_specialisation_serves_every_architecture():
    """And every activation; weights of rows make no difference."""
    Problem((5, 3), "float32").train()
    n_compiled = len(parallel.train.signatures)
    for sizes in ARCHITECTURES:
        for weighted in (False, True):
            Problem(sizes, "float32", weighted=weighted, activation="relu").train()
    assert len(parallel.train.signatures) == n_compiled


@pytest.mark.compiled
def test_steps_allocate_nothing():
    from numba.core.runtime import _nrt_python, rtsys

    enabled = _nrt_python.memsys_stats_enabled()
    _nrt_python.memsys_enable_stats()
    try:
        problem = Problem((7, 5, 3), "float32", n=400)
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
