"""The scale of one feature's axis: linear, logarithmic, or asinh; with ticks that can be read.

Values are transformed before they are drawn, on linear axes whose ticks carry the raw numbers, so
histograms get bins of equal width to the eye.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hvax.report.numbers import power

_SKEWED = 30.0  # a positive feature whose largest value is so many medians has a log axis
_TAILS = 40.0  # and one of both signs that spans so many interquartile ranges, or counts, asinh
_LONG = 50.0  # the largest count of a linear axis
_PLAIN = (1e-2, 1e4)  # sizes of numbers that ticks write in full
_TICKS = 4


class Ticks(NamedTuple):
    places: list[float]  # on the drawn axis
    labels: list[str]
    unit: str  # what the labels leave out, such as "in 10⁶"; often nothing


class Scale(NamedTuple):
    """Raw values -> places on a linear axis: x, log10 x, or asinh(x / width)."""

    kind: Literal["linear", "log", "asinh"] = "linear"
    width: float = 1.0
    whole: bool = False  # whether the values are whole numbers, and ticks with them

    def __call__(self, x: NDArray) -> NDArray[np.float64]:
        """The places; NaN outside the scale."""
        x = np.asarray(x, np.float64)
        if self.kind == "log":
            return np.log10(np.where(x > 0, x, np.nan))
        return np.arcsinh(x / self.width) if self.kind == "asinh" else x

    def ticks(self, low: float, high: float) -> Ticks:
        """About four ticks between two places."""
        if self.kind == "linear":
            return _linear_ticks(low, high, self.whole)
        values = np.array(self._powers(low, high))
        places = self(values)
        inside = (places >= low) & (places <= high)
        return Ticks(places[inside].tolist(), [_power(float(v)) for v in values[inside]], "")

    def _powers(self, low: float, high: float) -> list[float]:
        if self.kind == "log":
            if high - low < 1.2:  # one power of ten or none: 1, 2, 5 times one
                exponents = range(math.floor(low), math.ceil(high) + 1)
                values = [m * 10.0**e for e in exponents for m in (1, 2, 5)]
                return values[:: 1 if high - low < 0.8 else 2]
            return [10.0**e for e in _thinned(math.ceil(low), math.floor(high), _TICKS)]
        smallest = math.ceil(math.log10(self.width))
        ends = [math.sinh(min(abs(end), 600.0)) * self.width for end in (low, high)]
        largest = math.floor(math.log10(max(*ends, self.width)))
        both = low < -1 and high > 1
        sizes = _thinned(smallest, largest, 2 if both else _TICKS - 1)
        up = [10.0**e for e in sizes]
        return [*(-v for v in reversed(up)), 0.0, *up]


def scale_for(x: NDArray, other: NDArray | None = None) -> Scale:
    """The scale of a feature with values `x`; `other` are values that a model gives it.

    Linear, unless values spread over orders of magnitude.
    """
    x = x[np.isfinite(x)].astype(np.float64)
    if len(x) == 0:
        return Scale()
    low, lower, middle, upper, high = np.percentile(x, (0, 25, 50, 75, 100))
    if np.all(x == np.round(x)) and low >= 0:
        long = high > max(_LONG, 5 * middle)
        return Scale("asinh", whole=True) if long else Scale(whole=True)
    positive = x[x > 0]
    if low > 0 and high > _SKEWED * middle:
        above = other is None or bool(np.all(other[np.isfinite(other)] > 0))
        return Scale("log") if above else Scale("asinh", float(np.percentile(positive, 10)))
    if low == 0 and len(positive) and high > _SKEWED * np.median(positive):
        return Scale("asinh", float(np.percentile(positive, 10)))
    spread = upper - lower
    if spread > 0 and high - low > _TAILS * spread and abs(middle) < 3 * spread:
        return Scale("asinh", float(spread))
    return Scale()


def limits(data: NDArray, other: NDArray) -> tuple[float, float]:
    """Ends of an axis that hold the data, and all of the other places that lie near them."""
    low, high = float(np.nanmin(data)), float(np.nanmax(data))
    reach = high - low if high > low else 0.1 * abs(low) or 1.0
    near = other[(other > low - reach) & (other < high + reach)]
    if len(near):
        low, high = min(low, float(near.min())), max(high, float(near.max()))
    pad = 0.06 * max(high - low, reach)
    return low - pad, high + pad


def set_ticks(axis: Axis, ticks: Ticks, *, characters: int | None = None) -> None:
    """Writes the ticks on an axis whose limits are set, without smaller ones between.

    Where so many `characters` fit along the axis, only every second or third label is written if
    neighbors would touch.
    """
    labels = ticks.labels
    for every in (1, 2, 3, 4):
        labels = [label if i % every == 0 else "" for i, label in enumerate(ticks.labels)]
        if characters is None or not _touch(
            axis, ticks.places[::every], labels[::every], characters
        ):
            break
    axis.set_ticks(ticks.places, labels)


def _touch(axis: Axis, places: list[float], labels: list[str], characters: int) -> bool:
    low, high = axis.get_view_interval()
    middle = np.array(places) / (high - low) * characters
    lengths = np.array([len(label) for label in labels])
    return bool(np.any(np.diff(middle) < (lengths[1:] + lengths[:-1]) / 2 + 0.8))


def _linear_ticks(low: float, high: float, whole: bool) -> Ticks:
    """Ticks less what they have in common, and in a power of 1000 where they are large or small."""
    locator = MaxNLocator(_TICKS, steps=[1, 2, 2.5, 5, 10], integer=whole, min_n_ticks=1)
    places = np.asarray(locator.tick_values(low, high))
    places = places[(places >= low) & (places <= high)]
    largest, reach = max(abs(low), abs(high)), high - low
    offset = 0.0
    if len(places) and reach < 1e-3 * largest:
        offset = float(places[0])
        largest = reach
    exponent = 0
    if not (_PLAIN[0] <= largest < _PLAIN[1]) and largest > 0:
        exponent = 3 * math.floor(math.log10(largest) / 3)
    labels = [f"{(p - offset) / 10.0**exponent:.4g}".replace("-", "−") for p in places]
    about = f"less {offset:.10g}".replace("-", "−") if offset else ""
    unit = f"in {power(exponent)}" if exponent else ""
    return Ticks(places.tolist(), labels, ", ".join(filter(None, (about, unit))))


def _thinned(first: int, last: int, most: int) -> list[int]:
    """At most so many whole numbers from first to last, evenly spaced."""
    every = max(1, -(-(last - first + 1) // most))
    return list(range(first, last + 1, every))


def _power(value: float) -> str:
    """A tick's number, a power of ten for the most part."""
    size = abs(value)
    sign = "−" if value < 0 else ""
    if size == 0 or 1e-2 <= size < 1e4:
        return f"{sign}{size:g}"
    exponent = math.floor(math.log10(size) + 1e-9)
    leading = size / 10.0**exponent
    return sign + (power(exponent) if round(leading, 6) == 1 else f"{leading:g} {power(exponent)}")
