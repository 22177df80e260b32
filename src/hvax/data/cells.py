"""Cells of text tables: separators, missing values, and conversion to numbers."""

import csv
import math
import re
from collections.abc import Iterator
from io import TextIOBase

MARKS = "\t;,"
"""The separators of cells that are recognized."""

_LONGEST = 1 << 24  # characters of one line, at most: a device such as /dev/zero never ends one
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})  # in lower case
LONGEST_MARK = max(map(len, _MISSING))
"""The characters of the longest mark of a missing value."""

_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+([eE][+-]?[0-9]+)?")


def is_missing(cell: str) -> bool:
    """Whether a cell marks a missing value (empty, NA, NaN, null, ?)."""
    return cell.strip().lower() in _MISSING


def number(cell: str) -> float | None:
    """The finite number in a cell, or None. Unlike in Python, 1_000 is not a number."""
    try:
        found = float(cell)
    except ValueError:
        return None
    return found if math.isfinite(found) and "_" not in cell else None


class Numbers:
    """Converts the cells of one file to numbers.

    If the separator is not a comma, a decimal comma is accepted as well as a decimal point, but not
    both in one file (`mixed`).
    """

    def __init__(self, mark: str):
        self.mark = mark
        self.with_comma: str | None = None  # the first cell of each kind
        self.with_point: str | None = None

    def __call__(self, cell: str) -> float | None:
        if self.mark != "," and _COMMA.fullmatch(cell.strip()):
            self.with_comma = self.with_comma or cell.strip()
            return number(cell.replace(",", "."))
        found = number(cell)
        if found is not None and "." in cell:
            self.with_point = self.with_point or cell.strip()
        return found

    @property
    def mixed(self) -> bool:
        """Whether both decimal commas and decimal points were found: 1,000 is then ambiguous."""
        return self.with_comma is not None and self.with_point is not None


def mark_of(first: list[str]) -> str:
    """The separator of a file, from its first lines; a comma if there is one column.

    It must split all lines into equally many cells; of several such marks the one that gives most
    numbers is taken.
    """
    # All marks are tried: a comma may separate cells in one file and be the decimal mark in
    # another.
    found = {mark: list(csv.reader(first, delimiter=mark)) for mark in MARKS}
    regular = [
        mark for mark, rows in found.items() if len({len(row) for row in rows if row}) == 1
        and any(len(row) > 1 for row in rows)
    ]  # fmt: skip
    if not regular:
        return next((mark for mark in MARKS if any(len(row) > 1 for row in found[mark])), ",")
    return max(regular, key=lambda mark: _numbers_in(found[mark], mark))


def _numbers_in(rows: list[list[str]], mark: str) -> int:
    read = Numbers(mark)
    return sum(read(cell) is not None for row in rows for cell in row)


def text_lines(file: TextIOBase) -> Iterator[str]:
    """The lines of a file. Raises `csv.Error` for a line of more than 16 million characters."""
    while line := file.readline(_LONGEST):
        if len(line) == _LONGEST and not line.endswith("\n"):
            raise csv.Error(f"a line of more than {_LONGEST} characters")
        yield line
