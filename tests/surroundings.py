"""What a process has that calls could leave changed."""

import ctypes
import gc
import locale
import logging
import os
import pickle
import platform
import random
import signal
import sys
import threading
import warnings
from pathlib import Path

import numba
import numpy as np
import sklearn
import threadpoolctl
from numba.np.ufunc import parallel


def state():
    """All of it that a call could leave changed."""
    return {
        "floating point": (*floating_point_control(), *roundings()),
        "numpy.geterr": (np.geterr(), np.geterrcall(), np.getbufsize()),
        "numpy.random": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "random": random.getstate(),
        "print options": {**np.get_printoptions(), "formatter": None},
        "warnings": (list(warnings.filters), warnings.showwarning),
        "signals": [signal.getsignal(number) for number in sorted(signal.valid_signals())],
        "blocked signals": blocked_signals(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "processors": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        "locale": locale.setlocale(locale.LC_ALL),
        "logging": (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
        "path": (list(sys.path), list(sys.meta_path), list(sys.path_hooks)),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook, threading.excepthook),
        "tracing": (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()),
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval(), threading.stack_size()),
        "garbage collector": (gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.callbacks[:]),
        "numba": {
            name: getattr(numba.config, name) for name in dir(numba.config) if name.isupper()
        },
        "numba's threads": parallel._is_initialized,
        "sklearn": sklearn.get_config(),
    }


def blocked_signals():
    if hasattr(signal, "pthread_sigmask"):
        return signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return None


def holdings():
    """What there must not be more of, and libraries' numbers of threads."""
    libraries = {info["filepath"]: info["num_threads"] for info in threadpoolctl.threadpool_info()}
    files = Path("/proc/self/fd")
    return libraries, set(os.listdir(files)) if files.exists() else set()


def floating_point_control():
    """Rounding, masks of exceptions, treatment of subnormals; not the flags that were raised."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return ()
    environment = (ctypes.c_uint32 * 16)()
    assert ctypes.CDLL(None).fegetenv(environment) == 0
    control, mxcsr = environment[0] & 0xFFFF, environment[7]  # as <fenv.h> of the GNU C library
    return control, mxcsr & ~0x3F


def roundings():
    """Sums and products that tell the modes of rounding and of subnormals apart, anywhere."""
    results = []
    with np.errstate(all="ignore"):
        for dtype in (np.float32, np.float64):
            limits = np.finfo(dtype)
            x, less = np.array([1, -1, limits.tiny], dtype), limits.eps / dtype(2.5)
            results += [*(x + less), *(x - less), *(x * dtype(0.5))]
            # 0 where subnormal numbers are taken for it
            results += [*(np.array([limits.smallest_subnormal]) * dtype(2))]
    return results


def changes(before, after):
    return {
        name: (before[name], after[name]) for name in before if not same(before[name], after[name])
    }


def same(one, other):
    # NaN is a bound of Numba's, and not equal to itself
    return one is other or repr(one) == repr(other)
