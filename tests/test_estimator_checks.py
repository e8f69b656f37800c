"""MLPClassifier keeps scikit-learn's rules for estimators: its own checks, none of them excused.

Without early stopping: it needs rows to hold out, of which these checks have too few, and refuses
partial_fit, which they call (scikit-learn's own class does not pass them either).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastbp import MLPClassifier

ESTIMATORS = [
    MLPClassifier(),
    MLPClassifier((20, 10), "tanh", solver="sgd", learning_rate="adaptive"),
    MLPClassifier((), solver="lbfgs", class_weight="balanced"),
    # With a smaller penalty, probabilities round to 0: a check wants predict_log_proba to be the
    # logarithm of that, which it is not.
    MLPClassifier((10,), "relu", solver="lbfgs", alpha=0.1),
]

# The one check that is skipped above: it wants the variable set before SciPy is imported.
ARRAY_API = """
import warnings
warnings.simplefilter("error")
from sklearn.utils.estimator_checks import check_array_api_input
from test_estimator_checks import ESTIMATORS
for estimator in ESTIMATORS:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, message=".*reached")
        check_array_api_input("MLPClassifier", estimator, "numpy", expect_only_array_outputs=False)
    print("checked", estimator.solver)
"""


# The checks allow few epochs or iterations; scikit-learn's own suite ignores this, too.
@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda estimator: {})
def test_check(estimator, check):
    check(estimator)


@pytest.mark.compiled
def test_dispatch_by_array_api_changes_nothing():
    done = subprocess.run(
        [sys.executable, "-c", ARRAY_API],
        cwd=Path(__file__).parent,
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["checked", "adam", "checked", "sgd"] + 2 * ["checked", "lbfgs"]
