"""Pictures of a flow: its schedule and step sizes, its energy errors, the bound step by step."""

import math

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator
from numpy.typing import NDArray

from hvax.report.figure import BLUE, GREY, INK, Picture, new_figure, styled
from hvax.report.numbers import number

_BAND = (5, 25, 50, 75, 95)  # percentiles


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
    _stages(axes, len(beta), "inverse temperature β")
    how = "learned" if learned else "fixed"
    return Picture(
        figure,
        f"Inverse temperature: from {beta[0]:.3f} at the start to {beta[-1]:.3f} after "
        f"{len(beta) - 1} steps.",
        f"The tempering schedule, {how}. Below 1 the momentum is hotter, so that a trajectory gets "
        "further; every step cools it.",
    )


@styled()
def bridge(weights: Float[np.ndarray, " K"], *, learned: bool) -> Picture | None:
    """The weight of each transition; None where one is not finite."""
    if not np.all(np.isfinite(weights)):
        return None
    figure, axes = new_figure(4.3, 2.8)
    axes.plot(weights, "-", color=BLUE, alpha=0.35)
    axes.plot(weights, "o", color=BLUE, ms=4.5)
    axes.set_ylim(-0.03, 1.05)
    _each(axes, len(weights), "transition", "bridging weight b")
    how = "learned" if learned else "fixed"
    return Picture(
        figure,
        f"Bridging weight by transition: from {weights[0]:.3f} at transition 0 to "
        f"{weights[-1]:.3f} at transition {len(weights) - 1}.",
        f"The bridging weights, {how}: at 0 a transition would follow the encoder’s Gaussian, at 1 "
        "the posterior.",
    )


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
    _each(axes, len(places), along, "leapfrog step size ε")
    spread = " A dot is the median over steps, a bar their range." if len(table) > 1 else ""
    return Picture(
        figure,
        f"Step sizes by {along}: from {table.min():.3f} to {table.max():.3f}, median "
        f"{np.median(table):.3f}.",
        f"The leapfrog step sizes, {how}.{spread}",
    )


@styled()
def energy_errors(errors: Float[np.ndarray, "draws K"], *, midway: bool) -> Picture | None:
    """How much each leapfrog step changes the energy, as quantiles over the finite draws."""
    lost = np.any(~np.isfinite(errors), axis=1)
    if lost.all():
        return None
    finite = errors[~lost]
    figure, axes = new_figure(4.3, 2.8)
    steps = np.arange(errors.shape[1])
    axes.axhline(0, color=GREY, linewidth=0.7)
    quantile_bars(axes, steps, np.percentile(finite, _BAND, axis=0).T)
    _each(axes, len(steps), "leapfrog step", "energy error (nats)")
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
        "exact flow would keep the energy." + beyond,
    )


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
    axes.axhline(0, color=GREY, linewidth=0.7)
    axes.fill_between(k, mean - 2 * error, mean + 2 * error, color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(k, mean, "o-", color=BLUE, ms=4.5)
    digits = 2 if abs(mean[-1]) >= 0.1 else 3
    axes.annotate(
        f"{mean[-1]:+.{digits}f}".replace("-", "−"), (k[-1], mean[-1]), xytext=(0, 8),
        textcoords="offset points", ha="right", color=BLUE, fontsize=8.5,
    )  # fmt: skip
    axes.margins(y=0.18)
    _stages(axes, len(mean), "ELBO gained (nats)")
    left_out = len(sound) - len(kept)
    also = f" {left_out} points with non-finite weights are left out." if left_out else ""
    total = f"{mean[-1]:+.3f} ± {error[-1]:.3f}".replace("-", "−")
    return Picture(
        figure,
        f"ELBO gained by the flow stopped after each step: {total} nats after step {k[-1]}.",
        "Stopped after k steps the flow gives a bound too: what it gains over this model’s encoder "
        f"alone, mean over {len(kept)} test points with ± 2 standard errors. All steps together "
        f"make {total} nats." + also,
    )


def quantile_bars(
    axes: Axes, places: NDArray[np.number], table: Float[np.ndarray, "places 5"], color: str = BLUE
) -> None:
    """At each place a median (dot), its half (thick line) and nine tenths (thin line)."""
    low, lower, middle, upper, high = table.T
    axes.vlines(places, low, high, color=color, linewidth=1.0)
    axes.vlines(places, lower, upper, color=color, linewidth=4.0, alpha=0.55)
    axes.plot(places, middle, "o", color=color, ms=4.5, markeredgecolor=INK, markeredgewidth=0.4)


def _stages(axes: Axes, stages: int, ylabel: str) -> None:
    """An axis of what holds at the start and after each step."""
    axes.set(xlabel="after so many steps", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    axes.set_xlim(-0.3, stages - 0.7)
    axes.grid(axis="y")


def _each(axes: Axes, count: int, xlabel: str, ylabel: str) -> None:
    """An axis of steps, transitions or dimensions, counted from 0."""
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    axes.set_xlim(-0.6, count - 0.4)
    axes.grid(axis="y")


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
