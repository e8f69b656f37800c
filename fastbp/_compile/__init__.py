"""How kernels are compiled and cached: all that depends on Numba's insides."""

from fastbp._compile.options import DISABLE_JIT, inlined, kernel

__all__ = ["DISABLE_JIT", "inlined", "kernel"]
