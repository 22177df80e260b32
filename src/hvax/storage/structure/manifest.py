"""structure.json: what it must hold, and whether one is hvax's."""

import re
from pathlib import Path
from typing import Any

from hvax.storage.files import json_object, verify_checksum

FORMAT = 1
STRUCTURE = "structure.json"
_MANIFEST = {"weights": str, "sha256": str, "narrow": dict, "model": dict}
_WEIGHTS = re.compile(r"weights-[0-9a-f]{1,64}\.safetensors")
_LARGEST = 2**30  # bytes of a structure.json; a large model's has some hundred thousand


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a saved model. Raises `FileNotFoundError` where there is none, and
    `ValueError` for a damaged or newer one."""
    if not path.is_file():
        raise FileNotFoundError(f"no model in {path.parent}: {path.name} is missing.")
    try:
        manifest = verify_checksum(_content(path))
        version = manifest.get("format")
        if type(version) is not int:
            raise ValueError("'format' is no int")
        if version == FORMAT:
            _check_manifest(manifest)
            return manifest
    except RecursionError as error:
        raise ValueError(f"{path} is damaged: it is nested too deeply.") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    raise ValueError(
        f"{path} has format {str(version)[:20]}; this version of hvax reads format {FORMAT}. "
        "Install a newer hvax to load it."
    )


def weights_of_ours(folder: Path) -> str | None:
    """The weights file that the structure.json in a folder names; None where there is none.

    Raises `ValueError` for a structure.json that is not proven to be one of `save`: it is
    somebody's, and not to be overwritten.
    """
    path = folder / STRUCTURE
    if not path.exists() and not path.is_symlink():
        return None
    try:
        if path.is_symlink() or not path.is_file():
            raise ValueError("it is no plain file")
        record = json_object(_content(path))
        if not all(isinstance(record.get(name), kind) for name, kind in _MANIFEST.items()):
            verify_checksum(_content(path))  # of a newer format, perhaps
        weights = record.get("weights")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a file that hvax wrote, or is damaged ({error}), and is not "
            "overwritten. Move it away, or save into another folder."
        ) from error
    return weights if isinstance(weights, str) and _WEIGHTS.fullmatch(weights) else None


def _check_manifest(manifest: dict[str, Any]) -> None:
    for name, kind in _MANIFEST.items():
        if not isinstance(manifest.get(name), kind):
            raise ValueError(f"{name!r} is no {kind.__name__}")
    weights = manifest["weights"]
    if Path(weights).name != weights:
        raise ValueError(f"the weights file {weights[:100]!r} lies outside the folder")
    if not _WEIGHTS.fullmatch(weights):
        raise ValueError(f"{weights[:100]!r} is no name of a weights file")


def _content(path: Path) -> bytes:
    size = path.stat().st_size
    if size > _LARGEST:
        raise ValueError(f"it has {size} bytes, more than any structure has")
    return path.read_bytes()
