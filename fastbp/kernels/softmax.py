"""softmax, log_softmax and logsumexp over rows."""

import numpy as np

from fastbp._compile import kernel


@kernel
def row_max(z, z_max):
    for i in range(z.shape[0]):
        z_max[i] = np.max(z[i])


@kernel
def _log_total(row, m):
    s = 0.0
    for k in range(row.shape[0]):
        s += np.exp(np.float64(row[k]) - m)
    return np.log1p(s - 1.0)


@kernel
def softmax(z, a):
    for i in range(z.shape[0]):
        m = np.float64(np.max(z[i]))
        lt = _log_total(z[i], m)
        for k in range(z.shape[1]):
            a[i, k] = np.exp(z[i, k] - m - lt)


@kernel
def log_softmax(z, log_a):
    for i in range(z.shape[0]):
        m = np.float64(np.max(z[i]))
        lt = _log_total(z[i], m)
        for k in range(z.shape[1]):
            log_a[i, k] = z[i, k] - m - lt


@kernel
def logsumexp(z, lse):
    for i in range(z.shape[0]):
        m = np.float64(np.max(z[i]))
        lse[i] = m if np.isinf(m) else m + _log_total(z[i], m)
