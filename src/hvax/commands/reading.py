"""The files of a run: its own, and others that are read as its own was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvax.commands.columns import varying_columns
from hvax.config import Train
from hvax.data.source import Source, load_source
from hvax.data.split import Split, split
from hvax.data.table import ROWS_WITH_HOLES


def read_own(config: Train) -> tuple[Source, Split, tuple[str, ...]]:
    """A run's source without the columns that are of no use, its parts, and notes of what was left
    out."""
    options = config.data
    source = read(config)
    parts = split(source, seed=options.split_seed, fractions=options.fractions)
    kept, notes = varying_columns(source, parts.train, options.columns is not None)
    names = kept.feature_names
    if source.rows is None or names is None or names == source.feature_names:
        return kept, parts, (*source.notes, *notes)
    # Some rows may lack a cell in such columns alone. They are used, as they will be by all that
    # reads these columns by their names: a resumed run, and every command on it.
    again = read(replace(config, data=replace(options, columns=names)))
    of_columns = tuple(text for text in source.notes if ROWS_WITH_HOLES not in text)
    parts = split(again, seed=options.split_seed, fractions=options.fractions)
    return again, parts, (*of_columns, *again.notes, *notes)


def rows_of(source: Source) -> NDArray[np.int64]:
    """Where the examples stand in their file, from 0."""
    return np.arange(len(source.x)) if source.rows is None else source.rows


def read(config: Train) -> Source:
    """The source that the options name."""
    options = config.data
    return load_source(
        config.source,
        data_dir=options.data_dir,
        array=options.array,
        labels=options.labels,
        columns=options.columns,
        header=options.header,
    )


def read_alike(config: Train) -> Source:
    """Another file than the run's own: the run's columns by their names, and by their order where
    one of the two has no names. Raises `ValueError` where a column is not there."""
    columns = config.data.columns
    without = replace(config, data=replace(config.data, columns=None))
    if columns is None or Path(config.source).suffix.lower() != ".csv":
        return read(without)
    try:
        source = read(config)
    except ValueError:
        source = read(without)
        if source.header or source.x.shape[1:] != (len(columns),):
            raise
    else:
        found = source.feature_names or ()
        lacking = [name for name, other in zip(columns, found, strict=True) if name != other]
        if not lacking:
            return source
        if len(lacking) < len(columns):  # a number for a name is an index only where all are
            raise ValueError(
                f"{config.source} must have the columns of the run, but it has no "
                f"{', '.join(lacking)}. Name the columns that stand for the run's, in its order, "
                "with --columns."
            )
    listed = ", ".join(columns[:5]) + (" ..." if len(columns) > 5 else "")
    note = f"columns of {config.source} are taken by their places, for the run's {listed}"
    return replace(source, notes=(*source.notes, note))
