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
    scalar,
    select,
    stack_tile,
    store,
    store_first,
    store_turned,
    sum_lanes,
    widen,
    width,
)
from fastbp.kernels.elementary import log1p_lanes
from fastbp.kernels.rows import (
    BLOCK,
    SHORT,
    add_exactly,
    factor_parts,
    frame,
    largest,
    largest_turned,
    lifted_exp,
)


@inlined
def row_frame(m):
    """The frame of a row with the scalar maximum ``m``, as scalars."""
    shift, floor, lift = frame(lane(m))
    return scalar(shift), scalar(floor), scalar(lift)


@inlined
def exponentials(row, m, e):
    """Write e_k = 2**lift e**(z_k - shift) and return their sum."""
    shift, floor, lift = row_frame(m)
    n_classes = row.size
    step = width(row)
    whole = n_classes - n_classes % step
    total = widen(fill(row, 0.0))
    lost = total
    for start in range(0, whole, BLOCK * step):
        part = widen(fill(row, 0.0))
        for k in range(start, min(start + BLOCK * step, whole), step):
            e_k = lifted_exp(load(row, k) - shift, floor, lift)
            part = part + widen(e_k)
            store(e, k, e_k)
        total, lost = add_exactly(total, lost, part)
    if whole < n_classes:
        e_k = lifted_exp(load_first(row, whole, n_classes - whole, -math.inf) - shift, floor, lift)
        total, lost = add_exactly(total, lost, widen(e_k))
        store_first(e, whole, e_k, n_classes - whole)
    return sum_lanes(total) + sum_lanes(lost)


@inlined
def times_factor(e, high, low):
    """e_k * (high + low), in place."""
    n_classes = e.size
    step = width(e)
    whole = n_classes - n_classes % step
    for k in range(0, whole, step):
        e_k = load(e, k)
        store(e, k, fma(e_k, high, e_k * low))
    if whole < n_classes:
        e_k = load_first(e, whole, n_classes - whole, 0.0)
        store_first(e, whole, fma(e_k, high, e_k * low), n_classes - whole)


@inlined
def log_total(row, m):
    """ln(sum_k e**(z_k - m)) >= 0, float64: the maximum's own term, exactly 1, never enters the sum."""
    wide_m = widen(lane(m))
    shift, floor, lift = frame(wide_m)
    e_max = scalar(lifted_exp(wide_m - shift, floor, lift))
    shift, floor, lift = scalar(shift), scalar(floor), scalar(lift)
    n_classes = row.size
    step = width(row)
    rest = widen(fill(row, 0.0))
    lost = rest
    ties = fill(row, 0.0)
    for start in range(0, n_classes, BLOCK * step):
        part = widen(fill(row, 0.0))
        for k in range(start, min(start + BLOCK * step, n_classes), step):
            z_k = load_first(row, k, n_classes - k, -math.inf)
            at_max = z_k == m
            e_k = lifted_exp(widen(z_k) - shift, floor, lift)
            part = part + select(at_max, 0.0, e_k)
            ties = ties + select(at_max, fill(row, 1.0), 0.0)
        rest, lost = add_exactly(rest, lost, part)
    others = sum_lanes(rest) + sum_lanes(lost) + (sum_lanes(ties) - 1) * e_max
    return scalar(log1p_lanes(lane(others / e_max)))


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
        z_max[i] = largest(z[i])


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
        tile = stack_tile(z, SHORT)
        for i in range(0, n, step):
            for k in range(0, n_classes, step):
                load_turned(z, i, k, tile)
            m = largest_turned(tile, n_classes)
            shift, floor, lift = frame(m)
            total = widen(fill(tile, 0.0))
            lost = total
            for k in range(n_classes):
                e_k = lifted_exp(load(tile, k * step) - shift, floor, lift)
                total = total + widen(e_k)
                store(tile, k * step, e_k)
            high, low = factor_parts(1.0, total, tile)
            for k in range(n_classes):
                e_k = load(tile, k * step)
                store(tile, k * step, fma(e_k, high, e_k * low))
            for k in range(0, n_classes, step):
                store_turned(tile, a, i, k)
    else:
        for i in range(n):
            total = exponentials(z[i], largest(z[i]), a[i])
            high, low = factor_parts(1.0, lane(total), a)
            times_factor(a[i], scalar(high), scalar(low))


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
        row, out = z[i], log_a[i]
        m = largest(row)
        high = scalar(widen(lane(m)))
        below = log_total(row, m)
        for k in range(0, n_classes, step):
            z_k = load_first(row, k, n_classes - k, 0.0)
            store_first(out, k, narrow((widen(z_k) - high) - below, z_k), n_classes - k)


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
    for i in range(z.shape[0]):
        m = largest(z[i])
        wide_m = scalar(widen(lane(m)))
        lse[i] = wide_m + log_total(z[i], m)
