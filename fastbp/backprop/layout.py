"""Where everything lies: parameters in one flat vector, activations and errors in a workspace.

All parameters of a network live in one vector: the weights of every layer first, each matrix in C
order, then the biases of every layer.  Offsets into that vector take the place of lists of arrays,
so that one compiled specialisation per dtype serves every architecture, and an optimiser, a
checkpoint or an L2 penalty (weights only: one slice) sees a single buffer.

While a network is trained, its parameters lie in a second vector, in panel form: see
``fastbp.kernels.products``.  So does, always, what a step knows of those before it.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp._simd import lane_count, panel_width
from fastbp.kernels._matmul import K_BLOCK, PACKED_COLUMNS, PACKED_ROWS, WAITING
from fastbp.kernels.activation import ACTIVATIONS
from fastbp.kernels.dense import MARGIN

FloatArray = npt.NDArray[Any]
IndexArray = npt.NDArray[np.intp]

LINE = 16  # numbers in a cache line, of float32
PAGE_BYTES = 4096

# Parts of the weights that a thread updates in a step, about: more cost time, fewer wait longer
PARTS_A_THREAD = 8

# Rows of weights whose squares are summed together: a tile of the widest registers
PIECE = 7

# Places on the board that threads share, a cache line apart: how many threads have come, the phases
# that may start, the items done, the step that was not made (-1 if there is none); then, for each
# phase of a step, what has been claimed of each thread's items.
LINE_OF_COUNTERS = 8
ENTERED, OPEN, DONE, STOPPED, CLAIMED = range(0, 5 * LINE_OF_COUNTERS, LINE_OF_COUNTERS)


def _second_level_cache() -> int:
    """Bytes of a core's second-level cache; where nothing tells, those of most processors."""
    try:
        return os.sysconf("SC_LEVEL2_CACHE_SIZE") or 2**20
    except (AttributeError, ValueError, OSError):
        return 2**20


# Half of it holds packed rows; weights, errors and results pass through the other half.
PACKED_BYTES = _second_level_cache() // 2


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


class Sparse(NamedTuple):
    """Sparse rows: row i holds ``values[s:e]`` in ``columns[s:e]``, s, e = starts[i:i+2]."""

    starts: IndexArray
    columns: IndexArray
    values: FloatArray


class Data(NamedTuple):
    """What is learnt from: ``labels`` (n,) or ``targets`` (n, K).

    Where rows are sparse, ``x`` has none, only their length.  What is None is left out of the
    compiled code.
    """

    x: FloatArray
    sparse: Sparse | None
    labels: IndexArray | None
    targets: FloatArray | None
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
    """What a step knows of those before it, in panel form."""

    velocity: FloatArray  # v; of Adam, the first moment
    second: FloatArray | None  # Adam's second moment
    n_steps: npt.NDArray[np.int64]  # (1,): the steps made so far


class Workspace(NamedTuple):
    """Memory of a training step on up to ``capacity`` rows."""

    capacity: int
    packed: FloatArray | None  # (n_threads, size): packed rows of large products
    waiting: FloatArray | None  # (n_threads, size): a batch's sums that wait for their neighbours
    x: FloatArray  # the rows gathered, ``pitch[0]`` apart
    hidden: FloatArray  # activations of the hidden layers
    delta: FloatArray  # errors of the hidden layers
    z: FloatArray  # (capacity, K) logits
    delta_out: FloatArray  # (capacity, K) output error
    labels: IndexArray | None
    targets: FloatArray | None
    row_weight: npt.NDArray[np.float64]
    loss: FloatArray  # (capacity,)
    correct: npt.NDArray[np.float64]  # (capacity,): the row's weight, or 0
    weight: npt.NDArray[np.float64]  # (1,): of all rows of the batch
    # (layers, pieces): sums of the squares of ``PIECE`` rows of weights, for the penalty
    squares: npt.NDArray[np.float64] | None


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


class Panels:
    """A vector laid out as the parameters, and one that holds the same in panel form.

    Attributes
    ----------
    table : ndarray of intp
        As ``Plan.table``, for the vector in panel form.
    plan : Plan
    plain, numbers : ndarray
        The two vectors.  Of the second, the numbers behind the last column of a panel are zero.
    """

    def __init__(self, plan: Plan, plain: FloatArray, numbers: FloatArray | None = None) -> None:
        self.plan = plan
        self.table, size = _panel_table(plan, plain.dtype)
        self.plain = plain
        self.numbers = aligned(size, plain.dtype) if numbers is None else numbers
        self._pairs = list(self._views(plan))

    def _views(self, plan: Plan) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Each panel of each layer in both vectors; each layer's biases."""
        step = panel_width(self.plain)
        layers = [Layer(*row) for row in self.table.tolist()]
        weights, biases = weight_views(plan, self.plain), bias_views(plan, self.plain)
        for below, layer, w, b in zip(layers, layers[1:], weights, biases, strict=False):
            for j in range(0, layer.units, step):
                start, row = layer.weight_at + j * below.units, min(step, _whole(w[0, j:]))
                panel = self.numbers[start : start + below.units * row].reshape(below.units, row)
                yield w[:, j : j + step], panel[:, : layer.units - j]
            yield b, self.numbers[layer.bias_at : layer.bias_at + layer.units]

    def fill(self) -> None:
        """Take the numbers of the plain vector over into panel form."""
        for plain, panel in self._pairs:
            panel[:] = plain

    def write_back(self) -> None:
        """Take them back."""
        for plain, panel in self._pairs:
            plain[:] = panel


def _whole(numbers: FloatArray) -> int:
    """Size of an array, filled up to whole registers."""
    return -(-len(numbers) // lane_count(numbers.dtype)) * lane_count(numbers.dtype)


def _panel_table(plan: Plan, dtype: np.dtype[Any]) -> tuple[IndexArray, int]:
    table, at = plan.table.copy(), 0
    whole = -(-table[1:, 0] // lane_count(dtype)) * lane_count(dtype)
    for layer, fan_in, units in zip(table[1:], table[:-1, 0], whole, strict=True):
        layer[3] = at
        at += fan_in * units
    for layer, units in zip(table[1:], whole, strict=True):
        layer[4] = at
        at += units
    return table, int(at)


def as_panels(plan: Plan, plain: FloatArray, numbers: FloatArray) -> None:
    """Write the numbers of a vector laid out as the parameters to one in panel form."""
    Panels(plan, plain, numbers).fill()


def as_plain(plan: Plan, numbers: FloatArray) -> FloatArray:
    """Return the numbers of a vector in panel form, laid out as the parameters."""
    plain = np.empty(plan.n_parameters, numbers.dtype)
    Panels(plan, plain, numbers).write_back()
    return plain


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
    """Put what there is in its place; sparse rows come as (no rows, starts, columns, values)."""
    if isinstance(x, tuple):
        return Data(x[0], Sparse(*x[1:]), labels, targets, row_weight)
    return Data(x, None, labels, targets, row_weight)


def make_state(
    plan: Plan, dtype: npt.DTypeLike, with_second: bool = False
) -> tuple[FloatArray, Memory]:
    """Allocate the parameters and what a step knows of those before it: zeros."""
    dtype = np.dtype(dtype)
    _, size = _panel_table(plan, dtype)
    velocity = aligned(size, dtype, PAGE_BYTES // 2)
    second = make_second_moment(plan, dtype) if with_second else None
    return aligned(plan.n_parameters, dtype), Memory(velocity, second, np.zeros(1, np.int64))


def make_second_moment(plan: Plan, dtype: np.dtype[Any]) -> FloatArray:
    """Allocate what Adam keeps besides the velocity's place."""
    _, size = _panel_table(plan, dtype)
    return aligned(size, dtype, PAGE_BYTES // 4)


def copy_of(memory: Memory) -> Memory:
    """Return a memory of its own."""
    second = None if memory.second is None else memory.second.copy()
    return Memory(memory.velocity.copy(), second, memory.n_steps.copy())


def n_rows(data: Data) -> int:
    """Count the rows, sparse or not."""
    return len(data.x) if data.sparse is None else len(data.sparse.starts) - 1


def forget(memory: Memory) -> None:
    """Start over: no velocity, no moments, no step made."""
    for array in memory:
        if array is not None:
            array[:] = 0


def make_workspace(
    plan: Plan, data: Data, capacity: int, n_threads: int = 1, with_penalty: bool = False
) -> Workspace:
    """Allocate what a step on up to ``capacity`` rows of ``data`` writes."""
    dtype = data.x.dtype
    n_classes = plan.sizes[-1]
    n_hidden = capacity * plan.n_hidden
    n_out = capacity * n_classes
    packed = _packed_size(plan, capacity, dtype.itemsize)
    waiting = WAITING * lane_count(dtype)
    return Workspace(
        capacity=capacity,
        packed=aligned(n_threads * packed, dtype).reshape(n_threads, packed) if packed else None,
        waiting=aligned(n_threads * waiting, dtype).reshape(n_threads, waiting) if packed else None,
        x=aligned(capacity * Layer(*plan.table[0].tolist()).pitch, dtype),
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
        squares=np.zeros((len(plan.sizes) - 1, -(-max(plan.sizes) // PIECE)))
        if with_penalty
        else None,
    )


def _packed_size(plan: Plan, capacity: int, itemsize: int) -> int:
    """Numbers that a thread packs at a time; 0 where all is small, and no sums wait."""
    widest = max(plan.sizes)
    is_wide = widest >= PACKED_COLUMNS and capacity >= PACKED_ROWS
    if capacity <= K_BLOCK and not is_wide:
        return 0
    return min(PACKED_BYTES // itemsize, capacity * (widest + LINE) + MARGIN)


def make_parts(plan: Plan, n_threads: int) -> IndexArray:
    """Cut the weights into the parts that are updated at a time: layer, first row, end of rows.

    One thread takes whole layers.  Several share parts as equal as whole tiles allow, a few each.
    """
    parts = []
    for number, (fan_in, fan_out) in enumerate(pairwise(plan.sizes), start=1):
        rows = fan_in
        if n_threads > 1:
            rows = max(plan.n_weights // (PARTS_A_THREAD * n_threads * fan_out), PIECE)
            rows = -(-fan_in // (-(-fan_in // rows) * PIECE)) * PIECE
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
