"""``python -m fastbp``: what this installation is, compile ahead, and measure the accuracy."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba.core.dispatcher import Dispatcher

import fastbp
from fastbp._compile.cache import KernelCache, folders
from fastbp._simd import lane_count
from fastbp._simd.tile import TILE_HEIGHT, TILE_VECTORS
from fastbp.training import cpus

DTYPES = ("float32", "float64")
Work = tuple[str, Callable[[], object]]


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit status: 0, or 1 where it failed (2: wrong usage)."""
    parser = argparse.ArgumentParser(
        prog="fastbp", description="What this installation is; compile ahead; measure the accuracy."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("info", help="versions, processor, threads, compile cache")
    command.add_argument("--json", action="store_true", help="as JSON")
    command = commands.add_parser("warmup", help="compile and cache, as for a container image")
    command.add_argument("part", nargs="*", help=f"any of {', '.join(PARTS)}; default: all")
    command.add_argument("--dtype", choices=DTYPES, help="default: both")
    commands.add_parser("verify", add_help=False, help="measure the errors against mpmath")
    options, rest = parser.parse_known_args(arguments)
    try:
        if options.command == "verify":
            from fastbp.verify.report import main as verify

            return verify(rest)
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        if options.command == "info":
            return info(options.json)
        if unknown := sorted(set(options.part) - set(PARTS)):
            parser.error(f"unknown part {', '.join(unknown)}; known: {', '.join(PARTS)}")
        return warmup(options.part or list(PARTS), [options.dtype] if options.dtype else DTYPES)
    except (ImportError, OSError, ValueError) as error:
        print(f"fastbp: {error}", file=sys.stderr)
        return 1


# info


def info(as_json: bool) -> int:
    """Print what this installation is and works with."""
    versions, processor, limits = _versions(), _processor(), cpus.thread_limits()
    cache = [_contents(folder) for folder in folders()]
    if as_json:
        threads = {"default": min(limits.values()), "limits": limits}
        facts = {"versions": versions, "processor": processor, "threads": threads, "cache": cache}
        print(json.dumps(facts, indent=2))
        return 0
    print("versions: ", ", ".join(f"{name} {version}" for name, version in versions.items()))
    print(
        "processor: {name} ({machine}), vectors of {vector_bits} bits, "
        "register tile of {register_tile} float32".format(**processor)
    )
    listed = ", ".join(f"{name}: {n}" for name, n in limits.items())
    print(f"threads:   {min(limits.values())} ({listed})")
    for folder in cache:
        can = "can" if folder["is_writable"] else "cannot"
        print("cache:     {path}: {files} files, {MB} MB;".format(**folder), can, "be written")
    return 0


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"Python": platform.python_version()}
    for name in ("fastbp", "numba", "llvmlite", "numpy", "safetensors", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _processor() -> dict[str, Any]:
    features = llvm.get_host_cpu_features()
    vectors = {"avx512f": 512, "avx2": 256, "avx": 256, "sse2": 128, "neon": 128}
    bits = max((n for name, n in vectors.items() if features.get(name)), default=128)
    return {
        "name": llvm.get_host_cpu_name(),
        "machine": platform.machine(),
        "vector_bits": bits,
        "register_tile": f"{TILE_HEIGHT} x {TILE_VECTORS * lane_count(np.dtype(np.float32))}",
        "features": [name for name in (*vectors, "fma") if features.get(name)],
    }


def _contents(folder: Path) -> dict[str, Any]:
    """Describe a folder of the compile cache."""
    sizes = [path.stat().st_size for path in folder.glob("fastbp.*.nbc")]
    there = next(path for path in (folder, *folder.parents) if path.exists())
    is_writable = there.is_dir() and os.access(there, os.W_OK)
    return {
        "path": str(folder),
        "is_writable": is_writable,
        "files": len(sizes),
        "MB": round(sum(sizes) / 2**20, 1),
    }


# warmup


def warmup(parts: list[str], dtypes: tuple[str, ...] | list[str]) -> int:
    """Call what these parts of fastbp compile; print what was compiled, and what was there."""
    started = time.perf_counter()
    if "classifier" in parts and importlib.util.find_spec("sklearn") is None:
        print("classifier: left out, for it needs scikit-learn: pip install 'fastbp[sklearn]'")
        parts = [part for part in parts if part != "classifier"]
    for part, dtype in itertools.product(parts, dtypes):
        for name, work in PARTS[part](dtype):
            before, start = _counts(), time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an epoch does not converge
                work()
            found, compiled = (now - then for now, then in zip(_counts(), before, strict=True))
            seconds = time.perf_counter() - start
            print(
                f"{name}, {dtype}: {compiled} compiled, {found} found, {seconds:.1f} s", flush=True
            )
    found, compiled = _counts()
    print(f"{compiled} compiled, {found} found, in {time.perf_counter() - started:.0f} s")
    if compiled and not any(_contents(folder)["files"] for folder in folders()):
        listed = ", ".join(map(str, folders()))
        print(f"fastbp: nothing was cached: none of {listed} can be written", file=sys.stderr)
        return 1
    return 0


def _counts() -> tuple[int, int]:
    """Count the specialisations of kernels that were found in the cache, and those compiled."""
    dispatchers = {
        id(value): value
        for name, module in list(sys.modules.items())
        if name.startswith("fastbp.")
        for value in list(vars(module).values())
        if isinstance(value, Dispatcher) and isinstance(value._cache, KernelCache)
    }
    stats = [dispatcher.stats for dispatcher in dispatchers.values()]
    found, compiled = (
        sum(sum(counter.values()) for counter in counters)
        for counters in ([s.cache_hits for s in stats], [s.cache_misses for s in stats])
    )
    return found, compiled


def _rows(dtype: str) -> tuple[Any, Any, Any]:
    """Return 300 rows of 3 features, their labels, and target rows."""
    labels = np.arange(300) % 4
    return (
        np.random.default_rng(0).random((300, 3)).astype(dtype),
        labels,
        np.eye(4, dtype=dtype)[labels],
    )


def _functions(dtype: str) -> Iterator[Work]:
    def call() -> None:
        x, labels, targets = _rows(dtype)
        z, w = np.ones_like(targets), np.ones((3, 4), dtype)
        for name in ("sigmoid", "sigmoid_derivative", "tanh", "relu", "softmax", "log_softmax"):
            getattr(fastbp, name)(z.copy())
        fastbp.logsumexp(z)
        for cost in (fastbp.cross_entropy, fastbp.softmax_cross_entropy):
            cost(z, labels)
            cost(z, targets)
            cost(z, labels, sample_weight=np.ones(300), ignore_index=0)
            cost(z, labels, label_smoothing=0.1)
        fastbp.output_error(targets, labels)
        fastbp.output_error(targets, targets)
        fastbp.dense(x, w, w[0])
        fastbp.hidden_error(z, w, x)
        fastbp.bias_gradient(z)
        fastbp.weight_gradient(x, z)
        for step in (fastbp.momentum_step, fastbp.nesterov_step):
            step(w.copy(), w, w.copy(), 0.1, 0.9)
        fastbp.adam_step(w.copy(), w, w.copy(), w.copy(), t=1)

    yield "functions", call


def _network(dtype: str) -> Iterator[Work]:
    x, labels, targets = _rows(dtype)
    net = fastbp.Network([3, 5, 4], dtype=dtype)
    for kind, y in (("labels", labels), ("target rows", targets)):
        # A batch above 128 rows is another kind of step.
        optimizers: tuple[fastbp.SGD | fastbp.Adam, ...] = fastbp.SGD(0.1), fastbp.Adam()
        for optimizer, size in itertools.product(optimizers, (32, 200)):
            name = f"Network.fit, {type(optimizer).__name__}, {kind}, batches of {size}"
            options: dict[str, Any] = {"epochs": 1, "batch_size": size, "validation_data": (x, y)}
            yield name, partial(net.fit, x, y, optimizer=optimizer, **options)
        yield f"Network.gradients, {kind}", partial(net.gradients, x, y)
        yield f"Network.score, {kind}", partial(net.score, x, y)
    for method in (net.predict, net.predict_proba, net.predict_log_proba):
        yield f"Network.{method.__name__}", partial(method, x)


def _bytes(dtype: str) -> Iterator[Work]:
    x, labels, _ = _rows(dtype)
    rows = fastbp.open_rows(x.astype(np.uint8), labels)
    net = fastbp.Network([3, 5, 4], dtype=dtype)
    optimizers: tuple[fastbp.SGD | fastbp.Adam, ...] = fastbp.SGD(0.1), fastbp.Adam()
    for optimizer, size in itertools.product(optimizers, (32, 200)):
        name = f"Network.fit, {type(optimizer).__name__}, rows of bytes, batches of {size}"
        yield name, partial(net.fit, rows, epochs=1, batch_size=size, optimizer=optimizer)


def _distributed(dtype: str) -> Iterator[Work]:
    x, labels, targets = _rows(dtype)
    net = fastbp.Network([3, 5, 4], dtype=dtype)
    optimizers: tuple[fastbp.SGD | fastbp.Adam, ...] = fastbp.SGD(0.1), fastbp.Adam()
    for optimizer, (kind, y) in itertools.product(
        optimizers, (("labels", labels), ("target rows", targets))
    ):
        # What ranks do, by one process
        options: dict[str, Any] = {"epochs": 1, "batch_size": 200, "shards": 2}
        name = f"Network.fit, {type(optimizer).__name__}, {kind}, blocks of ranks"
        yield name, partial(net.fit, x, y, optimizer=optimizer, **options)


def _classifier(dtype: str) -> Iterator[Work]:
    from scipy.sparse import csr_array

    x, labels, _ = _rows(dtype)
    for kind, rows in (("dense", x), ("sparse", csr_array(x))):
        for solver, size in (("adam", 200), ("adam", 32), ("sgd", 200), ("sgd", 32), ("lbfgs", 1)):
            options: dict[str, Any] = {"solver": solver, "batch_size": size, "max_iter": 2}
            model = fastbp.MLPClassifier((5,), **options)
            name = f"MLPClassifier.fit, {kind} rows, {solver}"
            validation = {} if solver == "lbfgs" else {"X_val": rows, "y_val": labels}
            yield (
                f"{name}, batches of {size}" if size > 1 else name,
                partial(model.fit, rows, labels, **validation),
            )
        for method in (model.predict, model.predict_proba, model.predict_log_proba):
            yield f"MLPClassifier.{method.__name__}, {kind} rows", partial(method, rows)


PARTS = {
    "functions": _functions,
    "network": _network,
    "bytes": _bytes,
    "distributed": _distributed,
    "classifier": _classifier,
}

if __name__ == "__main__":
    sys.exit(main())
