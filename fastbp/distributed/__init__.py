"""Training by several processes, on one machine or many, to the bits of one process.

`fastbp.Network.fit` takes a communicator of mpi4py, or any other `Link`, as ``comm``.
"""

from fastbp.distributed.link import DistributedError, Link
from fastbp.distributed.mpi import Mpi
from fastbp.distributed.sockets import Sockets

__all__ = ["DistributedError", "Link", "Mpi", "Sockets"]
