"""A folder that one process locks against every other.

The lock is an operating system's lock on the file `.lock` in the folder, so a process that crashes
or is killed has released it. The same open file tells whether the folder is still in its place:
where it was removed, moved or replaced, nothing more is written to it.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from hvax.exceptions import WeakFileSystem, warn
from hvax.storage.lock_file import LockFile, absolute, open_locked

LOCK_FILE = ".lock"


class FolderReplaced(ValueError):
    """A folder that this process has locked was removed, moved or replaced by another process."""


class FolderLock:
    """The lock of a folder, as `exclusive_lock` yields it.

    `protects` is the folder below which nothing is written once the locked folder was replaced.
    """

    def __init__(self, folder: Path, protects: Path, file: LockFile):
        self.folder = folder
        self.protects = absolute(protects)
        self.file = file
        self.thread = threading.get_ident()
        self.warned_of: set[str] = set()  # features that the file system lacks

    def check_in_place(self) -> None:
        """Raise `FolderReplaced` where the folder at this path is no longer the locked one."""
        if not self.file.is_in_place():
            raise FolderReplaced(
                f"{self.folder} must stay in its place while a run writes to it, but it was "
                "removed, moved or begun anew by another process. This run ends here and writes "
                "nothing more. Start it again in another run directory."
            )


_LOCKS: list[FolderLock] = []  # of this process


@contextlib.contextmanager
def exclusive_lock(folder: Path, *, protects: Path | None = None) -> Iterator[FolderLock]:
    """Lock a folder against every other process, and against other locks of this one.

    Until the lock is released, `check_in_place` raises for every path below `protects` (by default
    the folder itself) once another folder has taken the place of the locked one.

    Raises `ValueError` where another process has the lock, and where `.lock` is not a plain file.
    Where the file system has no locks, warns with `WeakFileSystem` and goes on without.
    """
    try:
        file = open_locked(folder / LOCK_FILE)
    except BlockingIOError as error:
        raise ValueError(
            f"another process is writing to {folder}. Wait for its end, or use another folder."
        ) from error
    lock = FolderLock(folder, protects or folder, file)
    lock.warned_of = next((outer.warned_of for outer in _locks_around(folder)), lock.warned_of)
    _LOCKS.append(lock)
    try:
        if not file.is_locked:
            warn_unsupported(
                folder,
                "locks",
                "nothing keeps another process from writing to the same run directory. See to it "
                "that one run at a time uses it",
            )
        yield lock
    finally:
        file.release()
        _LOCKS[:] = [other for other in _LOCKS if other is not lock]


def check_in_place(path: Path) -> None:
    """Call this before anything is written at `path`: it raises `FolderReplaced` where the path
    lies in a folder that this process has locked, and that was replaced since."""
    for lock in _locks_around(path):
        lock.check_in_place()


def warn_unsupported(folder: Path, feature: str, consequence: str) -> None:
    """Warn that a folder's file system lacks a feature, once for each locked run directory."""
    warned_of: set[str] = next((lock.warned_of for lock in _locks_around(folder)), set())
    if feature not in warned_of:
        warned_of.add(feature)
        warn(WeakFileSystem, f"the file system of {folder} refuses {feature}: {consequence}.")


def _locks_around(path: Path) -> list[FolderLock]:
    """The locks that protect a path, that of the outermost folder first.

    A lock file counts once, although two locks of it may be open: a run may have begun again in the
    folder that an outer run has lost. The newest counts, or this thread's own.
    """
    plain, here = absolute(path), threading.get_ident()
    found: dict[Path, FolderLock] = {}
    for lock in _LOCKS:
        known = found.get(lock.file.path)
        newer = known is None or lock.thread == here or known.thread != here
        if newer and plain.is_relative_to(lock.protects):
            found[lock.file.path] = lock
    return sorted(found.values(), key=lambda lock: len(lock.protects.parts))


def _close_in_child() -> None:
    """A forked child, a worker that reads data for example, must not keep the lock of a parent that
    was killed."""
    for lock in _LOCKS:
        lock.file.close_in_child()
    _LOCKS.clear()


if register_at_fork := getattr(os, "register_at_fork", None):  # not on Windows
    register_at_fork(after_in_child=_close_in_child)
