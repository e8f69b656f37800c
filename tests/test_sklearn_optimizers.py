"""scikit-learn's own tests of its optimisers pass on fastbp's steps."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = (
    "test_sgd_optimizer_no_momentum",
    "test_sgd_optimizer_momentum",
    "test_sgd_optimizer_nesterovs_momentum",
    "test_adam_optimizer",
)


def find_suite():
    """The file in which scikit-learn, where it is installed, brings these tests; it may not."""
    package = importlib.util.find_spec("sklearn")
    if package is None:
        return None
    folder = Path(package.submodule_search_locations[0]) / "neural_network" / "tests"
    suite = folder / "test_stochastic_optimizers.py"
    return suite if suite.exists() else None


SUITE = find_suite()
pytestmark = pytest.mark.skipif(SUITE is None, reason="scikit-learn's tests are not installed")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What a run of the suite prints."""
    here = Path(__file__).parent
    folder = tmp_path_factory.mktemp("suite")
    # Else pytest takes the settings of this project, if the environment lies within its folder.
    settings = folder / "pytest.ini"
    settings.write_text("[pytest]\n")
    ours = ("PYTEST", "SKLEARN")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    paths = [str(here), str(here.parent), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(settings)]
    command += ["-p", "sklearn_optimizer_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(f"{SUITE}::{name}" for name in TESTS)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_all_of_scikit_learns_tests_pass(report):
    last = report.strip().splitlines()[-1]
    assert re.match(rf"{len(TESTS)} passed(, \d+ warnings?)? in ", last), report


@pytest.mark.parametrize("name", ["momentum_step", "nesterov_step", "adam_step"])
def test_they_called_fastbp(report, name):
    count = re.search(rf"^kernels\.{name} was called (\d+) times$", report, re.MULTILINE)
    assert count, report
    assert int(count[1]) > 0
