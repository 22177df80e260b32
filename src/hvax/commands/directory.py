"""A run directory: claimed when a run starts, opened by every later command.

runs/NAME/config.json       format version, every option, what was read, versions
runs/NAME/metrics.jsonl     one JSON object per epoch (of the flow, where it is turned on later)
runs/NAME/skipped.jsonl     one JSON object per update that was left out
runs/NAME/model/            the best model by validation ELBO (hvax.load opens it)
runs/NAME/checkpoints/      what `hvax train --resume` goes on from
runs/NAME/results.json      the final table
runs/NAME/evaluation.json   what `hvax evaluate` printed last
runs/NAME/report.html       the page to look at
runs/NAME/baseline/         the plain VAE of the same networks, as a run directory
runs/NAME/before-flow/      what --flow-from-epoch turned the flow on: metrics, model, checkpoints
"""

import dataclasses
import json
import time
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from hvax import __version__
from hvax.commands.build import Parts
from hvax.commands.places import found, from_here
from hvax.config import Train
from hvax.data.source import SOURCES
from hvax.storage.files import dumps, held, json_object, write_atomically
from hvax.storage.files import read_json as read_object
from hvax.storage.forms import check_form
from hvax.storage.run_files import BASELINE as BASELINE
from hvax.storage.run_files import CONFIG, check_no_links, clear, is_empty, trainings
from hvax.storage.run_files import EVALUATION as EVALUATION
from hvax.storage.run_files import REPORT as REPORT
from hvax.storage.run_files import RESULTS as RESULTS
from hvax.storage.run_files import copy_training as copy_training
from hvax.storage.run_folder import BEFORE_FLOW, METRICS, check_begin, is_metrics
from hvax.storage.run_folder import MODEL as MODEL
from hvax.storage.structure import STRUCTURE, load
from hvax.training.fit import concatenate_histories

FORMAT = 1
# What is decided by the data where it is not given; the first runs did not write down what.
_DECIDED = {
    "data.columns", "model.hidden", "model.latent_size", "model.likelihood", "train.epochs",
    "train.batch_size", "train.patience",
}  # fmt: skip
# What a resumed run may have otherwise than the run that it goes on with.
_FREE = {
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
    digest: str | None  # of the numbers of its source; the first runs have none
    model: PyTree


class _Record(NamedTuple):
    """What config.json says of a run."""

    config: Train
    options: dict[str, Any]
    x_shape: tuple[int, ...]
    scale: float
    digest: str | None


@contextmanager
def claimed(config: Train, parts: Parts) -> Iterator[Path]:
    """The directory of a run with its config.json, held against other processes: a new one, or the
    one to go on with. One that is there is replaced if asked to be.

    Raises `ValueError` for a directory that is somebody else's, of a run under way, or of a run
    that was started with other options; it is then left as it was.
    """
    name = f"{Path(config.source).stem}-{config.model.model}-{time.strftime('%Y%m%d-%H%M%S')}"
    path = config.run_dir or Path("runs") / name
    options = dataclasses.asdict(_absolute(config))
    if config.resume:
        _check_options(path / CONFIG, options, parts.digest)
    elif path.exists() or path.is_symlink():
        _check_replaceable(path, config.overwrite)
    check_no_links(path)
    if config.resume:
        _check_checkpoints(path)
    path.mkdir(parents=True, exist_ok=True)
    with held(path):
        # Another process may have begun a run here, or ended one, since it was looked at.
        if config.resume:
            _check_options(path / CONFIG, options, parts.digest)
        else:
            if not is_empty(path):
                _check_replaceable(path, config.overwrite)
            clear(path)
        record = {
            "format": FORMAT,
            "hvax": __version__,
            "jax": jax.__version__,
            "device": str(jax.devices()[0]),
            "options": options,
            "from_here": from_here(options, path),
            "data": {
                "x_shape": parts.train.x_shape,
                "scale": parts.scale,
                "digest": parts.digest,
                "examples": {
                    part: len(getattr(parts, part)) for part in ("train", "validation", "test")
                },
                "likelihood": type(parts.likelihood).__name__,
                "units": parts.independent.describe() if config.data.standardize else None,
                "feature_names": parts.feature_names,
                "notes": parts.notes,
            },
        }
        write_json(path / CONFIG, record)
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


def _check_checkpoints(path: Path) -> None:
    """That no training of a run to go on with has lost its checkpoints."""
    for folder in trainings(path):
        if folder.is_dir():
            check_begin(folder, resume=True)


def resumed_options(run_dir: Path | None) -> Train:
    """The options with which the run to go on with was started."""
    if run_dir is None:
        raise ValueError("--resume needs the --run-dir to go on with.")
    if not (run_dir / CONFIG).is_file():
        begin = " Begin one in it by --overwrite." if is_empty(run_dir) else ""
        raise FileNotFoundError(f"{run_dir} is no run directory: it has no {CONFIG}.{begin}")
    config = _read_config(run_dir / CONFIG).config
    return dataclasses.replace(config, run_dir=run_dir, resume=True, overwrite=False)


def _check_options(file: Path, options: dict[str, Any], digest: str) -> None:
    record = _read_config(file)
    there, here = _flat(record.options), _flat(json.loads(dumps(options)))
    free = _FREE
    if record.digest == digest and not {there["source"], here["source"]} & set(SOURCES):
        free = _FREE | {"source"}  # a file may have moved
    for name in sorted(here.keys() - free):
        undecided = name in _DECIDED and there.get(name) is None
        if not undecided and there.get(name, here[name]) != here[name]:
            flag = "--" + name.split(".")[-1].replace("_", "-")
            what = "the source" if name == "source" else flag
            raise ValueError(
                f"{file.parent} was started with another value of {what}: {there[name]} there, "
                f"{here[name]} here. Leave it out, or start a new run."
            )
    if record.digest not in (None, digest):
        raise ValueError(
            f"{here['source']} does not hold the numbers that {file.parent} was started with. Give "
            "the file as it was, or start a new run."
        )


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in options.items():
        inner = isinstance(value, Mapping)
        found |= _flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return found


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
    record = _read_config(file)
    config = record.config
    if baseline:
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, model="vae"))
    if not (path / MODEL / STRUCTURE).is_file():
        none = baseline and not path.is_dir()
        why = "the run has no baseline" if none else "its training has not come to an end"
        raise FileNotFoundError(f"{path} holds no model: {why}.")
    jax.config.update("jax_enable_x64", config.train.x64)
    model = load(path / MODEL)
    if type(model).__name__.lower() != config.model.model:
        raise ValueError(
            f"{path / MODEL} holds a {type(model).__name__}, where {CONFIG} says "
            f"{config.model.model}; the files are of two runs."
        )
    return Run(path, config, record.options, record.x_shape, record.scale, record.digest, model)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line cut short by a crash is left out. Raises `ValueError`
    for any other that no run has written."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    whole = []
    for i, line in enumerate(lines):
        try:
            record = json_object(line)
        except ValueError as error:
            if i < len(lines) - 1:
                raise ValueError(f"{path} is damaged in line {i + 1}: {error}.") from error
            continue
        if not is_metrics(record):
            raise ValueError(
                f"{path} is damaged in line {i + 1}: it must hold an epoch >= 1 and numbers."
            )
        whole.append(record)
    return whole


def read_history(path: Path) -> list[dict[str, Any]]:
    """The metrics of all epochs of the run in a directory, those before its flow among them."""
    before = read_metrics(path / BEFORE_FLOW / METRICS)
    return concatenate_histories(before, read_metrics(path / METRICS))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that hvax wrote. Raises `ValueError`, which names the file, where it is damaged
    or does not hold what a file of its name does."""
    record = read_object(path)
    try:
        check_form(path.name, record)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    return record


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """JSON, written whole or not at all; numbers that are not finite as null."""
    write_atomically(path, (dumps(record, indent=1) + "\n").encode())


def _is_run(path: Path) -> bool:
    try:
        return {"format", "hvax", "options"} <= read_json(path / CONFIG).keys()
    except (OSError, ValueError):
        return False


def _absolute(config: Train) -> Train:
    """The options with absolute paths, so that later commands may run from any folder."""
    source = config.source if config.source in SOURCES else str(Path(config.source).resolve())
    data = dataclasses.replace(config.data, data_dir=config.data.data_dir.resolve())
    start = config.train.warm_start
    train = dataclasses.replace(config.train, warm_start=start and start.resolve())
    return dataclasses.replace(config, source=source, data=data, train=train)


def _read_config(file: Path) -> _Record:
    record = read_json(file)
    version = record.get("format")
    if type(version) is int and version > FORMAT:
        raise ValueError(
            f"{file} has format {version}; this version of hvax reads {FORMAT}. Install a newer "
            "one."
        )
    if version != FORMAT:
        raise ValueError(
            f"{file} is no run's of hvax: its format must be {FORMAT}, got {version!r}."
        )
    try:
        options = record.get("options")
        options = record["options"] = found(options, record.get("from_here"), file.parent)
        config = _decode(Train, options, "options")
        data = _decode(dict, record.get("data"), "data")
        x_shape = _decode(tuple[int, ...], data.get("x_shape"), "x_shape")
        scale = _decode(float, data.get("scale"), "scale")
        digest = _decode(str | None, data.get("digest"), "digest")
        return _Record(config, options, x_shape, scale, digest)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged: {error}.") from error


def _decode(kind: Any, value: Any, name: str) -> Any:
    """A dataclass, path, tuple, word or number back from its JSON; `ValueError` for another."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _decode(inner[0], value, name)
    if origin in (types.UnionType, typing.Union):
        some = next(kind for kind in inner if kind is not types.NoneType)
        return None if value is None else _decode(some, value, name)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind, include_extras=True)
        for unknown in value.keys() - hints:
            raise ValueError(f"{name} has {unknown!r}, which this version of hvax does not know")
        return kind(**{k: _decode(hints[k], item, f"{name}.{k}") for k, item in value.items()})
    if origin is tuple and isinstance(value, list):
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        if len(kinds) == len(value):
            return tuple(_decode(*pair, name) for pair in zip(kinds, value, strict=True))
    if origin is typing.Literal and value in inner:
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    wanted = kind.__name__ if isinstance(kind, type) else str(kind).removeprefix("typing.")
    raise ValueError(f"{name} must be {wanted}, got {value!r}")
