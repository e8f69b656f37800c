"""Training on the workers of a Dask cluster, to the bits of one process."""

from __future__ import annotations

import contextlib
import copy
import secrets
import socket
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastbp.distributed import DistributedError, Sockets
from fastbp.network import Network
from fastbp.training.history import History

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["fit"]

# Listeners of this worker, by the key of their training
_listeners: dict[bytes, socket.socket] = {}

# Seconds between two looks at whether all workers are there
_LOOK_SECONDS = 0.5


def fit(
    client: Client,
    network: Network,
    X: Any,
    y: Any = None,
    *,
    workers: Sequence[str] | None = None,
    timeout: float = 1800.0,
    **fit_arguments: Any,
) -> History:
    """Train a network on the workers of a Dask cluster, as `Network.fit` does in one process.

    Each worker is a rank: it gets one task, which takes part in the training until it ends.  The
    workers exchange gradients over sockets of their own.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    network : Network, updated
        Its parameters, optimizer's state and epoch become those of the trained copy.
    X : array_like, or Rows
        As in `Network.fit`, and sent to each worker.  Files of `open_rows` are opened by each
        worker: all of them must see the files.
    y : array_like, optional
        As in `Network.fit`.
    workers : sequence of str, optional
        Addresses of the workers to use; by default all, in the order of their addresses.
    timeout : float
        Seconds that a worker waits for another one.
    **fit_arguments
        As in `Network.fit`, but for ``comm``.  The first worker calls ``callback``, with its copy
        of the network, and writes ``checkpoint`` on its own disk.

    Returns
    -------
    History
        As of `Network.fit`.

    Raises
    ------
    TypeError, ValueError
        As `Network.fit`; or if ``comm`` is given, or there is no worker.
    DistributedError
        If a worker is lost or cannot go on.  The other workers end their tasks, and the network is
        what it was.

    Notes
    -----
    Sockets are greeted with a key that is drawn for the call and sent to the workers through Dask's
    own connections.

    Examples
    --------
    >>> from distributed import Client  # doctest: +SKIP
    >>> client = Client("tcp://scheduler:8786")  # doctest: +SKIP
    >>> net = Network([784, 512, 10])  # doctest: +SKIP
    >>> history = fit(client, net, X, y, batch_size=1024)  # doctest: +SKIP
    """
    if "comm" in fit_arguments:
        raise TypeError("comm must be left out: the workers' sockets take its place")
    there = client.nthreads()
    workers = sorted(there) if workers is None else list(workers)
    if not workers:
        raise ValueError("workers must be at least one, got none")
    for worker in workers:
        if worker not in there or workers.count(worker) > 1:
            raise ValueError(f"workers must be different workers of the client, got {worker!r}")
    key = secrets.token_bytes(32)
    places = client.run(_listen, key, workers=workers)
    addresses = [places[worker] for worker in workers]
    # By content, a network sent before would be taken for the one that is just forgotten.
    given = [network, X, y, fit_arguments]
    arguments = client.scatter(given, broadcast=len(workers) > 1, hash=False)
    futures = [
        client.submit(
            _train,
            *arguments,
            (rank, addresses, key, timeout),
            workers=[worker],
            allow_other_workers=False,
            retries=0,
            pure=False,
        )
        for rank, worker in enumerate(workers)
    ]
    try:
        _wait(client, workers, futures)
        trained, history = futures[0].result()
    finally:
        client.cancel(futures, force=True)
        left = [worker for worker in workers if worker in client.nthreads()]
        client.run(_forget, key, workers=left, on_error="ignore")
    network._become(trained)
    return History(**asdict(history))


def _wait(client: Client, workers: list[str], futures: list[Any]) -> None:
    """Wait until all have ended, or one has failed, or a worker is lost.

    The task of a lost worker stays pending for ever.  An error of a rank's own says more than the
    errors that it brings about on the others, which may come first.
    """
    import distributed

    while True:
        if any(future.status == "error" for future in futures):
            with contextlib.suppress(TimeoutError):
                distributed.wait(futures, _LOOK_SECONDS)
            errors = [future.exception() for future in futures if future.status == "error"]
            own = [error for error in errors if not isinstance(error, DistributedError)]
            raise (own or errors)[0]
        if all(future.status == "finished" for future in futures):
            return
        there = client.nthreads()
        for rank, worker in enumerate(workers):
            if worker not in there:
                raise DistributedError(f"rank {rank} of {len(workers)}, {worker}, is lost", rank)
        with contextlib.suppress(TimeoutError):
            left = [future for future in futures if not future.done()]
            distributed.wait(left, _LOOK_SECONDS, "FIRST_COMPLETED")


def _listen(key: bytes, dask_worker: Any) -> tuple[str, int]:
    """Listen where the worker does; return the address."""
    host = dask_worker.address.rpartition("://")[2].rpartition(":")[0].strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    _listeners[key] = socket.create_server((host, 0), family=family)
    address = _listeners[key].getsockname()
    return address[0], address[1]


def _forget(key: bytes) -> None:
    """Close a listener that no task has closed."""
    if listener := _listeners.pop(key, None):
        listener.close()


def _train(
    network: Network,
    X: Any,
    y: Any,
    fit_arguments: dict[str, Any],
    place: tuple[int, list[tuple[str, int]], bytes, float],
) -> tuple[Network | None, History | None]:
    """Train on a worker; the first one returns what came of it."""
    rank, addresses, key, timeout = place
    network = copy.deepcopy(network)  # the worker keeps what it was sent
    link = Sockets(rank, addresses, _listeners.pop(key), key, timeout)
    try:
        history = network.fit(X, y, comm=link, timeout=timeout, **fit_arguments)
    finally:
        link.close()
    return (network, history) if rank == 0 else (None, None)
