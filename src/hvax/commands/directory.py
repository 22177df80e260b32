"""A run directory: made or resumed by `hvax train`, opened by every later command.

hvax/storage/run_folder.py lists its files.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from hvax.commands.config_file import as_options, read_config, with_absolute_paths, write_config
from hvax.config import Train
from hvax.data.schema import Table
from hvax.data.source import SOURCES
from hvax.pipeline.parts import Parts
from hvax.storage.forms import read_record
from hvax.storage.lock import exclusive_lock
from hvax.storage.logs import METRICS, read_log
from hvax.storage.run_files import check_no_links, is_empty, remove_run, training_folders
from hvax.storage.run_folder import BASELINE, BEFORE_FLOW, CONFIG, MODEL, check_begin
from hvax.storage.structure import STRUCTURE, load
from hvax.training.two_phases import concatenate_histories
from hvax.wording import kind_of

# The options that may differ between a resumed run and the run that it continues.
_MAY_DIFFER = {
    "run_dir", "overwrite", "resume", "strict", "progress", "report", "data.data_dir",
    "train.epochs", "train.patience", "train.save_seconds", "train.max_skipped",
    "train.num_samples", "train.test_points",
}  # fmt: skip


class Run(NamedTuple):
    """A finished or interrupted run."""

    path: Path
    config: Train
    options: dict[str, Any]  # the same as config, as config.json holds them
    x_shape: tuple[int, ...]
    scale: float  # of the numbers as its source stores them
    digest: str  # of the numbers of its source
    table: Table | None  # the schema of a table with columns of several kinds
    model: PyTree


@contextmanager
def run_directory(config: Train, parts: Parts) -> Iterator[Path]:
    """The directory of a run, with its config.json, locked against other processes.

    It is a new directory, or with `config.resume` the one to continue in. A run that is there is
    removed with `config.overwrite`.

    Raises `ValueError` for a directory that is not hvax's, that another process writes to, or that
    holds a run with other options. The directory is then left as it was.
    """
    name = f"{Path(config.source).stem}-{config.model.model}-{time.strftime('%Y%m%d-%H%M%S')}"
    path = config.run_dir or Path("runs") / name
    if config.resume:
        _check_same_options(path / CONFIG, config, parts.digest)
    elif path.exists() or path.is_symlink():
        _check_replaceable(path, config.overwrite)
    check_no_links(path)
    if config.resume:
        _check_checkpoints(path)
    path.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(path):
        # Another process may have begun a run here, or ended one, since it was looked at.
        if config.resume:
            _check_same_options(path / CONFIG, config, parts.digest)
        else:
            if not is_empty(path):
                _check_replaceable(path, config.overwrite)
            remove_run(path)
        write_config(path / CONFIG, config, parts)
        yield path


def _check_replaceable(path: Path, overwrite: bool) -> None:
    if not overwrite and is_empty(path):
        raise ValueError(
            f"{path} is there already, and holds no run; begin one in it by --overwrite, or use "
            "another --run-dir."
        )
    if not overwrite:
        raise ValueError(
            f"{path} is there already; go on with it by --resume, replace it by --overwrite, "
            "or use another --run-dir."
        )
    if not (_is_run(path) or is_empty(path)):
        raise ValueError(f"{path} is no run of hvax's, so --overwrite does not replace it.")


def _is_run(path: Path) -> bool:
    """Whether a directory holds a run, of whatever version."""
    try:
        return {"format", "hvax", "options"} <= read_record(path / CONFIG).keys()
    except (OSError, ValueError):
        return False


def _check_checkpoints(path: Path) -> None:
    """Check that no training of a run that is to be resumed has lost its checkpoints."""
    for folder in training_folders(path):
        if folder.is_dir():
            check_begin(folder, resume=True)


def resumed_options(run_dir: Path | None) -> Train:
    """The options with which the run that is to be resumed was started."""
    if run_dir is None:
        raise ValueError("--resume needs the --run-dir to go on with.")
    if not (run_dir / CONFIG).is_file():
        begin = " Begin one in it by --overwrite." if is_empty(run_dir) else ""
        raise FileNotFoundError(f"{run_dir} is no run directory: it has no {CONFIG}.{begin}")
    config = read_config(run_dir / CONFIG).config
    return replace(config, run_dir=run_dir, resume=True, overwrite=False)


def _check_same_options(file: Path, config: Train, digest: str) -> None:
    """Check that a run is resumed with the options and data that it was started with."""
    started = read_config(file)
    there, here = _flat(as_options(started.config)), _flat(as_options(with_absolute_paths(config)))
    may_differ = _MAY_DIFFER
    if started.digest == digest and not {there["source"], here["source"]} & set(SOURCES):
        may_differ = _MAY_DIFFER | {"source"}  # a file may have moved
    for name in sorted(here.keys() - may_differ):
        if there[name] != here[name]:
            flag = "--" + name.split(".")[-1].replace("_", "-")
            what = "the source" if name == "source" else flag
            raise ValueError(
                f"{file.parent} was started with another value of {what}: {there[name]} there, "
                f"{here[name]} here. Leave it out, or start a new run."
            )
    if started.digest != digest:
        raise ValueError(
            f"{here['source']} does not hold the numbers that {file.parent} was started with. Give "
            "the file as it was, or start a new run."
        )


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        inner = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return flat


def open_run(path: Path) -> Run:
    """The run in a directory, with its model. The baseline of a run opens as RUN/baseline.

    Raises `FileNotFoundError` where there is none or it holds no model yet, and `ValueError` for a
    damaged file or one of a newer format.
    """
    file = path / CONFIG
    baseline = path.absolute().name == BASELINE and not file.is_file()
    if baseline:
        file = path.absolute().parent / CONFIG
    if not file.is_file():
        raise FileNotFoundError(
            f"{path} is no run directory: it has no {CONFIG}. `hvax train` makes one."
        )
    config, x_shape, scale, digest, table = read_config(file)
    options = as_options(config)
    if baseline:
        config = replace(config, model=replace(config.model, model="vae"))
    if not (path / MODEL / STRUCTURE).is_file():
        none = baseline and not path.is_dir()
        why = "the run has no baseline" if none else "its training has not come to an end"
        raise FileNotFoundError(f"{path} holds no model: {why}.")
    jax.config.update("jax_enable_x64", config.train.x64)
    model = load(path / MODEL)
    if type(model).__name__.lower() != config.model.model:
        raise ValueError(
            f"{path / MODEL} holds {kind_of(model)}, where {CONFIG} says "
            f"{config.model.model}; the files are of two runs."
        )
    return Run(path, config, options, x_shape, scale, digest, table, model)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The metrics of every epoch of the run in a directory, also of those before its flow."""
    before = read_log(path / BEFORE_FLOW / METRICS)
    return concatenate_histories(before, read_log(path / METRICS))
