"""The parts of the layer below the kernels that these do not reach on this machine."""

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numba.core import config
from numba.core.errors import TypingError

from fastbp import _llvm
from fastbp._compile import kernel
from fastbp._llvm import atomics, flat, products
from fastbp.kernels import rows


@kernel
def select_numbers(x):
    return _llvm.select(x > 0, x, 1.0)


@kernel
def magnitude_of_a_number(x):
    return _llvm.magnitude(x)


@kernel
def stack_row_of_any_size(x, registers):
    return _llvm.stack_row(flat(x), registers)[0]


@kernel
def prefetch_of_any_kind(x, written):
    _llvm.prefetch(flat(x), 0, written, 1)


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
    monkeypatch.setattr(products.platform, "machine", lambda: machine)
    assert products._tile_shape() == expected


def test_the_tile_asks_the_processor_where_nothing_is_set(monkeypatch):
    monkeypatch.setattr(config, "CPU_FEATURES", None)
    monkeypatch.setattr(config, "CPU_NAME", "host")
    features = llvm.get_host_cpu_features().flatten()
    found = products._tile_shape()
    monkeypatch.setattr(config, "CPU_FEATURES", features)
    assert products._tile_shape() == found


@kernel
def first_largest(z):
    return rows.first_largest(flat(z), z.shape[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 7, 16, 40])
def test_first_largest_passes_over_nan(n, dtype):
    z = np.full(n, np.nan, dtype)
    z[n // 2 :] = 3
    assert first_largest(z) == n // 2
