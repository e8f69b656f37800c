"""SciPy's own tests of softmax and log_softmax pass on fastbp's functions."""

import os
import re
import subprocess
import sys
from pathlib import Path

import scipy.special

SUITE = Path(scipy.special.__file__).with_name("tests") / "test_logsumexp.py"
N_TESTS = 17


def test_scipys_tests_pass_and_call_fastbp(tmp_path):
    here = Path(__file__).parent
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "SCIPY"))}
    paths = [str(here), str(here.parent), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "scipy_plugin", "-p", "no:cacheprovider"]
    command += [f"{SUITE}::TestSoftmax", f"{SUITE}::TestLogSoftmax"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    report = done.stdout + done.stderr
    passed = rf"{N_TESTS} passed(, \d+ warnings?)? in "
    assert re.match(passed, report.strip().splitlines()[-1]), report
    for name in ("softmax", "log_softmax"):
        called = rf"^fastbp\.{name} was called [1-9]\d* times$"
        assert re.search(called, report, re.MULTILINE), report
