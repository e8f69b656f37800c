"""What the machine can do, and what is installed on it."""

import platform
from importlib import metadata

import numpy as np

from comparison.timing import optional, repeated, time_block
from fastbp import kernels

torch = optional("torch")

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
    """Allow so many in the libraries that do not go by the cores of the process."""
    if torch is not None:
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


def multiply_add_rate(rounds: int = 20) -> tuple[float, str]:
    """Multiply-adds a second of the fastest float32 matrix product here, and which that was.

    The fastest of all rounds, not their median: the rate is a limit, not a habit.
    """
    rng = np.random.default_rng(0)
    left, right = rng.random((2, 1024, 1024), np.float32)
    batch, w, b = left[:256, :512].copy(), right[:512, :512].copy(), np.zeros(512, np.float32)
    product, z = np.empty_like(left), np.empty((256, 512), np.float32)
    candidates = {
        "NumPy's BLAS, 1024 x 1024 x 1024": (
            lambda: np.matmul(left, right, out=product),
            1024**3,
        ),
        "dense_forward, 256 x 512 x 512": (
            lambda: kernels.dense_forward(batch, w, b, z),
            256 * 512 * 512,
        ),
    }
    if torch is not None:
        tensors = [torch.from_numpy(array) for array in (left, right, product)]
        candidates["torch, 1024 x 1024 x 1024"] = (
            lambda: torch.mm(*tensors[:2], out=tensors[2]),
            1024**3,
        )
    rates = dict.fromkeys(candidates, 0.0)
    for _ in range(rounds):
        for name, (call, multiply_adds) in candidates.items():
            rates[name] = max(rates[name], multiply_adds / time_block(repeated(call), 1))
    fastest = max(rates, key=rates.__getitem__)
    return rates[fastest], fastest
