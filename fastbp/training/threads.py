"""How many threads, and the pool that runs them.

Kernels release the interpreter, so plain Python threads run them side by side.  The pool knows
nothing of what is computed: `run` has one function called by several threads at once, which share
the work among themselves, and returns when all calls have ended.
"""

import os
import threading
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from queue import SimpleQueue

from numba.core import config
from numba.core.compiler_lock import global_compiler_lock

# Environment variables that lower the default, as those of NumPy's and Numba's own threads.
LIMITS = ("FASTBP_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")

Work = Callable[[], object]


def default_threads() -> int:
    """Count the processors that this process may use, lowered by the environment variables."""
    if config.DISABLE_JIT:
        return 1  # plain Python has nothing to gain
    counts = [_allowed_cpus(), *filter(None, (_limit(os.environ.get(name)) for name in LIMITS))]
    quota = _cgroup_quota(Path("/"))
    if quota is not None:
        counts.append(max(1, round(quota)))
    return min(counts)


def _allowed_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limit(text: str | None) -> int | None:
    """The number of an environment variable; OpenMP allows a list, of which the first counts."""
    first = (text or "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


@cache
def _cgroup_quota(root: Path) -> float | None:
    """The processors that Linux grants this process's control group; None where it sets no bound.

    The strictest of the groups that it is in counts: a container, for example, inside a service.
    """
    quotas = []
    for folder in _cgroup_folders(root):
        try:
            if (folder / "cpu.max").exists():  # version 2
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            if quota.strip() not in ("max", "-1"):
                quotas.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(quotas, default=None)


def _cgroup_folders(root: Path) -> list[Path]:
    """The group of this process and all groups around it, in either version's hierarchy."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top = root / "sys/fs/cgroup"
        elif "cpu" in controllers.split(","):
            top = root / "sys/fs/cgroup/cpu"
        else:
            continue
        group = top / path.strip("/")
        while True:
            folders.append(group)
            if group in (top, group.parent):
                break
            group = group.parent
    return folders


class Team:
    """How many threads the next stretch of some work is given: all, or one where that is faster.

    Several threads can take longer than one, for seconds at a time: the host of a virtual machine
    may move its processors apart, to where it takes a quarter of a microsecond to get a cache line
    from one to the other.  So both are timed now and then, which costs a few per cent.  For work
    whose result does not depend on the number.

    Parameters
    ----------
    most : int
        Threads to use at most.
    """

    # Stretches from one trial of the slower number to the next
    TRIAL = 16

    def __init__(self, most: int) -> None:
        self._seconds: dict[int, list[float]] = {n: [] for n in {most, 1}}
        self._most = most
        self._made = 0
        self._next_trial = 3  # the first times are those of cold caches

    def size(self) -> int:
        """Choose how many threads take part."""
        best = min(self._seconds, key=self._usual) if self._made else self._most
        if self._made < self._next_trial or len(self._seconds) == 1:
            return best
        self._next_trial += self.TRIAL
        return self._most if best == 1 else 1

    def note(self, size: int, seconds: float) -> None:
        """Learn what so many threads took for a unit of the work."""
        self._made += 1
        self._seconds[size] = [*self._seconds[size][-2:], seconds]

    def _usual(self, size: int) -> float:
        """The middle one of the last three times: one that was disturbed does not count."""
        times = sorted(self._seconds[size])
        return times[len(times) // 2] if times else float("inf")


@lru_cache(maxsize=64)
def team(most: int, work: object) -> Team:
    """Return the team for work of this kind, with what it knows from earlier calls."""
    return Team(most)


class _Worker:
    """A thread that calls what it is given, one thing after another."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[Work | None] = SimpleQueue()
        self.error: BaseException | None = None
        # A daemon: the interpreter may exit while it waits for work.
        threading.Thread(target=self._serve, name="fastbp", daemon=True).start()

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except BaseException as error:
                self.error = error
            del task  # holds arrays

    def begin(self, task: Work) -> None:
        self._tasks.put(task)

    def end(self) -> None:
        """Wait until everything begun has ended."""
        ended = threading.Event()
        self._tasks.put(ended.set)
        ended.wait()

    def dismiss(self) -> None:
        self._tasks.put(None)


_idle: list[_Worker] = []
_idle_lock = threading.Lock()


def _forget_workers() -> None:
    """In a forked child, no thread but the one that forked lives on."""
    global _idle_lock
    _idle.clear()
    _idle_lock = threading.Lock()


def _hold_compilers() -> None:
    """Wait until no other thread compiles or loads a kernel, and let none begin.

    A forked child could never do so itself: the locks that the other thread holds would stay locked
    in it, for it does not have that thread.
    """
    # Numba imports it when a kernel is first called, under the lock of an import.  Here, because it
    # takes as long as a seventh of `import fastbp`.
    import numpy.ma  # noqa: F401

    global_compiler_lock.acquire()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)
    os.register_at_fork(
        before=_hold_compilers,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


def run(n_threads: int, work: Work) -> None:
    """Have ``work()`` called by ``n_threads`` threads at once, this one among them.

    Returns when all calls have ended, also if one raises; then raises what it raised.  May be
    called from several threads at once, and from within ``work``: every call has threads of its
    own.
    """
    if n_threads == 1:
        work()
        return
    with _idle_lock:
        workers = [_idle.pop() for _ in range(min(n_threads - 1, len(_idle)))]
    try:
        while len(workers) < n_threads - 1:
            workers.append(_Worker())
        for worker in workers:
            worker.begin(work)
        work()
    finally:
        errors = [error for worker in workers for error in _end(worker)]
        with _idle_lock:
            _idle.extend(workers)
            spare = [_idle.pop() for _ in range(len(_idle) - _allowed_cpus())]
        for worker in spare:
            worker.dismiss()
    if errors:
        raise errors[0]


def _end(worker: _Worker) -> list[BaseException]:
    """Wait to the end, whatever comes in between; return all that was raised, Ctrl-C included."""
    interruptions: list[BaseException] = []
    while True:
        try:
            worker.end()
        except BaseException as interruption:  # Ctrl-C; but the worker uses the caller's arrays
            interruptions.append(interruption)
            continue
        error, worker.error = worker.error, None
        return interruptions if error is None else [error, *interruptions]
