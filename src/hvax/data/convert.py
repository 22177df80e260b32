"""Conversion of users' data (arrays, lists, data frames, tensors) to NumPy arrays.

Data frames are recognized by their methods, so no other library has to be imported.
"""

import numbers
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KINDS = "biuf"  # booleans, integers, floats


def to_array(data: Any, name: str) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """`data` as a NumPy array, and the column names if it is a data frame.

    Missing values (NaN, None, pandas' NA, what a masked array hides) are NaN. Raises `TypeError`,
    with advice, for what cannot be converted or holds no numbers, and `ValueError` for examples of
    different shapes.
    """
    if isinstance(data, np.ndarray):
        return _of_objects(_unmasked(data)), None
    _refuse_containers(data, name)
    columns = _columns(data)
    if columns is not None:
        arrays = [_numbers(column, f"column {key!r} of {name}") for key, column in columns]
        if not arrays:
            raise ValueError(f"{name} must have columns of numbers, got none.")
        return np.stack(arrays, axis=1), tuple(key for key, _ in columns)
    if isinstance(data, list | tuple) and any(np.ma.is_masked(row) for row in data):
        return np.stack([_unmasked(np.ma.asarray(row)) for row in data]), None
    try:
        return np.asarray(data), None
    except Exception as error:  # such as a library's own error for a tensor on a GPU
        raise _unconverted(data, name, error) from error


def _of_objects(x: NDArray[Any]) -> NDArray[Any]:
    """An array of Python numbers as one of integers or floats; any other array unchanged."""
    if x.dtype != object:
        return x
    flat = x.ravel()
    holes = np.array([is_missing_value(value) for value in flat], bool)
    if not all(hole or _is_number(value) for hole, value in zip(holes, flat, strict=True)):
        return x  # whose first other value is named where the array is refused
    return _from_objects(flat, holes).reshape(x.shape)


def _from_objects(column: NDArray[Any], holes: NDArray[np.bool_]) -> NDArray[Any]:
    if holes.any():
        return np.where(holes, np.nan, column).astype(np.float64)
    whole = all(isinstance(value, numbers.Integral) for value in column)
    return column.astype(np.int64 if whole else np.float64)


def _unmasked(x: NDArray[Any]) -> NDArray[Any]:
    """An array with NaN where a masked array hides its values; any other array unchanged."""
    if not np.ma.is_masked(x):
        return np.asarray(x) if isinstance(x, np.ma.MaskedArray) else x
    floats = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
    return np.ma.filled(x.astype(floats), np.nan)


def _refuse_containers(data: Any, name: str) -> None:
    """Raise `TypeError` for containers from which an array can be had, saying how."""
    kind = type(data).__name__
    if _is_sparse(data):
        raise TypeError(
            f"{name} must be a dense array, got a sparse {kind}. Convert it with .toarray()."
        )
    if _has(data, "X", "obs", "var"):
        call = ".X.toarray()" if _is_sparse(data.X) else ".X"
        raise TypeError(
            f"{name} must be an array, got {kind}. Give its matrix of examples, {call}."
        )
    if isinstance(data, dict):
        listed = ", ".join(map(repr, list(data)[:5]))
        raise TypeError(
            f"{name} must be one array, got a {kind} of {listed}. Give the array of the "
            "examples, or stack columns with numpy.stack(list(...values()), axis=1)."
        )
    if _has(data, "collect", "lazy"):
        raise TypeError(f"{name} must be an array, got a {kind}. Read it with .collect().")
    if not _has(data, "__array__") and _has(data, "__iter__") and not _has(data, "__len__"):
        raise TypeError(
            f"{name} must be an array, got a {kind}, which can be read only once. Collect"
            " it with numpy.stack(list(...))."
        )


def _is_sparse(data: Any) -> bool:
    return _has(data, "toarray", "nnz")


def _columns(data: Any) -> list[tuple[str, NDArray[Any]]] | None:
    """The named columns of a data frame of pandas, polars or pyarrow; None for anything else."""
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
    """A column of numbers, NaN where one is missing, converted from Python objects if need be."""
    if column.dtype == object:
        holes = np.array([is_missing_value(value) for value in column])
        for row, value in enumerate(column):
            if not holes[row] and not _is_number(value):
                raise TypeError(
                    f"{name} must hold numbers, got {value!r} in row {row}. Leave the column"
                    " out, or give its classes numbers."
                )
        return _from_objects(column, holes)
    if column.dtype.kind in "Mm":
        raise TypeError(
            f"{name} must hold numbers, got {column.dtype}. Give the time since a start, in "
            "seconds: (t - t.min()) / numpy.timedelta64(1, 's')."
        )
    if column.dtype.kind not in _KINDS or column.ndim != 1:
        raise TypeError(
            f"{name} must hold numbers, got {column.dtype}. Leave the column out, or give"
            " its classes numbers."
        )
    if column.dtype.kind == "f" and np.any(np.isinf(column)):
        row = int(np.flatnonzero(np.isinf(column))[0])
        raise ValueError(
            f"{name} must be finite, got {column[row]} in row {row}. Replace it, or give NaN where "
            "it is missing."
        )
    return column


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real | np.bool_ | Decimal) and not is_missing_value(value)


def is_missing_value(value: Any) -> bool:
    """Whether an object is a missing value: None, NaN, or pandas' NA or NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, numbers.Real | Decimal) and bool(value != value)


def _has(data: Any, *names: str) -> bool:
    """Whether an object, perhaps of a library that is not imported here, has these attributes."""
    return all(getattr(data, name, None) is not None for name in names)


def _unconverted(data: Any, name: str, error: Exception) -> Exception:
    """The error for data that NumPy cannot convert, with the most likely cause."""
    if _has(data, "detach"):
        return TypeError(
            f"{name} must be an array, got a {type(data).__name__} that NumPy cannot read "
            f"({error}). Convert it with .detach().cpu().numpy()."
        )
    if isinstance(data, Sequence) or _has(data, "__getitem__"):
        shapes = _shapes(data)
        if shapes is not None and all(isinstance(shape, list) for shape in shapes):
            return TypeError(
                f"{name} must be an array of examples, got a {type(data).__name__} of pairs."
                " Give the examples alone, with numpy.stack([x for x, _ in ...])."
            )
        if shapes is not None and len({str(shape) for shape in shapes}) > 1:
            other = next(i for i, shape in enumerate(shapes) if shape != shapes[0])
            return ValueError(
                f"all examples of {name} must have one shape, got {shapes[0]} at index 0 and"
                f" {shapes[other]} at index {other}. Pad or cut them."
            )
    return TypeError(
        f"{name} must be an array of numbers, got a {type(data).__name__} that NumPy does"
        f" not convert ({error}). Convert it with numpy.asarray."
    )


def _shapes(data: Any) -> list[Any] | None:
    """The shape of each example, a list of two shapes for a pair; None if they have no shapes."""
    try:
        return [_shape(data[i]) for i in range(len(data))]
    except Exception:  # such as lists that are ragged at a deeper level
        return None


def _shape(example: Any) -> Any:
    if isinstance(example, tuple | list) and len(example) == 2:
        first, second = (np.shape(part) for part in example)
        if first != second:
            return [first, second]
    return np.shape(example)
