"""Row by row: the cost with its gradient, softmax, and what goes with them, of float32 logits."""

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

# (rows, classes): for each job its goal, torch / fastbp
JOBS = ("cost and gradient", "softmax", "log_softmax", "logsumexp", "cost")
SHAPES = {
    (128, 10): (15, 10, 7.5, 6, 6),
    (65536, 10): (15, 17, 12, 2.5, 11),
    (4096, 100): (4, 1.5, 1.2, 2.3, 1.7),
    (1024, 1000): (4, 1.5, 1.3, 2.8, 2),
    (256, 32000): (4.5, 1.8, 1.4, 3.3, 3.5),
    (64, 128000): (4.2, 1.6, 1.4, 3.1, 3),
}


@dataclass
class Job:
    """Candidates for one job; each call returns its results as arrays."""

    title: str
    goal: float
    candidates: dict[str, Callable[[], tuple[np.ndarray, ...]]]
    atol: float = 1e-8

    def prove_equal(self) -> None:
        expected = self.candidates["fastbp"]()
        for name, call in self.candidates.items():
            for result, reference in zip(call(), expected, strict=True):
                np.testing.assert_allclose(
                    result, reference, 2e-4, self.atol, err_msg=f"{self.title}: {name}"
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
    makers = (_cost_and_gradient, _softmax, _log_softmax, _logsumexp, _cost)
    for n, n_classes in shapes:
        rng = np.random.default_rng(0)
        z = 3 * rng.standard_normal((n, n_classes), np.float32)
        labels = rng.integers(0, n_classes, n)
        for name, goal, make in zip(JOBS, SHAPES[n, n_classes], makers, strict=True):
            # The others subtract from the logits, and lose what is below their rounding.
            atol = 2e-6 if name == "log_softmax" else 1e-8
            yield Job(f"{name} ({n}, {n_classes})", goal, make(z, labels), atol)


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


def _softmax(z, labels):
    return _results_of("softmax", z, np.empty_like(z))


def _log_softmax(z, labels):
    return _results_of("log_softmax", z, np.empty_like(z))


def _logsumexp(z, labels):
    return _results_of("logsumexp", z, np.empty(len(z), z.dtype))


def _results_of(name, z, out):
    """A function that all have by the same name, with a result that is written to ``out``."""
    function = getattr(fastbp, name)
    candidates = {"fastbp": lambda: (function(z, out=out),)}
    if torch:
        function_of_torch = getattr(torch, name)
        logits, result = torch.from_numpy(z), torch.from_numpy(np.empty_like(out))
        candidates["torch"] = lambda: (function_of_torch(logits, 1, out=result).numpy(),)
    if scipy_special:
        function_of_scipy = getattr(scipy_special, name)
        candidates["scipy"] = lambda: (function_of_scipy(z, axis=1),)
    return candidates


def _cost(z, labels):
    candidates = {"fastbp": lambda: (fastbp.cross_entropy(z, labels),)}
    if torch:
        logits, target = torch.from_numpy(z), torch.from_numpy(labels)
        candidates["torch"] = lambda: (torch.nn.functional.cross_entropy(logits, target).numpy(),)
    if scipy_special:
        rows = np.arange(len(z))
        candidates["scipy"] = lambda: (-scipy_special.log_softmax(z, axis=1)[rows, labels].mean(),)
    return candidates
