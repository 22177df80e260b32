"""Where float32 does not resolve a feature: what a constant taken off in float64 first would save.

A column of POSIX seconds (1.7e9, give or take a day) has steps of 128 in float32, and one of 273.15
give or take 1e-4 has eight values. A model of such numbers is a model of the rounding, and its
bound is far off without a sign of it.
"""

from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

# Rounding, in standard deviations of a feature; a standardized model learns no sigma below 1e-3.
_TOLERATED = 2.5e-4
_NOISE = 64  # units of float64's own rounding: a spread that is no more is none
_FEW = 8  # rows that say little of a spread


def unresolved(x: NDArray[Any]) -> NDArray[np.bool_]:
    """Which features of rows x (batch axis first) vary by so little, beside their distance from 0,
    that float32 does not tell their values apart. None with 64 bits, or of less than 8 rows."""
    none = np.zeros(x.shape[1:], bool)
    if jax.config.read("jax_enable_x64") or x.dtype.itemsize < 4 or x.dtype == np.float32:
        return none
    if len(x) < _FEW:
        return none
    x = x.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        largest = np.abs(x).max(axis=0)
        spread = (x - x[0]).std(axis=0)
        rounded = np.abs(x - x.astype(np.float32)).max(axis=0)
        varies = spread > _NOISE * np.finfo(np.float64).eps * largest
        return varies & (rounded > _TOLERATED * spread)


def origin_of_rows(x: NDArray[Any]) -> NDArray[np.float64] | None:
    """What is to be taken off rows x: the mean of features that float32 does not resolve, 0 of
    others; None where there are none. It is a sum of two float32 numbers, as models keep it."""
    which = unresolved(x)
    if not which.any():
        return None
    x = x.astype(np.float64)
    high, low = in_two(np.where(which, x[0] + (x - x[0]).mean(axis=0), 0.0))
    return high.astype(np.float64) + low


def in_two(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """Two float32 numbers for each of float64, (2, *shape), with 48 bits together."""
    high = x.astype(np.float32)
    return np.stack([high, (x - high).astype(np.float32)])
