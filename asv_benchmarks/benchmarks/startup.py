"""What a new process waits for; every sample is a process of its own."""

from ._common import network, samples

PREPARE = """
import os, tempfile
{environment}
import numpy as np
import fastbp
rng = np.random.default_rng(0)
x, y = rng.random((256, 64), np.float32), rng.integers(0, 10, 256)
network = fastbp.Network([64, 32, 10], seed=0)
"""
FIT = "network.fit(x, y, epochs=1, batch_size=32)"


class Import:
    version = "1"
    rounds = 2
    repeat = 4
    warmup_time = 0

    def timeraw_import(self):
        return "import fastbp"


class FirstFit:
    """The first fit after the import: machine code is compiled, or loaded from the disk."""

    version = "1"
    rounds = 2
    warmup_time = 0
    timeout = 300

    def setup(self):
        # The cached series finds machine code on the disk.
        network([64, 32, 10], "float32").fit(*samples(64, [64, 10], "float32"), epochs=1)

    def timeraw_cold(self):
        # The folder goes with the process.
        empty = (
            "folder = tempfile.TemporaryDirectory()\nos.environ['NUMBA_CACHE_DIR'] = folder.name"
        )
        return FIT, PREPARE.format(environment=empty)

    timeraw_cold.repeat = 1

    def timeraw_cached(self):
        return FIT, PREPARE.format(environment="")

    timeraw_cached.repeat = 3
