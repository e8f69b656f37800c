"""What the public kernels take: other types are refused when they are compiled, and other sizes and
labels under ``NUMBA_BOUNDSCHECK=1``.
"""

import inspect

import numba
import numpy as np
import pytest
from numba.core import config
from numba.core.errors import TypingError

from fastbp import kernels
from fastbp._compile import public_kernel
from fastbp._compile.arguments import Array
from fastbp._compile.pipeline import KernelCompiler

pytestmark = pytest.mark.compiled

PUBLIC = {
    name: KernelCompiler.arguments[getattr(kernels, name).py_func]
    for name in kernels.__all__
    if name != "AdamOptions"
}
ARRAYS = [
    (kernel, name)
    for kernel, arguments in PUBLIC.items()
    for name, argument in arguments.items()
    if isinstance(argument, Array)
]
every_array = pytest.mark.parametrize(("kernel", "name"), ARRAYS)
LENGTHS = {"n": 4, "n_classes": 3, "fan_in": 5, "fan_out": 6, "units": 7}
OPTIONS = kernels.AdamOptions(0.1, 0.9, 0.999, 1e-8, 0.0)

# Ways to spoil an array
SPOILT = {
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backwards": lambda x: x[::-1],
    "transposed": lambda x: np.ascontiguousarray(x.T).T if x.ndim > 1 else x[::-1],
    "fewer dimensions": lambda x: x[0],
    "more dimensions": lambda x: x[..., None, None],
    "float16": lambda x: x.astype("f2"),
    "other floats": lambda x: x.astype("f4"),
    "integers": lambda x: x.astype("i8") if x.dtype.kind == "f" else x.astype("f8"),
    "bool": lambda x: x.astype(bool),
    "complex": lambda x: x.astype("c16"),
    "a list": lambda x: [1.0, 2.0],
    "None": lambda x: None,
}


def good(kernel):
    """Arguments by name."""
    values = {}
    for name, argument in PUBLIC[kernel].items():
        if isinstance(argument, Array):
            shape = [4, 3] if argument.shape == (...,) else [LENGTHS[key] for key in argument.shape]
            values[name] = np.ones(shape, np.intp if argument.dtype == "label" else float)
        else:
            values[name] = {"options": OPTIONS, "t": 1, "activation": 2}.get(name, 0.5)
    return values


def test_every_kernel_names_its_arguments_in_order():
    for kernel, arguments in PUBLIC.items():
        assert [*arguments] == [*inspect.signature(getattr(kernels, kernel).py_func).parameters]


@every_array
@pytest.mark.parametrize("way", SPOILT)
def test_arrays_of_other_types_are_refused(kernel, name, way):
    arguments, argument = good(kernel), PUBLIC[kernel][name]
    of_floats = [other for other, a in PUBLIC[kernel].items() if getattr(a, "dtype", "") == "float"]
    # Of two arrays that differ, the later one is named: the first one gives dtype and dimensions.
    is_relative = way == "other floats" or (argument.shape == (...,) and "dimensions" in way)
    found = of_floats[1:2] if is_relative and of_floats[0] == name else [name]
    if not found:
        pytest.skip("float32 is right, too")
    arguments[name] = SPOILT[way](arguments[name])
    message = f"fastbp.kernels.{kernel}: {found[0]} must be "
    with pytest.raises(TypeError, match=message) as caught:
        getattr(kernels, kernel)(*arguments.values())
    assert isinstance(caught.value, TypingError)


@pytest.mark.parametrize("kernel", PUBLIC)
def test_read_only_arrays_are_not_written(kernel):
    for name, argument in PUBLIC[kernel].items():
        if getattr(argument, "is_written", False):
            arguments = good(kernel)
            arguments[name].flags.writeable = False
            message = f"fastbp.kernels.{kernel}: {name} must be a writeable "
            with pytest.raises(TypeError, match=message):
                getattr(kernels, kernel)(*arguments.values())


@pytest.mark.parametrize("kernel", PUBLIC)
def test_numbers_of_other_types_are_refused(kernel):
    for name, argument in PUBLIC[kernel].items():
        if not isinstance(argument, Array):
            for wrong in ("text", None, 1j, np.ones(2), True):
                with pytest.raises(TypeError, match=f"fastbp.kernels.{kernel}: {name} must be "):
                    getattr(kernels, kernel)(*(good(kernel) | {name: wrong}).values())


@pytest.mark.parametrize(
    ("kernel", "view"),
    [
        ("softmax", lambda z: z[:, ::2]),
        ("log_softmax", lambda z: z.T),
        ("sigmoid_forward", lambda z: z[::2]),
    ],
)
def test_compiled_callers_are_refused_too(kernel, view):
    function, part = getattr(kernels, kernel), numba.njit(view)

    @numba.njit
    def call(z):
        function(part(z), z)

    with pytest.raises(TypingError, match=rf"fastbp.kernels.{kernel}: z must be a 2?.*array\("):
        call(np.ones((4, 4)))


@pytest.mark.parametrize("dtype", ["i1", "i4", "u8"])
def test_labels_of_any_integer_dtype(dtype):
    z, labels = np.random.default_rng(0).normal(size=(5, 4)), np.array([3, 0, 1, 2, 3])
    results = []
    for y in (labels, labels.astype(dtype)):
        loss, delta = np.empty(5), np.empty((5, 4))
        kernels.softmax_cross_entropy(z, y, np.empty(0), loss, delta, 1.0)
        results.append(np.column_stack([loss, delta]))
    np.testing.assert_array_equal(*results)


# Bodies in place of the kernels', which take longer to compile
STANDS_IN = (
    lambda a: None,
    lambda a, b: None,
    lambda a, b, c: None,
    lambda a, b, c, d: None,
    lambda a, b, c, d, e: None,
    lambda a, b, c, d, e, f: None,
)


@pytest.fixture
def checked(monkeypatch):
    """A function that compiles a stand-in for a kernel with checks of its sizes."""
    monkeypatch.setattr(config, "BOUNDSCHECK", 1)

    def checked(kernel):
        code = STANDS_IN[len(PUBLIC[kernel]) - 1].__code__
        body = type(checked)(code.replace(co_name=kernel), {})
        return public_kernel(**PUBLIC[kernel])(body)

    return checked


@pytest.mark.parametrize("kernel", PUBLIC)
def test_sizes_are_compared(kernel, checked):
    stand_in, right = checked(kernel), good(kernel)
    stand_in(*right.values())
    named = [key for a in PUBLIC[kernel].values() for key in getattr(a, "shape", ())]
    for name, argument in PUBLIC[kernel].items():
        if not isinstance(argument, Array):
            continue
        keys = (...,) * 2 if argument.shape == (...,) else argument.shape
        for axis, key in enumerate(keys):
            short, long = (np.insert(right[name], 0, 1, axis), np.delete(right[name], 0, axis))
            for wrong in (short, long) if named.count(key) > 1 else ():
                arguments = right | {name: np.ascontiguousarray(wrong)}
                with pytest.raises(IndexError, match=rf"fastbp.kernels.{kernel}: axis \d of "):
                    stand_in(*arguments.values())
        if argument.is_optional:
            stand_in(*(right | {name: right[name][:0]}).values())


@pytest.mark.parametrize("kernel", [k for k, a in PUBLIC.items() if "labels" in a])
def test_labels_are_compared_with_the_number_of_classes(kernel, checked):
    stand_in, right = checked(kernel), good(kernel)
    for label in (-1, 3, 8, -(2**62)):
        for i in range(4):
            labels = np.arange(4) % 3
            stand_in(*(right | {"labels": labels}).values())
            labels[i] = label
            with pytest.raises(IndexError, match=f"fastbp.kernels.{kernel}: labels must be from 0"):
                stand_in(*(right | {"labels": labels}).values())
