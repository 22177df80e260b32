"""The kind of a column, inferred from its cells."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.cells import is_missing, number
from hvax.data.column import Column, Kind
from hvax.data.column_cells import Cells, Scalar
from hvax.data.count_test import look_like_counts
from hvax.data.csv_columns import as_numbers

_EXACT = 2**53  # float64 holds every whole number below this
_NEARLY_ALL = 0.9  # text of more distinct values than this share of its rows is no category
_MANY = 10  # rows from which on 1, 2, 3, ... is taken for row numbers under any name
_MOSTLY = 0.5  # text with more numbers than this share is numbers with a mistake
# Ratings and codes: a category draws only values that occur, where a normal draws all between.
_FEW, _ROWS_EACH = 10, 10  # distinct values at most, and rows for each at least
_INDEX_NAMES = {"", "unnamed: 0", "index", "rownames", "row", "id"}
_DATE = re.compile(r"(\d{4}-\d{1,2}-\d{1,2}|\d{4}/\d{1,2}/\d{1,2}|\d{1,2}[./-]\d{1,2}[./-]\d{2,4})")
_DATE_ADVICE = "dates: add columns of your own, such as days since a start, or the month"


def infer_column(name: str, cells: Cells, kind: str | None, max_categories: int) -> Column:
    """The schema of one column; `kind` is the user's own choice.

    Raises `ValueError` for cells of several types, infinite numbers, and a kind that the cells do
    not suit, unless the column is to be ignored.
    """
    if kind == "ignored":
        return Column(name, "ignored", cells.content, cells.dtype, cells.native, note="as asked")
    if cells.problem:
        raise ValueError(
            f"column {name!r} {cells.problem}. Correct it, or give it the kind 'ignored'."
        )
    cells = with_numbers(name, cells, kind)
    column = _measured(name, cells, max_categories)
    if kind is not None:
        return column.with_kind(kind)
    found, note = _kind(column, cells)
    return Column(**{**vars(column), "kind": found, "note": note})


def with_numbers(name: str, cells: Cells, kind: str | None) -> Cells:
    """Cells of text that is numbers as numbers, unless they are asked to be classes.

    Raises `ValueError`, naming the row, for text among what are mostly numbers.
    """
    if cells.content != "text" or cells.declared or kind in ("category", "binary", "label"):
        return cells
    texts = cells.values.tolist()
    values = as_numbers(texts, number_or_missing)
    if values is not None and not np.all(np.isnan(values)):
        return cells._replace(content="number", values=values, missing=np.isnan(values))
    if kind is None:
        counted = Counter(text for text in texts if text is not None)
        wrong = {text for text in counted if number_or_missing(text) is None}
        share = sum(counted[text] for text in wrong) / max(1, counted.total())
        if 0 < share < 1 - _MOSTLY and not _has_codes(texts):
            row = next(row for row, text in enumerate(texts) if text in wrong)
            raise ValueError(
                f"column {name!r} must hold numbers or text, got {texts[row]!r} in row {row} "
                f"among numbers. Correct it, or give the column the kind 'category' or "
                "'ignored'."
            )
    return cells


def number_or_missing(text: str) -> float | None:
    """The number in a text, NaN for a mark of a missing value, None for anything else."""
    return math.nan if is_missing(text) else number(text)


def _has_codes(texts: Sequence[str | None]) -> bool:
    return any(text is not None and re.match(r"0[0-9]", text) for text in texts)


def _measured(name: str, cells: Cells, max_categories: int) -> Column:
    """The column's statistics; it has no kind yet."""
    there = cells.values[~cells.missing] if len(cells.values) else cells.values
    facts: dict[str, Any] = {"missing": int(cells.missing.sum())}
    if cells.content == "number":
        if np.any(wrong := np.isinf(cells.values)):
            row = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"column {name!r} must hold finite numbers, got {cells.values[row]} in row {row}. "
                "Correct it, mark it as missing (NaN), or give the column the kind 'ignored'."
            )
        if len(there):
            unit = max(float(np.abs(there).max()), 1e-300)  # sums of huge numbers would overflow
            facts |= {
                "minimum": float(there.min()),
                "maximum": float(there.max()),
                "mean": float((there / unit).mean() * unit),
                "sd": float((there / unit).std() * unit),
                "whole": bool(np.all(there == np.rint(there))),
            }
    values = _distinct(cells, there, max_categories)
    return Column(name, "ignored", cells.content, cells.dtype, cells.native, values=values, **facts)


def _distinct(cells: Cells, there: NDArray[Any], most: int) -> tuple[Scalar, ...]:
    """The distinct values in order, in that of a categorical type; () if there are too many."""
    if cells.declared is not None and cells.content == "text":
        return cells.declared if len(cells.declared) <= most else ()
    if cells.content == "boolean":
        return tuple(bool(value) for value in np.unique(there))
    if cells.content == "text":
        found: list[Any] = sorted(set(there.tolist()))
    else:
        found = np.unique(there).tolist()
        found = [int(v) if v == np.rint(v) and abs(v) < _EXACT else v for v in found[: most + 1]]
        if cells.declared is not None and set(found) <= set(cells.declared):
            found = list(cells.declared)
    return tuple(found) if len(found) <= most else ()


def _kind(column: Column, cells: Cells) -> tuple[Kind, str]:
    """The kind that suits a column, and a note where the reason is not obvious."""
    if cells.content == "date":
        return "ignored", _DATE_ADVICE
    there = cells.values[~cells.missing]
    if len(there) == 0:
        return "ignored", "no values"
    if np.all(there == there[0]):
        return "ignored", f"one value only: {there[0]}"
    if len(column.values) == 2:
        return "binary", ""
    if cells.content == "text":
        return _kind_of_text(column, there, len(set(there.tolist())))
    if cells.declared is not None:
        many = f"{len(cells.declared)} different values"
        return ("category", "") if column.values else ("ignored", many)
    return _kind_of_numbers(column, cells, there)


def _kind_of_text(column: Column, there: NDArray[Any], distinct: int) -> tuple[Kind, str]:
    if all(_DATE.match(text) for text in there):
        return "ignored", _DATE_ADVICE
    if distinct > max(2, _NEARLY_ALL * len(there)) and column.dtype != "Enum":
        return "ignored", "nearly every row has a text of its own"
    return ("category", "") if column.values else ("ignored", f"{distinct} different texts")


def _kind_of_numbers(column: Column, cells: Cells, there: NDArray[Any]) -> tuple[Kind, str]:
    if _numbers_rows(column.name, cells.values):
        return "ignored", "the row number"
    whole, low, high = column.whole, there.min(), there.max()
    if whole and column.is_integer and max(abs(low), abs(high)) >= _EXACT:
        return "ignored", "whole numbers of more than 15 digits, as of identifiers"
    if look_like_counts(there):
        return "count", ""
    if whole and column.values and len(column.values) <= min(_FEW, len(there) / _ROWS_EACH):
        return "category", ""
    return ("positive" if low > 0 and _is_log_normal(there) else "real"), ""


def _numbers_rows(name: str, x: NDArray[np.float64]) -> bool:
    """Whether a column counts the rows from 0 or 1; under a name such as "index" with gaps."""
    if len(x) < 3 or x[0] not in (0, 1):
        return False
    steps = np.diff(x)
    if name.lower() in _INDEX_NAMES:
        whole = bool(np.all((steps >= 1) & (steps == np.rint(steps))))
        return whole and bool(x[-1] <= 1.5 * len(x) + 1)
    return len(x) >= _MANY and bool(np.all(steps == 1))


def _is_log_normal(x: NDArray[np.float64]) -> bool:
    """Whether a log-normal scores positive numbers clearly higher than a normal does."""
    y = np.log(x)
    unit = float(np.abs(x).max())  # the squares of huge numbers would overflow
    log_sd, log_sd_of_log = math.log((x / unit).std() * unit), math.log(max(y.std(), 1e-300))
    gain = len(x) * (log_sd - log_sd_of_log) - float(y.sum())
    # More than its fitted parameters gain on normal data, as for the transforms of real columns.
    return gain > 3.0 + 0.02 * len(x)
