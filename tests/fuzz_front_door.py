"""Arguments of every kind for every public function and both models.

A call agrees with the oracle or with the same call on plain arrays, or it raises a documented
exception; it writes to its results alone, and never warns.
"""

import contextlib
import itertools
import math
import pickle
import re
import time
import warnings
from fractions import Fraction

import numpy as np
import reference
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from layouts import LAYOUTS
from tolerances import assert_same_bits, assert_ulp

import fastbp

#: Inputs of one seed, the next of which follows it.
BATCH = 50

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
INTEGERS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", ">i4", ">u8")
NOT_NUMERIC = ("bool", "f2", "c8", "c16", "O", "U3", "M8[s]", "m8[s]")
if np.finfo(np.longdouble).bits != 64:
    NOT_NUMERIC += ("longdouble",)

#: Values that no option takes.
BAD = ("1", None, 1j, [1], {}, math.nan, math.inf, -math.inf, -1, 10**400, object())
BAD += (Fraction(-1, 3), np.array([1, 2]), np.array(0.5), True, np.True_)
BAD_NUMBER = tuple(x for x in BAD if x is not None)
BAD_COUNT = (0, -1, 2.0, "1", True)
ACTIVATIONS = ("sigmoid", "tanh", "relu", "identity")


class Inputs:
    """Arguments drawn one after the other, and why the call must fail, if it must."""

    def __init__(self, draw):
        self.draw = draw
        self.refused = None
        self.rng = np.random.default_rng(self.integer(0, 2**32 - 1))

    def integer(self, low, high):
        return self.draw(st.integers(low, high))

    def one_in(self, n):
        return self.integer(0, n - 1) == n - 1

    def choose(self, *choices):
        return self.draw(st.sampled_from(choices))

    def refuse(self, reason, n):
        """Spoil one argument in ``n``."""
        if self.one_in(n):
            self.refused = reason
            return True
        return False

    def option(self, good, bad=BAD):
        return self.choose(*bad) if self.refuse("option", 15) else self.choose(*good)

    def shape(self, least=0):
        return tuple(self.draw(st.lists(st.integers(0, 6), min_size=least, max_size=3)))

    def values(self, shape, dtype, special=True):
        """An array of one kind, with special values now and then."""
        if dtype.kind in "iu":
            return self.rng.integers(0, 100, shape).astype(dtype)
        info = np.finfo(dtype)
        x = 10.0 ** self.integer(-3, 3) * self.rng.standard_normal(shape)
        if special and self.one_in(3):
            odd = [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, -info.max, info.tiny, 5e-324]
            x = np.where(self.rng.random(shape) < 0.3, self.rng.choice(odd, shape), x)
        with np.errstate(all="ignore"):
            return np.array(x, dtype)

    def dressed(self, x):
        """``x`` in another layout, where it has elements."""
        names = ["plain", "plain", *(LAYOUTS if x.ndim and x.size else ())]
        name = self.choose(*names, *(("list",) if x.size and x.dtype == np.float64 else ()))
        if name == "plain":
            return x.copy()
        return x.tolist() if name == "list" else LAYOUTS[name](x.copy())

    def spoilt(self, x, first):
        """Something that is no numeric array, of the dtypes from ``first`` on."""
        kind = self.choose(*NOT_NUMERIC[first:], "masked", "matrix", "ragged", "thing")
        if kind == "masked":
            return np.ma.array(x, mask=np.ones(x.shape, bool)) if x.size else None
        if kind == "ragged":
            return [[1.0, 2.0], [3.0]]
        if kind == "thing":
            return self.choose(None, "text", {}, object(), 1j)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "matrix":
                return np.matrix(np.zeros((2, 2)))
            return np.asarray(np.nan_to_num(x, posinf=1, neginf=1)).astype(int).astype(kind)

    def array(self, shape, dtype=None, special=True, first=0):
        """An array as it is passed, and its values."""
        clean = self.values(shape, np.dtype(dtype or self.choose(*FLOATS * 3, *INTEGERS)), special)
        if self.refuse("no numeric array", 25):
            return self.spoilt(clean, first), clean
        return self.dressed(clean), clean if clean.dtype.kind == "f" else clean.astype(np.float64)

    def out(self, shape, dtype, *inputs):
        """An array for the result, of any kind; it may overlap an input."""
        kind = self.choose("none", "none", "new", "gaps", "reversed", "overlap", "itself", "bad")
        if kind == "bad":
            self.refused = "out"
            other = np.zeros(shape, np.float32 if dtype == np.float64 else np.float64)
            bad = [other, np.zeros(shape).tolist(), np.zeros(shape, dtype.newbyteorder())]
            read_only = np.zeros(shape, dtype)
            read_only.flags.writeable = False
            return self.choose(*bad, read_only, np.zeros((*shape, 1), dtype))
        if kind == "gaps":
            wide = np.full([2 * n for n in shape], 7, dtype)
            return wide[..., *[slice(None, None, 2)] * len(shape)]
        if kind == "reversed" and shape:
            return np.full(shape, 7, dtype)[::-1]
        plain = [x for x in inputs if type(x) is np.ndarray and x.dtype is dtype and x.flags.carray]
        if kind in ("overlap", "itself") and plain:
            x, size = self.choose(*plain), math.prod(shape)
            if kind == "itself" and x.shape == shape:
                return x
            if size <= x.size:
                start = self.integer(0, x.size - size)
                return x.reshape(-1)[start : start + size].reshape(shape)
        return None if kind == "none" else np.full(shape, 7, dtype)

    def labels(self, n, n_classes, ignore_index=None):
        """Labels as they are passed, and as they are."""
        y = self.rng.integers(0, n_classes, n)
        if ignore_index is not None and self.one_in(2):
            y[self.rng.random(n) < 0.3] = ignore_index
        if n and self.refuse("label", 20):
            y[self.rng.integers(n)] = self.choose(-1, n_classes, 2**40, -(2**40))
            if (y == ignore_index).any() and ignore_index == 2**40:
                self.refused = "perhaps"
        if self.refuse("labels of another type", 20):
            return y.astype(self.choose("f8", "f4", "bool", "O", "U9", "c8")), y
        dtype = self.choose("i8", "i8", *INTEGERS)
        return self.dressed(y.astype(dtype if (y.astype(dtype) == y).all() else "i8")), y

    def targets(self, shape):
        y = self.rng.exponential(size=shape) * (self.rng.random(shape) < 0.7)
        y[:, 0] += 2.0**-20
        y = (y / y.sum(axis=1, keepdims=True)).astype(self.choose(*FLOATS))
        if y.size and self.refuse("target", 20):
            bad = self.choose(-1.0, 3.0, np.nan, np.inf, -np.inf, 1e30)
            y[self.rng.integers(len(y)), 0] = bad
        return self.dressed(y), y

    def weights(self, n, may_be_zero, bad=(-1.0, np.nan, np.inf)):
        """Weights or None, as they are passed and as they are."""
        if self.one_in(2):
            return None, None
        shape = (n, 1) if self.refuse("shape", 25) else n
        w = self.rng.exponential(size=shape) * (self.rng.random() < 0.9)
        if w.size and self.refuse("weight", 20):
            w[self.rng.integers(len(w))] = self.choose(*bad)
        elif w.size and not w.any() and not may_be_zero:
            self.refused = "weight"
        return self.dressed(w), w

    def call(self, function, arguments, written=(), names=None):
        """Call, and judge exceptions and side effects; the result, or None after an exception."""
        before = {name: bytes_of(x) for name, x in arguments.items()}
        shared = {
            name
            for name, x in arguments.items()
            if isinstance(memory(x), np.ndarray)
            if any(isinstance(w, np.ndarray) and np.may_share_memory(memory(x), w) for w in written)
        }
        result = error = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                result = function(**arguments)
        except fastbp.DivergenceError:
            return None
        except (TypeError, ValueError) as caught:
            error = caught
        if error is not None:
            assert {name: bytes_of(x) for name, x in arguments.items()} == before, "has written"
            assert self.refused, f"refused, and all arguments are good: {error}"
            named = "|".join([*(names or arguments), "the mean is over"])
            assert re.search(rf"^({named})\b", str(error)), f"no argument is named: {error!r}"
            return None
        assert self.refused in (None, "perhaps"), f"accepted, with a bad argument: {self.refused}"
        for name in before.keys() - shared:
            assert bytes_of(arguments[name]) == before[name], f"{name} was changed"
        return result


def memory(x):
    return getattr(x, "array", x)


def bytes_of(x):
    """The content of an argument, to be compared."""
    x = memory(x)
    if isinstance(x, np.ndarray) and x.dtype.kind != "O":
        return x.dtype.str, x.shape, x.tobytes()
    if isinstance(x, tuple | list):
        return [bytes_of(value) for value in x]
    return repr(x)


@np.errstate(all="ignore")
def quietly(function, *arguments, **options):
    return function(*arguments, **options)


# The functions


def of_one_array(draw):
    """Element by element, or along axes."""
    take = Inputs(draw)
    along_axes = take.one_in(2)
    names = ("softmax", "log_softmax", "logsumexp") if along_axes else ACTIVATIONS[:3]
    name = take.choose(*names, *(() if along_axes else ("sigmoid_derivative",)))
    z, clean = take.array(take.shape())
    ndim, shape, options, axes = clean.ndim, clean.shape, {}, ()
    if along_axes:
        if take.one_in(4) and type(z) is np.ndarray and z.dtype == clean.dtype:
            z = clean = np.ascontiguousarray(clean).reshape(shape)  # the short way
        axis = take.choose(-1, -1, None, *range(-ndim, ndim), tuple(range(ndim)))
        if take.refuse("axis", 15):
            bad = ("0", 1.0, -1.0, True, ndim + 3, (0, 0), (None,), [0], np.array([0]))
            axis = options["axis"] = take.choose(*bad)
        else:
            options["axis"] = axis
            every = range(ndim) if axis is None else axis if isinstance(axis, tuple) else [axis]
            axes = tuple(sorted({q % max(ndim, 1) for q in every})) if ndim else ()
        if any(shape[q] == 0 for q in axes):
            take.refused = "no classes"
    if name == "logsumexp":
        keep = options["keepdims"] = draw(st.booleans())
        shape = tuple(1 if q in axes else n for q, n in enumerate(shape) if keep or q not in axes)
    out = options["out"] = take.out(shape, clean.dtype, z)
    others = [q for q in range(ndim) if q not in axes]
    rows = clean.transpose(*others, *axes).copy()
    n_classes = math.prod(rows.shape[len(others) :])
    rows = rows.reshape(-1, n_classes) if along_axes and n_classes else rows
    got = take.call(getattr(fastbp, name), {"z": z, **options}, [out])
    if got is None:
        return
    assert out is None or got is out
    assert np.shape(got) == shape
    got, at = np.array(got, clean.dtype), None
    exact = quietly(getattr(reference, name), rows) if rows.size else np.zeros_like(rows)
    if name == "logsumexp":
        exact = exact.reshape(-1)[: len(rows)]
        at = quietly(np.maximum, np.abs(rows).max(axis=1, initial=0), np.abs(exact))
        got = got.reshape(-1)
    elif along_axes:
        got = got.transpose(*others, *axes).reshape(rows.shape)
    assert_ulp(name, got, exact, at)


def cost_options(take, n, n_classes):
    """Options of the cost as they are passed, and as they are; the number of labels to ignore."""
    bad = ("max", None, 1, [], np.array(["mean", "sum"]))
    options = {"reduction": take.option(("mean", "sum", "none"), bad)}
    if take.one_in(3):
        options["label_smoothing"] = take.option((0, 0.0, 0.25, 1, 1.0))
    plain = dict(options)
    for name, size in (("weight", n_classes), ("sample_weight", n)):
        options[name], plain[name] = take.weights(size, True, (np.nan, np.inf, -np.inf))
    if n == 0 and str(options["reduction"]) == "mean":
        take.refused = take.refused or "no rows"
    return options, plain


def costs(draw):
    """cross_entropy and softmax_cross_entropy."""
    take = Inputs(draw)
    name, ignored = take.choose("cross_entropy", "softmax_cross_entropy"), None
    n, n_classes, by_label = take.integer(0, 6), take.integer(1, 6), draw(st.booleans())
    z, clean = take.array((n, n_classes), special=take.one_in(2))
    options, plain = cost_options(take, n, n_classes)
    if by_label and take.one_in(3):
        ignored = take.option((-100, 1, 2**40), ("1", 1.0, True, [1], np.array([1])))
        options["ignore_index"] = plain["ignore_index"] = ignored
        ignored = ignored if type(ignored) is int else None
    drawn = take.labels(n, n_classes, ignored) if by_label else take.targets(clean.shape)
    dtype, is_fused = clean.dtype, name == "softmax_cross_entropy"
    exact = exact_cost(take, clean, drawn[1], plain)
    loss_shape = (n,) if str(options["reduction"]) == "none" else ()
    out = take.out(clean.shape if is_fused else loss_shape, dtype, z, drawn[0])
    arguments = {"z": z, "y": drawn[0], **options, "out": out}
    got = take.call(getattr(fastbp, name), arguments, [out])
    if got is None or take.refused:
        return
    loss, result = got if is_fused else (got, got)
    assert out is None or result is out
    assert np.shape(loss) == loss_shape
    assert_near(np.asarray(loss), exact[0], dtype)
    if is_fused:
        weights = [w for w in (plain["weight"], plain["sample_weight"]) if w is not None]
        assert_near(result, exact[1], dtype, math.prod(max(1, w.max(initial=0)) for w in weights))


def exact_cost(take, z, y, plain):
    """Loss and delta; a mean may be refused, or infinite, where the oracle gives NaN or more."""
    if take.refused:
        return None
    y = y if y.ndim == 1 else quietly(y.astype, z.dtype)
    if plain["weight"] is not None:
        plain["weight"] = plain["weight"].astype(z.dtype)
    exact = quietly(reference.cost, z, y, **plain)
    losses, _ = quietly(reference.cost, z, y, **plain | {"reduction": "none"})
    is_huge = np.isfinite(losses) & (losses > np.finfo(z.dtype).max / 8)
    if is_huge.any() or (plain["reduction"] == "mean" and np.isnan(exact[0])):
        take.refused = "perhaps"  # no row or weight is left, a logit is NaN, a loss is infinite
    return exact


def output_errors(draw):
    take = Inputs(draw)
    shape, by_label = (take.integer(0, 6), take.integer(1, 6)), draw(st.booleans())
    a, clean = take.array(shape, special=False)
    y, clean_y = take.labels(*shape) if by_label else take.targets(shape)
    out = take.out(shape, clean.dtype, a, y)
    got = take.call(fastbp.output_error, {"a": a, "y": y, "out": out}, [out])
    if got is not None:
        assert out is None or got is out
        assert_same_bits(np.array(got), fastbp.output_error(clean, clean_y))


def assert_near(got, exact, dtype, at_least=0):
    """Within 40 eps of the exact result, or of ``at_least``; infinities and NaN are the same."""
    got, exact, info = reference.wide(got), reference.wide(exact), np.finfo(dtype)
    with np.errstate(all="ignore"):
        finite = np.isfinite(exact) & (np.abs(exact) < 0.99 * info.max)
        allowed = 40 * float(info.eps) * np.maximum(np.abs(exact), at_least)
        near = np.abs(got - exact) <= allowed + 8 * float(info.smallest_subnormal)
        right = np.where(finite, near, np.isfinite(exact) | (np.isnan(exact) == np.isnan(got)))
    assert got.shape == exact.shape
    assert right.all(), f"{got} instead of {exact}"


#: The shapes of arguments and result, of n rows, i and o units.
LAYERS = {
    "dense": ({"a_prev": "ni", "w": "io", "b": "o"}, "no"),
    "hidden_error": ({"delta_next": "no", "w_next": "io", "a": "ni"}, "ni"),
    "bias_gradient": ({"delta": "no"}, "o"),
    "weight_gradient": ({"a_prev": "ni", "delta": "no"}, "io"),
}


def layers(draw):
    take = Inputs(draw)
    name, special = take.choose(*LAYERS), take.one_in(4)
    sizes = {letter: take.integer(0, 20) for letter in "nio"}
    shapes = {key: tuple(sizes[c] for c in letters) for key, letters in LAYERS[name][0].items()}
    if take.refuse("dimensions", 20):
        wrong = take.choose(*shapes)
        shapes[wrong] = (*shapes[wrong], 2)
    pairs = {key: take.array(shape, special=special) for key, shape in shapes.items()}
    arguments = {key: pair[0] for key, pair in pairs.items()}
    dtype = next(iter(pairs.values()))[1].dtype
    clean = [quietly(pair[1].astype, dtype) for pair in pairs.values()]
    if name.endswith("gradient") and sizes["n"] == 0:
        take.refused = take.refused or "no rows"
    options = {}
    if name == "hidden_error":
        options["activation"] = take.option(ACTIVATIONS, ("gelu", None, 1, ["relu"]))
    shape = tuple(sizes[c] for c in LAYERS[name][1])
    out = take.out(shape, dtype, *arguments.values())
    got = take.call(getattr(fastbp, name), {**arguments, **options, "out": out}, [out])
    if got is not None:
        assert out is None or got is out
        assert got.shape == shape
        assert_same_bits(np.array(got), getattr(fastbp, name)(*clean, **options))


def steps(draw):
    """momentum_step, nesterov_step and adam_step."""
    take = Inputs(draw)
    name = take.choose("momentum_step", "nesterov_step", "adam_step")
    is_adam, dtype, shape = name == "adam_step", take.choose(*FLOATS), take.shape()
    special = take.one_in(4)
    names = ("param", "m", "v") if is_adam else ("param", "velocity")
    clean = {key: take.values(shape, dtype, special) for key in names}
    if is_adam:
        clean["v"] = np.array(np.abs(clean["v"]))
    grad, clean_grad = take.array(shape, special=special)
    clean_grad = quietly(clean_grad.astype, dtype)
    layouts = ("Fortran order", "gaps", "negative strides", "swapped bytes")
    layout = take.choose("plain", "plain", *layouts) if math.prod(shape) and shape else "plain"
    dress = np.copy if layout == "plain" else LAYOUTS[layout]
    written = {key: dress(x.copy()) for key, x in clean.items()}
    if take.refuse("a written array", 12):
        key, other = take.draw(st.permutations(names))[:2]
        read_only = LAYOUTS["read-only"](np.atleast_1d(clean[key]))
        bad = [np.zeros(shape, np.float16), clean[key].tolist(), None, np.zeros((*shape, 2), dtype)]
        written[key] = take.choose(*bad, read_only, *([written[other]] if math.prod(shape) else []))
    rates = {"learning_rate": take.option((0, 0.5, 1e-3, Fraction(1, 4), np.float32(0.25)))}
    share = take.option((0, 0.0, 0.5, 0.875, np.float64(0.25)))
    if is_adam:
        rates |= {"beta_1": share, "epsilon": take.option((1e-8, 0.25, 1))}
        rates["weight_decay"] = take.option((0, 0.0, 0.5))
        rates["t"] = take.option((1, 2, np.uint8(3), 10**6, 2**63, 10**30), (*BAD_COUNT, math.inf))
    else:
        rates["momentum"] = share
    arguments = {**written, "grad": grad, **rates}
    assert take.call(getattr(fastbp, name), arguments, written.values()) is None
    if take.refused:
        return
    rates = {key: value if key == "t" else float(value) for key, value in rates.items()}
    getattr(fastbp, name)(**clean, grad=clean_grad, **rates)
    for key, got in written.items():
        assert_same_bits(np.asarray(got).astype(dtype), clean[key])


# The models

#: Options of `Network` and of its `fit`: good ones, and bad ones.
NETWORK = {
    "activation": (ACTIVATIONS, ("gelu", None, 1, ["relu"])),
    "dtype": (("float32", "f8", np.float32, float), ("f2", "f4,,", "f4,f4", None, 7, int, [1])),
    "seed": ((0, 2**64 - 1, np.uint8(3)), (-1, 2**64, 1.0, "1", True)),
}
FIT = {
    "epochs": ((1, 2, np.int8(3)), (*BAD_COUNT, None)),
    "batch_size": ((1, 2, 7, 10**6, 2**70), (*BAD_COUNT, None, "auto")),
    "learning_rate": ((0.1, 1, Fraction(1, 3), 1e-300, np.float32(0.5)), (*BAD_NUMBER, 0)),
    "momentum": ((0, 0.5, 0.9), (*BAD_NUMBER, 1.0)),
    "l2": ((0, 0.0, 0.25, 1e-300), BAD),
    "n_threads": ((1, 2, 2**70, None), BAD_COUNT),
    "shuffle": ((True, False), (np.array([1, 0]),)),
    "callback": ((None, lambda *_: None), (1, "x", [])),
}
OPTIMIZERS = (fastbp.SGD(0.1, nesterov=True), fastbp.Adam(), None)
NAMES = (*NETWORK, *FIT, "X", "y", "sample_weight", "layer_sizes", "optimizer", "validation_data")
NAMES += ("parameters", "epsilon")


def fit_options(take, X, y):
    options = {key: take.option(*pair) for key, pair in FIT.items() if take.one_in(3)}
    options.setdefault("epochs", 2)
    if not {"learning_rate", "momentum"} & set(options) and take.one_in(2):
        bad = ("adam", fastbp.Adam, 1, fastbp.Adam(epsilon=1e-320))
        options["optimizer"] = take.option(OPTIMIZERS, bad)
    if take.one_in(4):
        bad = (X, (X,), (X, y, y), 1, "ab", (None, None), (X, None))
        options["validation_data"] = take.choose(*bad) if take.refuse("pair", 15) else (X, y)
    return options


def fit_network(draw):
    take = Inputs(draw)
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    if take.refuse("layer_sizes", 20):
        bad = (0, -1, 2.0, True, "3", None, 10**30, 2**58, np.nan)
        sizes[take.integer(0, len(sizes) - 1)] = take.choose(*bad)
    made = {"layer_sizes": sizes} | {key: take.option(*pair) for key, pair in NETWORK.items()}
    net = take.call(fastbp.Network, made, names=NAMES)
    if net is None:
        return
    n, special = take.integer(0, 9), take.one_in(8)
    shape = (n, sizes[0])
    if take.refuse("shape", 25):
        shape = take.choose((*shape, 1), shape[1:], (n, sizes[0] + 1))
    # bool and float16 are features, too
    X, clean = take.array(shape, None if special else take.choose(*FLOATS), special, first=2)
    clean = quietly(clean.astype, net.dtype)
    refused, is_finite = take.refused, np.isfinite(clean).all()
    for method in (net.logits, net.predict_proba, net.predict_log_proba, net.predict):
        if method == net.predict and not is_finite:
            take.refused = take.refused or "perhaps"
        assert_as_plain(take, method, {"X": X}, {"X": clean})
    take.refused = refused if n else refused or "no rows"
    by_label = draw(st.booleans())
    size = (n, sizes[-1])
    y, clean_y = take.labels(*size) if by_label else take.targets(size)
    weight, clean_weight = take.weights(n, n == 0)
    data = {"X": X, "y": y, "sample_weight": weight}
    plain = {"X": clean, "y": clean_y, "sample_weight": clean_weight}
    for method in (net.gradients, net.loss, net.score):
        assert_as_plain(take, method, data, plain)
    options = fit_options(take, X, y)
    if not is_finite:
        take.refused = take.refused or "not finite"
    twin, before = pickle.loads(pickle.dumps(net)), pickle.dumps(net)
    with np.errstate(all="ignore"):
        history = take.call(net.fit, data | options, names=NAMES)
        if take.refused:
            assert pickle.dumps(net) == before
            return
        with contextlib.suppress(fastbp.DivergenceError):
            assert twin.fit(**plain, **options).loss == history.loss
    assert np.isfinite(net.parameters).all()
    assert pickle.dumps(net) == pickle.dumps(twin)


def assert_as_plain(take, method, arguments, plain):
    """The same bits for these arguments as for plain ones."""
    got = take.call(method, arguments)
    if not take.refused:
        assert bytes_of(got) == bytes_of(method(**plain))


#: Any parameter of the estimator may be any of them.
ANYTHING = (0, 1, 2, 3, 0.0, 0.1, 0.5, 1.0, 1.5, 1e-300, 1e300, -1, math.nan, math.inf, None, True)
ANYTHING += (False, Fraction(1, 3), "1", "logistic", "tanh", "relu", "identity", "sgd", "lbfgs")
ANYTHING += ("auto", "constant", "invscaling", "adaptive", "balanced", {0: 2.0}, {0: -1}, {9: 1})
ANYTHING += ((), (3,), [2, 2], (0,), (2.0,), (True, 2), np.array([2]))
PARAMETERS = sorted({*fastbp.MLPClassifier().get_params()} - {"verbose"})

#: Warnings of the estimator that scikit-learn gives for the same.
EXPECTED = re.compile("converge|Got `batch_size`|column-vector|best validation score|nan|NaN|INF")


def fit_classifier(draw):
    take = Inputs(draw)
    parameters = {"max_iter": 2, "random_state": 0, "hidden_layer_sizes": (3,)}
    parameters |= {key: take.choose(*ANYTHING) for key in PARAMETERS if take.one_in(12)}
    n, n_features = take.integer(0, 14), take.integer(0, 4)
    X, _ = take.array((n, n_features), special=take.one_in(8))
    y = take.rng.integers(0, take.choose(1, 2, 3), n)
    y = take.choose(y, y, y.astype(str), y.astype("u1"), y + 0.5, y.astype(float), y[1:], None)
    data = {"X": X, "y": y, "sample_weight": take.weights(n, True)[0]}
    if take.one_in(5):
        data |= take.choose({"X_val": X, "y_val": y}, {"X_val": X}, {"y_val": y})
    models = [fastbp.MLPClassifier(**parameters) for _ in range(2)]
    errors = [error_of(model.fit, **data) for model in models]
    assert errors[0] == errors[1]
    model, twin = models
    if not hasattr(model, "coefs_"):
        assert "not fitted" in error_of(model.predict, X=np.zeros((1, 1)))
        return
    for mine, other in zip(model.coefs_, twin.coefs_, strict=True):
        assert np.isfinite(mine).all()
        assert_same_bits(mine, other)
    p = model.predict_proba(take.rng.standard_normal((5, model.coefs_[0].shape[0])))
    sums = quietly(p.astype(np.float64).sum, axis=1)
    assert (np.isnan(sums) | (np.abs(sums - 1) <= 1e-5)).all()
    if error_of(model.predict_proba, X=X) is None:
        assert_same_bits(model.predict_proba(X), twin.predict_proba(X))
    if hasattr(model, "partial_fit"):
        n, known = take.integer(0, 5), model.classes_.tolist()
        X, _ = take.array((n, model.coefs_[0].shape[0]))
        error_of(model.partial_fit, X=X, y=[take.choose(*known, 77) for _ in range(n)])
        assert all(np.isfinite(w).all() for w in model.coefs_)


def error_of(method, **arguments):
    """Call a method of the estimator: the message of its exception, or None."""
    before, error = {name: bytes_of(x) for name, x in arguments.items()}, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            method(**arguments)
        except (TypeError, ValueError) as refusal:
            error = f"{type(refusal).__name__}: {refusal}"
    assert {name: bytes_of(x) for name, x in arguments.items()} == before, "has written"
    for warning in caught:
        assert EXPECTED.search(str(warning.message)), f"warned: {warning.message}"
    return error


#: Quick cases stand more often.
CASES = [of_one_array, of_one_array, costs, costs, output_errors, layers, steps, steps]
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
