"""Where arrays begin: a time should not depend on the place that NumPy happens to give them."""

import numpy as np

PAGE = 4096  # bytes


def on_a_page(array, offset=0):
    """A copy that begins with a page of memory, or ``offset`` bytes into one.

    NumPy begins anywhere on 16 bytes, elsewhere in each process. `momentum_step` takes 1.3 times as
    long 16 bytes further on, and so does `sigmoid_derivative_forward` where its result begins 64
    bytes further on in a page than its input does.
    """
    memory = np.empty(array.nbytes + 2 * PAGE, np.uint8)
    start = -memory.ctypes.data % PAGE + offset
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
