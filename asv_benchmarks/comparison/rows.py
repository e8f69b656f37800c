"""Row kernels: softmax, and the mean cost with its gradient, over rows of float32 logits."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

import fastbp
from comparison.timing import (
    MET,
    OptionalModule,
    Result,
    calls_in_a_block,
    met,
    print_head,
    print_line,
    repeated,
    take_turns,
)

torch = OptionalModule("torch")
scipy_special = OptionalModule("scipy.special")

ROUNDS = 25
BLOCK_SECONDS = 1e-3

# (rows, classes): the goal for the cost and its gradient, and for softmax alone; torch / fastbp
SHAPES = {
    (128, 10): (15, 10),
    (65536, 10): (15, 15),
    (4096, 100): (4, 1.3),
    (1024, 1000): (3.5, 1.3),
    (256, 32000): (3.5, 1.3),
    (64, 128000): (3.5, 1.3),
}


@dataclass
class Job:
    """Candidates for one job; each call returns its results as arrays."""

    title: str
    goal: float
    candidates: dict[str, Callable[[], tuple[np.ndarray, ...]]]

    def prove_equal(self) -> None:
        expected = self.candidates["fastbp"]()
        for name, call in self.candidates.items():
            for result, reference in zip(call(), expected, strict=True):
                np.testing.assert_allclose(
                    result, reference, 2e-4, 1e-8, err_msg=f"{self.title}: {name}"
                )


def report(options) -> list[Result]:
    results = []
    for job in jobs():
        job.prove_equal()
        blocks = {name: repeated(call) for name, call in job.candidates.items()}
        calls = {name: calls_in_a_block(block, BLOCK_SECONDS) for name, block in blocks.items()}
        timing = take_turns(blocks, calls, options.rounds or ROUNDS)
        if not results:
            ratios = [f"{name} / fastbp" for name in timing.peers()]
            print_head("float32, (rows, classes)", "fastbp us", *ratios, "goal", "met")
        is_met = met([timing.ratio(name) for name in timing.peers() if name == "torch"], job.goal)
        print_line(
            job.title,
            f"{1e6 * timing.median('fastbp'):.1f}",
            *(f"{timing.ratio(name):.2f}" for name in timing.peers()),
            f"{job.goal} (torch)",
            MET[is_met],
        )
        results.append(Result("rows", job.title, job.goal, is_met, timing.medians()))
    return results


def jobs(shapes: Iterable[tuple[int, int]] = tuple(SHAPES)) -> Iterator[Job]:
    for n, n_classes in shapes:
        cost_goal, softmax_goal = SHAPES[n, n_classes]
        rng = np.random.default_rng(0)
        z = 3 * rng.standard_normal((n, n_classes), np.float32)
        labels = rng.integers(0, n_classes, n)
        shape = f"({n}, {n_classes})"
        yield Job(f"cost and gradient {shape}", cost_goal, _cost_and_gradient(z, labels))
        yield Job(f"softmax {shape}", softmax_goal, _softmax(z))


def _cost_and_gradient(z, labels):
    n = len(z)
    delta = np.empty_like(z)
    candidates = {"fastbp": lambda: fastbp.softmax_cross_entropy(z, labels, out=delta)}
    if torch:
        leaf = torch.from_numpy(z.copy()).requires_grad_()
        target = torch.from_numpy(labels)

        def with_torch():
            leaf.grad = None  # the fastest way: the gradient is written, not added
            loss = torch.nn.functional.cross_entropy(leaf, target)
            loss.backward()
            return loss.detach().numpy(), leaf.grad.numpy()

        candidates["torch"] = with_torch
    if scipy_special:
        rows = np.arange(n)

        def with_scipy():
            log_a = scipy_special.log_softmax(z, axis=1)
            loss = -log_a[rows, labels].mean()
            error = np.exp(log_a, out=log_a)
            error[rows, labels] -= 1
            error /= n
            return loss, error

        candidates["scipy"] = with_scipy
    return candidates


def _softmax(z):
    a = np.empty_like(z)
    candidates = {"fastbp": lambda: (fastbp.softmax(z, out=a),)}
    if torch:
        logits, result = torch.from_numpy(z), torch.from_numpy(np.empty_like(z))
        candidates["torch"] = lambda: (torch.softmax(logits, 1, out=result).numpy(),)
    if scipy_special:
        candidates["scipy"] = lambda: (scipy_special.softmax(z, axis=1),)
    return candidates
