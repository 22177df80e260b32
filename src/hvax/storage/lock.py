"""Folders that one process holds against every other, and that it writes to for as long as the
folder at their path is still the one that it holds."""

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hvax.exceptions import WeakFileSystem, warn
from hvax.storage.refusals import NO_LOCKS, is_refusal

LOCK = ".lock"


class FolderLost(ValueError):
    """The folder that a run wrote to is gone, or another stands in its place."""


class Held:
    """A folder that this process holds; `covers` is the folder whose files it may write."""

    def __init__(self, folder: Path, covers: Path, descriptor: int):
        self.folder = folder
        self.covers = _plain(covers)
        self.told: set[str] = set()  # what the file system refuses, said once
        self.lock, self._descriptor = _plain(folder / LOCK), descriptor
        self.thread = threading.get_ident()

    def close(self) -> None:
        """Lets go of the folder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def check(self) -> None:
        """Raises `FolderLost` where the folder at this path is no longer the one that is held."""
        if not _is_same(self._descriptor, self.lock):
            raise FolderLost(
                f"{self.folder} must stay in its place while a run writes to it, but it was "
                "removed, moved or begun anew by another process. This run ends here and writes "
                "nothing more. Start it again in another run directory."
            )


_HELD: list[Held] = []


@contextmanager
def held(folder: Path, *, covers: Path | None = None) -> Iterator[Held]:
    """Holds a folder against every other process; a crash, a kill too, lets go of it.

    For as long as it is held, nothing is written below `covers` (the folder itself by default)
    where another folder has taken the place of this one: `check_held` then raises.

    Raises `ValueError` where another process holds it, or another `held` of this one, and for a
    lock that is no plain file. Where the file system has no locks nothing is held, with a warning.
    """
    descriptor, locked = _lock(folder)
    own = Held(folder, covers or folder, descriptor)
    own.told = next((outer.told for outer in _covering(folder)), own.told)
    _HELD.append(own)
    try:
        if not locked:
            warn_of_refusal(
                folder,
                "locks",
                "nothing keeps another process from writing to the same run directory. See to it "
                "that one run at a time uses it",
            )
        yield own
    finally:
        own.close()
        _HELD[:] = [other for other in _HELD if other is not own]


def check_held(path: Path) -> None:
    """To be called before anything is written at `path`: raises `FolderLost` where that lies in a
    folder that this process holds, and another folder has taken its place."""
    for own in _covering(path):
        own.check()


def warn_of_refusal(folder: Path, what: str, consequence: str) -> None:
    """Warns of what a file system refuses, once for each run directory that is held."""
    told: set[str] = next((own.told for own in _covering(folder)), set())
    if what not in told:
        told.add(what)
        warn(
            WeakFileSystem,
            f"the file system of {folder} refuses {what}: {consequence}.",
        )


def _covering(path: Path) -> list[Held]:
    """What is held around a path, the outermost first. Of one lock the newest counts, of this
    thread where it has one: a run may have begun anew in the folder that an outer one has lost."""
    plain, here = _plain(path), threading.get_ident()
    found: dict[Path, Held] = {}
    for own in _HELD:
        known = found.get(own.lock)
        newer = known is None or own.thread == here or known.thread != here
        if newer and plain.is_relative_to(own.covers):
            found[own.lock] = own
    return sorted(found.values(), key=lambda own: len(own.covers.parts))


def _plain(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _lock(folder: Path) -> tuple[int, bool]:
    """The descriptor of a folder's lock, and whether the file system locks at all."""
    path = folder / LOCK
    while True:
        descriptor = _opened(path)
        try:
            locked = _flock(descriptor)
        except BlockingIOError as error:
            os.close(descriptor)
            raise ValueError(
                f"another process is writing to {folder}. Wait for its end, or use another folder."
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        if _is_same(descriptor, path):
            return descriptor, locked
        os.close(descriptor)  # the one who held it has removed the folder in between


def _opened(path: Path) -> int:
    """A lock's file, made where missing. A link is not followed, and a pipe not waited for."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.is_symlink() or path.is_dir():
        raise _no_lock(path)
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_lock(path)
    return descriptor


def _no_lock(path: Path) -> ValueError:
    what = "a link" if path.is_symlink() else "a folder" if path.is_dir() else "something else"
    return ValueError(
        f"{path} must be a plain file of hvax's own, got {what}. Remove it, or use another folder."
    )


def _flock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # no POSIX
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if is_refusal(error, NO_LOCKS):
            return False
        raise
    return True


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether the file at a path is the one that is open: a new one has another inode, as the old
    one's is kept for as long as it is open."""
    try:
        there = os.lstat(path)
    except OSError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def _let_go_in_a_child() -> None:
    """A forked child, a worker that reads data for example, must not keep the lock of a parent that
    was killed."""
    for own in _HELD:
        own.close()
    _HELD.clear()


if at_fork := getattr(os, "register_at_fork", None):  # POSIX
    at_fork(after_in_child=_let_go_in_a_child)
