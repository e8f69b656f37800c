"""Who does what: blocks of rows, blocks of weights, and the counters by which threads take them."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp._compile import inlined
from fastbp._simd import at, fetch_add_below, offset
from fastbp.backprop.layout import IndexArray, Plan
from fastbp.backprop.state import SQUARED_ROWS

# Blocks of weights per thread: more cost time, fewer make threads wait longer
BLOCKS_PER_THREAD = 8

# Places of the counters that threads share, a cache line apart: threads that have entered, phases
# that are open, blocks that are done, the step that diverged (-1: none); then, for both phases, the
# blocks taken of each thread's own
LINE_OF_COUNTERS = 8
ENTERED, OPEN, DONE, DIVERGED, TAKEN = range(0, 5 * LINE_OF_COUNTERS, LINE_OF_COUNTERS)


class WeightBlock(NamedTuple):
    """``n_rows`` rows of the weights of a layer, from row ``first`` on."""

    layer: int
    first: int
    n_rows: int


def make_weight_blocks(plan: Plan, n_threads: int) -> IndexArray:
    """Cut the weights into blocks: a `WeightBlock` in each row.

    One thread takes whole layers.  Several threads take blocks as equal as whole tiles allow.
    """
    blocks = []
    for l, (fan_in, fan_out) in enumerate(pairwise(plan.sizes), start=1):
        rows = fan_in
        if n_threads > 1:
            rows = max(plan.n_weights // (BLOCKS_PER_THREAD * n_threads * fan_out), SQUARED_ROWS)
            rows = -(-fan_in // (-(-fan_in // rows) * SQUARED_ROWS)) * SQUARED_ROWS
        blocks += [(l, k, min(rows, fan_in - k)) for k in range(0, fan_in, rows)]
    return np.array(blocks, np.intp)


def make_counters(n_threads: int) -> npt.NDArray[np.int64]:
    """Allocate the counters of up to ``n_threads`` threads, ready for use."""
    counters = np.zeros(TAKEN + 2 * n_threads * LINE_OF_COUNTERS, np.int64)
    counters[DIVERGED] = -1
    return counters


@inlined
def weight_block(blocks, number):
    fields = offset(blocks, 3 * number)
    return WeightBlock(at(fields, 0), at(fields, 1), at(fields, 2))


@inlined
def take(counters, is_second, n_blocks, n_threads, n_steps, thread):
    """Take a block of a phase, after ``n_steps`` steps; -1 if all are taken.

    Every n_threads-th block is the thread's own: it takes these first, then those of the others.
    """
    place = TAKEN + (n_threads * LINE_OF_COUNTERS if is_second else 0)
    for owner in range(thread, thread + n_threads):
        if owner >= n_threads:
            owner -= n_threads
        n_own = (n_blocks - owner + n_threads - 1) // n_threads
        n_before = n_steps * n_own
        n_taken = fetch_add_below(counters, place + owner * LINE_OF_COUNTERS, n_before + n_own)
        if n_taken >= 0:
            return (n_taken - n_before) * n_threads + owner
    return -1
