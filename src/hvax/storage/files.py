"""Files that are written whole or not at all."""

import os
from pathlib import Path

from hvax.storage.lock import check_in_place, warn_unsupported
from hvax.storage.lock_file import REMOVES_OPEN_FILES
from hvax.storage.temporary import create_temporary, remove_stale_temporaries
from hvax.storage.unsupported import NO_FOLDER_FSYNC, NO_FSYNC


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at every moment it holds either its old content or all of the new.

    The content is written to a temporary file beside `path`, flushed to disk, and renamed. What
    killed processes have left half written in the folder is removed.

    Raises `OSError`, which names the file, and `FolderReplaced` where the file lies in a locked
    folder that another process has removed, moved or replaced.
    """
    check_in_place(path)
    try:
        temporary, descriptor = create_temporary(path.parent)
    except OSError as error:
        raise _naming(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            _fsync(file.fileno(), path.parent)
            if not REMOVES_OPEN_FILES:
                file.close()
            check_in_place(path)  # the flush may have taken seconds
            os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _naming(path, error) from error
        raise
    fsync_folder(path.parent)
    remove_stale_temporaries(path.parent)


def append(path: Path, text: str) -> None:
    """Add text to the end of a file, made where missing; a link is not followed.

    Raises what `write_atomically` raises.
    """
    check_in_place(path)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags, 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        raise _naming(path, error) from error


def fsync_folder(folder: Path) -> None:
    """Make the renames in a folder survive a loss of power, where the system can do that.

    On Windows a folder cannot be opened for this. Elsewhere a file system that cannot do it is
    warned of.
    """
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_FSYNC:
            raise
        warn_unsupported(
            folder,
            "to flush a folder to disk",
            "after a loss of power the last files written may be missing",
        )


def _fsync(descriptor: int, folder: Path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FSYNC:
            raise
        warn_unsupported(
            folder, "to flush a file to disk", "after a loss of power a file may be cut short"
        )


def _naming(path: Path, error: OSError) -> OSError:
    """The same error about the file that was to be written: that of a full disk names none, and
    that of a rename names the temporary file."""
    if error.errno is None:
        return error
    return OSError(error.errno, error.strerror, str(path))
