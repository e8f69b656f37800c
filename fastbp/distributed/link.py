"""What training asks of the connection between its processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

Array = npt.NDArray[Any]


class DistributedError(RuntimeError):
    """Another process of a training could not go on.

    Parameters
    ----------
    message : str
        What happened.
    rank : int
        Of that process; an attribute, too.
    """

    def __init__(self, message: str, rank: int) -> None:
        super().__init__(message, rank)
        self.rank = rank

    def __str__(self) -> str:
        """Return the message, which names the rank."""
        return str(self.args[0])


@runtime_checkable
class Link(Protocol):
    """The connection of one process to the others: four verbs.

    `Mpi` and `Sockets` are links; `fastbp.Network.fit` takes any object with these attributes.  A
    link that has an attribute ``timeout`` gets that of `fit` and raises an error by itself where a
    partner does not answer for so many seconds.  With other links, the process ends then, with
    status 75.

    Attributes
    ----------
    rank : int
        Number of this process, from 0 on.
    size : int
        How many there are.

    Examples
    --------
    A process that is alone:

    >>> class Alone:
    ...     rank, size = 0, 1
    ...
    ...     def exchange(self, partner, send, recv):
    ...         raise RuntimeError("there is no partner")
    ...
    ...     def gather(self, thing):
    ...         return [thing]
    >>> isinstance(Alone(), Link)
    True
    """

    rank: int
    size: int

    def exchange(self, partner: int, send: Array, recv: Array) -> None:
        """Send an array to another process, which does the same, and receive its array.

        Parameters
        ----------
        partner : int
            Rank of the other process.
        send : ndarray
            Contiguous, as ``recv`` is; either may be empty.
        recv : ndarray, written
            Of the size that the partner sends.
        """

    def gather(self, thing: Any) -> list[Any]:
        """Return the things of all processes, in the order of their ranks.

        Parameters
        ----------
        thing : object
            Of this process; small, picklable.

        Returns
        -------
        list of object
            One for each rank.
        """


def partners_of(rank: int, size: int) -> list[int]:
    """Return the other ranks in an order in which all processes can pair off at once."""
    return [(turn - rank) % size for turn in range(size) if (turn - rank) % size != rank]


def add_whole(
    link: Link, message: Array, received: Array, parts: Sequence[Array], others: Sequence[Array]
) -> None:
    """Add messages over a power of two of ranks: neighbours first, then neighbouring pairs.

    Parameters
    ----------
    link : Link
    message : ndarray, updated
        Contiguous.
    received : ndarray, written
        As ``message``.
    parts, others : sequence of ndarray
        The numbers in the two messages.
    """
    distance = 1
    while distance < link.size:
        link.exchange(link.rank ^ distance, message, received)
        for part, other in zip(parts, others, strict=True):
            part += other
        distance *= 2


def add_halves(link: Link, part: Array, other: Array) -> None:
    """`add_whole`, by halves, quarters, ... of an array, and back: fewer bytes, more messages."""
    whole, distance, made = slice(0, len(part)), 1, []
    while distance < link.size:
        middle = (whole.start + whole.stop) // 2
        kept, given = slice(whole.start, middle), slice(middle, whole.stop)
        if link.rank & distance:
            kept, given = given, kept
        link.exchange(link.rank ^ distance, part[given], other[kept])
        part[kept] += other[kept]
        made.append((distance, kept, given))
        whole, distance = kept, 2 * distance
    for distance, kept, given in reversed(made):
        link.exchange(link.rank ^ distance, part[kept], part[given])
