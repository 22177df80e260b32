"""The format of a JSON file: its version, the fields it must have, and the check of both."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvax.storage.json_files import json_object, verify_checksum

_MAX_BYTES = 2**30  # the manifest of a large model has some hundred thousand


class NewerFormat(ValueError):
    """A file was written by a later version of hvax."""


@dataclass(frozen=True)
class Format:
    """What one kind of JSON file holds: `format`, which is `version`, and `fields` by type."""

    version: int
    fields: Mapping[str, type]
    has_checksum: bool = True

    def read(self, path: Path) -> dict[str, Any]:
        """The record in a file of this format, with its `format`.

        Raises `NewerFormat` for a later version, and `ValueError`, which names the file, where it
        is damaged or of another program; `OSError` where it cannot be read.
        """
        try:
            record = self._parse(path)
            version = record.get("format")
            if version == self.version:
                check_fields(record, self.fields)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}.") from error
        if type(version) is not int or version < self.version:
            raise ValueError(
                f"{path} is damaged, or not a file that hvax wrote: its format must be "
                f"{self.version}, got {repr(version)[:20]}."
            )
        if version > self.version:
            raise NewerFormat(
                f"{path} has format {version}; this version of hvax reads format "
                f"{self.version}. Install a newer hvax."
            )
        return record

    def _parse(self, path: Path) -> dict[str, Any]:
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise ValueError(f"it has {size} bytes, more than any that hvax writes")
        content = path.read_bytes()
        return verify_checksum(content) if self.has_checksum else json_object(content)


def check_fields(record: Any, fields: Mapping[str, type]) -> None:
    """Raise `ValueError` where a record is not a dict with a value of its type in each field."""
    if not isinstance(record, dict):
        raise ValueError(f"it holds {str(record)[:80]} for a record")
    for name, kind in fields.items():
        if not isinstance(record.get(name), kind):
            raise ValueError(f"{name!r} must be of type {kind.__name__}")
