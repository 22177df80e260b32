"""Reading a source: a run's own, and other files that are read as its own was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.check import check_examples, holds_bits
from hvax.data.convert import to_array
from hvax.data.encode import Unseen
from hvax.data.header import Header
from hvax.data.schema import Table
from hvax.data.source import Source, load_source
from hvax.data.split import FRACTIONS, Split, split
from hvax.data.table import ROWS_WITH_HOLES, Missing
from hvax.pipeline.columns import varying_columns
from hvax.pipeline.tables import (
    inferred_table,
    is_mixed,
    is_table,
    numbers_only,
    read_table,
    without_conditions,
)
from hvax.wording import words


@dataclass(frozen=True)
class Reading:
    """What is read: a source by its name or path, and what in it, as `load_source` takes them; or a
    `Source`, or examples in memory with their labels."""

    source: Any
    data_dir: str | Path = "data"
    array: str | None = None
    labels: Any = None
    columns: Sequence[str] | None = None
    header: Header = "auto"
    missing: Missing = "keep"
    kinds: Mapping[str, str] | None = None
    table: Table | None = None
    """The schema to read by: that of the run whose data these are like."""
    mixed: bool | None = None
    """Whether columns of a table are modeled by their kinds; None decides by what they hold."""
    unseen: Unseen = "refuse"
    """What becomes of classes that the schema does not know."""
    empty_rows: bool = False
    """Whether rows without any value are kept."""

    @property
    def name(self) -> str:
        """What messages call it: its name or path, or "data"."""
        if isinstance(self.source, Source):
            return self.source.name
        return str(self.source) if isinstance(self.source, str | Path) else "data"

    def load(self) -> Source:
        """The source. Raises as `load_source`, `source_of` and `Table.infer` do."""
        if (read := self._by_schema()) is not None:
            return read
        if isinstance(self.source, str | Path):
            return load_source(
                self.source,
                data_dir=self.data_dir,
                array=self.array,
                labels=self.labels,
                columns=self.columns,
                header=self.header,
                missing=self.missing,
            )
        for name, default in (("array", None), ("columns", None), ("header", "auto")):
            if (value := getattr(self, name)) != default:
                raise ValueError(
                    f"`{name}` must be given only with a file or a table, got {value!r}. Give the "
                    "examples that are to be used."
                )
        if not isinstance(self.source, Source):
            return source_of(self.source, self.labels)
        if self.labels is None:
            return self.source
        return replace(self.source, labels=np.asarray(self.labels))

    def _by_schema(self) -> Source | None:
        """A table of columns of several kinds, or a DataFrame; None for anything else."""
        if self.table is not None:
            return read_table(
                self.source,
                self.table,
                self.name,
                missing=self.missing,
                unseen=self.unseen,
                empty_rows=self.empty_rows,
            )
        asked = bool(self.kinds) or self.mixed is True
        if not is_table(self.source):
            if asked:
                raise ValueError(
                    "kinds of columns are for a table (a DataFrame, a .csv or .parquet file), got "
                    f"{self.name}. Leave them out."
                )
            return None
        is_file = isinstance(self.source, str | Path)
        is_plain_csv = is_file and Path(self.source).suffix.lower() == ".csv"
        if self.mixed is False and is_plain_csv:
            return None
        try:
            table = without_conditions(
                inferred_table(
                    self.source,
                    labels=self.labels,
                    columns=self.columns,
                    kinds=self.kinds,
                    header=self.header,
                )
            )
        except (ValueError, TypeError):
            if asked or not is_plain_csv:
                raise
            return None  # what is wrong with a file of numbers is said by its own reader
        if self.mixed is False:
            table = numbers_only(table)
        if is_plain_csv and not asked and not is_mixed(table):
            return None
        read = read_table(self.source, table, self.name, missing=self.missing, header=self.header)
        read = replace(read, notes=(*read.notes, *_numbers_as_classes(table, self.kinds or {})))
        if self.labels is None or isinstance(self.labels, str):
            return read
        return replace(read, labels=checked_labels(self.labels, len(read.x)))


def _numbers_as_classes(table: Table, asked: Mapping[str, str]) -> tuple[str, ...]:
    """A note of columns of few whole numbers that were taken as categories."""
    found = [
        column.name
        for column in table.modeled
        if column.kind == "category" and column.is_ordered and column.name not in asked
    ]
    if not found:
        return ()
    advice = words(f"kinds={{{found[0]!r}: 'real'}}", f"--kinds {found[0]}=real")
    return (
        f"few whole numbers are taken as categories: {', '.join(found)} "
        f"(to take them as numbers: {advice})",
    )


def checked_labels(labels: Any, count: int) -> NDArray[Any]:
    """Labels as an array (n,), one for each example."""
    known = np.asarray(labels)
    if known.shape != (count,):
        raise ValueError(
            f"`labels` must be one for each of {count} examples, got shape {known.shape}. Give "
            "them in the order of the examples."
        )
    return known


def source_of(data: Any, labels: Any = None) -> Source:
    """Examples in memory as a `Source`, named "data".

    `data` is (n, *x_shape), an array or a DataFrame; `labels` is (n,), or None. uint8 are gray
    levels of 0..255, unless all are 0 or 1. Raises what `check_examples` raises, and `ValueError`
    for another number of labels.
    """
    x, names = to_array(data, "data")
    holes = check_examples(x, "data")
    known = None if labels is None else checked_labels(labels, len(x))
    gray = x.dtype == np.uint8 and not holds_bits(x)
    return Source("data", x, known, 255.0 if gray else 1.0, feature_names=names, holes=holes)


def read_split(
    reading: Reading, *, fractions: Sequence[float] = FRACTIONS, seed: int = 0
) -> tuple[Source, Split, tuple[str, ...]]:
    """A source without the columns that are of no use, its parts, and notes of what was left
    out."""
    source = reading.load()
    parts = split(source, seed=seed, fractions=fractions)
    if source.table is not None:
        return source, parts, source.notes
    kept, notes = varying_columns(source, parts.train, reading.columns is not None)
    names = kept.feature_names
    if source.rows is None or names is None or names == source.feature_names:
        return kept, parts, (*source.notes, *notes)
    # Some rows may lack a cell in such columns alone. They are used, as they will be by all that
    # reads these columns by their names: a resumed run, and every command on it.
    again = replace(reading, columns=names).load()
    of_columns = tuple(text for text in source.notes if ROWS_WITH_HOLES not in text)
    parts = split(again, seed=seed, fractions=fractions)
    return again, parts, (*of_columns, *again.notes, *notes)


def rows_of(source: Source) -> NDArray[np.int64]:
    """Where the examples stand in their file, from 0."""
    return np.arange(len(source.x)) if source.rows is None else source.rows


def read_alike(reading: Reading) -> Source:
    """Another file than the run's own: the run's columns by their names, and by their order where
    one of the two has no names. Raises `ValueError` where a column is not there."""
    if reading.table is not None:
        return reading.load()
    columns, name = reading.columns, reading.name
    without = replace(reading, columns=None)
    if columns is None or Path(name).suffix.lower() != ".csv":
        return without.load()
    try:
        source = reading.load()
    except ValueError:
        source = without.load()
        if source.header or source.x.shape[1:] != (len(columns),):
            raise
    else:
        found = source.feature_names or ()
        lacking = [name for name, other in zip(columns, found, strict=True) if name != other]
        if not lacking:
            return source
        if len(lacking) < len(columns):  # a number for a name is an index only where all are
            raise ValueError(
                f"{name} must have the columns of the run, but it has no "
                f"{', '.join(lacking)}. Name the columns that stand for the run's, in its order, "
                "with --columns."
            )
    listed = ", ".join(columns[:5]) + (" ..." if len(columns) > 5 else "")
    note = f"columns of {name} are taken by their places, for the run's {listed}"
    return replace(source, notes=(*source.notes, note))
