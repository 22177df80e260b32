"""The files of a run directory by name, and how a run that is replaced is taken away: its own files
go, and whatever else lies there stays."""

import contextlib
import hashlib
import re
import shutil
from pathlib import Path

from hvax.storage.files import LOCK, held, verify_checksum
from hvax.storage.run_folder import (
    BEFORE_FLOW,
    CHECKPOINTS,
    METRICS,
    MODEL,
    PLAN,
    SKIPPED,
    RunFolder,
    check_folders,
)
from hvax.storage.structure import STRUCTURE
from hvax.storage.temporary import is_temporary, sweep

CONFIG, RESULTS, EVALUATION, REPORT, BASELINE = (
    "config.json",
    "results.json",
    "evaluation.json",
    "report.html",
    "baseline",
)
_FILES = (METRICS, SKIPPED, PLAN, RESULTS, EVALUATION, REPORT)
_WEIGHTS = re.compile(r"weights-([0-9a-f]{16})\.safetensors")
_COPY = ".hvax-baseline.tmp"


def trainings(path: Path) -> list[Path]:
    """The folders of a run in which a model is trained, its own last."""
    return [path / BASELINE, path / BEFORE_FLOW, path]


def check_no_links(path: Path) -> None:
    """Raises `ValueError` where a folder within a run directory is a link, or no folder."""
    baseline = path / BASELINE
    if baseline.is_symlink():
        raise ValueError(
            f"{baseline} must be a folder, got a link to {baseline.readlink()}. Use another "
            "--run-dir; a run directory itself may be a link."
        )
    for folder in trainings(path):
        check_folders(folder)


def is_empty(path: Path) -> bool:
    """Whether a directory holds nothing but what a run leaves that was killed before it began."""
    return path.is_dir() and all(p.name == LOCK or is_temporary(p.name) for p in path.iterdir())


def clear(path: Path) -> None:
    """Removes a run's files from its directory, which this process holds.

    Raises `ValueError` where a folder in it is a link, or another process trains in one; nothing is
    removed then.
    """
    check_no_links(path)
    folders = [folder for folder in trainings(path) if folder.is_dir()]
    with contextlib.ExitStack() as stack:
        for folder in folders:
            if (folder / CHECKPOINTS).is_dir():
                stack.enter_context(held(folder / CHECKPOINTS))
        for folder in folders:
            _clear_training(folder)
            if folder != path:
                _remove_if_empty(folder)


def _clear_training(folder: Path) -> None:
    """What a training has written into its folder, and the commands on it after that."""
    RunFolder(folder).checkpoints.clear()
    (folder / CHECKPOINTS / LOCK).unlink(missing_ok=True)
    _clear_model(folder / MODEL)
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
    for part in (folder / CHECKPOINTS, folder / MODEL, folder):
        sweep(part)
    _remove_if_empty(folder / CHECKPOINTS)
    _remove_if_empty(folder / MODEL)
    shutil.rmtree(folder / _COPY, ignore_errors=True)


def _clear_model(folder: Path) -> None:
    """The weights that structure.json names, and those whose name has their own checksum."""
    structure = folder / STRUCTURE
    named = None
    with contextlib.suppress(OSError, ValueError):
        named = verify_checksum(structure.read_bytes()).get("weights")
    for file in folder.glob("weights-*.safetensors"):
        if file.name == named or _holds_its_name(file):
            file.unlink()
    structure.unlink(missing_ok=True)


def _holds_its_name(file: Path) -> bool:
    found = _WEIGHTS.fullmatch(file.name)
    if found is None or file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16] == found[1]


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not empty, or not there
        folder.rmdir()


def copy_training(folder: Path, other: Path) -> None:
    """A training that goes on from where another has come to, in a folder of its own, if it has not
    begun."""
    if RunFolder(folder).checkpoints:
        return
    beside = folder.with_name(_COPY)
    shutil.rmtree(beside, ignore_errors=True)
    ignored = shutil.ignore_patterns(LOCK, BASELINE, BEFORE_FLOW)
    shutil.copytree(other, beside, ignore=ignored, symlinks=True)
    if not folder.exists():
        beside.rename(folder)
        return
    _clear_training(folder)  # files of others are there
    for part in sorted(beside.iterdir(), key=lambda part: part.name == CHECKPOINTS):
        folder.mkdir(exist_ok=True)
        _move(part, folder / part.name)
    shutil.rmtree(beside)


def _move(part: Path, to: Path) -> None:
    """A file, or the files of a folder, into their place beside what is there."""
    if not part.is_dir():
        part.rename(to)
        return
    to.mkdir(exist_ok=True)
    # A record after the arrays that it names.
    for file in sorted(part.iterdir(), key=lambda file: file.suffix == ".json"):
        file.rename(to / file.name)
