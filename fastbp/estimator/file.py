"""The file of an `MLPClassifier`: its network, with its parameters, classes and curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from fastbp._atomic import StrPath
from fastbp._files import network_file
from fastbp._files.network_file import DTYPES, NetworkFile, is_count
from fastbp.estimator.epochs import Schedule
from fastbp.network import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_CURVES = ("loss_curve_", "validation_scores_", "validation_loss_curve_")
_COUNTS = ("n_iter_", "t_", "n_features_in_", "_no_improvement_count")
_LOSSES = ("loss_", "best_loss_", "best_validation_score_")
_LAST_CODE_POINT = 0x10FFFF


def save(path: StrPath, classifier: Any) -> None:
    """Write a fitted classifier; see `MLPClassifier.save`."""
    check_is_fitted(classifier)
    arrays: dict[str, Array] = {}
    settings: dict[str, Any] = {}
    settings["parameters"] = {
        name: _encoded(value, name) for name, value in classifier.get_params(deep=False).items()
    }
    settings["fitted"] = {name: int(getattr(classifier, name)) for name in _COUNTS}
    for name in _LOSSES:
        loss = getattr(classifier, name, None)
        settings["fitted"][name] = None if loss is None else float(loss)
    optimizer = getattr(classifier, "_optimizer", None)
    settings["schedule"] = None if optimizer is None else optimizer.state()
    for name in _CURVES:
        if (curve := getattr(classifier, name)) is not None:
            arrays[name] = np.array(curve, np.float64)
    arrays["classes"], settings["classes"] = _labels(classifier.classes_, "classes_")
    if hasattr(classifier, "feature_names_in_"):
        arrays["feature_names"], _ = _labels(classifier.feature_names_in_, "feature_names_in_")
    copies: tuple[Any, Any, Any] = classifier._synced_network()._copies()
    network_file.save(path, "classifier", *copies, arrays, settings)


def load(path: StrPath, cls: type[Any], activations: dict[str, str]) -> Any:
    """Read a classifier of class ``cls``; ``activations`` are its names for the network's."""
    with network_file.opened(path, "classifier") as file:
        names = set(cls().get_params(deep=False))
        encoded = file.setting("parameters", lambda value: value.keys() == names)
        try:
            parameters = {name: _decoded(value) for name, value in encoded.items()}
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            file.fail(f"parameters make no sense: {error!r:.80}")
        classifier = cls(**parameters)
        metadata = file.metadata
        if activations.get(str(parameters["activation"])) != metadata.activation:
            file.fail(f"activation is {parameters['activation']!r} and {metadata.activation!r}")
        fitted = file.setting("fitted", _is_fitted)
        if fitted["n_features_in_"] != metadata.layer_sizes[0]:
            file.fail(f"n_features_in_ is {fitted['n_features_in_']}, of {metadata.layer_sizes}")
        vars(classifier).update(fitted)
        schedule = file.setting("schedule", _is_schedule)
        if schedule is not None:
            classifier._optimizer = Schedule.of_state(schedule)
        for name in _CURVES:
            has_one = name in file or name == "loss_curve_"
            curve = np.empty(file.shape(name)[:1]) if has_one else None
            setattr(classifier, name, None if curve is None else file.take(name, curve).tolist())
        classifier.classes_ = _taken_labels(
            file, "classes", file.setting("classes", _KINDS.__contains__), metadata.layer_sizes[-1]
        )
        if not (classifier.classes_[:-1] < classifier.classes_[1:]).all():
            file.fail("classes must be in ascending order")
        if "feature_names" in file:
            names_in = _taken_labels(file, "feature_names", "object", metadata.layer_sizes[0])
            classifier.feature_names_in_ = names_in
        n_fixed = 1 if metadata.layer_sizes[-1] == 2 else 0
        network = Network._of_file(file, n_fixed)
        file.finish()
    classifier._take(network)
    return classifier


def _is_fitted(value: Any) -> bool:
    return (
        value.keys() == {*_COUNTS, *_LOSSES}
        and all(is_count(value[name]) for name in _COUNTS)
        and all(value[name] is None or isinstance(value[name], float) for name in _LOSSES)
    )


def _is_schedule(value: Any) -> bool:
    return value is None or isinstance(Schedule.of_state(value), Schedule)


# Parameters are JSON. What JSON does not have stands in an object with one key, its kind.


def _encoded(value: Any, name: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_encoded(item, name) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_encoded(item, name) for item in value]}
    if isinstance(value, dict):
        pairs = [[_encoded(k, name), _encoded(v, name)] for k, v in value.items()]
        return {"dict": pairs}
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.dtype.itemsize <= 8:
        return {"array": [value.dtype.str, value.tolist()]}
    if isinstance(value, np.random.RandomState):
        state = value.get_state(legacy=False)
        words = state["state"]
        if state["bit_generator"] == "MT19937":
            gauss = [state["has_gauss"], state["gauss"]]
            return {"RandomState": [words["key"].tolist(), words["pos"], *gauss]}
    raise TypeError(f"{name} must be plain numbers, strings or None to be saved, got {value!r:.80}")


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if not isinstance(content, list):
        raise TypeError(content)
    if kind == "tuple":
        return tuple(map(_decoded, content))
    if kind == "dict":
        return {_decoded(k): _decoded(v) for k, v in content}
    if kind == "array":
        dtype, items = content
        if dtype not in [known.str for known in DTYPES.values()]:
            raise ValueError(dtype)
        return np.array(items, dtype)
    if kind == "RandomState":
        key, position, has_gauss, gauss = content
        # NumPy would take any position, and read there.
        if len(key) != 624 or not is_count(position, 624) or not is_count(has_gauss, 1):
            raise ValueError(content)
        random_state = np.random.RandomState()
        state = ("MT19937", np.array(key, np.uint32), position, has_gauss, float(gauss))
        random_state.set_state(state)
        return random_state
    raise ValueError(kind)


# Labels are numbers, or strings: a row of code points each.

_KINDS = ("number", "str", "object")


def _labels(labels: Array, name: str) -> tuple[Array, str]:
    if labels.dtype.kind in "biuf" and labels.dtype.newbyteorder("<") in DTYPES.values():
        return np.ascontiguousarray(labels, labels.dtype.newbyteorder("<")), "number"
    kind = "str" if labels.dtype.kind == "U" else "object"
    strings = np.array(labels, str) if all(isinstance(label, str) for label in labels) else None
    # (a string that ends in NUL loses it in an array of strings)
    if strings is None or strings.tolist() != labels.tolist():
        raise TypeError(f"{name} must be numbers or strings to be saved, got dtype {labels.dtype}")
    codes = strings.astype(strings.dtype.newbyteorder("<")).view("<u4")
    return codes.reshape(len(labels), -1), kind


def _taken_labels(file: NetworkFile, name: str, kind: str, n: int) -> Array:
    if kind == "number":
        array: Array = file.take(name, np.empty(n, file.dtype(name)))
        return array
    width = file.shape(name)[-1] if len(file.shape(name)) == 2 else 1
    codes = file.take(name, np.empty((n, width), "<u4"))
    if width == 0 or codes.max() > _LAST_CODE_POINT:
        file.fail(f"array {name!r} must hold strings, as code points")
    strings = codes.view(f"<U{width}").reshape(n).astype(f"U{width}")
    return strings.astype(object) if kind == "object" else strings
