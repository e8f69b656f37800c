"""The front door: arguments in, clean arrays or one clear exception out, and nothing written yet.

Kernels check nothing, and Numba itself misreads big-endian arrays, drops the mask of masked arrays
and compiles anew for read-only ones.  An array that passes the front door is plain: aligned,
C-contiguous and of the machine's byte order.  So each kernel has one machine code per dtype.
"""
