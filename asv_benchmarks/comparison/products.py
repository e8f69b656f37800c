"""The three matrix products of a layer, by the public functions and by torch, which calls MKL.

``(m, k, n)``: m rows of the batch, k units of the layer before, n units of the layer. What counts
for the hidden error is torch's product alone, although fastbp multiplies by a(1-a), too.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

import fastbp
from comparison.machine import multiply_add_rates
from comparison.memory import PAGE, on_a_page
from comparison.sizes import PRODUCTS
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

ROUNDS = 25
BLOCK_SECONDS = 1e-3
GOAL = 1.0  # torch / fastbp
TOLERANCE = {"float32": 1e-4, "float64": 1e-12}  # of the largest element
DTYPES = tuple(TOLERANCE)
WITH_DERIVATIVE = "torch with a(1-a)"


@dataclass
class Job:
    """One product; the call of each candidate returns its result as an array."""

    name: str
    shape: tuple[int, int, int]
    dtype: str
    candidates: dict[str, Callable[[], np.ndarray]]
    # What makes a bare product of torch the result of fastbp
    complete: Callable[[np.ndarray], np.ndarray] = np.asarray

    @property
    def title(self) -> str:
        return f"{self.name} {self.shape} {self.dtype}"

    @property
    def multiply_adds(self) -> int:
        m, k, n = self.shape
        return m * k * n

    def prove_equal(self) -> None:
        expected = self.candidates["fastbp"]()
        tolerance = TOLERANCE[self.dtype] * np.abs(expected).max()
        for name, call in self.candidates.items():
            result = self.complete(call()) if name == "torch" else call()
            what = f"{self.title}: {name}"
            np.testing.assert_allclose(result, expected, 0, tolerance, err_msg=what)


def report(options) -> list[Result]:
    rates = multiply_add_rates()
    print(f"{rates}; in float64 half of it\n")
    peers = ["torch", WITH_DERIVATIVE] if torch else []
    print_head(
        *("product", "m, k, n", "dtype", "fastbp GFLOP/s"),
        *("torch GFLOP/s" for _ in peers[:1]),
        *(f"{name} / fastbp" for name in peers),
        *("goal", "met", "% of rate"),
    )
    rounds = options.rounds or ROUNDS
    return [measure(job, peers, rates.limit, rounds) for job in jobs(PRODUCTS, DTYPES)]


def measure(job: Job, peers: list[str], float32_rate: float, rounds: int) -> Result:
    job.prove_equal()
    blocks = {name: repeated(call) for name, call in job.candidates.items()}
    calls = {name: calls_in_a_block(block, BLOCK_SECONDS) for name, block in blocks.items()}
    timing = take_turns(blocks, calls, rounds)
    rate = {name: job.multiply_adds / seconds for name, seconds in timing.medians().items()}
    limit = float32_rate if job.dtype == "float32" else float32_rate / 2
    is_met = met([timing.ratio(name) for name in timing.peers() if name == "torch"], GOAL)
    print_line(
        *(job.name, ", ".join(map(str, job.shape)), job.dtype),
        *(f"{2e-9 * rate[name]:.1f}" for name in ("fastbp", "torch") if name in rate),
        *(f"{timing.ratio(name):.2f}" if name in rate else "" for name in peers),
        *(f"{GOAL:g}", MET[is_met], f"{100 * rate['fastbp'] / limit:.0f}"),
    )
    return Result("products", job.title, GOAL, is_met, timing.medians())


def jobs(shapes: Iterable[tuple[int, int, int]], dtypes: Iterable[str]) -> Iterator[Job]:
    for dtype in dtypes:
        for shape in shapes:
            yield from jobs_of_a_layer(shape, dtype)


def jobs_of_a_layer(shape: tuple[int, int, int], dtype: str) -> Iterator[Job]:
    m, k, n = shape
    rng = np.random.default_rng(0)
    a_prev = on_a_page(rng.random((m, k), dtype))
    w = on_a_page(rng.standard_normal((k, n), dtype))
    b = rng.standard_normal(n, dtype)
    delta = on_a_page(rng.standard_normal((m, n), dtype))
    yield Job("forward", shape, dtype, _forward(a_prev, w, b))
    yield Job("weight gradient", shape, dtype, _weight_gradient(a_prev, delta))
    yield Job(
        *("hidden error", shape, dtype, _hidden_error(delta, w, a_prev)),
        complete=lambda product: product * a_prev * (1 - a_prev),
    )


def _forward(a_prev, w, b):
    z = _empty((len(a_prev), len(b)), w.dtype)
    candidates = {"fastbp": lambda: fastbp.dense(a_prev, w, b, out=z)}
    if torch:
        left, right, bias, out = _tensors(a_prev, w, b, np.empty_like(z))
        candidates["torch"] = lambda: torch.addmm(bias, left, right, out=out).numpy()
    return candidates


def _weight_gradient(a_prev, delta):
    grad_w = _empty((a_prev.shape[1], delta.shape[1]), delta.dtype)
    candidates = {"fastbp": lambda: fastbp.weight_gradient(a_prev, delta, out=grad_w)}
    if torch:
        left, right, out = _tensors(a_prev.T, delta, np.zeros_like(grad_w))
        mean = 1 / len(delta)
        # MKL scales by alpha on its way, and what beta = 0 multiplies is not read.
        candidates["torch"] = lambda: torch.addmm(
            out, left, right, beta=0, alpha=mean, out=out
        ).numpy()
    return candidates


def _hidden_error(delta, w, a):
    delta_prev = _empty(a.shape, a.dtype)
    candidates = {"fastbp": lambda: fastbp.hidden_error(delta, w, a, out=delta_prev)}
    if torch:
        left, right, activations, out, slope = _tensors(
            delta, w.T, a, np.empty_like(a), np.empty_like(a)
        )

        def with_derivative():
            torch.mm(left, right, out=out)
            torch.sub(1, activations, out=slope)
            return out.mul_(slope.mul_(activations)).numpy()

        candidates["torch"] = lambda: torch.mm(left, right, out=out).numpy()
        candidates[WITH_DERIVATIVE] = with_derivative
    return candidates


def _empty(shape, dtype):
    """A place for a result, half a page from where the inputs begin.

    Addresses that agree in their last 12 bits look the same to the processor for a moment.
    """
    return on_a_page(np.zeros(shape, dtype), PAGE // 2)


def _tensors(*arrays):
    return map(torch.from_numpy, arrays)
