"""How much each leapfrog step changes the energy."""

import math

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import SymmetricalLogLocator

from hvax.report.figures.axes import QUANTILES, axis_of_items, quantile_bars
from hvax.report.figures.style import GRAY, new_figure, styled
from hvax.report.numbers import number
from hvax.report.parts import Picture


@styled()
def energy_errors(errors: Float[np.ndarray, "draws K"], *, midway: bool) -> Picture | None:
    """How much each leapfrog step changes the energy, as quantiles over the finite draws."""
    lost = np.any(~np.isfinite(errors), axis=1)
    if lost.all():
        return None
    finite = errors[~lost]
    figure, axes = new_figure(4.3, 2.8)
    steps = np.arange(errors.shape[1])
    axes.axhline(0, color=GRAY, linewidth=0.7)
    quantile_bars(axes, steps, np.percentile(finite, QUANTILES, axis=0).T)
    axis_of_items(axes, len(steps), "leapfrog step", "energy error (nats)")
    _symlog(axes, finite)
    typical = np.median(np.abs(finite), axis=0)
    # The ends of position Verlet's steps are not met, but for that of the last.
    where = "from midway of each step to midway of the next, and at last to the end"
    beyond = f" {lost.sum()} that are not finite are left out." if lost.any() else ""
    return Picture(
        figure,
        "Energy error of each leapfrog step: medians of its size from "
        f"{number(float(typical.min()), 3)} to {number(float(typical.max()), 3)} nats over "
        f"{len(typical)} steps.",
        f"Change of energy {where if midway else 'over each leapfrog step'}, {len(finite)} "
        "trajectories on test data: median (dot), half of them (thick), nine tenths (thin). An "
        "exact flow would conserve energy." + beyond,
    )


def _symlog(axes: Axes, errors: Float[np.ndarray, "draws K"]) -> None:
    """Powers of ten on both sides of a typical size, where errors spread over many of them."""
    typical, high = np.percentile(np.abs(errors), (50, 95))
    if typical > 0 and high > 100 * typical:
        linear = 10.0 ** math.ceil(math.log10(typical))
        axes.set_yscale("symlog", linthresh=linear, linscale=0.5)
        axes.minorticks_off()
        locator = SymmetricalLogLocator(base=10, linthresh=linear)
        locator.set_params(numticks=7)
        axes.yaxis.set_major_locator(locator)
