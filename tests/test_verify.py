"""The command that measures accuracy: ``python -m fastbp verify``."""

import subprocess
import sys

import inputs
import numpy as np
import pytest
import reference
import tolerances
from mpmath import mp

from fastbp.verify import inputs as hard_inputs
from fastbp.verify import report, ulp

compiled = pytest.mark.compiled


def test_goals_are_the_tolerances_of_the_tests():
    for name, goals in report.GOALS.items():
        if name == "mean_cross_entropy":
            continue  # in float64 the command counts in u = eps / 2, the tests in ulp
        assert tuple(goals.values()) == tolerances.ULP[name]


def reference_numbers(exact):
    """Each number as mpmath's own, all its bits kept."""
    with mp.workprec(200):
        numbers = []
        for mantissa, exponent in zip(*np.frexp(exact), strict=True):
            high = float(mantissa)
            low = float(mantissa - high) if np.isfinite(high) else 0.0
            numbers.append(mp.ldexp(mp.mpf(high) + low, int(exponent)))
        return numbers


@pytest.mark.parametrize("exact_type", [np.float64, np.longdouble])
def test_ulp_error_equals_the_oracle(exact_type):
    dtype = np.float32 if exact_type is np.float64 else np.float64
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    exponents = rng.integers(info.minexp - 30, info.maxexp + 2, 1000)
    with np.errstate(over="ignore"):
        exact = np.ldexp(rng.uniform(1, 2, 1000).astype(exact_type), exponents)
        got = (exact * (1 + rng.normal(0, info.eps, 1000))).astype(dtype)
    special = np.array([0, -0.0, 1, np.inf, -np.inf, np.nan])
    exact = np.append(exact, np.repeat(special, len(special)).astype(exact_type))
    got = np.append(got, np.tile(special, len(special)).astype(dtype))
    expected = reference.ulp_error(got, exact)
    np.testing.assert_array_equal(ulp.ulp_error(got, exact), expected)
    numbers = reference_numbers(exact)
    found = [ulp.ulp_error_mp(g, x, dtype) for g, x in zip(got, numbers, strict=True)]
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(found, expected.astype(float), rtol=1e-6)


def test_compiled_ulp_error_equals_the_oracle():
    rng = np.random.default_rng(1)
    exact = np.ldexp(rng.uniform(-2, 2, 1000), rng.integers(-160, 132, 1000))
    with np.errstate(over="ignore"):
        got = (exact * (1 + rng.normal(0, 1e-7, 1000))).astype(np.float32)
    special = np.array([0, -0.0, 1, np.inf, -np.inf, np.nan])
    exact = np.append(exact, np.repeat(special, len(special)))
    got = np.append(got, np.tile(special, len(special)).astype(np.float32))
    scale, error = np.empty(exact.size), np.empty(exact.size)
    with np.errstate(invalid="ignore"):
        ulp.float32_errors(got, exact, exact.view(np.int64), scale, scale.view(np.int64), error)
    np.testing.assert_array_equal(error, reference.ulp_error(got, exact).astype(float))


@pytest.mark.parametrize("kind", inputs.KINDS)
def test_row_references_equal_the_oracle(dtype, kind):
    z = inputs.logits(kind, 300.0, (6, 5), dtype)
    labels, y = inputs.labels_of(z), inputs.targets_of(z)
    rows, oracle = ulp.Rows(z, labels), reference.Rows(z)
    onehot = reference.onehot(labels, 5)
    # both are far more exact than the type that they judge
    info = np.finfo(dtype)
    relative = dict(rtol=info.eps / 100, atol=float(info.smallest_subnormal) / 100)
    np.testing.assert_allclose(rows.softmax(), oracle.softmax(), **relative)
    np.testing.assert_allclose(rows.log_softmax(), oracle.log_softmax(), **relative)
    np.testing.assert_allclose(rows.logsumexp(), oracle.logsumexp(), **relative)
    np.testing.assert_allclose(rows.delta(), oracle.output_error(labels), **relative)
    np.testing.assert_allclose(rows.cross_entropy(), oracle.cross_entropy(onehot), **relative)
    soft = rows.cross_entropy_targets(y.astype(rows.z_max.dtype))
    np.testing.assert_allclose(soft, oracle.cross_entropy(y), **relative)


@pytest.mark.parametrize("kind", inputs.KINDS)
def test_mpmath_rows_equal_the_oracle(kind):
    z = inputs.logits(kind, 300.0, (3, 5), np.float64)
    for row, label, y in zip(z, inputs.labels_of(z), inputs.targets_of(z), strict=True):
        onehot = np.arange(5) == label
        with ulp.precision():
            exact = ulp.RowMP(row, label)
            found = [exact.softmax(k) for k in range(5)] + [exact.delta(k) for k in range(5)]
            found += [exact.log_softmax(0), exact.logsumexp(), exact.cross_entropy()]
            found += [exact.cross_entropy_targets(y)]
        expected = reference.softmax_mp(row) + reference.output_error_mp(row, onehot)
        expected += [reference.log_softmax_mp(row)[0], reference.logsumexp_mp(row)]
        expected += [reference.cross_entropy_mp(row, onehot), reference.cross_entropy_mp(row, y)]
        for one, other in zip(found, expected, strict=True):
            assert one == other or abs(one - other) <= abs(other) * mp.mpf(2) ** -200


def test_float64_inputs_hold_what_they_should():
    x = hard_inputs.float64_inputs(1000)
    assert np.isnan(x).any()
    assert np.isposinf(x).any()
    assert np.isneginf(x).any()
    assert ((x < -708.4) & (x > -745)).sum() > 500
    assert (np.abs(x) < 1e-300).any()
    fraction, exponent = np.frexp(np.tanh(x[np.abs(x) < 0.55]))
    assert ((fraction > 0.95) & (exponent >= -6)).sum() > 800


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cases_hold_every_kind_spread_and_width(dtype):
    quick = list(hard_inputs.cases(dtype, quick=True))
    assert {case.kind for case in quick} == set(hard_inputs.KINDS)
    assert {1e-3, 1400.0} <= {case.spread for case in quick}
    assert {1, 10, 4097} <= {case.z.shape[1] for case in quick}
    for case in quick:
        assert case.z.dtype == dtype
        assert np.isfinite(case.z.max(axis=1)).all()
        rows = np.arange(len(case.z))
        assert (case.z[rows[0::3], case.labels[0::3]] == case.z[0::3].max(axis=1)).all()
    first = hard_inputs.make_case("normal", 1.0, (3, 5), dtype, 0)
    again = hard_inputs.make_case("normal", 1.0, (3, 5), dtype, 0)
    np.testing.assert_array_equal(first.z, again.z)


@compiled
def test_a_kernel_that_is_wrong_is_found(monkeypatch):
    """Off by one part in 2^22 on a single range of inputs."""
    exp = report.ELEMENTARY["exp"]

    def loop(x, out):
        with np.errstate(all="ignore"):
            out[:] = np.exp(x.astype(np.float64))
        out[(x > 0.99) & (x < 1.0)] *= 1 + 2.0**-22

    wrong = report.Elementary(loop, exp.wide, exp.exact)
    monkeypatch.setitem(report.ELEMENTARY, "exp", wrong)
    worst = report.sweep_float32("exp", 4099, n_threads=2)
    worst.confirm()
    assert 1 < worst.error < 4
    assert "MISSED" in worst.line()
    assert "0x1.f" in worst.where


@compiled
def test_a_kernel_without_nan_is_found(monkeypatch):
    exp = report.ELEMENTARY["exp"]

    def loop(x, out):
        with np.errstate(all="ignore"):
            out[:] = np.nan_to_num(np.exp(x.astype(np.float64)), posinf=np.inf)

    monkeypatch.setitem(report.ELEMENTARY, "exp", report.Elementary(loop, exp.wide, exp.exact))
    assert report.sweep_float32("exp", 40_999, n_threads=1).error == np.inf


@compiled
def test_a_wrong_reference_is_found(monkeypatch):
    """The bulk reference and mpmath must agree about the worst input."""
    exp = report.ELEMENTARY["exp"]
    wrong = report.Elementary(exp.loop, lambda x: exp.wide(x) * (1 + 1e-7), exp.exact)
    monkeypatch.setitem(report.ELEMENTARY, "exp", wrong)
    with pytest.raises(ArithmeticError, match="mpmath"):
        report.sweep_float32("exp", 400_009, n_threads=1).confirm()


@compiled
def test_quick_run_meets_the_goals(capsys):
    status = report.main(["--quick", "--threads", "2"])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "all goals met" in printed
    for name in report.GOALS:
        assert printed.count(f"\n{name} ") == 2, printed


@compiled
def test_missed_goal_gives_exit_status_1(monkeypatch, capsys):
    monkeypatch.setitem(report.GOALS, "exp", {"float32": 0.1, "float64": 0.1})
    assert report.main(["--quick", "exp", "--dtype", "float32"]) == 1
    printed = capsys.readouterr().out
    assert "MISSED" in printed
    assert "missed: exp float32" in printed
    assert "float64" not in printed


@compiled
def test_without_a_wide_longdouble_mpmath_judges(monkeypatch):
    monkeypatch.setattr(ulp, "EXTENDED", False)
    worst = report.measure_float64("exp", 10_000, n_threads=1)
    worst.confirm()
    assert 0 < worst.error <= report.GOALS["exp"]["float64"]


@pytest.mark.parametrize("name", report.ELEMENTARY)
@pytest.mark.parametrize("dtype", report.DTYPES)
def test_each_function_is_within_its_goal_at_a_few_points(name, dtype):
    function = report.ELEMENTARY[name]
    for x in (-1.0, -0.75, 0.0, 0.5, 3.0, np.inf, np.nan):
        assert function.exact_error(x, dtype) <= report.GOALS[name][dtype]
    worst = report.Worst(name, dtype)
    worst.confirm()  # of no input, nothing is known
    assert worst.error == -1


def test_a_sweep_over_all_inputs_leaves_none_out(monkeypatch):
    ranges = []

    def task(function, first, last, stride):
        ranges.append((first, last, stride))
        return float(first == 2**31), -0.0

    monkeypatch.setattr(report, "_TASK", 2**30)
    monkeypatch.setattr(report, "_sweep_task", task)
    worst = report.sweep_float32("exp", 1, n_threads=1)
    assert ranges == [(k * 2**30, (k + 1) * 2**30, 1) for k in range(4)]
    assert worst.inputs == "all 2^32 inputs"
    assert worst.error == 1


@pytest.mark.parametrize("option", ["--stride", "--threads"])
def test_numbers_below_one_are_refused(option, capsys):
    with pytest.raises(SystemExit, match="2"):
        report.main([option, "-1"])
    assert "--stride and --threads must be at least 1" in capsys.readouterr().err


def test_rows_of_float64_need_a_wide_longdouble(monkeypatch, capsys):
    monkeypatch.setattr(ulp, "EXTENDED", False)
    assert report.main(["softmax", "--dtype", "float64"]) == 0
    assert "float64 rows are not measured" in capsys.readouterr().out


def test_unknown_quantity_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        report.main(["expp"])
    assert "unknown quantity expp" in capsys.readouterr().err


def test_missing_mpmath_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpmath", None)
    with pytest.raises(ImportError, match="pip install mpmath"):
        ulp.load_mpmath()


@compiled
def test_runs_as_a_command():
    command = [sys.executable, "-W", "error", "-m", "fastbp", "verify"]
    child = subprocess.run(
        [*command, "--stride", "65537", "--dtype", "float32", "exp"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stdout + child.stderr
    assert "exp" in child.stdout
