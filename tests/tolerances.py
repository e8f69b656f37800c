"""The one table of tolerances, and the assertion that reads it."""

import numpy as np
import reference

#: Largest error in ulp (see `reference.ulp_error`) in float32 and in float64.
ULP = {
    "exp": (1, 1),
    "log1p": (1, 1),
    "sigmoid": (2, 2.5),
    "sigmoid_derivative": (3.5, 3.5),
    "sigmoid_backward": (2.5, 2.5),  # three roundings
    "tanh": (1, 1.5),
    "tanh_backward": (1.5, 1.5),  # two roundings
    "relu": (0, 0),
    "relu_backward": (0, 0),
    "softmax": (2, 4),
    "log_softmax": (2, 4),
    "cross_entropy": (2, 4),
    "cross_entropy_targets": (2, 4),
    "delta": (2, 4),
    "logsumexp": (1, 1.5),  # of the larger of the row's maximum and the result
    # one more rounding; of the weighted smallest normal number at least
    "weighted_cross_entropy": (3, 5),
    "scaled_delta": (3, 5),
    "delta_targets": (3, 5),  # of the larger of a sum(y) and y: their difference cancels
    "output_error": (2, 4),  # of the larger of a sum(y) and y, for a and y as given
    "smoothed_targets": (2, 2),
    "mean_cross_entropy": (2, 2),
}

#: Errors of matrix products, in multiples of eps times the same sum of absolute values: their
#: bound grows as the number of terms, what is seen as its square root.
PRODUCT = {
    "product": lambda n_terms: 1 + 0.5 * n_terms**0.5,
    "dense_forward": lambda n_terms: 1 + 0.5 * n_terms**0.5,
    "hidden_error": lambda n_terms: 2 + 0.5 * n_terms**0.5,
    "weight_gradient": lambda n_terms: 1 + 0.5 * n_terms**0.5,
    "bias_gradient": lambda n_terms: 1 + 0.5 * n_terms**0.5,
}

#: Parameters after a step of Adam, in multiples of eps times the size of what is summed.
ADAM = 6

#: Central differences in float64 with steps of `STEP`, absolute, for values of about 1.
FINITE_DIFFERENCE = 1e-8
STEP = 1e-5

#: Units in the last place between a compiled kernel and the same kernel as plain Python.
PLAIN = 4

#: Properties that hold up to rounding, in multiples of eps.
EPS = {
    "rows_sum_to_one": 4,  # times the square root of the number of classes
    "delta_rows_sum_to_zero": 4,  # the same
    "loss_sum": 1,
    # two results that may each be off by their own tolerance
    "permutation": 8,
    "shift": 4,
}


def goal(quantity, dtype):
    """Largest error in ulp of a quantity."""
    return ULP[quantity][np.dtype(dtype) == np.float64]


def assert_ulp(quantity, got, exact, at=None):
    """Each of ``got`` is within the tolerance of ``exact``; the message shows the worst."""
    __tracebackhide__ = True
    error = reference.ulp_error(got, exact, at)
    allowed = goal(quantity, got.dtype)
    if got.size and not error.max() <= allowed:
        worst = np.unravel_index(error.argmax(), error.shape)
        raise AssertionError(
            f"{quantity} {got.dtype} shape {got.shape}: {float(error.max()):.4g} ulp at "
            f"{tuple(map(int, worst))}, allowed {allowed}; got {got[worst]!r}, "
            f"exact {exact[worst]!r}; {int((error > allowed).sum())} of {got.size} entries off"
        )


def assert_product(quantity, got, exact, magnitude, n_terms):
    """Each of ``got`` is within rounding of ``exact``; ``magnitude`` sums absolute values."""
    __tracebackhide__ = True
    allowed = PRODUCT[quantity](n_terms) * np.finfo(got.dtype).eps * magnitude
    error = np.abs(reference.wide(got) - exact)
    assert (error <= allowed).all(), (
        f"{quantity} {got.dtype}: {float((error / allowed).max()):.3g} times what is allowed"
    )


def assert_same_bits(got, expected, message=""):
    """Equal to the last bit, signs of zeros included; all NaNs are one."""
    __tracebackhide__ = True
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    same = (got == expected) & (np.signbit(got) == np.signbit(expected))
    same |= np.isnan(got) & np.isnan(expected)
    if not same.all():
        where = tuple(map(int, np.argwhere(~same)[0]))
        raise AssertionError(
            f"{message} {int((~same).sum())} of {same.size} entries differ, first at {where}: "
            f"{got[where]!r} instead of {expected[where]!r}"
        )
