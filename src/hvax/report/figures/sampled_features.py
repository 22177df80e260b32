"""Each feature's histogram, in the data and in samples from the prior."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Num
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hvax.report.features import Shown
from hvax.report.figures.class_panels import frequencies
from hvax.report.figures.panels import (
    ACROSS,
    FEW_POINTS,
    feature_panels,
    which_features,
    write_unit,
)
from hvax.report.figures.scale import Scale, scale_for, set_ticks
from hvax.report.figures.style import BLUE, GRAY, styled
from hvax.report.names import Classes, lines
from hvax.report.numbers import number
from hvax.report.parts import Picture

_BINS = 24


@styled()
def sampled_features(
    x: Num[np.ndarray, "n D"],
    samples: Num[np.ndarray, "m D"],
    shown: Shown,
    names: Sequence[str],
    classes: Classes,
) -> Picture:
    """Each feature's histogram, in the data and in samples from the prior."""
    figure, panels = feature_panels(len(names))
    for feature, name, axes in zip(shown.features, names, panels, strict=True):
        there, drawn = x[:, feature], samples[:, feature]
        if feature in classes:
            frequencies(axes, there[~np.isnan(there)], drawn, classes[feature])
        else:
            _histograms(axes, there, drawn)
        axes.set_title(lines(name))
    figure.supxlabel("x", fontsize=9.5)
    numbers = [feature for feature in shown.features if feature not in classes]
    there, drawn = (a[:, numbers].astype(np.float64) for a in (x, samples))
    spread = np.nanstd(there, axis=0)
    off = np.abs(drawn.mean(axis=0) - np.nanmean(there, axis=0))
    gap = float((off[spread > 0] / spread[spread > 0]).max(initial=0.0))
    which = which_features(len(names), x.shape[1], "from the best matched to the worst")
    marks = "ticks below: each" if len(x) < FEW_POINTS else "gray:"
    return Picture(
        figure,
        f"Histograms of {len(names)} of {x.shape[1]} features, data and samples from the prior. "
        f"Means of numbers differ by at most {number(gap)} standard deviations of the data.",
        f"{which}. Blue line: "
        f"{len(samples)} samples of x with z from the prior; {marks} "
        f"{'of the' if len(x) < FEW_POINTS else 'the'} {len(x)} test points.",
    )


def _histograms(axes: Axes, there: NDArray[Any], drawn: NDArray[Any]) -> None:
    there, drawn = there[~np.isnan(there)], drawn[np.isfinite(drawn)]
    scale = scale_for(there, drawn)
    a, b = scale(there), scale(drawn)
    edges = _edges(a, b[np.isfinite(b)], scale)
    if len(there) >= FEW_POINTS:
        axes.hist(a, edges.tolist(), density=True, histtype="stepfilled", color=GRAY, alpha=0.35)
    inside = b[(b >= edges[0]) & (b <= edges[-1])]
    if len(inside):
        axes.hist(b, edges.tolist(), density=True, histtype="step", color=BLUE, linewidth=1.3)
    if len(there) < FEW_POINTS:
        axes.plot(a, np.full(len(a), -0.07), "|", color=GRAY, ms=7, mew=1.2,
                  transform=axes.get_xaxis_transform(), clip_on=False)  # fmt: skip
        axes.spines.bottom.set_visible(False)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_yticks([])
    axes.spines.left.set_visible(False)
    ticks = scale.ticks(edges[0], edges[-1])
    set_ticks(axes.xaxis, ticks, characters=ACROSS)
    if len(there) < FEW_POINTS:
        axes.tick_params(axis="x", pad=9, length=0)
    write_unit(axes, ticks.unit)


def _edges(x: NDArray[Any], samples: NDArray[Any], scale: Scale) -> NDArray[np.float64]:
    """Bins over the data and most of the samples near them; one per value for a few whole
    numbers."""
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    reach = high - low
    if len(samples):
        ends = np.percentile(samples, (0.5, 99.5))
        low, high = max(min(low, ends[0]), low - reach), min(max(high, ends[1]), high + reach)
    if scale.whole and scale.kind == "linear" and high - low < 2 * _BINS:
        return np.arange(np.floor(low), np.ceil(high) + 2) - 0.5
    if (
        scale.whole and scale.kind == "asinh"
    ):  # each bin has a whole number, the first ones have one
        whole = np.unique(np.round(scale.width * np.sinh(np.linspace(low, high, _BINS + 1))))
        return scale(np.append(whole, whole[-1] + 1) - 0.5)
    if not high > low:
        pad = max(0.5 * abs(low), 0.5)
        low, high = low - pad, high + pad
    return np.linspace(low, high, _BINS + 1)
