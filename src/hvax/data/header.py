"""Whether the first line of a table names its columns.

Of a line of words that is plain. A line of numbers (wavelengths, years, the 0, 1, 2, ... that
pandas writes for columns without names) is told from an example by their order, and by the lines
below it.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvax.data.cells import is_missing

Header = Literal["auto", "yes", "no"]
Line = tuple[str, list[str]]  # where it stands, in words for messages, and its cells
Number = Callable[[str], float | None]

_LOOKED_AT = 20  # lines below the first
_MANY = 8  # cells in order, which of an example are so once in 20,000 times
_OWN_ORDER = 0.2  # where more of the lines below are in order too than by chance, it says nothing


class FirstLine(NamedTuple):
    """What was found of the first line, and all lines of examples."""

    is_header: bool
    lines: Iterator[Line]
    notes: tuple[str, ...] = ()


def split_off(
    lines: Iterator[Line],
    first: Line,
    number: Number,
    *,
    header: Header,
    labels: int | None,
    names: Sequence[str],
) -> FirstLine:
    """The lines of examples, and whether `first` is a header, where nothing else says so.

    `labels` is the column that is set apart, and `names` are those of columns that are looked for.
    Raises `ValueError` for one word among numbers, which is neither.
    """
    where, cells = first
    others = [i for i in range(len(cells)) if i != labels]
    values = [number(cells[i]) for i in others]
    if header != "auto":
        is_header = header == "yes"
        return FirstLine(is_header, lines if is_header else itertools.chain([first], lines))
    if all(value is None for value in values) or _are_there(names, cells):
        return FirstLine(True, lines)
    below = list(itertools.islice(lines, _LOOKED_AT))
    rest = itertools.chain(below, lines)
    body = [row for _, row in below if len(row) == len(cells)]
    looks = _axis(cells, others, body, number)
    if looks == "header":
        return FirstLine(True, rest, (_note(where, cells, others, "names the columns", "no"),))
    for i in others:
        is_word = number(cells[i]) is None and not is_missing(cells[i])
        if is_word and body and number(body[0][i]) is not None:
            raise ValueError(
                f"{where}, column {i}: expected numbers alone or a header of names alone, got"
                f" {cells[i]!r} among numbers; correct the cell, pass `labels` if the column"
                " holds labels, or say with --header (`header`) whether the line is a header"
            )
    notes = (_note(where, cells, others, "is an example", "yes"),) if looks == "unclear" else ()
    return FirstLine(False, itertools.chain([first], rest), notes)


def _are_there(names: Sequence[str], cells: list[str]) -> bool:
    """Whether all names stand in a line; names that are indices say nothing."""
    found = [cell.strip() for cell in cells]
    told = any(not (name.isdecimal() and int(name) < len(cells)) for name in names)
    return told and all(
        name in found or name.rpartition(".")[0] in found for name in names
    )  # fmt: skip


def _note(where: str, cells: list[str], others: list[int], verdict: str, other: str) -> str:
    shown = ", ".join(cells[i].strip() for i in others[:4]) + (", ..." if len(others) > 4 else "")
    return f"{where}: {shown} {verdict}, by their order; --header {other} says otherwise"


def _axis(
    cells: list[str], others: list[int], body: list[list[str]], number: Number
) -> Literal["header", "unclear", "no"]:
    """Whether the numbers of a line look like the places of its columns on an axis."""
    at = [i for i in others if number(cells[i]) is not None]
    values = np.array([number(cells[i]) or 0.0 for i in at])
    if len(at) < max(1, len(others) - 1):  # one word before or behind them at most
        return "no"
    counted = [cells[i].strip() for i in at] == [str(k) for k in range(len(at))]
    if not (counted or (len(at) > 2 and _in_order(values))):
        return "no"
    below = [[number(row[i]) for i in at] for row in body]
    full = np.array([row for row in below if None not in row], dtype=np.float64)
    by_chance = 2 / math.factorial(min(len(at), 10))
    in_order = np.mean([_in_order(row) for row in full]) if len(full) and len(at) > 2 else 0.0
    if in_order > 2 * by_chance + _OWN_ORDER:
        return "no"
    odd = _odd(cells, at, values, body, full)
    even = bool(np.allclose(np.diff(values), values[1] - values[0])) if len(at) > 1 else True
    if counted and (len(at) > 3 or odd == len(at)):
        return "header"
    if len(at) >= _MANY or (even and 2 * odd >= len(at)):
        return "header"
    return "unclear" if even else "no"


def _in_order(values: NDArray[np.float64]) -> bool:
    steps = np.diff(values)
    return bool(np.all(steps > 0) or np.all(steps < 0))


def _odd(
    cells: list[str],
    at: list[int],
    values: NDArray[np.float64],
    body: list[list[str]],
    full: NDArray[np.float64],
) -> int:
    """How many cells of a line are unlike those below: with fewer decimals than all, or beyond
    them."""
    if len(full) == 0:
        return 0
    short = np.array([_decimals(cells[i]) < min(_decimals(row[i]) for row in body) for i in at])
    return int(np.sum(short | (values < full.min(axis=0)) | (values > full.max(axis=0))))


def _decimals(cell: str) -> int:
    """Digits behind the decimal mark."""
    return len(re.split(r"[.,]", cell.strip(), maxsplit=1)[1]) if re.search(r"[.,]", cell) else 0
