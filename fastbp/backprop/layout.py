"""Where each layer lies: parameters in one flat vector, units in a workspace.

The vector of parameters holds the weights of every layer, each matrix in C order, then the biases
of every layer.  Offsets into it replace lists of arrays: one compiled specialisation per dtype
serves every architecture, and an optimizer, a checkpoint or a penalty sees a single vector.

During training, the parameters lie in a second vector, in panel form: see
``fastbp.kernels._matmul``.  The optimizer's state always lies in panel form.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp._simd import lane_count, panel_width
from fastbp.kernels._gradient import MARGIN
from fastbp.kernels.activation import ACTIVATIONS

FloatArray = npt.NDArray[Any]
IndexArray = npt.NDArray[np.intp]

LINE = 16  # float32 elements of a cache line
PAGE_BYTES = 4096


class Layer(NamedTuple):
    """Where a layer lies; the input layer has only units and a row stride.

    Weights and biases start at ``weight_at`` and ``bias_at`` of the flat vector.  In a workspace
    for ``capacity`` rows, the units of a hidden layer start at ``capacity * unit_at``, one row
    every ``row_stride`` elements.  ``activation`` is an index of ``ACTIVATIONS``.  The weights and
    biases of the first ``n_fixed`` units stay what they are: zeros, as a rule.
    """

    units: int
    row_stride: int
    unit_at: int
    weight_at: int
    bias_at: int
    activation: int
    n_fixed: int


# Places of a layer's fields in its row of the table
UNITS, ROW_STRIDE, UNIT_AT, WEIGHT_AT, BIAS_AT, ACTIVATION, N_FIXED = range(7)
N_FIELDS = 7


class Plan(NamedTuple):
    """Where the layers l = 0..L of a network lie; layer 0 is the input.

    Row l of ``table`` (L+1, 7), which compiled code reads, is a `Layer`.
    """

    table: IndexArray
    n_weights: int
    n_parameters: int
    n_hidden: int  # elements of a row of all hidden layers

    @property
    def sizes(self) -> list[int]:
        """Units of each layer."""
        return [int(n) for n in self.table[:, UNITS]]


def make_plan(layer_sizes: Sequence[int], activation: str = "sigmoid", n_fixed: int = 0) -> Plan:
    """Lay the layers of ``layer_sizes`` out: all weights, then all biases.

    ``activation`` is that of the hidden layers; ``n_fixed`` units of the last one are fixed.
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
        row_stride = units if is_last else (-(-units // LINE) | 1) * LINE
        kind = ACTIVATIONS.index("identity" if is_last or number == 0 else activation)
        place = units, row_stride, unit_at, weight_at, bias_at
        layers.append(Layer(*place, kind, n_fixed if is_last else 0))
        if number > 0:
            weight_at += layer_sizes[number - 1] * units
            bias_at += units
            unit_at += 0 if is_last else row_stride
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
    """A vector laid out as the parameters, and the same vector in panel form.

    Attributes
    ----------
    table : ndarray of intp
        As ``Plan.table``, for the vector in panel form.
    plan : Plan
    plain, numbers : ndarray
        The two vectors.  In ``numbers``, elements behind the last column of a panel are zero.
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
        """Copy the plain vector to panel form."""
        for plain, panel in self._pairs:
            panel[:] = plain

    def write_back(self) -> None:
        """Copy panel form back to the plain vector."""
        for plain, panel in self._pairs:
            plain[:] = panel


def _whole(numbers: FloatArray) -> int:
    """Elements of the whole vectors that hold an array."""
    return -(-len(numbers) // lane_count(numbers.dtype)) * lane_count(numbers.dtype)


def panel_size(plan: Plan, dtype: npt.DTypeLike) -> int:
    """Count the elements of a vector in panel form."""
    return _panel_table(plan, np.dtype(dtype))[1]


def _panel_table(plan: Plan, dtype: np.dtype[Any]) -> tuple[IndexArray, int]:
    table, at = plan.table.copy(), 0
    whole = -(-table[1:, UNITS] // lane_count(dtype)) * lane_count(dtype)
    for layer, fan_in, units in zip(table[1:], table[:-1, UNITS], whole, strict=True):
        layer[WEIGHT_AT] = at
        at += fan_in * units
    for layer, units in zip(table[1:], whole, strict=True):
        layer[BIAS_AT] = at
        at += units
    return table, int(at)


def as_panels(plan: Plan, plain: FloatArray, numbers: FloatArray) -> None:
    """Copy a vector laid out as the parameters to one in panel form."""
    Panels(plan, plain, numbers).fill()


def as_plain(plan: Plan, numbers: FloatArray) -> FloatArray:
    """Return a vector in panel form, laid out as the parameters."""
    plain = np.empty(plan.n_parameters, numbers.dtype)
    Panels(plan, plain, numbers).write_back()
    return plain


def aligned(n: int, dtype: npt.DTypeLike, page_offset: int = 0) -> FloatArray:
    """Allocate ``n`` zeros that start at a cache line, and a margin behind them.

    Fresh memory may hold subnormal numbers, and lanes behind the last column take part in sums
    before they are dropped: zeros keep these sums fast.

    The first element lies ``page_offset`` bytes into a page of 4096.  Arrays that are used side by
    side need different offsets: a load waits for an earlier store whose address has the same last
    12 bits.
    """
    dtype = np.dtype(dtype)
    memory = np.zeros(n + MARGIN + PAGE_BYTES // dtype.itemsize, dtype)
    start = (page_offset - memory.ctypes.data) % PAGE_BYTES // dtype.itemsize
    return memory[start : start + n]


def multiply_adds(plan: Plan, rows: int, passes: int) -> int:
    """Estimate the cost of ``rows`` rows: a training step has three passes, prediction one."""
    # An exponential per unit costs about 20 multiply-adds, the bookkeeping of a row about 500.
    return rows * passes * (plan.n_weights + 20 * sum(plan.sizes) + 500)
