"""Series of the data beside samples from the prior, and the quantiles of both."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Num
from matplotlib.figure import Figure

from hvax.report.chosen import spaced
from hvax.report.figures.panels import fit_series
from hvax.report.figures.scale import scale_for
from hvax.report.figures.style import BLUE, GRAY, styled
from hvax.report.names import short
from hvax.report.numbers import number
from hvax.report.parts import Picture

_TOGETHER = 8  # curves in one panel
_BAND = (5, 50, 95)  # percentiles
_LEAST = float(np.finfo(np.float64).tiny)


@styled()
def sampled_series(
    x: Num[np.ndarray, "n T C"], samples: Num[np.ndarray, "m T C"], channels: Sequence[str]
) -> Picture:
    """Data beside samples from the prior, and the quantiles of both, channel by channel."""
    rows = len(channels)
    figure = Figure(figsize=(4.8, 0.6 + 1.5 * rows), layout="constrained")
    panels = figure.subplots(rows, 3, squeeze=False, sharex=True, sharey="row")
    some = spaced(len(x), _TOGETHER)
    for j, name in enumerate(channels):
        there, drawn = x[..., j], samples[..., j]
        scale = scale_for(there.ravel(), drawn.ravel())
        panels[j, 0].plot(scale(there[some]).T, color=GRAY, linewidth=0.9, alpha=0.8)
        panels[j, 1].plot(scale(drawn[: len(some)]).T, color=BLUE, linewidth=0.9, alpha=0.8)
        low, middle, high = scale(np.percentile(there, _BAND, axis=0))
        places = np.arange(there.shape[1])
        panels[j, 2].fill_between(places, low, high, color=GRAY, alpha=0.3, linewidth=0)
        panels[j, 2].plot(middle, color=GRAY)
        panels[j, 2].plot(scale(np.percentile(drawn, _BAND, axis=0)).T, color=BLUE, linewidth=1.0)
        fit_series(panels[j, 0], there, drawn, scale)
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
