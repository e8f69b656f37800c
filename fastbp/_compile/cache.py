"""The cache of kernels on disk: one file for each specialisation.

Numba stamps a cached function with the content of its own file only, although the machine code
holds the functions inlined from other files, too: after an edit of a helper, or an upgrade, stale
code would run.  Here the stamp is a digest of every file that can end up inside a kernel.

A torn index file of Numba stops every later process.  Two processes that fill the index at once can
give one data file to two specialisations: float64 arrays then run float32 code.  Here there is no
index: the name of a file is a digest of its key.

Numba reads only where it can write.  Here a cache that was filled when a container was built is
read by users who cannot write there.
"""

import hashlib
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from numba.core import config, serialize
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.misc.appdirs import AppDirs

from fastbp._atomic import replace_file
from fastbp._compile.library import PACKAGE, SOURCE_STAMP, KernelLibrary, replaced
from fastbp._compile.pipeline import without_collections


def folders() -> list[Path]:
    """Return where machine code may lie: first where the user says, then with the package."""
    # Packages of one name in several places do not remove each other's files.
    name = f"fastbp_{hashlib.sha256(os.fsencode(PACKAGE)).hexdigest()[:16]}"
    folders = [PACKAGE / "__pycache__", Path(AppDirs("numba", False).user_cache_dir, name)]
    if config.CACHE_DIR:
        folders.insert(0, Path(config.CACHE_DIR, name))
    # Without a home, the path of its cache begins with "~".
    return [folder for folder in folders if folder.is_absolute()]


def load(folder: Path, name: str) -> Any:
    """Return the content of a file, or None."""
    try:
        content = (folder / name).read_bytes()
    except OSError:
        return None
    digest, data = content[:32], content[32:]
    # A file torn by a crash is a miss: compile again.
    return pickle.loads(data) if hashlib.sha256(data).digest() == digest else None


def save(folder: Path, name: str, content: Any) -> None:
    """Write a file: a digest, then the pickled content.  Remove code of an earlier source."""
    data = serialize.dumps(content)
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / name, [hashlib.sha256(data).digest(), data])
    kernel_name, stamp, _ = name.rsplit("-", 2)
    for path in folder.glob(f"{kernel_name}-*.nbc"):
        if not path.name.startswith(f"{kernel_name}-{stamp}-"):
            with suppress(OSError):  # of another user
                path.unlink(missing_ok=True)


class KernelCache(NullCache):  # type: ignore[misc]
    """The cache of one kernel: looked for at the first compilation, and never fatal."""

    def __init__(self, py_func: Callable[..., Any]) -> None:
        self._name = f"{py_func.__module__}.{py_func.__qualname__}"
        # The stamp knows neither other packages nor what a function within a function is given.
        is_stamped = self._name.startswith("fastbp.") and "<locals>" not in self._name
        self._is_enabled = SOURCE_STAMP is not None and is_stamped

    @property
    def cache_path(self) -> str | None:
        return str(folders()[0]) if self._is_enabled else None

    def _file_name(self, signature: Any, codegen: Any) -> str:
        key = SOURCE_STAMP, signature, codegen.magic_tuple(), config.BOUNDSCHECK, str(config.OPT)
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        return f"{self._name}-{str(SOURCE_STAMP)[:16]}-{digest[:32]}.nbc"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        if not self._is_enabled:
            return None
        target_context.refresh()
        codegen = target_context.codegen()
        name = self._file_name(sig, codegen)
        for folder in folders():
            content = load(folder, name)
            if content is not None:
                with (
                    without_collections(),
                    replaced(codegen, "unserialize_library", partial(KernelLibrary.load, codegen)),
                ):
                    result = CompileResult._rebuild(target_context, *content)
                result.library.add_link(result.fndesc, result.signature.args)
                return result
        return None

    def save_overload(self, sig: Any, cres: Any) -> None:
        if not self._is_enabled:
            return
        name, content = self._file_name(sig, cres.codegen), cres._reduce()
        for folder in folders():
            try:
                save(folder, name, content)
            except OSError:  # a full or a read-only disk
                continue
            return
        # The next process compiles again.  This one does not try for each specialisation.
        self._is_enabled = False
