"""Checkpoints: everything that a run needs to go on, in files that a crash cannot half write.

    folder/000000001200.json                     the record of step 1200, with checksums
    folder/000000001200-NAME-<hash>.safetensors  the arrays of one tree

The record is renamed into place when all the arrays that it names are on disk, and only then are
the files of older checkpoints removed. Two checkpoints are kept, so that one may be damaged.

Nothing is removed but what is proven to be a checkpoint's: files that a whole record names, and
arrays whose name holds their own checksum. A damaged record is set aside as NAME.damaged.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from hvax.exceptions import DamagedCheckpoint, warn
from hvax.storage.arrays import pack, unpack
from hvax.storage.files import verify_checksum, with_checksum, write_atomically
from hvax.storage.lock import check_held

FORMAT = 1
_KEPT = 2
_ARRAYS = re.compile(r"\d{12,}-.+-([0-9a-f]{8})\.safetensors")


class Checkpoint(NamedTuple):
    """What `Checkpoints.write` was given."""

    trees: dict[str, PyTree]
    record: dict[str, Any]
    step: int


class Checkpoints:
    """The checkpoints of one run, in a folder that this process alone writes to."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __bool__(self) -> bool:
        """Whether there is one, whole or damaged."""
        return bool(self._manifests())

    def write(self, step: int, trees: Mapping[str, PyTree], record: Mapping[str, Any]) -> None:
        """Writes the arrays of the trees and a record of JSON's types as the checkpoint of a step.

        When it returns, the checkpoint survives a loss of power. `OSError` where it cannot be
        written; the checkpoints before it then stand as they were. Raises `FolderLost` where the
        folder is held and no longer in its place.
        """
        check_held(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        files = {}
        for name, tree in trees.items():
            packed = pack({path: _stored(leaf) for path, leaf in _arrays(tree).items()})
            file = self.folder / f"{step:012}-{name}-{packed.sha256[:8]}.safetensors"
            write_atomically(file, packed.content)
            files[name] = {"file": file.name, "sha256": packed.sha256, "narrow": packed.narrow}
        manifest = {"format": FORMAT, "step": step, "files": files, "record": record}
        path = self.folder / f"{step:012}.json"
        if path.exists() and _files_of(path) is None:
            _set_aside(path)
        write_atomically(path, with_checksum(manifest))
        self._remove_old(step)

    def read(
        self,
        like: Mapping[str, PyTree],
        check: Callable[[int, dict[str, Any]], Any] = lambda step, record: None,
    ) -> Checkpoint | None:
        """The latest checkpoint, with its arrays in trees of this structure; None without one.

        `check` is given a step and the record of its checkpoint, and raises `ValueError` for one
        that it cannot go on from. Where the latest is damaged the one before it is taken, with a
        warning. Raises `ValueError` where none can be read, where a tree has another structure,
        and for a newer format.
        """
        failures: dict[str, str] = {}
        for path in self._manifests():
            try:
                manifest = _read_manifest(path)
                arrays = self._read_trees(path, manifest["files"], like)
                _check_record(path, manifest, check)
            except NewerFormat:
                raise
            except (OSError, ValueError) as error:
                failures[path.name] = str(error)
                continue
            trees = {name: _filled(like[name], arrays[name], path) for name in like}
            if failures:
                warn(
                    DamagedCheckpoint,
                    f"{' '.join(failures.values())} Going on from step {manifest['step']} instead.",
                )
            return Checkpoint(trees, manifest["record"], manifest["step"])
        if failures:
            raise ValueError(
                f"no checkpoint in {self.folder} can be read. {' '.join(failures.values())}"
            )
        return None

    def clear(self) -> None:
        """Removes every checkpoint; files of others stay."""
        self._remove_old(-1)

    def _read_trees(
        self, path: Path, files: Mapping[str, Any], like: Mapping[str, PyTree]
    ) -> dict[str, dict[str, Array]]:
        """The arrays of each tree, by their paths."""
        for name in like:
            if name not in files:
                raise ValueError(f"{path} is damaged: it names no arrays of {name!r}.")
        return {name: self._read_arrays(files[name]) for name in like}

    def _read_arrays(self, entry: Mapping[str, Any]) -> dict[str, Array]:
        file = self.folder / Path(entry["file"]).name
        try:
            return unpack(file, sha256=entry["sha256"], narrow=entry["narrow"])
        except (TypeError, KeyError, AttributeError) as error:  # dtypes that there are not
            raise ValueError(f"{file} is damaged: {error}.") from error

    def _manifests(self) -> list[Path]:
        """The records, latest first."""
        found = [p for p in self.folder.glob("*.json") if _is_record(p.name)]
        return sorted(found, key=lambda path: int(path.stem), reverse=True)

    def _remove_old(self, step: int) -> None:
        """All but the two latest whole checkpoints up to this step, and what crashes have left.

        Later ones are damaged: the run went back behind them.
        """
        kept: list[set[str]] = []
        removed: set[str] = set()
        for path in self._manifests():
            files = _files_of(path)
            if files is None:
                _set_aside(path)
            elif int(path.stem) <= step and len(kept) < _KEPT:
                kept.append(files)
            else:
                path.unlink()
                removed |= files
        for file in self.folder.glob("*.safetensors"):
            if any(file.name in files for files in kept):
                continue
            if file.name in removed or _holds_its_name(file):
                file.unlink(missing_ok=True)


def _is_record(name: str) -> bool:
    stem = name.removesuffix(".json")
    return stem.isascii() and stem.isdigit() and f"{int(stem):012}.json" == name


def _files_of(path: Path) -> set[str] | None:
    """The files that a record names; None where it is damaged, or no record of a checkpoint."""
    try:
        return {entry["file"] for entry in _read_manifest(path)["files"].values()}
    except (OSError, ValueError):
        return None


def _set_aside(path: Path) -> None:
    """Under another name: nothing proves that a damaged record is ours to remove."""
    aside, n = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists() or aside.is_symlink():
        n += 1
        aside = path.with_name(f"{path.name}.damaged{n}")
    path.rename(aside)


def _holds_its_name(file: Path) -> bool:
    """Whether a file's name has the checksum of its content, as those of all arrays have."""
    named = _ARRAYS.fullmatch(file.name)
    if named is None or file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:8] == named[1]


def _check_record(
    path: Path, manifest: Mapping[str, Any], check: Callable[[int, dict[str, Any]], Any]
) -> None:
    try:
        check(manifest["step"], manifest["record"])
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


class NewerFormat(ValueError):
    """A checkpoint of a later version of hvax."""


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = verify_checksum(path.read_bytes())
        version = manifest["format"]
        if version == FORMAT:
            _check_form(manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if version != FORMAT:
        raise NewerFormat(
            f"{path} has format {version!r}; this version of hvax reads format {FORMAT}. "
            "Install a newer hvax to go on with this run."
        )
    return manifest


def _check_form(manifest: dict[str, Any]) -> None:
    for name, kind in {"step": int, "files": dict, "record": dict}.items():
        if not isinstance(manifest[name], kind):
            raise ValueError(f"{name!r} is no {kind.__name__}")
    for entry in manifest["files"].values():
        for name, kind in {"file": str, "sha256": str, "narrow": dict}.items():
            if not isinstance(entry[name], kind):
                raise ValueError(f"{name!r} is no {kind.__name__}")


def _arrays(tree: PyTree) -> dict[str, Any]:
    """Every array of a tree by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_array))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _stored(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _filled(like: PyTree, arrays: dict[str, Array], path: Path) -> PyTree:
    """`like` with every array replaced by the one of its path."""
    own = _arrays(like)
    for name in sorted(own.keys() | arrays.keys()):
        here = _shape(_stored(own[name])) if name in own else "nothing"
        there = _shape(arrays[name]) if name in arrays else "nothing"
        if here != there:
            raise ValueError(
                f"{path} is of another model or optimizer: at {name} it has {there}, this run "
                f"{here}. Continue a run with what it was started with."
            )
    leaves = iter(own)

    def replaced(leaf: Any) -> Any:
        if not eqx.is_array(leaf):
            return leaf
        stored = arrays[next(leaves)]
        if _is_key(leaf):
            return jax.random.wrap_key_data(stored, impl=jax.random.key_impl(leaf))
        return stored

    return jax.tree.map(replaced, like)


def _shape(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"
