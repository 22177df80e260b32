"""Learning curves: the ELBO by epoch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvax.report.figures.axes import fit_y, labels_at_right
from hvax.report.figures.style import new_figure, styled
from hvax.report.numbers import number
from hvax.report.parts import Picture

_EARLY, _FAR = 0.15, 15.0  # see `late`


class Run(NamedTuple):
    """A model's name, its color, and what training and evaluation said of it."""

    name: str
    color: str
    history: Sequence[Mapping[str, Any]]
    evaluation: Mapping[str, Any]


class Curve(NamedTuple):
    epoch: NDArray[np.float64]
    elbo: NDArray[np.float64]  # nats, NaN where it is not finite


@styled()
def learning_curves(runs: Sequence[Run]) -> Picture | None:
    """ELBO on training and validation data by epoch; -NLL on test data as a line."""
    figure, axes = new_figure(4.3, 3.1)
    shown, ends, said = [], [], []
    for run in runs:
        train, held_out = (curve(run.history, name) for name in ("elbo", "validation_elbo"))
        if train is not None:
            axes.plot(*train, color=run.color, alpha=0.75, linewidth=1.2, linestyle=(0, (1, 1.2)))
            shown.append(late(train))
        if held_out is not None:
            axes.plot(*held_out, color=run.color)
            shown.append(late(held_out))
            said.append(_said(run.name, held_out))
            best = int(np.nanargmax(held_out.elbo))
            axes.plot(held_out.epoch[best], held_out.elbo[best], "o", color=run.color, ms=4.5)
        nll = float(run.evaluation["nll"])
        if math.isfinite(nll) and (train or held_out):
            axes.axhline(-nll, color=run.color, linewidth=0.9, linestyle=(0, (6, 3)))
            ends.append((-nll, f"−NLL {run.name}", run.color))
            said.append(f"minus the test NLL of {run.name} is {number(-nll)}")
    if not shown:
        return None
    values = _together(shown)
    fit_y(axes, np.append(values, _near(values, [value for value, _, _ in ends])))
    labels_at_right(axes, ends)
    axes.set(xlabel="epoch", ylabel="ELBO (nats)")
    axes.grid(axis="y")
    return Picture(
        figure,
        "Learning curves. " + "; ".join(said) + ".",
        "ELBO by epoch: solid on validation data, with a dot at the best epoch, dotted on training "
        "data. Dashed: minus the final NLL, on test data. Values far below, such as those of "
        "the first epochs, are outside the axis.",
    )


def curve(history: Sequence[Mapping[str, Any]], name: str) -> Curve | None:
    """One number of every epoch; None where it never was finite."""
    pairs = [(line["epoch"], line[name]) for line in history if line.get(name) is not None]
    if not pairs:
        return None
    epoch, value = np.array(pairs, np.float64).T
    value = np.where(np.isfinite(value), value, np.nan)
    return None if np.all(np.isnan(value)) else Curve(epoch, value)


def late(curve: Curve) -> NDArray[np.float64]:
    """The values that an axis has room for: those after the first 15% of the epochs, unless they
    lie 15 times as far below the best as nearly all of the last half does."""
    start = curve.epoch[0] + _EARLY * (curve.epoch[-1] - curve.epoch[0])
    middle = 0.5 * (curve.epoch[0] + curve.epoch[-1])
    known = ~np.isnan(curve.elbo)
    after, last = (curve.elbo[known & (curve.epoch >= since)] for since in (start, middle))
    after, last = (part if len(part) else curve.elbo[known] for part in (after, last))
    best = float(curve.elbo[known].max())
    reach = max(best - float(np.percentile(last, 10)), 1e-3 * abs(best))
    return np.append(after[after >= best - _FAR * reach], best)


def _together(curves: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """All values, less those of curves that end far below the others."""
    best = max(float(values.max()) for values in curves)
    top = max(curves, key=lambda values: float(values.max()))
    reach = _FAR * max(best - float(top.min()), 1e-2 * abs(best))
    values = np.concatenate(curves)
    return values[values >= best - reach]


def _near(values: NDArray[np.float64], others: Sequence[float]) -> list[float]:
    """Those of the others that lie within three times the reach of the values."""
    low, high = float(values.min()), float(values.max())
    reach = 3 * max(high - low, 1e-2 * abs(high), 1e-6)
    return [other for other in others if low - reach <= other <= high + reach]


def _said(name: str, curve: Curve) -> str:
    best = int(np.nanargmax(curve.elbo))
    return (
        f"Validation ELBO of {name}: {number(curve.elbo[0])} nats at epoch {curve.epoch[0]:.0f}, "
        f"best {number(curve.elbo[best])} at epoch {curve.epoch[best]:.0f} of "
        f"{curve.epoch[-1]:.0f}"
    )
