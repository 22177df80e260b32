"""What any array of examples must satisfy at the door, wherever it comes from."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.claims import require_whole
from hvax.data.convert import missing

_CHUNK = 1 << 24  # bytes: larger arrays, memory-mapped ones above all, are read in pieces of this


def check_array(x: object, name: str) -> NDArray[Any]:
    """The array, once it is known to be one of real numbers; `TypeError` for what is none."""
    if not isinstance(x, np.ndarray):
        raise TypeError(
            f"expected {name} to be a NumPy array of examples, got {type(x).__name__};"
            " convert it with numpy.asarray"
        )
    if np.ma.is_masked(x):
        raise missing(name, f"a masked array with {np.ma.count_masked(x)} of them")
    if x.dtype.kind not in "biuf" or x.dtype.itemsize > 8:
        raise TypeError(
            f"expected {name} to hold booleans, integers or floats of at most 64 bits, got"
            f" {_of_other_kind(x)}"
        )
    return x


def _of_other_kind(x: NDArray[Any]) -> str:
    """What an array holds in place of numbers, and what to do."""
    kind = x.dtype.kind
    if kind == "c":
        return f"{x.dtype}; give both parts: numpy.concatenate([x.real, x.imag], axis=-1)"
    if kind in "mM":
        return f"{x.dtype}; give seconds since a start: (x - x.min()) / numpy.timedelta64(1, 's')"
    if x.dtype.names is not None:
        return (
            f"records of {', '.join(x.dtype.names[:5])}; convert them with"
            " numpy.lib.recfunctions.structured_to_unstructured"
        )
    if kind in "OUS":
        for index, value in np.ndenumerate(x):
            try:
                number = float(value)
            except (TypeError, ValueError):
                shown = str(value) if isinstance(value, np.str_) else value
                return (
                    f"{x.dtype} with {shown!r} at index {index}; leave out or fill in what is no"
                    " number, and convert the array with astype(float)"
                )
            if number != number:
                break  # is refused, with its place, once it is an array of floats
    return f"{x.dtype}; convert it with astype, for example to float32"


def check_examples(x: object, name: str = "x") -> None:
    """Refuse what is no array of examples: (n, *x_shape) of finite real numbers, n >= 1.

    Booleans, integers and floats of at most 64 bits pass. Values are read piece by piece, so an
    array that is memory-mapped may be larger than memory.

    Raises `TypeError` for another type or dtype, and `ValueError` for an empty axis, for no axis at
    all, and for NaN or infinity, saying where the first one is.
    """
    x = check_array(x, name)
    if x.ndim == 0 or x.size == 0:
        raise ValueError(
            f"expected {name} to be (n, ...) with at least one example and no empty axis,"
            f" got shape {x.shape}; give the examples along the first axis"
        )
    if x.dtype.kind != "f":
        return
    for start, piece in _pieces(x):
        wrong = ~np.isfinite(piece)
        if wrong.any():
            row, *rest = (int(i) for i in np.argwhere(wrong)[0])
            index = (start + row, *rest)
            raise ValueError(
                f"expected {name} to be finite, got {x[index]} at index {index};"
                " remove such examples or replace the values"
            )


def holds_bits(x: NDArray[Any]) -> bool:
    """Whether every number is 0 or 1; gray levels are told from bits by the first piece."""
    return all(np.all((piece == 0) | (piece == 1)) for _, piece in _pieces(x))


def _pieces(x: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Where each starts, and its rows."""
    step = max(1, _CHUNK // (math.prod(x.shape[1:]) * x.dtype.itemsize))
    for start in range(0, len(x), step):
        require_whole(x)
        yield start, x[start : start + step]
