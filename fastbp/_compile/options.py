"""The decorators of all compiled functions, each option with its reason."""

import os
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock

from fastbp._compile.arguments import Array, Value
from fastbp._compile.cache import KernelCache
from fastbp._compile.pipeline import KernelCompiler, PartCompiler

# Whether NUMBA_DISABLE_JIT=1 has all kernels run as plain Python
DISABLE_JIT = bool(config.DISABLE_JIT)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` as a kernel, at the first call with each combination of types.

    Explicit signatures would compile at import, and would refuse read-only arrays.
    """
    return _compiled(function, inline=False)


def public_kernel(**arguments: Value | Array) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function as a kernel that takes these arguments: other types are a TypingError."""

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        KernelCompiler.arguments[function] = arguments
        return kernel(function)

    return compiled


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` as a part of kernels, always inlined: vectors stay in registers.

    Not callable from Python.
    """
    return _compiled(function, inline=True)


def _compiled(function: Callable[..., Any], *, inline: bool) -> Callable[..., Any]:
    if DISABLE_JIT:
        # Plain Python warns where IEEE arithmetic just gives inf or NaN, as compiled code does.
        return np.errstate(all="ignore")(function)
    dispatcher = numba.njit(
        # The caller's thread pool is only worth having when kernels let go of the interpreter.
        nogil=True,
        # Division by zero gives inf or NaN as IEEE says; the default raises, and its branch
        # keeps loops from vectorising.
        error_model="numpy",
        # No fastmath: every fused multiply-add and every reordered sum is written out, so that
        # the bits do not depend on the compiler, the vector width or the caller.
        fastmath=False,
        forceinline=inline,
        pipeline_class=PartCompiler if inline else KernelCompiler,
        no_cfunc_wrapper=True,
    )(function)
    if inline:
        return dispatcher  # type: ignore[no-any-return]
    dispatcher._cache = KernelCache(function)
    return dispatcher  # type: ignore[no-any-return]


def _hold_compiler() -> None:
    """Wait until no other thread compiles or loads a kernel, and let none begin.

    Only the thread that forks lives on in the child: a lock that another thread holds would stay
    locked there.
    """
    # Numba imports numpy.ma at the first call of a kernel, which holds a lock, too.  Imported with
    # fastbp, it would take a seventh of the time.
    import numpy.ma  # noqa: F401

    global_compiler_lock.acquire()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hold_compiler,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
