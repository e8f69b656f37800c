"""The register tile and the panels: what they compute, to the last bit, and where they write."""

from typing import NamedTuple

import numpy as np
import pytest
import reference
from tolerances import assert_product, assert_same_bits

from fastbp import _simd
from fastbp._compile import inlined, kernel
from fastbp._simd import Prefetched, Product, flat, offset
from fastbp._simd.tile import TILE_HEIGHT
from fastbp._simd.update_tile import UPDATE_HEIGHTS
from fastbp.kernels import _matmul
from fastbp.kernels.update import SgdRates

EDGE = 70  # numbers before and after a matrix: more than any register may read past its end
GAP = 5  # and between its rows
GUARD = -77.0  # what they are around a matrix that is written; around others NaN, which would show


class Matrix(NamedTuple):
    """A matrix in memory: its first number, and how far its rows and columns are apart."""

    numbers: object
    at: int
    row: int
    column: int

    def inside(self, *shape):
        """The matrix itself, as a view."""
        strides = [self.numbers.itemsize * step for step in (self.row, self.column)]
        return np.lib.stride_tricks.as_strided(self.numbers[self.at :], shape, strides)

    def assert_nothing_else_was_written(self, *shape):
        __tracebackhide__ = True
        numbers = self.numbers.copy()
        self._replace(numbers=numbers).inside(*shape)[:] = GUARD
        assert (numbers == GUARD).all()


def place(values, *, by_columns=False, around=np.nan):
    """Put a matrix among other numbers."""
    stored = values.T if by_columns else values
    step = stored.shape[1] + GAP
    numbers = np.full(EDGE + stored.shape[0] * step + EDGE, around, values.dtype)
    matrix = Matrix(numbers, EDGE, *((1, step) if by_columns else (step, 1)))
    matrix.inside(*values.shape)[:] = values
    return matrix


def guarded(values):
    """Put a matrix that is to be written among guards."""
    return place(values, around=GUARD)


def room_for(*shape, dtype):
    """A matrix that is to be written and not read."""
    return guarded(np.full(shape, np.nan, dtype))


# Primitives and parts of kernels, made callable from Python


@inlined
def first_of(matrix):
    """Its address."""
    return offset(flat(matrix.numbers), matrix.at)


@kernel
def add_products(a, b, count, rows, columns, c, first):
    """A tile; what it prefetches meanwhile are its own operands."""
    product = Product(first_of(a), a.row, a.column, first_of(b), b.row, count, rows, columns)
    ahead = Prefetched(first_of(b), b.row, first_of(c), c.row, first_of(a), a.row)
    _simd.add_products(product, ahead, first_of(c), c.row, first)


@kernel
def descend(a, b, count, rows, columns, w, velocity, hyper, nesterov):
    """A tile."""
    product = Product(first_of(a), a.row, a.column, first_of(b), b.row, count, rows, columns)
    places = Prefetched(first_of(b), b.row, first_of(w), w.row, first_of(velocity), velocity.row)
    rates = SgdRates(hyper[0], hyper[1], hyper[2], nesterov)
    _simd.sgd_update(product, places, first_of(w), first_of(velocity), w.row, rates)


@kernel
def turn(source, rows, columns, turned):
    """A square."""
    _simd.transpose(first_of(source), source.row, rows, columns, first_of(turned), turned.row)


@kernel
def copy_block(b, count, columns, block):
    """A block of B."""
    rows = _matmul.Matrix(first_of(b), b.row)
    _matmul.copy_block(rows, count, columns, first_of(block))


@kernel
def block_length(n):
    """Terms of the blocks that n terms are cut into."""
    return _matmul.k_block_of(n)


@kernel
def descent_height(n):
    """Rows of a tile that descends."""
    return _simd.update_tile_height(n)


def width_of(dtype):
    """Numbers in a register."""
    return _simd.width(np.empty(0, dtype))


def panel_width_of(dtype):
    """Columns in a panel."""
    return _simd.panel_width(np.empty(0, dtype))


def draw(*shape, dtype, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def integers(*shape, dtype, seed=0):
    """Small whole numbers, whose products add up exactly."""
    return np.random.default_rng([seed, *shape]).integers(-8, 9, shape).astype(dtype)


def tile_of(a, b, before=None, *, by_columns=False):
    """``a b``, or that added to ``before``, by one tile; it minds its place and its operands."""
    __tracebackhide__ = True
    (rows, count), columns = a.shape, b.shape[1]
    first, shape = before is None, (rows, columns)
    a, b = place(a, by_columns=by_columns), place(b)
    c = room_for(*shape, dtype=b.numbers.dtype) if first else guarded(before)
    operands = a.numbers.tobytes(), b.numbers.tobytes()
    add_products(a, b, count, rows, columns, c, first)
    assert (a.numbers.tobytes(), b.numbers.tobytes()) == operands
    c.assert_nothing_else_was_written(*shape)
    return c.inside(*shape).copy()


def every_tile(dtype, heights=range(1, TILE_HEIGHT + 1)):
    """Rows and columns of all tiles."""
    return [(rows, columns) for rows in heights for columns in range(1, panel_width_of(dtype) + 1)]


def largest(count, dtype, draw=draw):
    """The operands of the largest tile, and what it may be added to; the others are parts of it."""
    width = panel_width_of(dtype)
    return (
        draw(TILE_HEIGHT, count, dtype=dtype),
        draw(count, width, dtype=dtype, seed=1),
        draw(TILE_HEIGHT, width, dtype=dtype, seed=2),
    )


by_columns_too = pytest.mark.parametrize("by_columns", [False, True])


@by_columns_too
@pytest.mark.parametrize("count", [1, 2, 37])
def test_tiles_match_the_reference(count, by_columns, dtype):
    a, b, before = largest(count, dtype)
    exact = reference.wide(a) @ reference.wide(b)
    magnitude = reference.wide(abs(a)) @ abs(b)
    for rows, columns in every_tile(dtype):
        part = np.s_[:rows, :columns]
        got = tile_of(a[:rows], b[:, :columns], by_columns=by_columns)
        assert_product("product", got, exact[part], magnitude[part], count)
        got = tile_of(a[:rows], b[:, :columns], before[part], by_columns=by_columns)
        whole, size = exact + before, magnitude + abs(before)
        assert_product("product", got, whole[part], size[part], count + 1)


@by_columns_too
def test_tiles_of_whole_numbers_are_exact(by_columns, dtype):
    a, b, before = largest(5, dtype, integers)
    for rows, columns in every_tile(dtype):
        part = a[:rows], b[:, :columns]
        np.testing.assert_array_equal(tile_of(*part, by_columns=by_columns), part[0] @ part[1])
        held = before[:rows, :columns]
        got = tile_of(*part, held, by_columns=by_columns)
        np.testing.assert_array_equal(got, part[0] @ part[1] + held)


@by_columns_too
def test_bits_do_not_depend_on_the_tile(by_columns, dtype):
    a, b, before = largest(9, dtype)
    single, added = np.empty_like(before), np.empty_like(before)
    for i, j in np.ndindex(before.shape):
        entry = np.s_[i : i + 1, j : j + 1]
        operands = a[i : i + 1], b[:, j : j + 1]
        single[entry] = tile_of(*operands, by_columns=by_columns)
        added[entry] = tile_of(*operands, before[entry], by_columns=by_columns)
    for rows, columns in every_tile(dtype):
        part, operands = np.s_[-rows:, -columns:], (a[-rows:], b[:, -columns:])
        assert_same_bits(tile_of(*operands, by_columns=by_columns), single[part])
        assert_same_bits(tile_of(*operands, before[part], by_columns=by_columns), added[part])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_special_values_stay_in_their_row_and_column(value, dtype):
    a, b, _ = largest(6, dtype)
    expected = tile_of(a, b)
    row, column = TILE_HEIGHT // 2, panel_width_of(dtype) // 2
    for operand, at, hit in ((a, (row, 3), np.s_[row]), (b, (3, column), np.s_[:, column])):
        kept = operand[at]
        operand[at] = value
        with np.errstate(invalid="ignore"):
            got = tile_of(a, b)
        operand[at] = kept
        assert not np.isfinite(got[hit]).any()
        got[hit] = expected[hit]
        assert_same_bits(got, expected)


def test_sums_are_cut_into_equal_blocks():
    assert _matmul.K_BLOCK == 128
    for n, length in ((1, 1), (127, 127), (128, 128), (129, 65), (256, 128), (257, 86), (385, 97)):
        assert block_length(n) == length
    for n in range(1, 1000):
        length = block_length(n)
        assert 1 <= length <= 128
        n_blocks = -(-n // length)
        assert n_blocks == -(-n // 128)  # as few as can be
        assert length == -(-n // n_blocks)  # and as equal


def test_registers_and_panels(dtype):
    panel, register = panel_width_of(dtype), width_of(dtype)
    assert register == 64 // dtype.itemsize
    assert panel % register == 0


def test_any_rows_are_made_up_of_tiles_that_descend():
    assert {1, TILE_HEIGHT} <= set(UPDATE_HEIGHTS)
    for n in range(1, 30):
        assert descent_height(n) == max(h for h in UPDATE_HEIGHTS if h <= n)


# The update


@pytest.mark.parametrize("l2", [0.0, 0.03])
@pytest.mark.parametrize("nesterov", [False, True])
def test_descent_equals_the_products_and_then_the_update(l2, nesterov, dtype):
    """Each of its operations is rounded on its own; rows of weights are whole registers."""
    count = 9
    a, b, like = largest(count, dtype)
    w, velocity = (draw(*like.shape, dtype=dtype, seed=seed) for seed in (3, 4))
    eta, mu, penalty = map(dtype.type, (0.3, 0.9, l2))
    for rows, columns in every_tile(dtype, UPDATE_HEIGHTS):
        part = np.s_[:rows, :columns]
        descent = eta * (tile_of(a[:rows], b[:, :columns]) + penalty * w[part])
        v = mu * velocity[part] - descent
        step = mu * v - descent if nesterov else v
        rest = (0, 0), (0, whole_registers(columns, dtype) - columns)
        found = [guarded(np.pad(old[part], rest)) for old in (w, velocity)]
        descend(
            *(place(a[:rows], by_columns=True), place(b[:, :columns]), count, rows, columns),
            *(*found, (0.3, 0.9, l2), nesterov),
        )
        for matrix, expected in zip(found, (w[part] + step, v), strict=True):
            assert_holds(matrix, expected, rows, columns + rest[1][1])


# Blocks of B


def assert_holds(block, expected, *shape):
    """Whole registers of the expected numbers, and zeros behind them; nothing else."""
    __tracebackhide__ = True
    block.assert_nothing_else_was_written(*shape)
    rows, columns = expected.shape
    np.testing.assert_array_equal(block.inside(*shape)[:rows, :columns], expected)
    rest = block.inside(*shape).copy()
    rest[:rows, :columns] = 0
    assert_same_bits(rest, np.zeros_like(rest))


def whole_registers(n, dtype):
    """Numbers in the registers that n numbers take."""
    return -(-n // width_of(dtype)) * width_of(dtype)


def test_turn(dtype):
    lanes = width_of(dtype)
    square = draw(lanes, lanes, dtype=dtype)
    for rows in range(1, lanes + 1):
        for columns in range(1, lanes + 1):
            turned = room_for(columns, lanes, dtype=dtype)
            source = place(square[:rows, :columns])
            turn(source, rows, columns, turned)
            assert_holds(turned, square[:rows, :columns].T, columns, lanes)


def test_turn_takes_as_much_as_fits(dtype):
    lanes = width_of(dtype)
    values, turned = draw(lanes + 3, lanes + 2, dtype=dtype), room_for(lanes, lanes, dtype=dtype)
    turn(place(values), lanes + 3, lanes + 2, turned)
    assert_holds(turned, values[:lanes, :lanes].T, lanes, lanes)


@pytest.mark.parametrize("count", [1, 2, 17, 64])
def test_copy_of_a_block(count, dtype):
    panel = panel_width_of(dtype)
    b = draw(count, panel, dtype=dtype)
    for columns in range(1, panel + 1):
        block = block_for(count, dtype)
        copy_block(place(b[:, :columns]), count, columns, block)
        assert_holds(block, b[:, :columns], count, whole_registers(columns, dtype))


def block_for(count, dtype):
    """Room for a block; its rows are as long as a panel is wide."""
    panel = panel_width_of(dtype)
    numbers = np.full(EDGE + count * panel + EDGE, GUARD, dtype)
    return Matrix(numbers, EDGE, panel, 1)


def test_block_of_each_size_fits_on_the_stack(dtype):
    assert _matmul.K_BLOCK * panel_width_of(dtype) <= _matmul.BLOCK_VECTORS * width_of(dtype)
