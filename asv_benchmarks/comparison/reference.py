"""Backpropagation in float64, straight from the equations: what every trainer has to agree with."""

import numpy as np

from comparison.trainers import Parameters, Problem


def forward(parameters: Parameters, x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The activations that each layer reads, and the logarithms of the probabilities."""
    a = [x.astype(np.float64)]
    *hidden, (w_last, b_last) = parameters
    for w, b in hidden:
        a.append(1 / (1 + np.exp(-(a[-1] @ w + b))))
    z = a[-1] @ w_last + b_last
    z -= z.max(axis=1, keepdims=True)
    return a, z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def epoch(problem: Problem, order: np.ndarray) -> tuple[float, Parameters]:
    """The mean loss of an epoch from the problem's parameters on, and the parameters after it."""
    parameters = [(w.astype(np.float64), b.astype(np.float64)) for w, b in problem.parameters]
    velocity = [(np.zeros_like(w), np.zeros_like(b)) for w, b in parameters]
    losses = []
    for rows in order.reshape(-1, problem.batch):
        a, log_a = forward(parameters, problem.x[rows])
        right = np.arange(problem.batch), problem.labels[rows]
        losses.append(-log_a[right].mean())
        delta = np.exp(log_a)
        delta[right] -= 1  # BP1
        for layer in reversed(range(len(parameters))):
            a_prev, (w, b), (v_w, v_b) = a[layer], parameters[layer], velocity[layer]
            grad_w, grad_b = a_prev.T @ delta / problem.batch, delta.mean(axis=0)  # BP4, BP3
            if layer > 0:
                delta = (delta @ w.T) * a_prev * (1 - a_prev)  # BP2
            for theta, v, grad in ((w, v_w, grad_w), (b, v_b, grad_b)):
                v *= problem.momentum
                v -= problem.learning_rate * grad
                theta += v
    return float(np.mean(losses)), parameters
