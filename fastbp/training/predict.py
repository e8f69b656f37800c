"""How good logits are: their mean cross-entropy, and how many rows they classify correctly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import kernels
from fastbp.backprop import passes, state

Array = npt.NDArray[Any]


def mean_loss(z: Array, data: state.Data) -> float:
    """Return the mean cross-entropy, weighted as the rows of ``data`` are."""
    loss = np.empty(len(z), z.dtype)
    if data.labels is not None:
        kernels.cross_entropy(z, data.labels, data.row_weight, loss)
    else:
        kernels.cross_entropy_targets(z, data.targets, data.row_weight, loss)
    return float(kernels.loss_sum(loss)) / _total_weight(data)


def accuracy(z: Array, data: state.Data) -> float:
    """Return the weighted fraction of rows whose largest logit is the label's."""
    correct = np.empty(len(z))
    passes.mark_correct(z, data.labels, data.targets, data.row_weight, correct)
    return float(kernels.loss_sum(correct)) / _total_weight(data)


def _total_weight(data: state.Data) -> float:
    return (
        float(kernels.loss_sum(data.row_weight))
        if data.row_weight.size
        else float(state.n_rows(data))
    )
