"""Temporary files under a name that tells them from everybody else's: each is locked for as long
as its process lives, so that what a killed one has left can be told from what another writes."""

import contextlib
import os
import re
import stat
from pathlib import Path

_NAME = re.compile(r"\.hvax-[0-9a-f]{16}\.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that `new_temporary` made."""
    return _NAME.fullmatch(name) is not None


def new_temporary(folder: Path) -> tuple[Path, int]:
    """A new empty file in a folder, with the permissions that the umask leaves, and its descriptor
    for writing."""
    while True:
        path = folder / f".hvax-{os.urandom(8).hex()}.tmp"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        _locked(descriptor, wait=True)
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)  # swept by another process before it was locked


def sweep(folder: Path) -> None:
    """Removes the temporary files of killed processes. Where the file system has no locks nothing
    tells them from those of living ones, and they stay."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_temporary(entry.name):
                with contextlib.suppress(OSError):
                    _remove_if_dead(Path(entry.path))


def _remove_if_dead(path: Path) -> None:
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and _locked(descriptor, wait=False):
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, *, wait: bool) -> bool:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):
        return False
    return True
