"""Counters that threads share: what one of them wrote before it counts, the others see."""

import sys
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from fastbp._simd.intrinsics import intrinsic
from fastbp._simd.vector import INT32, INT64, constant

# Looks at a counter before the processor is offered to others: some 10 microseconds
PATIENCE = 256


def _emit_fetch_add(_typing: Any, counters: Any, k: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.gep(args[0], [args[1]])
        return builder.atomic_rmw("add", place, constant(INT64, 1), "seq_cst")

    return types.int64(counters, types.intp), codegen


@intrinsic(_emit_fetch_add)
def fetch_add(counters: Any, k: Any) -> int:
    """Add 1 to counter ``k``; return what it was."""
    before = int(counters[k])
    counters[k] += 1
    return before


def _emit_fetch_add_below(_typing: Any, counters: Any, k: Any, bound: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.gep(args[0], [args[1]])
        first = builder.load_atomic(place, "monotonic", 8)
        before = builder.block
        look, take, end = (builder.append_basic_block(name) for name in ("look", "take", "end"))
        builder.branch(look)
        builder.position_at_end(look)
        seen = builder.phi(INT64)
        builder.cbranch(builder.icmp_signed("<", seen, args[2]), take, end)
        builder.position_at_end(take)
        next_value = builder.add(seen, constant(INT64, 1))
        exchanged = builder.cmpxchg(place, seen, next_value, "seq_cst", "monotonic")
        found = builder.extract_value(exchanged, 0)
        builder.cbranch(builder.extract_value(exchanged, 1), end, look)
        seen.add_incoming(first, before)
        seen.add_incoming(found, take)
        builder.position_at_end(end)
        result = builder.phi(INT64)
        result.add_incoming(constant(INT64, -1), look)
        result.add_incoming(seen, take)
        return result

    return types.int64(counters, types.intp, types.int64), codegen


@intrinsic(_emit_fetch_add_below)
def fetch_add_below(counters: Any, k: Any, bound: Any) -> int:
    """Add 1 to counter ``k`` and return what it was, if that is below ``bound``; else -1."""
    return fetch_add(counters, k) if counters[k] < bound else -1


def _emit_load_acquire(_typing: Any, counters: Any, k: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "acquire", 8)

    return types.int64(counters, types.intp), codegen


@intrinsic(_emit_load_acquire)
def load_acquire(counters: Any, k: Any) -> int:
    """Counter ``k``, and with it all that was written before it was published."""
    return int(counters[k])


def _emit_store_release(_typing: Any, counters: Any, k: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], builder.gep(args[0], [args[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(counters, types.intp, types.int64), codegen


@intrinsic(_emit_store_release)
def store_release(counters: Any, k: Any, value: Any) -> None:
    """Set counter ``k``: who has seen it sees all that was written before."""
    counters[k] = value


def _pause(builder: Any) -> None:
    """Tell the processor, where it has a word for it, that this is a waiting loop."""
    triple = builder.module.triple
    name, arguments = "", []
    if triple.startswith(("x86_64", "i386", "i686")):
        name = "llvm.x86.sse2.pause"
    elif triple.startswith(("aarch64", "arm64")):
        name, arguments = "llvm.aarch64.hint", [constant(INT32, 1)]
    if name:
        kind = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _offer_processor(builder: Any) -> None:
    name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
    kind = ir.FunctionType(INT32, [])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])


def _emit_wait_for(_typing: Any, counters: Any, k: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.gep(args[0], [args[1]])
        before = builder.block
        look, wait, offer, ready = (
            builder.append_basic_block(name) for name in ("look", "wait", "offer", "ready")
        )
        builder.branch(look)
        builder.position_at_end(look)
        looks = builder.phi(INT64)
        seen = builder.load_atomic(place, "acquire", 8)
        builder.cbranch(builder.icmp_signed(">=", seen, args[2]), ready, wait)
        builder.position_at_end(wait)
        _pause(builder)
        looks_next = builder.add(looks, constant(INT64, 1))
        builder.cbranch(
            builder.icmp_signed("<", looks_next, constant(INT64, PATIENCE)), look, offer
        )
        builder.position_at_end(offer)
        _offer_processor(builder)
        builder.branch(look)
        for block, value in ((before, 0), (wait, None), (offer, PATIENCE)):
            looks.add_incoming(looks_next if value is None else constant(INT64, value), block)
        builder.position_at_end(ready)
        return context.get_dummy_value()

    return types.void(counters, types.intp, types.int64), codegen


@intrinsic(_emit_wait_for)
def wait_for(counters: Any, k: Any, value: Any) -> None:
    """Return once counter ``k`` has reached ``value``, by another thread's doing."""
    assert counters[k] >= value, "plain Python runs on one thread"
