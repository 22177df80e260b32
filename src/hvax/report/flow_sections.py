"""The sections on the flow: where it takes z in the posterior of a few points, and how it goes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from hvax.models.hvae import HVAE, plain_vae
from hvax.parameter import AbstractParameter, Learned
from hvax.report import draw, flow_pictures, images, latent_pictures
from hvax.report.figure import Picture
from hvax.report.page import Html, Section, element, figure, image, joined, paragraph, pictures
from hvax.report.numbers import number as written
from hvax.report.path import paths, paths_from
from hvax.report.plane import Plane, most_tied, plane
from hvax.report.report import Report

_SCENES, _TRAJECTORIES, _ENDS = 3, 6, 300
_POINTS, _DRAWS = 200, 10  # of the energy errors and of the bound by step


def posterior_section(report: Report, *, key: PRNGKeyArray) -> Section | None:
    """The true posterior of a few points, with the encoder's Gaussian and the flow on it."""
    if report.evaluation["latent_size"] < 2:
        return None
    index = draw.one_of_each(report.labels, len(report.test), _SCENES)
    x = report.test[index]
    figures = []
    for i, scene_key in enumerate(jax.random.split(key, len(index))):
        picture = _scene(report, jnp.asarray(x[i]), int(index[i]), key=scene_key)
        if picture is not None:
            figures.append(figure(picture, _thumbnail(report, x[i : i + 1], int(index[i]))))
    if not figures:
        return None
    body = element("div", joined(figures), "pictures three")
    return Section("posteriors", "Posteriors", joined([_key(report), body]))


def flow_section(report: Report, *, key: PRNGKeyArray) -> Section | None:
    """What was learned of the flow, and how well it follows its energy."""
    model = report.model
    if not isinstance(model, HVAE) or model.flow.num_steps == 0:
        return None
    x = jnp.asarray(report.test[draw.spaced(len(report.test), _POINTS)])
    drawn = paths(model, x, _DRAWS, key=key)
    errors = drawn.energy_errors.reshape(-1, model.flow.num_steps)
    step_size = np.asarray(model.flow.step_size.value)
    beta = np.asarray(model.flow.tempering.beta(model.flow.num_steps))
    learned = isinstance(model.flow.step_size, Learned)
    found = [
        flow_pictures.bound_by_step(drawn.log_weight),
        flow_pictures.energy_errors(errors),
        flow_pictures.schedule(beta, learned=_is_learned(model.flow.tempering)),
        flow_pictures.step_sizes(step_size, learned=learned),
    ]
    words = f"{model.flow.num_steps} tempered leapfrog steps on −log p(x | z) − log p(z)."
    if model.potential is not None:
        words = f"{model.flow.num_steps} tempered leapfrog steps on a potential of its own."
    if step_size.size == 1:
        how = "learned" if learned else "fixed"
        words += f" The step size is {float(step_size.reshape(())):.4f}, {how}."
    return Section("flow", "The flow", joined([paragraph(words), pictures(found)]))


def _scene(report: Report, x: Array, number: int, *, key: PRNGKeyArray) -> Picture | None:
    """One point's posterior; None where its numbers are not finite."""
    model, vae = report.model, plain_vae(report.model)
    draw_key, momentum_key = jax.random.split(key)
    drawn = paths(model, x[None], _ENDS, key=draw_key)
    starts = drawn.z[0, :, 0]
    if not np.all(np.isfinite(drawn.z)):
        return None
    if starts.shape[1] == 2:
        shown, ends = drawn.z[0, :_TRAJECTORIES], drawn.z[0, :, -1]
        scene = plane(vae, x, through=jnp.asarray(starts[0]), axes=(0, 1), cover=ends)
        return latent_pictures.posterior(scene, shown, ends, _gaps(scene, drawn.log_weight, number))
    axes = most_tied(vae, x)
    start = jnp.asarray(starts[0])
    moved = paths_from(model, x, start, _TRAJECTORIES, key=momentum_key)[..., np.array(axes)]
    scene = plane(vae, x, through=start, axes=axes, cover=moved.reshape(-1, 2))
    return latent_pictures.posterior(
        scene,
        moved,
        np.zeros((0, 2)),
        f"Test point {number}: a plane through one z₀. Of all pairs of latent axes, x ties these "
        "two most closely.",
    )


def _gaps(scene: Plane, log_weight: Any, number: int) -> str:
    """How far the encoder and the flow stay below log p(x), which quadrature knows."""
    said = f"Test point {number}: log p(x) = {written(scene.log_p)} nats. The encoder’s bound misses "
    said += f"it by {written(scene.kl)}"
    if log_weight.shape[-1] == 1:
        return f"{said}."
    gap = scene.log_p - log_weight[0, :, -1]
    error = float(gap.std(ddof=1) / np.sqrt(gap.size))
    return f"{said}, with the flow by {written(float(gap.mean()))} ± {written(error)}."


def _key(report: Report) -> Html:
    """What the marks of the posterior pictures are."""
    d = report.evaluation["latent_size"]
    masses = "50, 90 and 99%"
    where = "" if d == 2 else " on this plane, with the other coordinates held at those of z₀"
    said = [
        '<span class="swatch truth"></span> <strong>Grey</strong>: the true posterior'
        f"{where}; the shades hold {masses} of it."
        ' <span class="swatch encoder"></span> <strong class="baseline">Dashed</strong>: the '
        "encoder’s Gaussian, which holds 90%."
    ]
    if isinstance(report.model, HVAE):
        start = "draws of it" if d == 2 else "one draw of it"
        said.append(
            '<span class="swatch flow"></span> <strong class="model">Blue</strong>: the flow, from '
            f"{start} (open) by leapfrog steps to z after the flow (filled)"
            + ("; small dots: where more draws end." if d == 2 else ", with six momenta; the paths"
               " also move along the axes that the plane does not show.")
        )  # fmt: skip
    return element("p", Html(" ".join(said)), "key")


def _thumbnail(report: Report, x: Any, number: int) -> Html | None:
    if not images.is_image(report.test.x_shape):
        return None
    low, high = images.levels(x)
    pixels = images.as_pixels(x, low=low, high=high, x_shape=report.test.x_shape)[0]
    label = "" if report.labels is None else f", labelled “{report.labels[number]}”"
    return image(pixels, f"Test point {number}{label}: the input of this posterior.")


def _is_learned(module: Any) -> bool:
    leaves = jax.tree.leaves(module, is_leaf=lambda node: isinstance(node, AbstractParameter))
    return any(isinstance(leaf, Learned) for leaf in leaves)
