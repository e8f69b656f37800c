"""Model files: written with their checksum and brought to the disk, read and checked."""

import os
import tempfile

import numpy as np

from ._common import DTYPES, SIZES, network, part


class ModelFile:
    params = (["S 784-30-10 x 10", "XL 784-2048-2048-10 x 512"], DTYPES)
    param_names = ("layers x batch", "dtype")
    version = "1"

    def setup(self, size, dtype):
        part("Network.save")
        self.network = network(SIZES[size].layers, dtype)
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "model.safetensors")
        self.network.save(self.path)
        self.load = type(self.network).load
        self.load(self.path)

    def teardown(self, size, dtype):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def time_save(self, size, dtype):
        """On a shared disk, mostly the disk."""
        self.network.save(self.path)

    def time_load(self, size, dtype):
        self.load(self.path)


class RowsInAFile:
    """An epoch of 784-100-10 x 32 over 16384 rows of bytes: in memory, in 1 or 8 buffers."""

    params = (["memory", "1 buffer", "8 buffers"],)
    param_names = ("rows",)
    version = "1"

    def setup(self, rows):
        open_rows = part("open_rows")
        size = SIZES["M 784-100-10 x 32"]
        layers, batch = size.layers, size.batch
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (16384, layers[0]), np.uint8)
        y = rng.integers(0, layers[-1], len(x))
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, "x.npy")
        np.save(path, x)
        buffer_rows = None if rows == "memory" else len(x) // int(rows.split()[0])
        self.rows = open_rows(x if rows == "memory" else path, y, scale=1 / 255)
        self.how = {"batch_size": batch, "learning_rate": 0.01, "buffer_rows": buffer_rows}
        self.network = network(layers, "float32")
        self.time_epoch(rows)  # compile

    def teardown(self, rows):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def time_epoch(self, rows):
        self.network.fit(self.rows, epochs=1, **self.how)
