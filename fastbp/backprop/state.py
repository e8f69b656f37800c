"""What a step works on: data, the optimizer's state, a workspace, and the step's options."""

import os
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp._simd import lane_count
from fastbp.backprop.layout import (
    LINE,
    PAGE_BYTES,
    FloatArray,
    IndexArray,
    Layer,
    Plan,
    aligned,
    panel_size,
)
from fastbp.kernels._gradient import MARGIN
from fastbp.kernels._matmul import K_BLOCK, PACKED_COLUMNS, PACKED_ROWS, WAITING_VECTORS
from fastbp.kernels._sparse import number_chains

# Rows of weights whose squares make one sum: blocks of weights are cut at multiples of it
SQUARED_ROWS = 7


def _second_level_cache() -> int:
    """Bytes of a core's second-level cache; 1 MiB where the system does not say."""
    try:
        return os.sysconf("SC_LEVEL2_CACHE_SIZE") or 2**20
    except (AttributeError, ValueError, OSError):
        return 2**20


# Packed rows take half of the second-level cache; weights, errors and results use the rest.
PACKED_BYTES = _second_level_cache() // 2


class SparseRows(NamedTuple):
    """Row i holds ``values[s:e]`` in ``columns[s:e]``, s, e = starts[i:i+2]; columns ascend."""

    starts: IndexArray
    columns: IndexArray
    values: FloatArray
    chains: npt.NDArray[np.int32]  # of sums over the columns: see ``fastbp.kernels._sparse``


class ColumnEntries(NamedTuple):
    """Memory, a row for each thread, for a batch's sparse entries by column."""

    ends: IndexArray
    places: IndexArray
    chains: npt.NDArray[np.int32]
    values: FloatArray


class Data(NamedTuple):
    """Rows with ``labels`` (n,) or ``targets`` (n, K).

    With sparse rows, ``x`` has shape (0, n_features).  Rows of uint8 are multiplied by ``scale``,
    in the dtype of the parameters.  Compiled code leaves out what is None.
    """

    x: npt.NDArray[Any]
    sparse: SparseRows | None
    labels: IndexArray | None
    targets: FloatArray | None
    row_weight: npt.NDArray[np.float64]  # (n,), or (0,) if every row weighs 1
    scale: float | None = None  # of rows of uint8


class StepOptions(NamedTuple):
    """How a step changes the parameters, given the gradient g of the batch's mean cross-entropy.

    To the gradient of the weights comes the penalty ``(l2 + alpha / the batch's weight) * W``.
    """

    is_adam: bool
    nesterov: bool
    learning_rate: float
    momentum: float  # mu; of Adam, beta_1
    beta_2: float
    epsilon: float
    epsilon_is_corrected: bool  # as v is, for its bias: the paper's algorithm 1
    weight_decay: float
    l2: float
    alpha: float


class OptimizerState(NamedTuple):
    """What a step keeps for the next one; its vectors are in panel form."""

    velocity: FloatArray  # v; for Adam, the first moment
    second_moment: FloatArray | None  # for Adam
    n_updates: npt.NDArray[np.int64]  # (1,): updates made so far


class Workspace(NamedTuple):
    """Memory of a training step on up to ``capacity`` rows."""

    capacity: int
    packed: FloatArray | None  # (n_threads, size): packed rows of large products
    waiting: FloatArray | None  # (n_threads, size): block sums that wait for their neighbours
    x: FloatArray  # gathered rows, one every ``row_stride`` of layer 0; none of sparse data
    columns: ColumnEntries | None  # for sparse data
    hidden: FloatArray  # activations of the hidden layers
    delta: FloatArray  # errors of the hidden layers
    z: FloatArray  # (capacity, K) logits
    delta_out: FloatArray  # (capacity, K) output error
    labels: IndexArray | None
    targets: FloatArray | None
    row_weight: npt.NDArray[np.float64]
    loss: FloatArray  # (capacity,)
    correct: npt.NDArray[np.float64]  # (capacity,): the row's weight, or 0
    weight: npt.NDArray[np.float64]  # (1,): the sum of the weights of the batch's rows
    # (layers, blocks): sums of the squares of ``SQUARED_ROWS`` rows of weights, for the penalty
    squares: npt.NDArray[np.float64] | None


def make_sparse_rows(
    starts: IndexArray, columns: IndexArray, values: FloatArray, n_features: int
) -> SparseRows:
    """Make `SparseRows`."""
    chains = np.empty(len(columns), np.int32)
    number_chains(columns, n_features, chains)
    return SparseRows(starts, columns, values, chains)


def make_parameters(plan: Plan, dtype: npt.DTypeLike) -> FloatArray:
    """Allocate the parameters: zeros."""
    return aligned(plan.n_parameters, dtype)


def make_optimizer_state(
    plan: Plan, dtype: npt.DTypeLike, with_second_moment: bool = False
) -> OptimizerState:
    """Allocate the state of an optimizer that has made no update: zeros."""
    velocity = aligned(panel_size(plan, dtype), dtype, PAGE_BYTES // 2)
    second_moment = make_second_moment(plan, dtype) if with_second_moment else None
    return OptimizerState(velocity, second_moment, np.zeros(1, np.int64))


def make_second_moment(plan: Plan, dtype: npt.DTypeLike) -> FloatArray:
    """Allocate Adam's second moment: zeros."""
    return aligned(panel_size(plan, dtype), dtype, PAGE_BYTES // 4)


def copy_of(state: OptimizerState) -> OptimizerState:
    """Return a state that shares no memory with ``state``."""
    second_moment = None if state.second_moment is None else state.second_moment.copy()
    return OptimizerState(state.velocity.copy(), second_moment, state.n_updates.copy())


def n_rows(data: Data) -> int:
    """Count the rows, sparse or not."""
    return len(data.x) if data.sparse is None else len(data.sparse.starts) - 1


def forget(state: OptimizerState) -> None:
    """Set velocity, moments and the number of updates to zero."""
    for array in state:
        if array is not None:
            array[:] = 0


def make_workspace(
    plan: Plan,
    data: Data,
    dtype: npt.DTypeLike,
    capacity: int,
    n_threads: int = 1,
    with_penalty: bool = False,
    k_block: int = K_BLOCK,
) -> Workspace:
    """Allocate the workspace of a step on up to ``capacity`` rows of ``data``.

    Sums over rows are cut into blocks of ``k_block`` or fewer.
    """
    dtype = np.dtype(dtype)
    n_classes = plan.sizes[-1]
    n_hidden = capacity * plan.n_hidden
    n_out = capacity * n_classes
    packed = _packed_size(plan, capacity, dtype.itemsize, k_block)
    waiting = WAITING_VECTORS * lane_count(dtype)
    is_sparse = data.sparse is not None
    return Workspace(
        capacity=capacity,
        packed=aligned(n_threads * packed, dtype).reshape(n_threads, packed) if packed else None,
        waiting=aligned(n_threads * waiting, dtype).reshape(n_threads, waiting) if packed else None,
        x=aligned(capacity * Layer(*plan.table[0].tolist()).row_stride * (not is_sparse), dtype),
        columns=_make_columns(data, capacity, n_threads) if is_sparse else None,
        hidden=aligned(n_hidden, dtype),
        delta=aligned(n_hidden, dtype),
        z=aligned(n_out, dtype).reshape(capacity, n_classes),
        delta_out=aligned(n_out, dtype).reshape(capacity, n_classes),
        labels=None if data.labels is None else np.empty(capacity, np.intp),
        targets=None if data.targets is None else np.empty((capacity, n_classes), dtype),
        row_weight=np.empty(capacity if data.row_weight.size else 0, np.float64),
        loss=np.empty(capacity, dtype),
        correct=np.empty(capacity, np.float64),
        weight=np.empty(1, np.float64),
        squares=np.zeros((len(plan.sizes) - 1, -(-max(plan.sizes) // SQUARED_ROWS)))
        if with_penalty
        else None,
    )


def _make_columns(data: Data, capacity: int, n_threads: int) -> ColumnEntries:
    """Allocate memory for the entries of any batch of ``capacity`` rows."""
    assert data.sparse is not None
    counts = np.sort(np.diff(data.sparse.starts))[::-1]
    shape = n_threads, int(counts[:capacity].sum())
    ends = np.empty((n_threads, data.x.shape[1] + 1), np.intp)
    places, chains = np.empty(shape, np.intp), np.empty(shape, np.int32)
    return ColumnEntries(ends, places, chains, np.empty(shape, data.x.dtype))


def _packed_size(plan: Plan, capacity: int, itemsize: int, k_block: int) -> int:
    """Elements that a thread packs at a time; 0 where nothing is packed and no sums wait."""
    widest = max(plan.sizes)
    is_wide = widest >= PACKED_COLUMNS and capacity >= PACKED_ROWS
    if capacity <= k_block and not is_wide:
        return 0
    return min(PACKED_BYTES // itemsize, capacity * (widest + LINE) + MARGIN)
