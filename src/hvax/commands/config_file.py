"""config.json: every option of a run, what was read, and versions."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from hvax import __version__
from hvax.commands.places import relative_paths, resolve_paths
from hvax.config import Train
from hvax.data.schema import Table
from hvax.data.source import SOURCES
from hvax.pipeline.parts import Parts
from hvax.storage.forms import write_record
from hvax.storage.json_files import dumps
from hvax.storage.manifest import Format

FORMAT = Format(
    1, {"hvax": str, "options": dict, "relative_paths": dict, "data": dict}, has_checksum=False
)


class ConfigFile(NamedTuple):
    """What config.json says of a run."""

    config: Train
    x_shape: tuple[int, ...]
    scale: float  # of the numbers as their source stores them
    digest: str  # of the numbers of the source
    table: Table | None  # the schema, if the source is a table with columns of several kinds


def write_config(file: Path, config: Train, parts: Parts) -> None:
    """Write the config.json of a run that is trained with these options on these data."""
    options = dataclasses.asdict(with_absolute_paths(config))
    record = {
        "format": FORMAT.version,
        "hvax": __version__,
        "jax": jax.__version__,
        "device": str(jax.devices()[0]),
        "options": options,
        "relative_paths": relative_paths(options, file.parent),
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
            "table": None if parts.table is None else parts.table.to_dict(),
            "notes": parts.notes,
        },
    }
    write_record(file, record)


def read_config(file: Path) -> ConfigFile:
    """Read a config.json. Raises `ValueError`, which names the file and the value, where it is
    damaged, and `NewerFormat` for that of a later version."""
    record = FORMAT.read(file)
    try:
        options = resolve_paths(record["options"], record["relative_paths"], file.parent)
        data = record["data"]
        return ConfigFile(
            _decode(Train, options, "options"),
            _decode(tuple[int, ...], data.get("x_shape"), "x_shape"),
            _decode(float, data.get("scale"), "scale"),
            _decode(str, data.get("digest"), "digest"),
            None if data.get("table") is None else Table.from_dict(data["table"]),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged: {error}.") from error


def as_options(config: Train) -> dict[str, Any]:
    """The options as config.json holds them."""
    return json.loads(dumps(dataclasses.asdict(config)))


def with_absolute_paths(config: Train) -> Train:
    """The options with absolute paths, so that later commands may run from any folder."""
    source = config.source if config.source in SOURCES else str(Path(config.source).resolve())
    data = dataclasses.replace(config.data, data_dir=config.data.data_dir.resolve())
    start = config.train.warm_start
    train = dataclasses.replace(config.train, warm_start=start and start.resolve())
    return dataclasses.replace(config, source=source, data=data, train=train)


def _decode(kind: Any, value: Any, name: str) -> Any:
    """A dataclass, path, tuple, word or number from its JSON. Raises `ValueError` for a value of
    another type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _decode(inner[0], value, name)
    if origin in (types.UnionType, typing.Union):
        some = next(kind for kind in inner if kind is not types.NoneType)
        return None if value is None else _decode(some, value, name)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
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
