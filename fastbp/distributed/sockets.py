"""A link over plain sockets, for processes that something else than MPI has started."""

from __future__ import annotations

import hmac
import pickle
import secrets
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastbp.distributed.link import Array, DistributedError, Link, partners_of

# Seconds that a process has to prove that it knows the key, and between two tries to reach one
GREETING_SECONDS = 5.0
RETRY_SECONDS = 0.05

_NONCE = 32
_RANK = struct.Struct("!I")
_SIZE = struct.Struct("!Q")


class Sockets(Link):
    """The link of processes that know each other's addresses and share a secret key.

    Parameters
    ----------
    rank : int
        Number of this process.
    addresses : sequence of (host, port)
        Where each process listens.
    listener : socket.socket
        That of this process, as ``socket.create_server`` makes it.
    key : bytes
        At least 16 of them, the same in all processes: who connects has to prove by HMAC-SHA256
        that it knows the key.  What is sent is not encrypted.
    timeout : float
        Seconds to wait for a partner.

    Attributes
    ----------
    rank, size : int
    timeout : float

    Raises
    ------
    ValueError
        If the key is short or the rank is not one of the addresses'.
    DistributedError
        By `exchange` and `gather`: if a partner is gone, or silent for ``timeout`` seconds.

    Notes
    -----
    `fastbp.dask.fit` makes one on each worker.  A connection is made when two processes first
    exchange something.  `gather` unpickles what the others send, who have proved themselves.

    Examples
    --------
    A process that is alone has nobody to connect to:

    >>> import socket
    >>> from fastbp.distributed import Sockets
    >>> listener = socket.create_server(("127.0.0.1", 0))
    >>> link = Sockets(0, [listener.getsockname()], listener, b"a key of 16 bytes or more")
    >>> link.gather("hello")
    ['hello']
    >>> link.close()
    """

    def __init__(
        self,
        rank: int,
        addresses: Sequence[tuple[str, int]],
        listener: socket.socket,
        key: bytes,
        timeout: float = 1800.0,
    ) -> None:
        if len(key) < 16:
            raise ValueError(f"key must have at least 16 bytes, got {len(key)}")
        if not 0 <= rank < len(addresses):
            raise ValueError(f"rank must be from 0 to {len(addresses) - 1}, got {rank}")
        self.rank, self.size, self.timeout = rank, len(addresses), timeout
        self._addresses, self._listener, self._key = list(addresses), listener, key
        self._connections: dict[int, socket.socket] = {}

    def exchange(self, partner: int, send: Array, recv: Array) -> None:
        out, into = (memoryview(a.reshape(-1).view(np.uint8).data) for a in (send, recv))
        try:
            self._pass_bytes(self._connection(partner), out, into)
        except TimeoutError:
            raise DistributedError(
                f"rank {partner} of {self.size} did not answer for {self.timeout:g} s", partner
            ) from None
        except OSError as error:
            raise DistributedError(
                f"rank {partner} of {self.size} is gone: {error}", partner
            ) from error

    def gather(self, thing: Any) -> list[Any]:
        things, mine = [thing] * self.size, np.frombuffer(pickle.dumps(thing), np.uint8)
        for partner in partners_of(self.rank, self.size):
            size = np.empty(1, np.uint64)
            self.exchange(partner, np.array([mine.size], np.uint64), size)
            other = np.empty(int(size[0]), np.uint8)
            self.exchange(partner, mine, other)
            things[partner] = pickle.loads(other.tobytes())
        return things

    def close(self) -> None:
        """Close all connections and the listener."""
        for connection in (*self._connections.values(), self._listener):
            connection.close()
        self._connections.clear()

    def _pass_bytes(self, connection: socket.socket, out: memoryview, into: memoryview) -> None:
        """Send and receive at the same time: two that only send would wait for each other."""
        n_sent = n_received = 0
        while n_sent < len(out) or n_received < len(into):
            reading = [connection] if n_received < len(into) else []
            writing = [connection] if n_sent < len(out) else []
            readable, writeable, _ = select.select(reading, writing, [], self.timeout)
            if not readable and not writeable:
                raise TimeoutError
            if writeable:
                n_sent += connection.send(out[n_sent:])
            if readable:
                n = connection.recv_into(into[n_received:])
                if n == 0:
                    raise ConnectionError("it closed the connection")
                n_received += n

    def _connection(self, partner: int) -> socket.socket:
        if partner not in self._connections:
            deadline = time.monotonic() + self.timeout
            if self.rank < partner:
                while partner not in self._connections:
                    self._accept(deadline)
            else:
                self._connect(partner, deadline)
        return self._connections[partner]

    def _accept(self, deadline: float) -> None:
        """Let one in who knows the key; it need not be the one that is awaited."""
        self._listener.settimeout(max(deadline - time.monotonic(), 1e-3))
        connection, _ = self._listener.accept()
        connection.settimeout(GREETING_SECONDS)
        try:
            self._add(connection, self._greet(connection))
        except (OSError, ValueError):  # a stranger
            connection.close()

    def _connect(self, partner: int, deadline: float) -> None:
        while True:
            try:
                connection = socket.create_connection(self._addresses[partner], GREETING_SECONDS)
                break
            except ConnectionRefusedError:  # it does not listen yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_SECONDS)
        # The partner answers when it comes to exchange something.
        connection.settimeout(max(deadline - time.monotonic(), 1e-3))
        try:
            number = self._greet(connection)
        except ValueError as error:
            connection.close()
            raise ConnectionError(str(error)) from None
        if number != partner:
            raise ConnectionError(f"rank {number} is at its address")
        self._add(connection, number)

    def _add(self, connection: socket.socket, rank: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        self._connections[rank] = connection

    def _greet(self, connection: socket.socket) -> int:
        """Prove to each other that both know the key; return the rank of the other."""
        mine = secrets.token_bytes(_NONCE) + _RANK.pack(self.rank)
        connection.sendall(mine)
        other = _receive(connection, len(mine))
        (rank,) = _RANK.unpack(other[_NONCE:])
        if rank == self.rank or rank >= self.size:
            raise ValueError(f"rank {rank} cannot be a partner of rank {self.rank}")
        connection.sendall(self._proof(other, mine))
        expected = self._proof(mine, other)
        if not hmac.compare_digest(_receive(connection, len(expected)), expected):
            raise ValueError("the partner does not know the key")
        return int(rank)

    def _proof(self, challenge: bytes, answer: bytes) -> bytes:
        return hmac.digest(self._key, challenge + answer, "sha256")


def _receive(connection: socket.socket, n: int) -> bytes:
    received = b""
    while len(received) < n:
        part = connection.recv(n - len(received))
        if not part:
            raise ConnectionError("it closed the connection")
        received += part
    return received
