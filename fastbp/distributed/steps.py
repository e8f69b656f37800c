"""Steps that several processes make together, to the bits of one.

Each rank differentiates some blocks of a batch's rows.  Their sums are exchanged, and added in the
tree in which one process adds them; then every rank updates its parameters by the same gradient.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp.backprop import parallel, state, tasks, updates
from fastbp.backprop.blocks import Node, add_nodes, nodes_of, rows_per_block
from fastbp.backprop.totals import CORRECT, COST, FAILED, LOSS, N_REST, WEIGHT
from fastbp.distributed.group import Group
from fastbp.distributed.link import Link, add_halves, add_whole, partners_of
from fastbp.kernels._matmul import K_BLOCK
from fastbp.training import threads
from fastbp.training.differentiate import batch_weight, make_sums
from fastbp.training.run import Run
from fastbp.training.stream import Source

Array = npt.NDArray[Any]

# Bytes of a message from which on, with more than two ranks, its halves are added: they are fewer
# bytes, in more messages.
SHORT_BYTES = 1 << 18


class Part(NamedTuple):
    """What this rank has of a batch, whose blocks have ``k_block`` rows."""

    k_block: int
    first: int  # row
    n: int  # rows
    nodes: list[list[Node]]  # of each rank
    is_even: bool  # each rank has one node of the same size, and neighbours may add them
    sums: parallel.Sums  # of this rank's nodes
    message: Array  # their memory
    others: parallel.Sums  # of a partner's
    received: Array


def share_of(group: Group, source: Source, epochs: int, shards: int) -> SharedSteps | None:
    """Return what makes the steps of a group, if they are not those of one process.

    Raises
    ------
    TypeError, ValueError
        If the batches cannot be shared out.
    """
    if source.maker is not None:
        source.maker.check_epochs(epochs)
        for name, value, default in (("comm", group.size, 1), ("shards", shards, 1)):
            if value != default:
                raise ValueError(f"{name} needs rows in memory or in files, not a function's")
    if group.size == shards == 1:
        return None
    assert source.n_rows is not None
    batch_size, size = min(source.batch_size, source.n_rows), group.size
    if shards > batch_size:
        raise ValueError(f"shards must be at most the rows of a batch, {batch_size}, got {shards}")
    rows = rows_per_block(batch_size, shards)
    blocks = -(-batch_size // rows)
    if blocks < size:
        raise ValueError(
            f"batch_size={batch_size} gives {blocks} block{'s' * (blocks > 1)} of at most {rows} "
            f"rows, for {size} ranks: take batch_size={K_BLOCK * size}, or shards={size} (which is "
            "another result)"
        )
    return SharedSteps(group, shards)


class SharedSteps:
    """What makes the steps of a `Run`, in the place of ``parallel.train``."""

    def __init__(self, group: Group, shards: int) -> None:
        self._group, self._shards = group, shards
        self._parts: dict[int, Part] = {}
        self._error: BaseException | None = None

    def rows_of(self, n: int) -> tuple[int, int]:
        """Return the first and the last (excluded) row of this rank in a batch of n rows."""
        k_block, size = rows_per_block(n, self._shards), self._group.size
        blocks = -(-n // k_block)
        first, last = (blocks * q // size for q in (self._group.rank, self._group.rank + 1))
        return first * k_block, min(last * k_block, n)

    def seconds(self, seconds: float) -> float:
        """Return those of the first rank."""
        return self._group.agree(None, seconds)[0]

    def make_workspace(self, run: Run, data: state.Data) -> state.Workspace:
        """Allocate the memory of this rank's part of a batch."""
        first, last = self.rows_of(run.batch_size)
        size = run.learner.parameters.dtype, max(last - first, 1), run.n_threads
        k_block = rows_per_block(run.batch_size, self._shards)
        return state.make_workspace(run.learner.plan, data, *size, k_block=k_block)

    def fail(self, error: BaseException) -> None:
        """Have the next step end on all ranks: what this rank needs for it is not there."""
        self._error = error

    def make(self, run: Run, first: int, last: int, options: state.StepOptions) -> int:
        """Make steps; return the one that diverged, or -1."""
        for step in range(first, last):
            start = step * run.batch_size
            n = min(run.batch_size, len(run.order) - start)
            if n not in self._parts:
                self._parts[n] = self._make_part(run, n)
            part = self._parts[n]
            self._group.where = f"step {step} of epoch {self._group.epoch}"
            error = self._error or self._group.interrupt
            weight = batch_weight(run.data, run.order, start, n, part.k_block)
            if error is None and part.n:
                try:
                    self._differentiate(run, part, start + part.first, weight)
                except BaseException as failure:
                    error = failure
            part.sums.rest[:, FAILED - N_REST] = error is not None
            with np.errstate(all="ignore"):
                weights, rest = self._add(part)
            if rest[FAILED - N_REST]:
                self._group.agree(error, None)
            self._error = error  # of a rank that has no rows in this batch, and so no voice
            loss = float(rest[LOSS - N_REST])
            if not math.isfinite(loss):
                return step
            totals = run.totals
            totals[LOSS] += loss
            totals[CORRECT] += rest[CORRECT - N_REST]
            totals[WEIGHT] += weight
            if weight > 0:
                totals[COST] += n * (loss / weight)
            self._update(run, weights, rest, options, weight)
        return -1

    def _differentiate(self, run: Run, part: Part, start: int, weight: float) -> None:
        n_threads = run.n_threads
        run.work.weight[0] = weight
        batch = parallel.Batches(run.order[start : start + part.n], part.n, 0, 1)
        counters = tasks.make_counters(n_threads)
        shared = parallel.Tasks(run.weight_blocks, n_threads, n_threads, counters)
        inputs = run.panels.table, run.panels.numbers, run.data, batch, run.work
        threads.run(n_threads, partial(parallel.differentiate, *inputs, shared, part.sums))

    def _update(
        self, run: Run, weights: Array, rest: Array, options: state.StepOptions, weight: float
    ) -> None:
        optimizer_state = run.learner.optimizer_state
        model = updates.Model(run.panels.table, run.panels.numbers, optimizer_state)
        counters = tasks.make_counters(1)
        inputs = model, weights, rest, options, weight, counters
        threads.run(run.n_threads, partial(updates.update, *inputs))
        optimizer_state.n_updates[0] += 1

    def _add(self, part: Part) -> tuple[Array, Array]:
        """Return the sums over the whole batch."""
        sums = part.sums.weights, part.sums.rest
        if self._group.size == 1:
            return sums[0][0], sums[1][0]
        with self._group.waiting() as link:
            if part.is_even:
                self._add_evenly(link, part)
                return sums[0][0], sums[1][0]
            weights, rest = (self._add_segments(part, array) for array in sums)
            return weights, rest

    def _add_evenly(self, link: Link, part: Part) -> None:
        weights, rest = part.sums.weights[0], part.sums.rest[0]
        others = part.others.weights[0], part.others.rest[0]
        if link.size > 2 and part.message.nbytes > SHORT_BYTES:
            add_halves(link, weights, others[0])
            add_whole(link, rest, others[1], [rest], [others[1]])
        else:
            add_whole(link, part.message, part.received, [weights, rest], others)

    def _add_segments(self, part: Part, mine: Array) -> Array:
        """Add the sums of all ranks' nodes: each rank adds a segment of them."""
        link, rank, size = self._group.link, self._group.rank, self._group.size
        assert link is not None
        n = mine.shape[1]
        segments = [slice(n * q // size, n * (q + 1) // size) for q in range(size)]
        own, total = segments[rank], np.empty(n, mine.dtype)
        parts = [mine[:, own]] * size
        for partner in partners_of(rank, size):
            shape = len(part.nodes[partner]), own.stop - own.start
            parts[partner] = np.empty(shape, mine.dtype)
            link.exchange(partner, np.ascontiguousarray(mine[:, segments[partner]]), parts[partner])
        nodes = [node for nodes in part.nodes for node in nodes]
        total[own] = add_nodes(nodes, [row for rows in parts for row in rows], np.add)
        for partner in partners_of(rank, size):
            link.exchange(partner, total[own], total[segments[partner]])
        return total

    def _make_part(self, run: Run, n: int) -> Part:
        k_block, size = rows_per_block(n, self._shards), self._group.size
        blocks = -(-n // k_block)
        first, last = self.rows_of(n)
        nodes = [nodes_of(blocks * q // size, blocks * (q + 1) // size) for q in range(size)]
        if size == 1:  # one sum, over the whole tree
            nodes = [[Node(0, blocks.bit_length())]]
        rows = []
        for node in nodes[self._group.rank]:
            start, end = node.first * k_block, (node.first + (1 << node.level)) * k_block
            rows.append((start - first, min(end, n) - start))
        numbers = np.array(rows, np.intp).reshape(-1, 2)
        mine, theirs = (make_sums(run.panels, numbers, k_block) for _ in range(2))
        sizes = {tuple(node.level for node in q) for q in nodes}
        is_even = size.bit_count() == 1 and len(sizes) == 1 and len(sizes.pop()) == 1
        return Part(k_block, first, max(last - first, 0), nodes, is_even, *mine, *theirs)
