"""Classifiers that are saved predict and go on as before; what no file can hold is refused."""

import json
import os

import model_files
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError

from fastbp import MLPClassifier, ModelFileError, Network

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.filterwarnings("ignore:.*[Mm]aximum iterations"),
    pytest.mark.filterwarnings("ignore:.*lbfgs failed to converge"),
]

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "ünïcödé"])

SETTINGS = {
    "adam": {},
    "sgd": {"solver": "sgd", "momentum": 0.5, "alpha": np.float32(0.5)},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 1},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1},
    "lbfgs": {"solver": "lbfgs", "max_iter": 5},
    "early stopping": {"early_stopping": True, "n_iter_no_change": np.inf},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "list of layers": {"hidden_layer_sizes": [4, 3], "activation": "relu"},
    "array of layers": {"hidden_layer_sizes": np.array([4, 3]), "activation": "tanh"},
    "class weights": {"class_weight": {0: 1.0, 1: 2.0, 2: np.float64(0.5)}},
    "balanced": {"class_weight": "balanced", "activation": "identity"},
    "no seed": {"random_state": None},
    "threads": {"n_threads": 1, "batch_size": 7},
}

LABELS = {
    "int64": Y,
    "int8": Y.astype(np.int8) - 1,
    "uint64": Y.astype(np.uint64) + 2**63,
    "big-endian": Y.astype(">i4"),
    "bool": Y == 1,
    "float64": Y.astype(float),
    "str": NAMES[Y],
    "object": NAMES.astype(object)[Y],
    "bytes of one letter": np.array(["a", "", "b"])[Y],
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "classifier.safetensors"


def fitted(labels=Y, dtype="float64", **settings):
    classifier = MLPClassifier(**{"max_iter": 3, "random_state": 0, **settings})
    return classifier.fit(X.astype(dtype), labels)


def same_value(a, b):
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.tolist() == b.tolist()
    if isinstance(a, np.random.RandomState):
        return repr(a.get_state(legacy=False)) == repr(b.get_state(legacy=False))
    return type(a) in (type(b), np.float32, np.float64) and a == b


def assert_same(loaded, classifier):
    for name, value in classifier.get_params().items():
        assert same_value(value, loaded.get_params()[name]), name
    held, found = vars(classifier), vars(loaded)
    # the generator of the last fit is made anew by the next
    assert held.keys() - {"_random_state"} == found.keys() - {"_random_state"}
    for name in held.keys() - classifier.get_params().keys():
        if name not in ("_random_state", "_network", "_optimizer", "classes_", "feature_names_in_"):
            np.testing.assert_equal(found[name], held[name], err_msg=name)
    assert loaded.classes_.dtype == classifier.classes_.dtype.newbyteorder("=")
    assert loaded.classes_.tolist() == classifier.classes_.tolist()
    np.testing.assert_array_equal(loaded.predict(X), classifier.predict(X))
    for method in ("predict_proba", "predict_log_proba", "decision_function"):
        expected = getattr(classifier, method)(X)
        np.testing.assert_array_equal(getattr(loaded, method)(X), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_it_comes_back_and_goes_on(settings, dtype, path):
    classifier = fitted(dtype=dtype, **settings)
    classifier.save(path)
    loaded = MLPClassifier.load(path)
    assert_same(loaded, classifier)
    for model in (classifier, loaded):
        model.set_params(random_state=1)
        if settings.get("solver") == "lbfgs" or "early_stopping" in settings:
            model.set_params(warm_start=True).fit(X.astype(dtype), Y)
        elif settings.get("class_weight") != "balanced":
            model.partial_fit(X.astype(dtype), Y)
    assert_same(loaded, classifier)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_of_every_kind(labels, path):
    classifier = fitted(labels)
    classifier.save(path)
    assert_same(MLPClassifier.load(path), classifier)


def test_validation_data(path):
    classifier = MLPClassifier(max_iter=3, random_state=0).fit(X, Y, X_val=X[:50], y_val=Y[:50])
    classifier.save(path)
    loaded = MLPClassifier.load(path)
    assert loaded.validation_scores_ == classifier.validation_scores_
    assert_same(loaded, classifier)


def test_names_of_features(path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "ü", "a long name"])
    classifier = MLPClassifier(max_iter=2, random_state=0).fit(frame, Y)
    classifier.save(path)
    loaded = MLPClassifier.load(path)
    np.testing.assert_array_equal(loaded.feature_names_in_, classifier.feature_names_in_)
    assert loaded.feature_names_in_.dtype == object
    np.testing.assert_array_equal(loaded.predict(frame), classifier.predict(frame))


def test_a_generator_goes_on(path):
    """A RandomState is saved with what it has yet to give."""
    classifier = fitted(random_state=np.random.RandomState(5))
    classifier.random_state.normal()  # keeps a second number back
    classifier.save(path)
    loaded = MLPClassifier.load(path)
    assert loaded.random_state.normal() == classifier.random_state.normal()
    for model in (classifier, loaded):
        model.partial_fit(X, Y)
    np.testing.assert_array_equal(loaded.coefs_[0], classifier.coefs_[0])


def test_replaced_coefficients_are_saved(path):
    classifier = fitted()
    classifier.coefs_[0] = np.zeros_like(classifier.coefs_[0])
    classifier.save(path)
    assert not MLPClassifier.load(path).coefs_[0].any()


def test_the_network_alone(path):
    classifier = fitted()
    classifier.save(path)
    np.testing.assert_array_equal(Network.load(path).predict_proba(X), classifier.predict_proba(X))
    Network([4, 2]).save(path)
    with pytest.raises(ModelFileError, match="it holds a network, not a classifier"):
        MLPClassifier.load(path)


def test_the_package_reads_it(path):
    safetensors_numpy = pytest.importorskip("safetensors.numpy")
    classifier = fitted()
    classifier.save(path)
    arrays = safetensors_numpy.load_file(path)
    np.testing.assert_array_equal(arrays["weights.1"], classifier.coefs_[1])
    np.testing.assert_array_equal(arrays["loss_curve_"], classifier.loss_curve_)
    np.testing.assert_array_equal(arrays["classes"], classifier.classes_)


def test_subclasses(path):
    class Mine(MLPClassifier):
        pass

    fitted().save(path)
    assert type(Mine.load(path)) is Mine
    assert type(clone(Mine.load(path))) is Mine


def test_not_fitted(path):
    with pytest.raises(NotFittedError):
        MLPClassifier().save(path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("random_state", np.random.default_rng(0)),
        ("random_state", np.random.RandomState(np.random.PCG64(0))),
        ("verbose", object()),
        ("class_weight", {0: object()}),
        ("hidden_layer_sizes", (3, print)),
        ("hidden_layer_sizes", np.array([3], object)),
        ("alpha", 1j),
        ("tol", b"1"),
    ],
)
def test_parameters_that_no_file_can_hold(name, value, path):
    classifier = fitted().set_params(**{name: value})
    path.write_bytes(b"old")
    with pytest.raises(TypeError, match=f"{name} must be plain"):
        classifier.save(path)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    "classes",
    [
        np.array(["a", "b", 3], object),
        np.array(["a", "b", "c\0"], object),
        np.array([1, 2, 3], "M8[s]"),
        np.array([b"a", b"b", b"c"]),
        np.array([1, 2, 3], np.longdouble),
    ],
)
def test_labels_that_no_file_can_hold(classes, path):
    classifier = fitted()
    classifier.classes_ = classes
    with pytest.raises(TypeError, match="classes_ must be numbers or strings"):
        classifier.save(path)
    assert not path.exists()


# Hostile files


def test_cut_short(path):
    fitted(hidden_layer_sizes=(1,)).save(path)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            MLPClassifier.load(path)


def set_setting(header, name, change):
    value = change(json.loads(header["__metadata__"][name]))
    header["__metadata__"][name] = json.dumps(value)


GENERATOR = [[0] * 624, 0, 0, 0.0]


@pytest.mark.parametrize(
    "value",
    [
        {"tuple": 3},
        {"tuple": [3], "dict": []},
        {"else": [3]},
        {},
        {"dict": [[[1], 2]]},
        {"dict": [[1]]},
        {"array": ["O", [1]]},
        {"array": ["<i8", [[1], [1, 2]]]},
        {"array": ["<i8"]},
        {"RandomState": [[0] * 623, *GENERATOR[1:]]},
        {"RandomState": [GENERATOR[0], 625, 0, 0.0]},
        {"RandomState": [GENERATOR[0], -1, 0, 0.0]},
        {"RandomState": [GENERATOR[0], 0, 2, 0.0]},
        {"RandomState": [GENERATOR[0], 0, 0, "x"]},
        {"RandomState": [[-1] * 624, 0, 0, 0.0]},
        {"RandomState": [["x"] * 624, 0, 0, 0.0]},
        {"RandomState": [[10**400] * 624, 0, 0, 0.0]},
    ],
    ids=repr,
)
def test_parameters_that_make_no_sense(value, path):
    fitted().save(path)
    header, data = model_files.parse(path.read_bytes())
    set_setting(header, "parameters", lambda held: {**held, "verbose": value})
    path.write_bytes(model_files.pack(header, data))
    with pytest.raises(ModelFileError, match="parameters make no sense"):
        MLPClassifier.load(path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("parameters", lambda held: [], "parameters"),
        ("parameters", lambda held: {**held, "more": 1}, "parameters"),
        ("parameters", lambda held: held.pop("tol") and held, "parameters"),
        ("parameters", lambda held: {**held, "activation": "tanh"}, "activation is 'tanh' and"),
        ("parameters", lambda held: {**held, "activation": []}, "activation is"),
        ("fitted", lambda held: [], "fitted"),
        ("fitted", lambda held: {**held, "n_iter_": -1}, "fitted"),
        ("fitted", lambda held: {**held, "loss_": "x"}, "fitted"),
        ("fitted", lambda held: {**held, "_network": 1}, "fitted"),
        ("fitted", lambda held: {**held, "n_features_in_": 5}, "n_features_in_ is 5"),
        ("schedule", lambda held: [], "schedule"),
        ("schedule", lambda held: {**held, "kind": "else"}, "schedule"),
        ("schedule", lambda held: {**held, "optimizer": "else"}, "schedule"),
        ("schedule", lambda held: {**held, "fields": {}}, "schedule"),
        ("schedule", lambda held: {**held, "fields": {"a": 1}}, "schedule"),
        ("schedule", lambda held: {**held, "power_t": -1}, "schedule"),
        ("schedule", lambda held: {**held, "first_rate": 10**400}, "schedule"),
        ("classes", lambda held: "else", "classes"),
    ],
)
def test_settings_that_make_no_sense(name, change, message, path):
    fitted().save(path)
    header, data = model_files.parse(path.read_bytes())
    set_setting(header, name, change)
    path.write_bytes(model_files.pack(header, data))
    with pytest.raises(ModelFileError, match=message):
        MLPClassifier.load(path)


@pytest.mark.parametrize(
    ("labels", "codes", "message"),
    [
        (Y, np.array([2, 1, 0]), "ascending"),
        (Y, np.array([0, 1, 1]), "ascending"),
        (Y, np.array([0, 1]), "'classes' must be"),
        (Y, None, "'classes' is missing"),
        (NAMES[Y], np.array([[0x110000], [1], [2]], np.uint32), "code points"),
        (NAMES[Y], np.empty((3, 0), np.uint32), "code points"),
        (NAMES[Y], np.array([1, 2, 3], np.uint32), "'classes' must be"),
        (NAMES[Y], np.array([[1], [2], [3]], np.int32), "'classes' must be"),
        (NAMES[Y], np.array([[98], [97], [99]], np.uint32), "ascending"),
    ],
)
def test_classes_that_make_no_sense(labels, codes, message, path):
    fitted(labels).save(path)
    header, data = model_files.parse(path.read_bytes())
    del header["classes"]
    arrays = {
        name: np.frombuffer(data[slice(*place["data_offsets"])], np.uint8)
        for name, place in header.items()
        if name != "__metadata__"
    }
    if codes is not None:
        kind = {"i": "I", "u": "U"}[codes.dtype.kind] + str(8 * codes.itemsize)
        header["classes"] = {"dtype": kind, "shape": list(codes.shape)}
        arrays["classes"] = np.frombuffer(codes.tobytes(), np.uint8)
    header = model_files.lay_out(header)
    data = b"".join(arrays[name].tobytes() for name in header if name != "__metadata__")
    path.write_bytes(model_files.pack(header, data))
    with pytest.raises(ModelFileError, match=message):
        MLPClassifier.load(path)


def test_the_old_file_stays(path, monkeypatch):
    fitted().save(path)
    content = path.read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        fitted(random_state=1).save(path)
    assert path.read_bytes() == content
