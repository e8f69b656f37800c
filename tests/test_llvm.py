"""The parts of the layer below the kernels that these do not reach on this machine."""

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numba.core import config
from numba.core.errors import TypingError

from fastbp import _simd
from fastbp._compile import kernel
from fastbp._simd import atomics, flat, tile
from fastbp.kernels import _rows


@kernel
def select_numbers(x):
    return _simd.select(x > 0, x, 1.0)


@kernel
def magnitude_of_a_number(x):
    return _simd.fabs(x)


@kernel
def stack_row_of_any_size(x, registers):
    return _simd.stack_row(flat(x), registers)[0]


@kernel
def prefetch_of_any_kind(x, written):
    _simd.prefetch(flat(x), 0, written, 1)


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (select_numbers, (1.0,)),
        (magnitude_of_a_number, (1.0,)),
        (stack_row_of_any_size, (np.ones(64), 2)),
        (prefetch_of_any_kind, (np.ones(64), 1)),
    ],
)
def test_operands_of_another_type_do_not_compile(function, arguments):
    with pytest.raises(TypingError):
        function(*arguments)


@pytest.mark.parametrize(
    ("triple", "expected"),
    [
        ("x86_64-unknown-linux-gnu", 'call void @"llvm.x86.sse2.pause"()'),
        ("aarch64-apple-darwin", 'call void @"llvm.aarch64.hint"(i32 1)'),
        ("riscv64-unknown-linux-gnu", "ret void"),
    ],
)
def test_a_waiting_loop_pauses_as_the_processor_can(triple, expected):
    module = ir.Module()
    module.triple = triple
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), []), "wait")
    builder = ir.IRBuilder(function.append_basic_block())
    atomics._pause(builder)
    builder.ret_void()
    body = str(function).split("{")[1].split("\n")
    assert [line.strip() for line in body if line.strip()][1] == expected


@pytest.mark.parametrize(
    ("features", "name", "machine", "expected"),
    [
        ("+avx512f,+avx2", None, "x86_64", (7, 2)),
        ("+avx,+avx2", None, "AMD64", (6, 1)),
        ("+sse2", None, "x86_64", (3, 1)),
        ("", None, "aarch64", (6, 1)),
        (None, "generic", "x86_64", (3, 1)),
    ],
)
def test_the_tile_fits_the_registers(features, name, machine, expected, monkeypatch):
    monkeypatch.setattr(config, "CPU_FEATURES", features)
    monkeypatch.setattr(config, "CPU_NAME", name)
    monkeypatch.setattr(tile.platform, "machine", lambda: machine)
    assert tile._tile_shape() == expected


def test_the_tile_asks_the_processor_where_nothing_is_set(monkeypatch):
    monkeypatch.setattr(config, "CPU_FEATURES", None)
    monkeypatch.setattr(config, "CPU_NAME", "host")
    features = llvm.get_host_cpu_features().flatten()
    found = tile._tile_shape()
    monkeypatch.setattr(config, "CPU_FEATURES", features)
    assert tile._tile_shape() == found


@kernel
def first_largest(z):
    return _rows.first_largest(flat(z), z.shape[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 7, 16, 40])
def test_first_largest_passes_over_nan(n, dtype):
    z = np.full(n, np.nan, dtype)
    z[n // 2 :] = 3
    assert first_largest(z) == n // 2


@kernel
def not_below(x, y, found):
    for i in range(x.shape[0]):
        found[i] = 0.0
        mask = _simd.not_below(_simd.lane(x[i]), _simd.lane(y[i]))
        found[i] = _simd.scalar(_simd.select(mask, 1.0, _simd.lane(found[i])))


def test_not_below_is_set_for_nan():
    x, y = np.array([1.0, 2.0, 3.0, np.nan, 2.0]), np.array([2.0, 2.0, 2.0, 2.0, np.nan])
    found = np.empty(5)
    not_below(x, y, found)
    np.testing.assert_array_equal(found, [0, 1, 1, 1, 1])


@kernel
def biased_powers_of_two(shifted, powers):
    for i in range(shifted.shape[0]):
        powers[i] = _simd.scalar(_simd.biased_power_of_two(_simd.lane(shifted[i])))


@pytest.mark.parametrize(
    ("dtype", "least", "most"), [("float32", -126, 127), ("float64", -1022, 1023)]
)
def test_biased_power_of_two_of_every_normal_exponent(dtype, least, most):
    n = np.arange(least, most + 1)
    powers = np.empty(n.size, dtype)
    biased_powers_of_two((1.5 * 2.0 ** np.finfo(dtype).nmant + n + most).astype(dtype), powers)
    np.testing.assert_array_equal(powers, np.ldexp(np.ones(1, dtype), n))


@kernel
def scaled_near(x, y, k, scaled):
    for i in range(x.shape[0]):
        k_i, scaled_i = _simd.scaled_near(_simd.lane(x[i]), _simd.lane(y[i]))
        k[i], scaled[i] = _simd.scalar(k_i), _simd.scalar(scaled_i)


def test_scaled_near():
    rng = np.random.default_rng(0)
    x = np.ldexp(rng.uniform(1, 2, 1000), rng.integers(-300, 300, 1000))
    y = np.ldexp(rng.uniform(1, 2, 1000), rng.integers(-300, 300, 1000))
    k, scaled = np.empty(1000), np.empty(1000)
    scaled_near(x, y, k, scaled)
    np.testing.assert_array_equal(scaled, np.ldexp(x, k.astype(int)))
    assert np.all(np.abs(np.log(scaled / y)) <= np.log(1.51))


@kernel
def add_sums(x, sums, parts):
    like = _simd.flat(x)
    zeros = _simd.to_float64(_simd.broadcast(like, 0.0))
    total, lost = _simd.add_sums(
        like,
        zeros + sums[0],
        zeros + sums[1],
        zeros + parts[0],
        zeros + parts[1],
    )
    _simd.store(_simd.flat(sums), 0, total)
    _simd.store(_simd.flat(sums), _simd.width(x), lost)


@pytest.mark.parametrize(
    ("dtype", "lost"), [("float32", 2.0**-60), ("float64", 2.0**-53 + 1.25 * 2.0**-60)]
)
def test_add_sums(dtype, lost):
    """What 1.5 has no place for is kept in float64; in float32 it is too small to matter."""
    width = 64 // np.dtype(dtype).itemsize
    sums = np.zeros(2 * width)
    sums[:2] = 1.0, 2.0**-60
    add_sums(np.empty(1, dtype), sums, np.array([0.5 + 2.0**-53, 2.0**-62]))
    np.testing.assert_array_equal(sums[:width], 1.5)
    np.testing.assert_array_equal(sums[width:], lost)


@kernel
def max_of_vectors(scratch, largest):
    _simd.store(_simd.flat(largest), 0, _simd.max_of_vectors(_simd.flat(scratch)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_max_of_vectors(dtype):
    width = 64 // np.dtype(dtype).itemsize
    x = np.random.default_rng(1).normal(size=(width, width)).astype(dtype)
    largest = np.empty(width, dtype)
    max_of_vectors(x.ravel(), largest)
    np.testing.assert_array_equal(largest, x.max(axis=1))


@kernel
def sum_of_vectors(like, scratch, sums):
    total, lost = _simd.sum_of_vectors(like, _simd.flat(scratch))
    _simd.store(_simd.flat(sums), 0, total)
    _simd.store(_simd.flat(sums), _simd.width(like), lost)


@kernel
def sum_lanes(x, lost, sums):
    like = _simd.flat(x)
    total, low = _simd.sum_lanes(_simd.load(like, 0), _simd.load(_simd.flat(lost), 0))
    sums[0], sums[1] = _simd.scalar(total), _simd.scalar(low)


def test_sum_of_vectors_in_float32_is_that_of_each_alone():
    """Exact to a few roundings of float64; halves are added to halves."""
    x = np.random.default_rng(2).normal(size=(16, 2, 16))
    sums = np.empty(32)
    sum_of_vectors(np.empty(1, "float32"), x.ravel(), sums)
    expected = x[:, 0].T
    while len(expected) > 1:
        expected = expected[: len(expected) // 2] + expected[len(expected) // 2 :]
    np.testing.assert_array_equal(sums[:16], expected[0])
    np.testing.assert_array_equal(sums[16:], 0.0)


def test_sum_of_vectors_in_float64_is_that_of_each_alone():
    x = np.random.default_rng(3).normal(size=(8, 2, 8))
    x[:, 1] *= 2.0**-53
    sums, alone = np.empty(16), np.empty(2)
    sum_of_vectors(np.empty(1), x.ravel(), sums)
    for r, (total, lost) in enumerate(x):
        sum_lanes(total.copy(), lost.copy(), alone)
        whole = alone[0] + alone[1]
        assert (sums[r], sums[8 + r]) == (whole, alone[1] - (whole - alone[0]))


@kernel
def transpose_and_back(x, n_rows, n_classes, tile, y):
    for column in range(0, n_classes, _simd.width(x)):
        _simd.load_transposed(_simd.flat(x), n_classes, n_rows, column, _simd.flat(tile))
    for column in range(0, n_classes, _simd.width(x)):
        _simd.store_transposed(_simd.flat(tile), _simd.flat(y), n_classes, n_rows, column)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_rows", [1, 3, 8])
@pytest.mark.parametrize("n_classes", [1, 7, 8, 17, 32])
def test_transposed_rows(dtype, n_rows, n_classes):
    """Vector past the last row repeat it, and nothing past the last column is written."""
    width = 64 // np.dtype(dtype).itemsize
    x = np.arange(1, n_rows * n_classes + 1, dtype=dtype)
    tile, y = np.full(32 * width, np.nan, dtype), np.zeros(x.size + width, dtype)
    transpose_and_back(x, n_rows, n_classes, tile, y)
    np.testing.assert_array_equal(y[: x.size], x)
    np.testing.assert_array_equal(y[x.size :], 0)
    lanes = tile.reshape(32, width)[:n_classes]
    np.testing.assert_array_equal(lanes[:, :n_rows].T.ravel(), x)
    np.testing.assert_array_equal(
        lanes[:, n_rows:], np.tile(lanes[:, n_rows - 1 : n_rows], width - n_rows)
    )
