"""What asv follows over the commits of fastbp.

The rules of the suite:

- It imports, and runs, with any version of fastbp: what a version lacks is looked up in ``setup``,
  and skipped there.
- Parameters come in the order shape, dtype, threads, implementation; the smallest shape first.
- Inputs are seeded; ``setup`` compiles and touches them. asv sets up before every sample and then
  times a single call, so that a timed method repeats a short job, a fixed number of times.
- Lower is better, everywhere: asv takes a rise for a regression. Hence ratios are the time of
  fastbp over that of the other.
- Each class has a ``version``: raise it when what is measured changes, and only then.
"""

import sys
from pathlib import Path

import numba

# Benchmarks are forked from a process that has imported this package: Numba's start, a quarter of a
# second, is made there once.
numba.njit(lambda: None)()

# asv imports this package alone; the peers and how they are timed lie beside it.
sys.path.append(str(Path(__file__).parents[1]))
