"""Run kernels as plain Python, in a process of its own: Numba reads NUMBA_DISABLE_JIT at import.

Reads pickled calls from standard input and writes the pickled arrays that they wrote.
"""

import os
import pickle
import subprocess
import sys

import numpy as np


def results_of(jobs):
    """What each ``(kernel name, arguments)`` leaves in its arguments, without a compiler."""
    child = subprocess.run(
        [sys.executable, __file__],
        input=pickle.dumps(jobs),
        capture_output=True,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        check=False,
    )
    assert child.returncode == 0, child.stderr.decode()[-2000:]
    return pickle.loads(child.stdout)


def _run(name, arguments):
    from fastbp import kernels
    from fastbp.kernels import elementary

    function = getattr(elementary, name, None) or getattr(kernels, name)
    if name in ("exp", "log1p", "sigmoid", "sigmoid_derivative", "tanh"):
        return [np.array([function(x) for x in arguments[0]])]
    function(*arguments)
    return [argument for argument in arguments if isinstance(argument, np.ndarray)]


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        results = [_run(*job) for job in pickle.load(sys.stdin.buffer)]
    sys.stdout.buffer.write(pickle.dumps(results))
