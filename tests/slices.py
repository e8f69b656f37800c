"""Training that enters compiled code for one step at a time, and what happens after a step."""

import threading

import numpy as np

from fastbp import network
from fastbp.backprop import parallel
from fastbp.training import run as training_run


def one_by_one(patch):
    """Make slices of training one step long, and those of prediction one block of rows."""
    patch.setattr(training_run, "FIRST_SLICE", 0)
    patch.setattr(training_run, "SLICE_SECONDS", 0.0)
    patch.setattr(network, "FIRST_SLICE", 0)


def after_steps(patch, n_steps, action, *, spoil=False):
    """Have ``action()`` happen after so many steps; return a list with an item for each step.

    It happens in the thread that asks for it, whichever others take part in the steps.  With
    ``spoil``, a parameter is NaN by then.
    """
    made, thread = [], threading.get_ident()

    def train(*arguments, original=parallel.train):
        original(*arguments)
        if threading.get_ident() != thread:
            return
        made.append(None)
        if len(made) == n_steps:
            if spoil:
                arguments[3][0] = np.nan
            action()

    one_by_one(patch)
    patch.setattr(parallel, "train", train)
    return made


def interrupt():
    """As Ctrl-C."""
    raise KeyboardInterrupt
