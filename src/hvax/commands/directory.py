"""A run directory: claimed when a run starts, opened by every later command.

runs/NAME/config.json       format version, every option, what was read, versions
runs/NAME/metrics.jsonl     one JSON object per epoch
runs/NAME/model/            the best model by validation ELBO (hvax.load opens it)
runs/NAME/results.json      the final table
runs/NAME/evaluation.json   what `hvax evaluate` printed last
runs/NAME/report.html       the page to look at
runs/NAME/baseline/         the plain VAE of the same networks, as a run directory
"""

import dataclasses
import json
import math
import shutil
import time
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from hvax import __version__
from hvax.commands.build import Parts
from hvax.config import Train
from hvax.data.source import SOURCES
from hvax.files import write_atomically
from hvax.structure import load

FORMAT = 1
CONFIG, METRICS, MODEL, RESULTS, EVALUATION, REPORT, BASELINE = (
    "config.json",
    "metrics.jsonl",
    "model",
    "results.json",
    "evaluation.json",
    "report.html",
    "baseline",
)


class Run(NamedTuple):
    """A finished or interrupted run."""

    path: Path
    config: Train
    options: dict[str, Any]  # the same as config, as config.json holds them
    x_shape: tuple[int, ...]
    model: PyTree


def claim(config: Train, parts: Parts) -> Path:
    """A new run directory with its config.json; one that is there is replaced if asked to be."""
    name = f"{Path(config.source).stem}-{config.model.model}-{time.strftime('%Y%m%d-%H%M%S')}"
    path = config.run_dir or Path("runs") / name
    if path.exists():
        if not config.overwrite:
            raise ValueError(f"{path} is there already; use --overwrite or another --run-dir.")
        if not path.is_dir() or (any(path.iterdir()) and not _is_run(path)):
            raise ValueError(f"{path} is no run of hvax's, so --overwrite does not replace it.")
        for name in (CONFIG, METRICS, RESULTS, EVALUATION, REPORT):
            (path / name).unlink(missing_ok=True)
        for name in (MODEL, BASELINE):
            shutil.rmtree(path / name, ignore_errors=True)
    path.mkdir(parents=True, exist_ok=True)
    record = {
        "format": FORMAT,
        "hvax": __version__,
        "jax": jax.__version__,
        "device": str(jax.devices()[0]),
        "options": dataclasses.asdict(_absolute(config)),
        "data": {
            "x_shape": parts.train.x_shape,
            "scale": parts.train.scale,
            "examples": {
                part: len(getattr(parts, part)) for part in ("train", "validation", "test")
            },
            "likelihood": type(parts.likelihood).__name__,
        },
    }
    write_json(path / CONFIG, record)
    return path


def open_run(path: Path) -> Run:
    """The run in a directory, with its model. The baseline of a run opens as RUN/baseline.

    Raises `FileNotFoundError` where there is none or it holds no model yet, and `ValueError` for a
    damaged config.json or one of a newer format.
    """
    file = path / CONFIG
    baseline = path.name == BASELINE and not file.is_file()
    if baseline:
        file = path.parent / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{path} is no run directory: it has no {CONFIG}.")
    try:
        record = json.loads(file.read_bytes())
        version = record["format"]
        if version == FORMAT:
            config = _decode(Train, record["options"])
            if baseline:
                model = dataclasses.replace(config.model, model="vae")
                config = dataclasses.replace(config, model=model)
            jax.config.update("jax_enable_x64", config.train.x64)
            x_shape = tuple(record["data"]["x_shape"])
            return Run(path, config, record["options"], x_shape, load(path / MODEL))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is damaged: {type(error).__name__}: {error}.") from error
    raise ValueError(
        f"{file} has format {version!r}; this version of hvax reads {FORMAT}. Install a newer one."
    )


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl; a last line cut short by a crash is left out."""
    lines = path.read_text().splitlines() if path.is_file() else []
    whole = []
    for i, line in enumerate(lines):
        try:
            whole.append(json.loads(line))
        except json.JSONDecodeError as error:
            if i < len(lines) - 1:
                raise ValueError(f"{path} is damaged in line {i + 1}: {error}.") from error
    return whole


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that hvax wrote. Raises `ValueError` where it is damaged."""
    try:
        record = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object.")
    return record


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """JSON, written whole or not at all; numbers that are not finite as null."""
    write_atomically(path, (dumps(record, indent=1) + "\n").encode())


def dumps(record: Any, *, indent: int | None = None) -> str:
    """JSON that every reader takes: NaN and infinity, which JSON does not have, become null."""

    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(record), indent=indent, default=str, allow_nan=False)


def _is_run(path: Path) -> bool:
    try:
        record = json.loads((path / CONFIG).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and {"format", "hvax", "options"} <= set(record)


def _absolute(config: Train) -> Train:
    """The options with absolute paths, so that later commands may run from any folder."""
    source = config.source if config.source in SOURCES else str(Path(config.source).resolve())
    data = dataclasses.replace(config.data, data_dir=config.data.data_dir.resolve())
    return dataclasses.replace(config, source=source, data=data)


def _decode(kind: Any, value: Any) -> Any:
    """A dataclass, path or tuple back from its JSON."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _decode(typing.get_args(kind)[0], value)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _decode(next(a for a in typing.get_args(kind) if a is not types.NoneType), value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return kind(**{name: _decode(hints[name], item) for name, item in value.items()})
    if origin is tuple:
        return tuple(value)
    return Path(value) if kind is Path else value
