"""Cross-entropy and the output error (BP1) of target rows y, which need not be one-hot.

The loss of a row is sum_k y_k (ln(sum_j e**z_j) - z_k), a sum of terms that are not negative.
"""

import math

from fastbp._compile import REAL, floats, inlined, labels, public_kernel, weights, written
from fastbp._simd import (
    at,
    broadcast,
    convert,
    fma,
    lane,
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
    write_tile,
)
from fastbp.kernels._rows import add_exactly, log_one_plus_ratio
from fastbp.kernels.cross_entropy import fill_zero, weight_of


@inlined
def target_sums(z_i, y_i, n_classes, m):
    """sum_k y_k and sum_k y_k (m - z_k), float64."""
    step = width(z_i)
    high = scalar(to_float64(lane(m)))
    zeros = to_float64(broadcast(z_i, 0.0))
    y_sum, y_lost, gaps, gaps_lost = zeros, zeros, zeros, zeros
    for k in range(0, n_classes, step):
        y_k = to_float64(load_masked(y_i, k, n_classes - k, 0.0))
        z_k = to_float64(load_masked(z_i, k, n_classes - k, 0.0))
        y_sum, y_lost = add_exactly(y_sum, y_lost, y_k)
        # 0 * inf is NaN, but a class without target costs nothing
        gaps, gaps_lost = add_exactly(gaps, gaps_lost, select(y_k == 0.0, 0.0, y_k * (high - z_k)))
    y_sum, y_lost = sum_lanes(y_sum, y_lost)
    gaps, gaps_lost = sum_lanes(gaps, gaps_lost)
    # the lost part of an infinite sum is NaN
    cost = scalar(gaps) if math.isinf(scalar(gaps)) else scalar(gaps + gaps_lost)
    return scalar(y_sum + y_lost), cost


@inlined
def _sums_of_targets(z, y, group, m, scratch):
    """`target_sums` of each row."""
    step = width(z)
    store(scratch.e, 0, m)
    for r in range(group.n_rows):
        i = group.first + r
        y_sum, gap = target_sums(row(z, i), row(y, i), z.shape[1], at(scratch.e, r))
        put(scratch.wide, r, y_sum)
        put(scratch.wide, step + r, gap)
    zeros = to_float64(broadcast(z, 0.0))
    return load_like(scratch.wide, 0, zeros), load_like(scratch.wide, step, zeros)


@inlined
def _target_error(y_i, delta_i, n_classes, of_row, gain):
    """Replace a row's e_k by gain (a_k sum(y) - y_k)."""
    y_sum, factor, e_top, not_top, total, lost = of_row
    step = width(delta_i)
    for k in range(0, n_classes, step):
        e_k = to_float64(load_masked(delta_i, k, n_classes - k, 0.0))
        y_k = to_float64(load_masked(y_i, k, n_classes - k, 0.0))
        not_k = select(e_k == e_top, not_top, (total - e_k) + lost)
        d_k = select(y_k == y_sum, 0.0 - not_k * factor, fma(e_k, factor, 0.0 - y_k))
        store_masked(delta_i, k, convert(d_k * gain, delta_i), n_classes - k)


@inlined
def target_rows(z, y, row_weight, loss, delta, scale):
    n, n_classes = z.shape
    step, transposed = width(z), n_classes <= SHORT
    tile, wide = stack_row(z, TILE_VECTORS), stack_row(to_float64(broadcast(z, 0.0)), WIDE_VECTORS)
    scratch = Scratch(tile, tile, wide)
    targets_scratch = Scratch(tile, stack_row(z, 1), wide)
    if not transposed:
        clear(scratch)
    size = rows_in_group(z, transposed)
    for i in range(0, n, size):
        group = Group(i, min(size, n - i), n_classes, transposed)
        m = row_maxima(z, group, scratch)
        y_sum, gaps = _sums_of_targets(z, y, group, m, targets_scratch)
        sums = row_sums(z, delta, group, m, True, scratch)
        others = other_sums(z, delta, group, sums, True, scratch)
        if transposed:
            write_tile(tile, delta, group)
        _, top, total = sums
        log_sum, low = log_one_plus_ratio(others, top, z)
        store(wide, 0, y_sum * (log_sum + low) + gaps)
        store(wide, step, y_sum)
        store(wide, 2 * step, y_sum / (total[0] + total[1]))
        store(wide, 3 * step, to_float64(convert(top[0], z)))
        store(wide, 4 * step, others[0] + others[1])
        store(wide, 5 * step, total[0])
        store(wide, 6 * step, total[1])
        for r in range(group.n_rows):
            q = i + r
            weight = weight_of(row_weight, q)
            if weight == 0.0:
                loss[q] = 0
                fill_zero(row(delta, q), n_classes)
            else:
                loss[q] = weight * at(wide, r)
                of_row = (
                    at(wide, step + r),
                    at(wide, 2 * step + r),
                    at(wide, 3 * step + r),
                    at(wide, 4 * step + r),
                    at(wide, 5 * step + r),
                    at(wide, 6 * step + r),
                )
                _target_error(row(y, q), row(delta, q), n_classes, of_row, scale * weight)


@public_kernel(
    z=floats("n", "n_classes"),
    y=floats("n", "n_classes"),
    row_weight=weights("n"),
    loss=written("n"),
    delta=written("n", "n_classes"),
    scale=REAL,
)
def softmax_cross_entropy_targets(z, y, row_weight, loss, delta, scale):
    """C_i = -w_i sum_k y_ik ln a_ik and delta_i = s w_i (a_i sum_k y_ik - y_i) for target rows y.

    Parameters
    ----------
    z : (n, n_classes) float32 or float64, C-contiguous
        Logits.
    y : (n, n_classes) of the dtype of `z`
        Target rows, not negative; they need not sum to one.
    row_weight : (n,) float64, or (0,) where every row weighs 1
    loss : (n,) of the dtype of `z`, written
    delta : (n, n_classes) of the dtype of `z`, written
        May be `z` itself, not `y`.
    scale : float64
        s, for example 1/n where the cost is the mean over the rows.

    Notes
    -----
    A target of 0 contributes 0, also where its logit is -inf.  Where one class holds the whole
    target, its error is computed from the other classes' sum, as with labels.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import softmax_cross_entropy_targets
    >>> z, loss = np.array([[0.0, 0.0]]), np.empty(1)
    >>> softmax_cross_entropy_targets(z, np.array([[0.25, 0.75]]), np.empty(0), loss, z, 1.0)
    >>> loss, z
    (array([0.69314718]), array([[ 0.25, -0.25]]))
    """
    target_rows(z, y, row_weight, loss, delta, scale)


@public_kernel(
    z=floats("n", "n_classes"),
    y=floats("n", "n_classes"),
    row_weight=weights("n"),
    loss=written("n"),
)
def cross_entropy_targets(z, y, row_weight, loss):
    """C_i = -w_i sum_k y_ik ln a_ik for target rows y, with a = softmax(z).

    Parameters
    ----------
    z : (n, n_classes) float32 or float64, C-contiguous
        Logits.
    y : (n, n_classes) of the dtype of `z`
        Target rows, not negative; they need not sum to one.
    row_weight : (n,) float64, or (0,) where every row weighs 1
    loss : (n,) of the dtype of `z`, written

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import cross_entropy_targets
    >>> loss = np.empty(1)
    >>> cross_entropy_targets(np.zeros((1, 2)), np.array([[0.25, 0.75]]), np.empty(0), loss)
    >>> loss
    array([0.69314718])
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
        y_sum, gaps = _sums_of_targets(z, y, group, m, scratch)
        log_sum, low = log_sums(z, group, m, scratch)
        store(scratch.wide, 0, y_sum * (log_sum + low) + gaps)
        for r in range(group.n_rows):
            weight = weight_of(row_weight, i + r)
            loss[i + r] = weight * at(scratch.wide, r) if weight != 0.0 else 0.0


@public_kernel(
    a=floats("n", "n_classes"), y=floats("n", "n_classes"), delta=written("n", "n_classes")
)
def output_error_targets(a, y, delta):
    """delta_i = a_i sum_k y_ik - y_i (BP1) from probabilities and target rows.

    Parameters
    ----------
    a : (n, n_classes) float32 or float64, C-contiguous
    y : (n, n_classes) of the dtype of `a`
        Target rows; where they sum to 1 this is a - y.
    delta : (n, n_classes) of the dtype of `a`, written
        May be `a` itself.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import output_error_targets
    >>> delta = np.empty((1, 2))
    >>> output_error_targets(np.array([[0.25, 0.75]]), np.array([[0.5, 0.5]]), delta)
    >>> delta
    array([[-0.25,  0.25]])
    """
    n, n_classes = a.shape
    step = width(a)
    for i in range(n):
        a_i, y_i, delta_i = row(a, i), row(y, i), row(delta, i)
        y_sum, _ = target_sums(a_i, y_i, n_classes, at(a_i, 0))
        for k in range(0, n_classes, step):
            a_k = to_float64(load_masked(a_i, k, n_classes - k, 0.0))
            y_k = to_float64(load_masked(y_i, k, n_classes - k, 0.0))
            store_masked(delta_i, k, convert(fma(a_k, y_sum, 0.0 - y_k), delta), n_classes - k)


@public_kernel(
    labels=labels("n", below="n_classes"),
    class_weight=floats("n_classes", optional=True),
    y=written("n", "n_classes"),
    label_smoothing=REAL,
)
def smoothed_targets(labels, class_weight, y, label_smoothing):
    """y_ik = c_k ((1 - eps) [k = label_i] + eps / n_classes): smoothed, weighted target rows.

    Parameters
    ----------
    labels : (n,) intp
        Class of each row, in [0, n_classes).
    class_weight : (n_classes,) of the dtype of `y`, or (0,) where every class weighs 1
        c.
    y : (n, n_classes) float32 or float64, written
    label_smoothing : float64
        eps, in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import smoothed_targets
    >>> y = np.empty((1, 2))
    >>> smoothed_targets(np.array([1]), np.empty(0), y, 0.5)
    >>> y
    array([[0.25, 0.75]])
    """
    n, n_classes = y.shape
    spread = label_smoothing / n_classes
    for i in range(n):
        for k in range(n_classes):
            y_k = spread + (1.0 - label_smoothing if k == labels[i] else 0.0)
            y[i, k] = y_k * weight_of(class_weight, k)
