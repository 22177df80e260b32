"""Which data a command works on, and where its output may go."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.commands.build import load_parts, load_whole
from hvax.commands.directory import Run
from hvax.data.examples import Examples
from hvax.data.source import SOURCES
from hvax.models.hvae import plain_vae


def run_data(
    run: Run, source: str | None, data_dir: Path | None
) -> tuple[Examples, NDArray[Any] | None]:
    """Examples and their labels: the run's test part, or all of another source, prepared alike.

    Raises `ValueError` where the examples do not have the shape that the run was trained on.
    """
    config = run.config
    if data_dir is not None:
        data = dataclasses.replace(config.data, data_dir=data_dir)
        config = dataclasses.replace(config, data=data)
    if source is None:
        parts = load_parts(config)
        return parts.test, parts.test_labels
    if source not in SOURCES and source != config.source:
        # Names inside the run's own file mean nothing in another.
        data = dataclasses.replace(config.data, array=None, labels=None)
        config = dataclasses.replace(config, data=data)
    config = dataclasses.replace(config, source=source)
    examples, labels = load_whole(config, plain_vae(run.model).decoder.likelihood)
    if examples.x_shape != run.x_shape:
        raise ValueError(
            f"{run.path} was trained on examples of shape {run.x_shape}, {source} has "
            f"{examples.x_shape}."
        )
    return examples, labels


def evenly(examples: Examples, most: int) -> Examples:
    """At most so many examples, evenly spaced: a file's first ones may be of another kind."""
    if len(examples) <= most:
        return examples
    chosen = np.linspace(0, len(examples) - 1, most).round().astype(np.int64)
    index = chosen if examples.index is None else examples.index[chosen]
    return dataclasses.replace(examples, index=index)


def new_file(path: Path, suffixes: tuple[str, ...], *, overwrite: bool = False) -> Path:
    """An output path, refused with `ValueError` where it exists or ends in another suffix."""
    if path.suffix not in suffixes:
        raise ValueError(f"the output must end in {' or '.join(suffixes)}, got {path}.")
    if path.exists() and not (overwrite and path.is_file()):
        raise ValueError(f"{path} is there already; give another name or remove it.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist.")
    return path
