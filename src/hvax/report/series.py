"""Which data are series, and what of them is shown."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Num
from numpy.typing import NDArray

from hvax.report.images import is_image
from hvax.report.inputs import ReportInputs
from hvax.report.model_view import makes_curves
from hvax.report.names import numbered

_LEAST = 16  # values of a series
_CHANNELS = 12  # the most of (C, T), in which channels come first
_SMOOTH = 0.7  # of the von Neumann ratio: 1 for columns in no order


def as_series(
    x: Num[np.ndarray, "n ..."], names: Sequence[str] | None = None
) -> Num[np.ndarray, "n T C"] | None:
    """Series with time on the second axis and channels on the last; None for other data.

    Examples (T, C) or (C, T) with 16 values or more are series, unless they are images and have no
    names. So are examples (T,) whose columns have no names of their own and follow each other:
    along a row the mean square of x_{t+1} - x_t is well below twice the variance, which it is not
    for columns in no order.
    """
    if x.ndim == 2:
        smooth = x.shape[1] >= _LEAST and numbered(names) and _neighbors_differ(x) < _SMOOTH
        return x[..., None] if smooth else None
    if x.ndim != 3 or (is_image(x.shape[1:]) and names is None):
        return None
    if x.shape[1] >= _LEAST:
        return x
    first = x.shape[1] <= _CHANNELS and x.shape[2] >= _LEAST
    return x.transpose(0, 2, 1) if first else None


def series_of(report: ReportInputs, x: NDArray[Any]) -> NDArray[Any] | None:
    """The data of a report as series; None where they are none, and for bits and classes, which
    make no curves."""
    return as_series(x, report.feature_names) if makes_curves(report.model) else None


def laid_out(x: NDArray[Any], series: NDArray[Any]) -> NDArray[Any]:
    """What a model makes of data, time and channels as in the `series` that the data are."""
    if x.ndim == 2:
        return x[..., None]
    return x if x.shape[1:] == series.shape[1:] else x.transpose(0, 2, 1)


def channel_name(report: ReportInputs, channel: int) -> str:
    """By its name where series of several channels have them; of a single channel nothing."""
    names, shape = report.feature_names, report.test.x_shape
    if len(shape) == 1:
        return ""
    return names[channel] if names is not None and len(names) in shape else f"channel {channel}"


def _neighbors_differ(x: NDArray[Any]) -> float:
    """The mean square of x_{t+1} - x_t over twice the variance along a row; inf of constants."""
    x = x.astype(np.float64)
    largest = np.abs(x).max()
    if not np.isfinite(largest) or largest == 0:
        return np.inf
    x = x / largest  # so that squares do not overflow
    spread = x.var(axis=1).mean()
    return float(np.mean(np.diff(x, axis=1) ** 2) / (2 * spread)) if spread > 0 else np.inf
