"""Vector registers as values: the only package that writes LLVM IR.

Numba has no vector type, and LLVM's own vectoriser gives up on short rows, on reductions (which it
may not reorder) and on remainders.  Here a *lanes* value stands for one register's worth of
numbers: ``LANES_BYTES`` of them, 16 float32 or 8 float64, or twice as many float64 where float32 is
widened.  LLVM splits lanes that are wider than the machine's registers, so one source serves
AVX-512, AVX2 and NEON, and since every operation and its order is written out, the bits are the
same on all of them.

Each primitive is a plain Python function that states its meaning in NumPy (that body runs under
``NUMBA_DISABLE_JIT=1``, with lanes as one-dimensional arrays) and, just above it, what it emits
when compiled.  Like the kernels, primitives check nothing: ``load`` reads a whole register whatever
the array's length.
"""

from fastbp._simd.arithmetic import (
    biased_power_of_two,
    binary_exponent,
    fma,
    larger,
    magnitude,
    not_below,
    polynomial,
    power_of_two,
    scaled_near,
    select,
    square_root,
)
from fastbp._simd.atomics import count, count_below, publish, seen, wait_for
from fastbp._simd.conversion import convert, fill, is_double, lane, pick, scalar, widen
from fastbp._simd.memory import (
    at,
    flat,
    lanes_before,
    load,
    load_first,
    load_like,
    offset,
    prefetch,
    put,
    row,
    stack_row,
    store,
    store_first,
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
from fastbp._simd.tile import (
    CHAIN,
    add_products,
    descend,
    descent_height,
    panel_width,
    tile_height,
)
from fastbp._simd.transpose import load_transposed, store_transposed, turn
from fastbp._simd.vector import lane_count

__all__ = [
    "CHAIN",
    "add_products",
    "add_sums",
    "any_lane",
    "at",
    "biased_power_of_two",
    "binary_exponent",
    "convert",
    "count",
    "count_below",
    "descend",
    "descent_height",
    "every_lane",
    "fill",
    "first_lane",
    "flat",
    "fma",
    "is_double",
    "lane",
    "lane_count",
    "lanes_before",
    "larger",
    "load",
    "load_first",
    "load_like",
    "load_transposed",
    "magnitude",
    "max_lanes",
    "max_of_vectors",
    "not_below",
    "offset",
    "panel_width",
    "pick",
    "polynomial",
    "power_of_two",
    "prefetch",
    "publish",
    "put",
    "row",
    "scalar",
    "scaled_near",
    "seen",
    "select",
    "square_root",
    "stack_row",
    "store",
    "store_first",
    "store_transposed",
    "sum_lanes",
    "sum_of_vectors",
    "tile_height",
    "turn",
    "wait_for",
    "widen",
    "width",
]
