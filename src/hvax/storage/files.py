"""Files that are written whole or not at all, and JSON with a checksum."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hvax.storage.lock import LOCK as LOCK
from hvax.storage.lock import check_held, warn_of_refusal
from hvax.storage.lock import held as held
from hvax.storage.refusals import NO_FLUSH, NO_FOLDER_FLUSH, is_refusal
from hvax.storage.temporary import new_temporary, sweep


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside `path`, flushes to disk, and renames: at every moment `path` holds either
    what it held before or all of `content`. What killed processes left in the folder, half
    written under a temporary name, is removed.

    `OSError` names the file. Raises `FolderLost` where the folder is held and no longer in place.
    """
    check_held(path)
    try:
        temporary, descriptor = new_temporary(path.parent)
    except OSError as error:
        raise _of(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            _flush(file.fileno(), path.parent)
            check_held(path)  # a slow disk may have taken its time
            os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _of(path, error) from error
        raise
    flush_folder(path.parent)
    sweep(path.parent)


def append(path: Path, text: str) -> None:
    """Adds text to the end of a file, made where missing; a link is not followed."""
    check_held(path)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        with os.fdopen(os.open(path, flags, 0o666), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise _of(path, error) from error


def flush_folder(folder: Path) -> None:
    """Makes renames inside a folder survive a loss of power, where the file system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not is_refusal(error, NO_FOLDER_FLUSH):
            raise
        warn_of_refusal(
            folder,
            "to flush a folder to disk",
            "after a loss of power the last files written may be missing",
        )


def _flush(descriptor: int, folder: Path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not is_refusal(error, NO_FLUSH):
            raise
        warn_of_refusal(
            folder, "to flush a file to disk", "after a loss of power a file may be cut short"
        )


def _of(path: Path, error: OSError) -> OSError:
    """The same error about the file that was to be written: a full disk's names none."""
    if error.errno is None:
        return error
    return OSError(error.errno, error.strerror, str(path))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that hvax wrote. Raises `ValueError`, which names the file, where it is
    damaged."""
    try:
        return json_object(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def json_object(content: bytes, *, constants: bool = False) -> dict[str, Any]:
    """The JSON object in a file; with `constants` NaN and infinity may stand in it.

    Raises `ValueError` where there is none, and for numbers that neither 64-bit integers nor
    floats hold: hvax writes none, and the first sum with one would fail.
    """
    try:
        record = json.loads(
            content,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=float if constants else _constant,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("it holds no JSON object")
    return record


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"it holds an integer of {len(text.lstrip('-'))} digits")
    return int(text)


def _float(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"it holds {text[:20]}, which no float holds")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"it holds {text}, which is no JSON")


def with_checksum(record: Mapping[str, Any]) -> bytes:
    """JSON of a record, with a checksum of its content."""
    whole = {**record, _CHECKSUM: _checksum(record)}
    return json.dumps(whole, indent=1).encode()


def verify_checksum(content: bytes) -> dict[str, Any]:
    """The record that `with_checksum` was given. Raises `ValueError` where it is damaged."""
    record = json_object(content, constants=True)
    if record.pop(_CHECKSUM, None) != _checksum(record):
        raise ValueError("its checksum is not that of what it holds")
    return record


_CHECKSUM = "checksum"


def _checksum(record: Mapping[str, Any]) -> str:
    plain = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()


def dumps(record: Any, *, indent: int | None = None) -> str:
    """JSON that every reader takes: NaN and infinity, which JSON does not have, become null."""

    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(record), indent=indent, default=str, allow_nan=False)
