"""`import fastbp` against `import numba`, each in new processes, in turns."""

import os
import statistics
import subprocess
import sys

ROUNDS = 25

# An installed package has its bytecode.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def seconds(module: str) -> float:
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return float(subprocess.check_output([sys.executable, "-c", code], env=ENVIRONMENT))


def main() -> None:
    seconds("fastbp"), seconds("numba")  # fill the disk's cache, write the bytecode
    pairs = [(seconds("fastbp"), seconds("numba")) for _ in range(ROUNDS)]
    fastbp, numba = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    print(
        f"import fastbp {fastbp:.3f} s, import numba {numba:.3f} s, ratio {ratio:.3f} (goal 1.15)"
    )


if __name__ == "__main__":
    main()
