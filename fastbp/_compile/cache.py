"""The cache of kernels on disk: one file for each specialisation.

Numba stamps a cached function with the content of its own file only, although the machine code
holds the functions inlined from other files, too: after an edit of a helper, or an upgrade, stale
code would run.  Here the stamp is a digest of every file that can end up inside a kernel.

A torn index file of Numba stops every later process.  Two processes that fill the index at once can
give one data file to two specialisations: float64 arrays then run float32 code.  Here there is no
index: the name of a file is a digest of its key.
"""

import hashlib
import pickle
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from numba.core import config, serialize
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache

from fastbp._atomic import replace_file
from fastbp._compile.library import SOURCE_STAMP, KernelLibrary, replaced
from fastbp._compile.pipeline import without_collections


class CacheFiles:
    """One file for each specialisation: a digest of the content, then the pickled content."""

    def __init__(self, folder: str, kernel_name: str) -> None:
        self._folder = Path(folder)
        self._prefix = f"{kernel_name}.{SOURCE_STAMP[:16]}."
        self._every_version = f"{kernel_name}.*.nbc"

    def _path(self, key: object) -> Path:
        digest = hashlib.sha256(repr((SOURCE_STAMP, key)).encode()).hexdigest()
        return self._folder / f"{self._prefix}{digest[:32]}.nbc"

    def load(self, key: object) -> Any:
        try:
            content = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        digest, data = content[:32], content[32:]
        # A file torn by a crash is a miss: compile again.
        return pickle.loads(data) if hashlib.sha256(data).digest() == digest else None

    def save(self, key: object, content: object) -> None:
        data = serialize.dumps(content)
        replace_file(self._path(key), [hashlib.sha256(data).digest(), data])
        for path in self._folder.glob(self._every_version):
            if not path.name.startswith(self._prefix):
                path.unlink(missing_ok=True)  # code of an earlier source

    def flush(self) -> None:
        for path in self._folder.glob(self._every_version):
            path.unlink(missing_ok=True)


class _KernelCacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    """What is cached of a kernel: as Numba does it, but for the class of its library."""

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        codegen = target_context.codegen()
        with replaced(codegen, "unserialize_library", partial(KernelLibrary.load, codegen)):
            result = super().rebuild(target_context, payload)
        result.library.add_link(result.fndesc, result.signature.args)
        return result


class _FoundCache(FunctionCache):  # type: ignore[misc]
    """Numba's file cache, stale after an edit of any kernel file."""

    _impl_class = _KernelCacheImpl

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)
        self._cache_file = CacheFiles(self.cache_path, self._impl.filename_base)

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        # Numba leaves these out of its key, yet each of them changes the machine code.
        return (*super()._index_key(sig, codegen), config.BOUNDSCHECK, str(config.OPT))


class KernelCache(NullCache):  # type: ignore[misc]
    """The cache of one kernel: looked for at the first compilation, and never fatal.

    To look for it at import would write a file for each kernel, only to see whether one can.
    """

    def __init__(self, py_func: Callable[..., Any]) -> None:
        self._py_func = py_func

    @cached_property
    def _found(self) -> Any:
        try:
            return _FoundCache(self._py_func)
        except (RuntimeError, OSError):
            return NullCache()  # read-only install and no home: compile once per process

    @property
    def cache_path(self) -> Any:
        return self._found.cache_path

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            with without_collections():
                return self._found.load_overload(sig, target_context)
        except OSError:
            return None  # an unreadable file is a miss: compile again

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            self._found.save_overload(sig, data)
        except OSError:
            # A full or read-only disk costs the next process a compilation, no more.
            self._found = NullCache()

    def flush(self) -> None:
        self._found.flush()
