"""Series beside their reconstructions."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Num
from matplotlib.figure import Figure

from hvax.report.figures.panels import fit_series
from hvax.report.figures.scale import scale_for
from hvax.report.figures.style import BLUE, GRAY, styled
from hvax.report.names import short
from hvax.report.numbers import number
from hvax.report.parts import Picture


@styled()
def reconstructed_series(
    x: Num[np.ndarray, "n T C"],
    mean: Float[np.ndarray, "n T C"],
    examples: Sequence[str],
    channels: Sequence[str],
    error: Float[np.ndarray, " n"],
) -> Picture:
    """Examples beside their reconstructions, a panel for each example and channel."""
    many = len(channels) > 1
    columns = len(channels) if many else min(2, len(x))
    rows = len(x) if many else -(-len(x) // columns)
    figure = Figure(figsize=(4.8, 0.45 + 1.25 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for j, channel in enumerate(channels):
        scale = scale_for(x[..., j].ravel(), mean[..., j].ravel())
        for i, name in enumerate(examples):
            axes = panels[i, j] if many else panels.flat[i]
            axes.plot(scale(x[i, :, j]), color=GRAY, linewidth=2.6, alpha=0.55)
            axes.plot(scale(mean[i, :, j]), color=BLUE, linewidth=1.2)
            fit_series(axes, x[..., j], mean[i, :, j], scale)
            title = short(channel, 20) if many and i == 0 else ""
            axes.set_title("\n".join(filter(None, (title, name if j == 0 else ""))), fontsize=8)
    for unused in panels.flat[len(x) * len(channels) :]:
        unused.remove()
    figure.supxlabel("position", fontsize=9.5)
    shown = [f"{name} {number(float(e), 3)}" for name, e in zip(examples, error, strict=True)]
    return Picture(
        figure,
        f"{len(x)} series and their reconstructions. Root mean square difference: "
        f"{'; '.join(shown)}.",
        f"{len(x)} test points, from the best reconstructed to the worst. Gray: the input; blue: "
        "its reconstruction E[x | z].",
    )
