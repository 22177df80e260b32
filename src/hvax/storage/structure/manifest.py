"""structure.json: what it must hold, and whether one was written by hvax."""

import re
from pathlib import Path
from typing import Any

from hvax.storage.arrays import ARRAYS_ENTRY
from hvax.storage.json_files import json_object, verify_checksum
from hvax.storage.manifest import Format

STRUCTURE = "structure.json"
FORMAT = Format(1, {"weights": str, "model": dict, **ARRAYS_ENTRY})
WEIGHTS = re.compile(r"weights-([0-9a-f]{16})\.safetensors")  # the start of the file's SHA-256


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a saved model. Raises `FileNotFoundError` where there is none, `ValueError`
    for a damaged one, and `NewerFormat` for that of a later version."""
    if not path.is_file():
        inside = path.parent / "model"  # where a run keeps its own
        advice = f" Load {inside}." if (inside / STRUCTURE).is_file() else ""
        raise FileNotFoundError(f"no model in {path.parent}: {path.name} is missing.{advice}")
    manifest = FORMAT.read(path)
    weights = manifest["weights"]
    if Path(weights).name != weights:
        raise ValueError(
            f"{path} is damaged: the weights file {weights[:100]!r} lies outside the folder."
        )
    if not WEIGHTS.fullmatch(weights):
        raise ValueError(f"{path} is damaged: {weights[:100]!r} is no name of a weights file.")
    return manifest


def weights_named_in(folder: Path) -> str | None:
    """The weights file that the structure.json in a folder names; None without a structure.json.

    Raises `ValueError` for a structure.json that is not proven to be hvax's, so that nobody's file
    of that name is overwritten.
    """
    path = folder / STRUCTURE
    if not path.exists() and not path.is_symlink():
        return None
    try:
        if path.is_symlink() or not path.is_file():
            raise ValueError("it is no plain file")
        content = path.read_bytes()
        record = json_object(content)
        if not all(isinstance(record.get(name), kind) for name, kind in FORMAT.fields.items()):
            verify_checksum(content)  # of a newer format, perhaps
        weights = record.get("weights")
    except ValueError as error:
        raise ValueError(
            f"{path} is not a file that hvax wrote, or is damaged ({error}), and is not "
            "overwritten. Move it away, or save into another folder."
        ) from error
    return weights if isinstance(weights, str) and WEIGHTS.fullmatch(weights) else None
