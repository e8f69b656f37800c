"""Models and input of any kind: dtypes, layouts, single rows, bad rows, more data than memory."""

import pickle
import subprocess
import sys

import numpy as np
import pandas
import pytest
import scipy.sparse
from layouts import LAYOUTS
from tolerances import assert_same_bits

from fastbp import DivergenceError, MLPClassifier, Network
from fastbp.backprop import parallel, passes

NAN, INF = np.nan, np.inf
N, J, K = 11, 3, 4
RNG = np.random.default_rng(8)
X, Y = RNG.standard_normal((N, J)), np.arange(N) % K
ROWS, WEIGHT = RNG.dirichlet(np.ones(K), N), RNG.uniform(0.5, 2, N)
INTEGERS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", ">i2", ">i4", ">i8", ">u2")

pytestmark = [
    pytest.mark.compiled,  # hundreds of models
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def train_network(x, y, weight=None):
    """All results of a network for its input."""
    net = Network([J, 5, K], dtype="float64")
    options = {"sample_weight": weight}
    history = net.fit(x, y, epochs=2, batch_size=4, validation_data=(x, y), **options)
    loss, grad_w, grad_b = net.gradients(x, y, **options)
    means = [loss, net.loss(x, y, **options), net.score(x, y, **options)]
    means += [*history.loss, *history.val_loss, *history.val_accuracy]
    arrays = [net.parameters, *grad_w, *grad_b, net.logits(x), net.predict_proba(x), net.predict(x)]
    return [*arrays, net.predict_log_proba(x), np.array(means)]


def train_classifier(x, y, weight=None):
    classifier = MLPClassifier((5,), max_iter=2, batch_size=4, random_state=0)
    classifier.fit(x, y, weight, X_val=x, y_val=y)
    means = [classifier.score(x, y, weight), *classifier.loss_curve_]
    means += classifier.validation_scores_
    classifier.partial_fit(x, y, weight)
    arrays = [*classifier.coefs_, *classifier.intercepts_, np.array(means)]
    return [*arrays, classifier.predict_proba(x), classifier.decision_function(x)]


TRAIN = {"Network": train_network, "MLPClassifier": train_classifier}
models = pytest.mark.parametrize("kind", TRAIN)


def assert_same_results(got, expected):
    __tracebackhide__ = True
    for one, other in zip(got, expected, strict=True):
        assert_same_bits(one, other)


@models
def test_integers_of_every_dtype_give_the_same_bits(kind):
    x = RNG.integers(0, 9, (N, J))
    expected = TRAIN[kind](x.astype(float), Y)
    for integer in INTEGERS:
        assert_same_results(TRAIN[kind](x.astype(integer), Y.astype(integer)), expected)


@models
def test_any_layout_gives_the_same_bits(kind):
    expected, of_rows = TRAIN[kind](X, Y, WEIGHT), TRAIN["Network"](X, ROWS, WEIGHT)
    for name, layout in {**LAYOUTS, "list": np.ndarray.tolist, "pandas": pandas.DataFrame}.items():
        if name == "frame" and kind == "MLPClassifier":
            continue  # scikit-learn asks more of a frame than NumPy does
        vector = pandas.Series if name == "pandas" else layout
        given = layout(X), vector(Y), vector(WEIGHT), layout(ROWS)
        before = [np.array(array).tobytes() for array in given]
        x, y, weight, rows = given
        assert_same_results(TRAIN[kind](x, y, weight), expected)
        if kind == "Network":
            assert_same_results(TRAIN[kind](x, rows, weight), of_rows)
        assert [np.array(array).tobytes() for array in given] == before


@models
def test_read_only_input_does_not_compile_anew(kind):
    """That takes half a minute, and a search in parallel passes such arrays."""
    read_only, sparse = LAYOUTS["read-only"], scipy.sparse.csr_array(X)
    kinds = [X] if kind == "Network" else [X, sparse]
    for x in kinds:
        TRAIN[kind](x, Y, WEIGHT)
    counts = len(parallel.train.signatures), len(passes.logits.signatures)
    for name in ("data", "indices", "indptr"):
        setattr(sparse, name, read_only(getattr(sparse, name)))
    for x in [read_only(X), sparse][: len(kinds)]:
        TRAIN[kind](x, read_only(Y), read_only(WEIGHT))
    assert (len(parallel.train.signatures), len(passes.logits.signatures)) == counts


@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e300])
def test_a_row_that_is_not_finite_spoils_no_other_prediction(dtype, bad):
    net = Network([J, 5, K], dtype=dtype)
    clean = np.random.default_rng(0).standard_normal((520, J)).astype(dtype)
    x, spoilt = clean.astype(np.float64), [0, 255, 256, 519]
    x[spoilt, [0, 1, 2, 0]] = bad
    others = np.setdiff1d(np.arange(520), spoilt)
    for method in ("logits", "predict_proba", "predict_log_proba"):
        for n_threads in (1, 2):
            got = getattr(net, method)(x, n_threads=n_threads)
            assert_same_bits(got[others], getattr(net, method)(clean)[others], method)
            assert np.isnan(got[spoilt]).all() == np.isnan(bad)
    if np.isnan(bad):
        y, weight = np.zeros(520, int), np.ones(520)
        assert np.isnan(net.loss(x, y))
        assert 0 <= net.score(x, y) <= 1
        weight[spoilt] = 0  # rows of weight 0 count as nothing
        assert net.loss(x, y, sample_weight=weight) == net.loss(clean, y, sample_weight=weight)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_divergence_of_the_classifier_leaves_the_last_finite_parameters(method):
    classifier = MLPClassifier((5,), max_iter=2, batch_size=4, random_state=0, warm_start=True)
    before = pickle.dumps(classifier.fit(X, Y).coefs_)
    classifier.set_params(learning_rate_init=1e300, alpha=1e300)
    if method == "partial_fit":
        del classifier._optimizer  # the first call decides the rate
    with np.errstate(all="ignore"), pytest.raises(DivergenceError):
        getattr(classifier, method)(X, Y)
    assert pickle.dumps(classifier.coefs_) == before
    classifier.set_params(learning_rate_init=1e-3, alpha=1e-4).fit(X, Y)
    assert np.isfinite(classifier.predict_proba(X)).all()


@pytest.mark.filterwarnings("ignore:Got `batch_size`:UserWarning")
@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "adam"])
def test_one_sample_of_the_classifier(solver):
    for batch_size in ("auto", 1, 2**70):
        classifier = MLPClassifier((5,), solver=solver, batch_size=batch_size, max_iter=2)
        classifier.fit(X[:1], Y[:1] + 7)
        assert_same_bits(classifier.predict(X), np.full(N, 7))
        assert_same_bits(classifier.predict_proba(X), np.ones((N, 1)))
        assert_same_bits(classifier.predict_log_proba(X) + 0, np.zeros((N, 1)))


MEMORY = """
import resource, sys, warnings
import numpy as np
from fastbp import MLPClassifier, Network

warnings.simplefilter("ignore")
n, n_features = 2**17, 512
data = np.memmap(sys.argv[1], np.float32, "r", shape=(n, n_features))
y = np.arange(n) % 2
net = Network([n_features, 2])
classifier = MLPClassifier((), max_iter=1, batch_size=64, n_threads=1)
options = {"epochs": 1, "batch_size": 64, "n_threads": 1}
for x in (data[:128], data):  # all that is compiled comes first
    if x is data:
        used = next(line for line in open("/proc/self/status") if line.startswith("VmData"))
        # Private memory that can be written counts; pages of a file do not.
        limit = 1024 * int(used.split()[1]) + data.nbytes // 4
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        try:
            np.ones(data.shape, np.float32)
        except MemoryError:
            pass
        else:
            sys.exit("the limit has no effect")
    for model, more in ((net, options), (classifier, {})):
        model.fit(x, y[: len(x)], **more)
        p = model.predict_proba(x)
        assert p.shape == (len(x), 2) and np.isfinite(p).all()
        assert model.score(x, y[: len(x)]) == 0.5
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits anonymous memory alone")
def test_data_larger_than_memory(tmp_path):
    path = tmp_path / "rows"
    with path.open("wb") as file:
        file.truncate(2**28)  # no block is written: the file is a hole
    command = [sys.executable, "-c", MEMORY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
