"""The blocks of a batch's rows, and the tree in which their sums are added.

Sums over the m blocks of a batch are added as a binary counter counts: equal neighbours first, then
what is left from the right.  A node of 2^k blocks starts at a multiple of 2^k, so that the tree
does not depend on who sums which blocks.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from fastbp.kernels._matmul import K_BLOCK

Sum = TypeVar("Sum")


class Node(NamedTuple):
    """The sum of the ``2**level`` blocks from block ``first`` on."""

    first: int
    level: int


def rows_per_block(n: int, shards: int = 1) -> int:
    """Return the rows of each block of a batch of n, which has at least ``shards`` blocks.

    The last block may be short, and few rows make fewer blocks.
    """
    return -(-n // max(-(-n // K_BLOCK), shards))


def nodes_of(first: int, last: int) -> list[Node]:
    """Return the largest nodes that make up the blocks ``first`` to ``last`` (excluded)."""
    nodes = []
    while first < last:
        level = (last - first).bit_length() - 1
        while first % (1 << level):
            level -= 1
        nodes.append(Node(first, level))
        first += 1 << level
    return nodes


def add_nodes(nodes: Sequence[Node], sums: Sequence[Sum], add: Callable[[Sum, Sum], Sum]) -> Sum:
    """Add the sums of nodes that make up all blocks, in their order, as the tree says."""
    waiting: list[tuple[Node, Sum]] = []
    for node, total in zip(nodes, sums, strict=True):
        while waiting and waiting[-1][0].level == node.level:
            left, left_sum = waiting.pop()
            node, total = Node(left.first, node.level + 1), add(left_sum, total)
        waiting.append((node, total))
    total = waiting.pop()[1]
    while waiting:
        total = add(waiting.pop()[1], total)
    return total
