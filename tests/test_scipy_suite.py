"""SciPy's own tests of softmax and log_softmax pass on fastbp's functions."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import scipy.special

SUITE = Path(scipy.special.__file__).with_name("tests") / "test_logsumexp.py"
N_TESTS = 17


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What a run of the suite prints."""
    here = Path(__file__).parent
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "SCIPY"))}
    paths = [str(here), str(here.parent), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "scipy_plugin", "-p", "no:cacheprovider"]
    command += [f"{SUITE}::TestSoftmax", f"{SUITE}::TestLogSoftmax"]
    done = subprocess.run(
        command,
        cwd=tmp_path_factory.mktemp("suite"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_all_of_scipys_tests_pass(report):
    last = report.strip().splitlines()[-1]
    assert re.match(rf"{N_TESTS} passed(, \d+ warnings?)? in ", last), report


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_they_called_fastbp(report, name):
    count = re.search(rf"^fastbp\.{name} was called (\d+) times$", report, re.MULTILINE)
    assert count, report
    assert int(count[1]) > 0
