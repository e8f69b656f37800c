"""Cross-entropy from logits, the output error a - y (BP1), and both in one pass.

The loss of a row with label y is ln(sum_k e**z_k) - z_y = log1p(rest) + (m - z_y), where rest is
the sum of e**(z_k - m) over all classes but the maximum: a sum of terms that are not negative, in
which nothing cancels.  The label's entry of the error is -(sum over the other classes) / total for
the same reason.
"""

import math

from fastbp._compile import inlined, kernel
from fastbp._llvm import (
    at,
    convert,
    fill,
    flat,
    fma,
    lane,
    load,
    load_first,
    load_like,
    load_turned,
    put,
    row,
    scalar,
    select,
    stack_row,
    store,
    store_first,
    store_turned,
    sum_lanes,
    widen,
    width,
)
from fastbp.kernels.rows import (
    SHORT,
    add_exactly,
    exponentials,
    exponentials_turned,
    fetch_block,
    frame,
    largest,
    largest_turned,
    lifted_exp,
    log_one_plus_ratio,
    others_of,
    others_of_turned,
    quotient,
    share_row,
    share_turned,
    shares,
)
from fastbp.kernels.softmax import log_total


@inlined
def weight_of(row_weight, i):
    return row_weight[i] if row_weight.size else 1.0


@inlined
def float64_of(x):
    return scalar(widen(lane(x)))


@inlined
def fill_zero(error, n_classes):
    for k in range(n_classes):
        put(error, k, 0.0)


@inlined
def long_rows(z, labels, row_weight, loss, delta, scale):
    n, n_classes = z.shape
    for i in range(n):
        z_i, delta_i, label = row(z, i), row(delta, i), labels[i]
        weight = weight_of(row_weight, i)
        if label < 0 or weight == 0.0:
            loss[i] = 0
            fill_zero(delta_i, n_classes)
            continue
        m = largest(z_i, n_classes)
        z_label = at(z_i, label)  # read now: delta may be z
        top, total = exponentials(z_i, n_classes, m, delta_i)
        others = others_of(delta_i, n_classes, top, total)
        below, low = log_one_plus_ratio(others, top, delta_i)
        gap = widen(lane(m)) - widen(lane(z_label))
        loss[i] = scalar(weight * (gap + below + low))
        not_label = others[0] + others[1]
        if z_label != m:
            not_label = (total[0] - widen(lane(at(delta_i, label)))) + total[1]
        gain = scale * weight
        share_row(delta_i, n_classes, shares(gain, top, total, delta_i))
        put(delta_i, label, scalar(0.0 - not_label / (total[0] + total[1]) * gain))


@inlined
def short_rows(z, labels, row_weight, loss, delta, scale):
    n, n_classes = z.shape
    step = width(z)
    tile = stack_row(z, SHORT)
    at_label = stack_row(z, 1)
    wide = stack_row(row_weight, 2)
    ones = widen(fill(z, 1.0))
    for i in range(0, n, step):
        held = min(step, n - i)
        fetch_block(flat(z), flat(delta), (i + 2 * step) * n_classes, step * n_classes)
        for k in range(0, n_classes, step):
            load_turned(z, i, k, tile)
        left_out = False
        for r in range(step):
            q = i + min(r, held - 1)
            label = labels[q]
            left_out |= label < 0
            put(at_label, r, at(row(z, q), max(label, 0)))
        weight = ones
        if row_weight.size:
            for r in range(step):
                q = i + min(r, held - 1)
                left_out |= row_weight[q] == 0.0
                put(wide, r, row_weight[q])
            weight = load_like(wide, 0, ones)
        z_label = load(at_label, 0)
        m = largest_turned(tile, n_classes)
        top, total = exponentials_turned(tile, n_classes, m)
        others = others_of_turned(tile, n_classes, top, total)
        gain = scale * weight
        share_turned(tile, n_classes, shares(gain, top, total, tile))
        for k in range(0, n_classes, step):
            store_turned(tile, delta, i, k)
        # what is left is one number a row: first the label's entry of the error
        shift, floor, lift = frame(m)
        e_label = widen(lifted_exp(z_label - shift, floor, lift)[0])
        not_label = select(z_label == m, others[0] + others[1], (total[0] - e_label) + total[1])
        store(wide, 0, 0.0 - quotient((not_label, 0.0 * not_label), total)[0] * gain)
        for r in range(held):
            put(row(delta, i + r), max(labels[i + r], 0), at(wide, r))
        below, low = log_one_plus_ratio(others, top, tile)
        cost = weight * ((widen(m) - widen(z_label)) + below + low)
        store_first(flat(loss), i, convert(cost, tile), held)
        if left_out:
            for q in range(i, i + held):
                if labels[q] < 0 or weight_of(row_weight, q) == 0.0:
                    loss[q] = 0
                    fill_zero(row(delta, q), n_classes)


@inlined
def label_rows(z, labels, row_weight, loss, delta, scale):
    if z.shape[1] <= SHORT:
        short_rows(z, labels, row_weight, loss, delta, scale)
    else:
        long_rows(z, labels, row_weight, loss, delta, scale)


@kernel
def softmax_cross_entropy(z, labels, row_weight, loss, delta, scale):
    """C_i = -w_i ln a_i,label and delta_i = s w_i (a_i - y_i), with a = softmax(z), in one pass.

    Parameters
    ----------
    z : (n, n_classes) float32 or float64, C-contiguous
        Logits.
    labels : (n,) intp
        Class of each row, in [0, n_classes); a negative label leaves the row out (loss 0, delta 0).
    row_weight : (n,) float64, or (0,) where every row weighs 1
        A row of weight 0 is left out, even if its loss is infinite.
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
    label_rows(z, labels, row_weight, loss, delta, scale)


@inlined
def target_sums(z_i, y_i, n_classes, m):
    """sum_k y_k and sum_k y_k (m - z_k), float64."""
    step = width(z_i)
    high = scalar(widen(lane(m)))
    zeros = widen(fill(z_i, 0.0))
    held, held_lost, gaps, gaps_lost = zeros, zeros, zeros, zeros
    for k in range(0, n_classes, step):
        y_k = widen(load_first(y_i, k, n_classes - k, 0.0))
        z_k = widen(load_first(z_i, k, n_classes - k, 0.0))
        held, held_lost = add_exactly(held, held_lost, y_k)
        # 0 * inf is NaN, but a class without target costs nothing
        gaps, gaps_lost = add_exactly(gaps, gaps_lost, select(y_k == 0.0, 0.0, y_k * (high - z_k)))
    held, held_lost = sum_lanes(held, held_lost)
    gaps, gaps_lost = sum_lanes(gaps, gaps_lost)
    # what an infinite sum has lost is NaN
    cost = scalar(gaps) if math.isinf(scalar(gaps)) else scalar(gaps + gaps_lost)
    return scalar(held + held_lost), cost


@inlined
def target_rows(z, y, row_weight, loss, delta, scale):
    n, n_classes = z.shape
    step = width(z)
    for i in range(n):
        z_i, y_i, delta_i = row(z, i), row(y, i), row(delta, i)
        weight = weight_of(row_weight, i)
        if weight == 0.0:
            loss[i] = 0
            fill_zero(delta_i, n_classes)
            continue
        m = largest(z_i, n_classes)
        held, gaps = target_sums(z_i, y_i, n_classes, m)
        top, total = exponentials(z_i, n_classes, m, delta_i)
        others = others_of(delta_i, n_classes, top, total)
        below, low = log_one_plus_ratio(others, top, delta_i)
        loss[i] = weight * (held * scalar(below + low) + gaps)
        not_top, e_top = scalar(others[0] + others[1]), scalar(widen(convert(top[0], delta_i)))
        all_of_them, all_lost = scalar(total[0]), scalar(total[1])
        gain = scale * weight
        share = held / (all_of_them + all_lost)
        for k in range(0, n_classes, step):
            e_k = widen(load_first(delta_i, k, n_classes - k, 0.0))
            y_k = widen(load_first(y_i, k, n_classes - k, 0.0))
            not_k = select(e_k == e_top, not_top, (all_of_them - e_k) + all_lost)
            d_k = select(y_k == held, 0.0 - not_k * share, fma(e_k, share, 0.0 - y_k))
            store_first(delta_i, k, convert(d_k * gain, delta_i), n_classes - k)


@kernel
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


@kernel
def cross_entropy(z, labels, row_weight, loss):
    """C_i = -w_i ln a_i,label, with a = softmax(z).

    Parameters
    ----------
    z : (n, n_classes) float32 or float64, C-contiguous
        Logits.
    labels : (n,) intp
        Class of each row, in [0, n_classes); a negative label leaves the row out (loss 0).
    row_weight : (n,) float64, or (0,) where every row weighs 1
        A row of weight 0 is left out, even if its loss is infinite.
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
    for i in range(n):
        weight = weight_of(row_weight, i)
        if labels[i] < 0 or weight == 0.0:
            loss[i] = 0
            continue
        z_i = row(z, i)
        m = largest(z_i, n_classes)
        below, below_low = log_total(z_i, n_classes, m, z_i)
        gap = float64_of(m) - float64_of(at(z_i, labels[i]))
        loss[i] = weight * (gap + below + below_low)


@kernel
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
    for i in range(n):
        weight = weight_of(row_weight, i)
        if weight == 0.0:
            loss[i] = 0
            continue
        z_i, y_i = row(z, i), row(y, i)
        m = largest(z_i, n_classes)
        held, gaps = target_sums(z_i, y_i, n_classes, m)
        below, below_low = log_total(z_i, n_classes, m, z_i)
        loss[i] = weight * (held * (below + below_low) + gaps)


@kernel
def output_error(a, labels, delta):
    """delta_i = a_i - y_i (BP1) from probabilities; y_i is 1 at the row's label, 0 elsewhere.

    Parameters
    ----------
    a : (n, n_classes) float32 or float64, C-contiguous
    labels : (n,) intp
        A negative label leaves the row out (delta 0).
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
            put(delta_i, k, at(a_i, k) if labels[i] >= 0 else 0.0)
        if labels[i] >= 0:
            put(delta_i, labels[i], at(delta_i, labels[i]) - 1)


@kernel
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
        held, _ = target_sums(a_i, y_i, n_classes, at(a_i, 0))
        for k in range(0, n_classes, step):
            a_k = widen(load_first(a_i, k, n_classes - k, 0.0))
            y_k = widen(load_first(y_i, k, n_classes - k, 0.0))
            store_first(delta_i, k, convert(fma(a_k, held, 0.0 - y_k), delta), n_classes - k)


@kernel
def smoothed_targets(labels, class_weight, y, label_smoothing):
    """y_ik = c_k ((1 - eps) [k = label_i] + eps / n_classes): smoothed, weighted target rows.

    Parameters
    ----------
    labels : (n,) intp
        A negative label gives a row of zeros.
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
        label = labels[i]
        for k in range(n_classes):
            share = spread + (1.0 - label_smoothing if k == label else 0.0)
            y[i, k] = share * weight_of(class_weight, k) if label >= 0 else 0.0


@inlined
def sum_of(loss):
    values = flat(loss)
    total = widen(fill(loss, 0.0))
    lost = total
    for i in range(0, loss.size, width(loss)):
        part = widen(load_first(values, i, loss.size - i, 0.0))
        total, lost = add_exactly(total, lost, part)
    head, low = sum_lanes(total, lost)
    # what an infinite sum has lost is NaN
    return scalar(head) if math.isinf(scalar(head)) else scalar(head + low)


@kernel
def loss_sum(loss):
    """sum_i C_i, compensated: within a rounding or two of float64, whatever the dtype.

    Parameters
    ----------
    loss : (n,) float32 or float64

    Returns
    -------
    float64

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import loss_sum
    >>> loss_sum(np.array([1e16, 1.0, 1.0]))
    1.0000000000000002e+16
    """
    return sum_of(loss)
