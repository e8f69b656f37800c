"""How many threads to compute with."""

import os
import sys

import pytest

from fastbp.training import cpus


@pytest.fixture
def machine(monkeypatch):
    """A machine of eight processors, without limits, and with a compiler."""
    for name in cpus.LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cpus, "DISABLE_JIT", False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cpus, "_cgroup_quota", lambda _: None)
    return monkeypatch


def test_useful_threads(machine):
    """One for every so many multiply-adds."""
    costs = (0, 99, 100, 199, 200, 10**6)
    assert [cpus.n_useful(None, cost, 100) for cost in costs] == [1, 1, 2, 2, 3, 8]
    assert [cpus.n_useful(2, cost, 100) for cost in costs] == [1, 1, 2, 2, 2, 2]
    assert cpus.n_useful(100, 10**6, 100) == 100


def test_as_many_as_the_process_may_use(machine):
    assert cpus.default_threads() == 8
    machine.setattr(os, "sched_getaffinity", lambda _: {5, 7})
    assert cpus.default_threads() == 2
    machine.delattr(os, "sched_getaffinity")
    for count, expected in ((6, 6), (None, 1)):
        machine.setattr(os, "cpu_count", lambda count=count: count)
        assert cpus.default_threads() == expected
    machine.setattr(cpus, "DISABLE_JIT", True)
    assert cpus.default_threads() == 1


@pytest.mark.parametrize("name", ["FASTBP_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"])
def test_environment_lowers_the_number(name, machine):
    texts = {"1": 1, "3": 3, " 4 ": 4, "100": 8, "2,4,1": 2, "3 , 1": 3}  # OpenMP nests threads
    for text in ("", "0", "-2", "+2", "2.5", "two", "²", ",2"):
        texts[text] = 8
    for text, expected in texts.items():
        machine.setenv(name, text)
        assert cpus.default_threads() == expected, text


def test_strictest_limit_counts(machine):
    machine.setenv("FASTBP_NUM_THREADS", "5")
    machine.setenv("NUMBA_NUM_THREADS", "3")
    machine.setenv("OMP_NUM_THREADS", "4,1")
    assert cpus.default_threads() == 3
    machine.setattr(cpus, "_cgroup_quota", lambda _: 2.0)
    assert cpus.default_threads() == 2
    machine.setattr(os, "sched_getaffinity", lambda _: {0})
    assert cpus.default_threads() == 1


def test_quota_is_rounded_to_at_least_one(machine):
    quotas = {0.01: 1, 0.5: 1, 1.4: 1, 1.6: 2, 2.0: 2, 7.8: 8, 64.0: 8}
    for quota, expected in quotas.items():
        machine.setattr(cpus, "_cgroup_quota", lambda _, quota=quota: quota)
        assert cpus.default_threads() == expected


V1_GROUPS = "5:cpuset:/c\n4:cpu,cpuacct:/a/b\n1:name=systemd:/s\n"


def v2(groups, **quotas):
    """The files of version 2: cpu.max of each group, with __ in the place of slashes."""
    files = {
        f"sys/fs/cgroup{name.replace('__', '/')}/cpu.max": text for name, text in quotas.items()
    }
    return {"proc/self/cgroup": f"0::{groups}\n"} | files


def v1(**quotas):
    """Those of version 1: quota and period."""
    files = {"proc/self/cgroup": V1_GROUPS}
    for name, text in quotas.items():
        folder = f"sys/fs/cgroup/cpu{name.replace('__', '/')}"
        quota, _, period = text.partition(" ")
        files[f"{folder}/cpu.cfs_quota_us"] = quota + "\n"
        if period:
            files[f"{folder}/cpu.cfs_period_us"] = period + "\n"
    return files


QUOTAS = {
    "no control groups": ({}, None),
    "no files": (v2("/a"), None),
    "v2": (v2("/a", __a="150000 100000\n"), 1.5),
    "v2, at the top": (v2("/", **{"": "50000 100000\n"}), 0.5),
    "v2, no bound": (v2("/a", __a="max 100000\n"), None),
    "v2, own period": (v2("/a", __a="60000 20000\n"), 3.0),
    "v2, strictest inside": (
        v2("/a/b/c", __a__b__c="150000 100000", __a__b="max 100000", __a="300000 100000"),
        1.5,
    ),
    "v2, strictest outside": (
        v2("/a/b", __a__b="500000 100000", __a="300000 100000", **{"": "250000 100000"}),
        2.5,
    ),
    "v2, another group": (v2("/a", __b="50000 100000\n"), None),
    "v2, path of the host": (v2("/docker/1f", **{"": "50000 100000\n"}), 0.5),
    "v2, path above the top": (v2("/../x", **{"": "50000 100000\n"}), 0.5),
    "v2, colon in the path": (v2("/a:b", **{"__a:b": "50000 100000\n"}), 0.5),
    "v2, damaged": (
        v2("/a/b/c", __a__b__c="", __a__b="soon 1", __a="100000 0", **{"": "200000 100000"}),
        2.0,
    ),
    "v1": (v1(__a__b="250000 100000"), 2.5),
    "v1, no bound": (v1(__a__b="-1 100000"), None),
    "v1, strictest outside": (v1(__a__b="-1 100000", __a="50000 20000"), 2.5),
    "v1, strictest inside": (v1(__a__b="10000 100000", **{"": "800000 100000"}), 0.1),
    "v1, other controllers": (v1(__c="100000 100000", __s="100000 100000"), None),
    "v1, period missing": (v1(__a__b="100000"), None),
    "both versions": (
        {**v2("/a", __a="200000 100000"), **v1(__a__b="300000 100000")}
        | {"proc/self/cgroup": V1_GROUPS + "0::/a\n"},
        2.0,
    ),
}


@pytest.mark.skipif(sys.platform == "win32", reason="a colon in a file's name")
@pytest.mark.parametrize(("files", "expected"), QUOTAS.values(), ids=QUOTAS)
def test_quota_of_the_control_group(files, expected, tmp_path):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cpus._cgroup_quota.__wrapped__(tmp_path) == expected


def test_default_on_this_machine():
    assert 1 <= cpus.default_threads() <= os.cpu_count()
