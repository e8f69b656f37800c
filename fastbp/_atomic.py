"""Files that are replaced whole or not at all, whatever becomes of process, disk or machine."""

import errno
import os
import secrets
import stat
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# Age from which on a temporary file belongs to a process that has crashed
_ABANDONED_SECONDS = 3600


def replace_file(path: StrPath, pieces: Iterable[Any]) -> None:
    """Write ``pieces``, one after the other, to the file ``path``, new or in place of the old one.

    A temporary file in the same folder takes the name ``path`` once it is on the disk: readers find
    the old content or the new, also after a crash.  A call one hour later removes the temporary
    file that a crash has left.  Symbolic links are followed.

    Raises
    ------
    OSError
        With the name ``path``; the old file is still there, unless the error is that of writing
        the folder to the disk.
    """
    name = os.fsdecode(path)
    try:
        _replace(os.path.realpath(name), pieces)
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error


def _replace(target: str, pieces: Iterable[Any]) -> None:
    mode = _mode_of(target)
    folder, name = os.path.split(target)
    prefix = f".{name[:32]}.{zlib.crc32(os.fsencode(name)):08x}."
    _remove_abandoned(folder, prefix)
    temporary = os.path.join(folder, f"{prefix}{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if mode is not None:
                os.chmod(temporary, mode)
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _mode_of(target: str) -> int | None:
    """Return the permissions of the file to be replaced, or None where there is no file."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file")
    # Only the folder must be writable for a replacement, but a read-only file is meant to stay.
    if not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return stat.S_IMODE(mode)


def _remove_abandoned(folder: str, prefix: str) -> None:
    for entry in os.scandir(folder):
        if entry.name.startswith(prefix):
            with suppress(OSError):  # removed meanwhile, or not ours to remove
                if time.time() - entry.stat().st_mtime > _ABANDONED_SECONDS:
                    os.unlink(entry.path)


def _sync_folder(folder: str) -> None:
    """Write to the disk which files a folder holds."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of file systems that sync no folders
            raise
    finally:
        os.close(descriptor)
