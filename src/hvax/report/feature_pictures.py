"""Pictures of data that are no images, feature by feature."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hvax.report.figure import BLUE, GREY, Picture, dots, styled
from hvax.report.flow_pictures import quantile_bars

_COLUMNS = 3
_BINS = 24
_LOGARITHM = "log(1 + {})"


@styled()
def reconstructed_features(
    x: Num[np.ndarray, "n D"],
    mean: Float[np.ndarray, "n D"],
    features: NDArray[np.int64],
    *,
    logarithm: bool = False,
) -> Picture:
    """Each feature's reconstruction against its input; of log(1 + x) for long-tailed counts."""
    x, mean = (np.log1p(x), np.log1p(mean)) if logarithm else (x, mean)
    scale = _LOGARITHM if logarithm else "{}"
    figure, panels = _panels(len(features))
    said, binary = [], ""
    for feature, axes in zip(features, panels, strict=True):
        there, back = x[:, feature], mean[:, feature]
        values = np.unique(there)
        correlation = _correlation(there, back)
        if len(values) == 2:
            groups = [np.percentile(back[there == v], (5, 25, 50, 75, 95)) for v in values]
            quantile_bars(axes, np.array([0, 1]), np.array(groups))
            axes.set_xticks([0, 1], [f"{value:g}" for value in values])
            axes.set_xlim(-0.6, 1.6)
            binary = (
                " For a feature of two values a dot is the median, a thick bar half and a thin one "
                "nine tenths of the points."
            )
        else:
            dots(axes, np.stack([there, back], axis=1), BLUE, size=2.2, alpha=0.5)
            low, high = min(there.min(), back.min()), max(there.max(), back.max())
            pad = 0.06 * max(high - low, 1e-6)
            ends = (low - pad, high + pad)
            axes.plot(ends, ends, color=GREY, linewidth=0.9)
            axes.set(xlim=ends, ylim=ends)
            axes.locator_params(nbins=4)
        axes.set_title(f"{feature + 1}: r = {_written(correlation)}")
        said.append(f"{feature + 1}: {_written(correlation)}")
    figure.supxlabel(f"input {scale.format('x')}", fontsize=9.5)
    figure.supylabel(f"reconstruction {scale.format('E[x | z]')}", fontsize=9.5)
    return Picture(
        figure,
        f"Reconstruction against input for {len(features)} of {x.shape[1]} features, {len(x)} test "
        f"points. Correlation by feature: {'; '.join(said)}.",
        f"{_which(len(features), x.shape[1])}: reconstruction against input, {len(x)} test points, "
        "with their correlation r. On the line they agree." + binary,
    )


@styled()
def sampled_features(
    x: Num[np.ndarray, "n D"],
    samples: Num[np.ndarray, "m D"],
    features: NDArray[np.int64],
    *,
    logarithm: bool = False,
) -> Picture:
    """Each feature's histogram, in the data and in samples from the prior; of log(1 + x) for
    long-tailed counts."""
    x, samples = (np.log1p(x), np.log1p(samples)) if logarithm else (x, samples)
    scale = _LOGARITHM if logarithm else "{}"
    figure, panels = _panels(len(features))
    for feature, axes in zip(features, panels, strict=True):
        there, drawn = x[:, feature], samples[:, feature]
        drawn = drawn[np.isfinite(drawn)]
        edges = _edges(there, drawn)
        axes.hist(
            there, edges.tolist(), density=True, histtype="stepfilled", color=GREY, alpha=0.35
        )
        axes.hist(drawn, edges.tolist(), density=True, histtype="step", color=BLUE, linewidth=1.3)
        axes.set_yticks([])
        axes.spines.left.set_visible(False)
        axes.locator_params(axis="x", nbins=4)
        axes.set_title(f"{feature + 1}")
    figure.supxlabel(scale.format("x"), fontsize=9.5)
    gap = np.abs(samples[:, features].mean(axis=0) - x[:, features].mean(axis=0))
    gap = float((gap / np.maximum(x[:, features].std(axis=0), 1e-12)).max())
    return Picture(
        figure,
        f"Histograms of {len(features)} of {x.shape[1]} features, data and samples from the prior. "
        f"Their means differ by at most {_written(gap)} standard deviations of the data.",
        f"{_which(len(features), x.shape[1])}: {len(x)} test points (grey) and {len(samples)} "
        "samples of x with z from the prior (blue line).",
    )


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.8, 0.5 + 1.45 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in panels[count:]:
        unused.remove()
    return figure, list(panels[:count])


def _edges(x: NDArray[Any], samples: NDArray[Any]) -> NDArray[np.float64]:
    """Bins over the data and most of the samples; one per value for a few whole numbers."""
    low, high = float(x.min()), float(x.max())
    if len(samples):
        low = min(low, float(np.percentile(samples, 0.5)))
        high = max(high, float(np.percentile(samples, 99.5)))
    if np.all(x == np.round(x)) and high - low < 2 * _BINS:
        return np.arange(np.floor(low), np.ceil(high) + 2) - 0.5
    return np.linspace(low, high if high > low else low + 1, _BINS + 1)


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """NaN where one of them does not vary."""
    if not np.all(np.isfinite(b)) or a.std() == 0 or b.std() == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _written(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def _which(shown: int, of: int) -> str:
    return f"All {of} features" if shown == of else f"The {shown} features of largest variance"
