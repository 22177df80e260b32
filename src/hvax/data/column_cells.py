"""The cells of one column of a table, whatever library it came from."""

import datetime
import numbers
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvax.data.convert import is_missing_value
from hvax.wording import kind_of

Content = Literal["number", "boolean", "text", "date", "other"]
Scalar = str | int | float | bool

_NUMPY = {"b": "Boolean", "i": "Int64", "u": "Int64", "f": "Float64", "U": "String"}
_DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)


class Cells(NamedTuple):
    """The cells of one column.

    - `values`: (n,), float64 with NaN for missing numbers and booleans (0 and 1), objects with None
      for missing text; empty for dates and others.
    - `missing`: (n,), True where there is no value.
    - `dtype`: the column's type by its name in narwhals (Int64, String, ...), the same in all
      libraries; `native`: by its name in the library it came from.
    - `declared`: the categories that a categorical type lists, in its order; else None.
    - `problem`: why the column cannot be read, for an error message; else "".
    """

    content: Content
    values: NDArray[Any]
    missing: NDArray[np.bool_]
    dtype: str
    native: str = ""
    declared: tuple[Scalar, ...] | None = None
    problem: str = ""


def cells_of_series(series: Any) -> Cells:
    """The cells of a narwhals Series."""
    import narwhals.stable.v2 as narwhals

    dtype, missing = series.dtype, np.asarray(series.is_null().to_numpy(), bool)
    base = str(dtype).split("(")[0]
    native = str(getattr(series.to_native(), "dtype", getattr(series.to_native(), "type", "")))
    if dtype.is_numeric() and not dtype.is_decimal():
        values = np.where(missing, np.nan, _floats(series, missing))
        return Cells("number", values, np.isnan(values), base, native)
    if dtype.is_temporal():
        return Cells("date", np.empty(0), missing, base, native)
    declared = None
    if isinstance(dtype, narwhals.Enum):
        declared = tuple(dtype.categories)
    elif isinstance(dtype, narwhals.Categorical):
        # Without an order, polars and pyarrow list whatever else shares their dictionary.
        ordered = getattr(getattr(series.to_native(), "type", None), "ordered", False)
        base = "Enum" if ordered else base
        if ordered or series.implementation.is_pandas_like():
            declared = tuple(series.cat.get_categories().to_list())
    cells = cells_of_objects(series.to_list())
    if declared is not None:
        declared = tuple(_scalar(value) for value in declared)
        if not all(isinstance(value, Scalar) for value in declared):
            return cells._replace(dtype=base, native=native)
    return cells._replace(dtype=base, native=native, declared=declared)


def _floats(series: Any, missing: NDArray[np.bool_]) -> NDArray[np.float64]:
    if not missing.any():
        return np.asarray(series.to_numpy(), np.float64)
    values = np.full(len(missing), np.nan)
    values[~missing] = series.filter((~missing).tolist()).to_numpy()
    return values


def cells_of_array(name: Any, column: Any) -> Cells:
    """The cells of a NumPy array (n,), perhaps a masked one, or of a list.

    Raises `ValueError` for another shape.
    """
    hidden = np.ma.getmaskarray(column) if isinstance(column, np.ma.MaskedArray) else None
    array = np.ma.getdata(column) if hidden is not None else column
    if not isinstance(array, np.ndarray):
        return cells_of_objects(list(array))
    if array.ndim != 1:
        raise ValueError(
            f"column {name!r} must be an array (n,), got shape {array.shape}. Give each column a "
            "name of its own."
        )
    kind = array.dtype.kind
    if kind in "Mm":
        return Cells("date", np.empty(0), np.isnat(array), "Datetime", str(array.dtype))
    if kind in "biuf":
        values = array.astype(np.float64)
        values[np.zeros(len(array), bool) if hidden is None else hidden] = np.nan
        content: Content = "boolean" if kind == "b" else "number"
        return Cells(content, values, np.isnan(values), _NUMPY[kind], str(array.dtype))
    objects = array.astype(object)
    if hidden is not None:
        objects[hidden] = None
    cells = cells_of_objects(objects.tolist())
    return cells._replace(native=str(array.dtype))


def cells_of_objects(values: Sequence[Any]) -> Cells:
    """Cells of Python objects, which must all be of one kind."""
    missing = np.array([is_missing_value(value) or value == "" for value in values], bool)
    first: tuple[Content, int] | None = None
    for row in map(int, np.flatnonzero(~missing)):
        content = _content(values[row])
        if first is None:
            first = content, row
        elif content != first[0]:
            a, b = values[first[1]], values[row]
            problem = (
                f"must hold values of one type, got {b!r} ({type(b).__name__}) in row {row} after "
                f"{a!r} ({type(a).__name__}) in row {first[1]}"
            )
            return Cells("other", np.empty(0), missing, "Object", problem=problem)
    content = "text" if first is None else first[0]
    if content in ("number", "boolean"):
        present = [values[row] for row in map(int, np.flatnonzero(~missing))]
        numbers_ = np.full(len(values), np.nan)
        numbers_[~missing] = [float(value) for value in present]
        whole = all(isinstance(value, numbers.Integral) for value in present)
        dtype = "Boolean" if content == "boolean" else "Int64" if whole else "Float64"
        return Cells(content, numbers_, missing, dtype)
    if content == "text":
        texts = [None if hole else str(v) for hole, v in zip(missing, values, strict=True)]
        return Cells("text", np.array(texts, object), missing, "String")
    if content == "date":
        return Cells("date", np.empty(0), missing, "Datetime")
    value = values[first[1]] if first else None
    problem = (
        f"must hold numbers, text or booleans, got {kind_of(value)} ({str(value)[:40]}) in "
        f"row {first[1] if first else 0}"
    )
    return Cells("other", np.empty(0), missing, "Object", problem=problem)


def _content(value: Any) -> Content:
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, numbers.Real | Decimal):
        return "number"
    if isinstance(value, str):
        return "text"
    return "date" if isinstance(value, _DATES) else "other"


def _scalar(value: Any) -> Any:
    """A NumPy scalar as a Python one."""
    return value.item() if isinstance(value, np.generic) else value
