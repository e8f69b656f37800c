"""Steps by any number of threads, blocks and latecomers: the bits of one thread alone."""

import threading

import numpy as np
import pytest
from problem import UPDATES, Problem, digest, team_of

from fastbp.backprop import layout, tasks
from fastbp.kernels.activation import ACTIVATIONS

N_THREADS = (2, 3, 4, 7, 16)


def assert_same_by_teams(make, teams):
    """Each team, for blocks of as many: the parameters, memory and totals of one thread alone."""
    __tracebackhide__ = True
    alone = make()
    for _ in range(2):
        assert alone.train() == -1
    for n_blocks, team in teams:
        shared = make()
        for _ in range(2):
            assert shared.train(n_blocks=n_blocks, team=team) == -1
        assert digest(shared) == digest(alone)


@pytest.mark.compiled
@pytest.mark.parametrize(("soft", "weighted"), [(False, False), (True, True)])
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
def test_any_number_of_threads(sizes, n, batch_size, soft, weighted, dtype):
    update = "adamw" if soft and dtype == np.float32 else "sgd"

    def make():
        return Problem(sizes, dtype, n, batch_size, soft=soft, weighted=weighted, update=update)

    assert_same_by_teams(make, [(n, team_of(n)) for n in N_THREADS])


@pytest.mark.compiled
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("update", UPDATES)
def test_any_number_of_threads_for_every_update(update, activation, dtype):
    sparse = UPDATES[update].is_adam == (dtype == np.float64)

    def make():
        return Problem(
            *((101, 63, 37, 19), dtype, 203, 33),
            update=update,
            activation=activation,
            form="sparse" if sparse else "positive",
        )

    assert_same_by_teams(make, [(n, team_of(n)) for n in (2, 3)])


@pytest.mark.parametrize("n_blocks", N_THREADS)
def test_any_number_of_blocks(n_blocks, dtype):
    """One thread takes the blocks of those that never come."""

    def make():
        return Problem((7, 6, 5), dtype, n=40, batch_size=17)

    assert_same_by_teams(make, [(n_blocks, None)])


@pytest.mark.parametrize("n_threads", [2, 3, 5])
def test_one_thread_does_what_is_cut_for_several(n_threads):
    alone, others = Problem((7, 5, 3), "float64"), Problem((7, 5, 3), "float64")
    alone.train()
    others.train(n_blocks=2 * n_threads - 1, n_threads=n_threads)
    assert digest(others) == digest(alone)


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("n_blocks", "lateness"),
    [(4, (0, 0.005)), (3, (0, 0.001, 0.002, 0.004)), (2, (0, 0.01, 0.2)), (7, (0.01, 0, 0.02))],
)
def test_some_begin_late_and_others_never(n_blocks, lateness, dtype):
    def make():
        return Problem((40, 90, 10), dtype, n=8000, batch_size=50)

    assert_same_by_teams(make, [(n_blocks, team_of(len(lateness), lateness))])


@pytest.mark.compiled
@pytest.mark.parametrize("n_threads", [2, 5])
@pytest.mark.parametrize("bad_step", [0, 4, 12])
def test_all_stop_at_a_step_whose_loss_is_not_finite(n_threads, bad_step, dtype):
    stopped, before = (Problem((7, 5, 3), dtype, n=100, weighted=False) for _ in range(2))
    before.train(0, bad_step)
    stopped.data.x[stopped.order[8 * bad_step + 3], 2] = np.nan
    assert stopped.train(n_blocks=n_threads, team=team_of(n_threads)) == bad_step
    assert digest(stopped) == digest(before)


@pytest.mark.compiled
@pytest.mark.parametrize("taken", ["rows", "weights"])
def test_no_phase_begins_before_the_last_has_ended(taken):
    """The first of two threads has taken a block and never finishes: the test, on the counters."""
    problem, after = Problem((7, 5, 3), "float64"), Problem((7, 5, 3), "float64")
    problem.velocity[:] = after.velocity[:] = 0
    rates, problem.update = problem.update, problem.update._replace(learning_rate=0.0)
    problem.train(0, 1)  # compiled, and nothing changes
    problem.update, problem.totals[:] = rates, 0
    after.train(0, 1)
    expected = problem.parameters.copy()
    n_threads = 2
    counters = tasks.make_counters(n_threads)
    rows, weights = counters[tasks.TAKEN :].reshape(2, n_threads, tasks.LINE_OF_COUNTERS)[..., 0]
    counters[tasks.ENTERED] = 1
    if taken == "rows":
        rows[0] = 1
    else:
        rows[:], counters[tasks.DONE], counters[tasks.OPEN] = 1, n_threads, 1
        # the block that is the first layer; the last layer remains
        weights[0] = 1
        for views in (layout.weight_views, layout.bias_views):
            views(problem.plan, expected)[1][:] = views(problem.plan, after.parameters)[1]
    phase = counters[tasks.OPEN]
    arguments = {"n_blocks": n_threads, "counters": counters}
    thread = threading.Thread(target=problem.train, kwargs=arguments, daemon=True)
    thread.start()
    thread.join(0.1)
    waits = thread.is_alive()
    assert counters[tasks.OPEN] == phase
    counters[tasks.OPEN] = 2**62  # let it go
    thread.join(20)
    assert waits
    assert not thread.is_alive()
    np.testing.assert_array_equal(problem.parameters, expected)
