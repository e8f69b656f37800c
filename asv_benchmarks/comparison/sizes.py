"""The networks and the products that are measured, here and by asv."""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Size:
    id: str
    layers: tuple[int, ...]
    batch: int
    rows: int
    goal: float  # time of the fastest peer / time of fastbp

    @property
    def steps(self) -> int:
        return self.rows // self.batch

    @property
    def multiply_adds(self) -> int:
        """In a step: three matrix products a layer, of which the first layer needs only two."""
        per_layer = [fan_in * fan_out for fan_in, fan_out in pairwise(self.layers)]
        return self.batch * (3 * sum(per_layer) - per_layer[0])

    def __str__(self) -> str:
        return f"{self.id} {'-'.join(map(str, self.layers))} x {self.batch}"


SIZES = (
    Size("XS", (64, 32, 10), 32, 20000, 3.5),
    Size("S", (784, 30, 10), 10, 20000, 4),
    Size("M", (784, 100, 10), 32, 20000, 2.2),
    Size("L", (784, 512, 512, 10), 128, 6400, 1.25),
    Size("XL", (784, 2048, 2048, 10), 512, 4096, 1.1),
)

# Of matrix products: rows of the batch, units of the layer before, units of the layer.
PRODUCTS = (
    (32, 784, 100),
    (128, 784, 512),
    (128, 512, 512),
    (512, 784, 2048),
    (512, 2048, 2048),
)
