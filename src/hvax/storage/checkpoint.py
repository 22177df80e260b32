"""Checkpoints: everything that a run needs to continue, in files that a crash cannot half write.

    folder/000000001200.json                     the record of step 1200, with checksums
    folder/000000001200-NAME-<hash>.safetensors  the arrays of one tree

The record is renamed into place when all the arrays that it names are on disk, and only then are
the files of older checkpoints removed. Two checkpoints are kept, so that one may be damaged.

Only files that are proven to be a checkpoint's are removed: those that an undamaged record names,
and arrays whose name holds their own checksum. A damaged record is renamed to NAME.damaged.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from hvax.exceptions import DamagedCheckpoint, warn
from hvax.storage.arrays import ARRAYS_ENTRY, has_hash_in_name, pack, unpack
from hvax.storage.files import write_atomically
from hvax.storage.json_files import with_checksum
from hvax.storage.lock import check_in_place
from hvax.storage.manifest import Format, NewerFormat, check_fields

FORMAT = Format(1, {"step": int, "files": dict, "record": dict})
_FILE = {"file": str, **ARRAYS_ENTRY}  # of each tree
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
        """Write the checkpoint of a step: the arrays of the trees, and a record that JSON can hold.

        When it returns, the checkpoint survives a loss of power. Raises `OSError` where it cannot
        be written, which leaves the checkpoints before it as they were, and `FolderReplaced` where
        the folder is locked and another process has removed, moved or replaced it.
        """
        check_in_place(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        files = {}
        for name, tree in trees.items():
            packed = pack({path: _stored(leaf) for path, leaf in _arrays(tree).items()})
            file = self.folder / f"{step:012}-{name}-{packed.sha256[:8]}.safetensors"
            write_atomically(file, packed.content)
            files[name] = {"file": file.name, "sha256": packed.sha256, "narrow": packed.narrow}
        manifest = {"format": FORMAT.version, "step": step, "files": files, "record": record}
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
        """The latest checkpoint, or None without one. Its arrays take the place of those in `like`,
        which has a tree of the same structure for each name.

        `check` is called with a step and the record of its checkpoint, and raises `ValueError` for
        a record that a run cannot continue from. Where the latest checkpoint is damaged the one
        before it is taken, with a `DamagedCheckpoint` warning.

        Raises `ValueError` where none can be read, where a tree has another structure, and, as
        `NewerFormat`, for the checkpoint of a later version.
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
            trees = {name: _with_arrays(like[name], arrays[name], path) for name in like}
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
        """Remove every checkpoint; other files in the folder stay."""
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
        """Remove all but the two latest undamaged checkpoints up to this step, and the arrays that
        a crash has left.

        Later ones are damaged: the run went on from a step before them.
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
            if file.name in removed or has_hash_in_name(file, _ARRAYS):
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
    """Rename a damaged record: nothing proves that it is hvax's to remove."""
    aside, n = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists() or aside.is_symlink():
        n += 1
        aside = path.with_name(f"{path.name}.damaged{n}")
    path.rename(aside)


def _check_record(
    path: Path, manifest: Mapping[str, Any], check: Callable[[int, dict[str, Any]], Any]
) -> None:
    try:
        check(manifest["step"], manifest["record"])
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = FORMAT.read(path)
    try:
        for entry in manifest["files"].values():
            check_fields(entry, _FILE)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    return manifest


def _arrays(tree: PyTree) -> dict[str, Any]:
    """Every array of a tree by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_array))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _stored(leaf: Any) -> np.ndarray:
    """An array as it is stored: a PRNG key as its integers."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _with_arrays(like: PyTree, arrays: dict[str, Array], path: Path) -> PyTree:
    """The tree `like` with every array replaced by the one of its path."""
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
