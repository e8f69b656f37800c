"""Checked NumPy-style functions over the kernels: any array-like, any axis, ``out=``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from fastbp import kernels
from fastbp._checks import arrays
from fastbp._checks.arrays import INTP, NO_WEIGHT, is_plain
from fastbp._compile import kernel
from fastbp.kernels.activation import ACTIVATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from fastbp._checks.arrays import Array, Shape

__all__ = [
    "bias_gradient",
    "cross_entropy",
    "dense",
    "hidden_error",
    "log_softmax",
    "logsumexp",
    "output_error",
    "relu",
    "sigmoid",
    "sigmoid_derivative",
    "softmax",
    "softmax_cross_entropy",
    "tanh",
    "weight_gradient",
]

# Target rows that have to be built are built this many elements at a time: they are read again
# while they are still in the cache, and no second (n, n_classes) array ever exists.
_BLOCK_SIZE = 1 << 15


def _destination(
    out: Array | None,
    shape: Shape,
    dtype: np.dtype[Any],
    *read: Array,
    in_place: Array | None = None,
) -> Array:
    """Plain array that a kernel can write a result to: ``out`` itself where that is safe.

    ``read`` are the arrays that the kernel reads; ``in_place`` is one that it may also write over,
    element for element.
    """
    if out is None:
        return np.empty(shape, dtype)
    if not is_plain(out) or out.dtype is not dtype or out.shape != shape:
        arrays.check_out(out, shape, dtype)
        if not is_plain(out):
            return np.empty(shape, dtype)
    for x in read:
        if not _are_apart(out, x):
            return np.empty(shape, dtype)
    if in_place is None or _are_apart(out, in_place) or arrays.same_memory(out, in_place):
        return out
    return np.empty(shape, dtype)


def _are_apart(x: Array, y: Array) -> bool:
    """Whether two arrays share no memory."""
    if x.flags.owndata and y.flags.owndata:
        return x is not y  # half the time of asking NumPy
    return not np.may_share_memory(x, y)


def _deliver(result: Array, out: Array | None) -> Any:
    """Hand over a result computed in a `_destination`; a scalar where there are no dimensions."""
    if out is None:
        return result if result.ndim else result[()]
    if result is not out:
        np.copyto(out, result)
    return out


def _elementwise(kernel: Callable[[Array, Array], None], z: ArrayLike, out: Array | None) -> Any:
    if not is_plain(z):
        z = arrays.as_float_array(z, "z")
    result = np.empty_like(z) if out is None else _destination(out, z.shape, z.dtype, in_place=z)
    if z.ndim == 2:
        kernel(z, result)
    else:
        kernel(z.reshape(1, -1), result.reshape(1, -1))
    return _deliver(result, out)


def _has_plain_rows(z: ArrayLike, axis: Any) -> TypeGuard[Array]:
    """Whether a kernel can take the rows as they are: the common case, without the ceremony."""
    return is_plain(z) and z.ndim == 2 and type(axis) is int and axis in (-1, 1) and z.size > 0


def _row_by_row(
    kernel: Callable[[Array, Array], None], z: ArrayLike, axis: Any, out: Array | None
) -> Any:
    if _has_plain_rows(z, axis):
        if out is None:
            result = np.empty_like(z)
        else:
            result = _destination(out, z.shape, z.dtype, in_place=z)
        kernel(z, result)
        return _deliver(result, out)
    rows, shape, axes = arrays.as_rows(z, "z", axis)
    result = _row_destination(out, shape, axes, rows)
    kernel(rows, result)
    return _deliver_rows(result, out, shape, axes)


def _row_destination(
    out: Array | None, shape: Shape, axes: Shape, rows: Array, *read: Array
) -> Array:
    """Like `_destination`, for a result in rows along ``axes``; it may be written over ``rows``."""
    if _are_last(axes, shape):
        result = _destination(out, shape, rows.dtype, *read, in_place=rows)
        return result.reshape(rows.shape)
    if out is not None:
        arrays.check_out(out, shape, rows.dtype)
    return np.empty_like(rows)


def _deliver_rows(result: Array, out: Array | None, shape: Shape, axes: Shape) -> Any:
    """Hand over a result computed in a `_row_destination`."""
    if out is not None and np.may_share_memory(result, out):
        return out  # written where it belongs
    if out is None:
        if _are_last(axes, shape):
            return result.reshape(shape) if shape else result[0, 0]
        out = np.empty(shape, result.dtype)
    moved = arrays.move_last(out, axes)
    np.copyto(moved, result.reshape(moved.shape))
    return out


def _are_last(axes: Shape, shape: Shape) -> bool:
    return axes == tuple(range(len(shape) - len(axes), len(shape)))


def sigmoid(z: ArrayLike, *, out: Array | None = None) -> Any:
    """Logistic sigmoid: a = 1 / (1 + exp(-z)), element by element.

    Parameters
    ----------
    z : array_like of float32, float64 or integers, any shape
        Weighted inputs; integers are computed in float64.
    out : ndarray of the shape and dtype of the result, optional
        Where to write the result; it may be ``z`` or overlap it.

    Returns
    -------
    ndarray or scalar
        Activations in [0, 1], in the shape and dtype of ``z``; ``out`` if it was given.

    Raises
    ------
    TypeError
        If z is not an array of float32, float64 or integers, is a numpy.matrix or has masked
        values; if out is not an array of the result's dtype.
    ValueError
        If out does not have the result's shape or is read-only.

    Notes
    -----
    Computed from e = exp(-|z|), which cannot overflow, as 1 / (1 + e) or e / (1 + e): subnormal
    results are kept, where 1 / (1 + exp(-z)) gives 0.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.sigmoid([0.0, 2.0, -2.0]).round(4)
    array([0.5   , 0.8808, 0.1192])
    """
    return _elementwise(kernels.sigmoid_forward, z, out)


def sigmoid_derivative(z: ArrayLike, *, out: Array | None = None) -> Any:
    """Derivative of the sigmoid: a' = a (1 - a) with a = sigmoid(z), element by element.

    Parameters
    ----------
    z : array_like of float32, float64 or integers, any shape
        Weighted inputs, not activations; integers are computed in float64.
    out : ndarray of the shape and dtype of the result, optional
        Where to write the result; it may be ``z`` or overlap it.

    Returns
    -------
    ndarray or scalar
        Derivatives in [0, 1/4], in the shape and dtype of ``z``; ``out`` if it was given.

    Raises
    ------
    TypeError
        If z is not an array of float32, float64 or integers, is a numpy.matrix or has masked
        values; if out is not an array of the result's dtype.
    ValueError
        If out does not have the result's shape or is read-only.

    Notes
    -----
    Computed from z as e / (1 + e)^2 with e = exp(-|z|): from a rounded to 1, a (1 - a) would be 0.

    Examples
    --------
    >>> import fastbp
    >>> float(fastbp.sigmoid_derivative(0.0))
    0.25
    >>> bool(fastbp.sigmoid_derivative(40.0) > 0)
    True
    """
    return _elementwise(kernels.sigmoid_prime, z, out)


def tanh(z: ArrayLike, *, out: Array | None = None) -> Any:
    """Hyperbolic tangent: a = (exp(z) - exp(-z)) / (exp(z) + exp(-z)), element by element.

    Parameters
    ----------
    z : array_like of float32, float64 or integers, any shape
        Weighted inputs; integers are computed in float64.
    out : ndarray of the shape and dtype of the result, optional
        Where to write the result; it may be ``z`` or overlap it.

    Returns
    -------
    ndarray or scalar
        Activations in [-1, 1], in the shape and dtype of ``z``; ``out`` if it was given.

    Raises
    ------
    TypeError
        If z is not an array of float32, float64 or integers, is a numpy.matrix or has masked
        values; if out is not an array of the result's dtype.
    ValueError
        If out does not have the result's shape or is read-only.

    Notes
    -----
    Computed as (exp(2|z|) - 1) / (exp(2|z|) + 1) with the sign of z, from an exponential in two
    parts [1]_, whose 1 is taken out before the parts are joined: nothing cancels where z is small.

    References
    ----------
    .. [1] W. J. Cody, W. Waite, "Software Manual for the Elementary Functions", 1980, chapter 6.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.tanh([0.0, 1.0, -1.0]).round(4)
    array([ 0.    ,  0.7616, -0.7616])
    >>> float(fastbp.tanh(1e-20))
    1e-20
    """
    return _elementwise(kernels.tanh_forward, z, out)


def relu(z: ArrayLike, *, out: Array | None = None) -> Any:
    """Rectifier: a = max(0, z), element by element.

    Parameters
    ----------
    z : array_like of float32, float64 or integers, any shape
        Weighted inputs; integers become float64.
    out : ndarray of the shape and dtype of the result, optional
        Where to write the result; it may be ``z`` or overlap it.

    Returns
    -------
    ndarray or scalar
        Activations >= 0, in the shape and dtype of ``z``; ``out`` if it was given.

    Raises
    ------
    TypeError
        If z is not an array of float32, float64 or integers, is a numpy.matrix or has masked
        values; if out is not an array of the result's dtype.
    ValueError
        If out does not have the result's shape or is read-only.

    Notes
    -----
    NaN stays NaN, and zero keeps its sign.  Proposed for hidden units in [1]_.

    References
    ----------
    .. [1] V. Nair, G. E. Hinton, "Rectified linear units improve restricted Boltzmann machines",
       ICML 2010.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.relu([2.0, -3.0, 0.0])
    array([2., 0., 0.])
    """
    return _elementwise(kernels.relu_forward, z, out)


def softmax(z: ArrayLike, axis: Any = -1, *, out: Array | None = None) -> Any:
    """Softmax: a_i = exp(z_i) / sum_j exp(z_j) along ``axis``.

    Parameters
    ----------
    z : array_like of float32, float64 or integers, any shape
        Logits; integers are computed in float64.
    axis : int, tuple of int or None, default -1
        The class axis or axes; None means over everything.
    out : ndarray of the shape and dtype of the result, optional
        Where to write the result; it may be ``z`` or overlap it.

    Returns
    -------
    ndarray or scalar
        Probabilities in [0, 1] that sum to 1 along ``axis``, in the shape and dtype of ``z``;
        ``out`` if it was given.

    Raises
    ------
    TypeError
        If z is not an array of float32, float64 or integers, is a numpy.matrix or has masked
        values; if axis is not an integer, a tuple of integers or None; if out is not an array of
        the result's dtype.
    ValueError
        If z does not have at least one class; if axis is out of range or names an axis twice; if
        out does not have the result's shape or is read-only.

    Notes
    -----
    A row that holds NaN or +inf, or nothing but -inf, gives NaN; other rows are not touched by
    it.  The shift by the row's maximum is compensated for its rounding: the error does not grow
    with the spread of the logits, as it does in the usual algorithm [1]_.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and
       softmax functions", IMA Journal of Numerical Analysis 41 (4), 2021, theorem 4.3.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.softmax([[1.0, 2.0, 3.0], [1000.0, 1000.0, -1000.0]]).round(4)
    array([[0.09  , 0.2447, 0.6652],
           [0.5   , 0.5   , 0.    ]])
    """
    return _row_by_row(kernels.softmax, z, axis, out)


def log_softmax(z: ArrayLike, axis: Any = -1, *, out: Array | None = None) -> Any:
    """Logarithm of the softmax: ln a_i = z_i - ln sum_j exp(z_j) along ``axis``.

    Parameters
    ----------
    z : array_like of float32, float64 or integers, any shape
        Logits; integers are computed in float64.
    axis : int, tuple of int or None, default -1
        The class axis or axes; None means over everything.
    out : ndarray of the shape and dtype of the result, optional
        Where to write the result; it may be ``z`` or overlap it.

    Returns
    -------
    ndarray or scalar
        Log-probabilities <= 0, in the shape and dtype of ``z``; ``out`` if it was given.

    Raises
    ------
    TypeError
        If z is not an array of float32, float64 or integers, is a numpy.matrix or has masked
        values; if axis is not an integer, a tuple of integers or None; if out is not an array of
        the result's dtype.
    ValueError
        If z does not have at least one class; if axis is out of range or names an axis twice; if
        out does not have the result's shape or is read-only.

    Notes
    -----
    The maximum's own term, exactly 1, is kept out of the sum and put back by log1p [1]_: the
    log-probability of a confident row is tiny, not 0.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and
       softmax functions", IMA Journal of Numerical Analysis 41 (4), 2021.

    Examples
    --------
    >>> import fastbp
    >>> print("%.3g %.3g" % tuple(fastbp.log_softmax([50.0, 0.0])))
    -1.93e-22 -50
    """
    return _row_by_row(kernels.log_softmax, z, axis, out)


def logsumexp(
    z: ArrayLike, axis: Any = -1, keepdims: bool = False, *, out: Array | None = None
) -> Any:
    """Logarithm of the sum of exponentials: ln sum_j exp(z_j) along ``axis``.

    Parameters
    ----------
    z : array_like of float32, float64 or integers, any shape
        Logits; integers are computed in float64.
    axis : int, tuple of int or None, default -1
        The axis or axes to sum over; None means over everything.
    keepdims : bool, default False
        Whether the axes summed over stay, with length one.
    out : ndarray of the shape and dtype of the result, optional
        Where to write the result; it may overlap ``z``.

    Returns
    -------
    ndarray or scalar
        In the dtype of ``z``; ``out`` if it was given.

    Raises
    ------
    TypeError
        If z is not an array of float32, float64 or integers, is a numpy.matrix or has masked
        values; if axis is not an integer, a tuple of integers or None; if out is not an array of
        the result's dtype.
    ValueError
        If z does not have at least one class; if axis is out of range or names an axis twice; if
        out does not have the result's shape or is read-only.

    Notes
    -----
    NaN for a row that holds NaN, else +inf for one that holds +inf, -inf for one of only -inf.
    The algorithm is that of [1]_.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and
       softmax functions", IMA Journal of Numerical Analysis 41 (4), 2021.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.logsumexp([[0.0, 0.0], [1000.0, 1000.0]]).round(4)
    array([6.9310000e-01, 1.0006931e+03])
    """
    if keepdims is False and _has_plain_rows(z, axis):
        result = _destination(out, z.shape[:1], z.dtype, z)
        kernels.logsumexp(z, result)
        return _deliver(result, out)
    rows, shape, axes = arrays.as_rows(z, "z", axis)
    if arrays.as_flag(keepdims, "keepdims"):
        shape = tuple(1 if q in axes else n for q, n in enumerate(shape))
    else:
        shape = _without(shape, axes)
    result = _destination(out, shape, rows.dtype, rows)
    kernels.logsumexp(rows, result.reshape(-1))
    return _deliver(result, out)


def _without(shape: Shape, axes: Shape) -> Shape:
    return tuple(n for q, n in enumerate(shape) if q not in axes)


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
    z : array_like of float32, float64 or integers
        Logits, any shape with a class axis; integers are computed in float64.
    y : array_like
        Class labels: integers from 0 to n_classes - 1 in the shape of ``z`` without the class
        axis.  Or target rows, one-hot or probabilities, in the shape of ``z``.
    axis : int, default -1
        The class axis.
    weight : array_like of shape (n_classes,), optional
        Weight of each class.
    sample_weight : array_like in the shape of ``z`` without the class axis, optional
        Weight of each row.  A row of weight 0 contributes exactly 0, whatever it holds.
    ignore_index : int, optional
        Label of the rows to leave out.  There is no default: every label counts unless asked.
    label_smoothing : float in [0, 1], default 0.0
        Share e of the target that is spread evenly: y becomes (1 - e) y + e / n_classes.
    reduction : {"mean", "sum", "none"}, default "mean"
        "none" gives a loss per row.  "mean" divides their sum, for labels, by the sum of the
        weights (class times row) of the rows not left out; for target rows, by the sum of the
        rows' weights.
    out : ndarray of the shape and dtype of the result, optional
        Where to write the result; it may overlap the inputs.

    Returns
    -------
    scalar or ndarray
        The loss, in the dtype of ``z``: one number, or with "none" an array in the shape of ``z``
        without the class axis; ``out`` if it was given.

    Raises
    ------
    TypeError
        If z or a weight is not an array of float32, float64 or integers; if y must be integer
        labels and is of another dtype; if axis, ignore_index or label_smoothing is no number of
        its kind; if out is not an array of the result's dtype.
    ValueError
        If z does not have at least one class or a class axis; if y, weight or sample_weight does
        not have the shape above; if a label is negative or >= n_classes; if a target is negative
        or NaN, or a target row does not sum to 1 within 8 n_classes unit roundoffs; if a weight is
        not finite or is negative; if sample_weight is all zero; if label_smoothing is not in
        [0, 1]; if ignore_index comes with target rows; if the mean is over no rows or over weights
        that sum to zero; if out does not have the result's shape or is read-only.

    See Also
    --------
    softmax_cross_entropy : The same together with its gradient.

    Notes
    -----
    The options mean what they mean in torch.nn.functional.cross_entropy [1]_, with the class axis
    last and no label ignored by default.  Nothing is clipped: a wrong row of confidence 1e4 costs
    1e4, and a right one costs its tiny loss, not 0.  A target of 0 contributes 0 even where the
    logit is -inf; elsewhere a logit of -inf costs inf.

    References
    ----------
    .. [1] https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html

    Examples
    --------
    >>> import fastbp
    >>> z = [[2.0, 0.0, 0.0], [0.0, 100.0, 0.0]]
    >>> fastbp.cross_entropy(z, [0, 2], reduction="none").round(4)
    array([  0.2395, 100.    ])
    >>> float(fastbp.cross_entropy(z, [0, 2], weight=[3.0, 1.0, 1.0]).round(4))
    25.1797
    """
    return _cost(
        z,
        y,
        axis,
        weight,
        sample_weight,
        ignore_index,
        label_smoothing,
        reduction,
        out,
        None,
        False,
    )[0]


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
) -> tuple[Any, Any]:
    """Cross-entropy and its gradient in one pass: C = -sum_k y_k ln a_k, delta = a sum(y) - y.

    Parameters
    ----------
    z : array_like of float32, float64 or integers
        Logits, any shape with a class axis; integers are computed in float64.
    y : array_like
        Class labels: integers from 0 to n_classes - 1 in the shape of ``z`` without the class
        axis.  Or target rows, one-hot or probabilities, in the shape of ``z``.
    axis : int, default -1
        The class axis.
    weight : array_like of shape (n_classes,), optional
        Weight of each class.
    sample_weight : array_like in the shape of ``z`` without the class axis, optional
        Weight of each row.  A row of weight 0 contributes exactly 0, whatever it holds.
    ignore_index : int, optional
        Label of the rows to leave out: their loss and gradient are 0.
    label_smoothing : float in [0, 1], default 0.0
        Share e of the target that is spread evenly: y becomes (1 - e) y + e / n_classes.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `cross_entropy`.
    out : ndarray of the shape and dtype of delta, optional
        Where to write delta; it may be ``z`` or overlap the inputs.

    Returns
    -------
    loss : scalar or ndarray
        As of `cross_entropy`.
    delta : ndarray
        The output error (BP1 of [1]_): gradient of the returned loss, or with "none" of the sum of
        the rows' losses, with respect to ``z``, in its shape and dtype; ``out`` if it was given.

    Raises
    ------
    TypeError, ValueError
        As `cross_entropy`; for out, as of the shape and dtype of z.

    Notes
    -----
    The label's entry is the negative sum of the others' terms, never a - 1, which would cancel: a
    confident right row still learns.

    References
    ----------
    .. [1] M. Nielsen, "Neural Networks and Deep Learning", 2015, chapters 2 and 3.

    Examples
    --------
    >>> import fastbp
    >>> loss, delta = fastbp.softmax_cross_entropy([[0.0, 0.0], [50.0, 0.0]], [1, 0])
    >>> float(loss.round(4))
    0.3466
    >>> print(delta)
    [[ 2.50000000e-01 -2.50000000e-01]
     [-9.64374924e-23  9.64374924e-23]]
    """
    return _cost(
        z,
        y,
        axis,
        weight,
        sample_weight,
        ignore_index,
        label_smoothing,
        reduction,
        None,
        out,
        True,
    )


@kernel
def _mean_cost(z: Any, labels: Any, row_weight: Any, loss: Any, divisor: Any) -> Any:
    """Write the losses, and over the first of them their sum / divisor; the first bad label, or -1.

    One entry into compiled code instead of three, and no number to convert.
    """
    bad = arrays.first_label_outside(labels, z.shape[1])
    if bad < 0:
        kernels.cross_entropy(z, labels, row_weight, loss)
        loss[0] = kernels.loss_sum(loss) / divisor
    return bad


@kernel
def _mean_cost_and_error(
    z: Any, labels: Any, row_weight: Any, loss: Any, delta: Any, divisor: Any
) -> Any:
    """As `_mean_cost`, and the error."""
    bad = arrays.first_label_outside(labels, z.shape[1])
    if bad < 0:
        kernels.softmax_cross_entropy(z, labels, row_weight, loss, delta, 1.0 / divisor)
        loss[0] = kernels.loss_sum(loss) / divisor
    return bad


def _cost(
    z: ArrayLike,
    y: ArrayLike,
    axis: int,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
    loss_out: Array | None,
    delta_out: Array | None,
    with_delta: bool,
) -> tuple[Any, Any]:
    """Loss and, if asked for, delta: everything `cross_entropy` and its twin have in common."""
    if (
        type(y) is np.ndarray
        and y.dtype is INTP
        and y.ndim == 1
        and _has_plain_rows(z, axis)
        and weight is None
        and sample_weight is None
        and ignore_index is None
        and type(label_smoothing) is float
        and label_smoothing == 0.0
        and loss_out is None
        and type(reduction) is str
        and (reduction == "mean" or reduction == "sum")
    ):
        # The training case, without the ceremony: the checks below cost more than 128 rows.
        n, n_classes = z.shape
        if y.shape != (n,) or not y.flags.carray:
            y = arrays.as_labels(y, (n,), n_classes, "y")
        loss = np.empty(n, z.dtype)
        divisor = float(n) if reduction == "mean" else 1.0
        if not with_delta:
            bad = _mean_cost(z, y, NO_WEIGHT, loss, divisor)
            delta = None
        else:
            if delta_out is None:
                delta = np.empty_like(z)
            else:
                delta = _destination(delta_out, z.shape, z.dtype, y, in_place=z)
            bad = _mean_cost_and_error(z, y, NO_WEIGHT, loss, delta, divisor)
        if bad >= 0:
            arrays.as_labels(y, (n,), n_classes, "y")  # raises
        if delta is not None and delta is not delta_out:
            delta = _deliver(delta, delta_out)
        return loss[0], delta

    arrays.as_choice(reduction, "reduction", ("mean", "sum", "none"))
    mean = reduction == "mean"
    smoothing = arrays.as_real(label_smoothing, "label_smoothing", 0.0, 1.0)
    if ignore_index is not None:
        ignore_index = arrays.as_int(ignore_index, "ignore_index")
    axis = arrays.as_int(axis, "axis")
    rows, shape, axes = arrays.as_rows(z, "z", axis)
    if not shape:
        raise ValueError("z must have a class axis, got a scalar")
    n, n_classes = rows.shape
    dtype = rows.dtype
    row_shape = _without(shape, axes)
    class_weight = arrays.as_class_weight(weight, n_classes, dtype)
    row_weight = arrays.as_row_weight(sample_weight, row_shape, "sample_weight")
    if mean:
        row_weight = arrays.unit_scale(row_weight)
    y = arrays.as_array(y, "y")

    if y.ndim == len(shape):
        if ignore_index is not None:
            raise ValueError(f"ignore_index must be None with target rows, got {ignore_index}")
        given = arrays.as_targets(y, shape, dtype, "y", axis)
        divisor = kernels.loss_sum(row_weight) if row_weight.size else float(n)
    else:
        given = labels = arrays.as_labels(y, row_shape, n_classes, "y", ignore_index)
        if mean:
            class_weight = arrays.unit_scale(class_weight)
        kept = labels >= 0 if ignore_index is not None else None
        if kept is not None and (row_weight.size or smoothing > 0):
            # A kernel skips an ignored row by its label; target rows and the sum below cannot.
            row_weight = np.where(kept, row_weight if row_weight.size else 1.0, 0.0)
        label_weight = row_weight
        if class_weight.size:
            label_weight = class_weight.astype(np.float64)[labels]
            if row_weight.size:
                label_weight *= row_weight
            elif kept is not None:
                label_weight *= kept
        if label_weight.size:
            divisor = kernels.loss_sum(label_weight)
        else:
            divisor = float(n if kept is None else np.count_nonzero(kept))
        if smoothing == 0:
            # One class counts in each row, so its weight is the row's.
            row_weight, class_weight = label_weight, class_weight[:0]
        if mean and n and kept is not None and not kept.any():
            raise ValueError("the mean is over no rows: every label is ignore_index")
    if mean and n == 0:
        raise ValueError(f"the mean is over no rows: z has shape {shape}")
    if mean and not divisor > 0:
        raise ValueError("the mean is over weights that sum to zero")
    divisor = divisor if mean else 1.0

    loss_shape = row_shape if reduction == "none" else ()
    if loss_out is not None:
        arrays.check_out(loss_out, loss_shape, dtype)
    if reduction == "none":
        loss = _destination(loss_out, loss_shape, dtype, rows, given, row_weight)
    else:
        loss = np.empty(n, dtype)
    delta = None
    if with_delta:
        delta = _row_destination(delta_out, shape, axes, rows, given, row_weight)
    _run_cost(
        rows,
        given,
        class_weight,
        smoothing,
        row_weight,
        loss.reshape(-1),
        delta,
        1.0 / divisor,
    )

    value: Any
    if reduction == "none":
        value = _deliver(loss, loss_out)
    else:
        value = _as_scalar(kernels.loss_sum(loss) / divisor, dtype)
        if loss_out is not None:
            loss_out[...] = value
            value = loss_out
    return value, None if delta is None else _deliver_rows(delta, delta_out, shape, axes)


def _run_cost(
    rows: Array,
    given: Array,
    class_weight: Array,
    smoothing: float,
    row_weight: Array,
    loss: Array,
    delta: Array | None,
    scale: float,
) -> None:
    """Call the kernels on all rows at once, or in blocks where target rows have to be built.

    ``given`` are labels or target rows, as they came.
    """
    if smoothing == 0 and not class_weight.size:
        _call_cost(rows, given, row_weight, loss, delta, scale)
        return
    n, n_classes = rows.shape
    step = max(1, _BLOCK_SIZE // n_classes)
    buffer = np.empty((min(step, n), n_classes), rows.dtype)
    for start in range(0, n, step):
        part = slice(start, min(start + step, n))
        y = buffer[: part.stop - start]
        if given.ndim == 1:
            kernels.smoothed_targets(given[part], class_weight, y, smoothing)
        else:
            np.multiply(given[part], 1 - smoothing, out=y)
            y += smoothing / n_classes
            if class_weight.size:
                y *= class_weight
        _call_cost(
            rows[part],
            y,
            row_weight[part],
            loss[part],
            None if delta is None else delta[part],
            scale,
        )


def _call_cost(
    rows: Array, given: Array, row_weight: Array, loss: Array, delta: Array | None, scale: float
) -> None:
    labels = given.ndim == 1
    if delta is None:
        kernel = kernels.cross_entropy if labels else kernels.cross_entropy_targets
        kernel(rows, given, row_weight, loss)
    else:
        kernel = kernels.softmax_cross_entropy if labels else kernels.softmax_cross_entropy_targets
        kernel(rows, given, row_weight, loss, delta, scale)


def _as_scalar(value: float, dtype: np.dtype[Any]) -> Any:
    if dtype.itemsize == 4 and not 2.0**-126 <= value < 2.0**128 - 2.0**103:
        # NumPy warns when a cast overflows or underflows; here it is the right result.
        with np.errstate(all="ignore"):
            return dtype.type(value)
    return dtype.type(value)


def output_error(a: ArrayLike, y: ArrayLike, *, axis: int = -1, out: Array | None = None) -> Any:
    """Output error (BP1): delta = a - y, from the activations of the output layer.

    Parameters
    ----------
    a : array_like of float32, float64 or integers
        Probabilities, any shape with a class axis.
    y : array_like
        Class labels: integers from 0 to n_classes - 1 in the shape of ``a`` without the class
        axis.  Or target rows, one-hot or probabilities, in the shape of ``a``.
    axis : int, default -1
        The class axis.
    out : ndarray of the shape and dtype of the result, optional
        Where to write the result; it may be ``a`` or overlap the inputs.

    Returns
    -------
    ndarray
        Row by row a sum(y) - y, in the shape and dtype of ``a``; ``out`` if it was given.

    Raises
    ------
    TypeError
        If a is not an array of float32, float64 or integers; if y must be integer labels and is
        of another dtype; if axis is no integer; if out is not an array of the result's dtype.
    ValueError
        If a does not have at least one class or a class axis; if y does not have the shape above;
        if a label is negative or >= n_classes; if a target is negative or NaN, or a target row
        does not sum to 1 within 8 n_classes unit roundoffs; if out does not have the result's
        shape or is read-only.

    See Also
    --------
    softmax_cross_entropy : The same from logits, without the cancellation in a - 1.

    Notes
    -----
    Equation BP1 of [1]_, for the softmax with the cross-entropy.

    References
    ----------
    .. [1] M. Nielsen, "Neural Networks and Deep Learning", 2015, chapters 2 and 3.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.output_error([[0.25, 0.75]], [1])
    array([[ 0.25, -0.25]])
    """
    axis = arrays.as_int(axis, "axis")
    rows, shape, axes = arrays.as_rows(a, "a", axis)
    if not shape:
        raise ValueError("a must have a class axis, got a scalar")
    y = arrays.as_array(y, "y")
    if y.ndim == len(shape):
        given = arrays.as_targets(y, shape, rows.dtype, "y", axis)
        kernel = kernels.output_error_targets
    else:
        given = arrays.as_labels(y, _without(shape, axes), rows.shape[1], "y")
        kernel = kernels.output_error
    delta = _row_destination(out, shape, axes, rows, given)
    kernel(rows, given, delta)
    return _deliver_rows(delta, out, shape, axes)


def hidden_error(
    delta_next: ArrayLike,
    w_next: ArrayLike,
    a: ArrayLike,
    *,
    activation: str = "sigmoid",
    out: Array | None = None,
) -> Array:
    """Hidden error (BP2): delta = (delta_next w_next^T) a'.

    a' is a (1 - a) for the sigmoid, 1 - a^2 for tanh, 1 where a is not 0 for relu, and 1 for the
    identity.

    Parameters
    ----------
    delta_next : array_like of shape (n, fan_out)
        Error of the next layer.
    w_next : array_like of shape (fan_in, fan_out)
        Weights of the next layer.
    a : array_like of shape (n, fan_in)
        Activations of this layer.
    activation : {"sigmoid", "tanh", "relu", "identity"}
        What they came from.
    out : ndarray of shape (n, fan_in) and the dtype of the result, optional
        Where to write the result; it may overlap the inputs.

    Returns
    -------
    ndarray of shape (n, fan_in)
        In the dtype of ``delta_next``, to which the others are converted; integers are computed
        in float64.  ``out`` if it was given.

    Raises
    ------
    TypeError
        If an argument is not an array of float32, float64 or integers; if out is not an array of
        the result's dtype.
    ValueError
        If an argument is not 2-D or does not have the shape above; if ``activation`` is none of
        them; if out does not have the result's shape or is read-only.

    Notes
    -----
    Equation BP2 of [1]_.

    References
    ----------
    .. [1] M. Nielsen, "Neural Networks and Deep Learning", 2015, chapter 2.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.hidden_error([[1.0, -1.0]], [[2.0, 1.0], [0.0, 4.0]], [[0.5, 0.5]])
    array([[ 0.25, -1.  ]])
    """
    kind = ACTIVATIONS.index(arrays.as_choice(activation, "activation", ACTIVATIONS))
    delta_next = arrays.as_float_array(delta_next, "delta_next", ndim=2)
    dtype = delta_next.dtype
    w_next = arrays.as_float_array(w_next, "w_next", dtype=dtype, ndim=2)
    a = arrays.as_float_array(a, "a", dtype=dtype, ndim=2)
    n, fan_out = delta_next.shape
    arrays.check_shape(w_next, (w_next.shape[0], fan_out), "w_next")
    shape = (n, w_next.shape[0])
    arrays.check_shape(a, shape, "a")
    delta = _destination(out, shape, dtype, delta_next, w_next, a)
    kernels.hidden_error_of(delta_next, w_next, a, delta, kind)
    return _deliver(delta, out)  # type: ignore[no-any-return]


def bias_gradient(delta: ArrayLike, *, out: Array | None = None) -> Array:
    """Bias gradient (BP3): dC/db = the mean of delta over the batch.

    Parameters
    ----------
    delta : array_like of shape (n, fan_out)
        Error of the layer, row by row.
    out : ndarray of shape (fan_out,) and the dtype of the result, optional
        Where to write the result; it may overlap ``delta``.

    Returns
    -------
    ndarray of shape (fan_out,)
        In the dtype of ``delta``; integers are computed in float64.  ``out`` if it was given.

    Raises
    ------
    TypeError
        If delta is not an array of float32, float64 or integers; if out is not an array of the
        result's dtype.
    ValueError
        If delta is not 2-D; if the mean is over no rows; if out does not have the result's shape
        or is read-only.

    Notes
    -----
    Equation BP3 of [1]_, averaged over the batch.

    References
    ----------
    .. [1] M. Nielsen, "Neural Networks and Deep Learning", 2015, chapter 2.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.bias_gradient([[1.0, -1.0], [0.0, 2.0]])
    array([0.5, 0.5])
    """
    delta = arrays.as_float_array(delta, "delta", ndim=2)
    _refuse_no_rows(delta, "delta")
    grad_b = _destination(out, delta.shape[1:], delta.dtype, delta)
    kernels.bias_gradient(delta, grad_b)
    return _deliver(grad_b, out)  # type: ignore[no-any-return]


def weight_gradient(a_prev: ArrayLike, delta: ArrayLike, *, out: Array | None = None) -> Array:
    """Weight gradient (BP4): dC/dw = a_prev^T delta / n.

    Parameters
    ----------
    a_prev : array_like of shape (n, fan_in)
        What the layer was fed.
    delta : array_like of shape (n, fan_out)
        Error of the layer, row by row.
    out : ndarray of shape (fan_in, fan_out) and the dtype of the result, optional
        Where to write the result; it may overlap the inputs.

    Returns
    -------
    ndarray of shape (fan_in, fan_out)
        In the dtype of ``a_prev``, to which delta is converted; integers are computed in float64.
        ``out`` if it was given.

    Raises
    ------
    TypeError
        If an argument is not an array of float32, float64 or integers; if out is not an array of
        the result's dtype.
    ValueError
        If an argument is not 2-D or does not have the shape above; if the mean is over no rows;
        if out does not have the result's shape or is read-only.

    Notes
    -----
    Equation BP4 of [1]_, averaged over the batch.

    References
    ----------
    .. [1] M. Nielsen, "Neural Networks and Deep Learning", 2015, chapter 2.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.weight_gradient([[1.0, 2.0], [3.0, 0.0]], [[1.0], [-1.0]])
    array([[-1.],
           [ 1.]])
    """
    a_prev = arrays.as_float_array(a_prev, "a_prev", ndim=2)
    delta = arrays.as_float_array(delta, "delta", dtype=a_prev.dtype, ndim=2)
    arrays.check_shape(delta, (a_prev.shape[0], delta.shape[1]), "delta")
    _refuse_no_rows(delta, "delta")
    shape = (a_prev.shape[1], delta.shape[1])
    grad_w = _destination(out, shape, a_prev.dtype, a_prev, delta)
    kernels.weight_gradient(a_prev, delta, grad_w)
    return _deliver(grad_w, out)  # type: ignore[no-any-return]


def _refuse_no_rows(delta: Array, name: str) -> None:
    if delta.shape[0] == 0:
        raise ValueError(f"the mean is over no rows: {name} has shape {delta.shape}")


def dense(a_prev: ArrayLike, w: ArrayLike, b: ArrayLike, *, out: Array | None = None) -> Array:
    """Weighted input of a fully-connected layer: z = a_prev w + b.

    Parameters
    ----------
    a_prev : array_like of shape (n, fan_in)
        Activations of the layer before.
    w : array_like of shape (fan_in, fan_out)
        Weights.
    b : array_like of shape (fan_out,)
        Biases.
    out : ndarray of shape (n, fan_out) and the dtype of the result, optional
        Where to write the result; it may overlap the inputs.

    Returns
    -------
    ndarray of shape (n, fan_out)
        In the dtype of ``a_prev``, to which the others are converted; integers are computed in
        float64.  ``out`` if it was given.

    Raises
    ------
    TypeError
        If an argument is not an array of float32, float64 or integers; if out is not an array of
        the result's dtype.
    ValueError
        If an argument does not have the shape above; if out does not have the result's shape or
        is read-only.

    Notes
    -----
    No BLAS: the sums run over fan_in in one order, so that a row's result does not depend on the
    other rows of the call, nor on the number of threads.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.dense([[1.0, 2.0]], [[1.0, 0.0], [3.0, 1.0]], [0.5, -0.5])
    array([[7.5, 1.5]])
    """
    a_prev = arrays.as_float_array(a_prev, "a_prev", ndim=2)
    dtype = a_prev.dtype
    w = arrays.as_float_array(w, "w", dtype=dtype, ndim=2)
    b = arrays.as_float_array(b, "b", dtype=dtype, ndim=1)
    n, fan_in = a_prev.shape
    arrays.check_shape(w, (fan_in, w.shape[1]), "w")
    arrays.check_shape(b, w.shape[1:], "b")
    z = _destination(out, (n, w.shape[1]), dtype, a_prev, w, b)
    kernels.dense_forward(a_prev, w, b, z)
    return _deliver(z, out)  # type: ignore[no-any-return]
