"""What the flow gains, step by step."""

import numpy as np
from jaxtyping import Float

from hvax.report.figures.axes import axis_of_stages
from hvax.report.figures.style import BLUE, GRAY, new_figure, styled
from hvax.report.numbers import number
from hvax.report.parts import Picture


@styled()
def bound_by_step(log_weight: Float[np.ndarray, "n draws stages"]) -> Picture | None:
    """The bound of the flow stopped after k steps, less that of the encoder alone."""
    sound = np.all(np.isfinite(log_weight), axis=(1, 2))
    if sound.sum() < 2:
        return None
    kept = (log_weight[sound] - log_weight[sound, :, :1]).mean(axis=1, dtype=np.float64)
    mean, error = kept.mean(axis=0), kept.std(axis=0, ddof=1) / np.sqrt(len(kept))
    figure, axes = new_figure(4.3, 2.8)
    k = np.arange(len(mean))
    axes.axhline(0, color=GRAY, linewidth=0.7)
    axes.fill_between(k, mean - 2 * error, mean + 2 * error, color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(k, mean, "o-", color=BLUE, ms=4.5)
    digits = 2 if abs(mean[-1]) >= 0.1 else 3
    axes.annotate(
        number(float(mean[-1]), digits, sign=True), (k[-1], mean[-1]), xytext=(0, 8),
        textcoords="offset points", ha="right", color=BLUE, fontsize=8.5,
    )  # fmt: skip
    axes.margins(y=0.18)
    axis_of_stages(axes, len(mean), "ELBO gained (nats)")
    left_out = len(sound) - len(kept)
    also = f" {left_out} points with non-finite weights are left out." if left_out else ""
    total = f"{number(float(mean[-1]), 3, sign=True)} ± {number(float(error[-1]), 3)}"
    return Picture(
        figure,
        f"ELBO gained by the flow stopped after each step: {total} nats after step {k[-1]}.",
        "Stopped after k steps, the flow gives a bound too. Shown is what it gains over the "
        f"encoder alone: the mean over {len(kept)} test points ± 2 standard errors. All steps "
        f"together gain {total} nats." + also,
    )
