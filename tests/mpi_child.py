"""A rank of a training over MPI, with a fault: ``mpiexec -n 2 python mpi_child.py KIND ...``."""

import argparse
import hashlib
import os
import signal
import sys
import threading

import numpy as np

import fastbp


def after(seconds, number):
    """Send this process a signal, later."""
    threading.Timer(seconds, os.kill, (os.getpid(), number)).start()


def callback_of(fault):
    """What fails on rank 0."""

    def callback(network, epoch, entry):
        if epoch == 2 and fault == "raise":
            raise RuntimeError("the callback failed")
        if epoch == 2 and fault == "exit":
            sys.exit(3)
        if epoch == 2 and fault == "os._exit":
            os._exit(3)

    return callback


def main():
    """Train; print a digest of the parameters and the losses."""
    parser = argparse.ArgumentParser()
    parser.add_argument("fault", nargs="?", default="none")
    parser.add_argument("--checkpoint")
    parser.add_argument("--every", type=int)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--rows", help="a .npy file to learn from")
    args = parser.parse_args()
    comm, is_faulty = None, False
    if args.fault != "alone":
        from mpi4py.MPI import COMM_WORLD as comm

        is_faulty = comm.rank == comm.size - 1
    rng = np.random.default_rng(0)
    x, y = rng.random((3000, 20), dtype=np.float32), rng.integers(0, 4, 3000)
    if args.fault == "nan" and is_faulty:
        x[:, 7] = np.nan
    if args.fault in ("kill", "stop") and is_faulty:
        after(2, signal.SIGKILL if args.fault == "kill" else signal.SIGSTOP)
    if args.fault == "disk":
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    learnt = {"X": x, "y": y}
    if args.rows:
        learnt = {"X": fastbp.open_rows(args.rows, y), "buffer_rows": 1024}
    network = fastbp.Network([20, 16, 4])
    history = network.fit(
        **learnt,
        epochs=args.epochs,
        batch_size=0 if args.fault == "refused" and is_faulty else 512,
        comm=comm,
        timeout=args.timeout,
        callback=callback_of(args.fault),
        checkpoint=args.checkpoint,
        checkpoint_every=args.every,
        resume=args.checkpoint is not None,
    )
    content = network.parameters.tobytes() + repr(history.loss).encode()
    digest = hashlib.sha256(content).hexdigest()
    sys.stdout.write(f"{digest}\n")  # at once, between those of the other ranks


if __name__ == "__main__":
    main()
