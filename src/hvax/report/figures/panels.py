"""Grids of small panels: what the figures of features and of series share."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hvax.report.figures.scale import Scale, limits, set_ticks
from hvax.report.figures.style import GRAY

_COLUMNS = 3
FEW_POINTS = 30
"""Fewer points than these are drawn one by one, and larger."""

ACROSS = 20
"""Characters of tick labels that fit below a panel."""


def feature_panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, a feature each, three to a row."""
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


def write_unit(axes: Axes, unit: str) -> None:
    """What the tick labels leave out, below them."""
    if unit:
        axes.set_xlabel(unit, fontsize=7.5, color=GRAY, labelpad=2)


def which_features(shown: int, of: int, order: str) -> str:
    """How a caption begins: which of the features are shown."""
    return f"All {of} features" if shown == of else f"{shown} of {of} features, {order}"


def fit_series(axes: Axes, there: np.ndarray, back: np.ndarray, scale: Scale) -> None:
    """Limits and ticks of a panel with curves of data and of what a model makes of them."""
    low, high = limits(scale(there).ravel(), scale(back).ravel())
    axes.set_ylim(low, high)
    ticks = scale.ticks(low, high)
    set_ticks(axes.yaxis, ticks)
    axes.tick_params(labelsize=7.5)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    if ticks.unit:
        axes.annotate(
            ticks.unit, (0, 1), xycoords="axes fraction", xytext=(-2, 3),
            textcoords="offset points", fontsize=7, color=GRAY, ha="right", va="bottom",
        )  # fmt: skip
