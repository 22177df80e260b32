"""What a command works on, and where its output may go."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.commands.build import Parts, load_parts, load_whole
from hvax.commands.directory import Run
from hvax.config import Train
from hvax.data.examples import Examples
from hvax.files import write_atomically
from hvax.models.hvae import plain_vae


def run_data(
    run: Run,
    source: str | None,
    data_dir: Path | None,
    *,
    array: str | None = None,
    labels: str | None = None,
) -> tuple[Examples, NDArray[Any] | None]:
    """Examples and their labels: the run's test part, or all of another source, prepared alike.

    `array` and `labels` are names inside the file; without them those of the run hold, in another
    file where it has them. Prints what was left out of another file.

    Raises `ValueError` where the examples do not have the shape that the run was trained on.
    """
    if source is None:
        if array is not None:
            raise ValueError("--array is for other data than the run's own: give their file too.")
        parts = run_parts(run, data_dir, labels=labels)
        return parts.test, parts.test_labels
    config = dataclasses.replace(_moved(run.config, data_dir), source=source)
    likelihood = plain_vae(run.model).decoder.likelihood
    choices = _names_inside(run, source, array, labels)
    for i, names in enumerate(choices):
        config = _with_names(config, **names)
        try:
            examples, found, notes = load_whole(config, likelihood, run.scale)
        except ValueError:
            if i == len(choices) - 1:
                raise
            continue
        if i == len(choices) - 1 or examples.x_shape == run.x_shape:
            break
    for text in notes:
        print(f"note: {text}")
    return _of_its_shape(run, examples, source), found


def _names_inside(
    run: Run, source: str, array: str | None, labels: str | None
) -> list[dict[str, str | None]]:
    """The names of examples and labels to try in a file, in this order: those of the run's own file
    mean something in another one only where it has them too."""
    own = run.config.data
    first = {"array": array or own.array, "labels": labels or own.labels}
    if run.config.source in (source, str(Path(source).resolve())):
        return [first]
    bare = {"array": array, "labels": labels}
    tried = [first, {**first, "labels": labels}, {**first, "array": array}, bare]
    return [names for i, names in enumerate(tried) if names not in tried[:i]]


def run_parts(run: Run, data_dir: Path | None, *, labels: str | None = None) -> Parts:
    """The run's own data, with other labels where they are named. Raises as `load_parts` and
    `run_data` do."""
    config = _moved(run.config, data_dir)
    if labels is not None:
        config = _with_names(config, array=config.data.array, labels=labels)
    parts = load_parts(config)
    _of_its_shape(run, parts.test, run.config.source)
    return parts


def evenly(examples: Examples, most: int) -> Examples:
    """At most so many examples, evenly spaced: a file's first ones may be of another kind."""
    if len(examples) <= most:
        return examples
    chosen = np.linspace(0, len(examples) - 1, most).round().astype(np.int64)
    index = chosen if examples.index is None else examples.index[chosen]
    return dataclasses.replace(examples, index=index)


def as_data(run: Run, x: NDArray[Any]) -> NDArray[Any]:
    """Draws, or E[x | z], as the run's data hold them: one class where those are integers."""
    return x if x.shape[1:] == run.x_shape else x.argmax(axis=-1)


def at_least_one(**options: int) -> None:
    """Refuses options below 1 with `ValueError`."""
    for name, value in options.items():
        if value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be >= 1, got {value}.")


def seed_key(seed: int) -> PRNGKeyArray:
    """The key of --seed. Raises `ValueError` where JAX would wrap the seed around."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"--seed must be in [0, 2**32), got {seed}.")
    return jax.random.key(seed)


def new_file(path: Path, suffixes: tuple[str, ...], *, overwrite: bool | None = None) -> Path:
    """An output path, refused where it exists, ends in another suffix or lies in no folder.

    `overwrite` is what --overwrite says, None for a command without it.
    """
    if path.suffix not in suffixes:
        raise ValueError(f"the output must end in {' or '.join(suffixes)}, got {path}.")
    if path.exists() and not (overwrite and path.is_file()):
        remedy = "or use --overwrite" if overwrite is False and path.is_file() else "or remove it"
        raise ValueError(f"{path} is there already; give another name {remedy}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; make it first.")
    return path


def write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """A file of what `write` writes, all of it or none."""
    buffer = io.BytesIO()
    write(buffer)
    write_atomically(path, buffer.getvalue())


def _with_names(config: Train, *, array: str | None, labels: str | None) -> Train:
    data = dataclasses.replace(config.data, array=array, labels=labels)
    return dataclasses.replace(config, data=data)


def _moved(config: Train, data_dir: Path | None) -> Train:
    if data_dir is None:
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.data, data_dir=data_dir))


def _of_its_shape(run: Run, examples: Examples, source: str) -> Examples:
    if examples.x_shape != run.x_shape:
        raise ValueError(
            f"{run.path} was trained on examples of shape {run.x_shape}, {source} has "
            f"{examples.x_shape}."
        )
    return examples
