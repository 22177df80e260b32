"""The folder of a saved model.

    folder/structure.json              format version, the tree of modules, checksums
    folder/weights-<hash>.safetensors  every array, by its path in the tree

structure.json names the weights file by its hash and is replaced last, so a folder always holds
one whole model. Other files in the folder are not touched.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from hvax.storage.arrays import pack, read
from hvax.storage.files import write_atomically
from hvax.storage.json_files import with_checksum
from hvax.storage.lock_file import REMOVES_OPEN_FILES, open_locked
from hvax.storage.structure.decode import NO_LIKE, Decoder
from hvax.storage.structure.encode import encode
from hvax.storage.structure.manifest import FORMAT, STRUCTURE, read_manifest, weights_named_in
from hvax.storage.structure.node import Malformed, Mismatch
from hvax.wording import kind_of

_LOADS, _LOAD_PAUSE = 50, 0.002  # attempts, and seconds between them, while others save
_SAVES, _SAVE_PAUSE = 1000, 0.01  # the same of a save
# Windows denies access to a file that is being removed.
_BUSY = (BlockingIOError,) if REMOVES_OPEN_FILES else (BlockingIOError, PermissionError)
# A name of a temporary file's form: what a killed save leaves goes with the next write.
SAVING = f".hvax-{0:016x}.tmp"


def save(model: eqx.Module, folder: str | Path) -> None:
    """Save a model into `folder`, which is made where missing; a model that is there is replaced.

    `load` gives back arrays that are equal bit for bit. A model that holds modules or functions of
    your own is saved too, and loads with `load(folder, like=model)`. Other files in the folder are
    left alone. Where `folder` is a link nothing behind it is removed, not even the weights of the
    model that was there.

    Raises `TypeError` for what cannot be saved (see `check_saveable`), and `ValueError` where the
    folder holds a structure.json or weights that hvax has not written; nothing is written then.
    """
    folder = Path(folder)
    arrays: dict[str, np.ndarray] = {}
    tree = _encoded(model, arrays)
    weights = pack(arrays)
    manifest: dict[str, Any] = {
        "format": FORMAT.version,
        "weights": f"weights-{weights.sha256[:16]}.safetensors",
        "sha256": weights.sha256,
        "narrow": weights.narrow,
        "model": tree,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with _one_save_at_a_time(folder):
        _replace(folder, manifest, weights.content)


def check_saveable(model: eqx.Module, folder: str | Path | None = None) -> None:
    """Raise what `save(model, folder)` would raise, and write nothing. `fit` calls this first, so
    that no training ends in an error.

    A model can hold modules, arrays of numbers, typed PRNG keys, functions that have a name and
    their partials, Python's numbers and strings, and tuples, lists and dicts (with strings or
    numbers for keys) of these. `TypeError` for anything else.
    """
    _encoded(model, {})
    if folder is not None and Path(folder).is_dir():
        weights_named_in(Path(folder))


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
        raise TypeError(f"`like` must be an equinox.Module, got {kind_of(like)}.")
    manifest, arrays = _read(path)
    decoder = Decoder(arrays, path.parent / manifest["weights"])
    try:
        model = decoder.decode(manifest["model"], NO_LIKE if like is None else like)
        if not isinstance(model, eqx.Module):
            raise Malformed(f"at its top it has {kind_of(model)}")
    except (Malformed, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{path} does not describe a model of this version: {why}.") from error
    except Mismatch as error:
        raise ValueError(f"{path}: {error}") from error
    return model


def _encoded(model: eqx.Module, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if not isinstance(model, eqx.Module):
        raise TypeError(f"model must be an equinox.Module, got {kind_of(model)}.")
    return encode(model, arrays)


def _replace(folder: Path, manifest: dict[str, Any], content: bytes) -> None:
    old, new = weights_named_in(folder), folder / manifest["weights"]
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
def _one_save_at_a_time(folder: Path) -> Iterator[None]:
    """Wait while another process saves into a folder: it would remove weights that this one is
    about to name. After ten seconds, and where there are no locks, the save goes on without."""
    lock = None
    for _ in range(_SAVES):
        try:
            lock = open_locked(folder / SAVING)
            break
        except _BUSY:
            time.sleep(_SAVE_PAUSE)
        except (OSError, ValueError):
            break
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                lock.release_and_remove()


def _check_free(path: Path, content: bytes) -> None:
    """Raise `ValueError` where a path holds anything but this content."""
    if path.is_symlink() or path.exists():
        same = path.is_file() and path.stat().st_size == len(content)
        if path.is_symlink() or not same or path.read_bytes() != content:
            raise ValueError(
                f"{path} holds something else than the weights that are to be saved there, and is "
                "not overwritten. Move it away, or save into another folder."
            )


def _remove_unnamed(path: Path) -> None:
    """Remove a weights file, unless structure.json names it; nothing is removed through a link."""
    if path.parent.is_symlink() or path.is_symlink() or not path.is_file():
        return
    try:
        named = weights_named_in(path.parent)
    except ValueError:
        return
    if named != path.name:
        path.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A manifest and the arrays that it names."""
    for attempts_left in reversed(range(_LOADS)):
        manifest = read_manifest(path)
        weights = path.parent / manifest["weights"]
        try:
            return manifest, read(weights, sha256=manifest["sha256"], narrow=manifest["narrow"])
        except FileNotFoundError:
            # Another process may have saved a model between the two reads: the new manifest then
            # names other weights. Weights that stay away are truly missing.
            if not attempts_left:
                raise
            time.sleep(_LOAD_PAUSE)
    raise AssertionError
