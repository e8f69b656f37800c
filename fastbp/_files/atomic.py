"""Files that are replaced whole or not at all, whatever becomes of the process, disk or machine."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows, which lets nobody remove a file that is open
    fcntl = None

# Bytes handed to the system at a time: Ctrl-C is seen in between.
PIECE = 1 << 24

StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def replace_file(path: StrPath, pieces: Iterable[Any]) -> None:
    """Write ``pieces``, one after the other, to the file ``path``, new or in place of the old one.

    They go to a temporary file in the same folder, which takes the name of the old one when it is
    on the disk.  Whoever opens ``path`` finds the old content or the new, also after a crash.  What
    crashes have left behind is removed by the next call for the same ``path``.

    Parameters
    ----------
    path : path-like
        Of a regular file or of none; a symbolic link is followed.
    pieces : iterable of buffers

    Raises
    ------
    OSError
        If anything fails, with the name of the file; the old one is still there then.  (Only if the
        folder itself cannot be written to the disk, the new one is, and may be gone after a crash.)
    """
    name = os.fsdecode(path)
    try:
        _replace(os.path.realpath(name), pieces)
    except OSError as error:
        if error.errno is None:
            raise
        # The temporary file's name, or none, would be no help.
        raise OSError(error.errno, error.strerror, name) from error


def _replace(target: str, pieces: Iterable[Any]) -> None:
    mode = _mode_of(target)
    folder, name = os.path.split(target)
    with _folder(folder) as sync_folder:
        prefix = f".{name[:32]}.{zlib.crc32(os.fsencode(name)):08x}."
        _remove_left_behind(folder, prefix)
        temporary, file = _create(os.path.join(folder, prefix))
        try:
            try:
                if mode is not None:
                    os.chmod(temporary, mode)
                for piece in pieces:
                    _write(file, memoryview(piece).cast("B"))
                os.fsync(file)
                if fcntl is None:
                    os.close(file)  # Windows renames no open file
                    file = -1
                os.replace(temporary, target)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise
        finally:
            if file >= 0:
                os.close(file)
        sync_folder()


def _mode_of(target: str) -> int | None:
    """The permissions of the file to be replaced; None if there is none."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", target)
    # A new file could take the place of one that may not be written, but that is not meant.
    if not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)
    return stat.S_IMODE(status.st_mode)


@contextmanager
def _folder(path: str) -> Iterator[Any]:
    """Open a folder, before anything is changed in it; yields what writes it to the disk."""
    if fcntl is None:
        yield lambda: None  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)

    def sync() -> None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some file systems do it by themselves
                raise

    try:
        yield sync
    finally:
        os.close(descriptor)


def _create(prefix: str) -> tuple[str, int]:
    """Create a temporary file and lock it, as a sign that somebody is still writing it."""
    while True:
        path = f"{prefix}{secrets.token_hex(8)}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        file = os.open(path, flags, 0o666)
        try:
            _lock(file)
            if os.fstat(file).st_nlink:
                return path, file
        except BaseException:
            with suppress(OSError):
                os.unlink(path)
            os.close(file)
            raise
        os.close(file)  # taken for one left behind, just before it was locked


def _lock(file: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # another's, or a file system without locks
    return True


def _remove_left_behind(folder: str, prefix: str) -> None:
    """Remove the temporary files of processes that have ended without doing so."""
    for name in os.listdir(folder):
        if not (name.startswith(prefix) and name.endswith(".tmp")):
            continue
        path = os.path.join(folder, name)
        with suppress(OSError):  # gone meanwhile, or not ours
            file = os.open(path, os.O_WRONLY)
            try:
                is_left_behind = _lock(file)
                if is_left_behind and fcntl is not None:
                    os.unlink(path)
            finally:
                os.close(file)
            if is_left_behind and fcntl is None:
                os.unlink(path)


def _write(file: int, piece: memoryview) -> None:
    for start in range(0, len(piece), PIECE):
        rest = piece[start : start + PIECE]
        while len(rest):
            rest = rest[os.write(file, rest) :]
