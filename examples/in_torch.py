"""Use a kernel inside another framework: softmax and cross-entropy as a function of PyTorch.

The kernel writes straight into PyTorch's memory; its a - y is the backward pass.
Needs PyTorch: pip install fastbp torch
Run: python examples/in_torch.py
"""

import numpy as np

from fastbp import kernels

try:
    import torch
except ImportError:
    raise SystemExit("in_torch.py needs PyTorch, which is not installed") from None

EVERY_ROW_WEIGHS_ONE = np.empty(0)


class SoftmaxCrossEntropy(torch.autograd.Function):
    """The mean cross-entropy of logits (n, K), float32 or float64, and labels (n,)."""

    @staticmethod
    def forward(ctx, z, labels):
        """Compute the cost and, in the same pass, its gradient a - y."""
        z = z.detach().contiguous()
        n, n_classes = z.shape
        # Kernels check no values.
        if labels.shape != (n,) or n == 0 or labels.min() < 0 or labels.max() >= n_classes:
            raise ValueError(f"labels must be {n} integers from 0 to {n_classes - 1}")
        loss, delta = z.new_empty(n), torch.empty_like(z)
        arrays = z.numpy(), labels.numpy(), EVERY_ROW_WEIGHS_ONE, loss.numpy(), delta.numpy()
        kernels.softmax_cross_entropy(*arrays, 1 / n)
        ctx.save_for_backward(delta)
        return z.new_tensor(kernels.loss_sum(loss.numpy()) / n)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_cost):
        """Return grad_cost (a - y) / n for the logits, and nothing for the labels."""
        (delta,) = ctx.saved_tensors
        return grad_cost * delta, None


def train(cost_of, x, labels):
    """Train a small network of PyTorch with a cost function; return its costs."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    costs = []
    for _ in range(200):
        optimizer.zero_grad()
        cost = cost_of(model(x), labels)
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    return costs


def main():
    """Check the gradient, then train with both and compare."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 3, 1, 1, 2])
    right = torch.autograd.gradcheck(SoftmaxCrossEntropy.apply, (z, labels))
    print(f"gradcheck passes: {right}")

    x = torch.randn(300, 2, generator=generator)
    labels = (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()
    ours = train(SoftmaxCrossEntropy.apply, x, labels)
    theirs = train(torch.nn.functional.cross_entropy, x, labels)
    print(f"cost after 200 steps: {ours[-1]:.4f}, with PyTorch's own function {theirs[-1]:.4f}")
    difference = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    print(f"largest difference on the way: {difference:.1e}")


if __name__ == "__main__":
    main()
