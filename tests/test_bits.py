"""One training gives the same bits: by any number of threads, and on any processor."""

import json
import os
import subprocess
import sys
from pathlib import Path

import courses
import numba
import pytest
import trainings

import fastbp
from fastbp.training import threads

pytestmark = pytest.mark.compiled

PROCESSORS = {"AVX2": ("haswell", "+avx,+avx2,+fma"), "SSE2": ("x86-64", "")}


@pytest.fixture(scope="module")
def alone():
    """The digests of one thread."""
    return courses.digests(1)


@pytest.mark.parametrize("n_threads", [2, 7])
def test_any_number_of_threads_gives_the_same_bits(n_threads, alone, monkeypatch):
    asked = set()

    def run(n, work, original=threads.run):
        asked.add(n)
        original(n, work)

    monkeypatch.setattr(threads, "run", run)
    trainings.share_all(monkeypatch)
    assert courses.digests(n_threads) == alone
    assert n_threads in asked


@pytest.mark.skipif(
    numba.core.config.CPU_NAME is not None, reason="a processor has been chosen for all tests"
)
@pytest.mark.parametrize("name", PROCESSORS)
def test_any_processor_gives_the_same_bits(name, alone):
    """Vectors of other widths, tiles and panels of other shapes."""
    names = [name for name in courses.COURSES if not name.startswith("sparse")]
    processor, features = PROCESSORS[name]
    places = Path(__file__).parent, Path(fastbp.__file__).parents[1]
    child = subprocess.run(
        [sys.executable, "-m", "courses", *names],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, places)),
            "NUMBA_CPU_NAME": processor,
            "NUMBA_CPU_FEATURES": features,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(child.stdout) == {name: alone[name] for name in names}
