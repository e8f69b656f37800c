"""Cross-entropy from logits, the output error a - y (BP1), and both in one pass.

The loss of a row with label y is ln(sum_k e**z_k) - z_y = log1p(rest) + (m - z_y), where rest is
the sum of e**(z_k - m) over all classes but the maximum: a sum of terms that are not negative, in
which nothing cancels.  The label's entry of the error is -(sum over the other classes) / total for
the same reason.
"""

import math

from fastbp._compile import REAL, floats, inlined, labels, public_kernel, weights, written
from fastbp._simd import (
    at,
    broadcast,
    convert,
    flat,
    load_like,
    load_masked,
    put,
    row,
    scalar,
    select,
    stack_row,
    store,
    store_masked,
    sum_lanes,
    to_float64,
    width,
)
from fastbp.kernels._row_groups import (
    SHORT,
    TILE_VECTORS,
    WIDE_VECTORS,
    Group,
    Scratch,
    clear,
    log_sums,
    other_sums,
    row_maxima,
    row_sums,
    rows_in_group,
    write_probabilities,
)
from fastbp.kernels._rows import add_exactly, exp_of_maximum, log_one_plus_ratio, probability_parts


@inlined
def weight_of(row_weight, i):
    return row_weight[i] if row_weight.size else 1.0


@inlined
def fill_zero(error, n_classes):
    for k in range(n_classes):
        put(error, k, 0.0)


@inlined
def label_logits(z, labels, group, wide):
    """z_ik at the label of each row; the last row again for rows that the group lacks."""
    for r in range(width(z)):
        i = group.first + min(r, group.n_rows - 1)
        put(wide, r, at(row(z, i), labels[i]))
    return convert(load_like(wide, 0, to_float64(broadcast(z, 0.0))), z)


@inlined
def row_weights(row_weight, z, group, wide):
    """The weight of each row; the last row's again for rows that the group lacks."""
    ones = to_float64(broadcast(z, 1.0))
    if not row_weight.size:
        return ones
    for r in range(width(z)):
        put(wide, r, row_weight[group.first + min(r, group.n_rows - 1)])
    return load_like(wide, 0, ones)


@inlined
def label_costs(m, z_label, log_sum, low, weight):
    """w (ln(sum_k e**(z_k - m)) + m - z_label), in the dtype of the logits."""
    return convert(weight * ((to_float64(m) - to_float64(z_label)) + log_sum + low), m)


@inlined
def _label_rows_in_groups(z, labels, row_weight, loss, delta, scale, transposed):
    n, n_classes = z.shape
    tile = stack_row(z, TILE_VECTORS)
    scratch = Scratch(tile, tile, stack_row(to_float64(broadcast(z, 0.0)), WIDE_VECTORS))
    if not transposed:
        clear(scratch)
    size = rows_in_group(z, transposed)
    for i in range(0, n, size):
        group = Group(i, min(size, n - i), n_classes, transposed)
        m = row_maxima(z, group, scratch)
        z_label = label_logits(
            z, labels, group, scratch.wide
        )  # before delta is written, which may be z
        weight = row_weights(row_weight, z, group, scratch.wide)
        sums = row_sums(z, delta, group, m, True, scratch)
        others = other_sums(z, delta, group, sums, True, scratch)
        row_scaling, top, total = sums
        gain = scale * weight
        e_label, _ = exp_of_maximum(z_label, row_scaling)
        not_label = select(z_label == m, others[0] + others[1], (total[0] - e_label) + total[1])
        store(scratch.wide, 0, 0.0 - not_label * (gain / total[0]))
        log_sum, low = log_one_plus_ratio(others, top, z)
        store_masked(flat(loss), i, label_costs(m, z_label, log_sum, low, weight), group.n_rows)
        write_probabilities(delta, group, probability_parts(gain, top, total, z), scratch)
        for r in range(group.n_rows):
            q = i + r
            if weight_of(row_weight, q) == 0.0:
                loss[q] = 0
                fill_zero(row(delta, q), n_classes)
            else:
                put(row(delta, q), labels[q], at(scratch.wide, r))


@inlined
def label_rows(z, labels, row_weight, loss, delta, scale):
    """`softmax_cross_entropy` in a single loop, which compiles faster than two and runs slower."""
    transposed = z.shape[1] <= SHORT
    _label_rows_in_groups(z, labels, row_weight, loss, delta, scale, transposed)


@public_kernel(
    z=floats("n", "n_classes"),
    labels=labels("n", below="n_classes"),
    row_weight=weights("n"),
    loss=written("n"),
    delta=written("n", "n_classes"),
    scale=REAL,
)
def softmax_cross_entropy(z, labels, row_weight, loss, delta, scale):
    """C_i = -w_i ln a_i,label and delta_i = s w_i (a_i - y_i), with a = softmax(z), in one pass.

    Parameters
    ----------
    z : (n, n_classes) float32 or float64, C-contiguous
        Logits.
    labels : (n,) intp
        Class of each row, in [0, n_classes).
    row_weight : (n,) float64, or (0,) where every row weighs 1
        A row of weight 0 is left out (loss 0, delta 0), even if its loss is infinite.
    loss : (n,) of the dtype of `z`, written
    delta : (n, n_classes) of the dtype of `z`, written
        May be `z` itself.
    scale : float64
        s, for example 1/n where the cost is the mean over the rows.

    Notes
    -----
    Special values as in `softmax`; a label whose logit is -inf costs +inf, and its error is -s w.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import softmax_cross_entropy
    >>> z, loss = np.array([[0.0, 0.0]]), np.empty(1)
    >>> softmax_cross_entropy(z, np.array([1]), np.empty(0), loss, z, 1.0)
    >>> loss, z
    (array([0.69314718]), array([[ 0.5, -0.5]]))
    """
    # two loops: with a constant flag, LLVM keeps the constants of each in registers
    if z.shape[1] <= SHORT:
        _label_rows_in_groups(z, labels, row_weight, loss, delta, scale, True)
    else:
        _label_rows_in_groups(z, labels, row_weight, loss, delta, scale, False)


@public_kernel(
    z=floats("n", "n_classes"),
    labels=labels("n", below="n_classes"),
    row_weight=weights("n"),
    loss=written("n"),
)
def cross_entropy(z, labels, row_weight, loss):
    """C_i = -w_i ln a_i,label, with a = softmax(z).

    Parameters
    ----------
    z : (n, n_classes) float32 or float64, C-contiguous
        Logits.
    labels : (n,) intp
        Class of each row, in [0, n_classes).
    row_weight : (n,) float64, or (0,) where every row weighs 1
        A row of weight 0 is left out (loss 0), even if its loss is infinite.
    loss : (n,) of the dtype of `z`, written

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import cross_entropy
    >>> loss = np.empty(1)
    >>> cross_entropy(np.array([[100.0, 0.0]]), np.array([0]), np.empty(0), loss)
    >>> loss
    array([3.72007598e-44])
    """
    n, n_classes = z.shape
    transposed = n_classes <= SHORT
    size = rows_in_group(z, transposed)
    scratch = Scratch(
        stack_row(z, TILE_VECTORS),
        stack_row(z, TILE_VECTORS),
        stack_row(to_float64(broadcast(z, 0.0)), WIDE_VECTORS),
    )
    if not transposed:
        clear(scratch)
    for i in range(0, n, size):
        group = Group(i, min(size, n - i), n_classes, transposed)
        m = row_maxima(z, group, scratch)
        z_label = label_logits(z, labels, group, scratch.wide)
        weight = row_weights(row_weight, z, group, scratch.wide)
        log_sum, low = log_sums(z, group, m, scratch)
        store_masked(flat(loss), i, label_costs(m, z_label, log_sum, low, weight), group.n_rows)
        for q in range(i, i + group.n_rows):
            if weight_of(row_weight, q) == 0.0:
                loss[q] = 0


@public_kernel(
    a=floats("n", "n_classes"),
    labels=labels("n", below="n_classes"),
    delta=written("n", "n_classes"),
)
def output_error(a, labels, delta):
    """delta_i = a_i - y_i (BP1) from probabilities; y_i is 1 at the row's label, 0 elsewhere.

    Parameters
    ----------
    a : (n, n_classes) float32 or float64, C-contiguous
    labels : (n,) intp
        Class of each row, in [0, n_classes).
    delta : (n, n_classes) of the dtype of `a`, written
        May be `a` itself.

    Notes
    -----
    What a probability close to 1 has lost to rounding is lost here too: `softmax_cross_entropy`
    starts from the logits and keeps it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import output_error
    >>> delta = np.empty((1, 2))
    >>> output_error(np.array([[0.25, 0.75]]), np.array([1]), delta)
    >>> delta
    array([[ 0.25, -0.25]])
    """
    n, n_classes = a.shape
    for i in range(n):
        a_i, delta_i = row(a, i), row(delta, i)
        for k in range(n_classes):
            put(delta_i, k, at(a_i, k))
        put(delta_i, labels[i], at(delta_i, labels[i]) - 1)


@inlined
def sum_of(loss):
    values = flat(loss)
    total = to_float64(broadcast(loss, 0.0))
    lost = total
    for i in range(0, loss.size, width(loss)):
        part = to_float64(load_masked(values, i, loss.size - i, 0.0))
        total, lost = add_exactly(total, lost, part)
    head, low = sum_lanes(total, lost)
    # the lost part of an infinite sum is NaN
    return scalar(head) if math.isinf(scalar(head)) else scalar(head + low)


@public_kernel(loss=floats("n"))
def loss_sum(loss):
    """sum_i C_i, compensated: within a rounding or two of float64, whatever the dtype.

    Parameters
    ----------
    loss : (n,) float32 or float64

    Returns
    -------
    float64
        The sum.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import loss_sum
    >>> loss_sum(np.array([1e16, 1.0, 1.0]))
    1.0000000000000002e+16
    """
    return sum_of(loss)
