"""Pictures of tables: each feature's reconstruction against its input, and its histogram."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hvax.report.features import Shown
from hvax.report.figure import BLUE, GREY, Picture, dots, styled
from hvax.report.flow_pictures import quantile_bars
from hvax.report.names import lines
from hvax.report.numbers import number
from hvax.report.scale import Scale, limits, scale_for, set_ticks

_COLUMNS = 3
_BINS = 24
_FEW = 6  # values of a feature that gets a bar for each
_RUG = 30  # fewer points than these are drawn one by one beside a histogram
_NARROW = 14  # characters of a name above a panel that has numbers on its left
_ACROSS = 20  # characters of tick labels that fit below a panel


@styled()
def reconstructed_features(
    x: Num[np.ndarray, "n D"], mean: Float[np.ndarray, "n D"], shown: Shown, names: Sequence[str]
) -> Picture:
    """Each feature's reconstruction against its input; `names` are of those shown."""
    figure, panels = _panels(len(names))
    said, bars = [], False
    for feature, name, r, axes in zip(shown.features, names, shown.score, panels, strict=True):
        bars = _reconstructed(axes, x[:, feature], mean[:, feature]) or bars
        axes.set_title(f"{lines(name, _NARROW)}\nr = {_written(r)}")
        said.append(f"{name} {_written(r)}")
    figure.supxlabel("input x", fontsize=9.5)
    figure.supylabel("reconstruction E[x | z]", fontsize=9.5)
    total = x.shape[1]
    explained = (
        " Of a feature of few values a dot is the median, a thick bar half and a thin one nine "
        "tenths of the points."
    )
    return Picture(
        figure,
        f"Reconstruction against input for {len(names)} of {total} features, {len(x)} test points. "
        f"Correlation by feature: {'; '.join(said)}.",
        f"{_which(len(names), total, 'from the best reconstructed to the worst')}: reconstruction "
        f"against input, {len(x)} test points, with their correlation r. On the line they agree."
        + (explained if bars else ""),
    )


@styled()
def sampled_features(
    x: Num[np.ndarray, "n D"], samples: Num[np.ndarray, "m D"], shown: Shown, names: Sequence[str]
) -> Picture:
    """Each feature's histogram, in the data and in samples from the prior."""
    figure, panels = _panels(len(names))
    for feature, name, axes in zip(shown.features, names, panels, strict=True):
        _histograms(axes, x[:, feature], samples[:, feature])
        axes.set_title(lines(name))
    figure.supxlabel("x", fontsize=9.5)
    there, drawn = (a[:, shown.features].astype(np.float64) for a in (x, samples))
    spread, off = there.std(axis=0), np.abs(drawn.mean(axis=0) - there.mean(axis=0))
    gap = float((off[spread > 0] / spread[spread > 0]).max(initial=0.0))
    marks = "ticks below: each" if len(x) < _RUG else "gray:"
    return Picture(
        figure,
        f"Histograms of {len(names)} of {x.shape[1]} features, data and samples from the prior. "
        f"Their means differ by at most {number(gap)} standard deviations of the data.",
        f"{_which(len(names), x.shape[1], 'from the best matched to the worst')}. Blue line: "
        f"{len(samples)} samples of x with z from the prior; {marks} "
        f"{'of the' if len(x) < _RUG else 'the'} {len(x)} test points.",
    )


def _reconstructed(axes: Axes, there: NDArray[Any], back: NDArray[Any]) -> bool:
    """One panel; whether it has bars in place of dots."""
    scale = scale_for(there, back)
    a, b = scale(there), scale(back)
    low, high = limits(a, b)
    axes.plot((low, high), (low, high), color=GREY, linewidth=0.9)
    values = np.unique(there)
    bars = 1 < len(values) <= _FEW and len(there) >= 5 * len(values)
    if bars:
        groups = [np.nanpercentile(b[there == v], (5, 25, 50, 75, 95)) for v in values]
        quantile_bars(axes, scale(values), np.array(groups))
    else:
        size, alpha = (4.5, 0.8) if len(a) < _RUG else (2.2, 0.5)
        dots(axes, np.stack([a, b], axis=1)[np.isfinite(b)], BLUE, size=size, alpha=alpha)
    axes.set(xlim=(low, high), ylim=(low, high))
    ticks = scale.ticks(low, high)
    set_ticks(axes.xaxis, ticks, characters=_ACROSS)
    set_ticks(axes.yaxis, ticks)
    _unit(axes, ticks.unit)
    return bars


def _histograms(axes: Axes, there: NDArray[Any], drawn: NDArray[Any]) -> None:
    drawn = drawn[np.isfinite(drawn)]
    scale = scale_for(there, drawn)
    a, b = scale(there), scale(drawn)
    edges = _edges(a, b[np.isfinite(b)], scale)
    if len(there) >= _RUG:
        axes.hist(a, edges.tolist(), density=True, histtype="stepfilled", color=GREY, alpha=0.35)
    inside = b[(b >= edges[0]) & (b <= edges[-1])]
    if len(inside):
        axes.hist(b, edges.tolist(), density=True, histtype="step", color=BLUE, linewidth=1.3)
    if len(there) < _RUG:
        axes.plot(a, np.full(len(a), -0.07), "|", color=GREY, ms=7, mew=1.2,
                  transform=axes.get_xaxis_transform(), clip_on=False)  # fmt: skip
        axes.spines.bottom.set_visible(False)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_yticks([])
    axes.spines.left.set_visible(False)
    ticks = scale.ticks(edges[0], edges[-1])
    set_ticks(axes.xaxis, ticks, characters=_ACROSS)
    if len(there) < _RUG:
        axes.tick_params(axis="x", pad=9, length=0)
    _unit(axes, ticks.unit)


def _unit(axes: Axes, unit: str) -> None:
    """What the tick labels leave out, below them."""
    if unit:
        axes.set_xlabel(unit, fontsize=7.5, color=GREY, labelpad=2)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.8, 0.5 + 1.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in panels[count:]:
        unused.remove()
    for axes in panels[:count]:
        axes.title.set_fontsize(8)
        axes.tick_params(labelsize=7.5)
    return figure, list(panels[:count])


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


def _written(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}".replace("-", "−")


def _which(shown: int, of: int, order: str) -> str:
    return f"All {of} features" if shown == of else f"{shown} of {of} features, {order}"
