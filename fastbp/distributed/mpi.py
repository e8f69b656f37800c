"""A link over MPI."""

from __future__ import annotations

from typing import Any

from fastbp.distributed.link import Array, Link


class Mpi(Link):
    """The link of a communicator of mpi4py, with messages of its own.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        Duplicated, so that no other message is taken for one of the link: every process of it makes
        the link at the same time.

    Attributes
    ----------
    rank, size : int

    Notes
    -----
    ``Network.fit(comm=MPI.COMM_WORLD)`` makes one.  MPI adds nothing, for the order of its sums is
    unspecified: arrays are exchanged, and added here.

    Examples
    --------
    >>> from mpi4py import MPI  # doctest: +SKIP
    >>> fastbp.distributed.Mpi(MPI.COMM_WORLD).gather("hello")  # doctest: +SKIP
    ['hello', 'hello']
    """

    def __init__(self, comm: Any) -> None:
        self._comm = comm.Dup()
        self.rank, self.size = int(comm.rank), int(comm.size)

    def exchange(self, partner: int, send: Array, recv: Array) -> None:
        self._comm.Sendrecv(send, partner, recvbuf=recv, source=partner)

    def gather(self, thing: Any) -> list[Any]:
        things: list[Any] = self._comm.allgather(thing)
        return things

    def close(self) -> None:
        """Give the duplicate back: on every process, after the last message."""
        self._comm.Free()
