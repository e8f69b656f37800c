"""Run kernels on arrays that touch protected pages: ``python page_edges.py softmax ...``.

A read or write of one byte too many, or before the start, ends this process by a signal; the last
line printed names the call.
"""

import ctypes
import itertools
import mmap
import sys

import calls
import inputs
import numpy as np

_KEPT = []  # a mapping lives as long as this process
_libc = ctypes.CDLL(None, use_errno=True)


def _protect(address):
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


def placer(at_the_end):
    """A function that copies an array to the end, or the start, of unprotected memory."""

    def place(array):
        n_pages = max(-(-array.nbytes // mmap.PAGESIZE), 1)
        memory = mmap.mmap(-1, (n_pages + 2) * mmap.PAGESIZE)
        _KEPT.append(memory)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        _protect(address)
        _protect(address + (n_pages + 1) * mmap.PAGESIZE)
        start = mmap.PAGESIZE
        if at_the_end:
            start += n_pages * mmap.PAGESIZE - array.nbytes
        copy = np.frombuffer(memory, array.dtype, array.size, start).reshape(array.shape)
        copy[...] = array
        return copy

    return place


def main(names):
    dtypes = np.dtype(np.float32), np.dtype(np.float64)
    for name, n_classes, n, dtype, at_the_end in itertools.product(
        names, inputs.CLASSES[:-1], (1, 3, 16, 17), dtypes, (True, False)
    ):
        print(name, (n, n_classes), dtype, at_the_end, flush=True)
        calls.sample(name, (n, n_classes), dtype).on(placer(at_the_end))
    print("done")


if __name__ == "__main__":
    main(sys.argv[1:])
