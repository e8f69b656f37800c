"""Vectors as values: the only room that writes LLVM IR.

Numba has no vector type.  LLVM's own vectoriser gives up on short rows, on reductions, which it may
not reorder, and on remainders.  Here a *vector* is a value of ``VECTOR_BYTES`` bytes: 16 lanes of
float32 or 8 of float64; a vector of float32 that is converted has 16 lanes of float64.  LLVM splits
vectors that are wider than the machine's registers: one source serves AVX-512, AVX2 and NEON.
Every operation and its order is written out, so the bits are the same on all of them.

Each intrinsic is a Python function that states its meaning in NumPy, and runs so under
``NUMBA_DISABLE_JIT=1`` with vectors as one-dimensional arrays.  Just above it stands the function
that emits its LLVM IR.  Like the kernels, intrinsics check nothing: ``load`` reads a whole vector,
whatever the array's length.
"""

from fastbp._simd.arithmetic import (
    biased_power_of_two,
    binary_exponent,
    fabs,
    fma,
    fmax,
    not_below,
    polynomial,
    power_of_two,
    scaled_near,
    select,
    sqrt,
)
from fastbp._simd.atomics import fetch_add, fetch_add_below, load_acquire, store_release, wait_for
from fastbp._simd.conversion import (
    broadcast,
    constant_for,
    convert,
    is_double,
    lane,
    scalar,
    to_float64,
)
from fastbp._simd.memory import (
    at,
    flat,
    lanes_before,
    load,
    load_bytes,
    load_like,
    load_masked,
    offset,
    prefetch,
    put,
    row,
    stack_row,
    store,
    store_masked,
    width,
)
from fastbp._simd.reductions import (
    add_sums,
    any_lane,
    every_lane,
    first_lane,
    max_lanes,
    max_of_vectors,
    sum_lanes,
    sum_of_vectors,
)
from fastbp._simd.tile import CHAIN, Prefetched, Product, add_products, panel_width, tile_height
from fastbp._simd.transpose import load_transposed, store_transposed, transpose
from fastbp._simd.update_tile import momentum_update, sgd_update, update_tile_height
from fastbp._simd.vector import lane_count

__all__ = [
    "CHAIN",
    "Prefetched",
    "Product",
    "add_products",
    "add_sums",
    "any_lane",
    "at",
    "biased_power_of_two",
    "binary_exponent",
    "broadcast",
    "constant_for",
    "convert",
    "every_lane",
    "fabs",
    "fetch_add",
    "fetch_add_below",
    "first_lane",
    "flat",
    "fma",
    "fmax",
    "is_double",
    "lane",
    "lane_count",
    "lanes_before",
    "load",
    "load_acquire",
    "load_bytes",
    "load_like",
    "load_masked",
    "load_transposed",
    "max_lanes",
    "max_of_vectors",
    "momentum_update",
    "not_below",
    "offset",
    "panel_width",
    "polynomial",
    "power_of_two",
    "prefetch",
    "put",
    "row",
    "scalar",
    "scaled_near",
    "select",
    "sgd_update",
    "sqrt",
    "stack_row",
    "store",
    "store_masked",
    "store_release",
    "store_transposed",
    "sum_lanes",
    "sum_of_vectors",
    "tile_height",
    "to_float64",
    "transpose",
    "update_tile_height",
    "wait_for",
    "width",
]
