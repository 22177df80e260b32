"""Pictures of series: curves of data, reconstructions and samples."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hvax.report.figure import BLUE, GREY, Picture, styled
from hvax.report.names import short
from hvax.report.numbers import number
from hvax.report.scale import Scale, limits, scale_for, set_ticks

_TOGETHER = 8  # curves in one panel
_BAND = (5, 50, 95)  # percentiles
_LEAST = float(np.finfo(np.float64).tiny)


@styled()
def reconstructed_series(
    x: Num[np.ndarray, "n T C"],
    mean: Float[np.ndarray, "n T C"],
    examples: Sequence[str],
    channels: Sequence[str],
    error: Float[np.ndarray, " n"],
) -> Picture:
    """Examples beside their reconstructions, a panel for each example and channel."""
    many = len(channels) > 1
    columns = len(channels) if many else min(2, len(x))
    rows = len(x) if many else -(-len(x) // columns)
    figure = Figure(figsize=(4.8, 0.45 + 1.25 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for j, channel in enumerate(channels):
        scale = scale_for(x[..., j].ravel(), mean[..., j].ravel())
        for i, name in enumerate(examples):
            axes = panels[i, j] if many else panels.flat[i]
            axes.plot(scale(x[i, :, j]), color=GREY, linewidth=2.6, alpha=0.55)
            axes.plot(scale(mean[i, :, j]), color=BLUE, linewidth=1.2)
            _fit(axes, x[..., j], mean[i, :, j], scale)
            title = short(channel, 20) if many and i == 0 else ""
            axes.set_title("\n".join(filter(None, (title, name if j == 0 else ""))), fontsize=8)
    for unused in panels.flat[len(x) * len(channels) :]:
        unused.remove()
    figure.supxlabel("position", fontsize=9.5)
    shown = [f"{name} {number(float(e), 3)}" for name, e in zip(examples, error, strict=True)]
    return Picture(
        figure,
        f"{len(x)} series and their reconstructions. Root mean square difference: "
        f"{'; '.join(shown)}.",
        f"{len(x)} test points, from the best reconstructed to the worst. Gray: the input; blue: "
        "its reconstruction E[x | z].",
    )


@styled()
def sampled_series(
    x: Num[np.ndarray, "n T C"], samples: Num[np.ndarray, "m T C"], channels: Sequence[str]
) -> Picture:
    """Data beside samples from the prior, and the quantiles of both, channel by channel."""
    rows = len(channels)
    figure = Figure(figsize=(4.8, 0.6 + 1.5 * rows), layout="constrained")
    panels = figure.subplots(rows, 3, squeeze=False, sharex=True, sharey="row")
    some = np.linspace(0, len(x) - 1, min(len(x), _TOGETHER)).round().astype(int)
    for j, name in enumerate(channels):
        there, drawn = x[..., j], samples[..., j]
        scale = scale_for(there.ravel(), drawn.ravel())
        panels[j, 0].plot(scale(there[some]).T, color=GREY, linewidth=0.9, alpha=0.8)
        panels[j, 1].plot(scale(drawn[: len(some)]).T, color=BLUE, linewidth=0.9, alpha=0.8)
        low, middle, high = scale(np.percentile(there, _BAND, axis=0))
        places = np.arange(there.shape[1])
        panels[j, 2].fill_between(places, low, high, color=GREY, alpha=0.3, linewidth=0)
        panels[j, 2].plot(middle, color=GREY)
        panels[j, 2].plot(scale(np.percentile(drawn, _BAND, axis=0)).T, color=BLUE, linewidth=1.0)
        _fit(panels[j, 0], there, drawn, scale)
        if rows > 1:
            panels[j, 0].set_ylabel(short(name, 18), fontsize=8.5)
    for axes, title in zip(panels[0], ("test data", "samples", "quantiles"), strict=True):
        axes.set_title(title)
    for axes in panels.flat:
        axes.tick_params(labelsize=7.5)
    figure.supxlabel("position", fontsize=9.5)
    spread = float(samples.std(axis=0).mean()) / max(float(x.std(axis=0).mean()), _LEAST)
    return Picture(
        figure,
        f"{len(some)} series of the test data and {len(some)} samples from the prior. On average "
        f"samples vary {number(spread)} times as much as the data.",
        f"Left: {len(some)} test points. Middle: {len(some)} samples of x with z from the prior. "
        f"Right: at each position the median and 5 to 95% of all {len(x)} test points (gray) and "
        f"of {len(samples)} samples (blue lines).",
    )


def _fit(axes: Axes, there: np.ndarray, back: np.ndarray, scale: Scale) -> None:
    low, high = limits(scale(there).ravel(), scale(back).ravel())
    axes.set_ylim(low, high)
    ticks = scale.ticks(low, high)
    set_ticks(axes.yaxis, ticks)
    axes.tick_params(labelsize=7.5)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    if ticks.unit:
        axes.annotate(
            ticks.unit, (0, 1), xycoords="axes fraction", xytext=(-2, 3),
            textcoords="offset points", fontsize=7, color=GREY, ha="right", va="bottom",
        )  # fmt: skip
