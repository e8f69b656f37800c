"""What a step costs on several machines: a model, calibrated with measurements, beside the truth.

Alone, it takes the wires from a table; over MPI, it measures an exchange and shared steps.
Run: python examples/scale_model.py, or mpiexec -n 2 python examples/scale_model.py
"""

import argparse
import math
import statistics
import time

import numpy as np

import fastbp
from fastbp.distributed import Mpi

# Seconds of latency and bytes a second, one way
WIRES = {"1 GbE": (50e-6, 0.117e9), "10 GbE": (30e-6, 1.1e9), "100 Gb/s RDMA": (3e-6, 11e9)}
MEMORY = 5e9  # bytes a second, for the additions
STEPS = 12


def seconds_per_step(layers, rows, comm=None):
    """Measure steps; in two blocks, they are gradient and update, as those of ranks, alone, too."""
    rng = np.random.default_rng(0)
    x = rng.random((rows * STEPS, layers[0]), dtype=np.float32)
    y = rng.integers(0, layers[-1], len(x))
    network = fastbp.Network(layers)
    how = {"batch_size": rows, "learning_rate": 0.01, "n_threads": 1, "comm": comm, "shards": 2}
    return statistics.median(network.fit(x, y, epochs=7, **how).time[1:]) / STEPS


def seconds_per_exchange(comm, n_bytes):
    """Measure how long two ranks need to swap so many bytes."""
    link, send = Mpi(comm), np.zeros(n_bytes, np.uint8)
    recv, times = np.empty_like(send), []
    for _ in range(30):
        started = time.perf_counter()
        link.exchange(link.rank ^ 1, send, recv)
        times.append(time.perf_counter() - started)
    return statistics.median(times[5:])


def reduction(n_bytes, ranks, latency, speed):
    """Seconds to add a gradient over ranks: whole messages, or halves of them."""
    turns = math.ceil(math.log2(ranks))
    sizes = [n_bytes] * turns
    if ranks > 2:
        sizes = 2 * [n_bytes / 2**k for k in range(1, turns + 1)]
    # A long message is agreed on first: three times the latency.
    return sum(3 * latency + n / speed for n in sizes) + 3 * n_bytes / MEMORY


def print_table(layers, n_bytes, cores):
    """Print step times and efficiencies over ranks of some cores each."""
    few, many = (seconds_per_step(layers, n) for n in (128, 2048))
    a_row = (many - few) / (2048 - 128)
    fixed = max(few - 128 * a_row, 0)
    if cores > 1:
        a_row /= 0.8 * cores  # cores share the rows of a rank, at four fifths of their speed
    print(f"{'-'.join(map(str, layers))}: {n_bytes / 1e6:.2f} MB a step, cores of a rank: {cores}")
    print("wire          rows a rank   ms, and efficiency, with 2, 16, 256 ranks   80 % of 16 from")
    for wire, (latency, speed) in WIRES.items():
        added = [reduction(n_bytes, ranks, latency, speed) for ranks in (2, 16, 256)]
        enough = math.ceil((4 * added[1] - fixed) / a_row)
        for n in (128, 512, 2048):
            own = fixed + a_row * n
            cells = [f"{1e3 * (own + s):7.2f} {own / (own + s):4.0%}" for s in added]
            print(f"{wire:14}{n:11}   {'   '.join(cells)}   {enough:8,} rows")


def main():
    """Print the table, or compare the model with this job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", default="784,100,10")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--cores", type=int, default=1, help="of a rank, in the table")
    options = parser.parse_args()
    layers = [int(n) for n in options.layers.split(",")]
    n_bytes = 4 * fastbp.Network(layers).parameters.size
    try:
        from mpi4py.MPI import COMM_WORLD as comm
    except ImportError:
        comm = None
    if comm is None or comm.size == 1:
        print_table(layers, n_bytes, options.cores)
        return
    measured = seconds_per_step(layers, options.batch, comm)
    exchange = seconds_per_exchange(comm, n_bytes)
    own = max(comm.allgather(seconds_per_step(layers, options.batch // comm.size)))
    model = own + reduction(n_bytes, comm.size, 0, n_bytes / exchange)
    if comm.rank == 0:
        print(f"own rows {1e3 * own:.2f} ms, exchange {1e3 * exchange:.2f} ms")
        print(f"model {1e3 * model:.2f} ms, measured {1e3 * measured:.2f} ms a step")
        print(f"model / measured: {model / measured:.2f}")


if __name__ == "__main__":
    main()
