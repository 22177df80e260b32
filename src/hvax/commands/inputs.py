"""What a command works on, and where its output may go."""

import dataclasses
import io
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.commands.build import own_parts, whole_source
from hvax.commands.directory import Run
from hvax.config import InsideFile, OwnData, Train
from hvax.data.examples import Examples
from hvax.data.source import SOURCES
from hvax.pipeline.parts import Parts, Whole
from hvax.pipeline.tables import column_of
from hvax.storage.files import write_atomically


class Selected(NamedTuple):
    """The examples that a command works on."""

    examples: Examples
    labels: NDArray[Any] | None
    rows: NDArray[np.int64]  # where they stand in their file, from 0


def run_data(
    run: Run,
    source: str | None,
    file: InsideFile,
    own: OwnData,
    *,
    empty_rows: bool = False,
) -> Selected:
    """The run's test part, or all of another source, prepared alike.

    What `file` does not name in another file is what the run read in its own, where that file has
    it. Prints what was left out of it, and what was guessed. Rows without any value are left out of
    a table unless `empty_rows`.

    Raises `ValueError` where the examples do not have the shape that the run was trained on, and
    what `run_parts` raises.
    """
    if source is None:
        if (what := _given(file)) is not None:
            raise ValueError(f"{what} is for other data than the run's own: give their file too.")
        parts = run_parts(run, own, labels=file.labels)
        return Selected(parts.test, parts.test_labels, parts.test_rows)
    if own.source is not None:
        raise ValueError(
            f"--source says where the run's own data are, and {source} is other data: give one of "
            "them."
        )
    found = _other(run, source, file, own, empty_rows=empty_rows)
    for text in found.notes:
        print(f"note: {text}")
    return Selected(_of_its_shape(run, found.examples, source), found.labels, found.rows)


def _other(run: Run, source: str, file: InsideFile, own: OwnData, *, empty_rows: bool) -> Whole:
    """All of another source, read by the first of the names that suit it."""
    config = dataclasses.replace(_moved(run, own), source=source)
    if run.table is not None:
        if (what := _given(file)) is not None or file.labels is not None:
            raise ValueError(
                f"{what or '--labels'} is not for {run.path}, whose columns are read by their "
                "names and kinds. Give the file the run's columns."
            )
        return whole_source(
            config,
            run.model.decoder.likelihood,
            run.scale,
            table=run.table,
            unseen=file.unseen,
            empty_rows=empty_rows,
        )
    if file.columns is not None:
        config = _with_data(config, columns=file.columns)
    likelihood = run.model.decoder.likelihood
    choices = [
        {**names, "header": header}
        for header in _headers(run, source, file)
        for names in _names_inside(run, source, file)
    ]
    for names in choices:
        last = names is choices[-1]
        sure = names["header"] != _REMEMBERED or file.header is not None
        try:
            found = whole_source(
                _with_data(config, **names),
                likelihood,
                run.scale,
                chosen=file.columns is not None,
            )
        except ValueError:
            if last:
                raise
            continue
        if last or (
            found.examples.x_shape == run.x_shape
            and (sure or found.examples.names == config.data.columns)
        ):
            return found
    raise AssertionError("the last of the names has been tried")


def _names_inside(run: Run, source: str, file: InsideFile) -> list[dict[str, str | None]]:
    """The names of examples and labels to try in a file, in this order: those of the run's own file
    mean something in another one only where it has them too."""
    own, array, labels = run.config.data, file.array, file.labels
    first = {"array": array or own.array, "labels": labels or own.labels}
    if _is_own(run, source):
        return [first]
    bare = {"array": array, "labels": labels}
    tried = [first, {**first, "labels": labels}, {**first, "array": array}, bare]
    return [names for i, names in enumerate(tried) if names not in tried[:i]]


_REMEMBERED = "yes"


def _headers(run: Run, source: str, file: InsideFile) -> list[str]:
    """Whether to take the first line for a header, in the order to try. That the run's own file had
    one says something of another file only where that has the same names."""
    own = run.config.data
    if file.header is not None:
        return [file.header]
    if _is_own(run, source):
        return [own.header]
    return [_REMEMBERED, "auto"] if own.header == _REMEMBERED and own.columns else ["auto"]


def _is_own(run: Run, source: str) -> bool:
    """Whether a file is the run's own."""
    return run.config.source in (source, str(Path(source).resolve()))


def _given(file: InsideFile) -> str | None:
    """An option that says how another file is read, where there is one."""
    names = ("array", "columns", "header")
    return next((f"--{name}" for name in names if getattr(file, name) is not None), None)


def run_parts(run: Run, own: OwnData, *, labels: str | None = None) -> Parts:
    """The run's own data, with other labels where they are named.

    Raises as `own_parts` and `run_data` do, `FileNotFoundError` where the data have moved, and
    `ValueError` where they are not those that the run was trained on.
    """
    config = _moved(run, own)
    if labels is not None and run.table is None:
        config = _with_data(config, labels=labels)
    try:
        parts = own_parts(config)
    except (FileNotFoundError, NotADirectoryError) as error:
        if config.source in SOURCES:
            raise
        raise FileNotFoundError(
            f"the data of {run.path} are not at {config.source}. Say with --source where the file "
            "is now."
        ) from error
    if labels is not None and run.table is not None:
        column = column_of(config.source, labels, header=config.data.header)
        parts = parts._replace(test_labels=column[parts.test_rows])
    _of_its_shape(run, parts.test, config.source)
    if run.digest is not None and parts.digest != run.digest:
        raise ValueError(
            f"{config.source} does not hold the numbers that {run.path} was trained on: what would "
            "be scored is no test part of that training. Give the file as it was, by --source "
            "where it is another, or score all of this one as other data: "
            f"hvax evaluate {shlex.quote(str(run.path))} {shlex.quote(config.source)}"
        )
    return parts


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


def _with_data(config: Train, **options: Any) -> Train:
    """The options with others for the data."""
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **options))


def _moved(run: Run, own: OwnData) -> Train:
    """The run's options, with its data where they are now."""
    config = run.config
    if own.source is not None:
        if {own.source, config.source} & set(SOURCES) and own.source != config.source:
            raise ValueError(
                f"--source must be where the data of {run.path} are now, which are "
                f"{config.source}, got {own.source}."
            )
        config = dataclasses.replace(config, source=own.source)
    return config if own.data_dir is None else _with_data(config, data_dir=own.data_dir)


def _of_its_shape(run: Run, examples: Examples, source: str) -> Examples:
    if examples.x_shape != run.x_shape:
        raise ValueError(
            f"{run.path} was trained on examples of shape {run.x_shape}, {source} has "
            f"{examples.x_shape}."
        )
    return examples
