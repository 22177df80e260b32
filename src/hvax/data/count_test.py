"""Whether whole numbers look like counts."""

import math

import numpy as np
from numpy.typing import NDArray

_LARGEST = 1_000_000  # whole numbers beyond are taken for measurements, not for counts
_ROWS, _MARGIN = 500, 0.01  # values that are looked at, and nats per value of tolerance


def look_like_counts(x: NDArray[np.float64]) -> bool:
    """Whether numbers (n,) look like counts rather than rounded measurements.

    They do if they are whole numbers >= 0 and a negative binomial (fitted by moments) scores them
    about as well as a normal that is rounded to whole numbers, or better.
    """
    if x.min() < 0 or x.max() > _LARGEST or np.any(x != np.rint(x)):
        return False
    x = x[: _ROWS * max(1, len(x) // _ROWS) : max(1, len(x) // _ROWS)]
    values, times = np.unique(x, return_counts=True)
    mean = (x.sum() + 0.5) / (len(x) + 1)
    # r = mean^2 / (variance - mean); at least 1e-4 of excess, which is as good as a Poisson.
    r = 1 / float(np.clip(max(x.var() - mean, 0.0) / mean**2, 1e-4, 1e2))
    counted = [_negative_binomial(float(value), float(mean), r) for value in values]
    sd = max(float(x.std()), 0.1)
    ends = [((v - 0.5 - x.mean()) / sd, (v + 0.5 - x.mean()) / sd) for v in values]
    rounded = [_log_interval(float(low), float(high)) for low, high in ends]
    return bool(np.dot(times, np.subtract(counted, rounded)) > -_MARGIN * len(x))


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
