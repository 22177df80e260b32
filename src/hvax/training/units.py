"""Units of real features: shift, scale, floor and transform of each, estimated from training data.

A feature's transform is the one with the best marginal likelihood of the raw data; what is
recorded in steps, or varies hardly, bounds how narrow its density may become.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from hvax.checks import check_one_of
from hvax.models.transform import Kind, Transform
from hvax.training.few_rows import least_sigma
from hvax.wording import named

TransformChoice = Literal["auto", "none", "log", "asinh"]
Transforms = TransformChoice | Sequence[TransformChoice]
"""One for all features, or one for each."""

_FLOOR, _CONSTANT_FLOOR = 1e-3, 0.1  # least sigma, in standard deviations of the feature
_PIXEL_FLOOR = 0.05  # least scale of a pixel, in units of the rms scale of all pixels
_IQR_OF_NORMAL = 1.349  # interquartile range of a standard normal


# Outliers whose square overflows are reported in training, with advice; no warning here.
IGNORE_OVERFLOW = np.errstate(over="ignore", invalid="ignore")


class Units(NamedTuple):
    """Standardization of real features: y = (t(x) - shift) / scale has mean 0 and variance 1."""

    transform: Transform | None
    shift: NDArray[np.float64]
    scale: NDArray[np.float64]
    floor: NDArray[np.float64]  # least sigma of y, at least the rounding of the recorded numbers
    constant: NDArray[np.bool_]  # features that do not vary in float32


@IGNORE_OVERFLOW
def real_units(
    x: NDArray[Any],
    transform: Transforms = "auto",
    least: NDArray[np.float64] | None = None,
) -> Units:
    """Shift, scale, floor and transform of each feature of real rows x; see `marginals`."""
    for choice in [transform] if isinstance(transform, str) else transform:
        check_one_of(choice, named("transform"), get_args(TransformChoice))
    x = np.asarray(x, np.float64)
    flat = x.reshape(len(x), -1)
    table = x.ndim == 2
    observed = ~np.isnan(flat)
    columns = [column[seen] for column, seen in zip(flat.T, observed.T, strict=True)]
    lowest = np.array([column.min() for column in columns])
    if least is not None:
        lowest = np.minimum(lowest, least.reshape(-1))
    choices = [transform] * len(columns) if isinstance(transform, str) else transform
    chosen = [
        _feature(column, bool(low > 0), choice if table else "none")
        for column, low, choice in zip(columns, lowest, choices, strict=True)
    ]
    kinds = tuple(feature.kind for feature in chosen)
    shape = x.shape[1:]
    center, width, shift, scale, floor = (
        np.array([getattr(feature, name) for feature in chosen]).reshape(shape)
        for name in ("center", "width", "shift", "scale", "floor")
    )
    constant = np.array([feature.constant for feature in chosen]).reshape(shape)
    y = np.zeros(flat.shape)  # a missing value counts as the mean
    for j, feature in enumerate(chosen):
        y[observed[:, j], j] = feature.y
    few = least_sigma(y).reshape(shape)
    floor = np.where(constant, floor, np.maximum(floor, few))
    if not table:
        # All pixels (or time steps) are recorded in the same units: one that hardly varies is not
        # measured any more precisely.
        typical = math.sqrt(float(np.mean(np.where(constant, 0.0, scale) ** 2)))
        finest = _PIXEL_FLOOR * typical if typical > 0 else 1.0
        raised = np.where(constant, finest, np.maximum(scale, finest))
        scale, floor = raised, np.minimum(1.0, floor * scale / raised)
        floor = np.where(constant, _CONSTANT_FLOOR, np.maximum(floor, _FLOOR))
    mapped = None if set(kinds) == {"none"} else Transform(kinds, center, width)
    return Units(mapped, shift, scale, floor, constant)


class _Feature(NamedTuple):
    kind: Kind
    center: float
    width: float
    shift: float
    scale: float
    floor: float
    constant: bool
    log_prob: float  # of all rows, in nats
    y: NDArray[np.float64]  # standardized: mean 0 and variance 1


def _feature(x: NDArray[np.float64], positive: bool, transform: TransformChoice) -> _Feature:
    plain = _gaussian("none", x, x, np.zeros_like(x), 0.0, 1.0)
    if transform == "none" or plain.constant:
        return plain
    candidates = [plain]
    if transform in ("auto", "log") and positive:
        candidates.append(_gaussian("log", np.log(x), x, -np.log(x), 0.0, 1.0))
    if transform == "log" and len(candidates) == 1:
        raise ValueError(
            f"data of {named('transform')} log must be > 0, got {x.min():g}. Use auto or asinh."
        )
    if transform in ("auto", "asinh"):
        center, width = _center(x)
        u = (x - center) / width
        slope = -math.log(width) - 0.5 * np.log1p(u * u)
        candidates.append(_gaussian("asinh", np.arcsinh(u), x, slope, center, width))
    if transform != "auto":
        return candidates[-1]
    # A transform has to win clearly: by more than its fitted parameters gain on normal data.
    bar = 3.0 + 0.02 * len(x)
    return max(candidates, key=lambda f: f.log_prob - (0.0 if f.kind == "none" else bar))


def _gaussian(
    kind: Kind,
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    log_slope: NDArray[np.float64],
    center: float,
    width: float,
) -> _Feature:
    """A normal fitted to y = t(x), with its log-likelihood of x; `log_slope` is log t'(x)."""
    shift, sd = float(y.mean()), _spread(y)
    largest = float(np.abs(x).max())
    if _spread(x) <= 4 * np.finfo(np.float32).eps * largest:
        return _Feature(
            "none", 0.0, 1.0, float(x.mean()), largest or 1.0, _CONSTANT_FLOOR, True, 0, 0 * x
        )
    floor = float(np.clip(_rounding(y) / math.sqrt(12) / sd, _FLOOR, 0.9))
    log_prob = len(y) * -(math.log(sd) + 0.5 + 0.5 * math.log(2 * math.pi)) + log_slope.sum()
    return _Feature(kind, center, width, shift, sd, floor, False, float(log_prob), (y - shift) / sd)


def _spread(y: NDArray[np.float64]) -> float:
    """The standard deviation of numbers whose squares may overflow."""
    unit = float(np.abs(y).max()) or 1.0
    return float((y / unit).std()) * unit


def _rounding(y: NDArray[np.float64]) -> float:
    """The rounding step of recorded numbers; 0 if they look continuous (few values repeat).

    It is the median over rows of the gap to the nearest different value.
    """
    distinct, rows = np.unique(y, return_counts=True)
    if not 1 < len(distinct) < 0.8 * len(y):
        return 0.0
    gaps = np.diff(distinct)
    nearest = np.minimum(np.append(gaps, np.inf), np.append(np.inf, gaps))
    return float(np.median(np.repeat(nearest, rows)))


def _center(x: NDArray[np.float64]) -> tuple[float, float]:
    """The median, and the standard deviation of a normal with the same interquartile range."""
    low, center, high = np.quantile(x, [0.25, 0.5, 0.75])
    width = (high - low) / _IQR_OF_NORMAL
    return float(center), float(width if width > 0 else np.abs(x - center).mean())
