"""A plain file that is locked while it is open, and that knows whether it is still in its place."""

import contextlib
import os
import stat
from pathlib import Path

from filelock import lock_descriptor, unlock_descriptor

from hvax.storage.unsupported import NO_LOCKS

REMOVES_OPEN_FILES = os.name != "nt"  # Windows neither removes nor renames a file that is open


class LockFile:
    """An open lock file; `is_locked` is False where the file system has no locks."""

    def __init__(self, path: Path, descriptor: int, is_locked: bool):
        self.path = absolute(path)
        self.is_locked = is_locked
        self._descriptor = descriptor

    def is_in_place(self) -> bool:
        """Whether the file at this path is still the one that is open."""
        return _is_same_file(self._descriptor, self.path)

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        if self._descriptor >= 0:
            unlock_and_close(self._descriptor)
        self._descriptor = -1

    def release_and_remove(self) -> None:
        """Release the lock and remove its file."""
        if REMOVES_OPEN_FILES:
            # Before it is released: afterwards it may be another process's lock.
            self.path.unlink(missing_ok=True)
            self.release()
        else:
            self.release()
            with contextlib.suppress(OSError):  # another process has it open
                self.path.unlink()

    def close_in_child(self) -> None:
        """Close the file in a forked child. To release the lock would release the parent's."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def open_locked(path: Path) -> LockFile:
    """Open a lock file, made where missing, and lock it without waiting.

    Raises `BlockingIOError` where it is locked already, and `ValueError` where the path holds a
    link, a folder or a pipe.
    """
    while True:
        descriptor = _open_plain_file(path)
        try:
            is_locked = _lock_at_once(descriptor)
            if _is_same_file(descriptor, path):
                return LockFile(path, descriptor, is_locked)
        except BaseException:
            os.close(descriptor)
            raise
        # Another process has removed the file after it was opened here: whoever comes next would
        # make and lock a new one.
        unlock_and_close(descriptor)


def unlock_and_close(descriptor: int) -> None:
    """Release the lock of an open file, where it has one, and close it.

    To close it would not do: a child that was forked in between may still have the file open, and
    with it the lock.
    """
    with contextlib.suppress(OSError):  # a file system without locks
        unlock_descriptor(descriptor)
    os.close(descriptor)


def _lock_at_once(descriptor: int) -> bool:
    try:
        if not lock_descriptor(descriptor, blocking=False):
            raise BlockingIOError("the file is locked")
    except OSError as error:
        if isinstance(error, BlockingIOError) or error.errno not in NO_LOCKS:
            raise
        return False
    return True


def _open_plain_file(path: Path) -> int:
    """Open a file for writing, made where missing. A link is not followed, and a pipe not waited
    for."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.is_symlink() or path.is_dir():
        raise _not_plain(path)
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_plain(path)
    return descriptor


def _not_plain(path: Path) -> ValueError:
    what = "a link" if path.is_symlink() else "a folder" if path.is_dir() else "something else"
    return ValueError(
        f"{path} must be a plain file of hvax's own, got {what}. Remove it, or use another folder."
    )


def _is_same_file(descriptor: int, path: Path) -> bool:
    """Whether the file at a path is the one that is open. A new file has another inode, as the
    inode of an open file is not used again."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def absolute(path: Path) -> Path:
    """A path from the root, with links as they are."""
    return Path(os.path.abspath(path))
