"""How kernels are compiled and cached: all that depends on Numba's insides."""

from fastbp._compile.arguments import (
    FLOAT,
    INTEGER,
    REAL,
    floats,
    labels,
    record,
    weights,
    written,
)
from fastbp._compile.options import DISABLE_JIT, inlined, kernel, public_kernel

__all__ = [
    "DISABLE_JIT",
    "FLOAT",
    "INTEGER",
    "REAL",
    "floats",
    "inlined",
    "kernel",
    "labels",
    "public_kernel",
    "record",
    "weights",
    "written",
]
