"""The checked steps: the kernels' results for arrays of any shape and layout, in place."""

import itertools

import numpy as np
import pytest
from layouts import LAYOUTS
from tolerances import assert_same_bits

import fastbp
from fastbp import kernels

ADAM = {
    "learning_rate": 0.1,
    "beta_1": 0.8,
    "beta_2": 0.95,
    "epsilon": 1e-4,
    "weight_decay": 0.01,
    "t": 3,
}
#: The names of the state, and the rates.
STEPS = {
    "momentum_step": (("velocity",), {"learning_rate": 0.1, "momentum": 0.9}),
    "nesterov_step": (("velocity",), {"learning_rate": 0.1, "momentum": 0.9}),
    "adam_step": (("m", "v"), ADAM),
}
every_step = pytest.mark.parametrize("name", STEPS)


def draw(*shape, dtype=np.float64, seed=0):
    return np.array(np.random.default_rng([seed, *shape]).standard_normal(shape), dtype)


def arguments(name, shape, dtype):
    """Parameters, gradient and state."""
    names = ("param", "grad", *STEPS[name][0])
    arrays = {n: draw(*shape, dtype=dtype, seed=seed) for seed, n in enumerate(names)}
    if "v" in arrays:
        arrays["v"] *= arrays["v"]
    return arrays


def expected_of(name, arrays):
    """What the kernel, which has tests of its own, makes of copies of the arrays."""
    flat = {n: np.ascontiguousarray(x).ravel().copy() for n, x in arrays.items()}
    *rates, last = STEPS[name][1].values()
    if name == "adam_step":
        rates = [kernels.AdamOptions(*rates)]
    getattr(kernels, name)(*flat.values(), *rates, last)
    return {n: flat[n].reshape(np.shape(x)) for n, x in arrays.items()}


def assert_same_arrays(got, expected):
    __tracebackhide__ = True
    for name, x in got.items():
        assert_same_bits(np.asarray(x).astype(expected[name].dtype), expected[name], f"{name}:")


@every_step
@pytest.mark.parametrize("shape", [(), (4,), (0,), (3, 5), (2, 3, 4)], ids=str)
def test_matches_the_kernel(dtype, name, shape):
    arrays = arguments(name, shape, dtype)
    expected = expected_of(name, arrays)
    if arrays["param"].size:
        assert (expected["param"] != arrays["param"]).all()
    assert getattr(fastbp, name)(**arrays, **STEPS[name][1]) is None
    assert_same_arrays(arrays, expected)


@every_step
@pytest.mark.parametrize(
    "place",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
        lambda x: x[:, ::-1].copy()[:, ::-1],
        lambda x: x.astype(x.dtype.newbyteorder()),
        lambda x: LAYOUTS["subclass"](x),
    ],
    ids=["Fortran order", "gaps", "negative strides", "swapped bytes", "subclass"],
)
def test_any_layout(dtype, name, place):
    arrays = arguments(name, (3, 4), dtype)
    expected = expected_of(name, arrays)
    placed = {n: place(x) for n, x in arrays.items()}
    getattr(fastbp, name)(**placed, **STEPS[name][1])
    assert_same_arrays(placed, expected)


@every_step
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_of_the_gradient(dtype, name, layout):
    arrays = arguments(name, (3, 4), dtype)
    expected = expected_of(name, arrays)
    arrays["grad"] = LAYOUTS[layout](arrays["grad"])
    getattr(fastbp, name)(**arrays, **STEPS[name][1])
    del arrays["grad"]
    assert_same_arrays(arrays, expected)


@every_step
def test_keeps_what_lies_between(dtype, name):
    arrays = arguments(name, (3, 4), dtype)
    expected = expected_of(name, arrays)
    frames = {n: np.full((5, 6), 7, dtype) for n in arrays}
    for n, frame in frames.items():
        frame[1:-1, 1:-1] = arrays[n]
    getattr(fastbp, name)(**{n: frame[1:-1, 1:-1] for n, frame in frames.items()}, **STEPS[name][1])
    for n, frame in frames.items():
        assert_same_bits(frame[1:-1, 1:-1], expected[n])
        frame[1:-1, 1:-1] = 7
        assert (frame == 7).all()


@every_step
def test_converts_the_gradient(name):
    arrays = arguments(name, (2,), np.dtype(np.float32))
    expected = expected_of(name, arrays | {"grad": np.array([1, 2], np.float32)})
    getattr(fastbp, name)(**arrays | {"grad": [1, 2]}, **STEPS[name][1])
    del arrays["grad"]
    assert_same_arrays(arrays, expected)


@every_step
def test_gradient_that_overlaps(dtype, name):
    drawn = arguments(name, (40,), dtype)  # several registers
    for shared in ("param", *STEPS[name][0]):
        for part, other in itertools.product((slice(0, 39), slice(1, 40)), repeat=2):
            whole = {n: x.copy() for n, x in drawn.items()}
            arrays = {n: x[part] for n, x in whole.items()}
            arrays["grad"] = whole[shared][other]
            expected = expected_of(name, arrays)
            getattr(fastbp, name)(**arrays, **STEPS[name][1])
            del arrays["grad"]
            assert_same_arrays(arrays, expected)


def test_adam_has_the_usual_rates():
    arrays = arguments("adam_step", (7,), np.dtype(np.float64))
    usual = {n: x.copy() for n, x in arrays.items()}
    fastbp.adam_step(**usual, t=1)
    given = {"learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
    fastbp.adam_step(**arrays, **given, weight_decay=0.0, t=1)
    assert_same_arrays(usual, arrays)
    with pytest.raises(TypeError, match="required keyword-only argument: 't'"):
        fastbp.adam_step(**arrays)


@pytest.mark.parametrize("t", [2**62, 2**63, 2**64, 10**30])
def test_late_steps_of_adam_are_corrected_no_more(dtype, t):
    arrays, late = arguments("adam_step", (7,), dtype), arguments("adam_step", (7,), dtype)
    fastbp.adam_step(**arrays, t=10**6)
    n_compiled = len(getattr(kernels.adam_step, "signatures", ()))
    fastbp.adam_step(**late, t=t)
    assert_same_arrays(late, arrays)
    assert len(getattr(kernels.adam_step, "signatures", ())) == n_compiled
