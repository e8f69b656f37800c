"""Backpropagation with softmax outputs and cross-entropy, as Numba-compiled kernels."""
