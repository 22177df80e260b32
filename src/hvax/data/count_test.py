"""Whether whole numbers look like counts."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST = 1_000_000  # whole numbers beyond are taken for measurements, not for counts
_ROWS, _MARGIN = 500, 0.01  # rows that are looked at, and nats per value of tolerance


def look_like_counts(x: NDArray[Any]) -> bool:
    """Whether numbers (n, ...), NaN where missing, look like counts rather than measurements.

    They do if they are whole numbers >= 0 and a negative binomial for each column (fitted by
    moments) scores them about as well as a normal that is rounded to whole numbers, or better.
    """
    if np.nanmin(x) < 0 or np.nanmax(x) > _LARGEST or np.any(np.isfinite(x) & (x != np.rint(x))):
        return False
    step = max(1, len(x) // _ROWS)
    rows = np.asarray(x[: _ROWS * step : step], np.float64).reshape(-1, x[0].size)
    columns = [column[~np.isnan(column)] for column in rows.T]
    gained = sum(_gained(column) for column in columns if len(column))
    return gained > -_MARGIN * sum(map(len, columns))


def _gained(x: NDArray[np.float64]) -> float:
    """The nats by which the negative binomial of x (n,) is ahead of the rounded normal, in all."""
    values, times = np.unique(x, return_counts=True)
    mean = (x.sum() + 0.5) / (len(x) + 1)
    # r = mean^2 / (variance - mean); at least 1e-4 of excess, which is as good as a Poisson.
    r = 1 / float(np.clip(max(x.var() - mean, 0.0) / mean**2, 1e-4, 1e2))
    counted = [_negative_binomial(float(value), float(mean), r) for value in values]
    sd = max(float(x.std()), 0.1)
    # A density is not comparable with a probability: a rounded normal's is that of x +- 1/2.
    ends = [((v - 0.5 - x.mean()) / sd, (v + 0.5 - x.mean()) / sd) for v in values]
    rounded = [_log_interval(float(low), float(high)) for low, high in ends]
    return float(np.dot(times, np.subtract(counted, rounded)))


def _negative_binomial(x: float, mean: float, r: float) -> float:
    chosen = math.lgamma(x + r) - math.lgamma(r) - math.lgamma(x + 1)
    return chosen + r * math.log(r / (r + mean)) + x * math.log(mean / (r + mean))


def _log_interval(low: float, high: float) -> float:
    """log of the standard normal's probability between `low` and `high`."""
    if low > 0:  # flipped into the lower tail, where erfc does not round to 2
        low, high = -high, -low
    probability = 0.5 * (math.erfc(-high / math.sqrt(2)) - math.erfc(-low / math.sqrt(2)))
    # 30 sd out the probability underflows; the density there is close enough.
    return math.log(probability) if probability > 0 else -0.5 * high * high
