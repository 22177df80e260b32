"""JSON as hvax writes it and reads it back, with a checksum where a file must not be edited."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CHECKSUM = "checksum"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that hvax wrote. Raises `ValueError`, which names the file, where it is
    damaged."""
    try:
        return json_object(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def json_object(content: bytes, *, non_finite: bool = False) -> dict[str, Any]:
    """The JSON object in a file's content.

    With `non_finite` it may hold NaN and infinity, which Python writes though JSON has none.

    Raises `ValueError` where there is no object, and for numbers that neither 64-bit integers nor
    floats hold: hvax writes none, and the first sum with one would fail.
    """
    try:
        record = json.loads(
            content,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=float if non_finite else _reject_constant,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("it holds no JSON object")
    return record


def dumps(record: Any, *, indent: int | None = None) -> str:
    """JSON that every reader takes: NaN and infinity, which JSON does not have, become null."""

    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(record), indent=indent, default=str, allow_nan=False)


def with_checksum(record: Mapping[str, Any]) -> bytes:
    """The JSON of a record and of a checksum of its content; NaN and infinity stay."""
    whole = {**record, _CHECKSUM: _checksum(record)}
    return json.dumps(whole, indent=1).encode()


def verify_checksum(content: bytes) -> dict[str, Any]:
    """The record that `with_checksum` was given. Raises `ValueError` where it is damaged."""
    record = json_object(content, non_finite=True)
    try:
        is_whole = record.pop(_CHECKSUM, None) == _checksum(record)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not is_whole:
        raise ValueError("its checksum is not that of what it holds")
    return record


def _checksum(record: Mapping[str, Any]) -> str:
    plain = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"it holds an integer of {len(text.lstrip('-'))} digits")
    return int(text)


def _float(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"it holds {text[:20]}, which no float holds")
    return value


def _reject_constant(text: str) -> float:
    raise ValueError(f"it holds {text}, which is no JSON")
