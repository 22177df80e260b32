"""Cells of a column as numbers, by its schema."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvax.data.column import Column
from hvax.data.column_cells import Cells
from hvax.data.csv_columns import as_numbers
from hvax.data.frame import Frame
from hvax.data.infer import number_or_missing
from hvax.exceptions import UnknownColumn, UnseenClass, warn
from hvax.wording import words

Unseen = Literal["refuse", "missing"]
"""What becomes of a class that the schema does not know."""


class Encoded(NamedTuple):
    """The cells of a column as numbers, and the unseen classes that were taken as missing."""

    x: NDArray[np.float64]
    unseen: tuple[str, ...] = ()


class Unfit(ValueError):
    """The cells of a column do not fit its schema; the message says which and why."""


def encode_columns(
    columns: Sequence[Column], read: Frame, *, unseen: str = "refuse", name: str = "the table"
) -> NDArray[np.float64]:
    """The columns of a table as numbers (n, d); `name` is what messages call the table.

    Warns (`UnseenClass`) of classes that were taken as missing. All that does not fit goes into one
    `ValueError`.
    """
    problems, encoded, new = [], [], []
    for column in columns:
        cells: Cells | None = read.columns.get(column.name)
        if cells is None:
            problems.append(f"{column.name}: is absent")
            continue
        try:
            found = encode_cells(column, cells, unseen)
        except Unfit as problem:
            problems.append(f"{column.name}: {problem}")
            continue
        encoded.append(found.x)
        if found.unseen:
            new.append(f"{column.name} ({', '.join(found.unseen[:5])})")
    if problems:
        listed = "\n".join(f"    {problem}" for problem in problems)
        raise ValueError(
            f"{name} must have the columns of the data that the model learned from, got "
            f"{len(problems)} that do not fit:\n{listed}\nCorrect these columns. To have a whole "
            "column imputed, add it with empty cells."
        )
    if new:
        warn(
            UnseenClass,
            f"{name} has classes that were not in the data the model learned from; they are taken "
            f"as missing: {'; '.join(new)}.",
        )
    return np.stack(encoded, axis=1)


def warn_of_unknown(read: Frame, names: Sequence[str], name: str) -> None:
    """Warn (`UnknownColumn`) of columns that are none of these names."""
    extra = [column for column in read.columns if column not in names]
    if extra:
        more = f" and {len(extra) - 5} more" if len(extra) > 5 else ""
        warn(
            UnknownColumn,
            f"{name} has columns that were not in the data the model learned from, and that are "
            f"not used: {', '.join(extra[:5])}{more}.",
        )


def encode_cells(column: Column, cells: Cells, unseen: str = "refuse") -> Encoded:
    """The numbers (n,) of a column's cells, NaN where missing: a class as its index.

    A class that the schema does not know is refused, or with `unseen="missing"` taken as missing.
    Raises `Unfit`.
    """
    if cells.problem:
        raise Unfit(cells.problem)
    if column.holds_classes:
        return _classes(column, cells, unseen)
    x = _numbers(cells)
    _refuse(np.isinf(x), x, "finite")
    if column.kind == "positive":
        _refuse(x <= 0, x, "> 0")
    if column.kind == "count":
        _refuse((x < 0) | (x != np.rint(x)) & ~np.isnan(x), x, "whole and >= 0")
    return Encoded(x)


def _refuse(wrong: NDArray[np.bool_], x: NDArray[Any], wanted: str) -> None:
    if np.any(wrong):
        row = int(np.flatnonzero(wrong)[0])
        raise Unfit(f"must be {wanted}, got {x[row]:g} in row {row}")


def _numbers(cells: Cells) -> NDArray[np.float64]:
    if cells.content in ("number", "boolean"):
        return cells.values
    if np.all(cells.missing):
        return np.full(len(cells.missing), np.nan)
    if cells.content == "text":
        texts = cells.values.tolist()
        values = as_numbers(texts, number_or_missing)
        if values is not None:
            return values
        row = next(i for i, t in enumerate(texts) if t is not None and number_or_missing(t) is None)
        raise Unfit(f"must hold numbers, got {texts[row]!r} in row {row}")
    raise Unfit(f"must hold numbers, got {cells.content}s ({cells.dtype})")


def _classes(column: Column, cells: Cells, unseen: str) -> Encoded:
    """The place of each cell among the column's values."""
    if np.all(cells.missing):
        return Encoded(np.full(len(cells.missing), np.nan))
    if isinstance(column.values[0], str):
        if cells.content != "text":
            raise Unfit(f"must hold text, got {cells.content}s ({cells.dtype})")
        keys = cells.values.tolist()
        hidden = cells.missing
    else:
        values = _numbers(cells)
        keys, hidden = values.tolist(), np.isnan(values)
    places = {value: float(i) for i, value in enumerate(column.values)}
    found = np.array([places.get(key, -1.0) for key in keys])
    found[hidden] = np.nan
    unknown = found < 0
    if not np.any(unknown):
        return Encoded(found)
    shown = {row: _shown(keys[row]) for row in np.flatnonzero(unknown).tolist()}
    if unseen == "refuse":
        row = min(shown)
        known = ", ".join(repr(value) for value in column.values[:5])
        more = f" and {len(column.values) - 5} more" if len(column.values) > 5 else ""
        take = words("unseen='missing' takes", "--unseen missing takes")
        raise Unfit(
            f"must be one of {known}{more}, got {shown[row]} in row {row} ({take} it as missing)"
        )
    found[unknown] = np.nan
    return Encoded(found, tuple(sorted(set(shown.values()))))


def _shown(key: Any) -> str:
    return repr(key) if isinstance(key, str) else f"{key:g}"
