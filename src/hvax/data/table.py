"""Comma-separated text -> a table of numbers and, where a column is set apart for them, labels."""

import csv
import itertools
import math
import re
import textwrap
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXACT = 2**53  # float64 holds every whole number below this
_Line = tuple[str, list[str]]  # where it stands, in words for messages, and its cells


def read_csv(
    path: str | Path, *, labels: str | None = None
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Examples (n, columns) and labels (n,), or None, of a .csv file in UTF-8, header or not.

    `labels` sets one column apart: a whole number is its index (from 0; -1 is the last), anything
    else its name in the header. Without such a name the first line is a header when no cell of it
    outside the labels is a number; a header made of numbers alone reads as an example. A table of
    whole numbers comes as int64, any other as float64; labels likewise as int64 or as strings.

    Raises `OSError` when the file cannot be opened, and `ValueError`, naming line and column, when
    it is empty or ragged, when a cell is not a finite number or a label is empty, and when the
    first line mixes names and numbers.
    """
    path = Path(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        lines = ((f"{path}, line {reader.line_num}", row) for row in reader if row)
        try:
            return _read_lines(path, lines, labels)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path}: expected comma-separated text in UTF-8, got after line {reader.line_num}"
                f" something else ({error}); export the table again"
            ) from error


def _read_lines(
    path: Path, lines: Iterator[_Line], labels: str | None
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    where, first = next(lines, (str(path), []))
    if not first:
        raise ValueError(
            f"{path}: expected a table of numbers, got an empty file; write one line an example"
        )
    label_column, has_header = _layout(where, first, labels)
    if not has_header:
        lines = itertools.chain([(where, first)], lines)
    values = array("d")
    classes: list[str] = []
    for where, row in lines:
        if len(row) != len(first):
            raise ValueError(
                f"{where}: expected {len(first)} cells, as in the first line, got {len(row)};"
                " give every line the same columns"
            )
        values.extend(_numbers(where, row, label_column))
        if label_column is not None:
            classes.append(_label(where, row, label_column))
    num_columns = len(first) - (label_column is not None)
    if not values:
        raise ValueError(
            f"{path}: expected at least one example of at least one number, got {len(classes)}"
            f" lines of {num_columns} columns besides header and labels; add what is missing"
        )
    x = np.frombuffer(values, dtype=np.float64).reshape(-1, num_columns)
    if np.all(x == np.rint(x)) and np.abs(x).max() < _EXACT:
        x = x.astype(np.int64)
    return x, None if label_column is None else _as_labels(classes)


def _layout(where: str, first: list[str], labels: str | None) -> tuple[int | None, bool]:
    """The column of the labels, if any, and whether the first line is a header."""
    cells = [cell.strip() for cell in first]
    label_column = None
    if labels is not None and re.fullmatch(r"-?[0-9]+", labels):
        if not -len(cells) <= int(labels) < len(cells):
            raise ValueError(
                f"{where}: expected `labels` to be a column's index below {len(cells)},"
                f" got {labels}; the first column is 0, the last -1"
            )
        label_column = int(labels) % len(cells)
    elif labels is not None:
        if cells.count(labels) != 1:
            raise ValueError(
                f"{where}: expected `labels` to name one column of the header, got {labels!r} and"
                f" the header {textwrap.shorten(', '.join(cells), 80, placeholder=' ...')};"
                " pass a name that stands there once, or an index"
            )
        return cells.index(labels), True
    numeric = [_number(cell) is not None for i, cell in enumerate(cells) if i != label_column]
    if any(numeric) and not all(numeric):
        text = next(i for i, c in enumerate(cells) if i != label_column and _number(c) is None)
        raise ValueError(
            f"{where}, column {text + 1}: expected numbers alone or a header of names alone, got"
            f" {cells[text]!r} among numbers; pass `labels` if the column holds labels, else"
            " correct the cell"
        )
    return label_column, not any(numeric)


def _numbers(where: str, row: list[str], label_column: int | None) -> list[float]:
    numbers = []
    for column, cell in enumerate(row):
        if column == label_column:
            continue
        number = _number(cell)
        if number is None:
            raise ValueError(
                f"{where}, column {column + 1}: expected a finite number, got {cell!r}; correct the"
                " cell, or pass `labels` if the column holds labels"
            )
        numbers.append(number)
    return numbers


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
            f"{where}, column {label_column + 1}: expected a label, got an empty cell;"
            " give every example a label"
        )
    return label


def _as_labels(classes: list[str]) -> NDArray[Any]:
    """int64 where every label is a whole number (of at most 18 digits, which fit), else strings."""
    if all(re.fullmatch(r"-?[0-9]{1,18}", label) for label in classes):
        return np.array([int(label) for label in classes], dtype=np.int64)
    return np.array(classes, dtype=np.str_)
