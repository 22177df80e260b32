"""Each feature's reconstruction against its input."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Num
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hvax.report.features import Shown
from hvax.report.figures.axes import QUANTILES, dots, quantile_bars
from hvax.report.figures.class_panels import share_right
from hvax.report.figures.panels import (
    ACROSS,
    FEW_POINTS,
    feature_panels,
    which_features,
    write_unit,
)
from hvax.report.figures.scale import limits, scale_for, set_ticks
from hvax.report.figures.style import BLUE, GRAY, styled
from hvax.report.names import Classes, lines
from hvax.report.parts import Picture

_FEW = 6  # values of a feature that gets a bar for each
_NARROW = 14  # characters of a name above a panel that has numbers on its left


@styled()
def reconstructed_features(
    x: Num[np.ndarray, "n D"],
    mean: Float[np.ndarray, "n D"],
    shown: Shown,
    names: Sequence[str],
    classes: Classes,
) -> Picture:
    """Each feature's reconstruction against its input; `names` are of those shown."""
    figure, panels = feature_panels(len(names))
    said, bars = [], False
    for feature, name, r, axes in zip(shown.features, names, shown.score, panels, strict=True):
        there, back = x[:, feature], mean[:, feature]
        if feature in classes:
            there, back = there[~np.isnan(there)], back[~np.isnan(there)]
            right = there == np.rint(back)
            share_right(axes, there, right, classes[feature])
            score = f"{right.mean():.0%} right"
        else:
            bars = _reconstructed(axes, there, back) or bars
            score = f"r = {_written(r)}"
        axes.set_title(f"{lines(name, _NARROW)}\n{score}")
        said.append(f"{name} {score}")
    figure.supxlabel("input x", fontsize=9.5)
    figure.supylabel("reconstruction E[x | z]", fontsize=9.5)
    total = x.shape[1]
    which = which_features(len(names), total, "from the best reconstructed to the worst")
    explained = (
        " Of a feature of few values a dot is the median, a thick bar half and a thin one nine "
        "tenths of the points."
    )
    of_classes = " Of classes: the share of each whose most probable class is right."
    return Picture(
        figure,
        f"Reconstruction against input for {len(names)} of {total} features, {len(x)} test points. "
        f"By feature: {'; '.join(said)}.",
        f"{which}: reconstruction against input, "
        f"{len(x)} test points, with their correlation r. On the line they agree."
        + (explained if bars else "")
        + (of_classes if any(feature in classes for feature in shown.features) else ""),
    )


def _reconstructed(axes: Axes, there: NDArray[Any], back: NDArray[Any]) -> bool:
    """One panel; whether it has bars in place of dots."""
    there, back = there[~np.isnan(there)], back[~np.isnan(there)]
    scale = scale_for(there, back)
    a, b = scale(there), scale(back)
    low, high = limits(a, b)
    axes.plot((low, high), (low, high), color=GRAY, linewidth=0.9)
    values = np.unique(there)
    bars = 1 < len(values) <= _FEW and len(there) >= 5 * len(values)
    if bars:
        groups = [np.nanpercentile(b[there == v], QUANTILES) for v in values]
        quantile_bars(axes, scale(values), np.array(groups))
    else:
        size, alpha = (4.5, 0.8) if len(a) < FEW_POINTS else (2.2, 0.5)
        dots(axes, np.stack([a, b], axis=1)[np.isfinite(b)], BLUE, size=size, alpha=alpha)
    axes.set(xlim=(low, high), ylim=(low, high))
    ticks = scale.ticks(low, high)
    set_ticks(axes.xaxis, ticks, characters=ACROSS)
    set_ticks(axes.yaxis, ticks)
    write_unit(axes, ticks.unit)
    return bars


def _written(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}".replace("-", "−")
