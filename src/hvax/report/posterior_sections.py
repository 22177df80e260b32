"""The section on single posteriors: what is true, what the encoder draws, what the flow makes."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.evaluation.posterior_grid import Density, Gaussian, most_tied, plane
from hvax.evaluation.trajectories import Paths, noise, paths
from hvax.models.hvae import plain_vae
from hvax.models.origin import to_model
from hvax.report import draw, images
from hvax.report.density import box, smoothed
from hvax.report.figure import Picture
from hvax.report.names import short
from hvax.report.numbers import number
from hvax.report.page import Html, Section, element, figure, image, joined
from hvax.report.posterior_draws import posterior_draws
from hvax.report.posterior_pictures import MASSES, posterior
from hvax.report.report import Report, has_flow

_SCENES, _TRAJECTORIES, _DRAWN = 3, 5, 256
_MOVES = 0.2  # acceptance below which chains have hardly moved


def posterior_section(report: Report, *, key: PRNGKeyArray) -> Section | None:
    """A few points' true posteriors with the draws of encoder and flow; None for one latent
    dimension, or where nothing is finite."""
    d = report.evaluation["latent_size"]
    if d < 2:
        return None
    draw_key, chain_key = jax.random.split(key)
    index = draw.one_of_each(report.labels, len(report.test), _SCENES)
    x = report.test[index]
    found = paths(report.model, x, noise(report.model, len(x), _DRAWN, d, key=draw_key))
    sound = [
        i
        for i in range(len(x))
        if np.all(np.isfinite(found.z[i])) and np.any(np.isfinite(found.log_weight[i]))
    ]
    if not sound:
        return None
    index, x = index[sound], x[sound]
    found = Paths(*(array[sound] for array in found))
    scenes = _exact(report, found, x, index) if d == 2 else _drawn(
        report, found, x, index, key=chain_key
    )  # fmt: skip
    figures = [
        figure(scene, _thumbnail(report, one, int(number)))
        for scene, one, number in zip(scenes, x, index, strict=True)
    ]
    body = element("div", joined(figures), "pictures three")
    return Section("posteriors", "Posteriors", joined([_key(report), body]))


def _exact(report: Report, found: Paths, x: NDArray, index: NDArray[np.int64]) -> list[Picture]:
    """In two dimensions: by quadrature over a grid."""
    scenes = []
    for i, one in enumerate(x):
        encoder = Gaussian(found.mean[i], found.sigma[i])
        cover = np.percentile(found.z[i, :, -1], (1, 99), axis=0)
        scene = plane(
            plain_vae(report.model), jnp.asarray(to_model(report.model, one)), encoder, cover=cover
        )
        said = f"log p(x) = {number(scene.log_p)} nats. The encoder’s bound misses it by "
        said += number(scene.kl)
        gap = scene.log_p - found.log_weight[i, :, -1].astype(np.float64)
        if has_flow(report.model) and np.all(np.isfinite(gap)):
            error = float(gap.std(ddof=1) / np.sqrt(gap.size))
            said += f", with the flow by {number(float(gap.mean()))} ± {number(error)}"
        caption = f"{_named(report, int(index[i]))}: {said}."
        scenes.append(
            posterior(scene.density, encoder, found.z[i], (0, 1), caption, num_paths=_TRAJECTORIES)
        )
    return scenes


def _drawn(
    report: Report, found: Paths, x: NDArray, index: NDArray[np.int64], *, key: PRNGKeyArray
) -> list[Picture]:
    """In more dimensions: the marginal over the two that x ties most closely, from draws of the
    whole posterior."""
    vae = plain_vae(report.model)
    # Both ends of a flow propose: where one misses a part of the posterior, the other may not.
    ends = slice(None) if found.z.shape[2] == 1 else [0, -1]
    z, log_weight = found.z[:, :, ends], found.log_weight[:, :, ends]
    truth = posterior_draws(
        vae,
        x,
        z.reshape(len(x), -1, z.shape[-1]),
        log_weight.reshape(len(x), -1),
        key=key,
    )
    scenes = []
    for i, one in enumerate(x):
        axes = most_tied(vae, jnp.asarray(to_model(vae, one)))
        shown = np.array(axes)
        stages = found.z[i][..., shown]
        clouds = truth.z[i][:, shown], stages[:, 0], stages[:, -1]
        density: Density = smoothed(clouds[0], *box(*clouds))
        encoder = Gaussian(found.mean[i, shown], found.sigma[i, shown])
        caption = (
            f"{_named(report, int(index[i]))}: latent {axes[0]} and {axes[1]}, the two that x ties "
            f"most closely.{_gained(found.log_weight[i])}"
        )
        if truth.acceptance[i] < _MOVES:
            caption += " The chains behind the gray regions hardly moved: they are rough."
        scenes.append(posterior(density, encoder, stages, axes, caption))
    return scenes


def _gained(log_weight: NDArray) -> str:
    """What the flow adds to the bound of one point."""
    gain = (log_weight[:, -1] - log_weight[:, 0]).astype(np.float64)
    if log_weight.shape[1] == 1 or not np.all(np.isfinite(gain)):
        return ""
    error = float(gain.std(ddof=1) / np.sqrt(gain.size))
    verb = "raises" if gain.mean() >= 0 else "lowers"
    mean = abs(float(gain.mean()))
    return f" The flow {verb} this point’s bound by {number(mean)} ± {number(error)} nats."


def _key(report: Report) -> Html:
    """What the marks of the posterior pictures are."""
    d, flowed = report.evaluation["latent_size"], has_flow(report.model)
    held = ", ".join(f"{mass:.0%}" for mass in MASSES[:-1]) + f" and {MASSES[-1]:.0%}"
    truth = "the true posterior p(z | x)"
    if d > 2:
        truth += f", as it looks over two of the {d} dimensions when all others vary too"
    said = [
        f'<span class="swatch truth"></span> <strong>Gray</strong>: {truth}; the shades hold '
        f"{held} of it.",
        '<span class="swatch encoder"></span> <strong class="baseline">Orange</strong>: '
        f"{_DRAWN} draws of the encoder, z₀, and the ellipse that should hold 90% of them."
        if flowed
        else '<span class="swatch encoder"></span> <strong class="baseline">Orange</strong>: '
        f"{_DRAWN} draws of the encoder, and the ellipse that should hold 90% of them.",
    ]
    if flowed:
        ways = f"; lines: the ways of {_TRAJECTORIES} of them" if d == 2 else ""
        said.append(
            '<span class="swatch flow"></span> <strong class="model">Blue</strong>: the same draws '
            f"after the flow, z_K{ways}."
        )
    last = "The better the dots fill the gray, the closer is the bound."
    if d > 2:
        last += " The gray regions are smoothed draws of Hamiltonian Monte Carlo."
    said.append(last)
    return element("ul", joined(element("li", Html(words)) for words in said), "key")


def _named(report: Report, row: int) -> str:
    label = "" if report.labels is None else f" ({short(str(report.labels[row]))})"
    return f"Test point {row}{label}"


def _thumbnail(report: Report, x: NDArray, row: int) -> Html | None:
    if not images.is_image(report.test.x_shape) or report.feature_names is not None:
        return None
    low, high = images.levels(x)
    pixels = images.as_pixels(x[None], low=low, high=high, x_shape=report.test.x_shape)[0]
    label = "" if report.labels is None else f", labeled “{report.labels[row]}”"
    return image(pixels, f"Test point {row}{label}: the input of this posterior.")
