"""Networks from scikit-learn and PyTorch, and back."""

import copy
import itertools
import pickle
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import check_is_fitted

import fastbp
from fastbp import Network, convert

#: Largest difference of two implementations' probabilities, in eps times max(1, the largest
#: -log probability): both round their sums.
PROBABILITY = 8

SKLEARN_NAMES = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}
TORCH_NAMES = {"identity": "Identity", "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "ReLU"}

#: Each activation, depth and kind of output (two classes are one logit in scikit-learn) once.
SHAPES = [("sigmoid", (), 2), ("tanh", (7,), 2), ("relu", (5, 4), 3), ("identity", (7,), 5)]
SHAPES += [("sigmoid", (5, 4), 5)]
every_shape = pytest.mark.parametrize(("activation", "hidden", "n_classes"), SHAPES, ids=str)
every_count = pytest.mark.parametrize("n_classes", [2, 3])


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="converts networks of torch, which is not installed")


def rows(dtype, n_classes, n=50, n_features=6):
    """Rows, and their labels."""
    rng = np.random.default_rng(n_classes)
    return rng.normal(size=(n, n_features)).astype(dtype), np.arange(n) % n_classes


def network(activation, hidden, n_classes, dtype, scale=1.0):
    """A network with normal weights and biases."""
    net = Network([6, *hidden, n_classes], activation=activation, dtype=dtype, seed=3)
    net.parameters[:] = scale * np.random.default_rng(0).normal(size=net.parameters.size)
    return net


def classifier(activation, hidden, n_classes, dtype, labels=None, epochs=3):
    """A fitted classifier of scikit-learn."""
    X, y = rows(dtype, n_classes)
    labels = np.arange(n_classes) if labels is None else np.asarray(labels)
    fitted = MLPClassifier(
        hidden, SKLEARN_NAMES[activation], learning_rate_init=0.1, random_state=0
    )
    for _ in range(epochs):
        fitted.partial_fit(X, labels[y], classes=labels)
    return fitted


def assert_same_probabilities(got, expected, net, X):
    __tracebackhide__ = True
    expected = np.asarray(expected)
    assert got.shape == expected.shape
    log_a = net.predict_log_proba(X)
    size = max(1.0, float(-log_a.min()))
    assert abs(got - expected).max() <= PROBABILITY * np.finfo(net.dtype).eps * size


def assert_same_arrays(got, expected):
    """To the last bit, and of one dtype."""
    __tracebackhide__ = True
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert ours.tobytes() == theirs.tobytes()


def parameters(fitted):
    return [*fitted.coefs_, *fitted.intercepts_]


# From scikit-learn


@every_shape
def test_predictions_of_a_classifier(n_classes, hidden, activation, dtype):
    theirs = classifier(activation, hidden, n_classes, dtype)
    net = convert.from_sklearn(theirs)
    X, _ = rows(dtype, n_classes)
    assert net.layer_sizes == (6, *hidden, n_classes)
    assert (net.activation, net.dtype, net.epoch) == (activation, dtype, 0)
    assert not net.velocity.any()
    assert_same_probabilities(net.predict_proba(X), theirs.predict_proba(X), net, X)
    np.testing.assert_array_equal(net.predict(X), theirs.predict(X))
    if n_classes > 2:
        assert_same_arrays([*net.weights, *net.biases], parameters(theirs))


def test_two_classes_become_two_logits(dtype):
    theirs = classifier("tanh", (5,), 2, dtype)
    net = convert.from_sklearn(theirs)
    assert_same_arrays([net.weights[0], net.biases[0]], [theirs.coefs_[0], theirs.intercepts_[0]])
    for ours, last in ((net.weights[1], theirs.coefs_[1]), (net.biases[1], theirs.intercepts_[1])):
        assert not ours[..., 0].any()
        assert_same_arrays([ours[..., 1:].copy()], [last])


def test_class_k_is_the_kth_label():
    labels = ["c", "a", "b"]
    theirs = classifier("sigmoid", (5,), 3, "float64", labels=sorted(labels))
    X, _ = rows("float64", 3)
    found = theirs.classes_[convert.from_sklearn(theirs).predict(X)]
    np.testing.assert_array_equal(found, theirs.predict(X))


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "adam"])
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_classifiers_of_any_solver(solver):
    X, y = rows("float64", 3)
    theirs = MLPClassifier((5,), solver=solver, max_iter=5, random_state=0).fit(X, y)
    net = convert.from_sklearn(theirs)
    assert_same_probabilities(net.predict_proba(X), theirs.predict_proba(X), net, X)


def test_a_network_has_parameters_of_its_own():
    theirs = classifier("relu", (5,), 3, "float64")
    before = copy.deepcopy(parameters(theirs))
    net = convert.from_sklearn(theirs)
    net.fit(*rows("float64", 3), epochs=1)
    assert_same_arrays(parameters(theirs), before)


def test_refuses_all_but_a_fitted_classifier():
    X, y = rows("float64", 3)
    with pytest.raises(NotFittedError, match="This MLPClassifier instance is not fitted"):
        convert.from_sklearn(MLPClassifier())
    for other in (MLPRegressor(), None, MLPClassifier, Network([2, 2]), fastbp.MLPClassifier()):
        kind = f"{type(other).__module__}.{type(other).__name__}"
        message = f"classifier must be an MLPClassifier of scikit-learn, got {kind}"
        with pytest.raises(TypeError, match=re.escape(message)):
            convert.from_sklearn(other)
    labels = np.stack([y == 0, y == 1, y == 2], axis=1).astype(int)
    several = MLPClassifier((3,)).partial_fit(X, labels, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="one label per row, got one with 3 labels per row"):
        convert.from_sklearn(several)
    single = MLPClassifier((3,)).partial_fit(X, 0 * y, classes=[0])
    with pytest.raises(ValueError, match=re.escape("at least 2 classes, got [0]")):
        convert.from_sklearn(single)
    theirs = classifier("relu", (5,), 3, "float64")
    theirs.coefs_[0] = theirs.coefs_[0].astype(np.longdouble)
    with pytest.raises(TypeError, match=r"classifier.coefs_ must be of float32 or of float64, got"):
        convert.from_sklearn(theirs)


# To scikit-learn


@every_shape
def test_predictions_of_a_network(activation, hidden, n_classes, dtype):
    net = network(activation, hidden, n_classes, dtype, scale=8)
    theirs = convert.to_sklearn(net)
    X, y = rows(dtype, n_classes)
    a = theirs.predict_proba(X)
    assert a.dtype == dtype
    assert_same_probabilities(a, net.predict_proba(X), net, X)
    np.testing.assert_array_equal(theirs.predict(X), net.predict(X))
    assert theirs.score(X, y) == net.score(X, y)
    assert all(part.dtype == dtype for part in parameters(theirs))


@every_count
def test_a_converted_network_has_all_that_a_fitted_classifier_has(n_classes):
    fitted = classifier("relu", (5, 4), n_classes, "float64")
    converted = convert.to_sklearn(convert.from_sklearn(fitted))
    check_is_fitted(converted)
    assert converted.activation == fitted.activation
    assert converted.hidden_layer_sizes == fitted.hidden_layer_sizes
    converted.set_params(**fitted.get_params())
    # The next call to fit or partial_fit makes these two.
    assert {*vars(fitted)} - {*vars(converted)} == {"_optimizer", "_random_state"}
    assert {*vars(converted)} <= {*vars(fitted)}
    for name, value in vars(fitted).items():
        if name not in ("_optimizer", "_random_state"):
            assert isinstance(value, type(getattr(converted, name))), name
    for name in ("n_features_in_", "n_layers_", "n_outputs_", "out_activation_"):
        assert getattr(converted, name) == getattr(fitted, name)
    np.testing.assert_array_equal(converted.classes_, fitted.classes_)
    with pytest.raises(ValueError, match="7 features"):
        converted.predict(np.zeros((2, 7)))


@every_count
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_training_goes_on_in_scikit_learn(solver, n_classes, dtype):
    """Training from the converted network equals training from a new optimiser."""
    X, y = rows(dtype, n_classes)
    theirs = classifier("tanh", (5,), n_classes, dtype).set_params(solver=solver)
    converted = convert.to_sklearn(convert.from_sklearn(theirs)).set_params(**theirs.get_params())
    del theirs._optimizer
    before = copy.deepcopy(parameters(converted))
    for each in (theirs, converted):
        each.partial_fit(X, y)
        each.partial_fit(X, y)
    assert_same_arrays(parameters(converted), parameters(theirs))
    assert converted.loss_ == theirs.loss_
    assert converted.loss_curve_ == theirs.loss_curve_[-2:]
    assert (converted.coefs_[0] != before[0]).any()


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_a_warm_start_and_a_cold_one():
    X, y = rows("float64", 3)
    net = network("tanh", (5,), 3, "float64")
    warm = convert.to_sklearn(net).set_params(warm_start=True, max_iter=2, random_state=0)
    warm.set_params(learning_rate_init=1e-6).fit(X, y)
    assert 0 < abs(warm.coefs_[0] - net.weights[0]).max() < 1e-3
    cold = clone(warm).fit(X, y)
    assert abs(cold.coefs_[0] - net.weights[0]).max() > 0.1


def test_copies_of_a_converted_network():
    net = network("relu", (5,), 2, "float32")
    theirs = convert.to_sklearn(net, ["no", "yes"])
    X, _ = rows("float32", 2)
    twin = pickle.loads(pickle.dumps(theirs))
    np.testing.assert_array_equal(twin.predict_proba(X), theirs.predict_proba(X))
    with pytest.raises(NotFittedError):
        clone(theirs).predict(X)
    theirs.coefs_[0][:] = 0
    assert net.weights[0].all()


def test_epochs_are_iterations():
    net = Network([6, 3])
    net.fit(*rows("float32", 3), epochs=4)
    assert convert.to_sklearn(net).n_iter_ == 4


@pytest.mark.parametrize("labels", [["no", "yes"], [-1, 1], ["a", "b", "c"], [3, 5, 9]])
def test_labels_of_a_converted_network(labels):
    net = network("relu", (5,), len(labels), "float64")
    X, y = rows("float64", len(labels))
    theirs = convert.to_sklearn(net, labels)
    np.testing.assert_array_equal(theirs.classes_, labels)
    np.testing.assert_array_equal(theirs.predict(X), np.array(labels)[net.predict(X)])
    theirs.partial_fit(X, np.array(labels)[y])
    with pytest.raises(ValueError, match="classes"):
        theirs.partial_fit(X[:3], [*labels[:2], type(labels[0])(77)])


@pytest.mark.parametrize(
    ("sizes", "classes", "error", "message"),
    [
        ([2, 1], None, ValueError, "network must have at least 2 classes for scikit-learn, got 1"),
        ([2, 3], [0, 1], ValueError, "classes must have shape (3,), got (2,)"),
        ([2, 2], [[0, 1]], ValueError, "classes must have shape (2,), got (1, 2)"),
        ([2, 2], [[0], [1]], ValueError, "classes must have shape (2,), got (2, 1)"),
        ([2, 3], [0, 2, 1], ValueError, "classes must differ and be in ascending order"),
        ([2, 3], ["a", "b", "b"], ValueError, "as scikit-learn has them, got ['a', 'b', 'b']"),
        ([2, 2], [0.5, 1.5], ValueError, "Unknown label type"),
    ],
)
def test_refuses_labels_that_scikit_learn_cannot_have(sizes, classes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        convert.to_sklearn(Network(sizes), classes)


@pytest.mark.parametrize("name", ["to_sklearn", "to_torch", "to_onnx"])
def test_refuses_all_but_a_network(name):
    if name == "to_torch":
        pytest.importorskip("torch", reason="converts to torch, which is not installed")
    for other in (None, [2, 2], MLPClassifier()):
        message = f"must be a fastbp.Network or fastbp.MLPClassifier, got .*{type(other).__name__}"
        with pytest.raises(TypeError, match=message):
            getattr(convert, name)(other)
    with pytest.raises(NotFittedError):
        getattr(convert, name)(fastbp.MLPClassifier())


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("labels", [["no", "yes"], ["a", "b", "c"]])
def test_from_a_classifier_on(labels, dtype):
    X, y = rows(dtype, len(labels))
    ours = fastbp.MLPClassifier((5,), max_iter=3, random_state=0).fit(X, np.array(labels)[y])
    theirs = convert.to_sklearn(ours)
    assert theirs.classes_.tolist() == labels
    assert_same_arrays(parameters(theirs), parameters(ours))
    np.testing.assert_array_equal(theirs.predict(X), ours.predict(X))
    expected = ours.network_.predict_proba(X)
    np.testing.assert_array_equal(ours.predict_proba(X), expected)
    torch = pytest.importorskip("torch", reason="converts to torch, which is not installed")
    found = torch.softmax(convert.to_torch(ours)(torch.from_numpy(X)), dim=-1)
    assert_same_probabilities(found.detach().numpy(), expected, ours.network_, X)


# There and back


@every_shape
def test_there_and_back_with_scikit_learn(n_classes, hidden, activation, dtype):
    theirs = classifier(activation, hidden, n_classes, dtype)
    back = convert.to_sklearn(convert.from_sklearn(theirs))
    assert_same_arrays(parameters(back), parameters(theirs))
    net = network(activation, hidden, n_classes, dtype)
    returned = convert.from_sklearn(convert.to_sklearn(net))
    assert returned.activation == activation
    if n_classes > 2:
        assert_same_arrays([returned.parameters], [net.parameters])
    else:
        X, _ = rows(dtype, 2)
        expected = net.predict_proba(X)
        assert_same_probabilities(returned.predict_proba(X), expected, returned, X)


@pytest.mark.parametrize(
    ("activation", "hidden", "n_classes"), [*SHAPES, ("relu", (7,), 1)], ids=str
)
def test_there_and_back_with_torch(n_classes, hidden, activation, dtype, torch):
    net = network(activation, hidden, n_classes, dtype)
    returned = convert.from_torch(convert.to_torch(net))
    assert returned.activation == (activation if hidden else "sigmoid")
    assert returned.layer_sizes == net.layer_sizes
    assert_same_arrays([returned.parameters], [net.parameters])


# To torch, and from it


@every_shape
def test_predictions_by_torch(activation, hidden, n_classes, dtype, torch):
    net = network(activation, hidden, n_classes, dtype)
    before = torch.random.get_rng_state()
    module = convert.to_torch(net)
    assert torch.equal(torch.random.get_rng_state(), before)
    X, _ = rows(dtype, n_classes)
    z = module(torch.from_numpy(X))
    assert z.dtype == getattr(torch, dtype.name)
    a = torch.softmax(z, dim=-1).detach().numpy()
    assert_same_probabilities(a, net.predict_proba(X), net, X)
    kinds = ["Linear", *[TORCH_NAMES[activation], "Linear"] * len(hidden)]
    assert [type(part).__name__ for part in module] == kinds
    assert all(p.requires_grad and p.is_contiguous() for p in module.parameters())
    with torch.no_grad():
        module[0].weight.zero_()
    assert net.weights[0].all()


def torch_module(torch, activation, hidden, dtype, bias=True):
    """A Sequential as torch makes it."""
    sizes = [6, *hidden, 5]
    options = {"dtype": getattr(torch, dtype.name), "bias": bias}
    torch.manual_seed(0)
    parts = [torch.nn.Linear(sizes[0], sizes[1], **options)]
    for layer_sizes in itertools.pairwise(sizes[1:]):
        parts += [getattr(torch.nn, TORCH_NAMES[activation])()]
        parts += [torch.nn.Linear(*layer_sizes, **options)]
    return torch.nn.Sequential(*parts)


@pytest.mark.parametrize(
    ("activation", "hidden", "bias"),
    [
        ("sigmoid", (), True),
        ("tanh", (7,), False),
        ("relu", (5, 4), True),
        ("identity", (7,), True),
    ],
    ids=str,
)
def test_predictions_of_a_module(activation, hidden, bias, dtype, torch):
    module = torch_module(torch, activation, hidden, dtype, bias)
    net = convert.from_torch(module)
    assert net.layer_sizes == (6, *hidden, 5)
    assert (net.activation, net.dtype) == (activation if hidden else "sigmoid", dtype)
    X, _ = rows(dtype, 5)
    with torch.no_grad():
        a = torch.softmax(module(torch.from_numpy(X)), dim=-1).numpy()
    assert_same_probabilities(net.predict_proba(X), a, net, X)
    linear = [part for part in module if isinstance(part, torch.nn.Linear)]
    for part, w, b in zip(linear, net.weights, net.biases, strict=True):
        assert_same_arrays([w.T.copy()], [part.weight.detach().numpy()])
        if bias:
            assert_same_arrays([b], [part.bias.detach().numpy()])
        else:
            assert not b.any()
    net.weights[0][:] = 0
    assert module[0].weight.any()


@pytest.mark.parametrize(("kind", "dim"), [("Softmax", -1), ("LogSoftmax", 1)])
def test_a_softmax_at_the_end_is_left_out(kind, dim, dtype, torch):
    module = torch_module(torch, "tanh", (7,), dtype)
    plain = convert.from_torch(module)
    module.append(getattr(torch.nn, kind)(dim))
    assert_same_arrays([convert.from_torch(module).parameters], [plain.parameters])


def bad_modules(nn, torch):
    """Modules, each with its error and message."""
    linear, relu = nn.Linear, nn.ReLU

    class Twice(nn.Sequential):
        def forward(self, x):
            return super().forward(2 * x)

    class Other(nn.Linear):
        pass

    def half(module, dtype):
        module[2].to(dtype)
        return module

    deep = nn.Sequential(linear(2, 3), relu(), linear(3, 2))
    return [
        (linear(2, 2), TypeError, "module must be a torch.nn.Sequential, got Linear"),
        (None, TypeError, "module must be a torch.nn.Sequential, got NoneType"),
        (Twice(linear(2, 2)), TypeError, "module must be a torch.nn.Sequential, got Twice"),
        (nn.Sequential(), ValueError, "module must end with a Linear"),
        (nn.Sequential(nn.Softmax(-1)), ValueError, "got an empty one"),
        (nn.Sequential(linear(2, 3), relu()), ValueError, "after it, got ReLU"),
        (nn.Sequential(relu(), linear(2, 3)), ValueError, "module[0] must be a Linear, got ReLU"),
        (
            nn.Sequential(linear(2, 3), linear(3, 2)),
            ValueError,
            "module[1] must be a Sigmoid, Tanh, ReLU or Identity, got Linear",
        ),
        (
            nn.Sequential(linear(2, 3), nn.GELU(), linear(3, 2)),
            ValueError,
            "module[1] must be a Sigmoid, Tanh, ReLU or Identity, got GELU",
        ),
        (
            nn.Sequential(linear(2, 3), relu(), nn.Dropout(), linear(3, 2)).eval(),
            ValueError,
            "module[2] must be a Linear, got Dropout",
        ),
        (
            nn.Sequential(linear(2, 3), nn.BatchNorm1d(3), relu(), linear(3, 2)),
            ValueError,
            "module[1] must be a Sigmoid, Tanh, ReLU or Identity, got BatchNorm1d",
        ),
        (nn.Sequential(Other(2, 2)), ValueError, "module[0] must be a Linear, got Other"),
        (nn.Sequential(nn.LazyLinear(2)), ValueError, "must be a Linear, got LazyLinear"),
        (nn.Sequential(deep), ValueError, "module[0] must be a Linear, got Sequential"),
        (
            nn.Sequential(linear(2, 3), relu(), linear(3, 3), nn.Tanh(), linear(3, 2)),
            ValueError,
            "module[3] must be a ReLU, as module[1] is, got Tanh",
        ),
        (
            nn.Sequential(linear(2, 3), relu(), linear(4, 2)),
            ValueError,
            "module[2] must take the 3 units of module[0], got one that takes 4",
        ),
        (
            nn.Sequential(linear(2, 3), nn.Softmax(0)),
            ValueError,
            "module[1] must be over the last dimension, -1 or 1, got Softmax(dim=0)",
        ),
        (
            nn.Sequential(linear(2, 3), nn.LogSoftmax()),
            ValueError,
            "module[1] must be over the last dimension, -1 or 1, got LogSoftmax(dim=None)",
        ),
        (
            nn.Sequential(linear(2, 3, dtype=torch.bfloat16)),
            TypeError,
            "module must be of float32 or of float64, got torch.bfloat16",
        ),
        (
            half(nn.Sequential(linear(2, 3), relu(), linear(3, 2)), torch.float64),
            TypeError,
            "module must be of float32 or of float64, got torch.float32 and torch.float64",
        ),
    ]


# What changes a Linear, what undoes that, and the words of the message
CHANGED = {
    "pruned": (
        lambda utils, part: utils.prune.random_unstructured(part, "weight", amount=0.5),
        lambda utils, part: utils.prune.remove(part, "weight"),
        "torch.nn.utils.prune.remove(module[2], 'weight') first",
    ),
    "weight norm": (
        lambda utils, part: utils.weight_norm(part),
        lambda utils, part: utils.remove_weight_norm(part),
        "torch.nn.utils.remove_weight_norm(module[2]) first",
    ),
    "spectral norm": (
        lambda utils, part: utils.spectral_norm(part),
        lambda utils, part: utils.remove_spectral_norm(part),
        "torch.nn.utils.remove_spectral_norm(module[2]) first",
    ),
    "parametrization": (
        lambda utils, part: utils.parametrizations.weight_norm(part),
        lambda utils, part: utils.parametrize.remove_parametrizations(part, "weight"),
        "torch.nn.utils.parametrize.remove_parametrizations(module[2], 'weight') first",
    ),
    "hook": (
        lambda utils, part: part.register_forward_hook(lambda module, x, z: 2 * z),
        lambda utils, part: part._forward_hooks.clear(),
        "remove() of each hook's handle first",
    ),
    "pre-hook": (
        lambda utils, part: part.register_forward_pre_hook(lambda module, x: (2 * x[0],)),
        lambda utils, part: part._forward_pre_hooks.clear(),
        "remove() of each hook's handle first",
    ),
    "its own forward": (
        lambda utils, part: setattr(part, "forward", lambda x: x),
        lambda utils, part: delattr(part, "forward"),
        "module[2] must have the forward of its class, got one of its own",
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.filterwarnings("ignore:.*spectral_norm.* is deprecated")
@pytest.mark.parametrize("case", CHANGED)
def test_refuses_modules_whose_weights_are_not_those_that_they_use(case, torch):
    change, undo, words = CHANGED[case]
    import torch.nn.utils.parametrizations
    import torch.nn.utils.parametrize
    import torch.nn.utils.prune

    nn = torch.nn
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    change(nn.utils, module[2])
    # a step later, weights that were computed before are out of date
    module(torch.ones(1, 3)).sum().backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.25
    with pytest.raises(ValueError, match=re.escape(words)):
        convert.from_torch(module)
    module(torch.ones(1, 3))
    undo(nn.utils, module[2])
    net, X = convert.from_torch(module), np.ones((1, 3), np.float32)
    expected = torch.softmax(module(torch.from_numpy(X)), -1).detach().numpy()
    assert_same_probabilities(net.predict_proba(X), expected, net, X)


def test_refuses_other_modules(torch):
    for module, error, message in bad_modules(torch.nn, torch):
        with pytest.raises(error, match=re.escape(message)):
            convert.from_torch(module)


# What is imported, and when


@pytest.mark.parametrize(
    ("call", "missing", "message"),
    [
        (lambda: convert.from_sklearn(None), "sklearn.neural_network", "fastbp[sklearn]"),
        (lambda: convert.to_sklearn(Network([2, 2])), "sklearn.neural_network", "scikit-learn"),
        (lambda: convert.from_torch(None), "torch.nn", "needs PyTorch, which 'pip install fastbp["),
        (lambda: convert.to_torch(Network([2, 2])), "torch", "fastbp[torch]"),
    ],
)
def test_names_the_missing_package(call, missing, message, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=re.escape(message)):
        call()


def test_nothing_is_imported_before_it_is_needed():
    code = (
        "import sys, fastbp; before = 'fastbp.convert' in sys.modules; c = fastbp.convert;"
        "print(before, c.__name__, {'sklearn', 'torch'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "False fastbp.convert set()", run.stderr
    assert isinstance(convert, types.ModuleType)


# To ONNX


def session_of(model):
    onnxruntime = pytest.importorskip("onnxruntime", reason="runs ONNX models")
    return onnxruntime.InferenceSession(model.SerializeToString())


@every_shape
@pytest.mark.parametrize("n", [0, 1, 7, 200])
def test_onnx_predicts_the_same(n_classes, hidden, activation, dtype, n):
    net = network(activation, hidden, n_classes, dtype)
    session = session_of(convert.to_onnx(net))
    X = np.random.default_rng(n).standard_normal((n, 6)).astype(dtype)
    label, probabilities = session.run(["label", "probabilities"], {"X": X})
    assert label.dtype == np.int64
    np.testing.assert_array_equal(label, net.predict(X))
    assert probabilities.dtype == dtype
    np.testing.assert_allclose(probabilities, net.predict_proba(X), rtol=0, atol=1e-6)


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize(
    "names",
    [
        np.array(["no", "perhaps", "yes"]),
        np.array(["no", "perhaps", "yes"], object),
        np.array([-3, 5, 8]),
        np.array([False, True]),
    ],
    ids=lambda names: f"{names.dtype}",
)
def test_onnx_has_the_classes_of_a_classifier(names):
    X, y = rows("float64", 3)
    ours = fastbp.MLPClassifier((5,), max_iter=3, random_state=0).fit(X, names[y % len(names)])
    label, probabilities = session_of(convert.to_onnx(ours)).run(None, {"X": X})
    np.testing.assert_array_equal(label, ours.predict(X))
    np.testing.assert_allclose(probabilities, ours.predict_proba(X), rtol=0, atol=1e-12)


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_onnx_refuses_other_classes():
    X, y = rows("float64", 3)
    ours = fastbp.MLPClassifier((5,), max_iter=1).fit(X, y.astype(float))
    with pytest.raises(ValueError, match=r"classes_ must be integers or strings, got \[0.0, 1.0"):
        convert.to_onnx(ours)
