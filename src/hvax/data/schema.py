"""The schema of a table: what each column holds, how it is modeled, and the way there and back."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.build_frame import LIBRARIES, Decoded, build_frame, default_library
from hvax.data.column import KINDS, Column, check_kinds, check_names
from hvax.data.encode import encode_columns, warn_of_unknown
from hvax.data.frame import library_of, names_of, read_frame
from hvax.data.header import Header
from hvax.data.infer import infer_column
from hvax.data.listing import listing

_VERSION = 1  # of `to_dict`


@dataclass(frozen=True, repr=False)
class Table:
    """The columns of a table and the kind of each; between DataFrames and arrays (n, d) of float64.

        table = hvax.Table.infer(frame)                # or "people.csv", "people.parquet"
        print(table)
        table = table.with_kinds(zip_code="category", name="ignored")
        x = table.encode(frame)                        # NaN where a value is missing
        frame = table.decode(x)                        # a DataFrame again

    A column is `real`, `positive` (a log-normal), `binary`, a `category`, a `count`, `ignored`, the
    `label` (classes for plots, not modeled), or a `condition` (given to the model, not modeled).

    - `columns`: the columns in order, each a `Column`.
    - `num_rows`: of the table it was inferred from.
    - `library`: that table's: pandas, polars, pyarrow, numpy (a dict of arrays), or csv.
    - `integer_names`: whether that table's columns have numbers for names, as in pandas.

    Methods raise `ValueError` or `TypeError`, naming columns and rows, for tables that do not fit.
    """

    columns: tuple[Column, ...]
    num_rows: int
    library: str = "numpy"
    integer_names: bool = False

    @classmethod
    def infer(
        cls,
        frame: Any,
        *,
        kinds: Mapping[Any, str] | None = None,
        columns: Sequence[Any] | None = None,
        leave_out: Sequence[Any] = (),
        max_categories: int = 50,
        header: Header = "auto",
    ) -> "Table":
        """The schema of a DataFrame (pandas, polars, pyarrow, ...), a dict of arrays, or a file.

        Two distinct values are binary; text is a category, unless it is numbers or nearly all
        distinct; whole numbers are counts if a negative binomial suits them; other numbers are
        real, or positive if a log-normal suits them clearly better. Ignored, with a note: constant
        and empty columns, dates, row numbers and identifiers.

        **Arguments:**

        - `frame`: a DataFrame, a dict of arrays (n,), or the path of a .csv or .parquet file.
        - `kinds`: the kind of some columns by name, instead of the inferred one.
        - `columns`, `leave_out`: names of the columns to take, and to leave out; others are
          ignored.
        - `max_categories`: the most classes of a category.
        - `header`: whether the first line of a .csv file names the columns.

        Raises `TypeError` and `ValueError`, with column and row, for duplicate names, a column of
        several types or of lists, infinite numbers, and kinds that do not suit.
        """
        read = read_frame(frame, header=header)
        asked = {str(name): kind for name, kind in (kinds or {}).items()}
        taken = None if columns is None else {str(name) for name in columns}
        left = {str(name) for name in leave_out}
        check_names(read.columns, {*asked, *(taken or ()), *left})
        for name in read.columns:
            if name in left or (taken is not None and name not in taken | asked.keys()):
                asked[name] = "ignored"
        check_kinds(asked)
        found = tuple(
            infer_column(name, cells, asked.get(name), max_categories)
            for name, cells in read.columns.items()
        )
        table = cls(found, read.num_rows, read.library, read.integer_names)
        table._check()
        return table

    def with_kinds(self, kinds: Mapping[Any, str] | None = None, /, **named: str) -> "Table":
        """The table with other kinds for some columns: `table.with_kinds(age="real")`.

        Names that are no Python names go into a dict: `table.with_kinds({"zip code": "category"})`.
        Raises `ValueError` for an unknown column or kind, or one that the column does not suit.
        """
        asked = {str(name): kind for name, kind in {**(kinds or {}), **named}.items()}
        check_names(self.names, asked)
        check_kinds(asked)
        columns = tuple(
            column.with_kind(asked[column.name]) if column.name in asked else column
            for column in self.columns
        )
        table = dataclasses.replace(self, columns=columns)
        table._check()
        return table

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns."""
        return tuple(column.name for column in self.columns)

    @property
    def modeled(self) -> tuple[Column, ...]:
        """The columns that are modeled, in order: those of `encode`."""
        return tuple(column for column in self.columns if column.is_modeled)

    @property
    def classes(self) -> dict[int, tuple[str, ...]]:
        """The names of the classes of each column of `encode` that has classes, by its index."""
        named = {i: column.values for i, column in enumerate(self.modeled) if column.holds_classes}
        return {i: tuple(map(str, values)) for i, values in named.items()}

    def __repr__(self) -> str:
        return listing(self.columns, self.num_rows)

    def encode(
        self, frame: Any, *, unseen: str = "refuse", name: str = "the table"
    ) -> NDArray[np.float64]:
        """The modeled columns as float64 (n, d), NaN where a value is missing.

        Numbers stay as they are; a binary is 0 or 1, a category the index of its class. The order
        of the frame's columns does not matter, ignored and label columns may be absent, and unknown
        ones are not used, with an `UnknownColumn` warning.

        Raises `ValueError` that names each column that is absent or does not fit; for an unseen
        class unless `unseen="missing"`, which takes it as a missing value, with an `UnseenClass`
        warning. `name` is what messages call the frame.
        """
        if unseen not in ("refuse", "missing"):
            raise ValueError(f"unseen must be 'refuse' or 'missing', got {unseen!r}.")
        read = read_frame(frame)
        warn_of_unknown(read, self.names, name)
        return encode_columns(self.modeled, read, unseen=unseen, name=name)

    def conditions(self, frame: Any) -> NDArray[np.float64] | None:
        """The condition columns as float64 (n, c), or None if there are none.

        Numbers are standardized by the mean and sd of the table's own rows, text and booleans are
        one-hot. Raises `ValueError` as `encode` does, and for a missing value.
        """
        columns = [column for column in self.columns if column.kind == "condition"]
        if not columns:
            return None
        x = encode_columns(columns, read_frame(frame))
        parts = []
        for column, values in zip(columns, x.T, strict=True):
            if np.any(np.isnan(values)):
                row = int(np.flatnonzero(np.isnan(values))[0])
                raise ValueError(
                    f"the condition {column.name!r} must have no missing values, got one in row "
                    f"{row}. Fill it in, or leave the row out."
                )
            if column.holds_classes:
                parts.append(np.eye(len(column.values))[values.astype(int)])
            else:
                parts.append((values[:, None] - (column.mean or 0.0)) / (column.sd or 1.0))
        return np.concatenate(parts, axis=1)

    def labels(self, frame: Any) -> NDArray[Any] | None:
        """The label column, (n,) int64, float64 or strings; None if there is none.

        Also None for a frame without that column. A missing label is "" or, among numbers, NaN.
        """
        column = next((column for column in self.columns if column.kind == "label"), None)
        cells = None if column is None else read_frame(frame).columns.get(column.name)
        if cells is None:
            return None
        if cells.content == "text":
            return np.array(["" if text is None else text for text in cells.values], np.str_)
        whole = bool(np.all(cells.values == np.rint(cells.values)))
        return cells.values.astype(np.int64) if whole else cells.values

    def decode(self, x: NDArray[Any], *, like: Any = None) -> Any:
        """A DataFrame from an array (n, d) of encoded rows, such as samples of a model.

        It has the modeled columns, with their names, order and types: integers and classes are
        rounded to the nearest, NaN is a missing value (in a pandas column of integers or booleans,
        which has none, as Int64 or boolean).

        **Arguments:**

        - `x`: (n, d), as `encode` returns.
        - `like`: a DataFrame, or a library: "pandas", "polars", "pyarrow", or "numpy" for a dict
          of arrays. A DataFrame gives its library, its order and types of columns, and (in pandas,
          if it has n rows) its index. By default the library that the table came from, for a file
          pandas or else polars.

        Raises `ValueError` for another shape, and for a class that does not exist.
        """
        x = np.asarray(x, np.float64)
        columns = self.modeled
        if x.ndim != 2 or x.shape[1] != len(columns):
            raise ValueError(
                f"x must have shape (n, {len(columns)}), one column for each modeled column, got "
                f"shape {x.shape}. Give an array as `encode` returns."
            )
        given = None if like is None or isinstance(like, str) else like
        if given is not None:
            library = library_of(given)
        else:
            library = like or (self.library if self.library != "csv" else default_library())
        if library not in LIBRARIES:
            raise ValueError(f"like must be a DataFrame or one of {LIBRARIES}, got {like!r}.")
        decoded = {c.name: Decoded(c, c.decode(x[:, i])) for i, c in enumerate(columns)}
        keys: dict[str, Any] = dict(zip(decoded, decoded, strict=True))
        if self.integer_names and library in ("pandas", "numpy"):
            keys = {name: int(name) for name in keys}
        if given is not None:
            keys = {str(key): key for key in names_of(given) if str(key) in decoded}
            check_names(keys, decoded, "the frame of `like`")
        return build_frame(
            library,
            list(keys.values()),
            [decoded[name] for name in keys],
            given if library != "numpy" else None,
            own=library == self.library,
        )

    def to_dict(self) -> dict[str, Any]:
        """The table as a dict of strings, numbers, booleans, lists and None, for JSON."""
        own = ("num_rows", "library", "integer_names")
        columns = [column.to_dict() for column in self.columns]
        return {"version": _VERSION, **{n: getattr(self, n) for n in own}, "columns": columns}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Table":
        """The table that `to_dict` wrote. Raises `ValueError` for anything else."""
        try:
            if stored["version"] != _VERSION:
                raise ValueError(f"version {stored['version']!r}")
            columns = tuple(_column(each) for each in stored["columns"])
            library, rows = stored["library"], int(stored["num_rows"])
            table = cls(columns, rows, str(library), bool(stored["integer_names"]))
            table._check()
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"a stored table must be what Table.to_dict wrote, version {_VERSION}, got "
                f"something else ({error}). Infer the table again."
            ) from error
        return table

    def _check(self) -> None:
        if not self.modeled:
            notes = [f"{c.name}: {c.note or c.kind}" for c in self.columns[:5]]
            raise ValueError(
                f"a table must have at least one modeled column, got {'; '.join(notes)}. Give "
                "`kinds` for the columns to model."
            )
        labels = [column.name for column in self.columns if column.kind == "label"]
        if len(labels) > 1:
            raise ValueError(
                f"a table must have at most one label column, got {', '.join(labels)}. Give the "
                "others the kind 'ignored'."
            )


def _column(stored: Mapping[str, Any]) -> Column:
    column = Column(**{**stored, "values": tuple(stored["values"])})
    if column.kind not in KINDS:
        raise ValueError(f"the kind {column.kind!r}")
    return column
