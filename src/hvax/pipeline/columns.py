"""The columns of a table that a model can learn from."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hvax.data.examples import Examples
from hvax.data.source import SOURCES, Source
from hvax.data.table import as_integers
from hvax.precision import origin_of_rows
from hvax.training.marginals import spaced_rows
from hvax.training.units import real_units

_INDEX_NAMES = {"", "unnamed: 0", "index", "rownames", "row"}


def varying_columns(
    source: Source, train: NDArray[np.int64], chosen: bool
) -> tuple[Source, tuple[str, ...]]:
    """A table without the columns that do not vary over the training rows or that number the rows,
    and notes of both; other sources, and columns that were `chosen`, as they are.

    Raises `ValueError` where no column is left.
    """
    x = source.x
    named = source.feature_names is not None  # a .csv file has a header, or columns by number
    is_table = x.ndim == 2 and (named or source.name.lower().endswith(".csv"))
    if source.name in SOURCES or not is_table:
        return source, ()
    names = source.feature_names or tuple(str(i) for i in range(x.shape[1]))
    rows = spaced_rows(Examples(x, train)).astype(np.float64)
    origin = origin_of_rows(rows)
    rows = rows if origin is None else rows - origin
    rows[:, np.isnan(rows).all(axis=0)] = 0.0  # nothing is known of them: constant
    constant = real_units(rows, "none").constant
    numbers = np.array([_numbers_rows(x[:, i]) for i in range(x.shape[1])])
    index = numbers & np.array([name.lower() in _INDEX_NAMES for name in names])
    notes = []
    if constant.any() and not chosen:
        notes.append(f"left out columns that do not vary: {_listed(names, constant)}")
    if index.any() and not chosen:
        notes.append(f"left out the row number: column {_listed(names, index)}")
    if (odd := numbers & ~index).any():
        notes.append(
            f"column {_listed(names, odd)} looks like a row number: "
            "leave it out with --columns, or take it by --labels"
        )
    if chosen:
        return source, tuple(notes)
    keep = np.flatnonzero(~(constant | index))
    if len(keep) == 0:
        raise ValueError(
            f"{source.name}: expected a column that varies, got none among "
            f"{', '.join(names[:5])}; give data with differences between rows"
        )
    if len(keep) == len(names):
        return source, tuple(notes)
    kept = None if source.feature_names is None else tuple(names[i] for i in keep)
    return replace(source, x=as_integers(x[:, keep]), feature_names=kept), tuple(notes)


def _numbers_rows(column: NDArray) -> bool:
    """Whether a column counts the rows of its file from 0 or 1, some of which may be left out."""
    if np.isnan(column).any():
        return False
    steps = np.diff(column)
    counts = len(column) > 2 and bool(np.all((steps >= 1) & (steps == np.rint(steps))))
    return bool(counts and column[0] in (0, 1) and column[-1] <= 1.5 * len(column) + 1)


def _listed(names: tuple[str, ...], which: NDArray[np.bool_]) -> str:
    found = [names[i] or f"number {i}" for i in np.flatnonzero(which)]
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ", ".join(found[:5]) + more
