"""Train with several processes over MPI, to the bits of one.

Needs scikit-learn, and MPI: pip install 'fastbp[sklearn,mpi-local]'
Run: mpiexec -n 2 python examples/over_mpi.py
"""

import hashlib

from mpi4py import MPI
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastbp


def main():
    """Train on the digits; each rank has the whole network in the end, the first one prints."""
    comm = MPI.COMM_WORLD
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        images / 16, labels, test_size=0.25, stratify=labels, random_state=0
    )
    network = fastbp.Network([64, 32, 10], seed=0)
    # A batch of 256 rows is two blocks of 128; with shards=4, it is four of 64, for four ranks.
    history = network.fit(
        x_train,
        y_train,
        epochs=40,
        batch_size=256,
        shards=4,
        learning_rate=1.0,
        validation_data=(x_test, y_test),
        comm=comm,
    )
    if comm.rank == 0:
        digest = hashlib.sha256(network.parameters.tobytes()).hexdigest()
        print(f"{comm.size} ranks: {history}")
        print(f"test accuracy: {100 * history.val_accuracy[-1]:.2f} % of {len(y_test)} digits")
        print(f"parameters: {digest}, for any number of ranks")


if __name__ == "__main__":
    main()
