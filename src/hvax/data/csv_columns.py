"""Reading the columns of a .csv file, numbers or text, without another library.

One reader for all, so that a file gives the same table whatever else is installed.
"""

import bz2
import csv
import gzip
import io
import itertools
import lzma
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.cells import LONGEST_MARK, Numbers, is_missing, mark_of, text_lines
from hvax.data.claims import regular_file
from hvax.data.header import Header, split_header

CSV_SUFFIXES = (".csv", ".tsv", ".txt")
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_FIRST = 20  # lines by which the separator is recognized
_CODE = re.compile(r"[+-]?0[0-9]")  # 007 is a code: as a number it would lose its zeros
_CODES = re.compile(r"(?m)^\s*[+-]?0[0-9]")

Texts = list[str | None]


def is_csv(path: Path) -> bool:
    """Whether a file's name ends like one that `read_csv_columns` reads."""
    name = path.with_suffix("") if path.suffix.lower() in _OPENERS else path
    return name.suffix.lower() in CSV_SUFFIXES


def read_csv_columns(
    path: Path, *, header: Header = "auto"
) -> dict[str, NDArray[np.float64] | Texts]:
    """The columns of a .csv file in UTF-8, perhaps compressed (.gz, .bz2, .xz), by name.

    Cells are separated by commas, semicolons or tabs; with the last two, decimal commas are read.
    A column whose cells are all numbers or missing (empty, NA, NaN, null, ?) is float64 with NaN;
    any other is a list of strings with None. Numbers that start with a superfluous 0 are text.

    Raises `OSError` if the file cannot be read, and `ValueError`, naming the line, if it is empty
    or ragged or its header has a name twice.
    """
    with _opened(path) as file:
        place = 0
        try:
            mark = mark_of(list(itertools.islice(text_lines(file), _FIRST)))
            file.seek(0)
            reader = csv.reader(text_lines(file), strict=True, delimiter=mark)
            start = f"{path}, line "  # once: to write out a path takes longer than to read a line
            lines = ((start + str(place := reader.line_num), row) for row in reader if row)
            names, columns = _split(path, lines, Numbers(mark), header)
        except (csv.Error, UnicodeDecodeError, EOFError, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk; bz2 and gzip raise one without a number for damaged data
            raise ValueError(
                f"{path} must be separated text in UTF-8, got something else after line {place} "
                f"({error}). Export the table again."
            ) from error
    read = Numbers(mark)
    found = {name: as_numbers(cells, read) for name, cells in zip(names, columns, strict=True)}
    if read.mixed:
        raise ValueError(
            f"{path} must use one decimal mark, got {read.with_comma!r} and {read.with_point!r}."
            " Write all numbers with points."
        )
    return {
        name: cells if values is None else values
        for (name, values), cells in zip(found.items(), columns, strict=True)
    }


def as_numbers(cells: Texts, read: Callable[[str], float | None]) -> NDArray[np.float64] | None:
    """Texts as numbers, NaN for missing ones; None unless all that are there are numbers."""
    there = [cell for cell in cells if cell is not None]
    found = _plain_numbers(there)
    if found is None:
        known: dict[str, float] = {}
        for cell in dict.fromkeys(there):
            value = read(cell)
            if value is None or _CODE.match(cell.strip()):
                return None
            known[cell] = value
        found = [known[cell] for cell in there]
    elif (first := next((cell for cell in there if "." in cell), None)) is not None:
        read(first)  # which sees the decimal mark
    if not found:
        return None
    numbers = np.full(len(cells), np.nan)
    numbers[[cell is not None for cell in cells]] = found
    return numbers


def _plain_numbers(there: list[str]) -> list[float] | None:
    """The numbers in texts if Python reads all of them as what they are: the fast way."""
    # The texts are searched as one, which takes a tenth of the time.
    whole = "\n".join(there)
    if "_" in whole or _CODES.search(whole):  # 1_000 is a number to Python alone
        return None
    try:
        found = list(map(float, there))
    except ValueError:
        return None
    return found if all(map(math.isfinite, found)) else None


@contextmanager
def _opened(path: Path) -> Iterator[io.TextIOBase]:
    opener = _OPENERS.get(regular_file(path, "a table").suffix.lower(), open)
    with (
        opener(path, "rb") as binary,
        io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as file,
    ):
        yield file


def _split(
    path: Path, lines: Iterator[tuple[str, list[str]]], number: Numbers, header: Header
) -> tuple[list[str], list[Texts]]:
    """The names and the cells of each column; missing cells are None."""
    where, first = next(lines, (str(path), []))
    if not first:
        raise ValueError(f"{path} must hold a table, got an empty file. Write one line per row.")
    begin = split_header(lines, (where, first), number, header=header, labels=None, names=())
    names = [f"column {i}" for i in range(len(first))]
    if begin.is_header:
        cells = [cell.strip() for cell in first]
        # As pandas calls the column of row numbers that it writes without a name.
        names = [cell or f"Unnamed: {i}" for i, cell in enumerate(cells)]
    twice = [repr(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"{where}: the column names must differ, got {', '.join(twice)} more than once. Rename "
            "the columns."
        )
    rows = []
    for where, row in begin.lines:
        if len(row) != len(first):
            raise ValueError(
                f"{where}, must have {len(first)} cells, as the first line has, got {len(row)}."
                " Give every line the same columns."
            )
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} must have at least one row, got only the names of columns.")
    return names, [_texts(column) for column in zip(*rows, strict=True)]


def _texts(cells: Sequence[str]) -> Texts:
    """The cells without blanks around them, None where one is missing."""
    texts = list(map(str.strip, cells))
    short = {text for text in texts if len(text) <= LONGEST_MARK}
    marks = set(filter(is_missing, short))
    return [None if text in marks else text for text in texts] if marks else list(texts)
