"""Detection of a header: whether the first line of a table names its columns.

A line of words is a header. A line of numbers may be one too: wavelengths, years, or the 0, 1, 2,
... that pandas writes for unnamed columns. It is recognized by the order of its numbers, compared
with the lines below.
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
Line = tuple[str, list[str]]  # its place, in words for messages, and its cells
Number = Callable[[str], float | None]

_BODY_LINES = 20  # lines below the first that are compared with it
_MANY = 8  # so many random cells are in order only once in 20,000 times
_ORDERED_BODY = 0.2  # if more lines below are in order than this (and chance), order means nothing


class FirstLine(NamedTuple):
    """Whether the first line is a header, and an iterator over the lines of examples."""

    is_header: bool
    lines: Iterator[Line]
    notes: tuple[str, ...] = ()


def split_header(
    lines: Iterator[Line],
    first: Line,
    number: Number,
    *,
    header: Header,
    labels: int | None,
    names: Sequence[str],
) -> FirstLine:
    """Decide whether `first` is a header, and return the lines of examples.

    `labels` is the index of the label column, `names` are columns that the user asked for. Raises
    `ValueError` for a word among numbers, which is neither a header nor an example.
    """
    where, cells = first
    others = [i for i in range(len(cells)) if i != labels]
    values = [number(cells[i]) for i in others]
    if header != "auto":
        is_header = header == "yes"
        return FirstLine(is_header, lines if is_header else itertools.chain([first], lines))
    if all(value is None for value in values) or _has_names(names, cells):
        return FirstLine(True, lines)
    below = list(itertools.islice(lines, _BODY_LINES))
    rest = itertools.chain(below, lines)
    body = [row for _, row in below if len(row) == len(cells)]
    looks = _axis(cells, others, body, number)
    if looks == "header":
        return FirstLine(True, rest, (_note(where, cells, others, "names the columns", "no"),))
    for i in others:
        is_word = number(cells[i]) is None and not is_missing(cells[i])
        if is_word and body and number(body[0][i]) is not None:
            raise ValueError(
                f"{where}, must have only numbers or, as a header, only names, got {cells[i]!r}"
                f" among numbers in column {i}. Correct the cell, pass `labels` if the column"
                " holds labels, or say with --header (`header`) whether the line is a header."
            )
    notes = (_note(where, cells, others, "is an example", "yes"),) if looks == "unclear" else ()
    return FirstLine(False, itertools.chain([first], rest), notes)


def _has_names(names: Sequence[str], cells: list[str]) -> bool:
    """Whether a line has all these names, at least one of which is not a column index."""
    found = [cell.strip() for cell in cells]
    any_name = any(not (name.isdecimal() and int(name) < len(cells)) for name in names)
    return any_name and all(
        name in found or name.rpartition(".")[0] in found for name in names
    )  # fmt: skip


def _note(where: str, cells: list[str], others: list[int], verdict: str, other: str) -> str:
    shown = ", ".join(cells[i].strip() for i in others[:4]) + (", ..." if len(others) > 4 else "")
    return f"{where}: {shown} {verdict}, by their order; --header {other} says otherwise"


def _axis(
    cells: list[str], others: list[int], body: list[list[str]], number: Number
) -> Literal["header", "unclear", "no"]:
    """Whether the numbers of a line look like positions of its columns on an axis."""
    numeric = [i for i in others if number(cells[i]) is not None]
    values = np.array([number(cells[i]) or 0.0 for i in numeric])
    if len(numeric) < max(1, len(others) - 1):  # at most one word beside them
        return "no"
    counted = [cells[i].strip() for i in numeric] == [str(k) for k in range(len(numeric))]
    if not (counted or (len(numeric) > 2 and _in_order(values))):
        return "no"
    below = [[number(row[i]) for i in numeric] for row in body]
    full = np.array([row for row in below if None not in row], dtype=np.float64)
    by_chance = 2 / math.factorial(min(len(numeric), 10))
    in_order = np.mean([_in_order(row) for row in full]) if len(full) and len(numeric) > 2 else 0.0
    if in_order > 2 * by_chance + _ORDERED_BODY:
        return "no"
    unlike = _unlike_body(cells, numeric, values, body, full)
    even = _is_even(values)
    if counted and (len(numeric) > 3 or unlike == len(numeric)):
        return "header"
    if len(numeric) >= _MANY or (even and 2 * unlike >= len(numeric)):
        return "header"
    return "unclear" if even else "no"


def _is_even(values: NDArray[np.float64]) -> bool:
    """Whether numbers are evenly spaced."""
    with np.errstate(over="ignore", invalid="ignore"):  # numbers near 1e308 are not
        steps = np.diff(values)
        # Relative: numbers near 0 are no even steps for being small.
        return bool(np.allclose(steps, steps[:1], atol=0.0)) if len(steps) else True


def _in_order(values: NDArray[np.float64]) -> bool:
    # Compared, not subtracted: a difference of numbers near 1e308 overflows.
    return bool(np.all(values[1:] > values[:-1]) or np.all(values[1:] < values[:-1]))


def _unlike_body(
    cells: list[str],
    numeric: list[int],
    values: NDArray[np.float64],
    body: list[list[str]],
    full: NDArray[np.float64],
) -> int:
    """How many cells of a line differ from those below: fewer decimals, or outside their range."""
    if len(full) == 0:
        return 0
    short = np.array(
        [_decimals(cells[i]) < min(_decimals(row[i]) for row in body) for i in numeric]
    )
    return int(np.sum(short | (values < full.min(axis=0)) | (values > full.max(axis=0))))


def _decimals(cell: str) -> int:
    """The number of digits after the decimal mark."""
    return len(re.split(r"[.,]", cell.strip(), maxsplit=1)[1]) if re.search(r"[.,]", cell) else 0
