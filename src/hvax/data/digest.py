"""Digests of examples, to detect whether data are still those that a run was trained on."""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.examples import Examples

_BYTES = 1 << 24  # hashed at a time, since data may be larger than memory


def digest_of_numbers(x: NDArray[Any]) -> str:
    """A digest of all numbers of an array (n, ...), independent of the dtype they are stored in.

    Except for uint8, which are gray levels and never equal to other numbers.
    """
    digest = _begun(x, "gray levels" if x.dtype == np.uint8 else "numbers")
    for start, stop in _pieces(len(x), x.shape[1:], 8):
        piece = np.asarray(x[start:stop])
        if x.dtype != np.uint8:
            # One dtype and byte order for all, so that int64 and float32 of the same numbers agree.
            piece = piece.astype("<f8") + 0.0  # turns -0.0 into 0.0
        digest.update(np.ascontiguousarray(piece))
    return digest.hexdigest()


def digest_of_rows(parts: Sequence[Examples]) -> str:
    """A digest of all rows as stored, with their dtype, order and scale."""
    whole = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest = _begun(part.stored, f"{part.stored.dtype.str[1:]} / {part.scale}")
        size = part.stored.dtype.itemsize
        for start, stop in _pieces(len(part), part.x_shape, size):
            digest.update(np.ascontiguousarray(part.rows(slice(start, stop))))
        whole.update(digest.digest())
    return whole.hexdigest()


def _begun(x: NDArray[Any], kind: str) -> Any:
    return hashlib.blake2b(f"{kind} {x.shape[1:]} ".encode(), digest_size=16)


def _pieces(n: int, shape: tuple[int, ...], size: int) -> list[tuple[int, int]]:
    step = max(1, _BYTES // max(1, math.prod(shape) * size))
    return [(start, min(n, start + step)) for start in range(0, n, step)]
