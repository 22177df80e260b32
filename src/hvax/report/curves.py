"""Pictures of training: the ELBO by epoch, and the bound by number of samples."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hvax.report.figure import Picture, apart, new_figure, styled
from hvax.report.numbers import number

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
    _fit(axes, np.append(values, _near(values, [value for value, _, _ in ends])))
    labels_at_right(axes, ends)
    axes.set(xlabel="epoch", ylabel="ELBO (nats)")
    axes.grid(axis="y")
    return Picture(
        figure,
        "Learning curves. " + "; ".join(said) + ".",
        "ELBO by epoch: solid on validation data, with a dot at the best epoch, dotted on training "
        "data. Dashed: minus the final NLL, on test data. The axis leaves out what lies far below, "
        "such as the first epochs.",
    )


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
    _fit(axes, _bounded(np.array(values)))
    labels_at_right(axes, ends)
    return Picture(
        figure,
        "Importance-weighted bound by number of samples: " + "; ".join(said) + ".",
        "The importance-weighted bound on test data. One sample is the ELBO; with more the bound "
        "climbs towards log p(x). A curve that still climbs at its end says that the NLL is not "
        "reached yet.",
    )


def curve(history: Sequence[Mapping[str, Any]], name: str) -> Curve | None:
    """One number of every epoch; None where it never was finite."""
    pairs = [(line["epoch"], line[name]) for line in history if line.get(name) is not None]
    if not pairs:
        return None
    epoch, value = np.array(pairs, np.float64).T
    value = np.where(np.isfinite(value), value, np.nan)
    return None if np.all(np.isnan(value)) else Curve(epoch, value)


def labels_at_right(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Texts in their colors beside the right end of the axes, each near its value, with an arrow
    where that is beyond the axes."""
    low, high = axes.get_ylim()
    ends = [
        (
            min(max(value, low), high),
            f"{text} {'↑' if value > high else '↓'}" if not low <= value <= high else text,
            color,
        )
        for value, text, color in ends
    ]
    places = apart([value for value, _, _ in ends], 0.075 * (high - low))
    for place, (_, text, color) in zip(places, ends, strict=True):
        axes.annotate(
            text,
            (1, place),
            xycoords=axes.get_yaxis_transform(),
            xytext=(5, 0),
            textcoords="offset points",
            color=color,
            va="center",
            fontsize=8.5,
        )


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


def _fit(axes: Axes, values: NDArray[np.float64]) -> None:
    low, high = float(values.min()), float(values.max())
    margin = 0.07 * max(high - low, 1e-3 * abs(high), 1e-6)
    axes.set_ylim(low - margin, high + margin)


def _bounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bounds, less those that would press all others into a line."""
    best, typical = float(values.max()), float(np.median(values))
    return values[values >= best - 50 * max(best - typical, 1e-2 * abs(best), 1.0)]


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
