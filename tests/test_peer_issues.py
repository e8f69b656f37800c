"""Defects that other libraries have, each with the input of the report about it.

The titles are those of reports that were open in September 2026.  Comments hold what the peers
return; assertions hold what is right.
"""

import numpy as np
import pytest
import reference
from tolerances import assert_ulp

import fastbp

# Where the other class's share, e^-Z, is a quarter of the last place of 1.
Z = 37.42994775023705
TAIL = 5.551115123125776e-17


# scipy/scipy#19521 "scipy.special.log_softmax could be 2**126 to 2**1022 times more accurate":
# SciPy returns [-0, -16.9424].
# pytorch/pytorch#113708 "log_softmax could be 2**103 to 2**1022 times more accurate on small
# outputs": the same input, the same result from torch.
def test_log_softmax_and_loss_of_a_confident_row(dtype):
    info = np.finfo(dtype)
    for tail in (2 * info.eps, info.eps, info.smallest_normal):
        z = np.array([1 - np.log(dtype.type(tail)), 0], dtype)
        log_a, loss = fastbp.log_softmax(z), fastbp.cross_entropy(z[None], [0], reduction="none")
        assert log_a[0] < 0 < loss[0] == fastbp.cross_entropy(z[None], [0])
        assert_ulp("log_softmax", log_a, reference.from_mp(reference.log_softmax_mp(z)))
        exact = reference.from_mp([reference.cross_entropy_mp(z, [1, 0])])
        assert_ulp("cross_entropy", loss, exact)


# pytorch/pytorch#195678 "cross_entropy loses a representable float64 gradient component": torch
# returns [[0, 5.55e-17]].
# pytorch/pytorch#195680 "log_softmax loses a representable float64 VJP component": of the row's
# first output, torch returns [0, -5.55e-17].  Here that product is minus the output error.
# pytorch/pytorch#195684 "softmax loses a representable float64 VJP component": of the row's first
# output, torch returns [0, -5.55e-17].  Here that product is minus the output error times a_0.
@pytest.mark.parametrize("y", [[0], [[1.0, 0.0]]], ids=["label", "one-hot"])
def test_gradients_of_a_confident_row(y):
    z = np.array([[Z, 0.0]])
    delta = fastbp.softmax_cross_entropy(z, y)[1]
    exact = reference.from_mp(reference.output_error_mp([Z, 0.0], [1, 0]))[None]
    assert_ulp("delta", delta, exact)
    for product in (-delta, -delta * fastbp.softmax(z)[:, :1]):
        np.testing.assert_allclose(product, [[TAIL, -TAIL]], rtol=1e-15)
        assert abs(product.sum()) < 1e-15 * TAIL


# pytorch/pytorch#195681 "sigmoid backward loses a representable float64 derivative at large
# positive input": torch returns 0.
def test_derivative_of_the_sigmoid():
    got = fastbp.sigmoid_derivative(np.array([Z, -Z]))
    exact = reference.from_mp([reference.sigmoid_derivative_mp(z) for z in (Z, -Z)])
    assert_ulp("sigmoid_derivative", got, exact)
    np.testing.assert_allclose(got, TAIL, rtol=1e-15)


# scikit-learn clips probabilities before the logarithm (sklearn.neural_network, since pull request
# 16117): it reports 15.9 in float32 and 36.0 in float64.  The input is the smallest such: one row
# that is wrong by 100.
def test_loss_of_a_confident_wrong_row(dtype):
    z = np.array([[100.0, 0.0]], dtype)
    for y in ([1], [[0.0, 1.0]]):
        assert fastbp.cross_entropy(z, y) == 100
        assert fastbp.softmax_cross_entropy(z, y)[0] == 100
