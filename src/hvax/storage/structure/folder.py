"""The folder of a saved model.

    folder/structure.json              format version, the tree of modules, checksums
    folder/weights-<hash>.safetensors  every array, by its path in the tree

structure.json names the weights file by its hash and is replaced last, so a folder always holds
one whole model. Other files in the folder are not touched.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from hvax.storage.arrays import pack, read
from hvax.storage.files import with_checksum, write_atomically
from hvax.storage.structure.decode import NO_LIKE, Decoder
from hvax.storage.structure.encode import encode
from hvax.storage.structure.manifest import FORMAT, STRUCTURE, read_manifest, weights_of_ours
from hvax.storage.structure.node import Malformed, NotOfThis

_TRIES, _PAUSE = 50, 0.002  # seconds; of a load, while others save
_WAITS, _WAIT = 1000, 0.01  # seconds; of a save


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
    with _alone(folder):
        _replace(folder, manifest, weights.content)


def check_saveable(model: eqx.Module, folder: str | Path | None = None) -> None:
    """Raises what `save(model, folder)` would raise, and writes nothing: for a start that is not
    to fail at its end.

    `TypeError` for what no file can hold: other things than modules, arrays of numbers, typed PRNG
    keys, functions by name and their partials, Python's numbers and strings, and tuples, lists and
    dicts (with strings or numbers for keys) of these.
    """
    _encoded(model, {})
    if folder is not None and Path(folder).is_dir():
        weights_of_ours(Path(folder))


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
        raise TypeError(f"model must be an equinox.Module, got a {type(model).__name__}.")
    return encode(model, arrays)


def _replace(folder: Path, manifest: dict[str, Any], content: bytes) -> None:
    old, new = weights_of_ours(folder), folder / manifest["weights"]
    if new.name != old:
        _check_free(new, content)
    write_atomically(new, content)
    try:
        write_atomically(folder / STRUCTURE, with_checksum(manifest))
    except BaseException:
        _remove_unnamed(new)
        raise
    if old is not None:
        _remove_unnamed(folder / old)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits while another process saves into a folder: it would remove weights that this one is
    about to name. Not for ever, and not where the file system has no locks: a save comes first."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        for _ in range(_WAITS):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_WAIT)
            except OSError:
                break
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # also where a fork still holds the folder open
        os.close(descriptor)


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
        named = weights_of_ours(path.parent)
    except ValueError:
        return
    if named != path.name:
        path.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A manifest and the arrays that it names."""
    for left in reversed(range(_TRIES)):
        manifest = read_manifest(path)
        weights = path.parent / manifest["weights"]
        try:
            return manifest, read(weights, sha256=manifest["sha256"], narrow=manifest["narrow"])
        except FileNotFoundError:
            # Another process has saved a model between the two reads, unless it stays so.
            if not left:
                raise
            time.sleep(_PAUSE)
    raise AssertionError
