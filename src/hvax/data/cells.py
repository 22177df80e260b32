"""One cell of a table -> a number; and what tells cells apart in a line of text."""

import csv
import math
import re
from collections.abc import Iterator
from typing import TextIO

MARKS = "\t;,"
"""What may stand between cells."""

_LONGEST = 1 << 24  # characters of one line: a device has no end of them
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})  # in lower case
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+([eE][+-]?[0-9]+)?")


def is_missing(cell: str) -> bool:
    """Whether a cell stands for no number."""
    return cell.strip().lower() in _MISSING


def number(cell: str) -> float | None:
    """The finite number that a cell holds, or None; 1_000 is a number to Python, but not here."""
    try:
        found = float(cell)
    except ValueError:
        return None
    return found if math.isfinite(found) and "_" not in cell else None


class Numbers:
    """The numbers of the cells of a file. Where cells are not told apart by commas, a comma may be
    a decimal mark; then a point is none in the same file."""

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
        """Whether both kinds of decimal marks were seen: then neither can be trusted."""
        return self.with_comma is not None and self.with_point is not None


def mark_of(first: list[str]) -> str:
    """What tells the cells of a file's first lines apart: what splits them into as many cells each,
    and of several such marks the one that gives most numbers; a comma for one column."""
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


def text_lines(file: TextIO) -> Iterator[str]:
    """The lines of a file. Raises `csv.Error` for one that is longer than any table's."""
    while line := file.readline(_LONGEST):
        if len(line) == _LONGEST and not line.endswith("\n"):
            raise csv.Error(f"a line of more than {_LONGEST} characters")
        yield line
