"""fastbp against other libraries, in one process, on one core: `python asv_benchmarks/peers.py`.

The candidates of a comparison are first proved to give the same results, then timed in turns: every
round times one block of calls of each, so that whatever else the machine does meets them all.
A ratio is the median over the rounds of (time of the peer) / (time of fastbp): above 1, fastbp is
the faster. Peers that are not installed are named and left out.
"""

import argparse
import importlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

if hasattr(os, "sched_setaffinity"):
    # Before the libraries are imported: some of them count the cores only then. Thread settings
    # alone would not keep every library on one core.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import numpy as np

import fastbp

BLOCK_SECONDS = 1e-3


@dataclass
class Comparison:
    """Candidates for one job, fastbp among them; each call returns its results as arrays.

    The goal is a ratio to the fastest of ``goal_peers``, or of all peers where none is named.
    """

    title: str
    goal: float
    candidates: dict[str, Callable[[], tuple[np.ndarray, ...]]]
    goal_peers: tuple[str, ...] = ()
    rtol: float = 2e-4
    atol: float = 1e-8

    def prove_equal(self) -> None:
        expected = self.candidates["fastbp"]()
        for name, call in self.candidates.items():
            for result, reference in zip(call(), expected, strict=True):
                np.testing.assert_allclose(
                    result, reference, self.rtol, self.atol, err_msg=f"{self.title}: {name}"
                )

    def times(self, rounds: int) -> dict[str, list[float]]:
        """Seconds for a call: for each candidate, one figure a round."""
        calls = {name: calls_in_a_block(call) for name, call in self.candidates.items()}
        seconds: dict[str, list[float]] = {name: [] for name in self.candidates}
        order = list(self.candidates)
        for _ in range(rounds):
            for name in order:
                seconds[name].append(time_block(self.candidates[name], calls[name]))
            order.append(order.pop(0))  # nobody always follows the same neighbour
        return seconds


def time_block(call: Callable[[], object], n_calls: int) -> float:
    start = time.perf_counter()
    for _ in range(n_calls):
        call()
    return (time.perf_counter() - start) / n_calls


def calls_in_a_block(call: Callable[[], object]) -> int:
    """Calls that take BLOCK_SECONDS together; finding out warms up, too."""
    n_calls = 1
    while (seconds := time_block(call, n_calls) * n_calls) < BLOCK_SECONDS:
        n_calls = max(2 * n_calls, int(n_calls * min(100, BLOCK_SECONDS / max(seconds, 1e-9))))
    return n_calls


def optional(name: str):
    """The module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


torch = optional("torch")
scipy_special = optional("scipy.special")

# (rows, classes): the goal for the cost and its gradient, and for softmax alone; torch / fastbp
ROW_SHAPES = {
    (128, 10): (15, 10),
    (65536, 10): (15, 15),
    (4096, 100): (4, 1.3),
    (1024, 1000): (3.5, 1.3),
    (256, 32000): (3.5, 1.3),
    (64, 128000): (3.5, 1.3),
}


def row_kernels() -> Iterator[Comparison]:
    """Softmax, and the mean cost with its gradient, over rows of float32 logits."""
    for (n, n_classes), (cost_goal, softmax_goal) in ROW_SHAPES.items():
        rng = np.random.default_rng(0)
        z = 3 * rng.standard_normal((n, n_classes), np.float32)
        labels = rng.integers(0, n_classes, n)
        shape = f"({n}, {n_classes})"
        cost = _cost_and_gradient(z, labels)
        yield Comparison(f"cost and gradient {shape}", cost_goal, cost, ("torch",))
        yield Comparison(f"softmax {shape}", softmax_goal, _softmax(z), ("torch",))


def _cost_and_gradient(z, labels):
    n = len(z)
    delta = np.empty_like(z)
    candidates = {"fastbp": lambda: fastbp.softmax_cross_entropy(z, labels, out=delta)}
    if torch is not None:
        leaf = torch.from_numpy(z.copy()).requires_grad_()
        target = torch.from_numpy(labels)

        def with_torch():
            leaf.grad = None  # the fastest way: the gradient is written, not added
            loss = torch.nn.functional.cross_entropy(leaf, target)
            loss.backward()
            return loss.detach().numpy(), leaf.grad.numpy()

        candidates["torch"] = with_torch
    if scipy_special is not None:
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
    if torch is not None:
        logits, result = torch.from_numpy(z), torch.from_numpy(np.empty_like(z))
        candidates["torch"] = lambda: (torch.softmax(logits, 1, out=result).numpy(),)
    if scipy_special is not None:
        candidates["scipy"] = lambda: (scipy_special.softmax(z, axis=1),)
    return candidates


FAMILIES = {"rows": row_kernels}


def versions() -> str:
    names = ["fastbp", "numba", "numpy", "scipy", "torch"]
    found = [f"{name} {module.__version__}" for name in names if (module := optional(name))]
    return f"Python {platform.python_version()}, {', '.join(found)}"


def report(family: str, rounds: int) -> bool:
    """Print the table of one family, as Markdown; whether every goal was met."""
    peers = None
    all_met = True
    for comparison in FAMILIES[family]():
        if peers is None:
            peers = [name for name in comparison.candidates if name != "fastbp"]
            heads = ["", "fastbp us", *(f"{name} / fastbp" for name in peers), "goal", "met"]
            print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
        comparison.prove_equal()
        seconds = comparison.times(rounds)
        ours = seconds["fastbp"]
        ratio = {
            name: statistics.median(t / u for t, u in zip(seconds[name], ours, strict=True))
            for name in peers
        }
        met = ""
        rivals = [ratio[name] for name in comparison.goal_peers or peers if name in ratio]
        if rivals:
            is_met = min(rivals) >= comparison.goal
            met = "yes" if is_met else "no"
            all_met &= is_met
        cells = [
            comparison.title,
            f"{1e6 * statistics.median(ours):.1f}",
            *(f"{ratio[name]:.2f}" for name in peers),
            f"{comparison.goal}" + "".join(f" ({name})" for name in comparison.goal_peers),
            met,
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
    return all_met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", nargs="*", default=list(FAMILIES), help=", ".join(FAMILIES))
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--strict", action="store_true", help="fail where a goal is not met")
    options = parser.parse_args()
    if unknown := set(options.family) - set(FAMILIES):
        parser.error(f"no such family: {', '.join(sorted(unknown))}")
    if torch is not None:
        torch.set_num_threads(1)
    print(versions())
    print("one core" if hasattr(os, "sched_setaffinity") else "cores not pinned: no such call here")
    absent = {"torch": torch, "scipy": scipy_special}
    for name in (name for name, module in absent.items() if module is None):
        print(f"not installed, left out: {name}")
    met = [report(family, options.rounds) for family in options.family]
    if options.strict and not all(met):
        sys.exit(1)


if __name__ == "__main__":
    main()
