"""z = a W + b, delta W^T, a^T delta."""

from fastbp._compile import kernel


@kernel
def dense_forward(a_prev, w, b, z):
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[i, j] = b[j]
        for k in range(w.shape[0]):
            for j in range(z.shape[1]):
                z[i, j] += a_prev[i, k] * w[k, j]


@kernel
def hidden_error(delta_next, w_next, a, delta):
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            s = a.dtype.type(0)
            for k in range(w_next.shape[1]):
                s += delta_next[i, k] * w_next[j, k]
            delta[i, j] = s * a[i, j] * (1 - a[i, j])


@kernel
def weight_gradient(a_prev, delta, grad_w):
    n = a_prev.shape[0]
    for j in range(grad_w.shape[0]):
        for k in range(grad_w.shape[1]):
            grad_w[j, k] = 0
        for i in range(n):
            for k in range(grad_w.shape[1]):
                grad_w[j, k] += a_prev[i, j] * delta[i, k]
        for k in range(grad_w.shape[1]):
            grad_w[j, k] /= n


@kernel
def bias_gradient(delta, grad_b):
    n = delta.shape[0]
    for k in range(grad_b.shape[0]):
        s = 0.0
        for i in range(n):
            s += delta[i, k]
        grad_b[k] = s / n
