"""Training steps: whole epochs of momentum SGD in float32, the shuffled mini-batches gathered."""

from itertools import pairwise

import numpy as np

from comparison import reference
from comparison.machine import multiply_add_rates
from comparison.sizes import SIZES, Size
from comparison.timing import (
    MET,
    Result,
    calls_in_a_block,
    met,
    print_head,
    print_line,
    take_turns,
)
from comparison.trainers import INSTALLED, Problem, trainers

ROUNDS = 9
# Several epochs of a small network: what a call of fit does once should weigh as in real training.
BLOCK_SECONDS = 0.25


def report(options) -> list[Result]:
    n_threads = 1 if options.cores == 1 else None
    names = [n for n in INSTALLED if INSTALLED[n] and (n != "torch.compile" or options.compile)]
    peers = [name for name in names if name != "fastbp"]
    rates = multiply_add_rates()
    print(f"{rates}\n")
    ratios = [f"{name} / fastbp" for name in peers]
    print_head(
        "id", "layers", "batch", "us a step", *ratios, "fastest peer", "goal", "met", "% of rate"
    )
    results = []
    for size in (size for size in SIZES if not options.sizes or size.id in options.sizes):
        problem = make_problem(size)
        candidates = trainers(names, problem, n_threads)
        prove_equal(size, problem, candidates)
        blocks = {name: trainer.train for name, trainer in candidates.items()}
        calls = {name: calls_in_a_block(block, BLOCK_SECONDS) for name, block in blocks.items()}
        timing = take_turns(blocks, calls, options.rounds or ROUNDS)
        is_met = met([timing.ratio(name) for name in peers], size.goal)
        seconds = {name: median / size.steps for name, median in timing.medians().items()}
        print_line(
            size.id,
            "-".join(map(str, size.layers)),
            f"{size.batch}",
            f"{1e6 * seconds['fastbp']:.1f}",
            *(f"{timing.ratio(name):.2f}" for name in peers),
            min(peers, key=timing.ratio, default=""),
            f"{size.goal}",
            MET[is_met],
            f"{100 * size.multiply_adds / seconds['fastbp'] / rates.limit:.0f}",
        )
        results.append(Result("training", size.id, size.goal, is_met, seconds))
    return results


def make_problem(size: Size) -> Problem:
    """Labels that a linear function of the inputs decides: the loss has somewhere to fall."""
    rng = np.random.default_rng(0)
    x = rng.random((size.rows, size.layers[0]), np.float32) - np.float32(0.5)
    teacher = rng.standard_normal((size.layers[0], size.layers[-1]), np.float32)
    parameters = [
        (
            rng.standard_normal((fan_in, fan_out), np.float32) / np.float32(np.sqrt(fan_in)),
            np.zeros(fan_out, np.float32),
        )
        for fan_in, fan_out in pairwise(size.layers)
    ]
    labels = (x @ teacher).argmax(axis=1)
    # Too slow to overshoot: scikit-learn clips probabilities, so that the loss it reports for sure
    # mistakes is another.
    return Problem(x, labels, parameters, size.batch, learning_rate=0.01, momentum=0.9)


def prove_equal(size: Size, problem: Problem, candidates: dict) -> None:
    """Every trainer makes the same epoch from the same weights; so does the reference."""
    order = np.random.default_rng(1).permutation(size.rows)
    loss, parameters = reference.epoch(problem, order)
    for name, trainer in candidates.items():
        what = f"{size.id}: {name}"
        np.testing.assert_allclose(trainer.epoch(order), loss, 1e-6, err_msg=what)
        for theirs, ours in zip(trainer.parameters(), parameters, strict=True):
            for result, expected in zip(theirs, ours, strict=True):
                np.testing.assert_allclose(result, expected, 1e-4, 1e-5, err_msg=what)
