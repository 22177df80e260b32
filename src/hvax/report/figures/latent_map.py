"""The map of the latent space: where the test data lie in it."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hvax.report.figures.axes import dots
from hvax.report.figures.label_colors import Kind, color_bar, coloring, legend
from hvax.report.figures.style import PAPER, new_figure, styled
from hvax.report.parts import Picture
from hvax.report.projection import Projection

_WIDTH = 4.8  # inches


@styled()
def latent_map(points: Projection, labels: NDArray | None, *, flowed: bool) -> Picture:
    """Encoder means as marks, z_K as pale dots, colored by label."""
    kinds, shading, words = coloring(labels, len(points.mean))
    named = [kind for kind in kinds if kind.name]
    figure, axes = new_figure(_WIDTH, 4.5)
    for kind in kinds:
        dots(axes, points.z[kind.chosen], kind.color, size=2.6, alpha=0.45)
    for kind in kinds:
        axes.plot(
            *points.mean[kind.chosen].T, kind.marker, color=kind.color, label=kind.name, ms=4.2,
            markeredgecolor=PAPER, markeredgewidth=0.35, linestyle="none",
        )  # fmt: skip
    if len(named) > 1:
        if all(len(kind.name) <= 3 for kind in named):
            _name(axes, points, named)
        figure.set_figheight(4.5 + legend(figure, named, _WIDTH))
    elif shading is not None:
        color_bar(figure, shading)
        figure.set_figheight(5.0)
    axes.set_aspect("equal", adjustable="datalim")
    axes.locator_params(nbins=6)
    axes.set(xlabel=_axis(points, 0), ylabel=_axis(points, 1))
    spread = points.mean.std(axis=0)
    if points.explained is None:
        where = "The two latent dimensions"
    else:
        share = sum(points.explained)
        where = f"The first two principal axes of the encoder’s means ({share:.0%} of variance)"
    return Picture(
        figure,
        f"Map of {len(points.mean)} test points in the latent space{words}; standard deviations "
        f"of the encoder’s means along the axes {spread[0]:.2f} and {spread[1]:.2f}"
        + (f"; labels {', '.join(kind.name for kind in named)}." if len(named) > 1 else "."),
        f"{where}, {len(points.mean)} test points{words}. Marks: means of q(z₀ | x). Pale dots: "
        "one draw of z each" + (", after the flow." if flowed else "."),
    )


def _name(axes: Axes, points: Projection, kinds: list[Kind]) -> None:
    """Short labels, such as digits, at the medians of their points."""
    chip = {"boxstyle": "round,pad=0.12", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.75}
    for kind in kinds:
        across, up = np.median(points.mean[kind.chosen], axis=0)
        axes.text(
            across, up, kind.name, color=kind.color, fontsize=13, fontweight="bold",
            ha="center", va="center", bbox=chip,
        )  # fmt: skip


def _axis(points: Projection, i: int) -> str:
    if points.explained is None:
        return f"latent {i}"
    return f"principal axis {i} ({points.explained[i]:.0%})"
