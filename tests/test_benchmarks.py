"""The rules of asv's suite, the comparison with other libraries, and the verdict on two commits."""

import argparse
import contextlib
import importlib
import math
import pkgutil
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "asv_benchmarks"
ORDER = ("dtype", "threads", "implementation")  # after the shape

# Calls the setup of every class of the suite, and expects of each to tell asv to skip it.
WITHOUT_FASTBP = """
import importlib, pkgutil
import benchmarks
for module in pkgutil.iter_modules(benchmarks.__path__, "benchmarks."):
    for name, thing in vars(importlib.import_module(module.name)).items():
        if isinstance(thing, type) and thing.__module__ == module.name and name[0] != "_":
            if module.name != "benchmarks._common" and hasattr(thing, "setup"):
                try:
                    thing().setup(*(values[0] for values in getattr(thing, "params", ())))
                except NotImplementedError as error:
                    print(module.name, name, error)
                else:
                    raise SystemExit(f"{module.name}.{name} does not skip")
                getattr(thing(), "setup_cache", int)()
"""


@pytest.fixture
def suite(monkeypatch):
    """The public classes of the suite."""
    monkeypatch.syspath_prepend(str(FOLDER))
    package = importlib.import_module("benchmarks")
    modules = [
        importlib.import_module(f"benchmarks.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
        if not module.name.startswith("_")
    ]
    return [
        thing
        for module in modules
        for name, thing in vars(module).items()
        if isinstance(thing, type) and thing.__module__ == module.__name__ and name[0] != "_"
    ]


def test_parameters_come_in_one_order(suite):
    for kind in suite:
        names = getattr(kind, "param_names", ())
        assert len(names) == len(getattr(kind, "params", ())), kind
        assert all(isinstance(values, list) for values in getattr(kind, "params", ())), kind
        assert names[1:] == ORDER[: max(0, len(names) - 1)], kind
        assert names[:1] != ORDER[:1], kind


def test_history_outlives_an_edit_of_the_text(suite):
    assert [kind for kind in suite if not isinstance(getattr(kind, "version", None), str)] == []


def test_a_version_without_any_part_is_skipped(tmp_path):
    (tmp_path / "fastbp").mkdir()
    (tmp_path / "fastbp" / "__init__.py").touch()
    path = [str(tmp_path), str(FOLDER)]
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path}\n{WITHOUT_FASTBP}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "this version has no fastbp.kernels.softmax" in run.stdout
    assert "this version has no fastbp.Network" in run.stdout


@pytest.fixture
def comparison(monkeypatch):
    """Imports a module of the comparison with other libraries."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return lambda name: importlib.import_module(f"comparison.{name}")


@pytest.mark.parametrize(
    ("vectors", "a_cycle", "n_cores", "expected"),
    [
        (("AVX-512", 512), 1.07, 1, "AVX-512, one 512-bit multiply-add a cycle, 1 core"),
        (("AVX-512", 512), 1.93, 2, "AVX-512, two 512-bit multiply-adds a cycle, 2 cores"),
        (
            *(("AVX2", 256), 2.0, 1),
            "AVX2, two 256-bit multiply-adds a cycle (the goals are for one or two of 512 bits), "
            "1 core",
        ),
        (
            *(("NEON", 128), 3.9, 1),
            "NEON, 4 128-bit multiply-adds a cycle (the goals are for one or two of 512 bits), "
            "1 core",
        ),
    ],
)
def test_processors_have_a_description(
    vectors, a_cycle, n_cores, expected, comparison, monkeypatch
):
    machine = comparison("machine")
    rates = machine.Rates(2e9, 1e9, "somebody's", a_cycle)
    monkeypatch.setattr(machine, "vectors", lambda: vectors)
    monkeypatch.setattr(machine, "multiply_add_rates", lambda: rates)
    monkeypatch.setattr(machine, "cores", lambda: list(range(n_cores)))
    assert machine.description() == f"{machine.model_name()}, {expected}"


def test_this_processor_is_known(comparison):
    machine = comparison("machine")
    assert machine.vectors() in machine.VECTORS.values()
    assert len(machine.model_name()) > len(" ()")
    assert machine.cores()


@pytest.mark.parametrize("n_chains", [1, 12])
def test_multiply_adds_in_registers_are_made(n_chains, comparison):
    """Each chain tends to 2, the fixed point of x / 2 + 1."""
    machine = comparison("machine")
    call, multiply_adds = machine.in_registers(n_chains)
    assert call() == 2 * n_chains
    lanes = machine.vectors()[1] // 32
    assert multiply_adds % (n_chains * lanes) == 0
    assert multiply_adds >= 1e5 * n_chains * lanes


def test_products_are_compared(comparison, monkeypatch, capsys):
    products, machine = comparison("products"), comparison("machine")
    rates = machine.Rates(1e9, 2e9, "somebody's", 1.0)
    monkeypatch.setattr(products, "multiply_add_rates", lambda: rates)
    monkeypatch.setattr(products, "PRODUCTS", [(3, 7, 5), (1, 2, 3)])
    monkeypatch.setattr(products, "BLOCK_SECONDS", 0)
    results = products.report(argparse.Namespace(rounds=1))
    assert [result.title for result in results] == [
        f"{product} {shape} {dtype}"
        for dtype in ("float32", "float64")
        for shape in ((3, 7, 5), (1, 2, 3))
        for product in ("forward", "weight gradient", "hidden error")
    ]
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert len(table) == 2 + len(results)
    assert len({line.count("|") for line in table}) == 1


def test_products_that_differ_are_not_compared(comparison):
    for job in comparison("products").jobs([(3, 7, 5)], ["float32", "float64"]):
        right = job.candidates["fastbp"]().copy()
        wrong = right.copy()
        wrong[-1, -1] += 0.01
        job.candidates["another"] = lambda right=right: right
        job.prove_equal()
        job.candidates["another"] = lambda wrong=wrong: wrong
        with pytest.raises(AssertionError, match=rf"{job.name} \(3, 7, 5\) float.*: another"):
            job.prove_equal()


def test_rows_are_compared(comparison):
    rows = comparison("rows")
    jobs = list(rows.jobs([(128, 10)]))
    assert [job.title for job in jobs] == [f"{name} (128, 10)" for name in rows.JOBS]
    for job in jobs:
        job.prove_equal()
        right = job.candidates["fastbp"]()
        job.candidates["another"] = lambda right=right: tuple(1.01 * array for array in right)
        with pytest.raises(AssertionError, match="another"):
            job.prove_equal()


class Side:
    """A version whose measurements are given: for each benchmark the values of all rounds."""

    def __init__(self, name, values, error):
        self.name, self.values, self.error = name, {k: list(v) for k, v in values.items()}, error

    def launching(self):
        return contextlib.nullcontext()

    def measure(self, case):
        value = self.values[case.name].pop(0)
        if value is None:
            raise self.error(self, "it says why")
        return value


ROUNDS = 3
ALL_ROUNDS = ROUNDS + 7 + 7


@pytest.fixture
def verdict(monkeypatch, capsys):
    """Compare the given measurements; returns the exit status and what is printed last."""
    script = runpy.run_path(str(FOLDER / "compare.py"))

    def compare(base, head, factor=1.15):
        cases = [
            script["Case"]({"name": name, "params": [], "unit": "seconds"}, 0) for name in base
        ]
        monkeypatch.setitem(script["compare"].__globals__, "find_cases", lambda *_: cases)
        options = type("Options", (), {"rounds": ROUNDS, "factor": factor, "bench": None})
        sides = (
            Side(name, values, script["MeasurementError"])
            for name, values in (("base", base), ("head", head))
        )
        status = script["compare"](*sides, options)
        return status, capsys.readouterr().out

    return compare


def test_slower_in_every_pass_is_slower(verdict):
    base = {"same": [1.0] * ALL_ROUNDS, "slow": [1.0] * ALL_ROUNDS}
    status, output = verdict(base, base | {"slow": [1.3] * ALL_ROUNDS})
    assert status == 1
    slower = output[output.index("SLOWER") :]
    assert "slow\n" in slower
    assert "same" not in slower
    assert "2 measured, 1 slower, 0 faster, 0 failed" in slower


@pytest.mark.parametrize("calm_after", [ROUNDS, ROUNDS + 7])
def test_slower_by_chance_is_not(verdict, calm_after):
    head = [1.3] * calm_after + [1.0] * (ALL_ROUNDS - calm_after)
    status, output = verdict({"a": [1.0] * ALL_ROUNDS}, {"a": head})
    assert status == 0
    assert "1 measured, 0 slower, 0 faster, 0 failed" in output


def test_one_bad_round_is_not_even_looked_at_again(verdict):
    status, output = verdict({"a": [1.0] * ROUNDS}, {"a": [1.0, 9.0, 1.0]})
    assert status == 0
    assert "once more" not in output


def test_what_noise_hides_in_part_is_found(verdict):
    head = [1.09] * ROUNDS + [1.2] * 14
    assert verdict({"a": [1.0] * ALL_ROUNDS}, {"a": head})[0] == 1


def test_below_the_factor_is_not_slower(verdict):
    values = {"a": [1.0] * ALL_ROUNDS}
    head = {"a": [1.3] * ALL_ROUNDS}
    assert verdict(values, head, factor=1.5)[0] == 0
    assert verdict(values, head, factor=1.25)[0] == 1


def test_drift_of_the_machine_cancels(verdict):
    drift = [1.3**i for i in range(ROUNDS)]
    assert verdict({"a": drift}, {"a": drift})[0] == 0


def test_faster_in_every_pass_is_told_and_no_failure(verdict):
    status, output = verdict({"a": [1.0] * ALL_ROUNDS}, {"a": [0.5] * ALL_ROUNDS})
    assert status == 0
    assert "faster by 1.15 or more" in output
    head = [0.5] * ROUNDS + [1.0] * 7
    assert "faster by" not in verdict({"a": [1.0] * ALL_ROUNDS}, {"a": head})[1]


def test_exactness_lost_is_slower(verdict):
    assert verdict({"a": [0.0] * ALL_ROUNDS}, {"a": [0.0] * ALL_ROUNDS})[0] == 0
    assert verdict({"a": [0.0] * ALL_ROUNDS}, {"a": [0.5] * ALL_ROUNDS})[0] == 1


def test_nothing_measured_is_a_failure(verdict):
    for base, head in (
        ({}, {}),
        ({"a": [1.0]}, {"a": [math.nan]}),
        ({"a": [math.nan]}, {"a": [1.0]}),
    ):
        status, output = verdict(base, head)
        assert status == 2
        assert "0 measured" in output


def test_failing_in_head_is_a_failure(verdict):
    base = {"a": [1.0] * ROUNDS, "b": [1.0] * ROUNDS}
    status, output = verdict(base, base | {"b": [1.0, None]})
    assert status == 1
    assert "FAILED:\nb\n" in output
    assert "fails with head:\nit says why" in output


def test_failing_in_both_is_a_failure(verdict):
    base = {"a": [1.0] * ROUNDS, "b": [None]}
    assert verdict(base, base | {"b": [None]})[0] == 1


def test_mended_in_head_is_no_failure(verdict):
    base = {"a": [1.0] * ROUNDS, "b": [None]}
    status, output = verdict(base, base | {"b": [1.0]})
    assert status == 0
    assert "not in both versions: b" in output
