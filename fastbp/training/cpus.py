"""How many threads to compute with: what this process may use of the machine."""

import os
from functools import cache
from pathlib import Path

from fastbp._compile import DISABLE_JIT

# Environment variables that lower the default, as they lower that of NumPy and Numba.
LIMITS = ("FASTBP_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")


def n_useful(n_threads: int | None, multiply_adds: int, per_thread: int) -> int:
    """Return the threads that share some work: one for every ``per_thread`` multiply-adds.

    At most ``n_threads`` of them, or `default_threads`.
    """
    useful = 1 + multiply_adds // per_thread
    return 1 if useful == 1 else min(n_threads or default_threads(), useful)


def default_threads(n_sharing: int = 1) -> int:
    """Count the processors that this process may use, lowered by the environment variables.

    ``n_sharing`` processes, with this one, share the processors, though not the variables.
    """
    limits = thread_limits().items()
    return min(n if name in LIMITS else max(1, n // n_sharing) for name, n in limits)


def thread_limits() -> dict[str, int]:
    """Return what bounds the number of threads, by name."""
    if DISABLE_JIT:
        return {"NUMBA_DISABLE_JIT": 1}  # plain Python holds the interpreter
    limits = {"processors of this process": allowed_cpus()}
    for name in LIMITS:
        if (limit := _limit(os.environ.get(name))) is not None:
            limits[name] = limit
    if (quota := _cgroup_quota(Path("/"))) is not None:
        limits["quota of the control group"] = max(1, round(quota))
    return limits


def allowed() -> set[int]:
    """Return the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def allowed_cpus() -> int:
    """Count the processors that this process may run on."""
    return len(allowed())


def _limit(text: str | None) -> int | None:
    """Return the number in an environment variable; of OpenMP's list, the first one."""
    first = (text or "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


@cache
def _cgroup_quota(root: Path) -> float | None:
    """Return the processors that Linux grants this process's control group; None without a bound.

    Every group around it has a quota of its own, and the smallest of them counts.
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
    """Return the group of this process and the groups around it, in either version's hierarchy."""
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
