"""Detection of features that float32 cannot resolve, and the constant to subtract from them.

POSIX seconds (about 1.7e9) are spaced 128 apart in float32, so the seconds of one day keep 675
distinct values; 273.15 +- 1e-4 keeps eight. A model of such numbers models the rounding, and its
bound is far off without any sign of it. Subtracting a constant in float64 first avoids this.
"""

from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

# Largest rounding error, in standard deviations of the feature. A standardized model's sigma is at
# least 1e-3 of the standard deviation, so rounding of a quarter of that is invisible to it.
_MAX_ROUNDING = 2.5e-4
_NOISE = 64  # a spread below this many float64 roundings counts as constant
_MIN_ROWS = 8  # with fewer rows the spread is not known well enough


def unresolved(x: NDArray[Any]) -> NDArray[np.bool_]:
    """Features of x (batch axis first) whose variation is lost when x is rounded to float32.

    Returns booleans of one example's shape. All are False if 64-bit mode is on, if x has at most
    32 bits already, or if it has fewer than 8 rows.
    """
    none = np.zeros(x.shape[1:], bool)
    if jax.config.read("jax_enable_x64") or x.dtype.itemsize < 4 or x.dtype == np.float32:
        return none
    if len(x) < _MIN_ROWS:
        return none
    x = _without_holes(x)
    with np.errstate(over="ignore", invalid="ignore"):
        largest = np.abs(x).max(axis=0)
        spread = (x - x[0]).std(axis=0)  # shifted first: the variance of large numbers cancels
        rounded = np.abs(x - x.astype(np.float32)).max(axis=0)
        varies = spread > _NOISE * np.finfo(np.float64).eps * largest
        return varies & (rounded > _MAX_ROUNDING * spread)


def origin_of_rows(x: NDArray[Any]) -> NDArray[np.float64] | None:
    """The constant to subtract from rows x: the mean of each unresolved feature, 0 for the others.

    None if all features are resolved. The result is exactly representable as a sum of two float32
    numbers, which is how models store it (`split_float64`).
    """
    which = unresolved(x)
    if not which.any():
        return None
    x = _without_holes(x)
    high, low = split_float64(np.where(which, x[0] + (x - x[0]).mean(axis=0), 0.0))
    return high.astype(np.float64) + low


def _without_holes(x: NDArray[Any]) -> NDArray[np.float64]:
    """x in float64 with a value of the same feature in the place of each NaN, a missing value."""
    x = x.astype(np.float64)
    holes = np.isnan(x)
    if not holes.any():
        return x
    first = np.argmin(holes, axis=0)[None]  # of the rows that have the feature
    return np.where(holes, np.nan_to_num(np.take_along_axis(x, first, axis=0)), x)


def split_float64(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """Each float64 number as a sum of two float32 numbers, (2, *shape): 48 bits in all."""
    high = x.astype(np.float32)
    return np.stack([high, (x - high).astype(np.float32)])
