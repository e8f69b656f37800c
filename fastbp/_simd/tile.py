"""The register tile: sums of products that never leave their registers.

A tile of C = A B holds up to ``tile_height`` rows and ``panel_width`` columns in accumulators.
Each step of the loop over k loads one row of B, and multiplies it by one element of each row of A:
a tile of 7 x 32 elements makes 14 fused multiply-adds of 16 lanes for 9 loads.

Rounding errors grow with the length of a sum.  So only ``CHAIN`` products are summed in a row.  A
second set of accumulators adds the sums of the chains, at the price of one addition per ``CHAIN``
multiply-adds.

Memory is slower than the tile.  So each chain of a tile prefetches a row that the next tiles read
or write.  A burst of prefetches would fill the buffers that A and B need; spread over the products,
prefetches cost nothing.
"""

from __future__ import annotations

import platform
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils, config, types

from fastbp._simd.arithmetic import fma
from fastbp._simd.intrinsics import intrinsic
from fastbp._simd.memory import (
    first_lanes,
    masked_load,
    masked_store,
    prefetch_line,
    read_vector,
)
from fastbp._simd.vector import (
    INT64,
    Vector,
    call_intrinsic,
    constant,
    ir_type,
    lane_count,
    register_of,
    splat,
)

BIT = ir.IntType(1)
ROWS_PER_POINTER = 3

# Products that are summed in a row
CHAIN = 16


class Product(NamedTuple):
    """Operands of a tile C = A B; at most ``tile_height()`` rows, ``panel_width`` columns."""

    a: Any  # a[r, k] lies at ``r * a_row + k * a_k``
    a_row: Any
    a_k: Any
    b: Any  # read in whole vectors
    b_row: Any
    n_terms: Any  # of a sum: values of k, at least 1
    n_rows: Any
    n_columns: Any


class Prefetched(NamedTuple):
    """Rows of three matrices to prefetch during a tile, one of each per chain.

    The rows need not exist; with a ``read_row`` of 0, nothing is prefetched.
    """

    read: Any
    read_row: Any
    written: Any
    written_row: Any
    updated: Any
    updated_row: Any


def _tile_shape() -> tuple[int, int]:
    """Rows of a tile, and vectors of a row, so that the accumulators fit in registers.

    The second set of accumulators is used once per chain, and may lie in the first-level cache.
    The shape decides which elements are computed side by side; no result depends on it.
    """
    features = config.CPU_FEATURES
    if features is None:
        named = config.CPU_NAME not in (None, "host")
        features = "" if named else llvm.get_host_cpu_features().flatten()
    if "+avx512f" in features:
        return 7, 2  # 32 registers of a vector
    if platform.machine().lower() in ("x86_64", "amd64") and "+avx" not in features:
        return 3, 1  # 16 registers of a quarter of a vector
    return 6, 1  # AVX2: 16 registers of half a vector; NEON: 32 of a quarter


TILE_HEIGHT, TILE_VECTORS = _tile_shape()


def tile_function(
    module: Any, vector: Vector, name: str, heights: Any, kinds: list[Any], finish: Any
) -> Any:
    """Tiles of these heights and of every width, as one function of the module.

    Its arguments are the fields of `Product` and `Prefetched`, then those of ``finish``.
    """
    name = f"fastbp.{name}.{vector.dtype}"
    if name in module.globals:
        return module.globals[name]
    row = [ir_type(vector).element.as_pointer(), INT64]
    common = [*row, INT64, *row, INT64, INT64, INT64, *row, *row, *row]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [*common, *kinds]), name)
    # Every module that calls it has a copy, the program keeps one, and no caller inlines it.
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    a, a_row, a_k, b, b_row, n_terms, n_rows, n_columns, *lines = function.args[: len(common)]
    # Half a vector for few columns: where registers are narrower than a vector, it costs half.
    half = vector.count // 2
    shapes = [[half], *([vector.count] * n for n in range(1, TILE_VECTORS + 1))]
    whole = builder.add(n_columns, constant(INT64, vector.count - 1))
    whole = builder.sdiv(whole, constant(INT64, vector.count))
    is_half = builder.icmp_signed("<=", n_columns, constant(INT64, half))
    shape = builder.select(is_half, constant(INT64, 0), whole)
    variant = builder.add(builder.mul(n_rows, constant(INT64, len(shapes))), shape)
    impossible = function.append_basic_block("impossible")
    ir.IRBuilder(impossible).unreachable()
    switch = builder.switch(variant, impossible)
    for height in heights:
        for number, widths in enumerate(shapes):
            block = function.append_basic_block(f"tile.{height}.{number}")
            switch.add_case(constant(INT64, len(shapes) * height + number), block)
            tile = ir.IRBuilder(block)
            vectors = [ir.VectorType(ir_type(vector).element, width) for width in widths]
            sums = _sums(tile, (a, a_row, a_k, b, b_row, n_terms), lines, vectors, height)
            n_last = tile.sub(n_columns, constant(INT64, sum(widths[:-1])))
            exists = [constant(ir.VectorType(BIT, width), 1) for width in widths[:-1]]
            exists.append(first_lanes(tile, n_last, widths[-1]))
            finish(tile, sums, exists, *function.args[len(common) :])
            tile.ret_void()
    return function


def _hide(builder: Any, pointer: Any) -> Any:
    """The same pointer; LLVM no longer knows how it was computed."""
    name = "llvm.launder.invariant.group.p0"
    kind = ir.FunctionType(pointer.type, [pointer.type])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [pointer])


def _sums(builder: Any, operands: Any, lines: Any, vectors: list[Any], height: int) -> Any:
    """The loops over k: sums[row][vector].  ``lines``: the fields of `Prefetched`."""
    a, a_row, a_k, b, b_row, n_terms = operands
    # A pointer for every ROWS_PER_POINTER rows of a.  If LLVM saw that they belong together, it
    # would step one pointer from row to row and on to the next k: a chain of additions that takes
    # as long as the products.
    groups = [
        _hide(builder, builder.gep(a, [builder.mul(a_row, constant(INT64, r))])) if r else a
        for r in range(0, height, ROWS_PER_POINTER)
    ]
    n_pointers, n_lines = 1 + len(groups), len(lines) // 2
    prefetches = builder.icmp_signed("!=", lines[1], constant(INT64, 0))
    zeros = [constant(vector, 0.0) for _ in range(height) for vector in vectors]

    def write_chain(chain: _Loop) -> list[Any]:
        """One k: every sum grows by one product."""
        b_now, *state = chain.state
        a_now, sums = state[: len(groups)], state[len(groups) :]
        b_now_row = [
            read_vector(builder, b_now, constant(INT64, v * vectors[0].count), vector)
            for v, vector in enumerate(vectors)
        ]
        grown: list[Any] = []
        for r in range(height):
            group, within = divmod(r, ROWS_PER_POINTER)
            place = builder.gep(a_now[group], [builder.mul(a_row, constant(INT64, within))])
            factor = builder.load(place)
            for b_v in b_now_row:
                operands = [splat(builder, factor, b_v.type.count), b_v, sums[len(grown)]]
                grown.append(call_intrinsic(builder, "llvm.fma", b_v.type, operands))
        return [
            builder.gep(p, [step]) for p, step in [(b_now, b_row), *((p, a_k) for p in a_now)]
        ] + grown

    def write_chains(chains: _Loop) -> list[Any]:
        """CHAIN terms (or what is left) summed from nothing, then added."""
        pointers = chains.state[:n_pointers]
        lines_now = chains.state[n_pointers : n_pointers + n_lines]
        sums = chains.state[n_pointers + n_lines :]
        with builder.if_then(prefetches):
            for number, place in enumerate(lines_now):
                for v, vector in enumerate(vectors):
                    line = builder.gep(place, [constant(INT64, v * vector.count)])
                    prefetch_line(builder, line, written=int(number > 0), level=2)
        is_short = builder.icmp_signed("<", chains.left, constant(INT64, CHAIN))
        length = builder.select(is_short, chains.left, constant(INT64, CHAIN))
        chain = _Loop(builder, length, 1, [*pointers, *zeros], write_chain)
        terms = chain.result[n_pointers:]
        added = [builder.fadd(x, y) for x, y in zip(sums, terms, strict=True)]
        stepped = [builder.gep(p, [row]) for p, row in zip(lines_now, lines[1::2], strict=True)]
        return [*chain.result[:n_pointers], *stepped, *added]

    chains = _Loop(builder, n_terms, CHAIN, [b, *groups, *lines[::2], *zeros], write_chains)
    flat = iter(chains.result[n_pointers + n_lines :])
    return [[next(flat) for _ in vectors] for _ in range(height)]


class _Loop:
    """A loop that counts ``left`` down by ``step`` to nothing; ``write`` returns the next state."""

    def __init__(self, builder: Any, left: Any, step: int, state: list[Any], write: Any) -> None:
        before = builder.block
        start = builder.append_basic_block("loop")
        builder.branch(start)
        builder.position_at_end(start)
        self.left = builder.phi(INT64)
        self.state = [builder.phi(value.type) for value in state]
        self.result: list[Any] = write(self)
        left_next = builder.sub(self.left, constant(INT64, step))
        for phi, first, following in zip(
            [self.left, *self.state], [left, *state], [left_next, *self.result], strict=True
        ):
            phi.add_incoming(first, before)
            phi.add_incoming(following, builder.block)
        done = builder.append_basic_block("done")
        more = builder.icmp_signed(">", left_next, constant(INT64, 0))
        builder.cbranch(more, start, done)
        builder.position_at_end(done)


def _finish_sum(builder: Any, sums: Any, exists: list[Any], c: Any, c_row: Any, first: Any) -> None:
    cells = [
        (total, place_of(builder, c, c_row, r, v, total), exists[v])
        for r, row_sums in enumerate(sums)
        for v, total in enumerate(row_sums)
    ]
    before = builder.block
    with builder.if_then(builder.not_(first)):
        added = [
            builder.fadd(masked_load(builder, place, mask, constant(total.type, 0.0)), total)
            for total, place, mask in cells
        ]
        after = builder.block
    results = [builder.phi(total.type) for total, _, _ in cells]
    for result, grown, (total, place, mask) in zip(results, added, cells, strict=True):
        result.add_incoming(total, before)
        result.add_incoming(grown, after)
        masked_store(builder, result, place, mask)


def place_of(builder: Any, start: Any, row: Any, r: int, v: int, register: Any) -> Any:
    column = constant(INT64, v * register.type.count)
    return builder.gep(start, [builder.add(builder.mul(row, constant(INT64, r)), column)])


def unpack(context: Any, builder: Any, record: Any, value: Any) -> list[Any]:
    """The fields of a record: addresses as they are, counts and distances as 64-bit integers."""
    fields = zip(cgutils.unpack_tuple(builder, value, len(record)), record.types, strict=True)
    return [
        context.cast(builder, field, kind, types.intp) if isinstance(kind, types.Integer) else field
        for field, kind in fields
    ]


def _emit_add_products(
    _typing: Any, product: Any, prefetched: Any, c: Any, c_row: Any, first: Any
) -> Any:
    vector = register_of(c)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        operands = unpack(context, builder, product, args[0])
        lines = unpack(context, builder, prefetched, args[1])
        kinds, heights = [args[2].type, INT64, BIT], range(1, TILE_HEIGHT + 1)
        function = tile_function(
            builder.module, vector, "add_products", heights, kinds, _finish_sum
        )
        builder.call(function, [*operands, *lines, *args[2:]])
        return context.get_dummy_value()

    return types.void(product, prefetched, c, types.intp, types.boolean), codegen


@intrinsic(_emit_add_products)
def add_products(product: Product, prefetched: Prefetched, c: Any, c_row: Any, first: Any) -> None:
    """c[r, j] <- (0 if first, else c[r, j]) + sum_k a[r, k] b[k, j].

    Each ``CHAIN`` terms are summed on their own, and these sums added up.  The rows of c lie
    ``c_row`` apart.
    """
    for r in range(product.n_rows):
        c_r = c[r * c_row : r * c_row + product.n_columns]
        total = row_of_products(product, r)
        c_r[:] = total if first else c_r + total


def row_of_products(product: Product, r: int) -> Any:
    a, a_row, a_k, b, b_row, n_terms, _, n_columns = product
    total = np.zeros(n_columns, a.dtype)
    for start in range(0, n_terms, CHAIN):
        chain = np.zeros(n_columns, a.dtype)
        for k in range(start, min(start + CHAIN, n_terms)):
            chain = fma(a[r * a_row + k * a_k], b[k * b_row : k * b_row + n_columns], chain)
        total = total + chain
    return total


def _emit_tile_height(_typing: Any) -> Any:
    return types.intp(), lambda context, builder, sig, args: constant(INT64, TILE_HEIGHT)


@intrinsic(_emit_tile_height)
def tile_height() -> int:
    """Rows that a tile can hold."""
    return TILE_HEIGHT


def _emit_panel_width(_typing: Any, array: Any) -> Any:
    count = TILE_VECTORS * register_of(array).count
    return types.intp(array), lambda context, builder, sig, args: constant(INT64, count)


@intrinsic(_emit_panel_width)
def panel_width(array: Any) -> int:
    """Columns that a tile can hold."""
    return TILE_VECTORS * lane_count(array.dtype)
