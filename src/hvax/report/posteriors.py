"""The section on single posteriors: what is true, what the encoder draws, what the flow makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.evaluation.posterior_draws import posterior_draws
from hvax.evaluation.posterior_grid import most_correlated_axes, plane
from hvax.evaluation.trajectories import Paths, paths
from hvax.report import images
from hvax.report.chosen import one_of_each
from hvax.report.density import box, smoothed
from hvax.report.figures.posterior import MASSES, Encoder, posterior
from hvax.report.inputs import ReportInputs
from hvax.report.model_view import has_gaussian_posterior, one_of, points_of
from hvax.report.names import short
from hvax.report.numbers import number
from hvax.report.parts import Image, Picture

_SCENES, _TRAJECTORIES, _DRAWN = 3, 5, 256
_MOVES = 0.2  # acceptance below which chains have hardly moved


class Mark(NamedTuple):
    """What a color stands for in the pictures; `kind` is the CSS class of its name."""

    color: str
    kind: str
    swatch: str
    words: str


class Scene(NamedTuple):
    """The picture of one posterior, with its input where that is an image."""

    picture: Picture
    thumbnail: Image | None


@dataclass(frozen=True)
class Posteriors:
    """The section: what the marks mean, and a few scenes."""

    marks: Sequence[Mark]
    note: str
    scenes: Sequence[Scene]


def posteriors(report: ReportInputs, *, key: PRNGKeyArray) -> Posteriors | None:
    """A few points' true posteriors with the draws of encoder and flow; None for one latent
    dimension, or where nothing is finite."""
    if report.latent_size < 2:
        return None
    draw_key, chain_key = jax.random.split(key)
    rows = one_of_each(report.labels, len(report.test), _SCENES)
    x, points = report.test[rows], points_of(report.model, report.test, rows)
    found = paths(report.model, points, _DRAWN, key=draw_key)
    finite = np.all(np.isfinite(found.z), axis=(1, 2, 3))
    finite &= np.any(np.isfinite(found.log_weight), axis=(1, 2))
    if not finite.any():
        return None
    rows, x, found = rows[finite], x[finite], Paths(*(array[finite] for array in found))
    points = points.map(lambda part: part[np.flatnonzero(finite)])
    if report.latent_size == 2:
        pictures = _exact(report, found, points, rows)
    else:
        pictures = _drawn(report, found, points, rows, key=chain_key)
    scenes = [
        Scene(picture, _thumbnail(report, one, int(row)))
        for picture, one, row in zip(pictures, x, rows, strict=True)
    ]
    marks = _marks(report, gaussian=has_gaussian_posterior(report.model, one_of(points, 0)))
    return Posteriors(marks, _note(report), scenes)


def _exact(
    report: ReportInputs, found: Paths, points: Batch, rows: NDArray[np.int64]
) -> list[Picture]:
    """In two dimensions: by quadrature over a grid."""
    scenes = []
    for i in range(len(rows)):
        cover = np.percentile(found.z[i, :, -1], (1, 99), axis=0)
        scene = plane(report.model, one_of(points, i), cover=cover)
        gap = scene.log_p - found.log_weight[i].astype(np.float64)
        missed = _with_error(gap[:, 0]) if scene.kl is None else number(scene.kl)
        said = f"log p(x) = {number(scene.log_p)} nats. "
        said += f"The encoder’s bound falls short of it by {missed}"
        if report.moved and np.all(np.isfinite(gap[:, -1])):
            said += f", with the flow by {_with_error(gap[:, -1])}"
        caption = f"{_named(report, int(rows[i]))}: {said}."
        encoder = Encoder(found.mean[i], found.sigma[i], gaussian=scene.kl is not None)
        scenes.append(
            posterior(scene.density, encoder, found.z[i], (0, 1), caption, num_paths=_TRAJECTORIES)
        )
    return scenes


def _with_error(draws: NDArray[np.float64]) -> str:
    """The mean of independent draws, with its standard error."""
    error = float(draws.std(ddof=1) / np.sqrt(draws.size))
    return f"{number(float(draws.mean()))} ± {number(error)}"


def _drawn(
    report: ReportInputs,
    found: Paths,
    points: Batch,
    rows: NDArray[np.int64],
    *,
    key: PRNGKeyArray,
) -> list[Picture]:
    """In more dimensions: the marginal over the two that x ties most closely, from draws of the
    whole posterior."""
    model = report.model
    # Both ends of a flow propose: where one misses a part of the posterior, the other may not.
    ends = slice(None) if found.z.shape[2] == 1 else [0, -1]
    z, log_weight = found.z[:, :, ends], found.log_weight[:, :, ends]
    n = len(rows)
    truth = posterior_draws(
        model, points, z.reshape(n, -1, z.shape[-1]), log_weight.reshape(n, -1), key=key
    )
    gaussian = has_gaussian_posterior(model, one_of(points, 0))
    scenes = []
    for i in range(n):
        axes = most_correlated_axes(model, one_of(points, i))
        shown = np.array(axes)
        stages = found.z[i][..., shown]
        clouds = truth.z[i][:, shown], stages[:, 0], stages[:, -1]
        density = smoothed(clouds[0], *box(*clouds))
        encoder = Encoder(found.mean[i, shown], found.sigma[i, shown], gaussian=gaussian)
        caption = (
            f"{_named(report, int(rows[i]))}: latent {axes[0]} and {axes[1]}, the two that x "
            f"couples most strongly.{_gained(found.log_weight[i])}"
        )
        if truth.acceptance[i] < _MOVES:
            caption += " The chains behind the gray regions hardly moved, so the regions are rough."
        scenes.append(posterior(density, encoder, stages, axes, caption))
    return scenes


def _gained(log_weight: NDArray) -> str:
    """What the flow adds to the bound of one point."""
    gain = (log_weight[:, -1] - log_weight[:, 0]).astype(np.float64)
    if log_weight.shape[1] == 1 or not np.all(np.isfinite(gain)):
        return ""
    if gain.mean() >= 0:
        return f" The flow raises this point’s bound by {_with_error(gain)} nats."
    return f" The flow lowers this point’s bound by {_with_error(-gain)} nats."


def _marks(report: ReportInputs, *, gaussian: bool) -> list[Mark]:
    """What the colors of the pictures stand for."""
    d, flowed = report.latent_size, report.moved
    held = ", ".join(f"{mass:.0%}" for mass in MASSES[:-1]) + f" and {MASSES[-1]:.0%}"
    truth = "the true posterior p(z | x)"
    if d > 2:
        truth += f", its marginal over two of the {d} dimensions"
    encoder = f"{_DRAWN} draws of the encoder{', z₀' if flowed else ''}"
    if gaussian:
        encoder += ", and the ellipse that should hold 90% of them"
    marks = [
        Mark("Gray", "", "truth", f"{truth}; the shades hold {held} of it."),
        Mark("Orange", "baseline", "encoder", f"{encoder}."),
    ]
    if flowed:
        ways = f"; lines: the paths of {_TRAJECTORIES} of them" if d == 2 else ""
        marks.append(Mark("Blue", "model", "flow", f"the same draws after the flow, z_K{ways}."))
    return marks


def _note(report: ReportInputs) -> str:
    """How to read the pictures."""
    note = "The better the dots fill the gray regions, the tighter the bound."
    if report.latent_size > 2:
        note += " The gray regions are smoothed draws by Hamiltonian Monte Carlo."
    return note


def _named(report: ReportInputs, row: int) -> str:
    label = report.label(row)
    return f"Test point {row}" + ("" if label is None else f" ({short(label)})")


def _thumbnail(report: ReportInputs, x: NDArray, row: int) -> Image | None:
    if not report.shown_as_images:
        return None
    low, high = images.levels(x)
    pixels = images.as_pixels(x[None], low=low, high=high, x_shape=report.test.x_shape)[0]
    label = report.label(row)
    labeled = "" if label is None else f", labeled “{label}”"
    return Image(pixels, f"Test point {row}{labeled}: the input of this posterior.")
