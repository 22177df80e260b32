"""Temporary files whose owner can be seen to live.

Each is locked for as long as its process lives, so that what a killed process has left can be told
from what another one is writing.
"""

import contextlib
import os
import re
import stat
import time
from pathlib import Path

from filelock import lock_descriptor

from hvax.storage.lock_file import REMOVES_OPEN_FILES, unlock_and_close

_NAME = re.compile(r"\.hvax-[0-9a-f]{16}\.tmp")
_YOUNG = 60.0  # seconds


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that `create_temporary` made."""
    return _NAME.fullmatch(name) is not None


def create_temporary(folder: Path) -> tuple[Path, int]:
    """A new empty file in a folder, with the permissions that the umask leaves, and its descriptor
    for writing."""
    while True:
        path = folder / f".hvax-{os.urandom(8).hex()}.tmp"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks
            lock_descriptor(descriptor, poll_interval=0.001)
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)  # another process took it for a dead one's before it was locked


def remove_stale_temporaries(folder: Path) -> None:
    """Remove the temporary files of killed processes. Where the file system has no locks nothing
    tells them from those of living ones, and they stay."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_temporary(entry.name):
                with contextlib.suppress(OSError):
                    _remove_if_stale(Path(entry.path))


def _remove_if_stale(path: Path) -> None:
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or not lock_descriptor(descriptor, blocking=False):
            return
        if REMOVES_OPEN_FILES:
            path.unlink(missing_ok=True)
            return
    finally:
        unlock_and_close(descriptor)
    # There a file is closed, and so unlocked, for the moment before it is renamed into its place.
    if time.time() - found.st_mtime > _YOUNG:
        path.unlink(missing_ok=True)
