"""Building a DataFrame, of pandas, polars or pyarrow, or a dict of arrays, from decoded columns."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.column import Column

LIBRARIES = ("pandas", "polars", "pyarrow", "numpy")


class Decoded:
    """The cells (n,) of one column, to be put into a DataFrame."""

    def __init__(self, column: Column, values: NDArray[Any]):
        self.column = column
        objects = values.dtype == object
        self.missing = np.array([v is None for v in values]) if objects else np.isnan(values)
        self.values = values

    def typed(self) -> NDArray[Any]:
        """The values as an array of the column's own type; objects with None if some are missing
        and that type has no missing value."""
        dtype, holes = self.column.dtype, bool(self.missing.any())
        if dtype in ("String", "Categorical", "Enum", "Object"):
            return self._objects()
        if dtype.startswith("Float") or dtype == "Decimal":
            return np.array(self.values, np.float64)
        if holes:
            kind: Any = bool if dtype == "Boolean" else int
            pairs = zip(self.missing, self.values, strict=True)
            return np.array([None if hole else kind(value) for hole, value in pairs], object)
        return self.values.astype(bool if dtype == "Boolean" else np.int64)

    def _objects(self) -> NDArray[Any]:
        values = self.values.astype(object)
        if self.column.content == "number":
            kind: Any = int if self.column.whole else float
            values = np.array([kind(value) for value in _safe(values)], object)
            if self.column.dtype == "String":  # numbers that were stored as text
                values = np.array([str(v) for v in values], object)
        values[self.missing] = None
        return values


def _safe(values: NDArray[Any]) -> list[Any]:
    return [0 if v is None or v != v else v for v in values]


def default_library() -> str:
    """pandas if it is installed, else polars, else numpy: a dict of arrays."""
    found = (name for name in LIBRARIES[:2] if importlib.util.find_spec(name) is not None)
    return next(found, "numpy")


def build_frame(
    library: str, names: Sequence[Any], columns: Sequence[Decoded], like: Any, *, own: bool
) -> Any:
    """A DataFrame of a library with these columns.

    Types are those of `like`, a DataFrame of the same library that has the columns, or else those
    of the schema; `own` says that this is of the same library, so that its names of types hold.
    """
    if library == "pandas":
        return _pandas(names, columns, like, own)
    if library == "polars":
        return _polars(names, columns, like)
    if library == "pyarrow":
        return _pyarrow(names, columns, like)
    return {name: each.typed() for name, each in zip(names, columns, strict=True)}


def _pandas(names: Sequence[Any], columns: Sequence[Decoded], like: Any, own: bool) -> Any:
    import pandas as pd

    same_rows = like is not None and columns and len(like) == len(columns[0].values)
    index = like.index if same_rows else None
    found = {}
    for name, each in zip(names, columns, strict=True):
        native = each.column.native if own and each.column.dtype != "Object" else ""
        dtype = like[name].dtype if like is not None else native
        found[name] = pd.Series(_pandas_array(each, dtype), index=index)
    return pd.DataFrame(found, index=index)


def _pandas_array(each: Decoded, dtype: Any) -> Any:
    import pandas as pd

    column, values = each.column, each.typed()
    if column.dtype in ("Categorical", "Enum"):
        categories: list[Any] = list(column.values)
        if isinstance(dtype, pd.CategoricalDtype):
            given = dtype.categories.tolist()
            categories = given + [value for value in categories if value not in given]
        ordered = column.dtype == "Enum"
        return pd.Categorical(values.tolist(), categories=categories, ordered=ordered)
    if values.dtype == object and column.dtype == "Boolean":
        return pd.array(values, dtype="boolean")
    plain = isinstance(dtype, np.dtype) or str(dtype) in ("", str(dtype).lower())
    if values.dtype == object and column.is_integer and plain and "pyarrow" not in str(dtype):
        return pd.array(values, dtype="Int64")  # a NumPy integer cannot be missing
    return pd.array(values, dtype=dtype) if dtype != "" else values


def _polars(names: Sequence[Any], columns: Sequence[Decoded], like: Any) -> Any:
    import polars as pl

    found = []
    for name, each in zip(names, columns, strict=True):
        values, column = each.typed(), each.column
        if like is not None:
            dtype = like.schema[name]
        elif column.dtype == "Enum" and column.content == "text":
            dtype = pl.Enum([str(value) for value in column.values])
        elif column.dtype in ("Object", "Enum", "Decimal"):
            dtype = None
        else:
            dtype = getattr(pl, column.dtype, None)
        cells = [None if hole else v for hole, v in zip(each.missing, values.tolist(), strict=True)]
        series = pl.Series(str(name), cells, strict=False)
        found.append(series if dtype is None else series.cast(dtype))
    return pl.DataFrame(found)


def _pyarrow(names: Sequence[Any], columns: Sequence[Decoded], like: Any) -> Any:
    import pyarrow as pa

    found = []
    for name, each in zip(names, columns, strict=True):
        values, column = each.typed(), each.column
        array = pa.array(values.tolist(), mask=each.missing, from_pandas=True)
        if column.dtype in ("Categorical", "Enum"):
            array = array.dictionary_encode()
        if like is not None:
            array = array.cast(like.schema.field(name).type)
        elif column.dtype not in ("Categorical", "Enum", "String", "Object", "Decimal", "Boolean"):
            array = array.cast(pa.type_for_alias(column.dtype.lower()))
        found.append(array)
    return pa.table(found, names=[str(name) for name in names])
