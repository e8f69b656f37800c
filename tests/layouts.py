"""The same numbers in every dress that an array can come in."""

import pickle
import tempfile

import numpy as np


class Frame:
    """What a DataFrame is to NumPy: an object that can turn itself into an array."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype=dtype)


class Subclass(np.ndarray):
    """An array by inheritance."""


def _unaligned(x):
    buffer = np.empty(x.nbytes + 1, np.uint8)
    buffer[1:] = np.frombuffer(x.tobytes(), np.uint8)
    return np.frombuffer(buffer, x.dtype, offset=1).reshape(x.shape)


def _memmap(x):
    with tempfile.TemporaryFile() as file:
        file.write(x.tobytes())
        file.flush()
        return np.memmap(file, x.dtype, mode="r", shape=x.shape)


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


#: From a C-contiguous array of at least one dimension; all keep its dtype but for the byte order.
LAYOUTS = {
    "swapped bytes": lambda x: x.astype(x.dtype.newbyteorder()),
    "unaligned": _unaligned,
    "Fortran order": np.asfortranarray,
    "negative strides": lambda x: x[..., ::-1].copy()[..., ::-1],
    "gaps": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "read-only": _read_only,
    "memmap": _memmap,
    "frame": Frame,
    "subclass": lambda x: x.copy().view(Subclass),
    "nothing masked": lambda x: np.ma.array(x),
    "unpickled": lambda x: pickle.loads(pickle.dumps(x)),
}
