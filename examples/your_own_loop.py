"""A training loop of your own, compiled: fastbp's kernels inside an @njit function.

Kernels can be called from any compiled function, so that a loop may do what no model class
foresees: here the learning rate falls from step to step, and each image is moved by a pixel to a
side, at random, whenever it is learnt from.
Run: python examples/your_own_loop.py
"""

import time

import numpy as np
from numba import njit
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastbp
from fastbp import kernels


@njit
def gather_shifted(x, rows, rng, batch):
    """Copy rows of ``x``, images of 8 x 8 pixels, each moved sideways by -1, 0 or 1 pixel."""
    for i in range(rows.size):
        shift = rng.integers(-1, 2)
        for q in range(64):
            column = q % 8 - shift
            batch[i, q] = x[rows[i], q - shift] if 0 <= column < 8 else 0


@njit
def train(x, labels, w1, b1, w2, b2, epochs, batch_size, learning_rate, momentum, rng):
    """Train a network with one hidden layer in place; return the mean loss of each epoch."""
    n_steps = x.shape[0] // batch_size
    n_hidden, n_classes = w2.shape
    batch = np.empty((batch_size, x.shape[1]), x.dtype)
    a1 = np.empty((batch_size, n_hidden), x.dtype)
    z2 = np.empty((batch_size, n_classes), x.dtype)
    delta1, delta2 = np.empty_like(a1), np.empty_like(z2)
    loss = np.empty(batch_size, x.dtype)
    every_row_weighs_one = np.empty(0)
    grad_w1, grad_b1, grad_w2, grad_b2 = w1.copy(), b1.copy(), w2.copy(), b2.copy()
    v_w1, v_b1 = np.zeros(w1.size, x.dtype), np.zeros(b1.size, x.dtype)
    v_w2, v_b2 = np.zeros(w2.size, x.dtype), np.zeros(b2.size, x.dtype)

    mean_loss = np.zeros(epochs)
    for epoch in range(epochs):
        order = rng.permutation(x.shape[0])
        for step in range(n_steps):
            rows = order[step * batch_size : (step + 1) * batch_size]
            gather_shifted(x, rows, rng, batch)

            kernels.dense_forward(batch, w1, b1, a1)
            kernels.sigmoid_forward(a1, a1)
            kernels.dense_forward(a1, w2, b2, z2)

            kernels.softmax_cross_entropy(z2, labels[rows], every_row_weighs_one, loss, delta2, 1.0)
            mean_loss[epoch] += kernels.loss_sum(loss) / (n_steps * batch_size)

            kernels.bias_gradient(delta2, grad_b2)
            kernels.weight_gradient(a1, delta2, grad_w2)
            kernels.hidden_error(delta2, w2, a1, delta1)
            kernels.bias_gradient(delta1, grad_b1)
            kernels.weight_gradient(batch, delta1, grad_w1)

            eta = learning_rate * (1 - (epoch * n_steps + step) / (epochs * n_steps))
            kernels.momentum_step(w1.reshape(-1), grad_w1.reshape(-1), v_w1, eta, momentum)
            kernels.momentum_step(b1, grad_b1, v_b1, eta, momentum)
            kernels.momentum_step(w2.reshape(-1), grad_w2.reshape(-1), v_w2, eta, momentum)
            kernels.momentum_step(b2, grad_b2, v_b2, eta, momentum)
    return mean_loss


def main():
    """Train on digits and test on others."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=0
    )
    rng = np.random.default_rng(0)
    w1 = rng.uniform(-0.2, 0.2, (64, 128)).astype(np.float32)
    w2 = rng.uniform(-0.8, 0.8, (128, 10)).astype(np.float32)
    b1, b2 = np.zeros(128, np.float32), np.zeros(10, np.float32)

    # The first call compiles; with learning rate 0 it leaves the weights as they are.
    train(x_train, y_train, w1, b1, w2, b2, 1, 16, 0.0, 0.9, np.random.default_rng())
    started = time.perf_counter()
    mean_loss = train(x_train, y_train, w1, b1, w2, b2, 60, 16, 0.3, 0.9, rng)
    seconds = time.perf_counter() - started

    a1 = fastbp.sigmoid(fastbp.dense(x_test, w1, b1))
    accuracy = np.mean(fastbp.dense(a1, w2, b2).argmax(axis=1) == y_test)
    print(f"training loss: {mean_loss[0]:.4f} in the first epoch, {mean_loss[-1]:.4f} in the last")
    print(f"trained in {seconds:.2f} s")
    print(f"test accuracy: {100 * accuracy:.2f} % of {len(y_test)} digits")


if __name__ == "__main__":
    main()
