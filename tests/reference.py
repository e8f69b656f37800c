"""The oracle: what each kernel should give, straight from the equations.

The functions on one row work with mpmath at `PRECISION` bits, where even the naive formula of a
confident row is right.  The functions on batches work in NumPy's longdouble, in forms that do not
cancel; test_reference.py checks them against the former and against digits worked by hand.
Products of matrices have a form to the last bit as well, which works in fractions.
"""

import functools
import operator
from fractions import Fraction

import mpmath
import numpy as np
from mpmath import mp

PRECISION = 2600

#: Bits that longdouble needs for judging float64 results; it has them on x86 and on most others.
WIDE_ENOUGH = np.finfo(np.longdouble).nmant >= 63


def wide(x):
    """``x`` in the type in which results are judged."""
    return np.asarray(x).astype(np.longdouble)


def ulp(exact, dtype):
    """Unit in the last place of ``dtype`` at ``exact`` (longdouble)."""
    info = np.finfo(dtype)
    exact = np.abs(wide(exact))
    finite = np.isfinite(exact) & (exact > 0)
    exponent = np.frexp(np.where(finite, exact, 1))[1] - 1
    exponent = np.where(finite, exponent, np.where(np.isinf(exact), info.maxexp, info.minexp))
    exponent = np.clip(exponent, info.minexp, info.maxexp - 1)
    return np.ldexp(np.longdouble(1), exponent - info.nmant)


def ulp_error(got, exact, at=None):
    """Distance of ``got`` from ``exact`` in ulp of the type of ``got``: at ``exact``, or ``at``.

    An infinity stands for the number one ulp above the largest; a NaN is right where the exact
    result is one, and infinitely wrong elsewhere.
    """
    got, exact = np.asarray(got), wide(exact)
    limit = np.ldexp(np.longdouble(1), np.finfo(got.dtype).maxexp)
    near = np.clip(exact, -limit, limit)
    error = np.abs(np.clip(wide(got), -limit, limit) - near)
    error = error / ulp(near if at is None else at, got.dtype)
    error = np.where(np.isnan(got) != np.isnan(exact), np.inf, error)
    return np.where(np.isnan(got) & np.isnan(exact), 0, error)


# One row, by mpmath


def _exactly(function):
    @functools.wraps(function)
    def at_precision(*args):
        with mp.workprec(PRECISION):
            return function(*args)

    return at_precision


def _mpf(row):
    return [mp.mpf(float(v)) for v in row]


@_exactly
def softmax_mp(row):
    """e^(z_i) / sum_j e^(z_j)."""
    e = [mp.exp(v) for v in _mpf(row)]
    return [v / mp.fsum(e) for v in e]


@_exactly
def log_softmax_mp(row):
    """ln of `softmax_mp`."""
    return [mp.log(p) if p else mp.mpf("-inf") for p in softmax_mp(row)]


@_exactly
def logsumexp_mp(row):
    """ln sum_j e^(z_j)."""
    return mp.log(mp.fsum(mp.exp(v) for v in _mpf(row)))


@_exactly
def cross_entropy_mp(row, y):
    """-sum_i y_i ln a_i."""
    terms = zip(_mpf(y), log_softmax_mp(row), strict=True)
    return -mp.fsum(y_i * log_a for y_i, log_a in terms if y_i)


@_exactly
def output_error_mp(row, y):
    """a * sum(y) - y."""
    y = _mpf(y)
    return [a * mp.fsum(y) - y_i for a, y_i in zip(softmax_mp(row), y, strict=True)]


@_exactly
def exp_mp(x):
    """e^x."""
    return mp.exp(mp.mpf(float(x)))


@_exactly
def log1p_mp(x):
    """ln (1 + x)."""
    return mp.log(1 + mp.mpf(float(x)))


@_exactly
def sigmoid_mp(z):
    """1 / (1 + e^-z)."""
    return 1 / (1 + mp.exp(-mp.mpf(float(z))))


@_exactly
def sigmoid_derivative_mp(z):
    """a (1 - a)."""
    a = sigmoid_mp(z)
    return a * (1 - a)


@_exactly
def tanh_mp(z):
    """(e^z - e^-z) / (e^z + e^-z)."""
    up, down = mp.exp(mp.mpf(float(z))), mp.exp(-mp.mpf(float(z)))
    return (up - down) / (up + down)


def from_mp(numbers):
    """Numbers of mpmath as a longdouble array: the leading 53 bits and the 53 after them."""
    parts = np.empty((2, len(numbers)), np.longdouble)
    with mp.workprec(PRECISION):
        for k, number in enumerate(numbers):
            number = mpmath.mpf(number)
            if not mp.isfinite(number) or number == 0:
                parts[:, k] = float(number), 0
                continue
            mantissa, exponent = mp.frexp(number)
            high = float(mantissa)
            low = float(mantissa - high)
            exponent = int(min(max(exponent, -16000), 16000))
            parts[:, k] = np.ldexp(np.array([high, low], np.longdouble), exponent)
    return parts.sum(axis=0)


# Batches, in longdouble


def onehot(labels, n_classes):
    """Row i is all zeros but for a one at labels[i]."""
    return (np.asarray(labels)[:, None] == np.arange(n_classes)).astype(np.float64)


def sigmoid(z):
    """1 / (1 + e^-z), never dividing by an overflow."""
    e = np.exp(-np.abs(wide(z)))
    return np.where(np.asarray(z) >= 0, 1, e) / (1 + e)


def sigmoid_derivative(z):
    """a (1 - a), as e / (1 + e)^2."""
    e = np.exp(-np.abs(wide(z)))
    return e / (1 + e) ** 2


def sigmoid_backward(a, delta):
    """delta a (1 - a)."""
    return wide(delta) * wide(a) * (1 - wide(a))


def tanh(z):
    """(e^z - e^-z) / (e^z + e^-z), as (1 - e^-2|z|) / (1 + e^-2|z|) with the sign of z."""
    z = wide(z)
    less_one = np.expm1(-2 * np.abs(z))
    return np.copysign(less_one / (2 + less_one), z)


def tanh_backward(a, delta):
    """delta (1 - a^2), as delta (1 - a) (1 + a)."""
    return wide(delta) * (1 - wide(a)) * (1 + wide(a))


def relu(z):
    """max(0, z); of two zeros z, and NaN for NaN."""
    return np.where(np.asarray(z) < 0, 0, wide(z))


def relu_backward(a, delta):
    """delta where a is not 0."""
    return np.where(np.asarray(a) == 0, 0, wide(delta))


class Rows:
    """The row functions of a batch ``z``; special rows as the edge cases of the contract say."""

    def __init__(self, z):
        self.z = wide(z)
        n = len(self.z)
        with np.errstate(invalid="ignore"):
            self.z_max = np.max(self.z, axis=1)
            self.bad = ~np.isfinite(self.z_max)
            m = np.where(self.bad, 0, self.z_max)[:, None]
            s = self.z - m
            back = s - self.z
            lost = (self.z - (s - back)) + (-m - back)  # TwoSum: z - m = s + lost, exactly
        lost[~np.isfinite(s)] = 0
        s[self.bad] = np.nan
        self._shift, self._lost = s, lost
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            self._e = np.exp(s) * (1 + lost)
        rest = self._e.copy()
        # the maximum's own term is one, and must not drown the others
        rest[np.arange(n), np.argmax(self.z, axis=1)] = 0
        rest[self.bad] = np.nan
        self._rest = rest.sum(axis=1)
        self._total = 1 + self._rest
        self._log_total = np.log1p(self._rest)

    def softmax(self):
        """e^(z_i) / sum_j e^(z_j)."""
        return self._e / self._total[:, None]

    def log_softmax(self):
        """ln a."""
        return self._shift + (self._lost - self._log_total[:, None])

    def logsumexp(self):
        """ln sum_j e^(z_j)."""
        return np.where(self.bad, self.z_max, self.z_max + self._log_total)

    def cross_entropy(self, y):
        """-sum_i y_i ln a_i; a term with y_i = 0 is 0."""
        y = wide(y)
        with np.errstate(invalid="ignore"):
            terms = np.where(y == 0, 0, y * -self.log_softmax())
        loss = terms.sum(axis=1) + 0.0
        return np.where(self.bad, np.nan, loss)

    def output_error(self, labels):
        """a - y for one-hot y: minus the sum of the other terms at the label."""
        delta = self.softmax()
        rows = np.arange(len(delta))
        others = self._e.copy()
        others[rows, labels] = 0
        delta[rows, labels] = -others.sum(axis=1) / self._total
        return delta

    def output_error_targets(self, y):
        """a sum(y) - y."""
        y = wide(y)
        return self.softmax() * y.sum(axis=1, keepdims=True) - y


def softmax(z):
    """e^(z_i) / sum_j e^(z_j)."""
    return Rows(z).softmax()


def log_softmax(z):
    """ln softmax(z)."""
    return Rows(z).log_softmax()


def logsumexp(z):
    """ln sum_j e^(z_j)."""
    return Rows(z).logsumexp()


def weigh(values, row_weight):
    """Rows times their weights; a weight of 0 gives 0 whatever the row holds."""
    if len(row_weight) == 0:
        return values
    weight = wide(row_weight).reshape((-1,) + (1,) * (np.ndim(values) - 1))
    with np.errstate(invalid="ignore"):
        return np.where(weight == 0, 0, weight * values)


def cross_entropy(z, labels, row_weight=()):
    """w (-ln softmax(z)_label)."""
    return weigh(Rows(z).cross_entropy(onehot(labels, np.shape(z)[1])), row_weight)


def cross_entropy_targets(z, y, row_weight=()):
    """w (-sum_i y_i ln softmax(z)_i)."""
    return weigh(Rows(z).cross_entropy(y), row_weight)


def softmax_cross_entropy(z, labels, row_weight=(), scale=1.0):
    """Loss, and scale w (softmax(z) - onehot)."""
    delta = Rows(z).output_error(np.asarray(labels))
    return cross_entropy(z, labels, row_weight), weigh(wide(scale) * delta, row_weight)


def softmax_cross_entropy_targets(z, y, row_weight=(), scale=1.0):
    """Loss, and scale w (softmax(z) sum(y) - y)."""
    delta = wide(scale) * Rows(z).output_error_targets(y)
    return cross_entropy_targets(z, y, row_weight), weigh(delta, row_weight)


def smoothed_targets(labels, class_weight, n_classes, label_smoothing):
    """c_k ((1 - eps) [k = label] + eps / K)."""
    eps = wide(label_smoothing)
    y = (1 - eps) * onehot(labels, n_classes) + eps / n_classes
    if len(class_weight):
        y = y * wide(class_weight)
    return y


def cost(
    z, y, weight=None, sample_weight=None, ignore_index=None, label_smoothing=0.0, reduction="mean"
):
    """Loss and gradient with all options of `fastbp.cross_entropy`, one row after the other."""
    n, n_classes = z.shape
    c = np.ones(n_classes) if weight is None else np.asarray(weight)
    s = np.ones(n) if sample_weight is None else np.asarray(sample_weight)
    y = np.asarray(y)
    loss = np.zeros(n, np.longdouble)
    delta = np.zeros(z.shape, np.longdouble)
    total_weight = 0
    for i in range(n):
        if y.ndim == 1:
            if y[i] == ignore_index:
                continue
            target = onehot(y[i : i + 1], n_classes)[0].astype(np.longdouble)
            total_weight += s[i] * c[y[i]]
        else:
            target = y[i].astype(np.longdouble)
            total_weight += s[i]
        if s[i] == 0:
            continue
        target = c * ((1 - np.longdouble(label_smoothing)) * target + label_smoothing / n_classes)
        row = Rows(z[i : i + 1])
        loss[i] = s[i] * row.cross_entropy(target[None])[0]
        delta[i] = s[i] * row.output_error_targets(target[None])[0]
    if reduction == "none":
        return loss, delta
    divisor = total_weight if reduction == "mean" else 1
    return loss.sum() / divisor, delta / divisor


def dense_forward(a_prev, w, b):
    """z = a W + b."""
    return wide(a_prev) @ wide(w) + wide(b)


def hidden_error(delta_next, w_next, a):
    """BP2: (delta W^T) a (1 - a)."""
    return (wide(delta_next) @ wide(w_next).T) * wide(a) * (1 - wide(a))


def bias_gradient(delta):
    """BP3: the mean of delta over the batch."""
    return wide(delta).mean(axis=0)


def weight_gradient(a_prev, delta):
    """BP4: a^T delta / n."""
    return wide(a_prev).T @ wide(delta) / len(delta)


def rounded(exact, dtype):
    """The number of ``dtype`` nearest to a fraction, of two the even one."""
    x = float(exact)  # Python rounds to the nearest float64
    if np.dtype(dtype) == np.float32 and x != exact and np.float64(x).view(np.int64) % 2 == 0:
        # The second rounding must not take this for the number itself: make it odd.
        x = np.nextafter(x, np.inf if exact > x else -np.inf)
    return np.dtype(dtype).type(x)


def blocks_of(n_terms, longest=128):
    """As few blocks of at most ``longest`` terms as can be, equal but for the last one."""
    length = -(-n_terms // -(-n_terms // longest))
    return [slice(start, min(start + length, n_terms)) for start in range(0, n_terms, length)]


def added_in_turn(sums):
    """((s_0 + s_1) + s_2) + ..."""
    return functools.reduce(operator.add, sums)


def added_in_a_tree(sums):
    """(s_0 + s_1) + (s_2 + s_3), and so on: the first power of two of them, then the others."""
    if len(sums) == 1:
        return sums[0]
    half = 1 << (len(sums) - 1).bit_length() - 1
    return added_in_a_tree(sums[:half]) + added_in_a_tree(sums[half:])


def product_in_blocks(a, b, add_blocks=added_in_turn, longest=128, chain=16):
    """a b, to the last bit as it is computed.

    Each sum over k is cut into `blocks_of` at most ``longest`` terms, and each block into chains of
    ``chain`` terms. A chain is summed in fused multiply-adds; then the chains of a block are added
    in turn, and at last the blocks.
    """
    dtype, (n, n_terms), fan_out = a.dtype, a.shape, b.shape[1]
    result = np.zeros((n, fan_out), dtype)
    for i, j in np.ndindex(n, fan_out):
        row, column = ([Fraction(float(x)) for x in line] for line in (a[i], b[:, j]))
        sums = []
        for block in blocks_of(n_terms, longest):
            sums.append(dtype.type(0))
            for first in range(block.start, block.stop, chain):
                total = dtype.type(0)
                for k in range(first, min(first + chain, block.stop)):
                    total = rounded(row[k] * column[k] + Fraction(float(total)), dtype)
                sums[-1] += total
        result[i, j] = add_blocks(sums)
    return result


def column_sums_in_blocks(delta):
    """sum_i delta_ij in float64, to the last bit as it is computed.

    Blocks are added in a tree; in a block of float64, what each addition loses is added at its end.
    """
    sums = []
    for block in blocks_of(len(delta)):
        total, *rows = delta[block].astype(np.float64)
        lost = np.zeros_like(total)
        for row in rows:
            grown = total + row
            back = grown - row  # TwoSum
            lost += (total - back) + (row - (grown - back))
            total = grown
        sums.append(total + lost if delta.dtype == np.float64 else total)
    return added_in_a_tree(sums)


def momentum_step(param, grad, velocity, learning_rate, momentum):
    """v = mu v - eta g; param + v: each operation rounded to the type of ``param``."""
    eta, mu = param.dtype.type(learning_rate), param.dtype.type(momentum)
    v = mu * velocity - eta * grad
    return param + v, v


def nesterov_step(param, grad, velocity, learning_rate, momentum):
    """v = mu v - eta g; param + (mu v - eta g): each operation rounded to the type of ``param``."""
    eta, mu = param.dtype.type(learning_rate), param.dtype.type(momentum)
    v = mu * velocity - eta * grad
    return param + (mu * v - eta * grad), v


def moments(grad, first, second, beta_1, beta_2):
    """b1 m + (1 - b1) g and b2 v + (1 - b2) g^2: each operation rounded to the type of ``grad``."""
    rounded_to = grad.dtype.type
    m = rounded_to(beta_1) * first + rounded_to(1 - beta_1) * grad
    return m, rounded_to(beta_2) * second + rounded_to(1 - beta_2) * (grad * grad)


def adam_step(
    param,
    grad,
    first,
    second,
    learning_rate=1e-3,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-8,
    weight_decay=0.0,
    t=1,
):
    """The new parameters, as Kingma and Ba write it, and the size of what was summed to them.

    The moments may cancel: their errors are those of their terms.
    """
    eta, b1, b2 = wide(learning_rate), wide(beta_1), wide(beta_2)
    theta, g = wide(param), wide(grad)
    m, v = b1 * wide(first) + (1 - b1) * g, b2 * wide(second) + (1 - b2) * g**2
    m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
    step = eta / (np.sqrt(v_hat) + wide(epsilon))
    terms = (b1 * np.abs(wide(first)) + (1 - b1) * np.abs(g)) / (1 - b1**t)
    theta = theta - eta * wide(weight_decay) * theta - step * m_hat
    return theta, np.abs(wide(param)) + step * terms


# Whole networks, in longdouble

#: Largest error of a gradient, norm-wise per layer, in unit roundoffs: fresh weights, saturated
#: ones, and, for deep saturated networks that magnify their own rounding, times what rounding the
#: activations alone brings about.
FRESH, SATURATED, TIMES_ROUNDED = 4, 8, 8

#: Each activation, and its derivative as a function of the activation a.
ACTIVATIONS = {
    "identity": (lambda z: z, np.ones_like),
    "sigmoid": (sigmoid, lambda a: a * (1 - a)),
    "tanh": (np.tanh, lambda a: 1 - a**2),
    "relu": (lambda z: np.maximum(z, 0), lambda a: (a > 0).astype(a.dtype)),
}


def forward(weights, biases, x, dtype=np.longdouble, activation="sigmoid"):
    """Activations of all layers, the input first and the logits last, rounded to ``dtype``."""
    activate, _ = ACTIVATIONS[activation]
    a = [wide(x)]
    for w, b in zip(weights, biases, strict=True):
        z = wide(dense_forward(a[-1], w, b).astype(dtype))
        a.append(wide(activate(z).astype(dtype)))
    return [*a[:-1], z]


def gradients(weights, biases, x, y, row_weight=(), dtype=np.longdouble, activation="sigmoid"):
    """Mean cross-entropy and its gradients, BP1 to BP4; a batch without weight has none.

    With ``dtype``, z and a are rounded to it, and all else is exact: nothing that keeps its
    activations in ``dtype`` can be expected to do better.
    """
    _, slope = ACTIVATIONS[activation]
    *a, z = forward(weights, biases, x, dtype, activation)
    n = len(z)
    total = wide(row_weight).sum() if len(row_weight) else np.longdouble(n)
    scale = n / total if total > 0 else 0
    loss, delta = softmax_cross_entropy_targets(z, y, row_weight, scale)
    grad_w, grad_b = [], []
    for layer in reversed(range(len(weights))):
        grad_w.insert(0, weight_gradient(a[layer], delta))
        grad_b.insert(0, bias_gradient(delta))
        if layer > 0:
            delta = (delta @ wide(weights[layer]).T) * slope(a[layer])
    return loss.sum() / total if total > 0 else loss.sum(), grad_w, grad_b


class Trainer:
    """Mini-batch training in longdouble, straight from the equations.

    The first moment of Adam takes the place of the velocity.
    """

    def __init__(self, weights, biases, activation="sigmoid"):
        self.weights = [wide(w).copy() for w in weights]
        self.biases = [wide(b).copy() for b in biases]
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
        weight = wide(row_weight).sum() if len(row_weight) else len(x)
        return wide(l2) + (wide(alpha) / weight if weight > 0 else 0)

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
        eta, mu = wide(learning_rate), wide(momentum)
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
        eta, eps = wide(learning_rate), wide(epsilon)
        b1, b2 = wide(beta_1), wide(beta_2)
        self.n_steps += 1
        correction_1, correction_2 = 1 - b1**self.n_steps, 1 - b2**self.n_steps
        for w in self.weights:
            w -= eta * wide(weight_decay) * w
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
    exact = wide(exact)
    distance, size = np.sum((wide(got) - exact) ** 2), np.sum(exact**2)
    return float(np.sqrt(distance / size) / (np.finfo(dtype).eps / 2))
