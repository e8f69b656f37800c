"""Where everything lies: parameters in one flat vector, activations and errors in a workspace.

All parameters of a network live in one vector: the weights of every layer first, each matrix in C
order, then the biases of every layer.  Offsets into that vector take the place of lists of arrays,
so that one compiled specialisation per dtype serves every architecture, and an optimiser, a
checkpoint or an L2 penalty (weights only: one slice) sees a single buffer.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp.kernels.activation import ACTIVATIONS
from fastbp.kernels.dense import GROUP

FloatArray = npt.NDArray[Any]
IndexArray = npt.NDArray[np.intp]

# Numbers in a cache line (of float32), and those that a register may read past the end of a matrix.
LINE = 16
MARGIN = 64
PAGE_BYTES = 4096

# Parts that the weights of a network are cut into at least, if they are not too few
PARTS = 4

# Multiply-adds that are not interrupted, if they can be cut so small: 10 ms, more or less.
ITEM = 250_000_000

# Places on the board that threads share, a cache line apart: how many threads have come, the phases
# that may start, the items done, the step that was not made (-1 if there is none), whether all are
# to leave; then, for each phase of a step, what has been claimed of each thread's items.
LINE_OF_COUNTERS = 8
ENTERED, OPEN, DONE, STOPPED, PAUSED, CLAIMED = range(0, 6 * LINE_OF_COUNTERS, LINE_OF_COUNTERS)

# In place of the phases that may start, when the step in hand is given up: later than all
DROPPED = 2**62


class Layer(NamedTuple):
    """Where one layer lies; of the input layer, only its units and its pitch count.

    Its weights and biases start at ``weight_at`` and ``bias_at`` of a flat vector.  In a workspace
    for ``capacity`` rows, the units of a hidden layer start at ``capacity * unit_at``, and its rows
    are ``pitch`` apart.  ``activation`` is a place in ``ACTIVATIONS``.
    """

    units: int
    pitch: int
    unit_at: int
    weight_at: int
    bias_at: int
    activation: int


class Plan(NamedTuple):
    """Where the layers l = 0..L of a network lie; layer 0 is the input.

    ``table`` (L+1, 6) holds a `Layer` in each row: what compiled code reads.
    """

    table: IndexArray
    n_weights: int
    n_parameters: int
    n_hidden: int  # numbers a row takes in all hidden layers

    @property
    def sizes(self) -> list[int]:
        """Units of each layer."""
        return [int(n) for n in self.table[:, 0]]


class Data(NamedTuple):
    """What is learnt from: ``labels`` (n,) or ``targets`` (n, K), the other one empty.

    Where rows are sparse, ``x`` has none, only their length; row i holds ``values[s:e]`` in the
    columns ``columns[s:e]``, for s, e = ``starts[i], starts[i + 1]``.  Otherwise those are empty.
    """

    x: FloatArray
    starts: IndexArray
    columns: IndexArray
    values: FloatArray
    labels: IndexArray
    targets: FloatArray
    row_weight: npt.NDArray[np.float64]  # (n,), or (0,): every row weighs 1


class Update(NamedTuple):
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


class Memory(NamedTuple):
    """What a step knows of those before it, laid out as the parameters."""

    velocity: FloatArray  # v; of Adam, the first moment
    second: FloatArray  # Adam's second moment; without Adam, empty
    n_steps: npt.NDArray[np.int64]  # (1,): the steps made so far


class Workspace(NamedTuple):
    """Memory of a training step on up to ``capacity`` rows."""

    capacity: int
    x: FloatArray  # the rows gathered, ``pitch[0]`` apart
    hidden: FloatArray  # activations of the hidden layers
    delta: FloatArray  # errors of the hidden layers
    z: FloatArray  # (capacity, K) logits
    delta_out: FloatArray  # (capacity, K) output error
    labels: IndexArray
    targets: FloatArray
    row_weight: npt.NDArray[np.float64]
    loss: FloatArray  # (capacity,)
    correct: npt.NDArray[np.float64]  # (capacity,): the row's weight, or 0
    weight: npt.NDArray[np.float64]  # (1,): of all rows of the batch
    squares: npt.NDArray[np.float64]  # sums of squared weights, one a part; empty: not wanted


def make_plan(layer_sizes: Sequence[int], activation: str = "sigmoid") -> Plan:
    """Lay the layers of ``layer_sizes`` out: all weights, then all biases.

    ``activation`` is that of the hidden layers.
    """
    n_weights = sum(fan_in * fan_out for fan_in, fan_out in pairwise(layer_sizes))
    # Everything is counted in bytes of intp, and more than once.
    if n_weights >= 2**56:
        raise ValueError(
            f"layer_sizes must give fewer than 2**56 weights, got {tuple(layer_sizes)}"
        )
    layers = []
    weight_at, bias_at, unit_at = 0, n_weights, 0
    for number, units in enumerate(layer_sizes):
        # Whole lines, and an odd number of them: rows of a power of two numbers would fall on the
        # same few sets of the cache.  Logits lie close, as the row kernels take them.
        is_last = number == len(layer_sizes) - 1
        pitch = units if is_last else (-(-units // LINE) | 1) * LINE
        kind = ACTIVATIONS.index("identity" if is_last or number == 0 else activation)
        layers.append(Layer(units, pitch, unit_at, weight_at, bias_at, kind))
        if number > 0:
            weight_at += layer_sizes[number - 1] * units
            bias_at += units
            unit_at += 0 if is_last else pitch
    return Plan(np.array(layers, np.intp), n_weights, bias_at, unit_at)


def weight_views(plan: Plan, flat: FloatArray) -> tuple[FloatArray, ...]:
    """Return the weights of each layer, shape (fan_in, fan_out), as views of ``flat``."""
    layers = [Layer(*row) for row in plan.table.tolist()]
    return tuple(
        flat[layer.weight_at : layer.weight_at + below.units * layer.units].reshape(
            below.units, layer.units
        )
        for below, layer in pairwise(layers)
    )


def bias_views(plan: Plan, flat: FloatArray) -> tuple[FloatArray, ...]:
    """Return the biases of each layer, shape (fan_out,), as views of ``flat``."""
    layers = [Layer(*row) for row in plan.table[1:].tolist()]
    return tuple(flat[layer.bias_at : layer.bias_at + layer.units] for layer in layers)


def aligned(n: int, dtype: npt.DTypeLike, page_offset: int = 0) -> FloatArray:
    """Allocate ``n`` zeros that start at a cache line, and a margin behind them.

    Zeros, because lanes behind the last column take part in sums (and are then dropped): what
    happens to lie in fresh memory may be subnormal, and those are slow.

    They start ``page_offset`` bytes into a page of 4096.  Two arrays that are written and read side
    by side want different ones: addresses that agree in their last 12 bits look the same to the
    processor for a moment, and loads wait for stores that they have nothing to do with.
    """
    dtype = np.dtype(dtype)
    memory = np.zeros(n + MARGIN + PAGE_BYTES // dtype.itemsize, dtype)
    start = (page_offset - memory.ctypes.data) % PAGE_BYTES // dtype.itemsize
    return memory[start : start + n]


def make_data(
    x: FloatArray | tuple[FloatArray, IndexArray, IndexArray, FloatArray],
    labels: IndexArray | None,
    targets: FloatArray | None,
    row_weight: npt.NDArray[np.float64],
) -> Data:
    """Put an empty array of the right type in place of what is missing."""
    no_indices = np.empty(0, dtype=np.intp)
    dense, starts, columns, values = (
        x if isinstance(x, tuple) else (x, no_indices, no_indices, np.empty(0, x.dtype))
    )
    return Data(
        dense,
        starts,
        columns,
        values,
        np.empty(0, dtype=np.intp) if labels is None else labels,
        np.empty((0, 0), dtype=dense.dtype) if targets is None else targets,
        row_weight,
    )


def make_state(
    plan: Plan, dtype: npt.DTypeLike, with_second: bool = False
) -> tuple[FloatArray, Memory]:
    """Allocate the parameters and what a step knows of those before it: zeros."""
    parameters = aligned(plan.n_parameters, dtype)
    velocity = aligned(plan.n_parameters, dtype, PAGE_BYTES // 2)
    second = make_second_moment(plan, dtype) if with_second else np.empty(0, dtype)
    return parameters, Memory(velocity, second, np.zeros(1, np.int64))


def make_second_moment(plan: Plan, dtype: npt.DTypeLike) -> FloatArray:
    """Allocate what Adam keeps besides the velocity's place."""
    return aligned(plan.n_parameters, dtype, PAGE_BYTES // 4)


def n_rows(data: Data) -> int:
    """Count the rows, sparse or not."""
    return len(data.starts) - 1 if len(data.starts) else len(data.x)


def forget(memory: Memory) -> None:
    """Start over: no velocity, no moments, no step made."""
    memory.velocity[:] = 0
    memory.second[:] = 0
    memory.n_steps[:] = 0


def make_workspace(plan: Plan, data: Data, capacity: int, with_penalty: bool = False) -> Workspace:
    """Allocate what a step on up to ``capacity`` rows of ``data`` writes."""
    dtype = data.x.dtype
    n_classes = plan.sizes[-1]
    n_hidden = capacity * plan.n_hidden
    n_out = capacity * n_classes
    return Workspace(
        capacity=capacity,
        x=aligned(capacity * Layer(*plan.table[0].tolist()).pitch, dtype),
        hidden=aligned(n_hidden, dtype),
        delta=aligned(n_hidden, dtype),
        z=aligned(n_out, dtype).reshape(capacity, n_classes),
        delta_out=aligned(n_out, dtype).reshape(capacity, n_classes),
        labels=np.empty(capacity if data.labels.size else 0, np.intp),
        targets=np.empty((capacity if data.targets.size else 0, data.targets.shape[1]), dtype),
        row_weight=np.empty(capacity if data.row_weight.size else 0, np.float64),
        loss=np.empty(capacity, dtype),
        correct=np.empty(capacity, np.float64),
        weight=np.empty(1, np.float64),
        squares=np.empty(len(make_parts(plan, capacity)) if with_penalty else 0, np.float64),
    )


def make_parts(plan: Plan, batch_size: int) -> IndexArray:
    """Cut the weights into the parts that are updated at a time: layer, first row, end of rows.

    Equal ones, as far as whole tiles allow, and enough of them for several threads: a layer of 64 x
    100 weights in one piece would leave a second thread without work.  A large batch's are small.
    """
    smallest = GROUP // 8  # a tile
    parts = []
    for number, (fan_in, fan_out) in enumerate(pairwise(plan.sizes), start=1):
        most = min(GROUP, ITEM // (batch_size * fan_out))
        rows = max(min(plan.n_weights // (PARTS * fan_out), most), smallest)
        n_parts = -(-fan_in // rows)
        rows = -(-fan_in // (n_parts * smallest)) * smallest
        parts += [(number, k, min(k + rows, fan_in)) for k in range(0, fan_in, rows)]
    return np.array(parts, np.intp)


def make_board(n_threads: int) -> npt.NDArray[np.int64]:
    """Allocate the board of up to ``n_threads`` threads, ready for use."""
    board = np.zeros(CLAIMED + 2 * n_threads * LINE_OF_COUNTERS, np.int64)
    board[STOPPED] = -1
    return board


def multiply_adds(plan: Plan, rows: int, passes: int) -> int:
    """Count what ``rows`` rows cost: one pass forward, or the three passes of a training step."""
    # A unit costs an exponential, worth some 20 multiply-adds; a row costs its bookkeeping.
    return rows * passes * (plan.n_weights + 20 * sum(plan.sizes) + 500)
