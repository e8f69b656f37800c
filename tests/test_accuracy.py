"""Whole-network gradients: errors norm-wise for each array, against longdouble and beside torch.

In unit roundoffs.  What rounding did in one array is a matter of luck, so that of two libraries
neither can be the better one in all of them: they are compared by the geometric mean of the ratios
of their errors.
"""

import itertools

import numpy as np
import pytest
import reference

from fastbp import Network

pytestmark = pytest.mark.compiled

SIZES = [
    (64, 32, 10),
    (784, 100, 10),
    (300, 100, 30, 10),
    (64, 100, 64, 30, 10),
    (100, 64, 100, 30, 64, 10),
]
CASES = list(itertools.product(SIZES, [10, 32, 128], [0, 1]))

#: Largest median error of the arrays, and the share of them that may exceed the goal of 4: deep
#: networks pass the errors of the layers below on to those above.
MEDIAN, ABOVE_GOAL = 2.0, 0.05


def make_case(sizes, n, seed, scale, dtype):
    rng = np.random.default_rng([n, seed, len(sizes)])
    net = Network(sizes, dtype=dtype, seed=seed)
    net.parameters *= scale
    return net, rng.uniform(size=(n, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], n)


def errors_of(grads, exact, dtype):
    return [
        reference.norm_error(grad, expected, dtype)
        for grad, expected in zip(grads, exact, strict=True)
    ]


def exact_gradients(net, X, y):
    onehot = reference.onehot(y, net.layer_sizes[-1])
    _, grad_w, grad_b = reference.gradients(net.weights, net.biases, X, onehot)
    return [*grad_w, *grad_b]


def fastbp_gradients(net, X, y):
    _, grad_w, grad_b = net.gradients(X, y)
    return [*grad_w, *grad_b]


def torch_gradients(torch, net, X, y):
    parameters = [torch.tensor(p, requires_grad=True) for p in (*net.weights, *net.biases)]
    weights, biases = parameters[: len(net.weights)], parameters[len(net.weights) :]
    z = torch.from_numpy(X)
    for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
        z = torch.nn.functional.linear(torch.sigmoid(z) if layer else z, w.T, b)
    torch.nn.functional.cross_entropy(z, torch.from_numpy(y)).backward()
    return [p.grad.numpy() for p in parameters]


def test_fresh_networks(dtype):
    errors = []
    for sizes, n, seed in CASES:
        net, X, y = make_case(sizes, n, seed, 1, dtype)
        errors += errors_of(fastbp_gradients(net, X, y), exact_gradients(net, X, y), dtype)
    assert np.median(errors) <= MEDIAN
    assert np.mean(np.array(errors) > reference.FRESH) <= ABOVE_GOAL


@pytest.mark.parametrize("scale", [1, 3, 10])
def test_errors_are_below_those_of_torch(scale, dtype):
    torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")
    ours, theirs = [], []
    for sizes, n, seed in CASES:
        net, X, y = make_case(sizes, n, seed, scale, dtype)
        exact = exact_gradients(net, X, y)
        ours += errors_of(fastbp_gradients(net, X, y), exact, dtype)
        theirs += errors_of(torch_gradients(torch, net, X, y), exact, dtype)
    assert np.exp(np.mean(np.log(np.array(ours) / theirs))) < 0.9
    assert np.median(ours) < np.median(theirs)
