"""One data point's true posterior, and over it the encoder's draws before and after the flow."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from hvax.evaluation.posterior_grid import Density
from hvax.report.density import mass_levels
from hvax.report.figures.axes import dots
from hvax.report.figures.style import BLUE, GRAY, ORANGE, styled
from hvax.report.parts import Picture

MASSES = (0.5, 0.8, 0.95)
_ELLIPSE = 2 * np.sqrt(-2 * np.log(1 - 0.9))  # width in sigmas of what holds 90% of a 2-D Gaussian


class Encoder(NamedTuple):
    """q(z_0 | x) along the two axes; where it is a Gaussian it gets an ellipse."""

    mean: Float[np.ndarray, "2"]
    sigma: Float[np.ndarray, "2"]
    gaussian: bool


@styled()
def posterior(
    truth: Density,
    encoder: Encoder,
    stages: Float[np.ndarray, "draws stages 2"],
    axes: tuple[int, int],
    caption: str,
    *,
    num_paths: int = 0,
) -> Picture:
    """The posterior's regions with the draws z_0 and, where a flow has moved them, with z_K.

    `axes` are the two latent dimensions that are shown; the ways of the first `num_paths` draws
    are lines.
    """
    starts, ends = stages[:, 0], stages[:, -1]
    flowed = stages.shape[1] > 1
    titles = (
        ("draws of the encoder", "the same after the flow") if flowed else ("draws of the encoder",)
    )
    figure = Figure(figsize=(3.7, 3.3 * len(titles)), layout="constrained")
    panels = figure.subplots(len(titles), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for panel, title in zip(panels, titles, strict=True):
        _regions(panel, truth)
        panel.set_title(title)
        panel.set_ylabel(f"latent {axes[1]}")
    panels[-1].set_xlabel(f"latent {axes[0]}")
    dots(panels[0], starts, ORANGE, size=2.4, alpha=0.65)
    if encoder.gaussian:
        panels[0].add_patch(
            Ellipse(
                tuple(encoder.mean), *(_ELLIPSE * encoder.sigma), fill=False, edgecolor=ORANGE,
                linewidth=1.4, linestyle=(0, (4, 2)),
            )
        )  # fmt: skip
    if flowed:
        for path in stages[:num_paths]:
            panels[1].plot(*path.T, color=BLUE, linewidth=0.8, alpha=0.7)
            panels[1].plot(*path[0], "o", color=ORANGE, ms=3.2)
        dots(panels[1], ends, BLUE, size=2.4, alpha=0.65)
    _frame(list(panels), truth, np.concatenate([starts, ends]) if flowed else starts)
    moved = float(np.sqrt(np.mean(((ends - starts) / encoder.sigma) ** 2)))
    said = f"; after the flow they lie {moved:.2f} of these away (rms)" if flowed else ""
    return Picture(
        figure,
        f"Posterior of one test point over latent {axes[0]} and {axes[1]}: its mode at "
        f"{_pair(_mode(truth))}; draws of the encoder around {_pair(encoder.mean)} with standard "
        f"deviations {_pair(encoder.sigma)}{said}.",
        caption,
    )


def _regions(axes: Axes, truth: Density) -> None:
    top = float(truth.log_density.max())
    levels = mass_levels(truth.log_density, MASSES)[::-1]
    for level, alpha in zip(levels, (0.16, 0.2, 0.24), strict=True):
        axes.contourf(
            truth.first,
            truth.second,
            truth.log_density,
            [min(level, top - 1e-3), top + 1],
            colors=[GRAY],
            alpha=alpha,
        )


def _frame(panels: Sequence[Axes], truth: Density, points: Float[np.ndarray, "n 2"]) -> None:
    """Square limits that hold the outermost region and nearly all draws."""
    level = mass_levels(truth.log_density, MASSES)[-1]
    rows, columns = np.nonzero(truth.log_density >= level)
    region = np.array(
        [
            [truth.first[columns.min()], truth.second[rows.min()]],
            [truth.first[columns.max()], truth.second[rows.max()]],
        ]
    )
    whole = np.concatenate([region, np.percentile(points, (1, 99), axis=0)])
    low, high = whole.min(axis=0), whole.max(axis=0)
    pad = 0.08 * (high - low)
    for axes in panels:
        axes.set(xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]))
        axes.locator_params(nbins=5)
        axes.set_box_aspect(0.8)


def _mode(truth: Density) -> tuple[float, float]:
    row, column = np.unravel_index(truth.log_density.argmax(), truth.log_density.shape)
    return float(truth.first[column]), float(truth.second[row])


def _pair(two: Any) -> str:
    return f"({two[0]:.2f}, {two[1]:.2f})"
