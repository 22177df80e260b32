"""The leapfrog step sizes by latent dimension, or by step."""

import numpy as np
from numpy.typing import NDArray

from hvax.report.figures.axes import axis_of_items
from hvax.report.figures.style import BLUE, new_figure, styled
from hvax.report.parts import Picture


@styled()
def step_sizes(step_size: NDArray[np.floating], *, learned: bool) -> Picture | None:
    """Step sizes by latent dimension, or by step; None for a single number, or none."""
    how = "learned" if learned else "fixed"
    if step_size.size == 1 or not np.all(np.isfinite(step_size)):
        return None
    figure, axes = new_figure(4.3, 2.8)
    by_step = step_size.ndim == 2 and step_size.shape[1] == 1
    table = step_size.reshape(1, -1) if by_step or step_size.ndim == 1 else step_size
    places = np.arange(table.shape[1])
    if len(table) > 1:
        axes.vlines(places, table.min(axis=0), table.max(axis=0), color=BLUE, alpha=0.35, lw=3)
    center = np.median(table, axis=0)
    axes.plot(places, center, "o", color=BLUE, ms=4.5)
    axes.set_ylim(0, 1.12 * float(table.max()))
    along = "step" if by_step else "latent dimension"
    axis_of_items(axes, len(places), along, "leapfrog step size ε")
    spread = " A dot is the median over steps, a bar their range." if len(table) > 1 else ""
    return Picture(
        figure,
        f"Step sizes by {along}: from {table.min():.3f} to {table.max():.3f}, median "
        f"{np.median(table):.3f}.",
        f"The leapfrog step sizes, {how}.{spread}",
    )
