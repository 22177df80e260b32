"""Cells of a column as numbers, by its schema."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hvax.data.column import Column
from hvax.data.column_cells import Cells
from hvax.data.csv_columns import as_numbers
from hvax.data.infer import number_or_missing

Unseen = Literal["refuse", "missing"]
"""What becomes of a class that the schema does not know."""


class Unfit(ValueError):
    """The cells of a column do not fit its schema; the message says which and why."""


def encode_cells(column: Column, cells: Cells, unseen: str = "refuse") -> NDArray[np.float64]:
    """The numbers (n,) of a column's cells, NaN where missing: a class as its index.

    A class that the schema does not know is refused, or with `unseen="missing"` taken as missing.
    Raises `Unfit`.
    """
    if cells.problem:
        raise Unfit(cells.problem)
    if column.holds_classes:
        return _classes(column, cells, unseen)
    x = _numbers(cells)
    _refuse(np.isinf(x), x, "finite")
    if column.kind == "positive":
        _refuse(x <= 0, x, "> 0")
    if column.kind == "count":
        _refuse((x < 0) | (x != np.rint(x)) & ~np.isnan(x), x, "whole and >= 0")
    return x


def _refuse(wrong: NDArray[np.bool_], x: NDArray[Any], wanted: str) -> None:
    if np.any(wrong):
        row = int(np.flatnonzero(wrong)[0])
        raise Unfit(f"must be {wanted}, got {x[row]:g} in row {row}")


def _numbers(cells: Cells) -> NDArray[np.float64]:
    if cells.content in ("number", "boolean"):
        return cells.values
    if np.all(cells.missing):
        return np.full(len(cells.missing), np.nan)
    if cells.content == "text":
        texts = cells.values.tolist()
        values = as_numbers(texts, number_or_missing)
        if values is not None:
            return values
        row = next(i for i, t in enumerate(texts) if t is not None and number_or_missing(t) is None)
        raise Unfit(f"must hold numbers, got {texts[row]!r} in row {row}")
    raise Unfit(f"must hold numbers, got {cells.content}s ({cells.dtype})")


def _classes(column: Column, cells: Cells, unseen: str) -> NDArray[np.float64]:
    """The place of each cell among the column's values."""
    if np.all(cells.missing):
        return np.full(len(cells.missing), np.nan)
    if isinstance(column.values[0], str):
        if cells.content != "text":
            raise Unfit(f"must hold text, got {cells.content}s ({cells.dtype})")
        keys = cells.values.tolist()
        hidden = cells.missing
    else:
        values = _numbers(cells)
        keys, hidden = values.tolist(), np.isnan(values)
    places = {value: float(i) for i, value in enumerate(column.values)}
    found = np.array([places.get(key, -1.0) for key in keys])
    found[hidden] = np.nan
    if np.any(unknown := found < 0):
        if unseen == "refuse":
            row = int(np.flatnonzero(unknown)[0])
            known = ", ".join(repr(value) for value in column.values[:5])
            more = f" and {len(column.values) - 5} more" if len(column.values) > 5 else ""
            key = keys[row]
            shown = repr(key) if isinstance(key, str) else f"{key:g}"
            raise Unfit(
                f"must be one of {known}{more}, got {shown} in row {row} "
                "(unseen='missing' takes it as missing)"
            )
        found[unknown] = np.nan
    return found
