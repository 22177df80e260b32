"""Labels -> colors: a color and a marker for each class, or shades of one scale for numbers."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hvax.report.figures.scale import Scale, scale_for, set_ticks
from hvax.report.figures.style import KINDS, MARKERS, SHADES
from hvax.report.names import short

_MOST = 50  # classes beyond which labels are not colored
_CHARACTER, _BESIDE = 0.078, 0.42  # inches of a legend's entry: a character, and all else


class Kind(NamedTuple):
    """Points of one color; several kinds of a scale have no names of their own."""

    name: str
    chosen: NDArray[np.bool_]
    color: str
    marker: str = "o"


class Shading(NamedTuple):
    """Numbers in shades: `edges` of the shades, on the scale of a color bar."""

    scale: Scale
    edges: NDArray[np.float64]


class Coloring(NamedTuple):
    """What each point's color is, and what to say of it."""

    kinds: Sequence[Kind]
    shading: Shading | None
    words: str  # after "test points"


def coloring(labels: NDArray | None, count: int) -> Coloring:
    """The colors of `count` points by their labels: ten classes at most, the rarer ones together,
    or shades where the labels are more than ten different numbers."""
    if labels is None:
        return Coloring([Kind("", np.ones(count, bool), KINDS[0])], None, "")
    if labels.dtype.kind in "iufb" and len(np.unique(labels)) > len(KINDS):
        return _shaded(labels.astype(np.float64))
    names = np.array([short(_written(label)) for label in labels])
    counts = Counter(names.tolist())
    if len(counts) > _MOST:
        words = f", not colored: their {len(counts)} different labels are too many"
        return Coloring([Kind("", np.ones(count, bool), KINDS[0])], None, words)
    order = list(dict.fromkeys(short(_written(label)) for label in np.unique(labels)))
    if len(order) > len(KINDS):
        common = {name for name, _ in counts.most_common(len(KINDS) - 1)}
        order = [name for name in order if name in common]
    kinds = [(name, names == name) for name in order]
    rest = ~np.isin(names, order)
    if rest.any():
        kinds.append((f"{len(counts) - len(order)} others", rest))
    found = [Kind(*kind, KINDS[i], MARKERS[i]) for i, kind in enumerate(kinds)]
    return Coloring(found, None, ", colored by label" if len(found) > 1 else "")


def legend(figure: Figure, kinds: Sequence[Kind], width: float) -> float:
    """A legend below the axes, in as many columns as `width` inches hold; its height in inches."""
    longest = max(len(kind.name) for kind in kinds)
    columns = max(1, min(len(kinds), 5, int(width / (_BESIDE + _CHARACTER * longest))))
    figure.legend(
        loc="outside lower center", ncols=columns, handletextpad=0.1, columnspacing=1.2,
        markerscale=1.3,
    )  # fmt: skip
    return 0.2 * -(-len(kinds) // columns)


def color_bar(figure: Figure, shading: Shading) -> None:
    """A bar of the shades beside the axes, with the numbers that they stand for."""
    colors = ScalarMappable(
        BoundaryNorm(shading.edges.tolist(), len(SHADES)), ListedColormap(list(SHADES))
    )
    bar = figure.colorbar(
        colors, ax=figure.axes[0], location="bottom", fraction=0.04, pad=0.02, aspect=40,
        spacing="proportional",
    )  # fmt: skip
    ticks = shading.scale.ticks(float(shading.edges[0]), float(shading.edges[-1]))
    set_ticks(bar.ax.xaxis, ticks)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label("label" + (f", {ticks.unit}" if ticks.unit else ""), fontsize=9)


def _shaded(values: NDArray[np.float64]) -> Coloring:
    """Shades of equal width over the middle 96% of the values; outliers have the last ones."""
    scale = scale_for(values)
    places = scale(values)
    low, high = np.nanpercentile(places, (2, 98))
    if not high > low:
        low, high = np.nanmin(places), np.nanmax(places)
    edges = np.linspace(low, high, len(SHADES) + 1)
    shade = np.clip(np.searchsorted(edges, places, side="right") - 1, 0, len(SHADES) - 1)
    kinds = [Kind("", shade == i, color) for i, color in enumerate(SHADES)]
    return Coloring(kinds, Shading(scale, edges), ", colored by their labels, which are numbers")


def _written(label: object) -> str:
    return f"{label:g}" if isinstance(label, float) else str(label)
