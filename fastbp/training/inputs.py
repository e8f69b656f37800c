"""The checks of what a model is given: layers, seed, rows and labels, optimizer, checkpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp._checks.arrays import as_float_array, as_numeric, as_writeable_view, is_plain
from fastbp._checks.labels import as_labels_or_targets, as_row_weight, unit_scale
from fastbp._checks.scalars import as_int, as_positive_int, as_real
from fastbp.backprop import passes, state
from fastbp.optimizers import SGD, Adam

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]

# Elements of uint8 from which on they are not copied as floats: steps are compiled for them
KEPT_BYTES = 1 << 24

# Elements to check per compiled call: Ctrl-C takes effect between two calls.
_ELEMENTS_PER_CALL = 1 << 26


def as_layer_sizes(layer_sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the units of each layer."""
    if isinstance(layer_sizes, str) or not hasattr(layer_sizes, "__iter__"):
        raise TypeError(f"layer_sizes must be a sequence of integers, got {layer_sizes!r}")
    sizes = tuple(as_positive_int(n, f"layer_sizes[{q}]") for q, n in enumerate(layer_sizes))
    if len(sizes) < 2:
        raise ValueError(f"layer_sizes must hold at least 2 sizes, got {layer_sizes!r}")
    return sizes


def as_seed(seed: int) -> int:
    """Return a key of the random numbers."""
    number = as_int(seed, "seed", 0)
    if number >= 2**64:
        raise ValueError(f"seed must be an integer below 2**64, got {seed!r}")
    return number


def as_n_threads(n_threads: int | None) -> int | None:
    """Return a number of threads; None stays None."""
    return None if n_threads is None else as_positive_int(n_threads, "n_threads")


def as_optimizer(
    optimizer: SGD | Adam | None, learning_rate: float | None, momentum: float | None
) -> SGD | Adam:
    """Return the optimizer, or the SGD that learning rate and momentum describe."""
    if optimizer is None:
        rate = 0.1 if learning_rate is None else learning_rate
        mu = 0.9 if momentum is None else as_real(momentum, "momentum", 0.0, 1.0, closed="left")
        return SGD(rate, mu)
    if not isinstance(optimizer, SGD | Adam):
        raise TypeError(f"optimizer must be an SGD, an Adam or None, got {optimizer!r}")
    for name, value in (("learning_rate", learning_rate), ("momentum", momentum)):
        if value is not None:
            raise ValueError(
                f"{name} must be given to the optimizer or without one, got {value!r} and "
                f"{optimizer!r}"
            )
    return optimizer


def as_flat(values: ArrayLike, name: str, like: Array) -> Array:
    """Return a vector laid out as the parameters ``like``."""
    array = as_float_array(values, name, dtype=like.dtype, ndim=1)
    if array.shape != like.shape:
        raise ValueError(f"{name} must have shape {like.shape}, got {array.shape}")
    return array


def as_samples(X: ArrayLike, n_features: int, dtype: np.dtype[Any], name: str = "X") -> Array:
    """Return rows of ``n_features`` elements; many rows of uint8 stay what they are."""
    if is_plain(X) and X.dtype is dtype and X.ndim == 2 and X.shape[1] == n_features:
        return X  # the checks below take as long as the forward pass of a row
    x = as_numeric(X, name, small=True)
    if x.dtype == np.uint8 and x.ndim == 2 and x.size >= KEPT_BYTES:
        x = as_writeable_view(np.ascontiguousarray(x))
    else:
        x = as_float_array(x, name, dtype=dtype, ndim=2, small=True)
    if x.shape[1] != n_features:
        raise ValueError(
            f"{name} must have {n_features} columns, one per unit of the first layer, got shape "
            f"{x.shape}"
        )
    return x


def as_data(
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    layer_sizes: tuple[int, ...],
    dtype: np.dtype[Any],
    names: tuple[str, str] = ("X", "y"),
) -> state.Data:
    """Return rows with their labels or targets, at least one."""
    x = as_samples(X, layer_sizes[0], dtype, names[0])
    if len(x) == 0:
        raise ValueError(f"{names[0]} must have at least one row, got shape {x.shape}")
    answers = as_labels_or_targets(y, (len(x), layer_sizes[-1]), dtype, names[1])
    scale = 1.0 if x.dtype == np.uint8 else None
    return with_answers(x, answers, sample_weight, scale)


def with_answers(
    x: Array,
    answers: Array,
    sample_weight: ArrayLike | None,
    scale: float | None,
) -> state.Data:
    """Return rows with labels or targets, and weights as many as there are of these."""
    labels, targets = (answers, None) if answers.ndim == 1 else (None, answers)
    row_weight = as_row_weight(sample_weight, (len(answers),), is_signed=False)
    if row_weight.size and not row_weight.any():
        raise ValueError(f"sample_weight must not be all zero, got {row_weight.size} zeros")
    return state.Data(x, None, labels, targets, unit_scale(row_weight), scale)


def as_validation(
    validation_data: tuple[ArrayLike, ArrayLike] | None,
    layer_sizes: tuple[int, ...],
    dtype: np.dtype[Any],
) -> state.Data | None:
    """Return the rows to measure after each epoch, if there are any."""
    if validation_data is None:
        return None
    if not isinstance(validation_data, tuple | list):
        kind = type(validation_data).__name__
        raise TypeError(f"validation_data must be a pair (X, y), got {kind}")
    if len(validation_data) != 2:
        raise ValueError(f"validation_data must be a pair (X, y), got {len(validation_data)} items")
    names = ("validation_data[0]", "validation_data[1]")
    return as_data(*validation_data, None, layer_sizes, dtype, names)


def check_finite(x: Array, name: str = "X") -> None:
    """Refuse rows to learn from that are not finite."""
    if x.dtype == np.uint8:
        return
    rows = max(1, _ELEMENTS_PER_CALL // x.shape[1])
    for first in range(0, len(x), rows):
        checked = x[first : first + rows]
        if not passes.all_finite(checked.reshape(-1)):
            row, column = np.argwhere(~np.isfinite(checked))[0].tolist()
            value = checked[row, column]
            raise ValueError(f"{name} must be finite, got {value} in row {first + row}")


def check_parameters(parameters: Array) -> None:
    """Refuse parameters to start from that are not finite."""
    if not passes.all_finite(parameters):
        raise ValueError("parameters must be finite, got some that are infinite or NaN")


def check_callback(callback: Any) -> None:
    """Refuse what cannot be called."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable or None, got {callback!r}")


def ends_training(answer: Any) -> bool:
    """Return whether a callback's answer ends training: True alone does."""
    if answer is None or isinstance(answer, bool | np.bool_):
        return bool(answer)
    raise TypeError(f"callback must return None, True or False, got {answer!r:.80}")


def check_checkpoint(path: Any, every: Any, resume: bool) -> int | None:
    """Return ``checkpoint_every``, if the three arguments go together."""
    if path is None:
        for name, value, default in (
            ("checkpoint_every", every, None),
            ("resume", resume, False),
        ):
            if value is not default:
                raise ValueError(f"{name} needs a checkpoint, got {value!r} without one")
        return None
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"checkpoint must be the path of a file, got {path!r}")
    if os.path.isdir(path):
        raise IsADirectoryError(f"checkpoint must be a file, got the folder {os.fsdecode(path)!r}")
    if not resume and os.path.lexists(path):
        raise FileExistsError(
            f"checkpoint {os.fsdecode(path)!r} is there already: resume=True goes on from it; to "
            "start over, remove it or give another one"
        )
    return None if every is None else as_positive_int(every, "checkpoint_every")
