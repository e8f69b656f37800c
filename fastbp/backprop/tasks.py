"""Who does what: blocks of rows, blocks of weights, and the counters by which threads take them."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fastbp._compile import inlined
from fastbp._simd import fetch_add_below
from fastbp.backprop.layout import IndexArray, Plan
from fastbp.backprop.state import PIECE

# Parts of the weights that a thread updates in a step, about: more cost time, fewer wait longer
BLOCKS_PER_THREAD = 8

# Places on the counters that threads share, a cache line apart: how many threads have come, the phases
# that may start, the items done, the step that was not made (-1 if there is none); then, for each
# phase of a step, what has been claimed of each thread's items.
LINE_OF_COUNTERS = 8
ENTERED, OPEN, DONE, DIVERGED, TAKEN = range(0, 5 * LINE_OF_COUNTERS, LINE_OF_COUNTERS)


def make_weight_blocks(plan: Plan, n_threads: int) -> IndexArray:
    """Cut the weights into the parts that are updated at a time: layer, first row, end of rows.

    One thread takes whole layers.  Several share parts as equal as whole tiles allow, a few each.
    """
    blocks = []
    for number, (fan_in, fan_out) in enumerate(pairwise(plan.sizes), start=1):
        rows = fan_in
        if n_threads > 1:
            rows = max(plan.n_weights // (BLOCKS_PER_THREAD * n_threads * fan_out), PIECE)
            rows = -(-fan_in // (-(-fan_in // rows) * PIECE)) * PIECE
        blocks += [(number, k, min(k + rows, fan_in)) for k in range(0, fan_in, rows)]
    return np.array(blocks, np.intp)


def make_counters(n_threads: int) -> npt.NDArray[np.int64]:
    """Allocate the counters of up to ``n_threads`` threads, ready for use."""
    counters = np.zeros(TAKEN + 2 * n_threads * LINE_OF_COUNTERS, np.int64)
    counters[DIVERGED] = -1
    return counters


@inlined
def take(counters, is_second, n_items, n_threads, made, thread):
    """Claim one of the items of a phase of step ``made``; -1 if all are claimed.

    Every n_threads-th item is the thread's own; it takes these first, then those of the others.
    """
    place = TAKEN + (n_threads * LINE_OF_COUNTERS if is_second else 0)
    for owner in range(thread, thread + n_threads):
        if owner >= n_threads:
            owner -= n_threads
        n_own = (n_items - owner + n_threads - 1) // n_threads
        claimed = fetch_add_below(counters, place + owner * LINE_OF_COUNTERS, (made + 1) * n_own)
        if claimed >= 0:
            return (claimed - made * n_own) * n_threads + owner
    return -1
