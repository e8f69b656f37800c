"""The register tile whose sums update weights: gradient descent with momentum."""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types

from fastbp._simd.intrinsics import intrinsic
from fastbp._simd.memory import read_vector, write_vector
from fastbp._simd.tile import (
    BIT,
    TILE_HEIGHT,
    TILE_VECTORS,
    Prefetched,
    Product,
    place_of,
    row_of_products,
    tile_function,
    unpack,
)
from fastbp._simd.vector import INT64, Vector, constant, ir_type, register_of, splat

# Heights of the tiles that update weights: few, because each costs compilation, and enough to make
# up any number of rows.
UPDATE_HEIGHTS = [TILE_HEIGHT, *(height for height in (4, 2, 1) if height < TILE_HEIGHT)]


class _Operand:
    """A value of LLVM's with Python's operators, for formulas that are written once."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: _Operand) -> _Operand:
        return _Operand(self.builder, self.builder.fadd(self.value, other.value))

    def __sub__(self, other: _Operand) -> _Operand:
        return _Operand(self.builder, self.builder.fsub(self.value, other.value))

    def __mul__(self, other: _Operand) -> _Operand:
        return _Operand(self.builder, self.builder.fmul(self.value, other.value))


def momentum_update(
    w: Any, g: Any, v: Any, learning_rate: Any, momentum: Any, nesterov: Any
) -> Any:
    """v <- mu v - eta g; w <- w + v, or, Nesterov's, w <- w + mu v - eta g.  Returns (w, v).

    Every operation is rounded.
    """
    descent = learning_rate * g
    v = momentum * v - descent
    if nesterov:
        return w + (momentum * v - descent), v
    return w + v, v


def _finish_update(
    builder: Any,
    sums: Any,
    exists: list[Any],
    w: Any,
    velocity: Any,
    w_row: Any,
    learning_rate: Any,
    momentum: Any,
    l2: Any,
    nesterov: Any,
) -> None:
    kind = sums[0][0].type
    eta, mu, penalty = (
        _Operand(builder, splat(builder, x, kind.count)) for x in (learning_rate, momentum, l2)
    )
    has_penalty = builder.fcmp_ordered("!=", l2, constant(l2.type, 0.0))

    def update(choose: Any) -> None:
        """``choose(flag, f)`` is ``f(True)`` where the flag is set, else ``f(False)``."""
        for r, row_sums in enumerate(sums):
            for v, total in enumerate(row_sums):
                places = [place_of(builder, start, w_row, r, v, total) for start in (w, velocity)]
                w_now, v_now = (
                    _Operand(builder, read_vector(builder, place, constant(INT64, 0), kind))
                    for place in places
                )
                # Behind the last column, weights stay zero.
                g = _Operand(builder, builder.select(exists[v], total, constant(kind, 0.0)))
                g = choose(has_penalty, lambda yes, g=g, w=w_now: g + penalty * w if yes else g)
                _, v_next = momentum_update(w_now, g, v_now, eta, mu, False)
                w_next = choose(
                    nesterov,
                    lambda yes, w=w_now, g=g, v=v_now: momentum_update(w, g, v, eta, mu, yes)[0],
                )
                for result, place in zip((w_next, v_next), places, strict=True):
                    write_vector(builder, result.value, place)

    def select(flag: Any, result: Any) -> _Operand:
        return _Operand(builder, builder.select(flag, result(True).value, result(False).value))

    if len(sums) < TILE_HEIGHT or len(exists) < TILE_VECTORS:
        update(select)
        return
    # Four versions of the whole tile: selecting per vector costs 20 %.
    with builder.if_else(has_penalty) as penalties:
        for penalised, penalty_branch in zip((True, False), penalties, strict=True):
            with penalty_branch, builder.if_else(nesterov) as directions:
                for is_ahead, branch in zip((True, False), directions, strict=True):
                    known = {has_penalty: penalised, nesterov: is_ahead}
                    with branch:
                        update(lambda flag, result, known=known: result(known[flag]))


def _emit_sgd_update(
    _typing: Any, product: Any, prefetched: Any, w: Any, velocity: Any, w_row: Any, rates: Any
) -> Any:
    vector = register_of(w)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        operands = unpack(context, builder, product, args[0])
        lines = unpack(context, builder, prefetched, args[1])
        *real, nesterov = cgutils.unpack_tuple(builder, args[5], len(rates))
        real = [
            context.cast(builder, rate, kind, w.dtype)
            for rate, kind in zip(real, rates.types, strict=False)
        ]
        pointer, number = args[2].type, ir_type(Vector(w.dtype, 1))
        kinds = [pointer, pointer, INT64, number, number, number, BIT]
        function = tile_function(
            builder.module, vector, "sgd_update", UPDATE_HEIGHTS, kinds, _finish_update
        )
        builder.call(function, [*operands, *lines, *args[2:5], *real, nesterov])
        return context.get_dummy_value()

    return types.void(product, prefetched, w, velocity, types.intp, rates), codegen


@intrinsic(_emit_sgd_update)
def sgd_update(
    product: Product, prefetched: Prefetched, w: Any, velocity: Any, w_row: Any, rates: Any
) -> None:
    """`momentum_update` of w by g + l2 w, where g is what `add_products` would write to c.

    ``rates``: learning rate, momentum, l2, and whether the momentum is Nesterov's.  The gradient
    stays in registers.  Rows of w and v are filled up to whole vectors with zeros, and stay so.
    ``product.n_rows`` is an `update_tile_height`.
    """
    *real, nesterov = rates
    eta, mu, penalty = (w.dtype.type(x) for x in real)
    for r in range(product.n_rows):
        w_r, v_r = (m[r * w_row : r * w_row + product.n_columns] for m in (w, velocity))
        g = row_of_products(product, r)
        if penalty != 0:
            g = g + penalty * w_r
        w_r[:], v_r[:] = momentum_update(w_r, g, v_r, eta, mu, nesterov)


def _emit_update_tile_height(_typing: Any, rows: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        height = constant(INT64, UPDATE_HEIGHTS[-1])
        for candidate in reversed(UPDATE_HEIGHTS[:-1]):
            fits = builder.icmp_signed("<=", constant(INT64, candidate), args[0])
            height = builder.select(fits, constant(INT64, candidate), height)
        return height

    return types.intp(types.intp), codegen


@intrinsic(_emit_update_tile_height)
def update_tile_height(rows: Any) -> int:
    """Rows of the tallest tile of `sgd_update` that ``rows`` rows have room for."""
    return next(height for height in UPDATE_HEIGHTS if height <= rows)
