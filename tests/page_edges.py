"""Run kernels on arrays that touch protected pages: ``python page_edges.py softmax ...``.

A read or write of one byte too many, or before the start, ends this process by a signal; the last
line printed names the call.
"""

import ctypes
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


def call_of(name, shape, dtype):
    """The call of a kernel on a batch of this shape."""
    z = inputs.logits("normal", 10.0, shape, dtype)
    labels, y = inputs.labels_of(z), inputs.targets_of(z)
    weights = inputs.weights_of(len(z))
    w = inputs.logits("normal", 1.0, (shape[1], 19), dtype)
    arguments = {
        "cross_entropy": (z, labels, weights),
        "cross_entropy_targets": (z, y, weights),
        "output_error": (y, labels),
        "output_error_targets": (y, y),
        "softmax_cross_entropy": (z, labels, weights, 0.5),
        "softmax_cross_entropy_targets": (z, y, weights, 0.5),
        "smoothed_targets": (labels, z[0], shape, dtype, 0.1),
        "sigmoid_backward": (y, z),
        "tanh_backward": (y, z),
        "relu_backward": (y, z),
        "dense_forward": (z, w, w[0]),
        "hidden_error": (z, np.ascontiguousarray(w.T), np.ascontiguousarray(z[:, :1] + w[:1])),
        "hidden_error_of": (z, np.ascontiguousarray(w.T), np.ascontiguousarray(z[:, :1] + w[:1])),
        "weight_gradient": (z, y),
        "momentum_step": (z.ravel(), z.ravel(), z.ravel()),
        "nesterov_step": (z.ravel(), z.ravel(), z.ravel()),
        "adam_step": (z.ravel(), z.ravel(), z.ravel(), y.ravel()),
    }
    return getattr(calls, name)(*arguments.get(name, (z,)))


def main(names):
    for name in names:
        for n_classes in inputs.CLASSES[:-1]:
            for n in (1, 3, 16, 17):
                for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
                    call = call_of(name, (n, n_classes), dtype)
                    for at_the_end in (True, False):
                        print(name, (n, n_classes), dtype, at_the_end, flush=True)
                        call.on(placer(at_the_end))
    print("done")


if __name__ == "__main__":
    main(sys.argv[1:])
