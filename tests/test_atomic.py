"""A file is the old one or the new one, whatever fails, and whenever the process is killed."""

import errno
import os
import signal
import tempfile
import threading
from pathlib import Path

import children
import pytest

from fastbp._files import atomic
from fastbp._files.atomic import replace_file

OLD, NEW = b"old " * 100, b"new " * 1000

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is POSIX")
# What a save asks of the system.
CALLS = ("stat", "open", "listdir", "fstat", "chmod", "write", "fsync", "replace", "close")


@pytest.fixture(params=[True, False], ids=["over an old file", "new"])
def path(request, tmp_path):
    path = tmp_path / "model.safetensors"
    if request.param:
        path.write_bytes(OLD)
    return path


def content(path):
    return path.read_bytes() if path.exists() else None


def others(path):
    """Files beside it."""
    return sorted({entry.name for entry in os.scandir(path.parent)} - {path.name})


def watch(patch, n=0, action=None, after=False):
    """Return a list that calls are noted in; before or after the n-th, something happens."""
    calls = []
    for name in CALLS:

        def noted(*arguments, name=name, **named):
            calls.append(name)
            mine = len(calls) == n
            if mine and not after:
                action()
            try:
                return originals[name](*arguments, **named)
            finally:
                if mine and after:
                    action()

        patch.setattr(os, name, noted)
    return calls


originals = {name: getattr(os, name) for name in CALLS}


def save(path):
    replace_file(path, [NEW[:100], NEW[100:]])


def calls_of_a_save(path):
    """What is asked of the system to save over this file, or to a new one."""
    before = content(path)
    with pytest.MonkeyPatch.context() as patch:
        calls = watch(patch)
        save(path)
    put_back(path, before)
    assert set(calls) == set(CALLS) - ({"chmod"} if before is None else set())
    return calls


def put_back(path, before):
    path.unlink(missing_ok=True)
    if before is not None:
        path.write_bytes(before)


def test_pieces_are_written_one_after_the_other(path):
    replace_file(path, [b"", memoryview(NEW)[:7], bytearray(NEW[7:])])
    assert path.read_bytes() == NEW
    assert others(path) == []


def test_large_pieces(path, monkeypatch):
    monkeypatch.setattr(atomic, "PIECE", 1000)
    replace_file(path, [NEW])
    assert path.read_bytes() == NEW


def test_short_writes(path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda file, piece, write=os.write: write(file, piece[:7]))
    replace_file(path, [NEW])
    assert path.read_bytes() == NEW


def test_everything_is_on_the_disk_before_it_has_the_name(path):
    calls = calls_of_a_save(path)
    assert [call for call in calls if call in ("write", "fsync", "replace")] == [
        *("write", "write", "fsync", "replace", "fsync"),
    ]


@forks
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_call(after, path):
    before, calls = content(path), calls_of_a_save(path)
    for n in range(1, len(calls) + 1):

        def work(n=n):
            watch(pytest.MonkeyPatch(), n, children.die, after)
            save(path)

        assert children.run(work) == signal.SIGKILL
        made = calls[: n if after else n - 1]
        assert content(path) == (NEW if "replace" in made else before), made
        # What has been left behind does not outlive the next save.
        save(path)
        assert others(path) == []
        put_back(path, before)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_every_call_may_fail(code, path):
    def fail():
        raise OSError(code, os.strerror(code))

    before, calls = content(path), calls_of_a_save(path)
    for n, name in enumerate(calls, start=1):
        with pytest.MonkeyPatch.context() as patch:
            # a file is closed also where an error is told of
            watch(patch, n, fail, after=name == "close")
            with pytest.raises(OSError, match=os.strerror(code)) as caught:
                save(path)
        assert caught.value.errno == code
        assert caught.value.filename == str(path)
        assert content(path) == (NEW if "replace" in calls[: n - 1] else before), calls[:n]
        assert others(path) == []
        put_back(path, before)


def test_interrupted_at_every_call(path):
    def interrupt():
        raise KeyboardInterrupt

    before, calls = content(path), calls_of_a_save(path)
    for n in range(1, len(calls) + 1):
        with pytest.MonkeyPatch.context() as patch:
            watch(patch, n, interrupt, after=True)
            with pytest.raises(KeyboardInterrupt):
                save(path)
        assert content(path) == (NEW if "replace" in calls[:n] else before), calls[:n]
        put_back(path, before)


def test_full_disk(path):
    """A real one, as far as a process can make one: files may not be so long."""
    resource = pytest.importorskip("resource")
    before = content(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(NEW) // 2, limits[1]))
        with pytest.raises(OSError, match=r"model\.safetensors") as caught:
            replace_file(path, [NEW])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    assert content(path) == before
    assert others(path) == []


def test_folder_that_is_not_there(tmp_path):
    path = tmp_path / "missing" / "model.safetensors"
    with pytest.raises(FileNotFoundError) as caught:
        replace_file(path, [NEW])
    assert caught.value.filename == str(path)


NOBODY = 65534


def as_somebody(work):
    """Do it as a user whom permissions bind, which they do not the superuser."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    return work()


@pytest.fixture
def own_folder():
    """A folder of that user's, where it can be got at."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, -1)
        yield Path(folder)
        os.chmod(folder, 0o700)


@forks
@pytest.mark.parametrize("closed", ["folder", "file"])
def test_read_only(closed, own_folder):
    path = own_folder / "model.safetensors"

    def work():
        path.write_bytes(OLD)
        os.chmod(own_folder if closed == "folder" else path, 0o500)
        with pytest.raises(PermissionError) as caught:
            replace_file(path, [NEW])
        return caught.value.filename, content(path), others(path)

    assert children.run(lambda: as_somebody(work)) == (str(path), OLD, [])


def test_folder_in_its_place(path):
    path.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(path, [NEW])
    assert path.is_dir()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX")
def test_what_is_no_file_is_not_replaced(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        replace_file(path, [NEW])
    assert path.is_fifo()


def test_links_are_followed(path, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path)
    replace_file(link, [NEW])
    assert link.is_symlink()
    assert path.read_bytes() == NEW


def test_permissions_stay(path):
    path.write_bytes(OLD)
    path.chmod(0o640)
    replace_file(path, [NEW])
    assert path.stat().st_mode & 0o777 == 0o640


def test_new_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_bytes(OLD)
    replace_file(tmp_path / "new", [NEW])
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("name", ["m", "ü" * 120, ".hidden", "a b", "[*?]", b"bytes"])
def test_names(name, tmp_path):
    path = os.path.join(os.fsencode(tmp_path) if isinstance(name, bytes) else tmp_path, name)
    for text in (OLD, NEW):
        replace_file(path, [text])
        with open(path, "rb") as file:
            assert file.read() == text
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("path", [3, None, 1.5])
def test_no_path(path):
    with pytest.raises(TypeError, match="expected str"):
        replace_file(path, [NEW])


def test_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    replace_file("m", [NEW])
    assert (tmp_path / "m").read_bytes() == NEW


def test_two_at_once(path):
    """The second finds the temporary file of the first, sees that it is in use, and leaves it."""
    begun, go_on = threading.Event(), threading.Event()

    def slowly():
        yield OLD
        begun.set()
        go_on.wait(20)
        yield OLD

    first = threading.Thread(target=replace_file, args=(path, slowly()))
    first.start()
    assert begun.wait(20)
    replace_file(path, [NEW])
    assert path.read_bytes() == NEW
    assert len(others(path)) == 1
    go_on.set()
    first.join(20)
    assert path.read_bytes() == OLD + OLD
    assert others(path) == []


def test_taken_for_left_behind_before_it_is_locked(path, monkeypatch):
    """It is made a second time."""

    def lock(file, original=atomic._lock):
        monkeypatch.setattr(atomic, "_lock", original)
        for name in others(path):
            os.unlink(path.parent / name)
        return original(file)

    path.unlink(missing_ok=True)
    monkeypatch.setattr(atomic, "_lock", lock)
    replace_file(path, [NEW])
    assert path.read_bytes() == NEW
    assert others(path) == []


def left_behind(path):
    """A file as a crash in the middle of a save leaves it."""

    def stop(*arguments):
        (name,) = set(others(path)) - before
        os.rename(path.parent / name, path.parent / "kept")
        raise KeyboardInterrupt(name)

    before = set(others(path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", stop)
        with pytest.raises(KeyboardInterrupt) as caught:
            replace_file(path, [NEW])
    os.rename(path.parent / "kept", path.parent / str(caught.value))


def test_files_of_others_are_left_alone(path):
    names = {f".{path.name}.tmp", f".{path.name}.01234567.89.tmp", "other", ".x.tmp"}
    for name in names:
        (path.parent / name).write_bytes(OLD)
    left_behind(path)
    assert len(others(path)) == 5
    replace_file(path, [NEW])
    assert set(others(path)) == names


def test_left_behind_without_permission(path, monkeypatch):
    """Somebody else's, perhaps: it does not keep anybody from saving."""
    left_behind(path)

    def refuse(path, flags, *mode, call=os.open):
        if str(path).endswith(".tmp") and not flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "no")
        return call(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    replace_file(path, [NEW])
    assert path.read_bytes() == NEW
    assert len(others(path)) == 1


def test_file_system_without_locks(path, monkeypatch):
    """Nobody can tell what is left behind, so nothing is removed."""
    fcntl = pytest.importorskip("fcntl")
    left_behind(path)

    def refuse(file, how):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    replace_file(path, [NEW])
    assert path.read_bytes() == NEW
    assert len(others(path)) == 1


def test_file_system_that_syncs_no_folders(path, monkeypatch):
    def fsync(file, call=os.fsync):
        if os.path.isdir(f"/proc/self/fd/{file}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        call(file)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("cannot tell what is synced")
    monkeypatch.setattr(os, "fsync", fsync)
    replace_file(path, [NEW])
    assert path.read_bytes() == NEW


def test_windows(path, monkeypatch):
    """No locks, but files in use cannot be removed; folders cannot be opened."""
    left_behind(path)
    monkeypatch.setattr(atomic, "fcntl", None)
    replace_file(path, [NEW])
    assert path.read_bytes() == NEW
    assert others(path) == []


def test_errors_without_a_number_are_left_alone(path, monkeypatch):
    def fail(*arguments):
        raise OSError("something else")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"^something else$"):
        replace_file(path, [NEW])
    assert others(path) == []
