"""Arguments of every kind for every public function and both models.

A call either agrees with the oracle, or raises a documented exception; it changes nothing that it
was given but what it is asked to write, and never warns.
"""

import inspect
import itertools
import math
import pickle
import re
import time
import warnings
from fractions import Fraction

import numpy as np
import reference
import reference_network
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from layouts import LAYOUTS
from tolerances import ADAM, PRODUCT, assert_product, assert_same_bits, assert_ulp

import fastbp

#: Inputs of one seed, the next of which follows it.
BATCH = 50

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
INTEGERS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", ">i4", ">u8")
NO_NUMBERS = ("bool", "f2", "c8", "c16", "O", "U3", "M8[s]", "m8[s]")
if np.finfo(np.longdouble).bits != 64:
    NO_NUMBERS += ("longdouble",)

#: What stands for a number and is none, and numbers that no option has room for.
NO_OPTIONS = ("1", None, 1j, [1], {}, math.nan, math.inf, -math.inf, -1, 10**400, object())
NO_OPTIONS += (Fraction(-1, 3), np.array([1, 2]), np.array(0.5), True, np.True_)


class Refused(Exception):
    """What was drawn must not be accepted."""


def one_in(draw, n):
    return draw(st.integers(0, n - 1)) == n - 1


def choose(draw, *choices):
    return draw(st.sampled_from(choices))


def generator(draw):
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def values(draw, shape, dtype, special=True):
    """Numbers of one kind, the more interesting ones seldom."""
    rng = generator(draw)
    if dtype.kind in "iu":
        return rng.integers(0, 100, shape).astype(dtype)
    info = np.finfo(dtype)
    scale = 10.0 ** draw(st.integers(-3, 3))
    x = scale * rng.standard_normal(shape)
    if special and one_in(draw, 3):
        odd = [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, -info.max, info.tiny, 5e-324]
        x = np.where(rng.random(shape) < 0.3, rng.choice(odd, shape), x)
    with np.errstate(all="ignore"):
        return np.array(x, dtype)


def dressed(draw, x):
    """``x`` in another layout; what NumPy cannot map or reverse stays as it is."""
    names = ["plain", "plain", *(LAYOUTS if x.ndim and x.size else ())]
    name = choose(draw, *names, *(("list",) if x.size and x.dtype == np.float64 else ()))
    if name == "plain":
        return x.copy()
    return x.tolist() if name == "list" else LAYOUTS[name](x)


def spoilt(draw, x):
    """Something that is no array of numbers."""
    kind = choose(draw, *NO_NUMBERS, "masked", "matrix", "ragged", "thing")
    if kind == "masked":
        return np.ma.array(x, mask=np.ones(x.shape, bool)) if x.size else None
    if kind == "matrix":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.matrix(np.zeros((2, 2)))
    if kind == "ragged":
        return [[1.0, 2.0], [3.0]]
    if kind == "thing":
        return choose(draw, None, "text", {}, object(), 1j)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(np.nan_to_num(x, posinf=1, neginf=1)).astype(np.int64).astype(kind)


class Arguments:
    """Arguments that are drawn one after the other, and whether one of them is none."""

    def __init__(self, draw):
        self.draw = draw
        self.refused = None  # whether the call must fail

    def array(self, shape, dtype=None, special=True):
        """A number array as it is passed, and as it is meant; now and then, something else."""
        draw = self.draw
        dtype = np.dtype(dtype or choose(draw, *FLOATS, *FLOATS, *FLOATS, *INTEGERS))
        clean = values(draw, shape, dtype, special)
        if one_in(draw, 25):
            self.refused = "no array of numbers"
            return spoilt(draw, clean), clean
        given = dressed(draw, clean)
        return given, clean if clean.dtype.kind == "f" else clean.astype(np.float64)

    def shape(self, *shape):
        """The shape, or seldom another one; a bad one is told."""
        if one_in(self.draw, 25):
            self.refused = "shape"
            wrong = choose(self.draw, (*shape, 1), shape[1:], tuple(n + 1 for n in shape))
            return wrong if wrong != shape else (7,)
        return shape

    def option(self, good, bad=NO_OPTIONS):
        if one_in(self.draw, 15):
            self.refused = "option"
            return choose(self.draw, *bad)
        return self.draw(good)

    def out(self, shape, dtype, *inputs):
        """An array for the result, of any kind; overlapping an input, where that is possible."""
        draw = self.draw
        kind = choose(draw, "none", "none", "new", "gaps", "reversed", "overlap", "itself", "bad")
        if kind == "bad":
            self.refused = "out"
            read_only = np.zeros(shape, dtype)
            read_only.flags.writeable = False
            other = np.zeros(shape, np.float32 if dtype == np.float64 else np.float64)
            lists = np.zeros(shape).tolist()
            swapped = np.zeros(shape, dtype.newbyteorder())
            return choose(draw, read_only, other, swapped, lists, np.zeros((*shape, 1), dtype))
        if kind == "gaps" and shape:
            return np.full([2 * n for n in shape], 7, dtype)[
                tuple([slice(None, None, 2)] * len(shape))
            ]
        if kind == "reversed" and shape:
            return np.full(shape, 7, dtype)[::-1]
        plain = [x for x in inputs if type(x) is np.ndarray and x.dtype is dtype and x.flags.carray]
        if kind in ("overlap", "itself") and plain:
            x = choose(draw, *plain)
            if kind == "itself" and x.shape == shape:
                return x
            size = math.prod(shape)
            if size <= x.size:
                start = draw(st.integers(0, x.size - size))
                return x.reshape(-1)[start : start + size].reshape(shape)
        return None if kind == "none" else np.full(shape, 7, dtype)


def bytes_of(x):
    """What must not change, and can be compared."""
    if isinstance(x, np.ndarray) and x.dtype.kind != "O":
        return x.dtype.str, x.shape, x.tobytes()
    if hasattr(x, "array"):
        return bytes_of(x.array)
    if isinstance(x, dict):
        return {name: bytes_of(value) for name, value in x.items()}
    if isinstance(x, tuple | list):
        return [bytes_of(value) for value in x]
    return repr(x)


def memory(x):
    return x.array if hasattr(x, "array") else x


def call(function, arguments, options, refused, written=(), names=None):
    """Call, and judge exceptions and side effects; the result, or None after an exception.

    Without exception, all is well only if nothing drawn was ``refused``.
    """
    everything = [*arguments, *options.values()]
    shared = [
        any(
            isinstance(memory(x), np.ndarray) and np.may_share_memory(memory(x), w)
            for w in written
            if isinstance(w, np.ndarray)
        )
        for x in everything
    ]
    before = [bytes_of(x) for x in everything]
    result = error = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = function(*arguments, **options)
    except fastbp.DivergenceError:
        raise
    except (TypeError, ValueError) as caught:
        error = caught
    if error is not None:
        assert [bytes_of(x) for x in everything] == before, "a refused call has written"
        assert refused, f"refused, and all arguments are good: {error}"
        names = names or [*inspect.signature(function).parameters]
        named = rf"^({'|'.join(names)}|the mean is over)\b"
        assert re.search(named, str(error)), f"no argument is named: {error!r}"
        return None
    assert not refused or refused == "perhaps", f"accepted, with a bad argument: {refused}"
    for x, was, may_change in zip(everything, before, shared, strict=True):
        assert may_change or bytes_of(x) == was, "an argument was changed"
    return result


# The functions

ELEMENTWISE = ("sigmoid", "sigmoid_derivative", "tanh", "relu")


def quietly(function, *arguments, **options):
    with np.errstate(all="ignore"):
        return function(*arguments, **options)


def shape_of(draw, least=0):
    return tuple(draw(st.lists(st.integers(0, 6), min_size=least, max_size=3)))


def elementwise(draw):
    name = choose(draw, *ELEMENTWISE)
    take = Arguments(draw)
    z, clean = take.array(shape_of(draw))
    exact = quietly(getattr(reference, name), clean)
    out = take.out(clean.shape, clean.dtype, z)
    got = call(getattr(fastbp, name), [z], {"out": out}, take.refused, [out])
    if got is not None:
        assert out is None or got is out
        assert_ulp(name, np.array(got, clean.dtype), np.asarray(exact))


def axes_of(draw, take, ndim):
    axis = take.option(
        st.sampled_from([-1, -1, None, *range(-ndim, ndim), tuple(range(ndim))]),
        ("0", 1.0, -1.0, True, ndim + 3, (0, 0), (None,), [0], np.array([0]), np.array([-1, -1])),
    )
    if take.refused == "option":
        return axis, ()
    if not isinstance(axis, tuple):
        axis, kept = axis, range(ndim) if axis is None else [axis]
    else:
        kept = axis
    return axis, tuple(sorted({q % max(ndim, 1) for q in kept})) if ndim else ()


def along_axes(draw):
    """softmax, log_softmax and logsumexp."""
    name = choose(draw, "softmax", "log_softmax", "logsumexp")
    take = Arguments(draw)
    z, clean = take.array(shape_of(draw))
    if one_in(draw, 4) and clean.ndim and isinstance(z, np.ndarray) and z.dtype == clean.dtype:
        z = clean = np.ascontiguousarray(clean)  # the short way through the checks
    axis, axes = axes_of(draw, take, clean.ndim)
    shape = clean.shape
    if any(shape[q] == 0 for q in axes):
        take.refused = "no classes"
    result_shape = shape
    options = {"axis": axis}
    if name == "logsumexp":
        options["keepdims"] = draw(st.booleans())
        if options["keepdims"]:
            result_shape = tuple(1 if q in axes else n for q, n in enumerate(shape))
        else:
            result_shape = tuple(n for q, n in enumerate(shape) if q not in axes)
    out = options["out"] = take.out(result_shape, clean.dtype, z)
    n_classes = math.prod(shape[q] for q in axes)
    if not take.refused:
        others = [q for q in range(clean.ndim) if q not in axes]
        moved = clean.transpose(*others, *axes)
        rows = moved.reshape(-1, n_classes).copy()
        exact = quietly(getattr(reference, name), rows) if len(rows) else np.zeros_like(rows)
    got = call(getattr(fastbp, name), [z], options, take.refused, [out])
    if got is None:
        return
    assert out is None or got is out
    assert np.shape(got) == result_shape
    got = np.array(got, clean.dtype)
    if name == "logsumexp":
        with np.errstate(all="ignore"):
            at = np.maximum(
                np.abs(rows).max(axis=1, initial=0), np.abs(exact.reshape(-1)[: len(rows)])
            )
        assert_ulp(name, got.reshape(-1), exact.reshape(-1)[: len(rows)], at)
    else:
        got = got.transpose(*others, *axes).reshape(rows.shape)
        assert_ulp(name, got, exact)


def labels_of(draw, take, n, n_classes, ignore_index=None):
    rng = generator(draw)
    y = rng.integers(0, n_classes, n)
    if ignore_index is not None and n and one_in(draw, 2):
        y[rng.random(n) < 0.3] = ignore_index
    if n and one_in(draw, 20):
        bad = choose(draw, -1, n_classes, 2**40, -(2**40))
        if bad != ignore_index:
            take.refused = "label"
            y[rng.integers(n)] = bad
    if one_in(draw, 20):
        take.refused = "labels of another type"
        return y.astype(choose(draw, "f8", "f4", "bool", "O", "U9", "c8")), y
    dtype = choose(draw, "i8", "i8", *INTEGERS)
    if (y.astype(dtype) != y).any():
        dtype = "i8"
    return dressed(draw, y.astype(dtype)), y


def targets_of(draw, take, shape, dtype):
    rng = generator(draw)
    y = rng.exponential(size=shape) * (rng.random(shape) < 0.7)
    y[:, 0] += 2.0**-20
    y = (y / y.sum(axis=1, keepdims=True)).astype(choose(draw, *FLOATS))
    if y.size and one_in(draw, 20):
        take.refused = "target"
        y[rng.integers(len(y)), 0] = choose(draw, -1.0, 3.0, np.nan, np.inf, -np.inf, 1e30)
    with np.errstate(all="ignore"):
        return dressed(draw, y), y.astype(dtype)


def weights_of(draw, take, n, may_be_zero):
    """Weights, or None; all zero is bad unless ``may_be_zero``."""
    if one_in(draw, 2):
        return None, None
    rng = generator(draw)
    w = rng.exponential(size=take.shape(n)) * (rng.random() < 0.5 or rng.random() < 0.8)
    if w.ndim and w.size and one_in(draw, 20):
        take.refused = "weight"
        w[rng.integers(len(w))] = choose(draw, -1.0, np.nan, np.inf)
    elif w.size and not w.any() and not may_be_zero:
        take.refused = "weight"
    return dressed(draw, w), w


def costs(draw):
    """cross_entropy and softmax_cross_entropy."""
    take = Arguments(draw)
    n, n_classes = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    z, clean = take.array((n, n_classes), special=one_in(draw, 2))
    if n_classes == 0:
        take.refused = "no classes"
    dtype = clean.dtype
    options, meant = {}, {}
    reduction = options["reduction"] = take.option(
        st.sampled_from(["mean", "sum", "none"]), ("max", None, 1, [], np.array(["mean", "sum"]))
    )
    reduction = reduction if isinstance(reduction, str) else "max"
    by_label = draw(st.booleans())
    if by_label and one_in(draw, 3):
        meant["ignore_index"] = options["ignore_index"] = take.option(
            st.sampled_from([-100, 1, 2**40]), ("1", 1.0, True, [1], np.array([1]))
        )
    if one_in(draw, 3):
        meant["label_smoothing"] = options["label_smoothing"] = take.option(
            st.sampled_from([0, 0.0, 0.25, 1, 1.0])
        )
    if n_classes:
        options["weight"], meant["weight"] = weights_of(draw, take, n_classes, True)
        options["sample_weight"], meant["sample_weight"] = weights_of(draw, take, n, False)
        ignored = meant.get("ignore_index")
        ignored = ignored if type(ignored) is int else None
        if by_label:
            y, clean_y = labels_of(draw, take, n, n_classes, ignored)
        else:
            y, clean_y = targets_of(draw, take, clean.shape, dtype)
    else:
        y = clean_y = np.zeros(n, int)
    if n == 0 and reduction == "mean":
        take.refused = take.refused or "no rows"
    exact = None
    if not take.refused:
        # as they are computed with
        meant["weight"] = None if meant["weight"] is None else meant["weight"].astype(dtype)
        with np.errstate(all="ignore"):
            exact = reference.cost(clean, clean_y, reduction=reduction, **meant)
            if reduction == "mean" and np.isnan(exact[0]):
                take.refused = "perhaps"  # no row or no weight is left, or a logit is NaN
            losses, _ = reference.cost(clean, clean_y, reduction="none", **meant)
            if (np.isfinite(losses) & (losses > np.finfo(dtype).max / 8)).any():
                take.refused = "perhaps"  # inf in a row is inf in the mean
    fused = draw(st.booleans())
    loss_shape = (n,) if reduction == "none" else ()
    out = take.out(clean.shape if fused else loss_shape, dtype, z, y)
    options["out"] = out
    function = fastbp.softmax_cross_entropy if fused else fastbp.cross_entropy
    got = call(function, [z, y], options, take.refused, [out])
    if got is None or take.refused:
        return
    loss, delta = got if fused else (got, None)
    assert out is None or (delta if fused else loss) is out
    assert np.shape(loss) == loss_shape
    assert_near(np.asarray(loss), exact[0], dtype)
    if fused:
        assert delta.shape == clean.shape
        weights = [meant[name] for name in ("weight", "sample_weight") if meant[name] is not None]
        assert_near(delta, exact[1], dtype, math.prod(max(1, w.max()) for w in weights if w.size))


def assert_near(got, exact, dtype, at_least=0):
    """Within 40 eps of the number, or of ``at_least``; infinities and NaN are the same."""
    got, exact = reference.wide(got), reference.wide(exact)
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        finite = np.isfinite(exact) & (np.abs(exact) < 0.99 * info.max)
        scale = np.maximum(np.abs(exact), at_least)
        near = np.abs(got - exact) <= 40 * float(info.eps) * scale + 8 * float(
            info.smallest_subnormal
        )
        big = ~finite & (np.isnan(exact) == np.isnan(got)) & ~np.isfinite(exact)
        rounds_to_infinity = ~finite & np.isfinite(exact)
    right = np.where(finite, near, big | rounds_to_infinity)
    assert right.all(), f"{got} instead of {exact}"


def output_errors(draw):
    take = Arguments(draw)
    n, n_classes = draw(st.integers(0, 6)), draw(st.integers(1, 6))
    a, clean = take.array((n, n_classes), special=False)
    by_label = draw(st.booleans())
    if by_label:
        y, clean_y = labels_of(draw, take, n, n_classes)
    else:
        y, clean_y = targets_of(draw, take, clean.shape, clean.dtype)
    out = take.out(clean.shape, clean.dtype, a, y)
    rows = None
    if not take.refused:
        rows = reference.wide(reference.onehot(clean_y, n_classes) if by_label else clean_y)
        exact = reference.wide(clean) * rows.sum(axis=1, keepdims=True) - rows
        at = np.maximum(np.abs(reference.wide(clean)), rows)
    got = call(fastbp.output_error, [a, y], {"out": out}, take.refused, [out])
    if got is not None:
        assert out is None or got is out
        assert_ulp("output_error", np.array(got), exact, at)


def products(draw):
    """dense, hidden_error, bias_gradient and weight_gradient."""
    name = choose(draw, "dense", "hidden_error", "bias_gradient", "weight_gradient")
    take = Arguments(draw)
    n, fan_in, fan_out = (draw(st.integers(0, 20)) for _ in range(3))
    special = one_in(draw, 4)
    options = {}
    shapes = {
        "dense": [(n, fan_in), (fan_in, fan_out), (fan_out,)],
        "hidden_error": [(n, fan_out), (fan_in, fan_out), (n, fan_in)],
        "bias_gradient": [(n, fan_out)],
        "weight_gradient": [(n, fan_in), (n, fan_out)],
    }[name]
    # where a second shape could be right with a third argument, only the count of dimensions is bad
    pairs = [take.array(shape, special=special) for shape in shapes]
    if one_in(draw, 20):
        q = draw(st.integers(0, len(shapes) - 1))
        pairs[q] = take.array((*shapes[q], 2), special=special)
        take.refused = "dimensions"
    given, clean = ([pair[q] for pair in pairs] for q in (0, 1))
    dtype = clean[0].dtype
    if name.endswith("gradient") and n == 0:
        take.refused = take.refused or "no rows"
    if name == "hidden_error":
        activation = take.option(
            st.sampled_from(["sigmoid", "tanh", "relu", "identity"]), ("gelu", None, 1, ["relu"])
        )
        options["activation"] = activation
    result = {
        "dense": (n, fan_out),
        "hidden_error": (n, fan_in),
        "bias_gradient": (fan_out,),
        "weight_gradient": (fan_in, fan_out),
    }[name]
    out = options["out"] = take.out(result, dtype, *given)
    with np.errstate(all="ignore"):
        clean = [x.astype(dtype) for x in clean]
    exact = None
    if not (take.refused or special):
        a = [reference.wide(x) for x in clean]
        if name == "dense":
            exact, n_terms = reference.dense_forward(*clean), fan_in + 1
            size = np.abs(a[0]) @ np.abs(a[1]) + np.abs(a[2])
        elif name == "hidden_error":
            slope = reference_network.ACTIVATIONS[activation][1](a[2])
            exact, n_terms = (a[0] @ a[1].T) * slope, fan_out + 4
            rounded = {"sigmoid": np.abs(a[2]) * (1 + np.abs(a[2])), "tanh": 1 + a[2] ** 2}
            size = (np.abs(a[0]) @ np.abs(a[1]).T) * rounded.get(activation, np.abs(slope))
            if activation == "relu":
                exact = (a[0] @ a[1].T) * (a[2] != 0)
                size = np.abs(a[0]) @ np.abs(a[1]).T
        elif name == "bias_gradient":
            exact, n_terms = reference.bias_gradient(*clean), n
            size = np.abs(a[0]).mean(axis=0)
        else:
            exact, n_terms = reference.weight_gradient(*clean), n
            size = np.abs(a[0]).T @ np.abs(a[1]) / n
    function = getattr(fastbp, name)
    got = call(function, given, options, take.refused, [out])
    if got is None:
        return
    assert out is None or got is out
    assert got.shape == result
    assert got.dtype == dtype
    if exact is not None:
        quantity = name if name in PRODUCT else "dense_forward"
        size = size + 8 * np.finfo(dtype).tiny
        assert_product(quantity, np.array(got), exact, size, n_terms)


def steps(draw):
    """momentum_step, nesterov_step and adam_step."""
    name = choose(draw, "momentum_step", "nesterov_step", "adam_step")
    take = Arguments(draw)
    dtype = choose(draw, *FLOATS)
    shape = shape_of(draw)
    special = name != "adam_step" and one_in(draw, 4)
    n_written = 3 if name == "adam_step" else 2
    written = [values(draw, shape, dtype, special) for _ in range(n_written)]
    if name == "adam_step":
        written[2] = np.array(np.abs(written[2]))
    grad, clean_grad = take.array(shape, special=special)
    with np.errstate(all="ignore"):
        clean_grad = clean_grad.astype(dtype)
    clean = [x.copy() for x in written]
    layouts = ["plain", "plain", "Fortran order", "gaps", "negative strides", "swapped bytes"]
    layout = choose(draw, *layouts) if shape and math.prod(shape) else "plain"
    if layout != "plain":
        written = [LAYOUTS[layout](x) for x in written]
        if layout == "swapped bytes":
            written = [x.astype(dtype.newbyteorder()) for x in written]
    if one_in(draw, 12):
        take.refused = "a written array"
        q = draw(st.integers(0, n_written - 1))
        read_only = clean[q].copy()
        read_only.flags.writeable = False
        choices = [read_only, np.zeros(shape, np.float16), clean[q].tolist(), None]
        choices += [np.zeros((*shape, 2), dtype)]
        if math.prod(shape):
            choices.append(written[q - 1])  # two are the same memory
        written[q] = choose(draw, *choices)
    rate = take.option(st.sampled_from([0, 0.0, 0.5, 1e-3, Fraction(1, 4), np.float32(0.25)]))
    share = take.option(st.sampled_from([0, 0.0, 0.5, 0.875, np.float64(0.25)]))
    options = {"learning_rate": rate}
    if name == "adam_step":
        options |= {"beta_1": share, "epsilon": take.option(st.sampled_from([1e-8, 0.25, 1]))}
        options["weight_decay"] = take.option(st.sampled_from([0, 0.0, 0.5]))
        t = st.sampled_from([1, 2, np.uint8(3), 10**6, 2**63, 10**30])
        options["t"] = take.option(t, (0, -1, 1.0, "1", None, True, math.inf))
    else:
        options["momentum"] = share
    param, *state = written
    arguments = [param, grad, *state]
    shared = [x for x in written if isinstance(x, np.ndarray)]
    function = getattr(fastbp, name)
    result = call(function, arguments, options, take.refused, shared)
    assert result is None
    if take.refused:
        return
    numbers = {key: float(value) for key, value in options.items()}
    if name == "adam_step":
        numbers["t"] = min(numbers["t"], 1e9)
        with np.errstate(all="ignore"):
            exact, size = reference.adam_step(clean[0], clean_grad, *clean[1:], **numbers)
        allowed = ADAM * np.finfo(dtype).eps * size + np.finfo(dtype).tiny
        assert (np.abs(reference.wide(param) - exact) <= allowed).all()
        return
    with np.errstate(all="ignore"):
        exact = getattr(reference, name)(clean[0], clean_grad, clean[1], **numbers)
    for got, expected in zip(written, exact, strict=True):
        assert_same_bits(np.asarray(got).astype(dtype), np.asarray(expected))


# The models


def table(draw, take, n, n_features, special):
    if special or one_in(draw, 3):
        shape = take.shape(n, n_features)
        return take.array(shape, special=special)
    return take.array((n, n_features), choose(draw, *FLOATS), special=False)


NETWORK_NAMES = (
    *("X", "y", "sample_weight", "layer_sizes", "activation", "dtype", "seed", "epochs"),
    *("batch_size", "learning_rate", "momentum", "optimizer", "l2", "n_threads", "callback"),
    *("validation_data", "parameters", "epsilon", "beta_1", "beta_2", "weight_decay"),
)


def network_options(draw, take):
    """Options of fit that may be good, and optimizers."""
    options = {
        "epochs": take.option(st.sampled_from([1, 2, np.int8(3)]), (0, 1.0, "1", None, True))
    }
    if one_in(draw, 2):
        sizes = st.sampled_from([1, 2, 7, 10**6, 2**70])
        options["batch_size"] = take.option(sizes, (0, -1, 2.0, None, "auto", True))
    if one_in(draw, 2):
        rates = st.sampled_from([0.1, 1, Fraction(1, 3), 1e-300, np.float32(0.5)])
        bad = [x for x in NO_OPTIONS if x is not None]
        options["learning_rate"] = take.option(rates, (*bad, 0))
    if one_in(draw, 3):
        options["l2"] = take.option(st.sampled_from([0, 0.0, 0.25, 1e-300]))
    if one_in(draw, 3):
        bad = [x for x in NO_OPTIONS if x is not None]
        options["momentum"] = take.option(st.sampled_from([0, 0.5, 0.9]), (*bad, 1.0))
    if not {"learning_rate", "momentum"} & set(options) and one_in(draw, 2):
        options["optimizer"] = take.option(
            st.sampled_from([fastbp.SGD(0.1, nesterov=True), fastbp.Adam(), None]),
            ("adam", fastbp.Adam, 1, fastbp.Adam(epsilon=1e-320)),
        )
    if one_in(draw, 4):
        options["n_threads"] = take.option(
            st.sampled_from([1, 2, 2**70, None]), (0, -1, 1.0, "2", True)
        )
    if one_in(draw, 4):
        options["shuffle"] = draw(st.booleans())
    if one_in(draw, 8):
        options["callback"] = take.option(st.just(lambda *_: None), (1, "x", []))
    return options


def fit_network(draw):
    take = Arguments(draw)
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    if one_in(draw, 20):
        take.refused = "layer_sizes"
        q = draw(st.integers(0, len(sizes) - 1))
        sizes[q] = choose(draw, 0, -1, 2.0, True, "3", None, 10**30, 2**58, np.nan)
    made = {
        "activation": take.option(
            st.sampled_from(["sigmoid", "tanh", "relu", "identity"]), ("gelu", None, 1, ["relu"])
        ),
        "dtype": take.option(
            st.sampled_from(["float32", "f8", np.float32, float, "float64"]),
            (
                "f2",
                "f4,,",
                "f4,f4",
                None,
                7,
                int,
                ">f8" if np.little_endian else "<f8",
                [1],
                object(),
            ),
        ),
        "seed": take.option(
            st.sampled_from([0, 2**64 - 1, np.uint8(3)]), (-1, 2**64, 1.0, "1", True)
        ),
    }
    net = call(fastbp.Network, [sizes], made, take.refused, names=NETWORK_NAMES)
    if net is None:
        return
    n, n_classes, special = draw(st.integers(0, 9)), sizes[-1], one_in(draw, 8)
    X, clean = table(draw, take, n, sizes[0], special)
    if clean.shape != (n, sizes[0]):
        take.refused = "shape"
    refused = take.refused
    check_predictions(net, X, clean, refused, special)
    if n == 0:
        take.refused = take.refused or "no rows"
    if draw(st.booleans()):
        y, clean_y = labels_of(draw, take, n, n_classes)
    else:
        y, clean_y = targets_of(draw, take, (n, n_classes), net.dtype)
    weight, clean_weight = weights_of(draw, take, n, n == 0)
    options = network_options(draw, take)
    options["sample_weight"] = weight
    if one_in(draw, 4):
        options["validation_data"] = take.option(
            st.just((X, y)), (X, (X,), (X, y, y), 1, "ab", (None, None), (X, None))
        )
    with np.errstate(all="ignore"):
        finite = np.isfinite(clean.astype(net.dtype)).all()
    refused = take.refused or (not finite and "not finite")
    twin = pickle.loads(pickle.dumps(net))
    before = pickle.dumps(net)
    with np.errstate(all="ignore"):
        histories = [
            diverging(each.fit, X, y, options, refused, names=NETWORK_NAMES) for each in (net, twin)
        ]
    assert np.isfinite(net.parameters).all()
    assert_same_bits(net.parameters, twin.parameters)
    assert_same_bits(net.velocity, twin.velocity)
    if histories[0] is None:
        assert refused == "perhaps" or pickle.dumps(net) == before or not refused
        return
    assert np.isfinite(histories[0].loss).all()
    assert histories[0].loss == histories[1].loss
    check_gradients(net, X, y, clean, clean_y, weight, clean_weight)


def diverging(function, X, y, options, refused, names):
    """The result, or None after an exception; training of good arguments may diverge."""
    try:
        return call(function, [X, y], options, refused, names=names)
    except fastbp.DivergenceError:
        return None


def check_predictions(net, X, clean, refused, special):
    names = ["X"]
    z = call(net.logits, [X], {}, refused, names=names)
    p = call(net.predict_proba, [X], {}, refused, names=names)
    log_p = call(net.predict_log_proba, [X], {}, refused, names=names)
    may_fail = refused or (special and "perhaps") or None
    labels = call(net.predict, [X], {}, may_fail, names=names)
    if refused:
        return
    assert_same_bits(p, call(net.predict_proba, [X], {}, None))
    assert_ulp("softmax", p, quietly(reference.softmax, z) if len(z) else z)
    assert_ulp("log_softmax", log_p, quietly(reference.log_softmax, z) if len(z) else z)
    finite = np.isfinite(z).all(axis=1)
    sums = p[finite].astype(np.float64).sum(axis=1)
    assert (np.abs(sums - 1) <= 8 * np.finfo(p.dtype).eps * math.sqrt(p.shape[1])).all()
    assert (labels is not None) == bool(finite.all())
    if labels is not None and len(z):
        assert (labels == z.argmax(axis=1)).all()
    if not special and len(z):
        x = clean.astype(net.dtype)
        with np.errstate(all="ignore"):
            *_, exact = reference_network.forward(
                net.weights, net.biases, x, activation=net.activation
            )
        scale = max(1.0, float(np.abs(x).max())) * 40
        assert np.abs(z - exact).max() <= 40 * np.finfo(p.dtype).eps * scale


def check_gradients(net, X, y, clean, clean_y, weight, clean_weight):
    names = ["X", "y", "sample_weight"]
    options = {"sample_weight": weight}
    loss, grad_w, grad_b = call(net.gradients, [X, y], options, None, names=names)
    other = call(net.loss, [X, y], options, None, names=names)
    score = call(net.score, [X, y], options, None, names=names)
    assert 0 <= score <= 1 + 1e-12
    n_classes = net.layer_sizes[-1]
    rows = clean_y if np.ndim(clean_y) == 2 else reference.onehot(clean_y, n_classes)
    with np.errstate(all="ignore"):
        exact, exact_w, exact_b = reference_network.gradients(
            *(net.weights, net.biases, clean.astype(net.dtype), rows),
            *(() if clean_weight is None else clean_weight,),
            activation=net.activation,
        )
    if not np.isfinite(np.float64(exact)) or np.abs(net.parameters).max() > 100:
        return
    eps = float(np.finfo(net.dtype).eps)
    size = 1e3 * eps * (1 + float(np.abs(clean).max(initial=0)))
    assert abs(loss - exact) <= size * (1 + exact)
    assert abs(other - exact) <= size * (1 + exact)
    if net.activation == "relu":
        return  # a unit that rounds to either side of 0 has either slope
    for got, expected in zip((*grad_w, *grad_b), (*exact_w, *exact_b), strict=True):
        allowed = 100 * size * (1 + float(np.abs(clean).max(initial=0)))
        assert np.abs(got - expected).max(initial=0) <= allowed


CLASSIFIER = {
    "hidden_layer_sizes": ((3,), (), [2, 2], 4, np.array([2]), (0,), (2.0,), (True, 2), "3", None),
    "activation": ("logistic", "tanh", "relu", "identity", "sigmoid", None),
    "solver": ("adam", "sgd", "lbfgs", "newton"),
    "alpha": (0, 1e-4, Fraction(1, 3), 1e300, 10**400, -1, math.nan, "1", None),
    "batch_size": ("auto", 1, 3, 10**6, 0, 2.0, None),
    "learning_rate": ("constant", "invscaling", "adaptive", "other", 0.1),
    "learning_rate_init": (1e-3, 1, 1e300, 10**400, 0, -1, math.nan, None),
    "power_t": (0.5, 0, 1e308, 10**400, -1, None),
    "max_iter": (1, 2, 0, 2.0, None),
    "shuffle": (True, False, None, 1),
    "random_state": (0, 2**32 - 1, -1, "1", 1.0),
    "tol": (0, 1e-4, 10**300, -1, None),
    "momentum": (0, 0.5, 1, 1.5, math.nan),
    "nesterovs_momentum": (True, False, 0, None),
    "early_stopping": (False, True, None),
    "validation_fraction": (0.3, 0, 0.99, 1.0, None),
    "beta_1": (0, 0.5, 1.0, None),
    "beta_2": (0.9, 0, 1.0, None),
    "epsilon": (1e-8, 1e-300, 0, math.inf, None),
    "n_iter_no_change": (1, math.inf, 0, None),
    "max_fun": (1, 10, 10**30, 0, None),
    "class_weight": (None, "balanced", {0: 2.0}, {0: -1}, {0: math.nan}, {9: 1}, "other", 1),
    "n_threads": (None, 1, 2, 2**70, 0, -1, "1"),
}

#: Warnings of the estimator that scikit-learn gives for the same.
EXPECTED = re.compile("converge|Got `batch_size`|column-vector|best validation score|nan|NaN|INF")


def fit_classifier(draw):
    from sklearn.exceptions import NotFittedError

    take = Arguments(draw)
    rng = generator(draw)
    parameters = {"max_iter": 2, "random_state": 0, "hidden_layer_sizes": (3,)}
    for name, choices in CLASSIFIER.items():
        if one_in(draw, 6):
            parameters[name] = choose(draw, *choices)
    n, n_features = draw(st.integers(0, 14)), draw(st.integers(0, 4))
    X, _ = take.array((n, n_features), special=one_in(draw, 8))
    y = rng.integers(0, choose(draw, 1, 2, 3), n)
    y = choose(draw, y, y, y.astype(str), y.astype("u1"), y + 0.5, y.astype(float), y[1:], None)
    weight, _ = weights_of(draw, take, n, True)
    options = {"sample_weight": weight}
    if one_in(draw, 5):
        options |= choose(draw, {"X_val": X, "y_val": y}, {"X_val": X}, {"y_val": y})
    models = [fastbp.MLPClassifier(**parameters) for _ in range(2)]
    fitted = [estimate(model.fit, X, y, **options) for model in models]
    assert fitted[0] == fitted[1]
    model = models[0]
    if not hasattr(model, "coefs_"):
        try:
            model.predict(np.zeros((1, 1)))
        except NotFittedError:
            return
        raise AssertionError("an estimator that is not fitted predicts")
    for mine, other in zip(model.coefs_, models[1].coefs_, strict=True):
        assert np.isfinite(mine).all()
        assert_same_bits(mine, other)
    kept = [p.copy() for p in (*model.coefs_, *model.intercepts_)]
    finite = generator(draw).standard_normal((5, model.coefs_[0].shape[0]))
    p = model.predict_proba(finite)
    with np.errstate(all="ignore"):
        sums = p.astype(np.float64).sum(axis=1)
    assert (np.isnan(sums) | (np.abs(sums - 1) <= 1e-5)).all()
    refused = estimate(model.predict_proba, X)
    if refused is None:
        assert_same_bits(model.predict_proba(X), models[1].predict_proba(X))
    if hasattr(model, "partial_fit"):
        estimate(model.partial_fit, *table_and_labels(draw, take, model))
        assert all(np.isfinite(w).all() for w in model.coefs_)
    else:
        assert all(
            (a == b).all() for a, b in zip(kept[: len(model.coefs_)], model.coefs_, strict=True)
        )


def table_and_labels(draw, take, model):
    n = draw(st.integers(0, 5))
    X, _ = take.array((n, model.coefs_[0].shape[0]))
    return X, choose(draw, *model.classes_.tolist(), "never seen") and [
        choose(draw, *model.classes_.tolist(), 77) for _ in range(n)
    ]


def estimate(method, *arguments, **options):
    """Call a method of the estimator: the message of its exception, or None."""
    everything = [*arguments, *options.values()]
    before = [bytes_of(x) for x in everything]
    said = None
    with warnings.catch_warnings(record=True) as got:
        warnings.simplefilter("always")
        try:
            method(*arguments, **options)
        except (TypeError, ValueError) as error:
            said = f"{type(error).__name__}: {error}"
    assert [bytes_of(x) for x in everything] == before, "an argument was changed"
    for warning in got:
        assert EXPECTED.search(str(warning.message)), f"warned: {warning.message}"
    return said


#: What is drawn from; those that cost little more often.
CASES = [elementwise, along_axes, costs, costs, output_errors, products, steps, steps]
CASES += [fit_network, fit_network, fit_classifier]


def run(seconds, first_seed):
    """Try inputs for ``seconds``; return how many, or raise with the seed of the fault."""
    n_inputs, end = 0, time.monotonic() + seconds

    @given(st.sampled_from(CASES), st.data())
    @settings(
        max_examples=BATCH,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    def one(case, data):
        nonlocal n_inputs
        n_inputs += 1
        case(data.draw)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for this_seed in itertools.count(first_seed):
            try:
                seed(this_seed)(one)()
            except Exception as error:
                error.add_note(f"again: python tests/fuzz.py front-door --seed {this_seed}")
                raise
            if time.monotonic() > end:
                return n_inputs
