"""Reading .csv files (with commas, semicolons or tabs): a table of numbers, and labels."""

import csv
import itertools
import math
import re
import textwrap
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvax.data.cells import Numbers, is_missing, mark_of, text_lines
from hvax.data.header import Header, Line, split_header

ROWS_WITH_HOLES = "rows with missing cells"
"""Part of the note about such rows."""

Missing = Literal["keep", "drop"]

_FIRST = 20  # lines by which the separator is recognized
_EXACT = 2**53  # float64 holds every whole number below this
_TEXT = 0.5  # a column is text if more than this fraction of its cells is no number


class FileContent(NamedTuple):
    """The content of a file: examples (n, ...), labels (n,) or None, and details of a .csv file."""

    x: NDArray[Any]
    labels: NDArray[Any] | None
    names: tuple[str, ...] | None = None  # of the columns; without a header their indices, from 0
    notes: tuple[str, ...] = ()  # for the user: what was left out
    rows: NDArray[np.int64] | None = None  # the file's rows in x, from 0; None is all
    header: bool | None = None  # whether the first line of a .csv file names the columns


def read_csv(
    path: str | Path,
    *,
    labels: str | None = None,
    columns: Sequence[str] | None = None,
    header: Header = "auto",
    missing: Missing = "keep",
) -> FileContent:
    """Read a .csv file in UTF-8, with or without a header: examples (n, columns), labels (n,).

    - `labels`: the label column: an index (from 0; -1 is the last), or a name in the header.
    - `columns`: names (or indices, from 0) of the columns to read, in that order; by default all
      that hold numbers. Text columns are left out; `FileContent.notes` says so.
    - `missing`: what becomes of missing cells (empty, NA, NaN, null, ?) in a column that is read:
      "keep" reads them as NaN, "drop" leaves out their rows. Rows with nothing else are left out.
    - `header`: whether the first line names the columns. "auto" takes it as a header if it has one
      of the given names, if no cell of it is a number where other lines have one, or if its numbers
      look like an axis: 0, 1, 2, ..., or ordered unlike the lines below, which a note tells.

    Cells are separated by commas, semicolons or tabs; with the last two, decimal commas are read. A
    table of integers is returned as int64, any other as float64; labels as int64 or strings.

    Raises `OSError` if the file cannot be opened, and `ValueError`, naming line and column, if it
    is empty or ragged, if a cell in a column of numbers is text or a label is empty, if a given
    column does not exist or is text, and if "drop" would leave out more than half of the rows.
    """
    path = Path(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        place = 0
        try:
            mark = mark_of(list(itertools.islice(text_lines(file), _FIRST)))
            file.seek(0)
            reader = csv.reader(text_lines(file), strict=True, delimiter=mark)
            lines = ((f"{path}, line {(place := reader.line_num)}", row) for row in reader if row)
            return _read_lines(path, lines, labels, columns, header, missing, Numbers(mark))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path} must be comma-separated text in UTF-8, got something else after line"
                f" {place} ({error}). Export the table again."
            ) from error


class _Column:
    """The cells of one column as numbers, NaN for missing cells and text."""

    def __init__(self, read: Numbers) -> None:
        self._read = read
        self.numbers = array("d")
        self.texts = self.missing = 0
        self.first_text: tuple[str, str] | None = None  # its place, and the cell

    def add(self, where: str, cell: str) -> None:
        number = self._read(cell)
        if number is None:
            number = math.nan
            if is_missing(cell):
                self.missing += 1
            else:
                self.texts += 1
                self.first_text = self.first_text or (where, cell)
        self.numbers.append(number)

    @property
    def is_text(self) -> bool:
        """Whether more than half of the filled cells are text, or no cell is filled."""
        filled = len(self.numbers) - self.missing
        return filled == 0 or self.texts > _TEXT * filled


def _read_lines(
    path: Path,
    lines: Iterator[Line],
    labels: str | None,
    columns: Sequence[str] | None,
    header: Header,
    missing: Missing,
    read: Numbers,
) -> FileContent:
    where, first = next(lines, (str(path), []))
    if not first:
        raise ValueError(
            f"{path} must hold a table of numbers, got an empty file. Write one line per example."
        )
    cells = [cell.strip() for cell in first]
    cells[0] = cells[0].removeprefix("#").lstrip()  # numpy.savetxt writes "# a,b" as a header
    label_column, named = _label_column(where, cells, labels, header)
    begin = split_header(
        lines,
        (where, first),
        Numbers(read.mark),
        header="yes" if named else header,
        labels=label_column,
        names=columns or (),
    )
    lines, width = begin.lines, len(first)
    found = [_Column(read) for _ in first]
    classes: list[str] = []
    for where, row in lines:
        if len(row) != width:
            raise ValueError(
                f"{where}, must have {width} cells, as the first line has, got {len(row)}."
                " Give every line the same columns."
            )
        for column, cell in enumerate(row):
            if column != label_column:
                found[column].add(where, cell)
        if label_column is not None:
            classes.append(_label(where, row, label_column))
    names = _unique(cells) if begin.is_header else [str(i) for i in range(width)]
    if read.mixed:
        raise ValueError(
            f"{path} must use one decimal mark, got {read.with_comma!r} and {read.with_point!r}."
            " Write all numbers with points."
        )
    rest = [i for i in range(width) if i != label_column]
    taken, notes = _taken(path, names, rest, found, columns)
    if not taken or not found[taken[0]].numbers:
        raise ValueError(
            f"{path} must have at least one example of at least one number, got"
            f" {len(found[rest[0]].numbers) if rest else 0} lines with {len(taken)} columns of"
            " numbers. Add what is missing, and put commas, semicolons or tabs between cells."
        )
    # array("d") holds 8 bytes per number, where a list of floats would take 32.
    x = np.stack([np.frombuffer(found[i].numbers, np.float64) for i in taken], axis=1)
    keep, lost = _rows_kept(path, names, taken, x, missing)
    x = as_integers(x[keep])
    chosen = None if label_column is None else _as_labels([classes[i] for i in keep])
    rows = keep if len(keep) < len(classes or found[taken[0]].numbers) else None
    notes = begin.notes + notes + lost
    return FileContent(x, chosen, tuple(names[i] for i in taken), notes, rows, begin.is_header)


def _unique(cells: list[str]) -> list[str]:
    """The names, with the column's index appended to those that occur twice."""
    return [f"{cell}.{i}" if cells.count(cell) > 1 else cell for i, cell in enumerate(cells)]


def _label_column(
    where: str, cells: list[str], labels: str | None, header: Header
) -> tuple[int | None, bool]:
    """The index of the label column, and whether it was found by name (so there is a header)."""
    if labels is None:
        return None, False
    is_index = re.fullmatch(r"-?[0-9]+", labels) is not None
    if is_index and -len(cells) <= int(labels) < len(cells):
        return int(labels) % len(cells), False
    # A number in the first line is a name only if that line is known to be a header.
    if cells.count(labels) == 1 and (header == "yes" or (header == "auto" and not is_index)):
        return cells.index(labels), True
    if is_index:
        raise ValueError(
            f"{where}: `labels` must be a column's index below {len(cells)},"
            f" got {labels}. The first column is 0, the last -1, and a name of digits is looked for"
            " with --header yes (`header`)."
        )
    raise ValueError(
        f"{where}: `labels` must name one column of the header, got {labels!r} and"
        f" the header {textwrap.shorten(', '.join(cells), 80, placeholder=' ...')}."
        " Pass a name that stands there once, or an index."
    )


def _taken(
    path: Path,
    names: list[str],
    rest: list[int],
    found: list[_Column],
    columns: Sequence[str] | None,
) -> tuple[list[int], tuple[str, ...]]:
    """The columns to read, and a note of those that are left out."""
    if columns is not None:
        taken = [_named(path, names, rest, name) for name in columns]
    else:
        taken = [i for i in rest if not found[i].is_text]
    for i in taken:
        if found[i].first_text is not None:
            where, cell = found[i].first_text or ("", "")
            raise ValueError(
                f"{where}, column {i} ({names[i]}), must be a finite number, got {cell!r}. Correct"
                " the cell, or pass `labels` if the column holds labels."
            )
    if columns is not None:
        return taken, ()
    texts = [names[i] or f"column {i}, which has no name" for i in rest if found[i].is_text]
    return taken, (f"left out columns without numbers: {_listed(texts)}",) if texts else ()


def _named(path: Path, names: list[str], rest: list[int], name: str) -> int:
    matches = [i for i in rest if names[i] == name]
    if not matches and name.isdecimal() and int(name) in rest:
        matches = [int(name)]
    if len(matches) != 1:
        raise ValueError(
            f"{path} must have one column {name!r}, got {len(matches)} among"
            f" {textwrap.shorten(', '.join(names), 80, placeholder=' ...')}. Pass names that stand"
            " there once, with --columns (`columns`)."
        )
    return matches[0]


def _rows_kept(
    path: Path, names: list[str], taken: list[int], x: NDArray[np.float64], how: Missing
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The rows to keep, and a note of those with missing cells."""
    missing = np.isnan(x)
    with_holes = missing.any(axis=1)
    if not with_holes.any():
        return np.arange(len(x)), ()
    worst = sorted(range(len(taken)), key=lambda i: -missing[:, i].sum())
    holes = [f"{names[taken[i]]} ({missing[:, i].sum()})" for i in worst if missing[:, i].any()]
    if how == "keep":
        empty = missing.all(axis=1)
        said = f"{with_holes.sum()} of {len(x)} {ROWS_WITH_HOLES}, which are modeled as missing"
        if empty.any():
            said += f" ({empty.sum()} rows without any number are left out)"
        return np.flatnonzero(~empty), (f"{said}: {_listed(holes)}",)
    keep = np.flatnonzero(~with_holes)
    lost = len(x) - len(keep)
    if lost > len(x) / 2:
        raise ValueError(
            f"{path} must have rows of numbers, got {lost} of {len(x)} rows with missing cells,"
            f" most in {_listed(holes)}. Keep them (--missing keep, `missing`), or name with"
            " --columns (`columns`) the columns to read, without these."
        )
    return keep, (f"left out {lost} of {len(x)} {ROWS_WITH_HOLES}: {_listed(holes)}",)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def as_integers(x: NDArray[np.floating[Any]]) -> NDArray[Any]:
    """x as int64 if all its numbers are integers that float64 holds exactly, else unchanged."""
    if np.isnan(x).any():
        return x
    whole = np.all(x == np.rint(x)) and (x.size == 0 or np.abs(x).max() < _EXACT)
    return x.astype(np.int64) if whole else x


def _label(where: str, row: list[str], label_column: int) -> str:
    label = row[label_column].strip()
    if not label:
        raise ValueError(
            f"{where}, column {label_column}, must hold a label, got an empty cell."
            " Give every example a label."
        )
    return label


def _as_labels(classes: list[str]) -> NDArray[Any]:
    """Labels as int64 if all are integers of at most 18 digits (which fit), else as strings."""
    if all(re.fullmatch(r"-?[0-9]{1,18}", label) for label in classes):
        return np.array([int(label) for label in classes], dtype=np.int64)
    return np.array(classes, dtype=np.str_)
