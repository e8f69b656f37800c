"""The oracle for whole networks: backpropagation in longdouble, composed from `reference`."""

import numpy as np
import reference

#: Largest error of a gradient, norm-wise per layer, in unit roundoffs: fresh weights, saturated
#: ones, and, for deep saturated networks that magnify their own rounding, times what rounding the
#: activations alone brings about.
FRESH, SATURATED, TIMES_ROUNDED = 4, 8, 8


#: Each activation, and its derivative as a function of the activation a.
ACTIVATIONS = {
    "identity": (lambda z: z, np.ones_like),
    "sigmoid": (reference.sigmoid, lambda a: a * (1 - a)),
    "tanh": (np.tanh, lambda a: 1 - a**2),
    "relu": (lambda z: np.maximum(z, 0), lambda a: (a > 0).astype(a.dtype)),
}


def forward(weights, biases, x, dtype=np.longdouble, activation="sigmoid"):
    """Activations of all layers, the input first and the logits last, rounded to ``dtype``."""
    activate, _ = ACTIVATIONS[activation]
    a = [reference.wide(x)]
    for w, b in zip(weights, biases, strict=True):
        z = reference.wide(reference.dense_forward(a[-1], w, b).astype(dtype))
        a.append(reference.wide(activate(z).astype(dtype)))
    return [*a[:-1], z]


def gradients(weights, biases, x, y, row_weight=(), dtype=np.longdouble, activation="sigmoid"):
    """Mean cross-entropy and its gradients, BP1 to BP4; a batch without weight has none.

    With ``dtype``, z and a are rounded to it, and all else is exact: nothing that keeps its
    activations in ``dtype`` can be expected to do better.
    """
    _, slope = ACTIVATIONS[activation]
    *a, z = forward(weights, biases, x, dtype, activation)
    n = len(z)
    total = reference.wide(row_weight).sum() if len(row_weight) else np.longdouble(n)
    scale = n / total if total > 0 else 0
    loss, delta = reference.softmax_cross_entropy_targets(z, y, row_weight, scale)
    grad_w, grad_b = [], []
    for layer in reversed(range(len(weights))):
        grad_w.insert(0, reference.weight_gradient(a[layer], delta))
        grad_b.insert(0, reference.bias_gradient(delta))
        if layer > 0:
            delta = (delta @ reference.wide(weights[layer]).T) * slope(a[layer])
    return loss.sum() / total if total > 0 else loss.sum(), grad_w, grad_b


class Trainer:
    """Mini-batch training in longdouble, straight from the equations.

    The first moment of Adam takes the place of the velocity.
    """

    def __init__(self, weights, biases, activation="sigmoid"):
        self.weights = [reference.wide(w).copy() for w in weights]
        self.biases = [reference.wide(b).copy() for b in biases]
        self.v_weights = [np.zeros_like(w) for w in self.weights]
        self.v_biases = [np.zeros_like(b) for b in self.biases]
        self.second_weights = [np.zeros_like(w) for w in self.weights]
        self.second_biases = [np.zeros_like(b) for b in self.biases]
        self.activation = activation
        self.n_steps = 0

    def _gradients(self, x, y, row_weight, l2, alpha):
        """The loss, and for each array of parameters: it, its gradient with the penalty's."""
        loss, grad_w, grad_b = gradients(
            self.weights, self.biases, x, y, row_weight, activation=self.activation
        )
        strength = self._strength(x, row_weight, l2, alpha)
        grad_w = [g + strength * w for g, w in zip(grad_w, self.weights, strict=True)]
        return loss, grad_w + grad_b

    def _strength(self, x, row_weight, l2, alpha):
        weight = reference.wide(row_weight).sum() if len(row_weight) else len(x)
        return reference.wide(l2) + (reference.wide(alpha) / weight if weight > 0 else 0)

    def penalty(self, x, row_weight=(), *, l2=0.0, alpha=0.0):
        """0.5 (l2 + alpha / weight of the batch) ||W||^2."""
        squares = sum((w**2).sum() for w in self.weights)
        return self._strength(x, row_weight, l2, alpha) * squares / 2

    def step(
        self,
        x,
        y,
        row_weight=(),
        *,
        learning_rate,
        momentum=0.0,
        nesterov=False,
        l2=0.0,
        alpha=0.0,
    ):
        """One update by gradient descent; return the loss before it."""
        loss, grads = self._gradients(x, y, row_weight, l2, alpha)
        eta, mu = reference.wide(learning_rate), reference.wide(momentum)
        parameters, velocities = self.weights + self.biases, self.v_weights + self.v_biases
        for theta, v, g in zip(parameters, velocities, grads, strict=True):
            v[:] = mu * v - eta * g
            theta += mu * v - eta * g if nesterov else v
        self.n_steps += 1
        return loss

    def adam_step(
        self,
        x,
        y,
        row_weight=(),
        *,
        learning_rate,
        beta_1,
        beta_2,
        epsilon,
        weight_decay=0.0,
        epsilon_is_corrected=True,
        l2=0.0,
        alpha=0.0,
    ):
        """One update by Adam, with decay AdamW; return the loss before it.

        Without ``epsilon_is_corrected``, epsilon is added before v is corrected for its bias.
        """
        loss, grads = self._gradients(x, y, row_weight, l2, alpha)
        eta, eps = reference.wide(learning_rate), reference.wide(epsilon)
        b1, b2 = reference.wide(beta_1), reference.wide(beta_2)
        self.n_steps += 1
        correction_1, correction_2 = 1 - b1**self.n_steps, 1 - b2**self.n_steps
        for w in self.weights:
            w -= eta * reference.wide(weight_decay) * w
        moments = zip(
            self.v_weights + self.v_biases, self.second_weights + self.second_biases, strict=True
        )
        for theta, (m, v), g in zip(self.weights + self.biases, moments, grads, strict=True):
            m[:] = b1 * m + (1 - b1) * g
            v[:] = b2 * v + (1 - b2) * g**2
            if epsilon_is_corrected:
                theta -= eta * (m / correction_1) / (np.sqrt(v / correction_2) + eps)
            else:
                theta -= eta * np.sqrt(correction_2) / correction_1 * m / (np.sqrt(v) + eps)
        return loss

    def flat(self):
        """All weights, then all biases."""
        return _flat(self.weights, self.biases)

    def flat_velocity(self):
        """Velocities, laid out as `flat`."""
        return _flat(self.v_weights, self.v_biases)

    def flat_second_moment(self):
        """Second moments, laid out as `flat`."""
        return _flat(self.second_weights, self.second_biases)


def _flat(weights, biases):
    return np.concatenate([p.reshape(-1) for p in (*weights, *biases)])


def norm_error(got, exact, dtype):
    """Norm-wise relative error of ``got``, in unit roundoffs of ``dtype``."""
    exact = reference.wide(exact)
    distance, size = np.sum((reference.wide(got) - exact) ** 2), np.sum(exact**2)
    return float(np.sqrt(distance / size) / (np.finfo(dtype).eps / 2))
