"""The tempering schedule: inverse temperature by step."""

import numpy as np
from jaxtyping import Float

from hvax.report.figures.axes import axis_of_stages
from hvax.report.figures.style import BLUE, new_figure, styled
from hvax.report.parts import Picture


@styled()
def schedule(beta: Float[np.ndarray, " stages"], *, learned: bool) -> Picture | None:
    """beta_k by step; None where it is not finite."""
    if not np.all(np.isfinite(beta)):
        return None
    figure, axes = new_figure(4.3, 2.8)
    axes.plot(beta, "o-", color=BLUE, ms=4.5)
    for k, align in ((0, "left"), (len(beta) - 1, "right")):
        axes.annotate(
            f"{beta[k]:.3f}", (k, beta[k]), xytext=(0, 7), textcoords="offset points",
            ha=align, color=BLUE, fontsize=8.5,
        )  # fmt: skip
    low, high = float(beta.min()), float(beta.max())
    margin = max(0.2 * (high - low), 0.05)
    axes.set_ylim(low - margin, high + margin)
    axis_of_stages(axes, len(beta), "inverse temperature β")
    how = "learned" if learned else "fixed"
    return Picture(
        figure,
        f"Inverse temperature: from {beta[0]:.3f} at the start to {beta[-1]:.3f} after "
        f"{len(beta) - 1} steps.",
        f"The tempering schedule, {how}. Below 1 the momentum is hotter, so that a trajectory gets "
        "further; every step cools it.",
    )
