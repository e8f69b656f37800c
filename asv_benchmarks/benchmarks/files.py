"""Model files: written with their checksum and brought to the disk, read and checked."""

import os
import tempfile

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
