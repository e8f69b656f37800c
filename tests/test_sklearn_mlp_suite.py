"""scikit-learn's own tests of its MLPClassifier pass on fastbp's, all that apply."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import sklearn.neural_network

pytestmark = pytest.mark.compiled  # thousands of epochs

SUITE = Path(sklearn.neural_network.__file__).with_name("tests") / "test_mlp.py"

# How many cases of each.
APPLY = {
    "test_adaptive_learning_rate": 1,
    "test_alpha": 1,
    "test_early_stopping": 1,
    "test_early_stopping_stratified": 1,
    "test_lbfgs_classification": 2,
    "test_lbfgs_classification_maxfun": 2,
    "test_learning_rate_warmstart": 1,
    "test_mlp_classifier_dtypes_casting": 1,
    "test_mlp_early_stopping_string_labels": 1,
    "test_mlp_param_dtypes": 2,
    "test_mlp_partial_fit_after_fit": 1,
    "test_mlp_warm_start_no_convergence": 3,
    "test_mlp_warm_start_with_early_stopping": 1,
    "test_n_iter_no_change": 1,
    "test_n_iter_no_change_inf": 1,
    "test_partial_fit_classes_error": 1,
    "test_partial_fit_classification": 1,
    "test_partial_fit_errors": 1,
    "test_partial_fit_unseen_classes": 1,
    "test_predict_proba_binary": 1,
    "test_predict_proba_multiclass": 1,
    "test_preserve_feature_names": 1,
    "test_sparse_matrices": 2,
    "test_tolerance": 1,
    "test_verbose_sgd": 1,
    "test_warm_start": 1,
    "test_warm_start_full_iteration": 1,
}

REGRESSION = "of MLPRegressor, which has no softmax"
MULTILABEL = "of sigmoid outputs: a softmax gives one label a row, and such a y is refused"
LEFT_OUT = {
    "test_fit": "sets private arrays up by hand",
    "test_gradient": "calls a private method; test_reference.py and test_network.py test gradients",
    "test_lbfgs_regression": REGRESSION,
    "test_lbfgs_regression_maxfun": REGRESSION,
    "test_minimum_input_sample_size": REGRESSION,
    "test_mlp_diverging_loss": REGRESSION,
    "test_mlp_loading_from_joblib_partial_fit": REGRESSION,
    "test_mlp_regressor_dtypes_casting": REGRESSION,
    "test_mlp_sample_weight_with_early_stopping": REGRESSION,
    "test_mlp_vs_poisson_glm_equivalent": REGRESSION,
    "test_multilabel_classification": MULTILABEL,
    "test_multioutput_regression": REGRESSION,
    "test_nonfinite_params": REGRESSION,
    "test_partial_fit_regression": REGRESSION,
    "test_predict_proba_multilabel": MULTILABEL,
    "test_shuffle": REGRESSION,
}
# Tests of both classes, left out where their parameter is MLPRegressor; how many cases.
OF_BOTH = {
    "test_early_stopping": 1,
    "test_mlp_param_dtypes": 2,
    "test_mlp_partial_fit_after_fit": 1,
    "test_mlp_warm_start_no_convergence": 3,
    "test_mlp_warm_start_with_early_stopping": 1,
    "test_preserve_feature_names": 1,
    "test_warm_start_full_iteration": 1,
}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What a run of the suite prints."""
    here = Path(__file__).parent
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "SKLEARN"))}
    paths = [str(here), str(here.parent), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "sklearn_mlp_plugin"]
    command += ["-p", "no:cacheprovider", *(f"--leave-out={name}" for name in LEFT_OUT), str(SUITE)]
    done = subprocess.run(
        command,
        cwd=tmp_path_factory.mktemp("suite"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def counts(pattern, report):
    """How often each function's name, without parameters, is in the lines of the pattern."""
    return Counter(re.findall(pattern, report, re.MULTILINE))


def test_all_that_apply_pass(report):
    last = report.strip().splitlines()[-1]
    n_passed, n_left_out = sum(APPLY.values()), len(LEFT_OUT) + sum(OF_BOTH.values())
    assert re.search(rf" {n_passed} passed, {n_left_out} deselected(, \d+ warnings?)? in ", last), (
        report
    )
    assert counts(r"::(test_\w+)\S* PASSED ", report) == APPLY


def test_a_test_is_left_out_for_a_reason_given(report):
    assert counts(r"^left out: (test_\w+)", report) == dict.fromkeys(LEFT_OUT, 1) | OF_BOTH


@pytest.mark.parametrize(
    ("name", "at_least"), [("__init__", 40), ("fit", 40), ("partial_fit", 200), ("predict", 20)]
)
def test_they_called_fastbp(report, name, at_least):
    pattern = rf"^fastbp\.MLPClassifier\.{name} was called (\d+) times$"
    count = re.search(pattern, report, re.MULTILINE)
    assert count, report
    assert int(count[1]) >= at_least
