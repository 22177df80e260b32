"""What several figures draw on their axes: dots, quantiles, labels at a curve's end, limits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hvax.report.figures.style import BLUE, INK

QUANTILES = (5, 25, 50, 75, 95)
"""The percentiles that `quantile_bars` draws."""


def dots(axes: Axes, where: NDArray[Any], color: str, *, size: float, alpha: float) -> None:
    """Round dots at `where` (n, 2) as one path: a tenth of the bytes of as many marks."""
    if len(where) == 0:
        return
    vertices = np.repeat(where, 2, axis=0)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(where))
    axes.add_patch(
        PathPatch(
            Path(vertices, codes), fill=False, edgecolor=color, linewidth=size,
            capstyle="round", alpha=alpha,
        )
    )  # fmt: skip


def quantile_bars(
    axes: Axes, places: NDArray[np.number], table: Float[np.ndarray, "places 5"], color: str = BLUE
) -> None:
    """At each place a median (dot), its half (thick line) and nine tenths (thin line)."""
    low, lower, middle, upper, high = table.T
    axes.vlines(places, low, high, color=color, linewidth=1.0)
    axes.vlines(places, lower, upper, color=color, linewidth=4.0, alpha=0.55)
    axes.plot(places, middle, "o", color=color, ms=4.5, markeredgecolor=INK, markeredgewidth=0.4)


def axis_of_stages(axes: Axes, stages: int, ylabel: str) -> None:
    """An axis of what holds at the start and after each step."""
    axes.set(xlabel="steps taken", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    axes.set_xlim(-0.3, stages - 0.7)
    axes.grid(axis="y")


def axis_of_items(axes: Axes, count: int, xlabel: str, ylabel: str) -> None:
    """An axis of steps, transitions or dimensions, counted from 0."""
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    axes.set_xlim(-0.6, count - 0.4)
    axes.grid(axis="y")


def fit_y(axes: Axes, values: NDArray[np.float64]) -> None:
    """Limits of the y axis that hold the values, with a margin."""
    low, high = float(values.min()), float(values.max())
    margin = 0.07 * max(high - low, 1e-3 * abs(high), 1e-6)
    axes.set_ylim(low - margin, high + margin)


def labels_at_right(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Texts in their colors beside the right end of the axes, each near its value, with an arrow
    where that is beyond the axes."""
    low, high = axes.get_ylim()
    ends = [
        (
            min(max(value, low), high),
            f"{text} {'↑' if value > high else '↓'}" if not low <= value <= high else text,
            color,
        )
        for value, text, color in ends
    ]
    places = apart([value for value, _, _ in ends], 0.075 * (high - low))
    for place, (_, text, color) in zip(places, ends, strict=True):
        axes.annotate(
            text,
            (1, place),
            xycoords=axes.get_yaxis_transform(),
            xytext=(5, 0),
            textcoords="offset points",
            color=color,
            va="center",
            fontsize=8.5,
        )


def apart(values: list[float], gap: float) -> list[float]:
    """Values moved as little as needed for neighbors to be at least `gap` apart: where labels
    that belong to them may stand."""
    order = np.argsort(values, kind="stable")
    placed = np.array(values, float)[order]
    for _ in range(100):
        short = gap - np.diff(placed)
        if np.all(short <= 1e-9 * max(gap, 1)):
            break
        push = np.maximum(short, 0) / 2
        placed[:-1] -= push
        placed[1:] += push
    result = np.empty_like(placed)
    result[order] = placed
    return result.tolist()
