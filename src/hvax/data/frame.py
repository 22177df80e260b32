"""Reading a table of named columns: a DataFrame, a dict of arrays, or a .csv or .parquet file.

Whatever the library, each column becomes `Cells`: what it holds, its values as float64 or text, and
where a value is missing (NaN, None, pandas' NA and NaT, polars' null, a masked entry).
"""

import importlib.util
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hvax.data.column_cells import Cells, cells_of_array, cells_of_objects, cells_of_series
from hvax.data.csv_columns import CSV_SUFFIXES, is_csv, read_csv_columns
from hvax.data.header import Header
from hvax.wording import kind_of

_BOOLEANS = {"true": True, "false": False}


class Frame(NamedTuple):
    """The columns of a table, by name and in order, and the library that it came from."""

    columns: dict[str, Cells]
    num_rows: int
    library: str  # pandas, polars, pyarrow, numpy (a dict of arrays), or csv
    integer_names: bool = False  # the columns are numbered, as pandas does without names


def read_frame(data: Any, name: str = "frame", *, header: Header = "auto") -> Frame:
    """Read a DataFrame (of any library that narwhals knows), a dict of arrays (n,), or a file.

    A path ends in .csv, .tsv or .txt (perhaps also in .gz, .bz2 or .xz), or in .parquet, which
    pandas, polars or pyarrow has to be installed for.

    Raises `TypeError` for anything else, and `ValueError` for a table without rows or columns, for
    duplicate names, and for columns of different lengths.
    """
    if isinstance(data, str | Path):
        path = Path(data)
        if is_csv(path):
            return _from_csv(path, header)
        return read_frame(_read_parquet(path), str(path))
    if isinstance(data, Mapping):
        library = "numpy"
        keys: Sequence[Any] = list(data)
        columns = [cells_of_array(key, data[key]) for key in keys]
    else:
        keys, columns, library = _from_dataframe(data, name)
    frame = dict(zip(_names(keys, name), columns, strict=True))
    lengths = {len(cells.missing) for cells in columns}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            f"{name} must have columns of one length, at least 1, got "
            f"{len(columns)} columns of the lengths {sorted(lengths)}. Give at least one row."
        )
    integer = all(isinstance(key, int | np.integer) for key in keys)
    return Frame(frame, lengths.pop(), library, integer)


def library_of(data: Any) -> str:
    """The library of a DataFrame: pandas, polars, pyarrow, or numpy for a dict of arrays."""
    if isinstance(data, Mapping):
        return "numpy"
    import narwhals.stable.v2 as narwhals

    name = str(narwhals.from_native(data, eager_only=True).implementation).lower()
    return next((known for known in ("polars", "pyarrow") if known in name), "pandas")


def names_of(data: Any) -> list[Any]:
    """The column names of a DataFrame or a dict of arrays, as it has them."""
    if isinstance(data, Mapping):
        return list(data)
    import narwhals.stable.v2 as narwhals

    return list(narwhals.from_native(data, eager_only=True).columns)


def _from_csv(path: Path, header: Header) -> Frame:
    columns = {}
    for name, values in read_csv_columns(path, header=header).items():
        if isinstance(values, list):
            words = {text.lower() for text in dict.fromkeys(values) if text is not None}
            if words and words <= _BOOLEANS.keys():
                booleans = [None if text is None else _BOOLEANS[text.lower()] for text in values]
                columns[name] = cells_of_objects(booleans)
            else:
                columns[name] = cells_of_objects(values)
        else:
            whole = bool(np.all((values == np.rint(values)) | np.isnan(values)))
            dtype = "Int64" if whole else "Float64"
            columns[name] = Cells("number", values, np.isnan(values), dtype)
    num_rows = len(next(iter(columns.values())).missing)
    return Frame(columns, num_rows, "csv")


def _read_parquet(path: Path) -> Any:
    if path.suffix.lower() not in (".parquet", ".pq"):
        raise ValueError(
            f"a table's file must end in {', '.join(CSV_SUFFIXES)} or .parquet, got {path}. Save "
            "it as one of them, or pass a DataFrame."
        )
    if not path.exists():
        raise FileNotFoundError(
            f"{path} must be a .parquet file, got no such file. Check its path."
        )
    if importlib.util.find_spec("pyarrow") is not None:
        from pyarrow import parquet

        return parquet.read_table(path)
    if importlib.util.find_spec("polars") is not None:
        import polars

        return polars.read_parquet(path)
    raise ImportError(
        f"{path} must be read by pyarrow or polars, got neither installed. Install "
        "hvax[tables], or save the table as .csv."
    )


def _from_dataframe(data: Any, name: str) -> tuple[Sequence[Any], list[Cells], str]:
    import narwhals.stable.v2 as narwhals
    from narwhals.exceptions import DuplicateError

    if not isinstance(data, np.ndarray) and getattr(data, "collect", None) is not None:
        raise TypeError(
            f"{name} must be a DataFrame in memory, got {kind_of(data)}. Read it with .collect()."
        )
    try:
        frame = narwhals.from_native(data, eager_only=True)
        keys = list(frame.columns)
    except DuplicateError:
        names = list(getattr(data, "column_names", None) or data.columns)
        raise _duplicates(map(str, names), name) from None
    except TypeError:
        advice = (
            "Give its columns names: {'height': x[:, 0], ...}, or pandas.DataFrame(x)"
            if isinstance(data, np.ndarray)
            else "Convert it, for example with .to_frame() or pandas.DataFrame(...)"
        )
        raise TypeError(
            f"{name} must be a DataFrame (pandas, polars, pyarrow, ...), a dict of arrays, or the "
            f"path of a .csv or .parquet file, got {kind_of(data)}. {advice}."
        ) from None
    columns = [cells_of_series(column) for column in frame.iter_columns()]
    return keys, columns, library_of(data)


def _names(keys: Sequence[Any], name: str) -> list[str]:
    if not keys:
        raise ValueError(f"{name} must have at least one column, got none.")
    kinds = {int if isinstance(key, np.integer) else type(key) for key in keys}
    if kinds not in ({str}, {int}):
        listed = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(
            f"the column names of {name} must be strings, or all be integers, got {listed}. Rename "
            "the columns."
        )
    return [str(key) for key in keys]


def _duplicates(names: Any, name: str) -> ValueError:
    twice = [repr(key) for key, count in Counter(names).items() if count > 1]
    return ValueError(
        f"the column names of {name} must differ, got {', '.join(twice)} more than once. Rename or "
        "drop columns."
    )
