"""Do the tests notice?  Put faults into a copy of the package, one at a time, and run unit tests.

    python tests/faults.py [--only PATTERN] [--jobs N] [--list]

The faults are those of ``seeded_faults.py``.  A fault is caught if one of its tests fails, or if
the test process dies by a signal; a run that takes too long has caught nothing, nor has code that
does not compile.  Exits with 1 if too few faults are caught, or if one survives for no stated
reason.
"""

import argparse
import fnmatch
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from seeded_faults import FAULTS

ROOT = Path(__file__).parents[1]
SECONDS = 120  # for a run with a fault; without one, the machine may be as slow as it likes
ENOUGH = 0.95  # of the faults

# Code that cannot run at all is no fault: every test would notice.
NO_CODE = re.compile(
    r"^E +(\w+\.)*(NameError|SyntaxError|ImportError|TypingError|LoweringError|UnsupportedError)",
    re.MULTILINE,
)


class Outcome(NamedTuple):
    """How a run ended; ``caught_by`` is empty if everything passed, or nothing can be said."""

    passed: bool
    caught_by: str
    said: str
    seconds: float


class Copy:
    """The package and its tests in a folder, where a fault can do no harm."""

    def __init__(self, folder):
        self.folder = Path(folder)
        skip = shutil.ignore_patterns("__pycache__", "*.nbc", "*.nbi")
        for name in ("fastbp", "tests"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=skip)
        shutil.copy(ROOT / "pyproject.toml", self.folder)
        self._check()

    def _environment(self, compiled):
        """No bytecode and no machine code is left over from another fault."""
        cache = self.folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        return {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NUMBA_CACHE_DIR": str(cache),
            "NUMBA_DISABLE_JIT": "0" if compiled else "1",
        }

    def _check(self):
        """An installed package must not come before the copy."""
        found = subprocess.run(
            [sys.executable, "-c", "import fastbp; print(fastbp.__file__)"],
            cwd=self.folder,
            env=self._environment(True),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        if Path(found).resolve() != (self.folder / "fastbp/__init__.py").resolve():
            raise RuntimeError(f"the tests would run on {found}")

    def run(self, tests, compiled, seconds=None):
        """Run tests up to the first failure, for so many seconds at most."""
        files = ["tests/{}.py{}{}".format(*name.partition("::")) for name in tests]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._environment(compiled),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            said = process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said = process.communicate()[0]
            return Outcome(False, "", f"{said}\nmore than {seconds} s", seconds)
        seconds = time.perf_counter() - started
        return Outcome(process.returncode == 0, _caught_by(process.returncode, said), said, seconds)

    def run_with(self, fault):
        """Run the tests of a fault while it is in the code."""
        path = self.folder / "fastbp" / fault.file
        right = path.read_text("utf-8")
        path.write_text(fault.applied_to(right), "utf-8")
        try:
            return self.run(fault.tests, fault.compiled, SECONDS)
        finally:
            path.write_text(right, "utf-8")


def _caught_by(code, said):
    """The test that has failed, or how the process ended; nothing if no test had a say."""
    if code < 0:
        return f"signal {-code}"
    if code not in (1, 2) or NO_CODE.search(said) or "during collection" in said:
        return ""
    failed = re.search(r"^FAILED tests/(\S+)", said, re.MULTILINE)
    return failed[1] if failed else "the end of the whole run"  # a stray Ctrl-C, for example


def _all_pass_without_faults(copy, faults):
    right = True
    for name, compiled in sorted({(name, f.compiled) for f in faults for name in f.tests}):
        outcome = copy.run([name], compiled)
        mode = "compiled" if compiled else "plain Python"
        result = "passes" if outcome.passed else "FAILS"
        print(f"without a fault: {name}, {mode}: {result}, {outcome.seconds:.0f} s", flush=True)
        if not outcome.passed:
            print(outcome.said[-2000:])
        right &= outcome.passed
    return right


def _try_all(faults, n_jobs, copies):
    """The outcome of each fault, told as they come."""
    free = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    def attempt(fault):
        copy = free.get()
        try:
            outcome = copy.run_with(fault)
        finally:
            free.put(copy)
        result = f"caught by {outcome.caught_by}" if outcome.caught_by else "SURVIVED"
        print(f"{fault.name}: {result}, {outcome.seconds:.0f} s", flush=True)
        if not (outcome.passed or outcome.caught_by):
            print(outcome.said[-2000:])
        return outcome

    with ThreadPoolExecutor(n_jobs) as pool:
        return list(pool.map(attempt, faults))


def _matching(pattern):
    return [f for f in FAULTS if fnmatch.fnmatch(f"{f.file}: {f.name}", f"*{pattern}*")]


def main():
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="in the file or the name")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="copies to run at once")
    parser.add_argument("--list", action="store_true", help="name the faults, and run nothing")
    arguments = parser.parse_args()
    faults = _matching(arguments.only)
    if arguments.list or not faults:
        for fault in faults:
            print(f"{fault.file}: {fault.name} ({', '.join(fault.tests)})")
        print(f"{len(faults)} of {len(FAULTS)} faults")
        return int(not faults)
    with tempfile.TemporaryDirectory() as folder:
        copies = [Copy(Path(folder, str(job))) for job in range(arguments.jobs)]
        if not _all_pass_without_faults(copies[0], faults):
            return 1
        outcomes = _try_all(faults, arguments.jobs, copies)
    unexplained = 0
    for fault, outcome in zip(faults, outcomes, strict=True):
        if not outcome.caught_by:
            unexplained += not fault.explanation
            print(f"survived: {fault.file}: {fault.name}: {fault.explanation or 'no explanation'}")
    caught = sum(bool(outcome.caught_by) for outcome in outcomes)
    longest = max(outcome.seconds for outcome in outcomes)
    print(
        f"caught {caught} of {len(faults)} faults ({100 * caught / len(faults):.1f} %), "
        f"longest run {longest:.0f} s"
    )
    return int(caught < ENOUGH * len(faults) or unexplained > 0)


if __name__ == "__main__":
    sys.exit(main())
