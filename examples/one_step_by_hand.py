"""One training step of a 3-2-2 network, kernel by kernel, each line beside its equation.

The numbers are chosen so that every value is a simple fraction: follow them with a pencil.
Run: python examples/one_step_by_hand.py
"""

import math

import numpy as np

from fastbp import kernels

LN3 = math.log(3)  # sigmoid(ln 3) = 3/4, and softmax((0, ln 3)) = (1/4, 3/4)


def show(name, value, by_hand):
    """Print a value, and insist that it is the one worked out by hand."""
    print(f"{name:<25} = {np.array2string(value, precision=6, separator=', ', prefix=' ' * 28)}")
    np.testing.assert_allclose(value, by_hand, rtol=1e-14, atol=1e-15)


# One row of three features, and its class: a mini-batch of n = 1.
x = np.array([[1.0, 0.0, 2.0]])
label = np.array([0])
every_row_weighs_one = np.empty(0)

# One hidden layer of two units, two classes.
w1 = np.array([[1.0, -1.0], [3.0, 2.0], [-0.5, 0.5]])
b1 = np.array([0.0, LN3])
w2 = np.array([[3.0, -3.0], [-2.0, 2.0]])
b2 = np.array([0.0, LN3])

# Kernels write into arrays that the caller allocates.
z1, a1, delta1 = np.empty((1, 2)), np.empty((1, 2)), np.empty((1, 2))
z2, a2, delta2 = np.empty((1, 2)), np.empty((1, 2)), np.empty((1, 2))
loss = np.empty(1)
grad_w1, grad_b1 = np.empty_like(w1), np.empty_like(b1)
grad_w2, grad_b2 = np.empty_like(w2), np.empty_like(b2)

print("Forward")
kernels.dense_forward(x, w1, b1, z1)
show("z1 = x W1 + b1", z1, [[0, LN3]])
kernels.sigmoid_forward(z1, a1)
show("a1 = sigmoid(z1)", a1, [[1 / 2, 3 / 4]])
kernels.dense_forward(a1, w2, b2, z2)
show("z2 = a1 W2 + b2", z2, [[0, LN3]])
kernels.softmax(z2, a2)
show("a2 = softmax(z2)", a2, [[1 / 4, 3 / 4]])

print("\nCost and output error, in one pass over the logits")
kernels.softmax_cross_entropy(z2, label, every_row_weighs_one, loss, delta2, 1.0)
show("C = -ln a2[label]", loss, [math.log(4)])
show("BP1  delta2 = a2 - y", delta2, [[-3 / 4, 3 / 4]])

print("\nBackward")
kernels.bias_gradient(delta2, grad_b2)
show("BP3  dC/db2 = delta2", grad_b2, [-3 / 4, 3 / 4])
kernels.weight_gradient(a1, delta2, grad_w2)
show("BP4  dC/dW2 = a1^T delta2", grad_w2, [[-3 / 8, 3 / 8], [-9 / 16, 9 / 16]])
kernels.hidden_error(delta2, w2, a1, delta1)
# delta2 W2^T = (-9/2, 3), times a1 (1 - a1) = (1/4, 3/16)
show("BP2  delta1", delta1, [[-9 / 8, 9 / 16]])
kernels.bias_gradient(delta1, grad_b1)
show("BP3  dC/db1 = delta1", grad_b1, [-9 / 8, 9 / 16])
kernels.weight_gradient(x, delta1, grad_w1)
show("BP4  dC/dW1 = x^T delta1", grad_w1, [[-9 / 8, 9 / 16], [0, 0], [-9 / 4, 9 / 8]])

print("\nUpdate: v <- mu v - eta g, theta <- theta + v, with eta = 1/2, mu = 9/10, v = 0 at first")
for theta, grad in ((w1, grad_w1), (b1, grad_b1), (w2, grad_w2), (b2, grad_b2)):
    velocity = np.zeros(theta.size)
    # The kernel takes vectors: reshape(-1) is a view of the same memory.
    kernels.momentum_step(theta.reshape(-1), grad.reshape(-1), velocity, 0.5, 0.9)
show("W1", w1, [[25 / 16, -41 / 32], [3, 2], [5 / 8, -1 / 16]])
show("b1", b1, [9 / 16, LN3 - 9 / 32])
show("W2", w2, [[51 / 16, -51 / 16], [-55 / 32, 55 / 32]])
show("b2", b2, [3 / 8, LN3 - 3 / 8])

cost_before = loss[0]
kernels.dense_forward(x, w1, b1, z1)
kernels.sigmoid_forward(z1, a1)
kernels.dense_forward(a1, w2, b2, z2)
kernels.cross_entropy(z2, label, every_row_weighs_one, loss)
print(f"\nThe step took the cost from {cost_before:.6f} to {loss[0]:.6f}")
assert loss[0] < cost_before
