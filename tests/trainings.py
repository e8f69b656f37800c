"""Small trainings: their data, what they lead to, and what may happen after one of their steps."""

import hashlib
import threading

import numpy as np

from fastbp import SGD, Adam
from fastbp.backprop import parallel
from fastbp.training import differentiate, predict, run

SIZES = [6, 5, 4, 3]
OPTIMIZERS = {
    "sgd": SGD(0.05),
    "nesterov": SGD(0.05, nesterov=True),
    "adam": Adam(0.01),
    "adamw": Adam(0.01, weight_decay=0.1),
}


def small_data():
    """Three classes that can be told apart, 61 rows."""
    rng = np.random.default_rng(5)
    y = rng.integers(0, 3, 61)
    return rng.normal(scale=0.5, size=(61, 6)) + np.eye(3, 6)[y], y


def digest(network):
    """SHA-256 of all that training changes."""
    vectors = network.parameters, network.velocity, network.second_moment
    return hashlib.sha256(b"".join(vector.tobytes() for vector in vectors)).hexdigest()


def one_by_one(patch):
    """Make slices of training one step long, and those of prediction one block of rows."""
    patch.setattr(run, "FIRST_SLICE_MULTIPLY_ADDS", 0)
    patch.setattr(run, "SLICE_SECONDS", 0.0)
    patch.setattr(predict, "FIRST_SLICE_MULTIPLY_ADDS", 0)


def share_all(patch):
    """Have the smallest work shared by as many threads as there may be."""
    for room in (run, predict, differentiate):
        patch.setattr(room, "MULTIPLY_ADDS_PER_THREAD", 1)


def after_steps(patch, n_steps, action, *, spoil=False):
    """Have ``action()`` happen after so many steps; return a list with an item for each step.

    It happens in the thread that calls this, whichever others take part in the steps.  With
    ``spoil``, a parameter is NaN by then.
    """
    made, thread = [], threading.get_ident()

    def train(model, *arguments, original=parallel.train):
        original(model, *arguments)
        if threading.get_ident() != thread:
            return
        made.append(None)
        if len(made) == n_steps:
            if spoil:
                model.parameters[0] = np.nan
            action()

    one_by_one(patch)
    patch.setattr(parallel, "train", train)
    return made


def interrupt():
    """As Ctrl-C."""
    raise KeyboardInterrupt
