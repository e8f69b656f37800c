"""What the machine can do, and what is installed on it."""

import platform
from collections.abc import Callable
from importlib import metadata

import numpy as np

from comparison.timing import OptionalModule, repeated, time_block
from fastbp import kernels

threadpoolctl = OptionalModule("threadpoolctl")
torch = OptionalModule("torch")

LIBRARIES = (
    "fastbp",
    "numba",
    "numpy",
    "scipy",
    "torch",
    "jax",
    "scikit-learn",
    "onnx",
    "onnxruntime",
)


def set_threads(n_threads: int) -> None:
    """Allow so many in the libraries that do not go by the cores of the process.

    NumPy's BLAS counted them when it was loaded: its threads on one core wait for each other.
    """
    if threadpoolctl:
        threadpoolctl.threadpool_limits(n_threads)
    if torch:
        torch.set_num_threads(n_threads)


def versions() -> str:
    """One line with the versions, and one with what is not installed."""
    found, absent = [f"Python {platform.python_version()}"], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            absent.append(name)
    lines = [", ".join(found)]
    if absent:
        lines.append(f"not installed, left out: {', '.join(absent)}")
    return "\n".join(lines)


def matrix_product(multiply=np.matmul, wrap=np.asarray) -> tuple[Callable[[], object], int]:
    """A large float32 matrix product, and how many multiply-adds a call of it makes."""
    n = 1024
    left, right = map(wrap, np.random.default_rng(0).random((2, n, n), np.float32))
    product = wrap(np.empty((n, n), np.float32))
    return lambda: multiply(left, right, out=product), n**3


def layer() -> tuple[Callable[[], object], int]:
    """fastbp's own product, of a size that stays within the caches."""
    rng = np.random.default_rng(0)
    a_prev, w = rng.random((256, 512), np.float32), rng.random((512, 512), np.float32)
    b, z = np.zeros(512, np.float32), np.empty((256, 512), np.float32)
    return lambda: kernels.dense_forward(a_prev, w, b, z), 256 * 512 * 512


def multiply_add_rate(rounds: int = 20) -> tuple[float, str]:
    """Multiply-adds a second of the fastest float32 matrix product here, and which that was.

    The fastest of all rounds, not their median: the rate is a limit, not a habit.
    """
    candidates = {
        "NumPy's BLAS, 1024 x 1024 x 1024": matrix_product(),
        "dense_forward, 256 x 512 x 512": layer(),
    }
    if torch:
        candidates["torch, 1024 x 1024 x 1024"] = matrix_product(torch.mm, torch.from_numpy)
    rates = dict.fromkeys(candidates, 0.0)
    for _ in range(rounds):
        for name, (call, multiply_adds) in candidates.items():
            rates[name] = max(rates[name], multiply_adds / time_block(repeated(call), 1))
    fastest = max(rates, key=rates.__getitem__)
    return rates[fastest], fastest
