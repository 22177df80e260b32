"""Filling in the missing cells of a table; every other cell stays as it is."""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.cells import Numbers, mark_of, text_lines
from hvax.data.column import Column
from hvax.data.header import Header, split_header
from hvax.data.schema import Table

_FIRST = 20  # lines by which the separator is recognized


def fill_frame(table: Table, frame: Any, x: NDArray[np.float64], missing: NDArray[np.bool_]) -> Any:
    """A DataFrame (or dict of arrays) like `frame` with the cells of x (n, d) where `missing`.

    x has the modeled columns of the table as `Table.encode` gives them. Columns, their order and
    their types stay; but for integers in a pandas column of floats, which has NaN for missing ones.
    """
    decoded = table.decode(x, like=frame)
    if isinstance(frame, Mapping):
        filled = dict(frame)
        for j, column in enumerate(table.modeled):
            old, new = np.asarray(frame[column.name]), np.asarray(decoded[column.name])
            filled[column.name] = np.where(missing[:, j], new, old)
        return filled
    import narwhals

    whole = narwhals.from_native(frame, eager_only=True)
    new = narwhals.from_native(decoded, eager_only=True)
    columns = []
    for j, column in enumerate(table.modeled):
        if missing[:, j].any():
            key = next(key for key in whole.columns if str(key) == column.name)
            old, made = whole[key], new[key]
            keep = narwhals.new_series(
                "keep", (~missing[:, j]).tolist(), narwhals.Boolean(), backend=whole.implementation
            )
            columns.append(old.zip_with(_aligned(keep, old), _aligned(made.cast(old.dtype), old)))
    return whole.with_columns(*columns).to_native() if columns else frame


def _aligned(series: Any, like: Any) -> Any:
    """The series with the other's index, where a library (pandas) has one."""
    import narwhals

    return (
        narwhals.maybe_set_index(series, index=narwhals.maybe_get_index(like))
        if (narwhals.maybe_get_index(like) is not None)
        else series
    )


def fill_csv(
    source: Path,
    names: Sequence[str],
    cells: Mapping[tuple[int, int], str],
    *,
    header: Header = "auto",
) -> str:
    """The text of a .csv file with cells (row, column of `names`) replaced; rows count from 0.

    The separator and all other cells, as text, stay. Raises `OSError` if the file cannot be read.
    """
    with source.open(encoding="utf-8-sig", newline="") as file:
        mark = mark_of(list(itertools.islice(text_lines(file), _FIRST)))
        file.seek(0)
        rows = [row for row in csv.reader(text_lines(file), strict=True, delimiter=mark) if row]
    lines = (("", row) for row in rows[1:])
    begin = split_header(
        lines, ("", rows[0]), Numbers(mark), header=header, labels=None, names=tuple(names)
    )
    first = 1 if begin.is_header else 0
    place = _places(rows[0], names, named=begin.is_header)
    for (row, column), text in cells.items():
        rows[first + row][place[column]] = text
    out = io.StringIO()
    csv.writer(out, delimiter=mark, lineterminator="\n").writerows(rows)
    return out.getvalue()


def csv_text(names: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    """The text of a .csv file with these names and columns of cells."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue()


def uses_comma(source: Path) -> bool:
    """Whether the numbers of a .csv file have decimal commas."""
    with source.open(encoding="utf-8-sig", newline="") as file:
        mark = mark_of(list(itertools.islice(text_lines(file), _FIRST)))
        file.seek(0)
        read = Numbers(mark)
        for row in csv.reader(text_lines(file), delimiter=mark):
            for cell in row:
                read(cell)
            if read.with_comma:
                return True
    return False


def as_text(value: float, column: Column | None, *, whole: bool, comma: bool) -> str:
    """An imputed number as the text of a cell: a class by its name, six digits of a real number."""
    if column is not None and column.holds_classes:
        return str(column.values[round(value)])
    if whole:
        return str(round(value))
    text = f"{value:.6g}"
    return text.replace(".", ",") if comma else text


def _places(first: Sequence[str], names: Sequence[str], *, named: bool) -> list[int]:
    """Where the columns of these names stand in a line."""
    if not named:
        return [int(name.removeprefix("column ")) for name in names]
    cells = [cell.strip() for cell in first]
    cells[0] = cells[0].removeprefix("#").lstrip()
    return [cells.index(name) if name in cells else int(name.rsplit(".", 1)[-1]) for name in names]
