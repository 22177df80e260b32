"""Nothing is written to a locked folder that was replaced; a file system without locks or flushes
gives one warning."""

import errno
import fcntl
import os
import shutil
import stat
import warnings

import pytest

from hvax.exceptions import WeakFileSystem
from hvax.storage import lock_file
from hvax.storage.files import append, write_atomically
from hvax.storage.lock import LOCK_FILE, FolderReplaced, check_in_place, exclusive_lock


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# A folder that is no longer the one that was locked

GONE = {
    "removed": lambda run: shutil.rmtree(run),
    "moved": lambda run: run.rename(run.with_name("elsewhere")),
    "begun anew": lambda run: (shutil.rmtree(run), run.mkdir(), (run / LOCK_FILE).touch()),
    "exchanged": lambda run: (run.rename(run.with_name("old")), run.mkdir()),
    "lock replaced": lambda run: ((run / LOCK_FILE).unlink(), (run / LOCK_FILE).touch()),
    "a link to where it went": lambda run: (
        run.rename(run.with_name("old")),
        run.symlink_to("old"),
        (run / LOCK_FILE).rename(run / "lock"),
        (run / LOCK_FILE).symlink_to("lock"),
    ),
}


@pytest.mark.parametrize("how", GONE)
@pytest.mark.parametrize("writes", [write_atomically, append])
def test_nothing_is_written_where_another_folder_stands(how, writes, tmp_path):
    """Also deep below it."""
    run = tmp_path / "run"
    run.mkdir()
    with exclusive_lock(run):
        writes(run / "before", b"x" if writes is write_atomically else "x")
        GONE[how](run)
        there = sorted(tmp_path.rglob("*"))
        for path in (run / "file", run / "model" / "file"):
            with pytest.raises(FolderReplaced, match=r"run must stay in its place .* ends here"):
                writes(path, b"new" if writes is write_atomically else "new")
        assert sorted(tmp_path.rglob("*")) == there
    check_in_place(run / "file")  # nothing is held any more


def test_a_folder_moves_during_a_write(tmp_path, monkeypatch):
    """A flush may take seconds: the rename then comes too late."""
    run, fsync = tmp_path / "run", os.fsync
    run.mkdir()

    def slow(descriptor):
        monkeypatch.setattr(os, "fsync", fsync)
        GONE["begun anew"](run)
        fsync(descriptor)

    with exclusive_lock(run):
        monkeypatch.setattr(os, "fsync", slow)
        with pytest.raises(FolderReplaced):
            write_atomically(run / "file", b"new")
    assert names(run) == [LOCK_FILE]


def test_what_is_held_covers_the_folder_around_it(tmp_path):
    inner = tmp_path / "run" / "checkpoints"
    inner.mkdir(parents=True)
    with exclusive_lock(inner, protects=tmp_path / "run"):
        write_atomically(tmp_path / "beside", b"x")
        shutil.rmtree(inner)
        with pytest.raises(FolderReplaced):
            append(tmp_path / "run" / "metrics.jsonl", "x")
        write_atomically(tmp_path / "beside", b"y")


def test_a_folder_that_was_begun_anew_can_be_held_beside_the_old(tmp_path):
    """As its lock is another one: that is why the first must look before it writes."""
    run = tmp_path / "run"
    run.mkdir()
    with exclusive_lock(run):
        with pytest.raises(ValueError, match="another process is writing to"), exclusive_lock(run):
            pass
        GONE["begun anew"](run)
        with exclusive_lock(run) as second:
            second.check_in_place()
        with pytest.raises(FolderReplaced):
            check_in_place(run / "x")


OTHERS = {
    "link": lambda path: path.symlink_to(path.parent / "precious"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_lock_that_is_no_plain_file_is_refused(what, tmp_path):
    """A link is not followed, and a pipe is not waited for."""
    (tmp_path / "precious").write_text("mine")
    OTHERS[what](tmp_path / LOCK_FILE)
    before = names(tmp_path)
    words = r"\.lock must be a plain file of hvax's own, got"
    with pytest.raises(ValueError, match=words), exclusive_lock(tmp_path):
        pass
    assert names(tmp_path) == before and (tmp_path / "precious").read_text() == "mine"


def test_a_forked_child_does_not_keep_the_lock(tmp_path, monkeypatch):
    """A worker that reads data outlives a parent that was killed: its file is closed then, and the
    lock not released."""
    monkeypatch.setattr(lock_file, "unlock_descriptor", lambda _: None)
    (read, write), (begun, begin) = os.pipe(), os.pipe()
    with exclusive_lock(tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads
            child = os.fork()
        if child == 0:
            os.close(write)
            os.write(begin, b"x")
            os.read(read, 1)  # until the parent says so
            os._exit(0)
        os.read(begun, 1)
    try:
        with exclusive_lock(tmp_path):
            pass
    finally:
        os.write(write, b"x")
        os.waitpid(child, 0)
        for descriptor in (read, write, begun, begin):
            os.close(descriptor)


# File systems


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_without_locks_a_run_goes_on_with_one_warning(number, tmp_path, monkeypatch):
    def none(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    words = "refuses locks: nothing keeps another process"
    with (
        pytest.warns(WeakFileSystem, match=words) as told,
        exclusive_lock(tmp_path),
        exclusive_lock(tmp_path),
    ):
        write_atomically(tmp_path / "file", b"x")
    assert len(told) == 1 and names(tmp_path) == [LOCK_FILE, "file"]
    # What replaces the folder is seen all the same.
    run = tmp_path / "run"
    run.mkdir()
    with pytest.warns(WeakFileSystem), pytest.raises(FolderReplaced), exclusive_lock(run):
        GONE["begun anew"](run)
        append(run / "x", "x")


def test_an_error_that_is_no_refusal_is_raised(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for module, name in ((fcntl, "flock"), (os, "fsync")):
        with monkeypatch.context() as patched, pytest.raises(OSError, match="Input/output error"):
            patched.setattr(module, name, broken)
            with exclusive_lock(tmp_path):
                write_atomically(tmp_path / "file", b"x")
    assert "file" not in names(tmp_path)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
@pytest.mark.parametrize("which", ["file", "folder"])
def test_without_flushes_files_are_written_with_one_warning(which, number, tmp_path, monkeypatch):
    fsync = os.fsync

    def refused(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if is_folder == (which == "folder"):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    words = f"refuses to flush a {which} to disk"
    with pytest.warns(WeakFileSystem, match=words) as told, exclusive_lock(tmp_path):
        for content in (b"one", b"two"):
            write_atomically(tmp_path / "name", content)
    assert (tmp_path / "name").read_bytes() == b"two" and len(told) == 1


def test_a_folder_that_may_not_be_read_is_written_to(tmp_path, monkeypatch):
    opened = os.open

    def refused(path, flags, *mode):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", refused)
    with pytest.warns(WeakFileSystem, match="flush a folder"):
        write_atomically(tmp_path / "name", b"x")
    assert (tmp_path / "name").read_bytes() == b"x"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o007, 0o660)])
def test_the_umask_is_honored(umask, mode, tmp_path, monkeypatch):
    """And nothing asks for a chmod, which some file systems refuse."""
    monkeypatch.setattr(os, "chmod", lambda *_: pytest.fail("chmod"))
    before = os.umask(umask)
    try:
        with exclusive_lock(tmp_path):
            write_atomically(tmp_path / "whole", b"x")
            append(tmp_path / "log", "x")
    finally:
        os.umask(before)
    for name in (LOCK_FILE, "whole", "log"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode, name


@pytest.mark.parametrize("writes", [write_atomically, append])
@pytest.mark.parametrize(
    ("name", "says"),
    [("n" * 300, "File name too long"), ("no/file", "No such file"), ("", "Is a directory")],
)
def test_an_error_names_the_file_and_no_other(writes, name, says, tmp_path):
    path = tmp_path / name
    with pytest.raises(OSError, match=says) as refused:
        writes(path, b"x" if writes is write_atomically else "x")
    assert refused.value.filename == str(path) and refused.value.filename2 is None
    assert names(tmp_path) == []


def test_a_name_as_long_as_the_file_system_takes_is_written(tmp_path):
    write_atomically(tmp_path / ("n" * 255), b"x")
    assert names(tmp_path) == ["n" * 255]


def test_a_log_is_not_written_through_a_link(tmp_path):
    (tmp_path / "theirs").write_text("mine")
    (tmp_path / "log").symlink_to("theirs")
    with pytest.raises(OSError, match="log"):
        append(tmp_path / "log", "x")
    assert (tmp_path / "theirs").read_text() == "mine"


def test_a_lock_is_released_though_a_child_has_its_file_open(tmp_path):
    """Between fork and exec, which no hook of Python's sees."""
    lock = lock_file.open_locked(tmp_path / LOCK_FILE)
    other = os.dup(lock._descriptor)
    lock.release()
    lock_file.open_locked(tmp_path / LOCK_FILE).release()
    os.close(other)


@pytest.mark.parametrize("removes_open_files", [True, False])
def test_a_lock_is_released_and_its_file_removed(removes_open_files, tmp_path, monkeypatch):
    """Also as on Windows, where an open file cannot be removed."""
    monkeypatch.setattr(lock_file, "REMOVES_OPEN_FILES", removes_open_files)
    lock = lock_file.open_locked(tmp_path / LOCK_FILE)
    with pytest.raises(BlockingIOError):
        lock_file.open_locked(tmp_path / LOCK_FILE)
    lock.release_and_remove()
    assert names(tmp_path) == []
    lock_file.open_locked(tmp_path / LOCK_FILE).release()
