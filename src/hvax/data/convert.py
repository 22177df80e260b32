"""What users have their data in -> a NumPy array, and the names of its features where it has them.

Data frames are known by their methods, so that no library is imported for them.
"""

import numbers
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KINDS = "biuf"  # booleans, integers, floats


def to_array(data: Any, name: str) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """The array of `data` and, of a data frame, the names of its columns.

    Raises `TypeError` for what holds no numbers or does not convert, with what to write, and
    `ValueError` for missing values and for examples of different shapes.
    """
    if isinstance(data, np.ndarray):
        return data, None
    _refuse_containers(data, name)
    columns = _columns(data)
    if columns is not None:
        arrays = [_numbers(column, f"column {key!r} of {name}") for key, column in columns]
        if not arrays:
            raise ValueError(f"expected {name} to have columns of numbers, got none.")
        return np.stack(arrays, axis=1), tuple(key for key, _ in columns)
    if isinstance(data, list | tuple) and any(np.ma.is_masked(row) for row in data):
        raise missing(name, "masked arrays among its rows")
    try:
        return np.asarray(data), None
    except Exception as error:  # of tensors on other devices, say, in their library's own words
        raise _unconverted(data, name, error) from error


def missing(name: str, what: str) -> ValueError:
    """The error of data with holes."""
    return ValueError(
        f"expected {name} without missing values, got {what}; leave such examples out, or fill the "
        "holes in."
    )


def _refuse_containers(data: Any, name: str) -> None:
    """Known containers of which an array is one part or one call away."""
    kind = type(data).__name__
    if _is_sparse(data):
        raise TypeError(
            f"expected {name} to be a dense array, got a sparse {kind}; convert it with .toarray()"
        )
    if _has(data, "X", "obs", "var"):
        call = ".X.toarray()" if _is_sparse(data.X) else ".X"
        raise TypeError(
            f"expected {name} to be an array, got {kind}; give its matrix of examples, {call}"
        )
    if isinstance(data, dict):
        listed = ", ".join(map(repr, list(data)[:5]))
        raise TypeError(
            f"expected {name} to be one array, got a {kind} of {listed}; give the array of the "
            "examples, or stack columns with numpy.stack(list(...values()), axis=1)"
        )
    if _has(data, "collect", "lazy"):
        raise TypeError(f"expected {name} to be an array, got a {kind}; read it with .collect()")
    if not _has(data, "__array__") and _has(data, "__iter__") and not _has(data, "__len__"):
        raise TypeError(
            f"expected {name} to be an array, got a {kind}, which can be read only once; collect"
            " it with numpy.stack(list(...))"
        )


def _is_sparse(data: Any) -> bool:
    return _has(data, "toarray", "nnz")


def _columns(data: Any) -> list[tuple[str, NDArray[Any]]] | None:
    """The columns of a data frame of pandas, polars or pyarrow, by name; None for what is none."""
    if _has(data, "columns", "iloc"):
        read = [data.iloc[:, i] for i in range(data.shape[1])]
        names = list(data.columns)
    elif _has(data, "columns", "get_column"):
        read = [data.get_column(key) for key in data.columns]
        names = list(data.columns)
    elif _has(data, "column_names", "to_pydict"):
        read = [data.column(i) for i in range(len(data.column_names))]
        names = list(data.column_names)
    else:
        return None
    return [
        (str(key), np.asarray(column.to_numpy())) for key, column in zip(names, read, strict=True)
    ]


def _numbers(column: NDArray[Any], name: str) -> NDArray[Any]:
    """A column of finite numbers; also one whose numbers are held as objects."""
    if column.dtype == object:
        for row, value in enumerate(column):
            if not _is_number(value):
                if _is_missing(value):
                    raise missing(name, f"{value} in row {row}")
                raise TypeError(
                    f"expected {name} to hold numbers, got {value!r} in row {row}; leave the column"
                    " out, or give its classes numbers"
                )
        whole = all(isinstance(value, numbers.Integral) for value in column)
        return column.astype(np.int64 if whole else np.float64)
    if column.dtype.kind in "Mm":
        raise TypeError(
            f"expected {name} to hold numbers, got {column.dtype}; give the time since a start, in "
            "seconds: (t - t.min()) / numpy.timedelta64(1, 's')"
        )
    if column.dtype.kind not in _KINDS or column.ndim != 1:
        raise TypeError(
            f"expected {name} to hold numbers, got {column.dtype}; leave the column out, or give"
            " its classes numbers"
        )
    if column.dtype.kind == "f" and not np.all(np.isfinite(column)):
        row = int(np.flatnonzero(~np.isfinite(column))[0])
        raise missing(name, f"{column[row]} in row {row}")
    return column


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real | np.bool_ | Decimal) and not _is_missing(value)


def _is_missing(value: Any) -> bool:
    """Whether an object stands for no value: None, NaN, or a library's NA (which equals nothing,
    itself included)."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, numbers.Real | Decimal) and bool(value != value)


def _has(data: Any, *names: str) -> bool:
    """Whether an object of another library, which is not imported here, has these."""
    return all(getattr(data, name, None) is not None for name in names)


def _unconverted(data: Any, name: str, error: Exception) -> Exception:
    """Why NumPy makes no array of something, in words."""
    if _has(data, "detach"):
        return TypeError(
            f"expected {name} to be an array, got a {type(data).__name__} that NumPy cannot read "
            f"({error}); convert it with .detach().cpu().numpy()"
        )
    if isinstance(data, Sequence) or _has(data, "__getitem__"):
        shapes = _shapes(data)
        if shapes is not None and all(isinstance(shape, list) for shape in shapes):
            return TypeError(
                f"expected {name} to be an array of examples, got a {type(data).__name__} of pairs;"
                " give the examples alone, with numpy.stack([x for x, _ in ...])"
            )
        if shapes is not None and len({str(shape) for shape in shapes}) > 1:
            odd = next(i for i, shape in enumerate(shapes) if shape != shapes[0])
            return ValueError(
                f"expected all examples of {name} to have one shape, got {shapes[0]} at index 0 and"
                f" {shapes[odd]} at index {odd}; pad or cut them"
            )
    return TypeError(
        f"expected {name} to be an array of numbers, got a {type(data).__name__} that NumPy does"
        f" not convert ({error}); convert it with numpy.asarray"
    )


def _shapes(data: Any) -> list[Any] | None:
    """The shape of each example; a list of two for a pair of different shapes."""
    try:
        return [_shape(data[i]) for i in range(len(data))]
    except Exception:  # nested lists that are ragged further down, or a library's own objects
        return None


def _shape(example: Any) -> Any:
    if isinstance(example, tuple | list) and len(example) == 2:
        first, second = (np.shape(part) for part in example)
        if first != second:
            return [first, second]
    return np.shape(example)
