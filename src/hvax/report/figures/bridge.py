"""The bridging weights by transition."""

import numpy as np
from jaxtyping import Float

from hvax.report.figures.axes import axis_of_items
from hvax.report.figures.style import BLUE, new_figure, styled
from hvax.report.parts import Picture


@styled()
def bridge(weights: Float[np.ndarray, " K"], *, learned: bool) -> Picture | None:
    """The weight of each transition; None where one is not finite."""
    if not np.all(np.isfinite(weights)):
        return None
    figure, axes = new_figure(4.3, 2.8)
    axes.plot(weights, "-", color=BLUE, alpha=0.35)
    axes.plot(weights, "o", color=BLUE, ms=4.5)
    axes.set_ylim(-0.03, 1.05)
    axis_of_items(axes, len(weights), "transition", "bridging weight b")
    how = "learned" if learned else "fixed"
    return Picture(
        figure,
        f"Bridging weight by transition: from {weights[0]:.3f} at transition 0 to "
        f"{weights[-1]:.3f} at transition {len(weights) - 1}.",
        f"The bridging weights, {how}: at 0 a transition would follow the encoder’s Gaussian, at 1 "
        "the posterior.",
    )
