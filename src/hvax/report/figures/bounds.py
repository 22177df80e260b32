"""The importance-weighted bound by its number of samples."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hvax.report.figures.axes import fit_y, labels_at_right
from hvax.report.figures.learning_curves import Run
from hvax.report.figures.style import new_figure, styled
from hvax.report.numbers import number
from hvax.report.parts import Picture


@styled()
def bounds(runs: Sequence[Run]) -> Picture | None:
    """The importance-weighted bound by its number of samples."""
    figure, axes = new_figure(4.3, 3.1)
    ends, said, values = [], [], []
    for run in runs:
        found = {int(size): float(value) for size, value in run.evaluation["bounds"].items()}
        found = {size: value for size, value in sorted(found.items()) if math.isfinite(value)}
        if len(found) < 2:
            continue
        sizes, bound = list(found), list(found.values())
        axes.plot(sizes, bound, "o-", color=run.color, ms=4.5)
        ends.append((bound[-1], run.name, run.color))
        values += bound
        first, last = sizes[0], sizes[-1]
        said.append(
            f"{run.name} rises from {number(bound[0])} nats with {first} sample to "
            f"{number(bound[-1])} with {last}"
        )
    if not ends:
        return None
    axes.set(xscale="log", xlabel="samples per point", ylabel="bound on log p(x) (nats)")
    sizes = sorted({int(size) for run in runs for size in run.evaluation["bounds"]})
    named = [a for a, b in zip(sizes, [*sizes[1:], math.inf], strict=True) if b > 3 * a]
    axes.set_xticks(sizes, [str(size) if size in named else "" for size in sizes])
    axes.minorticks_off()
    axes.grid(axis="y")
    fit_y(axes, _bounded(np.array(values)))
    labels_at_right(axes, ends)
    return Picture(
        figure,
        "Importance-weighted bound by number of samples: " + "; ".join(said) + ".",
        "The importance-weighted bound on test data. One sample is the ELBO; with more the bound "
        "climbs towards log p(x). A curve that still climbs at its end means that more samples "
        "would lower the NLL.",
    )


def _bounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bounds, less those that would press all others into a line."""
    best, typical = float(values.max()), float(np.median(values))
    return values[values >= best - 50 * max(best - typical, 1e-2 * abs(best), 1.0)]
