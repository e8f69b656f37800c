"""Measure the accuracy of the installed kernels: ``python -m fastbp verify``.

Prints, for every quantity, the largest error in units in the last place, the input that gives it
and the goal; the exit status is 1 if a goal is missed.  The float32 elementary functions are
measured at all 2^32 inputs, everything else at inputs drawn where a naive formula breaks.
"""

# Kernels have no types, and NumPy's functions of "any array" give Any.
# mypy: disable-error-code="no-any-return, no-untyped-call"

import argparse
import itertools
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp import kernels
from fastbp._compile import kernel
from fastbp.kernels import elementary
from fastbp.verify import ulp
from fastbp.verify.inputs import Case, cases, float64_inputs
from fastbp.verify.ulp import Array

GOALS = {
    "exp": {"float32": 1.0, "float64": 1.0},
    "log1p": {"float32": 1.0, "float64": 1.0},
    "sigmoid": {"float32": 2.0, "float64": 2.5},
    "sigmoid_derivative": {"float32": 3.5, "float64": 3.5},
    "tanh": {"float32": 1.0, "float64": 1.5},
    "softmax": {"float32": 2.0, "float64": 4.0},
    "log_softmax": {"float32": 2.0, "float64": 4.0},
    "cross_entropy": {"float32": 2.0, "float64": 4.0},
    "cross_entropy_targets": {"float32": 2.0, "float64": 4.0},
    "delta": {"float32": 2.0, "float64": 4.0},
    # in ulp of the larger of the row's maximum and the result
    "logsumexp": {"float32": 1.0, "float64": 1.5},
    # float64 in units of u = 2^-53, relative
    "mean_cross_entropy": {"float32": 2.0, "float64": 4.0},
}
DTYPES = ("float32", "float64")

# Largest distance of the reference for many rows from mpmath, in ulp of the judged type
_REFERENCE_SLACK = 0.01


def _loop(function: Any) -> Any:
    """The kernel that applies an elementary function to each element."""

    @kernel
    def loop(x, out):  # type: ignore[no-untyped-def]
        for q in range(x.shape[0]):
            out[q] = function(x[q])

    return loop


@dataclass(frozen=True)
class Elementary:
    """A scalar kernel in a loop, and what it should give: in a wider type, and by mpmath."""

    loop: Callable[..., None]
    wide: Callable[[Array], Array]
    exact: Callable[[Any], Any]

    def exact_error(self, x: float, dtype: str) -> float:
        """Error of the kernel at ``x``, by mpmath."""
        argument = np.array([x], dtype)
        got = np.empty_like(argument)
        self.loop(argument, got)
        mpmath = ulp.load_mpmath()
        if not np.isfinite(x):
            with np.errstate(all="ignore"):
                return float(ulp.ulp_error(got, self.wide(argument.astype(np.longdouble)))[0])
        with ulp.precision():
            exact = self.exact(mpmath.mpf(float(x)))
        return ulp.ulp_error_mp(got[0], exact, dtype)


def _log1p_mp(x: Any) -> Any:
    mp = ulp.load_mpmath().mp
    if x == -1:
        return mp.mpf("-inf")
    return mp.log1p(x) if x > -1 else mp.mpf("nan")


ELEMENTARY = {
    "exp": Elementary(_loop(elementary.exp), np.exp, lambda x: ulp.load_mpmath().exp(x)),
    "log1p": Elementary(_loop(elementary.log1p), np.log1p, _log1p_mp),
    "sigmoid": Elementary(_loop(elementary.sigmoid), ulp.sigmoid, ulp.sigmoid_mp),
    "sigmoid_derivative": Elementary(
        _loop(elementary.sigmoid_derivative), ulp.sigmoid_derivative, ulp.sigmoid_derivative_mp
    ),
    "tanh": Elementary(_loop(elementary.tanh), np.tanh, lambda x: ulp.load_mpmath().tanh(x)),
}
ROW_QUANTITIES = tuple(name for name in GOALS if name not in ELEMENTARY)


@dataclass
class Worst:
    """The largest error seen of one quantity in one dtype, and where."""

    name: str
    dtype: str
    error: float = -1.0
    where: str = "no input"
    inputs: str = ""
    # measures the same error again by mpmath
    again: Callable[[], float] | None = None

    @property
    def goal(self) -> float:
        """Largest error allowed."""
        return GOALS[self.name][self.dtype]

    def line(self) -> str:
        """One line of the table."""
        verdict = "" if self.error <= self.goal else "  MISSED"
        unit = "u  " if (self.name, self.dtype) == ("mean_cross_entropy", "float64") else "ulp"
        return (
            f"{self.name:21} {self.dtype}  {self.inputs:20} max {self.error:.4g} {unit} "
            f"at {self.where} (goal {self.goal:g}){verdict}"
        )

    def confirm(self) -> None:
        """Replace the error by the one that mpmath gives for the same input."""
        if self.again is None or not np.isfinite(self.error):
            return
        exact = self.again()
        if abs(exact - self.error) > _REFERENCE_SLACK:
            raise ArithmeticError(
                f"{self.name} {self.dtype} at {self.where}: the reference says "
                f"{self.error} ulp, mpmath {exact} ulp"
            )
        self.error = exact


# Blocks that stay in the second-level cache, and tasks long enough to cost no waiting.
_BLOCK = 1 << 14
_TASK = 1 << 24


def _sweep_task(function: Elementary, first: int, last: int, stride: int) -> tuple[float, float]:
    """Largest error over the bit patterns first, first + stride, ... below last; and its input."""
    got = np.empty(_BLOCK, np.float32)
    scale, error = np.empty(_BLOCK), np.empty(_BLOCK)
    worst = -1.0, 0.0
    with np.errstate(all="ignore"):
        for start in range(first, last, _BLOCK * stride):
            stop = min(start + _BLOCK * stride, last)
            bits = np.arange(start, stop, stride, dtype=np.uint64).astype(np.uint32)
            x, n = bits.view(np.float32), bits.size
            function.loop(x, got[:n])
            exact = np.ascontiguousarray(function.wide(x.astype(np.float64)))
            ulp.float32_errors(
                got[:n],
                exact,
                exact.view(np.int64),
                scale[:n],
                scale[:n].view(np.int64),
                error[:n],
            )
            q = int(error[:n].argmax())
            if error[q] > worst[0]:
                worst = float(error[q]), float(x[q])
    return worst


def sweep_float32(name: str, stride: int, n_threads: int) -> Worst:
    """Measure a function at every ``stride``-th float32 bit pattern, and around 0, 1 and inf."""
    function = ELEMENTARY[name]
    step = _TASK * stride
    ranges = [(k, min(k + step, 1 << 32), stride) for k in range(0, 1 << 32, step)]
    if stride > 1:
        corners = np.array([0, 2**-126, 2**-24, 1, 9.01, 88.72, 103.97, np.inf], np.float32)
        for corner in np.concatenate((corners, -corners)).view(np.uint32).tolist():
            ranges.append((max(corner - 2048, 0), min(corner + 2048, 1 << 32), 1))
    with ThreadPoolExecutor(n_threads) as pool:
        found = pool.map(lambda bounds: _sweep_task(function, *bounds), ranges)
        error, x = max(found, key=lambda pair: pair[0])
    inputs = "all 2^32 inputs" if stride == 1 else f"1 in {stride} of 2^32"
    return Worst(
        name, "float32", error, f"x = {x.hex()}", inputs, lambda: function.exact_error(x, "float32")
    )


def measure_float64(name: str, n: int, n_threads: int) -> Worst:
    """Measure a function at about ``9 n`` float64 inputs."""
    function = ELEMENTARY[name]
    x = float64_inputs(n if ulp.EXTENDED else n // 200)
    got = np.empty_like(x)
    function.loop(x, got)

    def errors(part: slice) -> Array:
        if not ulp.EXTENDED:
            return np.array([function.exact_error(v, "float64") for v in x[part]])
        with np.errstate(all="ignore"):
            return ulp.ulp_error(got[part], function.wide(x[part].astype(np.longdouble)))

    parts = [slice(k, k + (1 << 16)) for k in range(0, x.size, 1 << 16)]
    with ThreadPoolExecutor(n_threads) as pool:
        error = np.concatenate(list(pool.map(errors, parts)))
    worst = float(x[error.argmax()])
    return Worst(
        name,
        "float64",
        float(error.max()),
        f"x = {worst.hex()}",
        f"{x.size} inputs",
        lambda: function.exact_error(worst, "float64"),
    )


def _note(worst: Worst, errors: Array, case: Case, got: Array) -> None:
    """Keep the largest of ``errors`` (one for each row, or for each entry) if it is a record."""
    at = np.unravel_index(errors.argmax(), errors.shape)
    if not errors[at] > worst.error:
        return
    worst.error = float(errors[at])
    i = int(at[0])
    k = int(at[1]) if len(at) > 1 else int(case.labels[i])
    row, y, label, value = case.z[i], case.y[i], int(case.labels[i]), float(got[at])
    z_ik, z_max = float(row[k]), float(row.max())
    name, dtype = worst.name, worst.dtype
    worst.where = (
        f"{case.kind} row, spread {case.spread:g}, {row.size} classes, row {i}, label {label}, "
        f"z[{k}] = {z_ik.hex()}, z_max = {z_max.hex()}"
    )

    def again() -> float:
        with ulp.precision():
            exact = ulp.RowMP(row, label)
            at = None
            if name == "logsumexp":
                right = exact.logsumexp()
                at = max(abs(exact.z_max), abs(right))
            elif name == "cross_entropy":
                right = exact.cross_entropy()
            elif name == "cross_entropy_targets":
                right = exact.cross_entropy_targets(y)
            else:
                right = getattr(exact, name)(k)
            return ulp.ulp_error_mp(value, right, dtype, at)

    worst.again = again


def _note_mean(worst: Worst, loss: Array, exact: Array, case: Case) -> None:
    """Keep the error of the batch mean if it is a record: ulp in float32, u in float64."""
    mean = kernels.loss_sum(loss) / loss.size

    def error_of(right: Any) -> float:
        if case.z.dtype == np.float32:
            place = np.array([right], np.float64)
            return float(abs(mean - right) / ulp.ulp_size(place, "float32")[0])
        if right == 0:
            return 0.0 if mean == 0 else float("inf")
        return float(abs(mean - right) / right * 2**53)

    def again() -> float:
        with ulp.precision():
            rows = zip(case.z, case.labels.tolist(), strict=True)
            losses = (ulp.RowMP(row, label).cross_entropy() for row, label in rows)
            return error_of(ulp.load_mpmath().fsum(losses) / loss.size)

    right = exact.sum() / loss.size
    if not np.isfinite(right):
        return  # the loss of a -inf label
    error = error_of(right)
    if error > worst.error:
        worst.error = error
        worst.where = f"{case.kind} rows, spread {case.spread:g}, shape {case.z.shape}"
        worst.again = again


def measure_case(case: Case) -> dict[str, Worst]:
    """Run all row kernels on a case: the largest error of every quantity."""
    worst = {name: Worst(name, case.z.dtype.name) for name in ROW_QUANTITIES}
    z, labels = case.z, case.labels
    n = len(z)
    everyone = np.empty(0)
    a, log_a, delta = np.empty_like(z), np.empty_like(z), np.empty_like(z)
    lse, loss, fused, soft = (np.empty(n, z.dtype) for _ in range(4))
    kernels.softmax(z, a)
    kernels.log_softmax(z, log_a)
    kernels.logsumexp(z, lse)
    kernels.cross_entropy(z, labels, everyone, loss)
    kernels.softmax_cross_entropy(z, labels, everyone, fused, delta, 1.0)
    kernels.cross_entropy_targets(z, case.y, everyone, soft)

    exact = ulp.Rows(z, labels)
    right = exact.logsumexp()
    at = np.maximum(abs(exact.z_max), abs(right))
    _note(worst["softmax"], ulp.ulp_error(a, exact.softmax()), case, a)
    _note(worst["log_softmax"], ulp.ulp_error(log_a, exact.log_softmax()), case, log_a)
    _note(worst["logsumexp"], ulp.ulp_error(lse, right, at), case, lse)
    _note(worst["delta"], ulp.ulp_error(delta, exact.delta()), case, delta)
    right = exact.cross_entropy()
    for found in (loss, fused):
        _note(worst["cross_entropy"], ulp.ulp_error(found, right), case, found)
    right = exact.cross_entropy_targets(case.y.astype(exact.z_max.dtype))
    _note(worst["cross_entropy_targets"], ulp.ulp_error(soft, right), case, soft)
    if n >= _LEAST_BATCH:
        _note_mean(worst["mean_cross_entropy"], fused, exact.cross_entropy(), case)
    return worst


# A mean of fewer rows is hardly more than one row, whose goal is wider than that of the mean.
_LEAST_BATCH = 16


def measure_rows(names: list[str], dtype: str, quick: bool, n_threads: int) -> list[Worst]:
    """Measure the row kernels over `cases`."""
    worst = {name: Worst(name, dtype) for name in ROW_QUANTITIES}
    n_rows = 0
    drawn = cases(dtype, quick)
    with ThreadPoolExecutor(n_threads) as pool:
        # one case for each thread at a time: few cases are in memory
        while batch := list(itertools.islice(drawn, n_threads)):
            for found in pool.map(measure_case, batch):
                for name, record in found.items():
                    if record.error > worst[name].error:
                        worst[name] = record
            n_rows += sum(len(case.z) for case in batch)
    for record in worst.values():
        record.inputs = f"{n_rows} rows"
    return [worst[name] for name in names]


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if a goal is missed, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m fastbp verify",
        description="Measure the accuracy of the kernels in units in the last place.",
    )
    parser.add_argument("quantity", nargs="*", help=f"any of {', '.join(GOALS)}; default: all")
    parser.add_argument("--dtype", choices=DTYPES, help="default: both")
    parser.add_argument("--quick", action="store_true", help="fewer inputs: seconds, not minutes")
    parser.add_argument("--stride", type=int, help="every STRIDE-th float32 bit pattern only")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.quantity) - set(GOALS))
    if unknown:
        parser.error(f"unknown quantity {', '.join(unknown)}; known: {', '.join(GOALS)}")
    stride = options.stride or (4099 if options.quick else 1)
    if stride < 1 or options.threads < 1:
        parser.error("--stride and --threads must be at least 1")
    ulp.load_mpmath()
    names = options.quantity or list(GOALS)
    dtypes = [options.dtype] if options.dtype else DTYPES

    print(f"fastbp on {platform.machine()}, Python {platform.python_version()}")
    started, records = time.perf_counter(), []

    def report(record: Worst) -> None:
        record.confirm()
        print(record.line(), flush=True)
        records.append(record)

    for name, dtype in itertools.product(names, dtypes):
        if name not in ELEMENTARY:
            continue
        if dtype == "float32":
            report(sweep_float32(name, stride, options.threads))
        else:
            n = 20_000 if options.quick else 500_000
            report(measure_float64(name, n, options.threads))
    rows = [name for name in names if name not in ELEMENTARY]
    for dtype in dtypes if rows else ():
        if dtype == "float64" and not ulp.EXTENDED:
            print("float64 rows are not measured: longdouble is no wider than float64 here")
            continue
        for record in measure_rows(rows, dtype, options.quick, options.threads):
            report(record)

    missed = [f"{r.name} {r.dtype}" for r in records if not r.error <= r.goal]
    seconds = time.perf_counter() - started
    print(f"{seconds:.0f} s; " + (f"missed: {', '.join(missed)}" if missed else "all goals met"))
    return 1 if missed else 0
