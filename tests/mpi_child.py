"""A rank of a training over MPI, with a fault: ``mpiexec -n 2 python mpi_child.py KIND ...``."""

import argparse
import hashlib
import os
import resource
import signal
import sys
import threading

import numpy as np
from mpi4py import MPI

import fastbp

parser = argparse.ArgumentParser()
parser.add_argument("fault", nargs="?", default="none")
parser.add_argument("--checkpoint")
parser.add_argument("--every", type=int)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--timeout", type=float, default=60)
parser.add_argument("--rows", help="a .npy file to learn from")
args = parser.parse_args()

comm = None if args.fault == "alone" else MPI.COMM_WORLD
rng = np.random.default_rng(0)
X, y = rng.random((3000, 20), dtype=np.float32), rng.integers(0, 4, 3000)
is_faulty = comm is not None and comm.rank == comm.size - 1


def after(seconds, number):
    """Send this process a signal, later."""
    threading.Timer(seconds, os.kill, (os.getpid(), number)).start()


def callback(network, epoch, entry):
    """Fail on rank 0."""
    if epoch == 2 and args.fault == "raise":
        raise RuntimeError("the callback failed")
    if epoch == 2 and args.fault == "exit":
        sys.exit(3)
    if epoch == 2 and args.fault == "os._exit":
        os._exit(3)
    return epoch == 5 and args.fault == "stop early"


if args.fault == "nan" and is_faulty:
    X[:, 7] = np.nan
if args.fault in ("kill", "stop") and is_faulty:
    after(2, signal.SIGKILL if args.fault == "kill" else signal.SIGSTOP)
if args.fault == "disk":
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
learnt = dict(X=X, y=y)
if args.rows:
    learnt = dict(X=fastbp.open_rows(args.rows, y), buffer_rows=1024)
size = 0 if args.fault == "refused" and is_faulty else 512
net = fastbp.Network([20, 16, 4])
history = net.fit(
    **learnt,
    epochs=args.epochs,
    batch_size=size,
    comm=comm,
    timeout=args.timeout,
    callback=callback,
    checkpoint=args.checkpoint,
    checkpoint_every=args.every,
    resume=args.checkpoint is not None,
)
digest = hashlib.sha256(net.parameters.tobytes() + repr(history.loss).encode()).hexdigest()
sys.stdout.write(f"{digest}\n")  # at once, between those of the other ranks
