"""Processes of a training as threads of one process."""

import os
import shutil
import sys
import threading
from pathlib import Path
from queue import Queue

import numpy as np

# Of the environment first: mpich installs one there.
MPIEXEC = shutil.which(
    "mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
)


class ThreadLink:
    """A link whose messages are queues."""

    def __init__(self, rank, queues):
        self.rank, self.size, self._queues = rank, len(queues), queues
        self.n_exchanges = 0

    def _swap(self, partner, thing):
        self._queues[self.rank][partner].put(thing)
        return self._queues[partner][self.rank].get(timeout=60)

    def exchange(self, partner, send, recv):
        self.n_exchanges += 1
        recv[...] = self._swap(partner, np.array(send))

    def gather(self, thing):
        return [
            thing if partner == self.rank else self._swap(partner, thing)
            for partner in range(self.size)
        ]


def on_ranks(size, work):
    """Call ``work(link)`` on each rank at once; return what it returned or raised."""
    queues = [[Queue() for _ in range(size)] for _ in range(size)]
    results = [None] * size

    def call(rank):
        try:
            results[rank] = work(ThreadLink(rank, queues))
        except BaseException as error:
            results[rank] = error

    threads = [threading.Thread(target=call, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
