"""Pictures of the latent space: the map of the test data, and one point's posterior."""

from collections import Counter
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from hvax.report.draw import Projection
from hvax.report.figure import (
    BLUE,
    GREY,
    KINDS,
    MARKERS,
    ORANGE,
    PAPER,
    Picture,
    dots,
    new_figure,
    styled,
)
from hvax.report.page import printable
from hvax.report.plane import Plane, mass_levels

MASSES = (0.5, 0.9, 0.99)
_ELLIPSE = 2 * np.sqrt(-2 * np.log(1 - 0.9))  # width in sigmas of what holds 90% of a 2-D Gaussian
_LONGEST = 24  # characters of a label
_MOST_KINDS = 50  # kinds of label beyond which they are not coloured


@styled()
def latent_map(points: Projection, labels: NDArray[Any] | None, *, flowed: bool) -> Picture:
    """Encoder means as marks, z_K as pale dots, coloured by label."""
    kinds = _kinds(labels, len(points.mean))
    figure, axes = new_figure(4.8, 4.9 if len(kinds) > 1 else 4.5)
    for i, (_, chosen) in enumerate(kinds):
        dots(axes, points.z[chosen], KINDS[i], size=2.6, alpha=0.45)
    for i, (name, chosen) in enumerate(kinds):
        axes.plot(
            *points.mean[chosen].T, MARKERS[i], color=KINDS[i], label=name, ms=4.2,
            markeredgecolor=PAPER, markeredgewidth=0.35,
        )  # fmt: skip
    if len(kinds) > 1:
        _name(axes, points, kinds)
        figure.legend(
            loc="outside lower center", ncols=min(len(kinds), 5), handletextpad=0.1,
            columnspacing=1.2, markerscale=1.3,
        )  # fmt: skip
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xlabel=_axis(points, 0), ylabel=_axis(points, 1))
    coloured = ", coloured by label" if len(kinds) > 1 else ""
    spread = points.mean.std(axis=0)
    if points.explained is None:
        where = "The two latent dimensions"
    else:
        share = sum(points.explained)
        where = f"The first two principal axes of the encoder’s means ({share:.0%} of variance)"
    return Picture(
        figure,
        f"Map of {len(points.mean)} test points in the latent space{coloured}; standard deviations "
        f"of the encoder’s means along the axes {spread[0]:.2f} and {spread[1]:.2f}"
        + (f"; labels {', '.join(name for name, _ in kinds)}." if len(kinds) > 1 else "."),
        f"{where}, {len(points.mean)} test points{coloured}. Marks: means of q(z₀ | x). Pale dots: "
        "one draw of z each" + (", after the flow." if flowed else "."),
    )


@styled()
def posterior(
    plane: Plane,
    paths: Float[np.ndarray, "draws stages 2"],
    ends: Float[np.ndarray, "more 2"],
    caption: str,
) -> Picture:
    """The posterior's regions, the encoder’s ellipse, and flows from z_0 to z_K."""
    figure, axes = new_figure(3.7, 3.5)
    mean, sigma = plane.encoder
    top = float(plane.log_joint.max())
    levels = mass_levels(plane.log_joint, MASSES)[::-1]
    for level, alpha in zip(levels, (0.16, 0.2, 0.24), strict=True):
        axes.contourf(
            plane.first,
            plane.second,
            plane.log_joint,
            [min(level, top - 1e-3), top + 1],
            colors=[GREY],
            alpha=alpha,
        )
    dots(axes, ends, BLUE, size=2.2, alpha=0.45)
    axes.add_patch(
        Ellipse(
            tuple(mean), *(_ELLIPSE * sigma), fill=False, edgecolor=ORANGE, linewidth=1.6,
            linestyle=(0, (4, 2)),
        )
    )  # fmt: skip
    for path in paths:
        axes.plot(*path.T, color=BLUE, linewidth=1.1, marker="o", ms=1.8)
        axes.plot(*path[0], "o", ms=5, color=PAPER, markeredgecolor=ORANGE, markeredgewidth=1.3)
        axes.plot(*path[-1], "o", ms=5, color=BLUE, markeredgecolor=PAPER, markeredgewidth=0.7)
    _frame(axes, plane, levels[0], np.concatenate([paths.reshape(-1, 2), ends]))
    axes.set(xlabel=f"latent {plane.axes[0] + 1}", ylabel=f"latent {plane.axes[1] + 1}")
    moved = float(np.sqrt((((paths[:, -1] - paths[:, 0]) / sigma) ** 2).mean()))
    alt = (
        f"Posterior of one test point over latent {plane.axes[0] + 1} and {plane.axes[1] + 1}: its "
        f"mode at {_pair(_mode(plane))}; the encoder’s mean at {_pair(mean)} with standard "
        f"deviations {_pair(sigma)}; {len(paths)} trajectories that end {moved:.2f} encoder "
        "standard deviations (rms) from where they start."
    )
    return Picture(figure, alt, caption)


def _kinds(labels: NDArray[Any] | None, count: int) -> list[tuple[str, NDArray[np.bool_]]]:
    """At most ten kinds of points, by label; the rarer ones together."""
    everything = [("", np.ones(count, bool))]
    if labels is None:
        return everything
    names = np.array([_short(str(label)) for label in labels])
    counts = Counter(names.tolist())
    if len(counts) > _MOST_KINDS:
        return everything
    order = list(dict.fromkeys(_short(str(label)) for label in np.unique(labels)))
    if len(order) > len(KINDS):
        common = {name for name, _ in counts.most_common(len(KINDS) - 1)}
        order = [name for name in order if name in common]
    kinds = [(name, names == name) for name in order]
    rest = ~np.isin(names, order)
    return [*kinds, ("other", rest)] if rest.any() else kinds


def _short(label: str) -> str:
    """A label as a picture can hold it; Matplotlib leaves out of a legend what starts with _."""
    label = printable(label).replace("\n", " ").strip()
    label = label if len(label) <= _LONGEST else label[: _LONGEST - 1] + "…"
    return f" {label}" if label.startswith("_") else label or "(empty)"


def _name(axes: Axes, points: Projection, kinds: list[tuple[str, NDArray[np.bool_]]]) -> None:
    """Short labels at the medians of their points."""
    chip = {"boxstyle": "round,pad=0.12", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.75}
    for i, (name, chosen) in enumerate(kinds):
        if len(name) <= 3:
            across, up = np.median(points.mean[chosen], axis=0)
            axes.text(
                across, up, name, color=KINDS[i], fontsize=13, fontweight="bold", ha="center",
                va="center", bbox=chip,
            )  # fmt: skip


def _frame(axes: Axes, plane: Plane, level: float, points: Float[np.ndarray, "n 2"]) -> None:
    """Limits that hold the outermost region, the ellipse and the points, with equal units."""
    rows, columns = np.nonzero(plane.log_joint >= level)
    region = [
        [plane.first[columns.min()], plane.second[rows.min()]],
        [plane.first[columns.max()], plane.second[rows.max()]],
    ]
    ellipse = plane.encoder.mean + 0.5 * _ELLIPSE * plane.encoder.sigma * np.array([[-1], [1]])
    whole = np.concatenate([region, ellipse, points])
    centre = (whole.min(axis=0) + whole.max(axis=0)) / 2
    reach = 0.54 * np.ptp(whole, axis=0).max()
    axes.set(
        xlim=(centre[0] - reach, centre[0] + reach), ylim=(centre[1] - reach, centre[1] + reach)
    )
    axes.set_box_aspect(1)


def _axis(points: Projection, i: int) -> str:
    if points.explained is None:
        return f"latent {i + 1}"
    return f"principal axis {i + 1} ({points.explained[i]:.0%})"


def _mode(plane: Plane) -> tuple[float, float]:
    row, column = np.unravel_index(plane.log_joint.argmax(), plane.log_joint.shape)
    return float(plane.first[column]), float(plane.second[row])


def _pair(two: Any) -> str:
    return f"({two[0]:.2f}, {two[1]:.2f})"
