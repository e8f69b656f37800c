"""The oracle for whole networks: backpropagation in longdouble, composed from `reference`."""

import numpy as np
import reference

#: Largest error of a gradient, norm-wise per layer, in unit roundoffs: fresh weights, saturated
#: ones, and, for deep saturated networks that magnify their own rounding, times what rounding the
#: activations alone brings about.
FRESH, SATURATED, TIMES_ROUNDED = 4, 8, 8


def forward(weights, biases, x, dtype=np.longdouble):
    """Activations of all layers, the input first and the logits last, rounded to ``dtype``."""
    a = [reference.wide(x)]
    for w, b in zip(weights, biases, strict=True):
        z = reference.wide(reference.dense_forward(a[-1], w, b).astype(dtype))
        a.append(reference.wide(reference.sigmoid(z).astype(dtype)))
    return [*a[:-1], z]


def gradients(weights, biases, x, y, row_weight=(), dtype=np.longdouble):
    """Mean cross-entropy and its gradients, BP1 to BP4; a batch without weight has none.

    With ``dtype``, z and a are rounded to it, and all else is exact: nothing that keeps its
    activations in ``dtype`` can be expected to do better.
    """
    *a, z = forward(weights, biases, x, dtype)
    n = len(z)
    total = reference.wide(row_weight).sum() if len(row_weight) else np.longdouble(n)
    scale = n / total if total > 0 else 0
    loss, delta = reference.softmax_cross_entropy_targets(z, y, row_weight, scale)
    grad_w, grad_b = [], []
    for layer in reversed(range(len(weights))):
        grad_w.insert(0, reference.weight_gradient(a[layer], delta))
        grad_b.insert(0, reference.bias_gradient(delta))
        if layer > 0:
            delta = reference.hidden_error(delta, weights[layer], a[layer])
    return loss.sum() / total if total > 0 else loss.sum(), grad_w, grad_b


class Trainer:
    """Mini-batch gradient descent with momentum, in longdouble, straight from the equations."""

    def __init__(self, weights, biases):
        self.weights = [reference.wide(w).copy() for w in weights]
        self.biases = [reference.wide(b).copy() for b in biases]
        self.v_weights = [np.zeros_like(w) for w in self.weights]
        self.v_biases = [np.zeros_like(b) for b in self.biases]

    def step(self, x, y, row_weight=(), *, learning_rate, momentum=0.0, l2=0.0):
        """One update; return the loss before it."""
        loss, grad_w, grad_b = gradients(self.weights, self.biases, x, y, row_weight)
        eta, mu = reference.wide(learning_rate), reference.wide(momentum)
        for w, v, g in zip(self.weights, self.v_weights, grad_w, strict=True):
            v[:] = mu * v - eta * (g + reference.wide(l2) * w)
            w += v
        for b, v, g in zip(self.biases, self.v_biases, grad_b, strict=True):
            v[:] = mu * v - eta * g
            b += v
        return loss

    def flat(self):
        """All weights, then all biases."""
        return np.concatenate([p.reshape(-1) for p in (*self.weights, *self.biases)])

    def flat_velocity(self):
        """Velocities, laid out as `flat`."""
        return np.concatenate([v.reshape(-1) for v in (*self.v_weights, *self.v_biases)])


def norm_error(got, exact, dtype):
    """Norm-wise relative error of ``got``, in unit roundoffs of ``dtype``."""
    exact = reference.wide(exact)
    distance, size = np.sum((reference.wide(got) - exact) ** 2), np.sum(exact**2)
    return float(np.sqrt(distance / size) / (np.finfo(dtype).eps / 2))
