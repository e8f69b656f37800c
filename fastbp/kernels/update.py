"""Momentum SGD."""

from fastbp._compile import kernel


@kernel
def momentum_step(param, grad, velocity, learning_rate, momentum):
    eta = param.dtype.type(learning_rate)
    mu = param.dtype.type(momentum)
    for q in range(param.shape[0]):
        v = mu * velocity[q] - eta * grad[q]
        velocity[q] = v
        param[q] += v
