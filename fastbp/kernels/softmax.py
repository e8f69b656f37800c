"""softmax, log_softmax, logsumexp and the maximum of each row.

Two ways through a row, which is all that a reader has to know: a long row is read a register at a time; short
rows are turned, as many at once as a register has lanes.
"""

import math

from fastbp._compile import inlined, kernel
from fastbp._llvm import (
    fill,
    fma,
    lane,
    load,
    load_first,
    load_turned,
    narrow,
    pick,
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
from fastbp.kernels.elementary import log1p_lanes
from fastbp.kernels.rows import (
    HEAD_32,
    HEAD_64,
    SHORT,
    add_below,
    add_exactly,
    factor_parts,
    frame,
    largest,
    largest_turned,
    lifted_exp,
    row_frame,
)


@inlined
def head_of_sum(like):
    return pick(like, HEAD_32, HEAD_64)


@inlined
def exponentials(z_i, n_classes, m, e):
    """Write e_k = 2**lift e**(z_k - shift) and return their sum."""
    shift, floor, lift = row_frame(m)
    step = width(z_i)
    whole = n_classes - n_classes % step
    total = fill(z_i, head_of_sum(z_i))
    lost = fill(z_i, 0.0)
    for k in range(0, whole, step):
        e_k, e_lost = lifted_exp(load(z_i, k) - shift, floor, lift)
        total, lost = add_below(total, lost + e_lost, e_k)
        store(e, k, e_k)
    if whole < n_classes:
        z_k = load_first(z_i, whole, n_classes - whole, -math.inf)
        e_k, e_lost = lifted_exp(z_k - shift, floor, lift)
        total, lost = add_below(total, lost + e_lost, e_k)
        store_first(e, whole, e_k, n_classes - whole)
    return sum_lanes(widen(total - head_of_sum(z_i))) + sum_lanes(widen(lost))


@inlined
def times_factor(e, n_classes, high, low):
    """e_k * (high + low), in place."""
    step = width(e)
    whole = n_classes - n_classes % step
    for k in range(0, whole, step):
        e_k = load(e, k)
        store(e, k, fma(e_k, high, e_k * low))
    if whole < n_classes:
        e_k = load_first(e, whole, n_classes - whole, 0.0)
        store_first(e, whole, fma(e_k, high, e_k * low), n_classes - whole)


@inlined
def log_total(z_i, n_classes, m):
    """ln(sum_k e**(z_k - m)) >= 0, float64: the maximum's own term, exactly 1, never enters the sum."""
    wide_m = widen(lane(m))
    shift, floor, lift = frame(wide_m)
    e_max, _ = lifted_exp(wide_m - shift, floor, lift)
    shift, floor, lift = scalar(shift), scalar(floor), scalar(lift)
    step = width(z_i)
    rest = widen(fill(z_i, 0.0))
    lost = rest
    ties = fill(z_i, 0.0)
    for k in range(0, n_classes, step):
        z_k = load_first(z_i, k, n_classes - k, -math.inf)
        at_max = z_k == m
        e_k, e_lost = lifted_exp(widen(z_k) - shift, floor, lift)
        e_k, e_lost = select(at_max, 0.0, e_k), select(at_max, 0.0, e_lost)
        rest, lost = add_exactly(rest, lost + e_lost, e_k)
        ties = ties + select(at_max, fill(z_i, 1.0), 0.0)
    others = sum_lanes(rest) + sum_lanes(lost) + (sum_lanes(ties) - 1.0) * scalar(e_max)
    return scalar(log1p_lanes(lane(others / scalar(e_max))))


@kernel
def row_max(z, z_max):
    """m_i = max_k z_ik.

    Parameters
    ----------
    z : (n, n_classes) float32 or float64, C-contiguous
    z_max : (n,) of the dtype of `z`, written

    Notes
    -----
    NaN is passed over: the maximum of the row's numbers, -inf where it holds none.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import row_max
    >>> z_max = np.empty(2)
    >>> row_max(np.array([[1.0, 3.0, 2.0], [-1.0, -3.0, -2.0]]), z_max)
    >>> z_max
    array([ 3., -1.])
    """
    for i in range(z.shape[0]):
        z_max[i] = largest(row(z, i), z.shape[1])


@kernel
def softmax(z, a):
    """a_ik = e**z_ik / sum_j e**z_ij.

    Parameters
    ----------
    z : (n, n_classes) float32 or float64, C-contiguous
        Logits.
    a : (n, n_classes) of the dtype of `z`, written
        May be `z` itself.

    Notes
    -----
    A row with +inf or NaN, or with nothing but -inf, comes out as NaN; -inf among finite logits as 0.

    References
    ----------
    P. Blanchard, D. J. Higham and N. J. Higham, "Accurately computing the log-sum-exp and softmax
    functions", IMA J. Numer. Anal. 41, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import softmax
    >>> a = np.empty((1, 2))
    >>> softmax(np.array([[0.0, 0.0]]), a)
    >>> a
    array([[0.5, 0.5]])
    """
    n, n_classes = z.shape
    if n_classes <= SHORT:
        step = width(z)
        tile = stack_row(z, SHORT)
        for i in range(0, n, step):
            for k in range(0, n_classes, step):
                load_turned(z, i, k, tile)
            m = largest_turned(tile, n_classes)
            shift, floor, lift = frame(m)
            total = fill(tile, head_of_sum(tile))
            lost = fill(tile, 0.0)
            for k in range(n_classes):
                e_k, e_lost = lifted_exp(load(tile, k * step) - shift, floor, lift)
                total, lost = add_below(total, lost + e_lost, e_k)
                store(tile, k * step, e_k)
            total_64 = widen(total - head_of_sum(tile)) + widen(lost)
            high, low = factor_parts(1.0, total_64, tile)
            for k in range(n_classes):
                e_k = load(tile, k * step)
                store(tile, k * step, fma(e_k, high, e_k * low))
            for k in range(0, n_classes, step):
                store_turned(tile, a, i, k)
    else:
        for i in range(n):
            z_i, a_i = row(z, i), row(a, i)
            total = exponentials(z_i, n_classes, largest(z_i, n_classes), a_i)
            high, low = factor_parts(1.0, lane(total), a_i)
            times_factor(a_i, n_classes, scalar(high), scalar(low))


@kernel
def log_softmax(z, log_a):
    """ln a_ik = z_ik - ln sum_j e**z_ij.

    Parameters
    ----------
    z : (n, n_classes) float32 or float64, C-contiguous
        Logits.
    log_a : (n, n_classes) of the dtype of `z`, written
        May be `z` itself.

    Notes
    -----
    As (z - m) - log1p(sum of e**(z - m) over all but the maximum): a confident row keeps its small
    logarithm instead of rounding it to 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import log_softmax
    >>> log_a = np.empty((1, 2))
    >>> log_softmax(np.array([[100.0, 0.0]]), log_a)
    >>> log_a
    array([[-3.72007598e-44, -1.00000000e+02]])
    """
    n, n_classes = z.shape
    step = width(z)
    for i in range(n):
        z_i, log_a_i = row(z, i), row(log_a, i)
        m = largest(z_i, n_classes)
        high = scalar(widen(lane(m)))
        below = log_total(z_i, n_classes, m)
        for k in range(0, n_classes, step):
            z_k = load_first(z_i, k, n_classes - k, 0.0)
            store_first(log_a_i, k, narrow((widen(z_k) - high) - below, z_k), n_classes - k)


@kernel
def logsumexp(z, lse):
    """lse_i = ln sum_k e**z_ik.

    Parameters
    ----------
    z : (n, n_classes) float32 or float64, C-contiguous
    lse : (n,) of the dtype of `z`, written

    Notes
    -----
    +inf for a row with +inf and no NaN, -inf for a row of nothing but -inf.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import logsumexp
    >>> lse = np.empty(1)
    >>> logsumexp(np.array([[0.0, 0.0]]), lse)
    >>> lse
    array([0.69314718])
    """
    n, n_classes = z.shape
    for i in range(n):
        z_i = row(z, i)
        m = largest(z_i, n_classes)
        wide_m = scalar(widen(lane(m)))
        lse[i] = wide_m + log_total(z_i, n_classes, m)
