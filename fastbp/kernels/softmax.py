"""softmax, log_softmax, logsumexp and the maximum of each row."""

import math

from fastbp._compile import floats, inlined, public_kernel, written
from fastbp._simd import (
    any_lane,
    at,
    broadcast,
    convert,
    fabs,
    flat,
    load_masked,
    max_lanes,
    row,
    select,
    stack_row,
    store,
    store_masked,
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
    row_maxima,
    row_sums,
    rows_in_group,
    write_log_probabilities,
    write_probabilities,
)
from fastbp.kernels._rows import (
    add_exactly,
    largest,
    log_probability_parts,
    probability_parts,
)


@inlined
def has_nan(z_i, n_classes):
    zeros = broadcast(z_i, 0.0)
    found = zeros
    for k in range(0, n_classes, width(z_i)):
        z_k = load_masked(z_i, k, n_classes - k, 0.0)
        found = found + select(z_k == z_k, zeros, 1.0)
    return max_lanes(found) > 0


@public_kernel(z=floats("n", "n_classes"), z_max=written("n"))
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


@inlined
def _softmax_in_groups(z, a, transposed):
    n, n_classes = z.shape
    size = rows_in_group(z, transposed)
    tile = stack_row(z, TILE_VECTORS)
    scratch = Scratch(tile, tile, stack_row(to_float64(broadcast(z, 0.0)), WIDE_VECTORS))
    if not transposed:
        clear(scratch)
    for i in range(0, n, size):
        group = Group(i, min(size, n - i), n_classes, transposed)
        m = row_maxima(z, group, scratch)
        _, top, total = row_sums(z, a, group, m, True, scratch)
        write_probabilities(a, group, probability_parts(1.0, top, total, z), scratch)


@public_kernel(z=floats("n", "n_classes"), a=written("n", "n_classes"))
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
    # two loops: a flag known to the compiler leaves the constants of each in registers
    if z.shape[1] <= SHORT:
        _softmax_in_groups(z, a, True)
    else:
        _softmax_in_groups(z, a, False)


@inlined
def _log_softmax_in_groups(z, log_a, transposed):
    n, n_classes = z.shape
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
        log_sum, low = log_sums(z, group, m, scratch)
        write_log_probabilities(z, log_a, group, log_probability_parts(m, log_sum, low), scratch)


@public_kernel(z=floats("n", "n_classes"), log_a=written("n", "n_classes"))
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
    As z - (m + log1p(sum of e**(z - m) over all but the maximum)), where the sum in parentheses is
    kept in two numbers: a confident row keeps its small logarithm instead of rounding it to 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import log_softmax
    >>> log_a = np.empty((1, 2))
    >>> log_softmax(np.array([[100.0, 0.0]]), log_a)
    >>> log_a
    array([[-3.72007598e-44, -1.00000000e+02]])
    """
    # two loops, as in softmax
    if z.shape[1] <= SHORT:
        _log_softmax_in_groups(z, log_a, True)
    else:
        _log_softmax_in_groups(z, log_a, False)


@inlined
def _write_infinite(z, lse, group, maxima):
    """The result of rows of an infinite maximum: that, or NaN where the row holds NaN."""
    for r in range(group.n_rows):
        m = at(maxima, r)
        if math.isinf(m):
            found_nan = has_nan(row(z, group.first + r), z.shape[1])
            lse[group.first + r] = math.nan if found_nan else m


@public_kernel(z=floats("n", "n_classes"), lse=written("n"))
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
        log_sum, low = log_sums(z, group, m, scratch)
        total, lost = add_exactly(to_float64(m), low, log_sum)
        store_masked(flat(lse), i, convert(total + lost, z), group.n_rows)
        if any_lane(fabs(m) == math.inf):
            store(scratch.e, 0, m)
            _write_infinite(z, lse, group, scratch.e)
