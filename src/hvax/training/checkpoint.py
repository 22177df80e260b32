"""Checkpoints: everything that a run needs to go on, in files that a crash cannot half write.

    folder/000000001200.json                     the record of step 1200, with checksums
    folder/000000001200-NAME-<hash>.safetensors  the arrays of one tree

The record is renamed into place when all the arrays that it names are on disk, and only then are
the files of older checkpoints removed. Two checkpoints are kept, so that one may be damaged.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from hvax.arrays import pack, unpack
from hvax.caution import DamagedCheckpoint, caution
from hvax.files import sealed, unsealed, write_atomically

FORMAT = 1
_KEPT = 2


class Checkpoint(NamedTuple):
    """What `Checkpoints.write` was given."""

    trees: dict[str, PyTree]
    record: dict[str, Any]


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
        written; the checkpoints before it then stand as they were.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        files = {}
        for name, tree in trees.items():
            packed = pack({path: _stored(leaf) for path, leaf in _arrays(tree).items()})
            file = self.folder / f"{step:012}-{name}-{packed.sha256[:8]}.safetensors"
            write_atomically(file, packed.content)
            files[name] = {"file": file.name, "sha256": packed.sha256, "narrow": packed.narrow}
        manifest = {"format": FORMAT, "step": step, "files": files, "record": record}
        write_atomically(self.folder / f"{step:012}.json", sealed(manifest))
        self._remove_old(step)

    def read(self, like: Mapping[str, PyTree]) -> Checkpoint | None:
        """The latest checkpoint, with its arrays in trees of this structure; None without one.

        Where it is damaged the one before it is taken, with a warning. Raises `ValueError` where
        none can be read, where a tree has another structure, and for a newer format.
        """
        failures: dict[str, str] = {}
        for path in self._manifests():
            try:
                manifest = _read_manifest(path)
                arrays = {name: self._read_arrays(manifest["files"][name]) for name in like}
            except NewerFormat:
                raise
            except KeyError as error:
                failures[path.name] = f"{path} is damaged: it names no arrays of {error}."
            except (OSError, ValueError) as error:
                failures[path.name] = str(error)
            if path.name in failures:
                continue
            trees = {name: _filled(like[name], arrays[name], path) for name in like}
            if failures:
                caution(
                    DamagedCheckpoint,
                    f"{' '.join(failures.values())} Going on from step {manifest['step']} instead.",
                )
            return Checkpoint(trees, manifest["record"])
        if failures:
            raise ValueError(
                f"no checkpoint in {self.folder} can be read. {' '.join(failures.values())}"
            )
        return None

    def _read_arrays(self, entry: Mapping[str, Any]) -> dict[str, Array]:
        file = self.folder / Path(entry["file"]).name
        return unpack(file, sha256=entry["sha256"], narrow=entry["narrow"])

    def _manifests(self) -> list[Path]:
        """The records, latest first."""
        found = [p for p in self.folder.glob("*.json") if p.stem.isdigit()]
        return sorted(found, key=lambda path: int(path.stem), reverse=True)

    def _remove_old(self, step: int) -> None:
        """All but the two latest whole checkpoints up to this step, and what crashes have left.

        Later ones are damaged: the run went back behind them.
        """
        kept: dict[str, set[str]] = {}
        for path in self._manifests():
            try:
                files = {entry["file"] for entry in _read_manifest(path)["files"].values()}
            except ValueError:
                files = set()
            if files and int(path.stem) <= step and len(kept) < _KEPT:
                kept[path.name] = files
            else:
                path.unlink()
        named = set().union(*kept.values())
        for file in [*self.folder.glob("*.safetensors"), *self.folder.glob(".*.*")]:
            if file.name not in named:
                file.unlink(missing_ok=True)


class NewerFormat(ValueError):
    """A checkpoint of a later version of hvax."""


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = unsealed(path.read_bytes())
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
                f"{path} is of another model or optimiser: at {name} it has {there}, this run "
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
