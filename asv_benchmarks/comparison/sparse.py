"""Sparse rows: an epoch and a prediction of MLPClassifier against scikit-learn's.

Rows of 100 entries in many columns, one hidden layer of 100 units, batches of 200, the same
random_state: both make the same steps, and end at the same coefficients but for rounding.
"""

import warnings
from functools import partial
from typing import NamedTuple

import numpy as np

from comparison.timing import (
    MET,
    OptionalModule,
    Result,
    met,
    print_head,
    print_line,
    repeated,
    take_turns,
)

neural_network = OptionalModule("sklearn.neural_network")
sparse = OptionalModule("scipy.sparse")

HEAD = ("rows x columns", "dtype", "what", "fastbp ms", "scikit-learn / fastbp", "goal", "met")
ENTRIES = 100  # of a row
ROUNDS = 5
TOLERANCE = {"float64": 1e-9, "float32": 2e-3}


class Problem(NamedTuple):
    """Rows, columns, dtype, and what is compared, with its goal."""

    n: int
    n_columns: int
    dtype: str
    goals: dict[str, float]


PROBLEMS = (
    Problem(10_000, 30_000, "float64", {"epoch": 3.0, "predict_proba": 2.0}),
    Problem(10_000, 30_000, "float32", {"epoch": 3.0, "predict_proba": 2.0}),
    Problem(1024, 2**20, "float32", {"predict_proba": 2.0}),
)


def report(options) -> list[Result]:
    if not neural_network:
        print("left out: scikit-learn is not installed")
        return []
    print_head(*HEAD)
    return [result for problem in PROBLEMS for result in compare(problem, options)]


def draw(problem: Problem):
    """Rows with entries anywhere, and labels."""
    rng = np.random.default_rng(0)
    shape = problem.n, problem.n_columns
    rows = np.repeat(np.arange(problem.n), ENTRIES)
    values, columns = rng.random(rows.size), rng.integers(0, problem.n_columns, rows.size)
    x = sparse.csr_matrix((values.astype(problem.dtype), (rows, columns)), shape=shape)
    x.sum_duplicates()
    return x, rng.integers(0, 5, problem.n)


def compare(problem: Problem, options):
    import fastbp

    x, y = draw(problem)
    n_threads = 1 if options.cores == 1 else None
    common = {"max_iter": 1, "random_state": 0, "solver": "sgd"}
    models = {
        "fastbp": fastbp.MLPClassifier(n_threads=n_threads, **common),
        "sklearn": neural_network.MLPClassifier(**common),
    }
    name, rounds = f"{problem.n} x {problem.n_columns}", options.rounds or ROUNDS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that an epoch does not converge
        for model in models.values():
            model.fit(x, y)
        prove_equal(*models.values(), x, name)
        for what, goal in problem.goals.items():
            arguments = (x, y) if what == "epoch" else (x,)
            method = {"epoch": "fit"}.get(what, what)
            calls = {
                library: repeated(partial(getattr(model, method), *arguments))
                for library, model in models.items()
            }
            timing = take_turns(calls, dict.fromkeys(calls, 1), rounds)
            ratio = timing.ratio("sklearn")
            is_met, ms = met([ratio], goal), 1e3 * timing.median("fastbp")
            cells = f"{ms:.1f}", f"{ratio:.2f}", f"{goal:g}", MET[is_met]
            print_line(name, problem.dtype, what, *cells)
            title = f"{name}, {problem.dtype}, {what}"
            yield Result("sparse", title, goal, is_met, timing.medians())


def prove_equal(ours, theirs, x, what: str) -> None:
    tolerance = TOLERANCE[x.dtype.name]
    for w, expected in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(w, expected, 0, tolerance, err_msg=what)
    found, expected = ours.predict_proba(x), theirs.predict_proba(x)
    np.testing.assert_allclose(found, expected, 0, tolerance, err_msg=what)
