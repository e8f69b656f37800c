"""Cross-entropy from logits, the output error a - y, and both in one pass."""

import numpy as np

from fastbp._compile import kernel
from fastbp.kernels.softmax import _log_total


@kernel
def cross_entropy(z, labels, row_weight, loss):
    for i in range(z.shape[0]):
        m = np.float64(np.max(z[i]))
        w = row_weight[i] if row_weight.size else 1.0
        loss[i] = 0.0
        if labels[i] >= 0 and w != 0:
            loss[i] = w * (_log_total(z[i], m) - (z[i, labels[i]] - m))


@kernel
def cross_entropy_targets(z, y, row_weight, loss):
    for i in range(z.shape[0]):
        m = np.float64(np.max(z[i]))
        w = row_weight[i] if row_weight.size else 1.0
        lt = _log_total(z[i], m)
        c = 0.0
        for k in range(z.shape[1]):
            if y[i, k] != 0:
                c += y[i, k] * (lt - (z[i, k] - m))
        loss[i] = w * c if w != 0 else 0.0


@kernel
def output_error(a, labels, delta):
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            delta[i, k] = (a[i, k] - (labels[i] == k)) if labels[i] >= 0 else 0.0


@kernel
def output_error_targets(a, y, delta):
    for i in range(a.shape[0]):
        s = 0.0
        for k in range(a.shape[1]):
            s += y[i, k]
        for k in range(a.shape[1]):
            delta[i, k] = a[i, k] * s - y[i, k]


@kernel
def softmax_cross_entropy(z, labels, row_weight, loss, delta, scale):
    for i in range(z.shape[0]):
        m = np.float64(np.max(z[i]))
        w = row_weight[i] if row_weight.size else 1.0
        lt = _log_total(z[i], m)
        use = labels[i] >= 0 and w != 0
        loss[i] = w * (lt - (z[i, labels[i]] - m)) if use else 0.0
        for k in range(z.shape[1]):
            d = np.exp(z[i, k] - m - lt) - (labels[i] == k)
            delta[i, k] = scale * w * d if use else 0.0


@kernel
def softmax_cross_entropy_targets(z, y, row_weight, loss, delta, scale):
    for i in range(z.shape[0]):
        m = np.float64(np.max(z[i]))
        w = row_weight[i] if row_weight.size else 1.0
        lt = _log_total(z[i], m)
        c = 0.0
        s = 0.0
        for k in range(z.shape[1]):
            s += y[i, k]
            if y[i, k] != 0:
                c += y[i, k] * (lt - (z[i, k] - m))
        loss[i] = w * c if w != 0 else 0.0
        for k in range(z.shape[1]):
            d = s * np.exp(z[i, k] - m - lt) - y[i, k]
            delta[i, k] = scale * w * d if w != 0 else 0.0


@kernel
def smoothed_targets(labels, class_weight, y, label_smoothing):
    n, n_classes = y.shape
    for i in range(n):
        for k in range(n_classes):
            c = class_weight[k] if class_weight.size else 1.0
            share = label_smoothing / n_classes
            if k == labels[i]:
                share += 1 - label_smoothing
            y[i, k] = c * share if labels[i] >= 0 else 0.0


@kernel
def loss_sum(loss):
    s = 0.0
    for i in range(loss.shape[0]):
        s += loss[i]
    return s
