"""Sigmoid over a batch."""

from fastbp._compile import kernel
from fastbp.kernels import elementary


@kernel
def sigmoid_forward(z, a):
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            a[i, j] = elementary.sigmoid(z[i, j])


@kernel
def sigmoid_prime(z, a_prime):
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            a_prime[i, j] = elementary.sigmoid_derivative(z[i, j])


@kernel
def sigmoid_backward(a, delta):
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            delta[i, j] = delta[i, j] * a[i, j] * (1 - a[i, j])
