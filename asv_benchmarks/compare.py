"""Compare two commits: `python asv_benchmarks/compare.py BASE [HEAD]`.

Both are built as asv.conf.json says, each in an environment of its own, and asv's benchmarks run in
both in turns. In a round a benchmark has one process of each commit, right after one another, this
first or that; the round's ratio is (best sample of HEAD) / (best of BASE), and the benchmark's is
the median over the rounds. What looks slower or faster is measured again, twice, and reported only
if it is so by the factor each time.

The suite is the one beside this file, for both commits. The series of ratios to other libraries are
left out unless --bench asks for them: here it is BASE that takes turns.

Exit status: 0 if nothing is slower, 1 if something is or fails with HEAD, 2 if none was measured.
"""

import argparse
import contextlib
import math
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

FOLDER = Path(__file__).parent
ALL_BUT_RATIOS = r"^(?!ratios\.)"
RETRY_ROUNDS = (7, 7)


class MeasurementError(Exception):
    """A benchmark failed in one version; the text is what it printed."""

    def __init__(self, side: "Side", output: str) -> None:
        super().__init__(f"fails with {side.name}:\n{output}")
        self.side = side


@dataclass(eq=False)
class Case:
    """One benchmark with one combination of its parameters."""

    benchmark: dict
    index: int
    values: dict[str, list[float]] = field(default_factory=lambda: {"base": [], "head": []})

    @property
    def name(self) -> str:
        if not self.benchmark["params"]:
            return self.benchmark["name"]
        parameters = list(product(*self.benchmark["params"]))[self.index]
        return f"{self.benchmark['name']}({', '.join(parameters)})"

    @property
    def ratio(self) -> float:
        """Median over the rounds of head / base; NaN where a version has nothing to measure."""
        pairs = zip(self.values["base"], self.values["head"], strict=True)
        ratios = [ratio_of(base, head) for base, head in pairs]
        return statistics.median(ratios) if ratios else math.nan

    def __str__(self) -> str:
        base, head = (statistics.median(self.values[side]) for side in ("base", "head"))
        unit = self.benchmark["unit"]
        return f"{self.ratio:7.3f}  {pretty(base, unit):>9} -> {pretty(head, unit):<9}  {self.name}"


def ratio_of(base: float, head: float) -> float:
    if base == head:
        return 1.0
    return head / base if base else math.inf


def pretty(value: float, unit: str) -> str:
    for prefix, size in (("", 1), ("m", 1e-3), ("u", 1e-6)):
        if unit == "seconds" and value >= size:
            return f"{value / size:.3g} {prefix}s"
    return f"{value / 2**20:.4g} MiB" if unit == "bytes" else f"{value:.3g}"


class Side:
    """A commit, built and installed in its environment."""

    def __init__(self, name: str, commit: str) -> None:
        from asv.config import Config
        from asv.environment import get_environments
        from asv.repo import NoSuchNameError, get_repo
        from asv.util import UserError

        self.name = name
        self.config = Config.load("asv.conf.json")
        self.config.env_dir = f"{self.config.env_dir}-{name}"
        self.repo = get_repo(self.config)
        self.repo.pull()
        try:
            self.commit = self.repo.get_hash_from_name(commit)
        except NoSuchNameError:
            raise UserError(f"{name} is {commit!r}, expected a commit, branch or tag") from None
        environments = list(get_environments(self.config, None))
        if len(environments) != 1:
            raise UserError(f"asv.conf.json: {len(environments)} environments here, 1 expected")
        (self.environment,) = environments
        self.environment.create()
        self.environment.install_project(self.config, self.repo, self.commit)
        self.cache_folders: dict[str, str] = {}

    @contextlib.contextmanager
    def launching(self) -> Iterator[None]:
        """Within the context, the process that benchmarks are forked from is there."""
        from asv.runner import get_spawner

        config = self.config
        self.spawner = get_spawner(self.environment, config.benchmark_dir, config.launch_method)
        try:
            imported, output = self.spawner.preimport()
            if not imported:
                raise MeasurementError(self, output)
            yield
        finally:
            self.spawner.close()
            for folder in self.cache_folders.values():
                shutil.rmtree(folder, ignore_errors=True)
            self.cache_folders.clear()

    def measure(self, case: Case) -> float:
        """The best sample of a new process, NaN if this version has nothing to measure."""
        from asv.runner import run_benchmark

        benchmark = case.benchmark
        if benchmark.get("timeout") is None:
            benchmark["timeout"] = self.config.default_benchmark_timeout
        outcome = run_benchmark(
            benchmark,
            self.spawner,
            profile=False,
            selected_idx={case.index},
            cwd=self.cache_folder(benchmark),
        )
        result, samples = outcome.result[case.index], outcome.samples[case.index]
        if outcome.errcode or result is None:
            raise MeasurementError(self, outcome.stderr)
        return min(samples) if samples else float(result)

    def cache_folder(self, benchmark: dict) -> str | None:
        """Where the setup_cache of the benchmark has left its result, if it has one."""
        key = benchmark.get("setup_cache_key")
        if key is None:
            return None
        if key not in self.cache_folders:
            folder, output = self.spawner.create_setup_cache(
                benchmark["name"], benchmark["timeout"], "{}"
            )
            if folder is None:
                raise MeasurementError(self, output)
            self.cache_folders[key] = folder
        return self.cache_folders[key]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", help="commit, branch or tag")
    parser.add_argument("head", nargs="?", default="HEAD", help="the same (default: HEAD)")
    parser.add_argument(
        "--bench",
        action="append",
        metavar="REGEX",
        help="benchmarks to run, as of asv; all but the ratios by default",
    )
    parser.add_argument("--rounds", type=int, default=3, help="of the first pass (default: 3)")
    parser.add_argument(
        "--factor", type=float, default=1.15, help="slower by this is slower (default: 1.15)"
    )
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {options.rounds}")
    if not 1 < options.factor < math.inf:
        parser.error(f"--factor must be above 1 and finite, not {options.factor}")
    return options


def find_cases(head: Side, patterns: list[str] | None) -> list[Case]:
    from asv.benchmarks import Benchmarks

    found = Benchmarks.discover(
        head.config,
        head.repo,
        [head.environment],
        [head.commit],
        regex=patterns or [ALL_BUT_RATIOS],
    )
    # Discovery moves on to other commits where the suite cannot be imported.
    head.environment.install_project(head.config, head.repo, head.commit)
    return [
        Case(benchmark, index)
        for name, benchmark in sorted(found.items())
        for index in (found.benchmark_selection[name] or [0])
    ]


def measure_all(
    cases: list[Case], base: Side, head: Side, rounds: int
) -> tuple[list[Case], list[Case]]:
    """Return those that were measured in both versions, and those that fail in HEAD."""
    failed: list[Case] = []
    absent: list[Case] = []
    for case in cases:
        case.values = {"base": [], "head": []}
    for i in range(rounds):
        sides = ((base, head), (head, base))[i % 2]
        print(f"round {i + 1} of {rounds}: {len(cases)} benchmarks", flush=True)
        # Forks of one process share the places of its code and data: new ones in each round.
        with base.launching(), head.launching():
            for case in cases:
                try:
                    values = {side.name: side.measure(case) for side in sides}
                except MeasurementError as error:
                    print(f"{case.name} {error}", flush=True)
                    (failed if error.side is head or not works(case, head) else absent).append(case)
                    continue
                if any(map(math.isnan, values.values())):
                    absent.append(case)
                    continue
                for name, value in values.items():
                    case.values[name].append(value)
        cases = [case for case in cases if case not in failed and case not in absent]
    for case in cases:
        print(case)
    for case in absent:
        print(f"     --  not in both versions: {case.name}")
    return cases, failed


def works(case: Case, side: Side) -> bool:
    try:
        return not math.isnan(side.measure(case))
    except MeasurementError:
        return False


def compare(base: Side, head: Side, options: argparse.Namespace) -> int:
    cases = find_cases(head, options.bench)
    print("\nHEAD / BASE\n")
    measured, failed = measure_all(cases, base, head, options.rounds)
    # A change that noise hides in part is worth a second look, too.
    factor = math.sqrt(options.factor)
    slower = [c for c in measured if c.ratio > factor]
    faster = [c for c in measured if c.ratio < 1 / factor]
    for rounds in RETRY_ROUNDS:
        if slower or faster:
            print("\nthose that look slower or faster, once more\n")
            again, failed_again = measure_all(slower + faster, base, head, rounds)
            failed += failed_again
            slower = [c for c in slower if c in again and c.ratio > options.factor]
            faster = [c for c in faster if c in again and c.ratio < 1 / options.factor]
    return report(measured, slower, faster, failed, options.factor)


def report(
    measured: list[Case], slower: list[Case], faster: list[Case], failed: list[Case], factor: float
) -> int:
    """Print the verdict, and return the exit status."""
    print()
    for title, cases in (("faster", faster), ("SLOWER", slower)):
        if cases:
            print(f"{title} by {factor:g} or more, in every pass:")
            print(*sorted(cases, key=lambda case: case.ratio), sep="\n")
    if failed:
        print("FAILED:", *(case.name for case in failed), sep="\n")
    counts = [f"{len(slower)} slower", f"{len(faster)} faster", f"{len(failed)} failed"]
    print(f"{len(measured)} measured, {', '.join(counts)}")
    if not measured:
        print("nothing was measured", file=sys.stderr)
        return 2
    return 1 if slower or failed else 0


def main() -> int:
    options = parse()
    os.chdir(FOLDER)
    try:
        from asv.console import log
        from asv.util import ProcessError, UserError
    except ImportError as error:
        print(f"{error}: asv comes with pip install -e '.[bench]'", file=sys.stderr)
        return 2
    log.enable()
    command = ["git", "status", "--porcelain", "--", "../fastbp"]
    if options.head == "HEAD" and subprocess.run(command, capture_output=True).stdout:
        print("Changes of fastbp/ that are not committed are not measured.", file=sys.stderr)
    try:
        return compare(Side("base", options.base), Side("head", options.head), options)
    except (UserError, ProcessError, MeasurementError) as error:
        print(f"{error}\nnothing was measured", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
