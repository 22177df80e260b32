"""Files that are written whole or not at all, and folders that one process holds."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside `path`, flushes to disk, and renames: at every moment `path` holds either
    what it held before or all of `content`."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(path)  # a full disk's error names no file
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Makes renames inside a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def json_object(content: bytes) -> dict[str, Any]:
    """The JSON object in a file. Raises `ValueError` where there is none."""
    try:
        record = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("it holds no JSON object")
    return record


def sealed(record: Mapping[str, Any]) -> bytes:
    """JSON of a record, with a checksum of its content."""
    whole = {**record, _CHECKSUM: _checksum(record)}
    return json.dumps(whole, indent=1).encode()


def unsealed(content: bytes) -> dict[str, Any]:
    """The record that `sealed` was given. Raises `ValueError` where it is damaged."""
    record = json_object(content)
    if record.pop(_CHECKSUM, None) != _checksum(record):
        raise ValueError("its checksum is not that of what it holds")
    return record


_CHECKSUM = "checksum"


def _checksum(record: Mapping[str, Any]) -> str:
    plain = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()


LOCK = ".lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds a folder against every other process; a crash, a kill too, lets go of it.

    Raises `ValueError` where another process holds it, or another `held` of this one. POSIX only.
    """
    import fcntl

    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"another process is writing to {folder}. Wait for its end, or use another folder."
            ) from error
        yield


def dumps(record: Any, *, indent: int | None = None) -> str:
    """JSON that every reader takes: NaN and infinity, which JSON does not have, become null."""

    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(record), indent=indent, default=str, allow_nan=False)
