"""How every kernel is compiled and cached: one decorator, each option with its reason.

Numba stamps a cached function with the content of its *own* file only, although the machine
code also holds whatever that function inlined from other files.  Edit a helper, or install another
version of the package over this one, and stale code would run.  The cache below is therefore
stamped with the content of every file that can end up inside a kernel.
"""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config
from numba.core.caching import FunctionCache

_F = TypeVar("_F", bound=Callable[..., Any])


def _source_stamp() -> str:
    """Digest of all files whose code may be inlined into a kernel, and of the Numba version."""
    package = Path(__file__).parent
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(package.glob("**/*.py")):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


SOURCE_STAMP = _source_stamp()


class _KernelCache(FunctionCache):  # type: ignore[misc]
    """Numba's file cache, stale after an edit of any kernel file, and never fatal."""

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)
        self._cache_file._source_stamp = SOURCE_STAMP

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        # Numba leaves these out of its key, yet each of them changes the machine code.
        return (*super()._index_key(sig, codegen), config.BOUNDSCHECK, str(config.OPT))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except (OSError, EOFError, pickle.UnpicklingError):
            return None  # a torn or unreadable file is a miss: compile again

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError:
            self.disable()  # a full or read-only disk costs the next process a compilation, no more


def kernel(function: _F) -> _F:
    """Compile ``function`` as a fastbp kernel.

    Compilation happens at the first call with a type: explicit signatures would compile at
    import and would refuse read-only arrays.
    """
    dispatcher = numba.njit(
        # The caller's thread pool is only worth having when kernels let go of the interpreter.
        nogil=True,
        # Division by zero gives inf or NaN as IEEE says; the default raises, and its branch
        # keeps loops from vectorising.
        error_model="numpy",
        # No fastmath: every fused multiply-add and every reordered sum is written out, so that
        # the bits do not depend on the compiler, the vector width or the caller.
        fastmath=False,
    )(function)
    if not config.DISABLE_JIT:
        try:
            dispatcher._cache = _KernelCache(function)
        except RuntimeError:
            pass  # read-only install and no home: kernels compile once per process
    return dispatcher  # type: ignore[no-any-return]
