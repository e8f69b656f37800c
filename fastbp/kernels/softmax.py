"""softmax, log_softmax, logsumexp and the maximum of each row.

Two ways through a row, which is all that a reader has to know: a long row is read a register at a
time; short rows are turned, as many at once as a register has lanes.
"""

import math

from fastbp._compile import inlined, kernel
from fastbp._llvm import (
    convert,
    fill,
    flat,
    lane,
    load_first,
    load_turned,
    max_lanes,
    row,
    scalar,
    select,
    stack_row,
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
    share_row,
    share_turned,
    shares,
    without_one,
)


@inlined
def log_total(z_i, n_classes, m, like):
    """ln(sum_k e**(z_k - m)) >= 0 as a float64 pair: the maximum's term, exactly 1, is never added.

    The exponentials are computed in the dtype of ``like``.
    """
    m_like = convert(lane(m), like)
    shift, floor, lift = frame(m_like)
    top, top_lost = lifted_exp(m_like - shift, floor, lift)
    shift, floor, lift = scalar(shift), scalar(floor), scalar(lift)
    zeros = convert(fill(z_i, 0.0), like)
    others, lost, ties = zeros, zeros, zeros
    step = width(z_i)
    for k in range(0, n_classes, step):
        z_k = load_first(z_i, k, n_classes - k, -math.inf)
        at_max = z_k == m
        e_k, e_lost = lifted_exp(convert(z_k, like) - shift, floor, lift)
        e_k, e_lost = select(at_max, 0.0, e_k), select(at_max, 0.0, e_lost)
        others, lost = add_exactly(others, lost + e_lost, e_k)
        ties = ties + select(at_max, 1.0, zeros)
    count, _ = sum_lanes(ties, zeros)
    rest, rest_lost = sum_lanes(others, lost)
    top_pair = widen(top), widen(top_lost)
    rest_pair = without_one(rest, rest_lost, count, top_pair)
    below, low = log_one_plus_ratio(rest_pair, top_pair, zeros)
    return scalar(below), scalar(low)


@inlined
def has_nan(z_i, n_classes):
    zeros = fill(z_i, 0.0)
    found = zeros
    for k in range(0, n_classes, width(z_i)):
        z_k = load_first(z_i, k, n_classes - k, 0.0)
        found = found + select(z_k == z_k, zeros, 1.0)
    return max_lanes(found) > 0


@kernel
def row_max(z, z_max):
    """m_i = max_k z_ik.

    Parameters
    ----------
    z : (n, n_classes) float32 or float64, C-contiguous
    z_max : (n,) of the dtype of `z`, written

    Notes
    -----
    NaN for a row that holds one.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import row_max
    >>> z_max = np.empty(2)
    >>> row_max(np.array([[1.0, 3.0, 2.0], [-1.0, -3.0, -2.0]]), z_max)
    >>> z_max
    array([ 3., -1.])
    """
    n, n_classes = z.shape
    for i in range(n):
        z_i = row(z, i)
        z_max[i] = math.nan if has_nan(z_i, n_classes) else largest(z_i, n_classes)


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
    A row with +inf or NaN, or with nothing but -inf, comes out as NaN; -inf among finite logits
    as 0.

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
            fetch_block(flat(z), flat(a), (i + 2 * step) * n_classes, step * n_classes)
            for k in range(0, n_classes, step):
                load_turned(z, i, k, tile)
            m = largest_turned(tile, n_classes)
            top, total = exponentials_turned(tile, n_classes, m)
            share_turned(tile, n_classes, shares(1.0, top, total, tile))
            for k in range(0, n_classes, step):
                store_turned(tile, a, i, k)
    else:
        for i in range(n):
            z_i, a_i = row(z, i), row(a, i)
            top, total = exponentials(z_i, n_classes, largest(z_i, n_classes), a_i)
            share_row(a_i, n_classes, shares(1.0, top, total, a_i))


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
        below, below_low = log_total(z_i, n_classes, m, z_i)
        for k in range(0, n_classes, step):
            z_k = load_first(z_i, k, n_classes - k, 0.0)
            log_a_k = ((widen(z_k) - high) - below) - below_low
            store_first(log_a_i, k, convert(log_a_k, z_i), n_classes - k)


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
        if math.isinf(m):
            lse[i] = m if not has_nan(z_i, n_classes) else math.nan
            continue
        wide_m = scalar(widen(lane(m)))
        below, below_low = log_total(z_i, n_classes, m, lane(wide_m))
        total, lost = add_exactly(wide_m, below_low, below)
        lse[i] = total + lost
