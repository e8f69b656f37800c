"""Peak memory of a process that trains: parameters, velocities, copies and one batch."""

import fastbp

from ._common import DTYPES, SIZES, STEPS, network, samples


class Fit:
    params = (["M 784-100-10 x 32", "XL 784-2048-2048-10 x 512"], DTYPES)
    param_names = ("layers x batch", "dtype")
    timeout = 120
    version = "1"

    def setup_cache(self):
        """Compile in another process: LLVM takes more memory than training does."""
        for dtype in DTYPES if hasattr(fastbp, "Network") else ():
            self.fit(network([4, 3, 2], dtype), *samples(8, [4, 2], dtype), batch_size=4)

    def setup(self, size, dtype):
        layers, self.batch = SIZES[size].layers, SIZES[size].batch
        self.network = network(layers, dtype)
        self.x, self.y = samples(STEPS[size] * self.batch, layers, dtype)

    def fit(self, network, x, y, batch_size):
        network.fit(x, y, epochs=1, batch_size=batch_size, learning_rate=0.01, momentum=0.9)

    def peakmem_fit(self, size, dtype):
        self.fit(self.network, self.x, self.y, self.batch)
