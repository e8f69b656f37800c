"""How many threads, and the pool; what may happen to its process is in test_processes.py."""

import itertools
import os
import signal
import sys
import threading
import time
import weakref

import pytest
from together import together

from fastbp.training import threads

WAIT = 10  # seconds after which a thread that should have come is given up

# How many threads


@pytest.fixture
def machine(monkeypatch):
    """A machine of eight processors, without limits, and with a compiler."""
    for name in threads.LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads.config, "DISABLE_JIT", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_cgroup_quota", lambda _: None)
    return monkeypatch


def test_as_many_as_the_process_may_use(machine):
    assert threads.default_threads() == 8
    machine.setattr(os, "sched_getaffinity", lambda _: {5, 7})
    assert threads.default_threads() == 2


@pytest.mark.parametrize(("count", "expected"), [(6, 6), (None, 1)])
def test_all_processors_where_there_is_no_affinity(count, expected, machine):
    machine.delattr(os, "sched_getaffinity")
    machine.setattr(os, "cpu_count", lambda: count)
    assert threads.default_threads() == expected


def test_one_without_a_compiler(machine):
    machine.setattr(threads.config, "DISABLE_JIT", 1)
    assert threads.default_threads() == 1


@pytest.mark.parametrize("name", ["FASTBP_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[("1", 1), ("3", 3), (" 4 ", 4), ("100", 8)],
        *[("2,4,1", 2), ("3 , 1", 3)],  # OpenMP: threads for each level of nesting
        *[("", 8), ("0", 8), ("-2", 8), ("+2", 8), ("2.5", 8), ("two", 8), ("²", 8), (",2", 8)],
    ],
)
def test_environment_lowers_the_number(name, text, expected, machine):
    machine.setenv(name, text)
    assert threads.default_threads() == expected


def test_strictest_limit_counts(machine):
    machine.setenv("FASTBP_NUM_THREADS", "5")
    machine.setenv("NUMBA_NUM_THREADS", "3")
    machine.setenv("OMP_NUM_THREADS", "4,1")
    assert threads.default_threads() == 3
    machine.setattr(threads, "_cgroup_quota", lambda _: 2.0)
    assert threads.default_threads() == 2
    machine.setattr(os, "sched_getaffinity", lambda _: {0})
    assert threads.default_threads() == 1


@pytest.mark.parametrize(
    ("quota", "expected"), [(0.01, 1), (0.5, 1), (1.4, 1), (1.6, 2), (2.0, 2), (7.8, 8), (64.0, 8)]
)
def test_quota_is_rounded_to_at_least_one(quota, expected, machine):
    machine.setattr(threads, "_cgroup_quota", lambda _: quota)
    assert threads.default_threads() == expected


NAME, V1, V2 = "proc/self/cgroup", "sys/fs/cgroup/cpu", "sys/fs/cgroup"
V1_GROUPS = "5:cpuset:/c\n4:cpu,cpuacct:/a/b\n1:name=systemd:/s\n"


def v1(quota, period="100000\n"):
    """The two files of a group, by their names."""
    return {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": period}


def tree(*groups):
    """All files of some folders, by their paths."""
    return {f"{folder}/{name}": text for folder, files in groups for name, text in files.items()}


QUOTAS = {
    "no control groups": ({}, None),
    "no files": ({NAME: "0::/a\n"}, None),
    "v2": ({NAME: "0::/a\n", f"{V2}/a/cpu.max": "150000 100000\n"}, 1.5),
    "v2, at the top": ({NAME: "0::/\n", f"{V2}/cpu.max": "50000 100000\n"}, 0.5),
    "v2, no bound": ({NAME: "0::/a\n", f"{V2}/a/cpu.max": "max 100000\n"}, None),
    "v2, own period": ({NAME: "0::/a\n", f"{V2}/a/cpu.max": "60000 20000\n"}, 3.0),
    "v2, strictest inside": (
        {
            NAME: "0::/a/b/c\n",
            f"{V2}/a/b/c/cpu.max": "150000 100000\n",
            f"{V2}/a/b/cpu.max": "max 100000\n",
            f"{V2}/a/cpu.max": "300000 100000\n",
        },
        1.5,
    ),
    "v2, strictest outside": (
        {
            NAME: "0::/a/b\n",
            f"{V2}/a/b/cpu.max": "500000 100000\n",
            f"{V2}/a/cpu.max": "300000 100000\n",
            f"{V2}/cpu.max": "250000 100000\n",
        },
        2.5,
    ),
    "v2, another group": ({NAME: "0::/a\n", f"{V2}/b/cpu.max": "50000 100000\n"}, None),
    "v2, path of the host": (
        {NAME: "0::/docker/1f\n", f"{V2}/cpu.max": "50000 100000\n"},
        0.5,
    ),
    "v2, path above the top": ({NAME: "0::/../x\n", f"{V2}/cpu.max": "50000 100000\n"}, 0.5),
    "v2, colon in the path": ({NAME: "0::/a:b\n", f"{V2}/a:b/cpu.max": "50000 100000\n"}, 0.5),
    "v2, damaged": (
        {
            NAME: "0::/a/b/c\n",
            f"{V2}/a/b/c/cpu.max": "",
            f"{V2}/a/b/cpu.max": "soon 100000\n",
            f"{V2}/a/cpu.max": "100000 0\n",
            f"{V2}/cpu.max": "200000 100000\n",
        },
        2.0,
    ),
    "v1": ({NAME: V1_GROUPS, **tree((f"{V1}/a/b", v1("250000\n")))}, 2.5),
    "v1, no bound": ({NAME: V1_GROUPS, **tree((f"{V1}/a/b", v1("-1\n")))}, None),
    "v1, strictest outside": (
        {NAME: V1_GROUPS, **tree((f"{V1}/a/b", v1("-1\n")), (f"{V1}/a", v1("50000\n", "20000\n")))},
        2.5,
    ),
    "v1, strictest inside": (
        {NAME: V1_GROUPS, **tree((f"{V1}/a/b", v1("10000\n")), (V1, v1("800000\n")))},
        0.1,
    ),
    "v1, path of the host": ({NAME: V1_GROUPS, **tree((V1, v1("100000\n")))}, 1.0),
    "v1, other controllers": (
        {NAME: V1_GROUPS, **tree((f"{V1}/c", v1("100000\n")), (f"{V1}/s", v1("100000\n")))},
        None,
    ),
    "v1, period missing": ({NAME: V1_GROUPS, f"{V1}/a/b/cpu.cfs_quota_us": "100000\n"}, None),
    "both versions": (
        {
            NAME: V1_GROUPS + "0::/a\n",
            **tree((f"{V1}/a/b", v1("300000\n"))),
            f"{V2}/a/cpu.max": "200000 100000\n",
        },
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
    assert threads._cgroup_quota.__wrapped__(tmp_path) == expected


def test_default_on_this_machine():
    assert 1 <= threads.default_threads() <= os.cpu_count()


# The pool


def is_caller():
    """Whether this is the thread that runs the tests."""
    return threading.current_thread() is threading.main_thread()


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7])
def test_every_thread_calls_once_at_the_same_time(n_threads):
    start, callers = threading.Barrier(n_threads), []

    def work():
        start.wait(WAIT)  # returns once all of them have come
        callers.append(threading.current_thread())

    threads.run(n_threads, work)
    assert len(callers) == len(set(callers)) == n_threads
    assert threading.current_thread() in callers


def test_one_thread_needs_no_pool(monkeypatch):
    def refuse():
        raise AssertionError("a thread was started")

    monkeypatch.setattr(threads, "_Worker", refuse)
    callers = []
    threads.run(1, lambda: callers.append(threading.current_thread()))
    assert callers == [threading.current_thread()]
    with pytest.raises(ZeroDivisionError):
        threads.run(1, lambda: 1 // 0)


def test_returns_when_all_have_ended():
    ended = []

    def work():
        if not is_caller():
            time.sleep(0.05)
        ended.append(threading.current_thread())

    threads.run(4, work)
    assert len(ended) == 4


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(
    ("failing", "raised"), [({0}, {0}), ({2}, {2}), ({1, 2}, {1, 2}), ({0, 1}, {0})], ids=str
)
def test_errors_are_raised_after_all_have_ended(failing, raised, error):
    """The caller's own counts before those of the others."""
    worker_numbers, ended = itertools.count(1), []

    def work():
        number = 0 if is_caller() else next(worker_numbers)
        if number in failing:
            raise error(number)
        time.sleep(0.05)
        ended.append(number)

    with pytest.raises(error) as caught:
        threads.run(3, work)
    assert caught.value.args[0] in raised
    assert {*ended, *failing} == {0, 1, 2}
    threads.run(3, lambda: ended.append(None))  # none is left over for the next
    assert ended.count(None) == 3


@pytest.fixture
def ctrl_c():
    """Ctrl-C interrupts, also where the tests run in the background, which would ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals to threads are POSIX")
@pytest.mark.parametrize("n_threads", [2, 4])
def test_ctrl_c_does_not_end_the_wait(n_threads, ctrl_c):
    numbers, ended = itertools.count(), []

    def work():
        if is_caller():
            return
        if next(numbers) == 0:
            for _ in range(3):
                time.sleep(0.02)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.1)
        ended.append(threading.current_thread())

    with pytest.raises(KeyboardInterrupt):
        threads.run(n_threads, work)
    assert len(ended) == n_threads - 1
    threads.run(n_threads, lambda: ended.append(None))
    assert ended.count(None) == n_threads


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals to threads are POSIX")
def test_ctrl_c_within_the_callers_part(ctrl_c):
    ended = []

    def work():
        if is_caller():
            signal.raise_signal(signal.SIGINT)
            time.sleep(WAIT)
        time.sleep(0.1)
        ended.append(threading.current_thread())

    with pytest.raises(KeyboardInterrupt):
        threads.run(3, work)
    assert len(ended) == 2


def test_threads_that_cannot_be_started(monkeypatch):
    """Nothing is begun, and those that could be started are not lost."""
    started, calls = [], []

    class Scarce(threads._Worker):
        def __init__(self):
            if len(started) == 2:
                raise RuntimeError("can't start new thread")
            super().__init__()
            started.append(self)

    monkeypatch.setattr(threads, "_Worker", Scarce)
    monkeypatch.setattr(threads, "_allowed_cpus", lambda: 100)
    try:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threads.run(len(threads._idle) + 4, lambda: calls.append(None))
        assert calls == []
        threads.run(2, lambda: calls.append(None))
        assert len(calls) == 2
        assert {*started} <= {*threads._idle}
    finally:
        for worker in {*started} - {*threads._idle}:
            worker.dismiss()


def test_runs_within_runs():
    start, callers = threading.Barrier(6), []

    def work():
        start.wait(WAIT)
        callers.append(threading.current_thread())

    threads.run(2, lambda: threads.run(3, work))
    assert len(set(callers)) == 6


def test_runs_of_several_threads_at_once():
    """Each has threads of its own, and hears of its own errors alone."""

    def runs(number):
        for count in range(30):
            start = threading.Barrier(3)
            callers = []

            def work(start=start, callers=callers):
                callers.append((start.wait(WAIT), number))

            threads.run(3, work)
            assert sorted(callers) == [(k, number) for k in range(3)]
            error = f"{number}.{count}"

            def fail(error=error):
                raise ValueError(error)

            with pytest.raises(ValueError, match=error):
                threads.run(2, fail)

    together(*(lambda number=number: runs(number) for number in range(5)))


def pool_size():
    """Threads of the pool that are alive."""
    return sum(thread.name == "fastbp" for thread in threading.enumerate())


def test_threads_are_kept_for_the_next_run():
    callers = set()
    for _ in range(100):
        threads.run(2, lambda: callers.add(threading.current_thread()))
    assert len(callers) == 2


def test_no_more_threads_are_kept_than_there_are_processors(monkeypatch):
    monkeypatch.setattr(threads, "_allowed_cpus", lambda: 3)
    for _ in range(100):
        threads.run(9, lambda: None)
    deadline = time.monotonic() + WAIT
    while pool_size() > 3 and time.monotonic() < deadline:
        time.sleep(0.01)  # those dismissed end in their own time
    assert pool_size() == 3
    assert len(threads._idle) == 3
    threads.run(9, lambda: None)


def test_work_is_let_go_of():
    """It holds arrays, which must not outlive a run in an idle thread."""

    class Work:
        def __call__(self):
            pass

    work = Work()
    alive = weakref.ref(work)
    threads.run(3, work)
    del work
    assert alive() is None


# How many take part


def sizes_of(team, n, seconds):
    """The next ``n`` choices, if so many threads take ``seconds(size)``."""
    sizes = []
    for _ in range(n):
        sizes.append(team.size())
        team.note(sizes[-1], seconds(sizes[-1]))
    return sizes


def test_a_team_of_one():
    assert sizes_of(threads.Team(1), 50, lambda size: 1.0) == [1] * 50


@pytest.mark.parametrize(("seconds", "best"), [({4: 1, 1: 2}, 4), ({4: 2, 1: 1}, 1)])
def test_the_faster_size_is_chosen_and_the_other_tried_now_and_then(seconds, best):
    sizes = sizes_of(threads.Team(4), 500, seconds.get)
    assert sizes[:4] == [4, 4, 4, 1]
    others = [place for place, size in enumerate(sizes) if size != best]
    apart = [b - a for a, b in itertools.pairwise(others)][-10:]
    assert set(apart) == {threads.Team.TRIAL}


def test_a_change_of_the_machine_is_noticed():
    team = threads.Team(2)
    sizes_of(team, 100, {2: 1, 1: 1.5}.get)
    assert sizes_of(team, 10, {2: 3, 1: 1.5}.get).count(2) <= 3
    back = sizes_of(team, 100, {2: 1, 1: 1.5}.get)
    assert back[-40:].count(2) >= 36


def test_a_cold_start_does_not_count():
    team = threads.Team(2)
    team.note(team.size(), 100.0)
    assert sizes_of(team, 20, {2: 1, 1: 1.5}.get).count(2) == 18


def test_one_disturbed_time_does_not_count():
    team = threads.Team(2)
    sizes_of(team, 24, {2: 1, 1: 1.5}.get)
    team.note(2, 100.0)
    assert sizes_of(team, 10, {2: 1, 1: 1.5}.get).count(2) >= 9


def test_what_was_learnt_is_kept_for_work_of_the_same_kind():
    threads.team.cache_clear()
    team = threads.team(2, ("some work", 1))
    assert threads.team(2, ("some work", 1)) is team
    assert threads.team(2, ("other work", 1)) is not team
    assert threads.team(3, ("some work", 1)) is not team
