"""Tables with columns of several kinds: read by a schema (`Table`), as numbers for a model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.csv_columns import is_csv
from hvax.data.encode import Unseen
from hvax.data.frame import read_frame
from hvax.data.header import Header
from hvax.data.schema import Table
from hvax.data.source import SOURCES, Source
from hvax.data.table import ROWS_WITH_HOLES, Missing, as_integers
from hvax.models.likelihood import Bernoulli, LearnedGaussian, NegativeBinomial
from hvax.models.mixed import CategoryColumns, Group, MixedLikelihood
from hvax.training.units import TransformChoice
from hvax.wording import counted

_NAMED = 5  # columns that a note names


def is_table(source: Any) -> bool:
    """Whether a source is a DataFrame, a dict of columns, or the path of a table."""
    if isinstance(source, str | Path):
        path = Path(source)
        return str(source) not in SOURCES and (is_csv(path) or path.suffix == ".parquet")
    if isinstance(source, Mapping):
        return True
    return any(getattr(source, name, None) is not None for name in ("columns", "column_names"))


def inferred_table(
    source: Any,
    *,
    labels: Any = None,
    columns: Any = None,
    kinds: Mapping[str, Any] | None = None,
    header: Header = "auto",
) -> Table:
    """The schema of a table; `labels` is the name (or, for a file, the index) of its label column.

    Raises as `Table.infer` does, and `ValueError` for a column that does not exist.
    """
    asked = dict(kinds or {})
    names = list(read_frame(source, header=header).columns)
    if isinstance(labels, str):
        asked[_named(labels, names)] = "label"
    taken = None if columns is None else [_named(name, names) for name in columns]
    return Table.infer(source, kinds=asked, columns=taken, header=header)


def is_mixed(table: Table) -> bool:
    """Whether the modeled columns need more than one family, or are no plain numbers.

    Real and positive columns are both Gaussians, of x or of t(x).
    """
    kinds = {"real" if column.kind == "positive" else column.kind for column in table.modeled}
    numbers = all(column.content == "number" for column in table.modeled)
    if kinds == {"binary"}:
        return not all(set(column.values) <= {0, 1} for column in table.modeled)
    return len(kinds) > 1 or not numbers or not kinds <= {"real", "count"}


def read_table(
    source: Any,
    table: Table,
    name: str,
    *,
    missing: Missing = "keep",
    header: Header = "auto",
    unseen: Unseen = "refuse",
    empty_rows: bool = False,
) -> Source:
    """The rows of a table as numbers (n, d), NaN where a value is missing, with labels.

    Rows without any value are left out unless `empty_rows`.

    Raises what `Table.encode` raises, and `ValueError` if no row is left.
    """
    x, labels = table.encode(source, unseen=unseen, name=name), table.labels(source)
    holes = np.isnan(x)
    notes = _left_out(table)
    rows = np.arange(len(x))
    if holes.any():
        keep, note = _rows_kept(table, holes, missing, empty_rows=empty_rows)
        notes += note
        rows, x = rows[keep], x[keep]
        labels = None if labels is None else labels[keep]
    if len(x) == 0:
        raise ValueError(
            f"{name} must have rows without missing values, got none. Keep them: --missing keep "
            "(`missing`)."
        )
    plain = not is_mixed(table)
    return Source(
        name,
        as_integers(x) if plain else x,
        labels,
        1.0,
        feature_names=tuple(column.name for column in table.modeled),
        notes=notes,
        rows=None if len(rows) == len(holes) else rows,
        header=None,
        holes=bool(np.isnan(x).any()),
        table=table,
    )


def column_of(source: Any, name: str, *, header: Header = "auto") -> NDArray[Any]:
    """The cells of one column, as labels: numbers, or text."""
    read = read_frame(source, header=header)
    cells = read.columns[_named(name, list(read.columns))]
    if cells.content == "number":
        whole = bool(np.all(cells.values == np.rint(cells.values)))
        return cells.values.astype(np.int64) if whole else cells.values
    return np.array(["" if text is None else str(text) for text in cells.values], np.str_)


def numbers_only(table: Table) -> Table:
    """The same table without its columns of text, for a likelihood of numbers."""
    columns = tuple(
        replace(column, kind="ignored", note="no numbers")
        if column.is_modeled and column.content != "number"
        else column
        for column in table.columns
    )
    return replace(table, columns=columns)


def without_conditions(table: Table) -> Table:
    """The same table with its condition columns ignored, for models that take none."""
    columns = tuple(
        replace(column, kind="ignored") if column.kind == "condition" else column
        for column in table.columns
    )
    return replace(table, columns=columns)


def mixed_likelihood(table: Table) -> MixedLikelihood:
    """A family for each kind of column: Gaussians, bits, classes and negative binomials."""
    columns = list(enumerate(table.modeled))

    def of(*kinds: str) -> tuple[int, ...]:
        return tuple(i for i, column in columns if column.kind in kinds)

    classes = [len(column.values) for column in table.modeled if column.kind == "category"]
    groups = [
        Group(LearnedGaussian(), of("real", "positive")),
        Group(Bernoulli(), of("binary")),
        Group(CategoryColumns(classes or (1,)), of("category")),
        Group(NegativeBinomial(), of("count")),
    ]
    return MixedLikelihood([group for group in groups if group.columns])


def transforms_of(table: Table, transform: TransformChoice) -> tuple[TransformChoice, ...]:
    """The transform of each modeled column: log of positive ones, of real ones as chosen."""
    return tuple("log" if column.kind == "positive" else transform for column in table.modeled)


def _rows_kept(
    table: Table, holes: NDArray[np.bool_], missing: Missing, *, empty_rows: bool
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    with_holes = holes.any(axis=1)
    counts = holes.sum(axis=0)
    worst = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
    named = [f"{table.modeled[i].name} ({counts[i]})" for i in worst[:_NAMED]]
    more = f" and {len(worst) - _NAMED} more" if len(worst) > _NAMED else ""
    listed = ", ".join(named) + more
    if missing == "drop":
        kept = np.flatnonzero(~with_holes)
        if 2 * len(kept) < len(holes):
            raise ValueError(
                f"a table must keep half of its rows, got {with_holes.sum()} of {len(holes)} "
                f"{ROWS_WITH_HOLES}, most in {listed}. Keep them: --missing keep (`missing`)."
            )
        return kept, (f"left out {with_holes.sum()} of {len(holes)} {ROWS_WITH_HOLES}: {listed}",)
    empty = holes.all(axis=1) & (not empty_rows)
    said = f"{with_holes.sum()} of {len(holes)} {ROWS_WITH_HOLES}, which are modeled as missing"
    if empty.any():
        said += f" ({counted(int(empty.sum()), 'row')} without any value left out)"
    return np.flatnonzero(~empty), (f"{said}: {listed}",)


def _left_out(table: Table) -> tuple[str, ...]:
    """A note for each reason to leave columns out."""
    reasons: dict[str, list[str]] = {}
    for column in table.columns:
        if column.kind == "ignored" and column.note != "as asked":
            reasons.setdefault(column.note, []).append(column.name)
    notes = []
    for reason, names in reasons.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        notes.append(f"left out {', '.join(names[:_NAMED])}{more}: {reason}")
    return tuple(notes)


def _named(asked: Any, names: list[str]) -> str:
    """A column by its name, or by its index from 0 (-1 is the last)."""
    text = str(asked)
    if text in names:
        return text
    try:
        return names[int(text)]
    except (ValueError, IndexError):
        raise ValueError(
            f"the table must have a column {text!r}, got {', '.join(names[:20])}. Check the "
            "spelling, or give an index from 0."
        ) from None
