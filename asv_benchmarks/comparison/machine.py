"""What the machine can do, and what is installed on it."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

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

# Vectors by the name that LLVM has for them, the widest first: their own name, and bits.
VECTORS = {
    "avx512f": ("AVX-512", 512),
    "avx2": ("AVX2", 256),
    "sse2": ("SSE2", 128),
    "neon": ("NEON", 128),
}
# Of a multiply-add that waits for the one before: so on Intel's processors from Skylake on, AMD's
# from Zen 3 on, and Apple's.
LATENCY_CYCLES = 4
CHAINS = 12  # enough to hide the latency, few enough for 16 registers


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


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def vectors() -> tuple[str, int]:
    """The widest vectors of the processor, and their bits."""
    features = llvmlite.binding.get_host_cpu_features()
    names = [name for name in VECTORS if features.get(name)]
    # LLVM does not list what every 64-bit ARM processor has.
    return VECTORS[names[0] if names else "neon"]


def model_name() -> str:
    """What the processor calls itself, and the name that LLVM has for its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name} ({llvmlite.binding.get_host_cpu_name()})"


def in_registers(n_chains: int = CHAINS) -> tuple[Callable[[], object], int]:
    """A compiled loop of float32 multiply-adds that needs no memory, and how many a call makes.

    Each turn multiplies and adds to ``n_chains`` vectors, which wait for themselves alone. They are
    written out: of itself LLVM uses half the width of some processors.
    """
    n_turns, vector = 100_000, ir.VectorType(ir.FloatType(), vectors()[1] // 32)

    @intrinsic
    def multiply_adds(typing_context, n_turns):
        def generate(context, builder, signature, arguments):
            half, one = (ir.Constant(vector, [x] * vector.count) for x in (0.5, 1.0))
            multiply_add = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(vector, [vector] * 3),
                f"llvm.fmuladd.v{vector.count}f32",
            )
            chains = [cgutils.alloca_once_value(builder, one) for _ in range(n_chains)]
            with cgutils.for_range(builder, arguments[0]):
                for x in chains:
                    builder.store(builder.call(multiply_add, [builder.load(x), half, one]), x)
            total = builder.load(chains[0])
            for x in chains[1:]:
                total = builder.fadd(total, builder.load(x))
            return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

        return numba.float32(numba.intp), generate

    loop = numba.njit(lambda n_turns: multiply_adds(n_turns))
    return lambda: loop(n_turns), n_turns * n_chains * vector.count


@dataclass(frozen=True)
class Rates:
    """float32 multiply-adds a second; of all rounds the fastest, for it is a limit."""

    registers: float  # measured on one core, times the cores
    product: float
    product_name: str  # whose product that was
    vectors_a_cycle: float  # multiply-adds of whole vectors

    @property
    def limit(self) -> float:
        return max(self.registers, self.product)

    def __str__(self) -> str:
        return (
            f"the machine's rate: {self.registers / 1e9:.1f}e9 multiply-adds a second in "
            f"registers; {self.product / 1e9:.1f}e9 in a matrix product, reached by "
            f"{self.product_name}"
        )


@cache
def multiply_add_rates(rounds: int = 20) -> Rates:
    """Measure what float32 multiply-adds reach here: in registers, and in a matrix product."""
    candidates = {
        "one chain": in_registers(1),
        "registers": in_registers(),
        "NumPy's BLAS, 1024 x 1024 x 1024": matrix_product(),
        "dense_forward, 256 x 512 x 512": layer(),
    }
    if torch:
        candidates["torch, 1024 x 1024 x 1024"] = matrix_product(torch.mm, torch.from_numpy)
    for call, _ in candidates.values():
        call()  # compile
    rates = dict.fromkeys(candidates, 0.0)
    for _ in range(rounds):
        for name, (call, multiply_adds) in candidates.items():
            rates[name] = max(rates[name], multiply_adds / time_block(repeated(call), 1))
    waiting, registers = rates.pop("one chain"), rates.pop("registers")
    fastest = max(rates, key=rates.__getitem__)
    vectors_a_cycle = registers / waiting / LATENCY_CYCLES
    return Rates(len(cores()) * registers, rates[fastest], fastest, vectors_a_cycle)


def description() -> str:
    """The kind of processor and its cores, in one line: the head of every table."""
    (name, bits), n_cores = vectors(), len(cores())
    per_cycle = round(multiply_add_rates().vectors_a_cycle)
    count = {1: "one", 2: "two"}.get(per_cycle, per_cycle)
    words = f"{count} {bits}-bit multiply-add{'s' * (per_cycle != 1)} a cycle"
    if bits != 512 or per_cycle not in (1, 2):
        words += " (the goals are for one or two of 512 bits)"
    return f"{model_name()}, {name}, {words}, {n_cores} core{'s' * (n_cores != 1)}"
