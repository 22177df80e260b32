"""Checks of arrays of examples: type, dtype, shape, and finite values."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.claims import require_whole

_CHUNK = 1 << 24  # bytes read at a time: memory-mapped arrays may be larger than memory


def check_array(x: object, name: str) -> NDArray[Any]:
    """`x` if it is a NumPy array of real numbers; else `TypeError`. Does not read values.

    Raises `ValueError` for a masked array: `hvax.data.to_array` makes NaN of hidden values.
    """
    if not isinstance(x, np.ndarray):
        raise TypeError(
            f"{name} must be a NumPy array of examples, got {type(x).__name__}."
            " Convert it with numpy.asarray."
        )
    if np.ma.is_masked(x):
        raise ValueError(
            f"{name} must be a plain array, got a masked one with {np.ma.count_masked(x)} hidden "
            "values. Give NaN in their place: x.astype(float).filled(numpy.nan)."
        )
    if x.dtype.kind not in "biuf" or x.dtype.itemsize > 8:
        raise TypeError(
            f"{name} must hold booleans, integers or floats of at most 64 bits, got"
            f" {_other_kind(x)}."
        )
    return x


def _other_kind(x: NDArray[Any]) -> str:
    """What an array holds instead of numbers, and what to do, for an error message."""
    kind = x.dtype.kind
    if kind == "c":
        return f"{x.dtype}. Give both parts: numpy.concatenate([x.real, x.imag], axis=-1)"
    if kind in "mM":
        return f"{x.dtype}. Give seconds since a start: (x - x.min()) / numpy.timedelta64(1, 's')"
    if x.dtype.names is not None:
        return (
            f"records of {', '.join(x.dtype.names[:5])}. Convert them with"
            " numpy.lib.recfunctions.structured_to_unstructured"
        )
    if kind in "OUS":
        for index, value in np.ndenumerate(x):
            try:
                number = float(value)
            except (TypeError, ValueError):
                shown = str(value) if isinstance(value, np.str_) else value
                return (
                    f"{x.dtype} with {shown!r} at index {index}. Leave out or replace what is no"
                    " number, and convert the array with astype(float)"
                )
            if number != number:
                break  # NaN is refused with its index once the array is one of floats
    return f"{x.dtype}. Convert it with astype, for example to float32"


def check_examples(x: object, name: str = "x") -> bool:
    """Raise unless `x` is an array of examples: (n, *x_shape) of real numbers, n >= 1.

    Returns whether any of them is NaN, which stands for a missing value. Booleans, integers and
    floats of at most 64 bits are accepted. Values are read piece by piece, so a memory-mapped array
    may be larger than memory.

    Raises `TypeError` for another type or dtype, and `ValueError` for a scalar, an empty axis, and
    for infinity, with the index of the first one.
    """
    x = check_array(x, name)
    if x.ndim == 0 or x.size == 0:
        raise ValueError(
            f"{name} must be (n, ...) with at least one example and no empty axis,"
            f" got shape {x.shape}. Give the examples along the first axis."
        )
    missing = False
    if x.dtype.kind != "f":
        return missing
    for start, piece in _pieces(x):
        wrong = ~np.isfinite(piece)
        if not wrong.any():
            continue
        infinite = np.isinf(piece)
        if infinite.any():
            row, *rest = (int(i) for i in np.argwhere(infinite)[0])
            index = (start + row, *rest)
            raise ValueError(
                f"{name} must be finite, got {x[index]} at index {index}."
                " Remove such examples, replace the values, or give NaN where they are missing."
            )
        missing = True
    return missing


def holds_bits(x: NDArray[Any]) -> bool:
    """Whether every number is 0 or 1; stops at the first piece with another number."""
    return all(np.all((piece == 0) | (piece == 1)) for _, piece in _pieces(x))


def _pieces(x: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The pieces of an array: the index of the first row, and the rows."""
    step = max(1, _CHUNK // (math.prod(x.shape[1:]) * x.dtype.itemsize))
    for start in range(0, len(x), step):
        require_whole(x)
        yield start, x[start : start + step]
