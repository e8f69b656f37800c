"""Learn the 60000 handwritten digits of MNIST, and test on its other 10000 after each epoch.

The data is read from a folder that holds the four files of MNIST (train-images-idx3-ubyte and so
on), plain or gzipped; without a folder it is downloaded from openml.org.
Run: python examples/mnist.py --data DIR, or FASTBP_MNIST=DIR python examples/mnist.py
"""

import argparse
import gzip
import math
import os
import struct
import sys
from pathlib import Path

import numpy as np

import fastbp

N_TRAIN, N_TEST, SIDE = 60000, 10000, 28


def read_folder(folder):
    """Return the training and the test images and labels, as ``(x, y), (x_test, y_test)``."""
    folder = Path(folder)
    return tuple(
        (
            read_idx(folder, f"{part}-images-idx3-ubyte", (n, SIDE, SIDE)).reshape(n, -1),
            read_idx(folder, f"{part}-labels-idx1-ubyte", (n,)),
        )
        for part, n in (("train", N_TRAIN), ("t10k", N_TEST))
    )


def read_idx(folder, name, shape):
    """Read an array of bytes in the IDX format: a magic number, the sizes, then the data."""
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} holds neither {name} nor {name}.gz")
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        content = file.read()
    # The magic number is 8, for unsigned bytes, times 256, plus the number of dimensions.
    header = struct.pack(f">{1 + len(shape)}i", 8 * 256 + len(shape), *shape)
    n_bytes = len(header) + math.prod(shape)
    if not content.startswith(header) or len(content) != n_bytes:
        raise ValueError(f"{path} must hold bytes of shape {shape} in the IDX format: {n_bytes}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


def download():
    """Fetch the same from openml.org; scikit-learn keeps a copy for the next time."""
    from sklearn.datasets import fetch_openml  # here, for files can be read without it

    x, y = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False)
    y = y.astype(np.uint8)
    return (x[:N_TRAIN], y[:N_TRAIN]), (x[N_TRAIN:], y[N_TRAIN:])


def print_epoch(network, epoch, entry):
    """Print a line on the epoch; the training figures are means over it, taken on the way."""
    print(
        f"epoch {epoch:2d}   {entry['time']:.2f} s"
        f"   training loss {entry['loss']:.4f}, accuracy {100 * entry['accuracy']:.2f} %"
        f"   test accuracy {100 * entry['val_accuracy']:.2f} %"
    )


def main():
    """Read, train, test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", default=os.environ.get("FASTBP_MNIST"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        (x, y), test = read_folder(options.data) if options.data else download()
    except (OSError, ValueError, EOFError) as error:
        sys.exit(f"mnist.py: {error}")
    x, test = np.float32(x) / 255, (np.float32(test[0]) / 255, test[1])

    network = fastbp.Network([SIDE * SIDE, 100, 10], seed=options.seed)
    print(network)
    seconds = 0.0
    # Large steps first; the smaller ones settle what the large ones jump across.
    for epochs, learning_rate in ((7, 0.1), (3, 0.02)):
        history = network.fit(
            *(x, y),
            epochs=epochs,
            learning_rate=learning_rate,
            l2=2e-5,
            validation_data=test,
            callback=print_epoch,
        )
        seconds += sum(history.time)
    print(f"test accuracy: {100 * network.score(*test):.2f} % of {N_TEST} digits")
    print(f"trained in {seconds:.2f} s, compiling or loading included")


if __name__ == "__main__":
    main()
