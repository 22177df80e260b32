"""Text with commas (semicolons, tabs) -> a table of numbers and, where a column is set apart for
them, labels."""

import csv
import itertools
import math
import re
import textwrap
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROWS_WITH_HOLES = "rows with missing cells"
"""In the note of rows that were left out."""

_EXACT = 2**53  # float64 holds every whole number below this
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})  # in lower case
_TEXT = 0.5  # a column is text where more than this share of its cells is no number
_Line = tuple[str, list[str]]  # where it stands, in words for messages, and its cells


class Table(NamedTuple):
    """What a file holds: examples (n, ...), labels (n,) or None, and for a .csv file the names of
    its columns (their indices, from 0, without a header), what was left out of it, and which rows
    were not."""

    x: NDArray[Any]
    labels: NDArray[Any] | None
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    rows: NDArray[np.int64] | None = None  # of the file, from 0; None where x has them all


def read_csv(
    path: str | Path, *, labels: str | None = None, columns: Sequence[str] | None = None
) -> Table:
    """The numbers of a .csv file in UTF-8, header or not: examples (n, columns) and labels (n,).

    `labels` sets one column apart: a whole number is its index (from 0; -1 is the last), anything
    else its name in the header. `columns` are the names (or indices, from 0) to take, in that
    order; by default all that hold numbers. Columns of text are left out, and so are rows with a
    missing cell (empty, NA, NaN, null, ?) in a column that is taken; `Table.notes` says so.

    Without such a name the first line is a header when no cell of it is a number where other lines
    have one; a header made of numbers alone reads as an example. A table of whole numbers comes as
    int64, any other as float64; labels likewise as int64 or as strings.

    Raises `OSError` when the file cannot be opened, and `ValueError`, naming line and column, when
    it is empty or ragged, when a cell among numbers is none or a label is empty, when a column that
    is asked for is not there or is text, and when more than half of the rows have missing cells.
    """
    path = Path(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        number = 0
        try:
            delimiter = _delimiter(file.readline())
            file.seek(0)
            reader = csv.reader(file, strict=True, delimiter=delimiter)
            lines = ((f"{path}, line {(number := reader.line_num)}", row) for row in reader if row)
            return _read_lines(path, lines, labels, columns)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path}: expected comma-separated text in UTF-8, got after line {number}"
                f" something else ({error}); export the table again"
            ) from error


def _delimiter(first: str) -> str:
    """A comma, but for a first line that has none and has a semicolon or a tab."""
    return next((mark for mark in ",;\t" if mark in first), ",")


class _Column:
    """The cells of one column: numbers, NaN where one is missing or is text."""

    def __init__(self) -> None:
        self.numbers = array("d")
        self.texts = self.missing = 0
        self.first_text: tuple[str, str] | None = None  # where it stands, and the cell

    def add(self, where: str, cell: str) -> None:
        number = _number(cell)
        if number is None:
            number = math.nan
            if cell.strip().lower() in _MISSING:
                self.missing += 1
            else:
                self.texts += 1
                self.first_text = self.first_text or (where, cell)
        self.numbers.append(number)

    @property
    def is_text(self) -> bool:
        """Empty columns are text too: there is no number in them."""
        filled = len(self.numbers) - self.missing
        return filled == 0 or self.texts > _TEXT * filled


def _read_lines(
    path: Path, lines: Iterator[_Line], labels: str | None, columns: Sequence[str] | None
) -> Table:
    where, first = next(lines, (str(path), []))
    if not first:
        raise ValueError(
            f"{path}: expected a table of numbers, got an empty file; write one line an example"
        )
    cells = [cell.strip() for cell in first]
    label_column = _label_column(where, cells, labels)
    lines, has_header = _after_header(lines, (where, first), labels, label_column)
    width = len(first)
    found = [_Column() for _ in first]
    classes: list[str] = []
    for where, row in lines:
        if len(row) != width:
            raise ValueError(
                f"{where}: expected {width} cells, as in the first line, got {len(row)};"
                " give every line the same columns"
            )
        for column, cell in enumerate(row):
            if column != label_column:
                found[column].add(where, cell)
        if label_column is not None:
            classes.append(_label(where, row, label_column))
    names = _unique(cells) if has_header else [str(i) for i in range(width)]
    rest = [i for i in range(width) if i != label_column]
    taken, notes = _taken(path, names, rest, found, columns)
    if not taken or not found[taken[0]].numbers:
        raise ValueError(
            f"{path}: expected at least one example of at least one number, got"
            f" {len(found[rest[0]].numbers) if rest else 0} lines with {len(taken)} columns of"
            " numbers; add what is missing"
        )
    x = np.stack([np.frombuffer(found[i].numbers, np.float64) for i in taken], axis=1)
    keep, lost = _whole_rows(path, names, taken, x)
    x = as_integers(x[keep])
    chosen = None if label_column is None else _as_labels([classes[i] for i in keep])
    rows = keep if lost else None
    return Table(x, chosen, tuple(names[i] for i in taken), notes + lost, rows)


def _unique(cells: list[str]) -> list[str]:
    """Names that stand twice are told apart by their column's index."""
    return [f"{cell}.{i}" if cells.count(cell) > 1 else cell for i, cell in enumerate(cells)]


def _label_column(where: str, cells: list[str], labels: str | None) -> int | None:
    if labels is None:
        return None
    if re.fullmatch(r"-?[0-9]+", labels):
        if not -len(cells) <= int(labels) < len(cells):
            raise ValueError(
                f"{where}: expected `labels` to be a column's index below {len(cells)},"
                f" got {labels}; the first column is 0, the last -1"
            )
        return int(labels) % len(cells)
    if cells.count(labels) != 1:
        raise ValueError(
            f"{where}: expected `labels` to name one column of the header, got {labels!r} and"
            f" the header {textwrap.shorten(', '.join(cells), 80, placeholder=' ...')};"
            " pass a name that stands there once, or an index"
        )
    return cells.index(labels)


def _after_header(
    lines: Iterator[_Line], first: _Line, labels: str | None, label_column: int | None
) -> tuple[Iterator[_Line], bool]:
    """The lines of examples, and whether the first line was a header."""
    where, cells = first
    named = labels is not None and not re.fullmatch(r"-?[0-9]+", labels)
    others = [cell for i, cell in enumerate(cells) if i != label_column]
    if named or not any(_number(cell) is not None for cell in others):
        return lines, True
    second = next(lines, None)
    ahead = [first] if second is None else [first, second]
    if second is not None and len(second[1]) == len(cells):
        for column, (cell, below) in enumerate(zip(cells, second[1], strict=True)):
            if column != label_column and _number(cell) is None and _number(below) is not None:
                if cell.strip().lower() in _MISSING:
                    continue
                raise ValueError(
                    f"{where}, column {column}: expected numbers alone or a header of names alone,"
                    f" got {cell!r} among numbers; pass `labels` if the column holds labels, else"
                    " correct the cell"
                )
    return itertools.chain(ahead, lines), False


def _taken(
    path: Path,
    names: list[str],
    rest: list[int],
    found: list[_Column],
    columns: Sequence[str] | None,
) -> tuple[list[int], tuple[str, ...]]:
    """Which columns are examples' numbers, and a note of those that are not."""
    if columns is not None:
        taken = [_named(path, names, rest, name) for name in columns]
    else:
        taken = [i for i in rest if not found[i].is_text]
    for i in taken:
        if found[i].first_text is not None:
            where, cell = found[i].first_text or ("", "")
            raise ValueError(
                f"{where}, column {i} ({names[i]}): expected a finite number, got {cell!r}; correct"
                " the cell, or pass `labels` if the column holds labels"
            )
    if columns is not None:
        return taken, ()
    texts = [names[i] for i in rest if found[i].is_text]
    return taken, (f"left out columns without numbers: {_listed(texts)}",) if texts else ()


def _named(path: Path, names: list[str], rest: list[int], name: str) -> int:
    matches = [i for i in rest if names[i] == name]
    if not matches and name.isdecimal() and int(name) in rest:
        matches = [int(name)]
    if len(matches) != 1:
        raise ValueError(
            f"{path}: expected one column {name!r}, got {len(matches)} among"
            f" {textwrap.shorten(', '.join(names), 80, placeholder=' ...')}; pass names that stand"
            " there once, with --columns (`columns`)"
        )
    return matches[0]


def _whole_rows(
    path: Path, names: list[str], taken: list[int], x: NDArray[np.float64]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The rows without a missing cell, and a note of the others."""
    missing = np.isnan(x)
    keep = np.flatnonzero(~missing.any(axis=1))
    lost = len(x) - len(keep)
    if lost == 0:
        return keep, ()
    worst = sorted(range(len(taken)), key=lambda i: -missing[:, i].sum())
    holes = [f"{names[taken[i]]} ({missing[:, i].sum()})" for i in worst if missing[:, i].any()]
    if lost > len(x) / 2:
        raise ValueError(
            f"{path}: expected numbers, got {lost} of {len(x)} rows with missing cells, most in"
            f" {_listed(holes)}; fill them in, or leave such columns out with --columns (`columns`)"
        )
    return keep, (f"left out {lost} of {len(x)} {ROWS_WITH_HOLES}: {_listed(holes)}",)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def as_integers(x: NDArray[np.float64]) -> NDArray[Any]:
    """A table of whole numbers as int64, any other as it is."""
    whole = np.all(x == np.rint(x)) and (x.size == 0 or np.abs(x).max() < _EXACT)
    return x.astype(np.int64) if whole else x


def _number(cell: str) -> float | None:
    """The finite number that a cell holds, or None; 1_000 is a number to Python, but not here."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in cell else None


def _label(where: str, row: list[str], label_column: int) -> str:
    label = row[label_column].strip()
    if not label:
        raise ValueError(
            f"{where}, column {label_column}: expected a label, got an empty cell;"
            " give every example a label"
        )
    return label


def _as_labels(classes: list[str]) -> NDArray[Any]:
    """int64 where every label is a whole number (of at most 18 digits, which fit), else strings."""
    if all(re.fullmatch(r"-?[0-9]{1,18}", label) for label in classes):
        return np.array([int(label) for label in classes], dtype=np.int64)
    return np.array(classes, dtype=np.str_)
