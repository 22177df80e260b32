"""Removing the files of a run, and copying a training.

A run's files are removed one by one, because its folder may also hold files that are not hvax's.
"""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from hvax.storage.arrays import has_hash_in_name
from hvax.storage.lock import LOCK_FILE, exclusive_lock
from hvax.storage.lock_file import LockFile
from hvax.storage.logs import METRICS, SKIPPED
from hvax.storage.run_folder import (
    BASELINE,
    BEFORE_FLOW,
    CHECKPOINTS,
    EVALUATION,
    MODEL,
    PLAN,
    REPORT,
    RESULTS,
    RunFolder,
    check_folders,
)
from hvax.storage.structure import STRUCTURE
from hvax.storage.structure.manifest import WEIGHTS, weights_named_in
from hvax.storage.temporary import is_temporary, remove_stale_temporaries

_FILES = (METRICS, SKIPPED, PLAN, RESULTS, EVALUATION, REPORT)
_COPY = ".hvax-baseline.tmp"


def training_folders(path: Path) -> list[Path]:
    """The folders of a run in which a model is trained, its own last."""
    return [path / BASELINE, path / BEFORE_FLOW, path]


def check_no_links(path: Path) -> None:
    """Raise `ValueError` where a folder within a run directory is a link or a file."""
    baseline = path / BASELINE
    if baseline.is_symlink():
        raise ValueError(
            f"{baseline} must be a folder, got a link to {baseline.readlink()}. Use another "
            "--run-dir; a run directory itself may be a link."
        )
    for folder in training_folders(path):
        check_folders(folder)


def is_empty(path: Path) -> bool:
    """Whether a directory is empty but for what a run that was killed at its start leaves."""
    return path.is_dir() and all(
        file.name == LOCK_FILE or is_temporary(file.name) for file in path.iterdir()
    )


def remove_run(path: Path) -> None:
    """Remove a run's files from its directory, except config.json and the directory's own lock,
    which the caller holds.

    Raises `ValueError`, before anything is removed, if a folder in it is a link or another process
    trains in one.
    """
    check_no_links(path)
    folders = [folder for folder in training_folders(path) if folder.is_dir()]
    with _locks_of(folders) as locks:
        for folder in folders:
            _remove_training(folder, locks.get(folder))
            if folder != path:
                _remove_if_empty(folder)


@contextlib.contextmanager
def _locks_of(folders: Sequence[Path]) -> Iterator[dict[Path, LockFile]]:
    """Lock the checkpoint folders of trainings, as far as they exist."""
    with contextlib.ExitStack() as stack:
        yield {
            folder: stack.enter_context(exclusive_lock(folder / CHECKPOINTS)).file
            for folder in folders
            if (folder / CHECKPOINTS).is_dir()
        }


def _remove_training(folder: Path, lock: LockFile | None) -> None:
    """Remove what a training and the commands wrote into a folder; `lock` is that of its
    checkpoints."""
    RunFolder(folder).checkpoints.clear()
    _remove_model(folder / MODEL)
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
    for part in (folder / CHECKPOINTS, folder / MODEL, folder):
        remove_stale_temporaries(part)
    if lock is not None:
        lock.release_and_remove()
    _remove_if_empty(folder / CHECKPOINTS)
    _remove_if_empty(folder / MODEL)
    shutil.rmtree(folder / _COPY, ignore_errors=True)


def _remove_model(folder: Path) -> None:
    """Remove structure.json, the weights it names, and weights whose name is their own hash."""
    named = None
    with contextlib.suppress(OSError, ValueError):
        named = weights_named_in(folder)
    for file in folder.glob("weights-*.safetensors"):
        if file.name == named or has_hash_in_name(file, WEIGHTS):
            file.unlink()
    (folder / STRUCTURE).unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not empty, or not there
        folder.rmdir()


def copy_training(folder: Path, other: Path) -> None:
    """Copy the training in the folder `other` into `folder`, to continue it there in another way.

    Does nothing if a training has begun in `folder`.
    """
    if RunFolder(folder).checkpoints:
        return
    copy = folder.with_name(_COPY)
    shutil.rmtree(copy, ignore_errors=True)
    ignored = shutil.ignore_patterns(LOCK_FILE, BASELINE, BEFORE_FLOW)
    shutil.copytree(other, copy, ignore=ignored, symlinks=True)
    if not folder.exists():
        copy.rename(folder)
        return
    # The folder holds other files, which stay beside the copy.
    with _locks_of([folder]) as locks:
        _remove_training(folder, locks.get(folder))
    for part in sorted(copy.iterdir(), key=lambda part: part.name == CHECKPOINTS):
        folder.mkdir(exist_ok=True)
        _move(part, folder / part.name)
    shutil.rmtree(copy)


def _move(part: Path, to: Path) -> None:
    """Move a file, or the files of a folder, to another place beside what is there."""
    if not part.is_dir():
        part.replace(to)
        return
    to.mkdir(exist_ok=True)
    # A record comes after the arrays that it names, so that a crash leaves no record without them.
    for file in sorted(part.iterdir(), key=lambda file: file.suffix == ".json"):
        file.replace(to / file.name)
