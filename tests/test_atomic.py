"""A file is the old one or the new one, whatever fails, and whenever the process is killed."""

import errno
import os
import signal
import tempfile
import time
from functools import partial
from pathlib import Path
from unittest.mock import DEFAULT, Mock

import children
import pytest

from fastbp._atomic import replace_file

OLD, NEW = b"old " * 100, b"new " * 10_000
PIECES = (b"", memoryview(NEW)[:-7], bytearray(NEW[-7:]))
CALLS = ("stat", "scandir", "chmod", "fsync", "replace", "open", "close")

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is POSIX")


@pytest.fixture(params=[True, False], ids=["over an old file", "new"])
def path(request, tmp_path):
    path = tmp_path / "model.safetensors"
    if request.param:
        path.write_bytes(OLD)
    return path


def content(path):
    return path.read_bytes() if path.exists() else None


def others(path):
    return sorted({entry.name for entry in os.scandir(path.parent)} - {path.name})


def save(path, n=0, action=None):
    """Save ``NEW``; before the n-th step, call ``action``.  Return the names of the steps."""
    steps = []

    def step(name, *args, **kwargs):
        steps.append(name)
        if len(steps) == n:
            action()
        return DEFAULT  # of a Mock: the value of what it wraps

    def pieces():
        for piece in PIECES:
            step("write")
            yield piece

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, Mock(wraps=getattr(os, name), side_effect=partial(step, name)))
        replace_file(path, pieces())
    return steps


@pytest.fixture
def each_step(path):
    """For each n: n, and what the file must hold when the n-th step of a save fails."""
    before = content(path)
    steps = save(path)
    assert set(steps) == {*CALLS, "write"} - ({"chmod"} if before is None else set())

    def each():
        for n in range(1, len(steps) + 1):
            path.unlink(missing_ok=True)
            if before is not None:
                path.write_bytes(before)
            yield n, NEW if "replace" in steps[: n - 1] else before

    return each()


def test_everything_is_on_the_disk_before_it_has_the_name(path):
    def check():
        assert (path.parent / others(path)[0]).read_bytes() == NEW

    steps = [name for name in save(path) if name in ("write", "fsync", "replace")]
    assert steps == [*["write"] * len(PIECES), "fsync", "replace", "fsync"]
    assert path.read_bytes() == NEW
    save(path, save(path).index("fsync") + 1, check)


@forks
def test_killed_before_every_step(path, each_step):
    for n, expected in each_step:
        assert children.run(lambda n=n: save(path, n, children.die)) == signal.SIGKILL
        assert content(path) == expected, n
        # An hour later, the next save removes what was left behind.
        for name in others(path):
            os.utime(path.parent / name, (0, time.time() - 4000))
        save(path)
        assert others(path) == []


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), KeyboardInterrupt()])
def test_every_step_may_fail(error, path, each_step):
    for n, expected in each_step:
        with pytest.raises(type(error)) as caught:
            save(path, n, Mock(side_effect=error))
        assert getattr(caught.value, "filename", str(path)) == str(path)
        assert content(path) == expected, n
        assert others(path) == []


def test_full_disk(path):
    resource = pytest.importorskip("resource")
    before = content(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(NEW) // 2, limits[1]))
        with pytest.raises(OSError, match=r"File too large: '.*model\.safetensors'"):
            save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content(path) == before
    assert others(path) == []


@forks
@pytest.mark.parametrize("closed", ["folder", "file"])
def test_read_only(closed):
    def work():
        if os.geteuid() == 0:  # whom permissions do not bind
            os.chown(folder, 65534, -1)
            os.seteuid(65534)
        path.write_bytes(OLD)
        os.chmod(folder if closed == "folder" else path, 0o500)
        with pytest.raises(PermissionError) as caught:
            save(path)
        return caught.value.filename, content(path), others(path)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        assert children.run(work) == (str(path), OLD, [])
        os.chmod(folder, 0o700)


@pytest.mark.parametrize("make", [os.mkdir, getattr(os, "mkfifo", os.mkdir)])
def test_only_regular_files_are_replaced(make, tmp_path):
    make(tmp_path / "a")
    for name, message in (("a", "not a regular file"), ("a/b/c", "No.* directory|Not a directory")):
        with pytest.raises(OSError, match=rf"({message}): '.*{name}'"):
            save(tmp_path / name)
    assert not (tmp_path / "a").is_file()


def test_links_are_followed_and_permissions_stay(path, tmp_path):
    (tmp_path / "usual").write_bytes(OLD)
    (tmp_path / "link").symlink_to(path)
    if path.exists():
        path.chmod(0o640)
        (tmp_path / "usual").chmod(0o640)
    save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert path.read_bytes() == NEW
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("name", ["m", "ü" * 120, ".hidden", "[*?]", b"bytes"])
def test_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in (OLD, NEW):
        replace_file(name, [text])
        with open(name, "rb") as file:
            assert file.read() == text
    assert os.listdir() == [os.fsdecode(name)]


def test_two_at_once(path):
    def slowly():
        yield OLD
        save(path)
        assert path.read_bytes() == NEW
        yield OLD

    replace_file(path, slowly())
    assert path.read_bytes() == OLD + OLD


def test_files_of_others_are_left_alone(path):
    names = {f".{path.name}.tmp", f".{path.name}.01234567.89.tmp", "other", ".x.tmp"}
    for name in names:
        (path.parent / name).write_bytes(OLD)
        os.utime(path.parent / name, (0, 0))
    save(path)
    assert set(others(path)) == names


def test_systems_that_sync_no_folders(path, monkeypatch):
    path.write_bytes(OLD)
    opened = save(path).index("open") + 1
    save(path, opened + 1, Mock(side_effect=OSError(errno.EINVAL, "no")))
    monkeypatch.delattr(os, "O_DIRECTORY", raising=False)  # as on Windows
    save(path, opened, Mock(side_effect=AssertionError("a folder is opened")))
