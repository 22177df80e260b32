"""The folder of a saved model.

    folder/structure.json              format version, the tree of modules, checksums
    folder/weights-<hash>.safetensors  every array, by its path in the tree

structure.json names the weights file by its hash and is replaced last, so a folder always holds
one whole model. Other files in the folder are not touched.
"""

import re
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from hvax.arrays import pack, read
from hvax.files import json_object, sealed, unsealed, write_atomically
from hvax.structure.decode import NO_LIKE, Decoder
from hvax.structure.encode import encode
from hvax.structure.node import Malformed, NotOfThis

FORMAT = 1
STRUCTURE = "structure.json"
_MANIFEST = {"weights": str, "sha256": str, "narrow": dict, "model": dict}
_WEIGHTS = re.compile(r"weights-[0-9a-f]{1,64}\.safetensors")
_LARGEST = 2**30  # bytes of a structure.json; a large model's has some hundred thousand
_TRIES = 100


def save(model: eqx.Module, folder: str | Path) -> None:
    """Writes a model into `folder`, made where missing; a model that is there is replaced whole.

    Arrays come back bit-equal. A model with modules or functions of the user's own is saved too,
    and loads with `load(folder, like=model)`. Other files in the folder are left alone; where
    `folder` is a link nothing is removed behind it, an older model's weights neither.

    Raises `TypeError` for what cannot be saved (see `check_saveable`), and `ValueError` where the
    folder holds files of others by the names that are needed; nothing is written then.
    """
    folder = Path(folder)
    arrays: dict[str, np.ndarray] = {}
    tree = _encoded(model, arrays)
    weights = pack(arrays)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "weights": f"weights-{weights.sha256[:16]}.safetensors",
        "sha256": weights.sha256,
        "narrow": weights.narrow,
        "model": tree,
    }
    folder.mkdir(parents=True, exist_ok=True)
    old = _weights_of_ours(folder)
    new = folder / manifest["weights"]
    if new.name != old:
        _check_free(new, weights.content)
    write_atomically(new, weights.content)
    try:
        write_atomically(folder / STRUCTURE, sealed(manifest))
    except BaseException:
        _remove_unnamed(new)
        raise
    if not new.exists():  # another process has saved at the same time, and has removed it
        write_atomically(new, weights.content)
    if old is not None and old != new.name:
        _remove_unnamed(folder / old)


def check_saveable(model: eqx.Module, folder: str | Path | None = None) -> None:
    """Raises what `save(model, folder)` would raise, and writes nothing: for a start that is not
    to fail at its end.

    `TypeError` for what no file can hold: other things than modules, arrays of numbers, typed PRNG
    keys, functions by name and their partials, Python's numbers and strings, and tuples, lists and
    dicts (with strings or numbers for keys) of these.
    """
    _encoded(model, {})
    if folder is not None and Path(folder).is_dir():
        _weights_of_ours(Path(folder))


def digest(model: eqx.Module) -> str:
    """The SHA-256 of a model's arrays: equal for models that are equal bit for bit."""
    arrays: dict[str, np.ndarray] = {}
    encode(model, arrays)
    return pack(arrays).sha256


def load(folder: str | Path, *, like: eqx.Module | None = None) -> Any:
    """The model that `save` wrote into `folder`, also while another process saves there.

    `like`, a model of the same structure, is needed where the saved one holds modules or functions
    of the user's own. It must agree with the saved model in everything but the numbers in its
    arrays (and their dtypes): modules, functions by their names, shapes, options. A class or
    function may have moved to another file.

    Raises `FileNotFoundError` for a folder without a model, `ValueError` for a damaged file, a
    newer format, an unknown module, arrays that are too large for the memory, or a `like` of
    another structure, and `TypeError` for one that is no model.
    """
    path = Path(folder) / STRUCTURE
    if like is not None and not isinstance(like, eqx.Module):
        raise TypeError(f"`like` must be an equinox.Module, got a {type(like).__name__}.")
    manifest, arrays = _read(path)
    decoder = Decoder(arrays, path.parent / manifest["weights"])
    try:
        model = decoder.decode(manifest["model"], NO_LIKE if like is None else like)
        if not isinstance(model, eqx.Module):
            raise Malformed(f"at its top it has a {type(model).__name__}")
    except (Malformed, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{path} does not describe a model of this version: {why}.") from error
    except NotOfThis as error:
        raise ValueError(f"{path}: {error}") from error
    return model


def _encoded(model: eqx.Module, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if not isinstance(model, eqx.Module):
        raise TypeError(
            f"a model to be saved must be an equinox.Module, got a {type(model).__name__}."
        )
    return encode(model, arrays)


def _weights_of_ours(folder: Path) -> str | None:
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
            unsealed(_content(path))  # of a newer format, perhaps
        weights = record.get("weights")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a file that hvax wrote, or is damaged ({error}), and is not "
            "overwritten. Move it away, or save into another folder."
        ) from error
    return weights if isinstance(weights, str) and _WEIGHTS.fullmatch(weights) else None


def _check_free(path: Path, content: bytes) -> None:
    """Raises `ValueError` where a path is taken by anything but this content."""
    if path.is_symlink() or path.exists():
        same = path.is_file() and path.stat().st_size == len(content)
        if path.is_symlink() or not same or path.read_bytes() != content:
            raise ValueError(
                f"{path} holds something else than the weights that are to be saved there, and is "
                "not overwritten. Move it away, or save into another folder."
            )


def _remove_unnamed(path: Path) -> None:
    """Removes a weights file of ours, unless structure.json names it; nothing through a link."""
    if path.parent.is_symlink() or path.is_symlink() or not path.is_file():
        return
    try:
        named = _weights_of_ours(path.parent)
    except ValueError:
        return
    if named != path.name:
        path.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A manifest and the arrays that it names."""
    for _ in range(_TRIES):
        manifest = _read_manifest(path)
        weights = path.parent / manifest["weights"]
        try:
            return manifest, read(weights, sha256=manifest["sha256"], narrow=manifest["narrow"])
        except FileNotFoundError:
            # Another process has saved a model between the two reads, or it is truly gone.
            if _read_manifest(path) == manifest:
                raise
    raise FileNotFoundError(f"the model in {path.parent} is replaced faster than it can be read.")


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no model in {path.parent}: {path.name} is missing.")
    try:
        manifest = unsealed(_content(path))
        version = manifest["format"]
        if type(version) is not int:
            raise ValueError("'format' is no int")
        if version == FORMAT:
            _check_manifest(manifest)
            return manifest
    except RecursionError as error:
        raise ValueError(f"{path} is damaged: it is nested too deeply.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    raise ValueError(
        f"{path} has format {str(version)[:20]}; this version of hvax reads format {FORMAT}. "
        "Install a newer hvax to load it."
    )


def _check_manifest(manifest: dict[str, Any]) -> None:
    for name, kind in _MANIFEST.items():
        if not isinstance(manifest[name], kind):
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
