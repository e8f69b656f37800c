"""The checked functions, in the order of the equations: any array-like, any axis, ``out=``."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import kernels
from fastbp._checks import arrays, labels, scalars
from fastbp._checks.arrays import FLOAT32, FLOAT64, INTP, destination, has_plain_rows, is_plain
from fastbp._checks.cost import CostBatch, as_batch, as_rows_of_one_axis
from fastbp._checks.docs import documented, elementwise
from fastbp._checks.labels import NO_WEIGHT, first_label_outside
from fastbp._compile import kernel
from fastbp.kernels.activation import ACTIVATIONS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastbp._checks.arrays import Array


@documented
def dense(a_prev: ArrayLike, w: ArrayLike, b: ArrayLike, *, out: Array | None = None) -> Array:
    """Weighted input of a fully-connected layer: z = a_prev w + b, of shape (n, fan_out).

    Parameters
    ----------
    a_prev : array_like of shape (n, fan_in)
        Activations of the layer before, or the features.
    w : array_like of shape (fan_in, fan_out)
        Weights.
    b : array_like of shape (fan_out,)
        Biases.
    {out}

    {examples}
    >>> fastbp.dense([[1.0, 2.0]], [[1.0, 0.0], [3.0, 1.0]], [0.5, -0.5])
    array([[7.5, 1.5]])
    """
    a_prev = arrays.as_float_array(a_prev, "a_prev", ndim=2)
    dtype = a_prev.dtype
    w = arrays.as_float_array(w, "w", dtype=dtype, ndim=2)
    b = arrays.as_float_array(b, "b", dtype=dtype, ndim=1)
    arrays.check_shape(w, (a_prev.shape[1], w.shape[1]), "w")
    arrays.check_shape(b, w.shape[1:], "b")
    z = destination(out, (len(a_prev), w.shape[1]), dtype, a_prev, w, b)
    kernels.dense_forward(a_prev, w, b, z)
    return arrays.deliver(z, out)


def _elementwise(kernel: Callable[[Array, Array], None], z: ArrayLike, out: Array | None) -> Array:
    if not is_plain(z):
        z = arrays.as_float_array(z, "z")
    a = np.empty_like(z) if out is None else destination(out, z.shape, z.dtype, over=z)
    if z.ndim == 2:
        kernel(z, a)
    else:
        kernel(z.reshape(1, -1), a.reshape(1, -1))
    return arrays.deliver(a, out)


@elementwise
def sigmoid(z: ArrayLike, *, out: Array | None = None) -> Array:
    """Logistic sigmoid: a = 1 / (1 + exp(-z)), element by element.

    {elementwise}

    Notes
    -----
    With e = exp(-|z|) it is 1 / (1 + e) or e / (1 + e): subnormal results are kept.

    {examples}
    >>> fastbp.sigmoid([0.0, 2.0, -2.0]).round(4)
    array([0.5   , 0.8808, 0.1192])
    """
    return _elementwise(kernels.sigmoid_forward, z, out)


@elementwise
def sigmoid_derivative(z: ArrayLike, *, out: Array | None = None) -> Array:
    """Derivative of the sigmoid: a' = a (1 - a) with a = sigmoid(z), element by element.

    {elementwise}

    Notes
    -----
    Computed from z as e / (1 + e)^2 with e = exp(-|z|): a (1 - a) is 0 where a rounds to 1.

    {examples}
    >>> print("%.3g %.3g" % tuple(fastbp.sigmoid_derivative([0.0, 40.0])))
    0.25 4.25e-18
    """
    return _elementwise(kernels.sigmoid_derivative_forward, z, out)


@elementwise
def tanh(z: ArrayLike, *, out: Array | None = None) -> Array:
    """Hyperbolic tangent: a = (exp(z) - exp(-z)) / (exp(z) + exp(-z)), element by element.

    {elementwise}

    Notes
    -----
    (e - 1) / (e + 1) with e = exp(2|z|) in two parts, as in chapter 6 of W. J. Cody, W. Waite,
    "Software Manual for the Elementary Functions", 1980: nothing cancels where z is small.

    {examples}
    >>> fastbp.tanh([1e-20, 1.0, -1.0])
    array([ 1.00000000e-20,  7.61594156e-01, -7.61594156e-01])
    """
    return _elementwise(kernels.tanh_forward, z, out)


@elementwise
def relu(z: ArrayLike, *, out: Array | None = None) -> Array:
    """Rectifier: a = max(0, z), element by element; NaN stays NaN.

    {elementwise}

    {examples}
    >>> fastbp.relu([2.0, -3.0, 0.0])
    array([2., 0., 0.])
    """
    return _elementwise(kernels.relu_forward, z, out)


def _row_by_row(kernel: Callable[[Array, Array], None], z: ArrayLike, axis: Any, out: Any) -> Array:
    if has_plain_rows(z, axis):
        a = np.empty_like(z) if out is None else destination(out, z.shape, z.dtype, over=z)
        kernel(z, a)
        return arrays.deliver(a, out)
    rows, shape, axes = arrays.as_class_rows(z, "z", axis)
    result = arrays.row_destination(out, shape, axes, rows)
    kernel(rows, result)
    return arrays.deliver_rows(result, out, shape, axes)


@documented
def softmax(z: ArrayLike, axis: Any = -1, *, out: Array | None = None) -> Array:
    """Softmax: a_i = exp(z_i) / sum_j exp(z_j) along ``axis``.

    {row_by_row}

    Notes
    -----
    A row that holds NaN or +inf, or only -inf, gives NaN; other rows keep their bits.  The shift
    by the maximum is never rounded: the error does not grow with the spread of the logits, as in
    theorem 4.3 of P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp
    and softmax functions", IMA Journal of Numerical Analysis 41 (4), 2021.

    {examples}
    >>> fastbp.softmax([[1.0, 2.0, 3.0], [1000.0, 1000.0, -1000.0]]).round(4)
    array([[0.09  , 0.2447, 0.6652],
           [0.5   , 0.5   , 0.    ]])
    """
    return _row_by_row(kernels.softmax, z, axis, out)


@documented
def log_softmax(z: ArrayLike, axis: Any = -1, *, out: Array | None = None) -> Array:
    """Logarithm of the softmax: ln a_i = z_i - ln sum_j exp(z_j) along ``axis``.

    {row_by_row}

    Notes
    -----
    log1p adds the maximum's own term to the sum of the others (source as of `softmax`): the
    log-probability of a confident row is tiny, not 0.

    {examples}
    >>> print("%.3g %.3g" % tuple(fastbp.log_softmax([50.0, 0.0])))
    -1.93e-22 -50
    """
    return _row_by_row(kernels.log_softmax, z, axis, out)


@documented
def logsumexp(
    z: ArrayLike, axis: Any = -1, keepdims: bool = False, *, out: Array | None = None
) -> Any:
    """Logarithm of the sum of exponentials: ln sum_j exp(z_j) along ``axis``.

    Parameters
    ----------
    {axis}
    keepdims : bool, default False
        Whether the axes summed over stay, with length one.
    {out}
        If ``axis`` is out of range or names an axis twice; if there is no class.

    Notes
    -----
    NaN for a row that holds NaN, else +inf for one that holds +inf, -inf for one of only -inf.

    {examples}
    >>> fastbp.logsumexp([[0.0, 0.0], [1000.0, 1000.0]]).round(4)
    array([6.9310000e-01, 1.0006931e+03])
    """
    if keepdims is False and has_plain_rows(z, axis):
        result = destination(out, z.shape[:1], z.dtype, z)
        kernels.logsumexp(z, result)
        return arrays.deliver(result, out)
    rows, shape, axes = arrays.as_class_rows(z, "z", axis)
    keep = scalars.as_flag(keepdims, "keepdims")
    shape = tuple(1 if q in axes else n for q, n in enumerate(shape) if keep or q not in axes)
    result = destination(out, shape, rows.dtype, rows)
    kernels.logsumexp(rows, result.reshape(-1))
    return arrays.deliver(result, out)


@documented
def cross_entropy(
    z: ArrayLike,
    y: ArrayLike,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: Array | None = None,
) -> Any:
    """Cross-entropy of the softmax: C = -sum_k y_k ln a_k with a = softmax(z), from logits.

    Parameters
    ----------
    z : array_like
        Logits, any shape with a class axis.
    {labels}
    weight : array_like of shape (n_classes,), optional
        Weight of each class: any finite number.
    sample_weight : array_like of the shape of ``z`` without the class axis, optional
        Weight of each row: any finite number, such as the advantage of an action.  A row of weight
        0 contributes exactly 0, whatever it holds.
    ignore_index : int, optional
        Label of the rows to leave out.
    label_smoothing : float in [0, 1], default 0.0
        Share e of the target that is spread evenly: y becomes (1 - e) y + e / n_classes.
    reduction : {"mean", "sum", "none"}, default "mean"
        "none" gives a loss per row.  "mean" divides their sum, for labels, by the sum of the
        weights (class times row) of the rows not left out; for target rows, by the sum of the
        rows' weights.
    {out}
        {label_errors}
        If a weight is not finite; if the mean is over no rows or over weights that sum to zero;
        if ``ignore_index`` comes with target rows.

    Notes
    -----
    The options are those of torch.nn.functional.cross_entropy, with the class axis last and no
    label ignored by default.  Nothing is clipped: a wrong row of confidence 1e4 costs 1e4, and a
    right one costs its tiny loss.  A target of 0 contributes 0 even where the logit is -inf.

    {examples}
    >>> z = [[2.0, 0.0, 0.0], [0.0, 100.0, 0.0]]
    >>> fastbp.cross_entropy(z, [0, 2], reduction="none").round(4)
    array([  0.2395, 100.    ])
    """
    if weight is None and sample_weight is None and ignore_index is None and out is None:
        if plain := _plain_cost(z, y, axis, label_smoothing, reduction):
            return plain[0]
    batch = as_batch(z, y, axis, weight, sample_weight, ignore_index, label_smoothing, reduction)
    return _cost(batch, out, with_delta=False)[0]


@documented
def softmax_cross_entropy(
    z: ArrayLike,
    y: ArrayLike,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Cross-entropy and its gradient in one pass: C = -sum_k y_k ln a_k, delta = a sum(y) - y.

    Parameters
    ----------
    z, y, axis, weight, sample_weight, ignore_index, label_smoothing, reduction : various
        As in `cross_entropy`.
    out : ndarray of the shape and dtype of delta, optional
        Where to write delta; it may overlap the inputs.

    Returns
    -------
    loss : scalar or ndarray
        As of `cross_entropy`, which also has the exceptions.
    delta : ndarray
        The output error (BP1): gradient of the loss, or with "none" of the sum of the losses, with
        respect to ``z``, in its shape and dtype.

    Notes
    -----
    The label's entry is minus the sum of the others' terms, never a - 1, which would cancel: a
    confident right row still learns.

    {examples}
    >>> loss, delta = fastbp.softmax_cross_entropy([[0.0, 0.0], [50.0, 0.0]], [1, 0])
    >>> print(delta)
    [[ 2.50000000e-01 -2.50000000e-01]
     [-9.64374924e-23  9.64374924e-23]]
    """
    if weight is None and sample_weight is None and ignore_index is None:
        if plain := _plain_cost(z, y, axis, label_smoothing, reduction, out, True):
            return plain
    batch = as_batch(z, y, axis, weight, sample_weight, ignore_index, label_smoothing, reduction)
    return _cost(batch, out, with_delta=True)


@kernel
def _reduced_loss(z: Any, y: Any, row_weight: Any, loss: Any, divisor: Any) -> Any:
    """Write the losses, their sum / divisor over the first; return the first bad label's row."""
    bad = first_label_outside(y, z.shape[1])
    if bad < 0:
        kernels.cross_entropy(z, y, row_weight, loss)
        loss[0] = kernels.loss_sum(loss) / divisor
    return bad


@kernel
def _reduced_cost(z: Any, y: Any, row_weight: Any, loss: Any, delta: Any, divisor: Any) -> Any:
    """Write delta, too."""
    bad = first_label_outside(y, z.shape[1])
    if bad < 0:
        kernels.softmax_cross_entropy(z, y, row_weight, loss, delta, 1.0 / divisor)
        loss[0] = kernels.loss_sum(loss) / divisor
    return bad


def _plain_cost(
    z: Any, y: Any, axis: Any, smoothing: Any, reduction: Any, out: Any = None, fused: bool = False
) -> tuple[Any, Any] | None:
    """Return the result of `_cost` for plain rows and labels without options, else None.

    The checks of `_cost` take longer than the cost of 128 rows.
    """
    if type(smoothing) is not float or smoothing != 0.0 or type(reduction) is not str:
        return None
    if reduction not in ("mean", "sum") or type(y) is not np.ndarray or y.dtype is not INTP:
        return None
    if not has_plain_rows(z, axis) or y.shape != z.shape[:1] or not y.flags.carray:
        return None
    loss, delta = np.empty(len(z), z.dtype), None
    divisor = float(len(z)) if reduction == "mean" else 1.0
    if fused:
        delta = np.empty_like(z) if out is None else destination(out, z.shape, z.dtype, y, over=z)
        bad = _reduced_cost(z, y, NO_WEIGHT, loss, delta, divisor)
    else:
        bad = _reduced_loss(z, y, NO_WEIGHT, loss, divisor)
    if bad >= 0:
        labels.as_labels(y, y.shape, z.shape[1], "y")  # raises
    if delta is not None and delta is not out:
        delta = arrays.deliver(delta, out)
    return loss[0], delta


def _cost(batch: CostBatch, out: Array | None, *, with_delta: bool) -> tuple[Any, Any]:
    """Return the loss, and delta or None; ``out`` takes delta, or the loss without it."""
    dtype, shape, axes = batch.z.dtype, batch.shape, batch.axes
    divisor = _mean_divisor(batch) if batch.reduction == "mean" else 1.0
    loss_shape = arrays.without_axes(shape, axes) if batch.reduction == "none" else ()
    delta = None
    if with_delta:
        delta = arrays.row_destination(out, shape, axes, batch.z, batch.y, batch.row_weight)
    elif out is not None:
        arrays.check_out(out, loss_shape, dtype)
    losses = np.empty(len(batch.z), dtype)
    _write_cost(batch, losses, delta, 1.0 / divisor)
    if batch.reduction == "none":
        loss = losses.reshape(loss_shape)
    else:
        loss = _as_scalar(kernels.loss_sum(losses) / divisor, dtype)
    if delta is None:
        return arrays.deliver(loss, out), None
    return arrays.deliver(loss, None), arrays.deliver_rows(delta, out, shape, axes)


def _mean_divisor(batch: CostBatch) -> float:
    """Return the sum of the weights of the rows."""
    weight, y = batch.mean_weight, batch.y
    total: float = kernels.loss_sum(weight) if weight.size else float(len(y))
    if total != 0:
        return total
    raise ValueError("the mean is over weights that sum to zero")


# Elements of target rows that are built at a time: the kernels find them in the cache.
_BLOCK_SIZE = 1 << 15


def _write_cost(batch: CostBatch, loss: Array, delta: Array | None, scale: float) -> None:
    """Call the kernels on all rows, or block by block where target rows have to be built."""
    z, y, row_weight, class_weight, smoothing, *_ = batch
    if smoothing == 0 and not class_weight.size:
        _call_kernel(z, y, row_weight, loss, delta, scale)
        return
    n, n_classes = z.shape
    block_rows = max(1, _BLOCK_SIZE // n_classes)
    buffer = np.empty((min(block_rows, n), n_classes), z.dtype)
    for start in range(0, n, block_rows):
        part = slice(start, min(start + block_rows, n))
        targets = buffer[: part.stop - start]
        if y.ndim == 1:
            kernels.smoothed_targets(y[part], class_weight, targets, smoothing)
        else:
            np.multiply(y[part], 1 - smoothing, out=targets)
            targets += smoothing / n_classes
            if class_weight.size:
                targets *= class_weight
        delta_part = None if delta is None else delta[part]
        _call_kernel(z[part], targets, row_weight[part], loss[part], delta_part, scale)


def _call_kernel(z: Array, y: Array, weight: Array, loss: Array, delta: Any, scale: float) -> None:
    by_label = y.ndim == 1
    if delta is None:
        kernel = kernels.cross_entropy if by_label else kernels.cross_entropy_targets
        kernel(z, y, weight, loss)
        return
    kernel = kernels.softmax_cross_entropy if by_label else kernels.softmax_cross_entropy_targets
    kernel(z, y, weight, loss, delta, scale)


def _as_scalar(value: float, dtype: np.dtype[Any]) -> Any:
    if dtype is FLOAT32 and not 2.0**-126 <= value < 2.0**128 - 2.0**103:
        # NumPy would warn; infinity and subnormals are right here.
        with np.errstate(all="ignore"):
            return dtype.type(value)
    return dtype.type(value)


@documented
def output_error(a: ArrayLike, y: ArrayLike, *, axis: int = -1, out: Array | None = None) -> Array:
    """Output error (BP1): delta = a - y, from the activations of the output layer.

    Row by row this is a sum(y) - y.  From logits, `softmax_cross_entropy` gives it without the
    cancellation in a - 1.

    Parameters
    ----------
    a : array_like
        Probabilities, any shape with a class axis.
    {labels}
    {out}
        {label_errors}

    {examples}
    >>> fastbp.output_error([[0.25, 0.75]], [1])
    array([[ 0.25, -0.25]])
    """
    rows, shape, axes = as_rows_of_one_axis(a, "a", axis)
    y = labels.as_labels_or_targets(y, shape, rows.dtype, "y", axes[0])
    delta = arrays.row_destination(out, shape, axes, rows, y)
    (kernels.output_error if y.ndim == 1 else kernels.output_error_targets)(rows, y, delta)
    return arrays.deliver_rows(delta, out, shape, axes)


@documented
def hidden_error(
    delta_next: ArrayLike,
    w_next: ArrayLike,
    a: ArrayLike,
    *,
    activation: str = "sigmoid",
    out: Array | None = None,
) -> Array:
    """Hidden error (BP2): delta = (delta_next w_next^T) a', of shape (n, fan_in).

    Parameters
    ----------
    delta_next : array_like of shape (n, fan_out)
        Error of the next layer.
    w_next : array_like of shape (fan_in, fan_out)
        Weights of the next layer.
    a : array_like of shape (n, fan_in)
        Activations of this layer.
    activation : {"sigmoid", "tanh", "relu", "identity"}
        a' is a (1 - a), 1 - a^2, 1 where a is not 0, or 1.
    {out}

    {examples}
    >>> fastbp.hidden_error([[1.0, -1.0]], [[2.0, 1.0], [0.0, 4.0]], [[0.5, 0.5]])
    array([[ 0.25, -1.  ]])
    """
    kind = ACTIVATIONS.index(scalars.as_choice(activation, "activation", ACTIVATIONS))
    delta_next = arrays.as_float_array(delta_next, "delta_next", ndim=2)
    dtype = delta_next.dtype
    w_next = arrays.as_float_array(w_next, "w_next", dtype=dtype, ndim=2)
    a = arrays.as_float_array(a, "a", dtype=dtype, ndim=2)
    shape = len(delta_next), len(w_next)
    arrays.check_shape(w_next, (shape[1], delta_next.shape[1]), "w_next")
    arrays.check_shape(a, shape, "a")
    delta = destination(out, shape, dtype, delta_next, w_next, a)
    kernels.hidden_error_of(delta_next, w_next, a, delta, kind)
    return arrays.deliver(delta, out)


@documented
def bias_gradient(delta: ArrayLike, *, out: Array | None = None) -> Array:
    """Bias gradient (BP3): dC/db = the mean of delta over the batch, of shape (fan_out,).

    Parameters
    ----------
    delta : array_like of shape (n, fan_out)
        Error of the layer.
    {out}
        If the mean is over no rows.

    {examples}
    >>> fastbp.bias_gradient([[1.0, -1.0], [0.0, 2.0]])
    array([0.5, 0.5])
    """
    delta = arrays.as_float_array(delta, "delta", ndim=2)
    _refuse_no_rows(delta)
    grad_b = destination(out, delta.shape[1:], delta.dtype, delta)
    kernels.bias_gradient(delta, grad_b)
    return arrays.deliver(grad_b, out)


@documented
def weight_gradient(a_prev: ArrayLike, delta: ArrayLike, *, out: Array | None = None) -> Array:
    """Weight gradient (BP4): dC/dw = a_prev^T delta / n, of shape (fan_in, fan_out).

    Parameters
    ----------
    a_prev : array_like of shape (n, fan_in)
        Activations of the layer before.
    delta : array_like of shape (n, fan_out)
        Error of the layer.
    {out}
        If the mean is over no rows.

    {examples}
    >>> fastbp.weight_gradient([[1.0, 2.0], [3.0, 0.0]], [[1.0], [-1.0]])
    array([[-1.],
           [ 1.]])
    """
    a_prev = arrays.as_float_array(a_prev, "a_prev", ndim=2)
    delta = arrays.as_float_array(delta, "delta", dtype=a_prev.dtype, ndim=2)
    arrays.check_shape(delta, (a_prev.shape[0], delta.shape[1]), "delta")
    _refuse_no_rows(delta)
    grad_w = destination(out, (a_prev.shape[1], delta.shape[1]), delta.dtype, a_prev, delta)
    kernels.weight_gradient(a_prev, delta, grad_w)
    return arrays.deliver(grad_w, out)


def _refuse_no_rows(delta: Array) -> None:
    if delta.shape[0] == 0:
        raise ValueError(f"the mean is over no rows: delta has shape {delta.shape}")


def _step(
    kernel: Callable[..., None], param: Array, grad: ArrayLike, state: dict[str, Array], *rates: Any
) -> None:
    """Check and update ``param`` and the optimizer's ``state`` (by argument), of any layout."""
    if not isinstance(param, np.ndarray) or param.dtype.newbyteorder("=") not in (FLOAT32, FLOAT64):
        got = getattr(param, "dtype", type(param).__name__)
        raise TypeError(f"param must be a numpy.ndarray of float32 or float64, got {got}")
    written = {"param": param, **state}
    for name, x in written.items():
        arrays.check_out(x, param.shape, param.dtype, name)
    for (first, x), (second, y) in itertools.combinations(written.items(), 2):
        if np.shares_memory(x, y):
            raise ValueError(f"{second} must not overlap {first}")
    plain = [arrays.as_float_array(x, name) for name, x in written.items()]
    g = arrays.as_float_array(grad, "grad", dtype=plain[0].dtype)
    arrays.check_shape(g, param.shape, "grad")
    if any(np.may_share_memory(g, x) for x in plain):
        g = g.copy()
    theta, *others = (x.reshape(-1) for x in plain)
    kernel(theta, g.reshape(-1), *others, *rates)
    for x, given in zip(plain, written.values(), strict=True):
        if not np.may_share_memory(x, given):  # the kernel has updated a copy
            np.copyto(given, x)


@documented
def momentum_step(
    param: Array, grad: ArrayLike, velocity: Array, learning_rate: float, momentum: float
) -> None:
    """Momentum SGD, in place: velocity = momentum velocity - learning_rate grad; param += velocity.

    {velocity_step}

    Notes
    -----
    Each operation is rounded.  With velocity = -learning_rate d this equals the form d <- momentum
    d + grad, param <- param - learning_rate d, while the learning rate is constant [I. Sutskever,
    J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and momentum in deep
    learning", ICML 2013].

    {examples}
    >>> param, velocity = np.array([1.0, 2.0]), np.zeros(2)
    >>> fastbp.momentum_step(param, [1.0, -1.0], velocity, 0.5, 0.9)
    >>> param, velocity
    (array([0.5, 2.5]), array([-0.5,  0.5]))
    """
    learning_rate = scalars.as_real(learning_rate, "learning_rate", 0.0)
    momentum = scalars.as_real(momentum, "momentum", 0.0, 1.0)
    _step(kernels.momentum_step, param, grad, {"velocity": velocity}, learning_rate, momentum)


@documented
def nesterov_step(
    param: Array, grad: ArrayLike, velocity: Array, learning_rate: float, momentum: float
) -> None:
    """Nesterov's momentum, in place: param += momentum velocity - learning_rate grad.

    The velocity is the new one: velocity = momentum velocity - learning_rate grad comes first.

    {velocity_step}

    Notes
    -----
    Each operation is rounded.  ``param`` is the point looked ahead to, where the next gradient is
    taken; source as of `momentum_step`.

    {examples}
    >>> param, velocity = np.array([1.0, 2.0]), np.zeros(2)
    >>> fastbp.nesterov_step(param, [1.0, -1.0], velocity, 0.5, 0.5)
    >>> param, velocity
    (array([0.25, 2.75]), array([-0.5,  0.5]))
    """
    learning_rate = scalars.as_real(learning_rate, "learning_rate", 0.0)
    momentum = scalars.as_real(momentum, "momentum", 0.0, 1.0)
    _step(kernels.nesterov_step, param, grad, {"velocity": velocity}, learning_rate, momentum)


@documented
def adam_step(
    param: Array,
    grad: ArrayLike,
    m: Array,
    v: Array,
    learning_rate: float = 1e-3,
    *,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    t: int,
) -> None:
    """Adam, or AdamW, in place: param -= learning_rate m' / (sqrt(v') + epsilon).

    Where m' = m / (1 - beta_1^t) and v' = v / (1 - beta_2^t), after the update of the moments,
    m = beta_1 m + (1 - beta_1) grad and v = beta_2 v + (1 - beta_2) grad^2.

    Parameters
    ----------
    param : ndarray of float32 or float64
        Updated.
    grad : array_like of the shape of ``param``
        Gradient of the cost.
    m, v : ndarray of the shape and dtype of ``param``
        Updated; the moments begin with zeros.
    learning_rate : float
        Not negative.
    beta_1, beta_2 : float
        Decay of the moments, at least 0 and below 1.
    epsilon : float
        Not negative; with 0, a parameter whose gradients were all 0 becomes NaN.
    weight_decay : float
        Above 0 this is AdamW: param -= learning_rate weight_decay param comes first.
    t : int
        Number of this step: 1 with the first gradient.

    {step_errors}

    Notes
    -----
    Algorithm 1 of D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015;
    AdamW of I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    {examples}
    >>> param, m, v = np.array([1.0, 1.0]), np.zeros(2), np.zeros(2)
    >>> fastbp.adam_step(param, [2.0, -0.5], m, v, 0.125, t=1)
    >>> param.round(4), m
    (array([0.875, 1.125]), array([ 0.2 , -0.05]))
    """
    learning_rate = scalars.as_real(learning_rate, "learning_rate", 0.0)
    beta_1 = scalars.as_real(beta_1, "beta_1", 0.0, 1.0, "left")
    beta_2 = scalars.as_real(beta_2, "beta_2", 0.0, 1.0, "left")
    epsilon = scalars.as_real(epsilon, "epsilon", 0.0)
    weight_decay = scalars.as_real(weight_decay, "weight_decay", 0.0)
    # Compiled code takes no larger integers; the corrections of the moments are 1 long before.
    t = min(scalars.as_positive_int(t, "t"), 2**62)
    rates = learning_rate, beta_1, beta_2, epsilon, weight_decay
    _step(kernels.adam_step, param, grad, {"m": m, "v": v}, kernels.AdamOptions(*rates), t)
