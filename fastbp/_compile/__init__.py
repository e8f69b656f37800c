"""How kernels are compiled and cached: all that depends on Numba's insides."""

from fastbp._compile.options import inlined, kernel

__all__ = ["inlined", "kernel"]
