"""The sections on the flow: where it takes z in the posterior of a few points, and how it goes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.integrator import PositionVerlet
from hvax.models.hvae import HVAE, plain_vae
from hvax.parameter import trainable
from hvax.report import draw, flow_pictures, images, latent_pictures
from hvax.report.figure import Picture
from hvax.report.numbers import number as written
from hvax.report.page import Html, Section, element, figure, image, joined, paragraph, pictures
from hvax.report.path import Paths, noise, paths
from hvax.report.plane import Gaussian, Plane, most_tied, plane
from hvax.report.report import Report

_SCENES, _TRAJECTORIES, _DRAWN = 3, 6, 256
_POINTS, _DRAWS = 200, 10  # of the energy errors and of the bound by step


def posterior_section(report: Report, *, key: PRNGKeyArray) -> Section | None:
    """The true posterior of a few points, with the encoder's Gaussian and the flow on it."""
    if report.evaluation["latent_size"] < 2:
        return None
    index = draw.one_of_each(report.labels, len(report.test), _SCENES)
    x, d = report.test[index], report.evaluation["latent_size"]
    # In two dimensions every flow has its own start; else all flows of a point share one.
    drawn = noise(report.model, len(x), _DRAWN, d, key=key)
    if d > 2:
        drawn = drawn._replace(start=np.broadcast_to(drawn.start[:, :1], drawn.start.shape))
    found = paths(report.model, x, drawn)
    figures = [
        figure(_scene(report, found, x, i, int(index[i])), _thumbnail(report, x[i], int(index[i])))
        for i in range(len(x))
        if np.all(np.isfinite(found.z[i])) and np.all(np.isfinite(found.log_weight[i]))
    ]
    if not figures:
        return None
    body = element("div", joined(figures), "pictures three")
    return Section("posteriors", "Posteriors", joined([_key(report), body]))


def flow_section(report: Report, *, key: PRNGKeyArray) -> Section | None:
    """What was learned of the flow, and how well it follows its energy."""
    model = report.model
    if not isinstance(model, HVAE) or model.flow.num_steps == 0:
        return None
    x = report.test[draw.spaced(len(report.test), _POINTS)]
    drawn = paths(model, x, noise(model, len(x), _DRAWS, report.evaluation["latent_size"], key=key))
    flow = model.flow
    errors = drawn.energy_errors.reshape(-1, drawn.energy_errors.shape[-1])
    step_size = np.asarray(flow.step_sizes)
    beta = np.asarray(flow.tempering.beta(flow.num_steps))
    learned = _is_learned((flow.step_size, flow.mass))
    tempered = _is_learned(flow.tempering) or np.any(beta != 1)
    found = [
        flow_pictures.bound_by_step(drawn.log_weight),
        flow_pictures.energy_errors(errors, midway=not flow.integrator.last_gradient_at_end),
        None
        if flow.bridge is None
        else flow_pictures.bridge(
            np.asarray(flow.bridge.weights(flow.num_steps)), learned=_is_learned(flow.bridge)
        ),
        flow_pictures.schedule(beta, learned=_is_learned(flow.tempering)) if tempered else None,
        flow_pictures.step_sizes(step_size, learned=learned),
    ]
    words = f"{transitions(flow)[0].upper()}{transitions(flow)[1:]} on "
    words += "−log p(x | z) − log p(z)" if model.potential is None else "a potential of its own"
    words += "." if flow.bridge is None else ", by way of densities between it and the encoder’s."
    if flow.eta is not None:
        how = "learned" if _is_learned(flow.eta) else "fixed"
        words += f" A transition keeps {float(flow.eta.value):.3f} of the momentum (η, {how})."
    if step_size.size == 1:
        how = "learned" if learned else "fixed"
        unit = " standard deviations of the encoder" if flow.units == "posterior" else ""
        words += f" The step size is {float(step_size.reshape(())):.4f}{unit}, {how}."
    return Section("flow", "The flow", joined([paragraph(words), pictures(found)]))


def transitions(flow: HamiltonianFlow) -> str:
    """How many steps of what kind, in words."""
    kind = "tempered " if flow.bridge is None and flow.eta is None else ""
    by = " by position Verlet" if isinstance(flow.integrator, PositionVerlet) else ""
    if flow.bridge is None and flow.eta is None and flow.leapfrog_steps == 1:
        return f"{flow.num_steps} {kind}leapfrog steps{by}"
    many = "" if flow.leapfrog_steps == 1 else f" of {flow.leapfrog_steps} leapfrog steps"
    annealed = kind if flow.bridge is None else "annealed "
    return f"{flow.num_steps} {annealed}transitions{many}{by}"


def _scene(report: Report, found: Paths, x: NDArray, i: int, number: int) -> Picture:
    """The posterior of the i-th point of x."""
    vae, one, z = plain_vae(report.model), jnp.asarray(x[i]), found.z[i]
    axes = (0, 1) if z.shape[-1] == 2 else most_tied(vae, one)
    where = np.array(axes)
    posterior = Gaussian(found.mean[i, where], found.sigma[i, where])
    ends = z[:, -1, where]
    scene = plane(vae, one, posterior, through=z[0, 0], axes=axes, cover=ends)
    shown = z[:_TRAJECTORIES][..., where]
    if z.shape[-1] == 2:
        caption = f"Test point {number}: {_gaps(scene, found.log_weight[i])}"
    else:
        caption = f"Test point {number}, in the two latent axes that x ties most closely."
    return latent_pictures.posterior(scene, shown, ends, caption)


def _gaps(scene: Plane, log_weight: NDArray) -> str:
    """How far the encoder and the flow stay below log p(x), which quadrature knows."""
    assert scene.log_p is not None and scene.kl is not None
    said = f"log p(x) = {written(scene.log_p)} nats. The encoder’s bound misses it by "
    said += written(scene.kl)
    if log_weight.shape[1] == 1:
        return f"{said}."
    gap = scene.log_p - log_weight[:, -1].astype(np.float64)
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
        start = "draws of it" if d == 2 else "one draw of it with different momenta"
        said.append(
            '<span class="swatch flow"></span> <strong class="model">Blue</strong>: the flow, from '
            f"{start} (open) by leapfrog steps to z after the flow (filled); small dots: where "
            f"{_DRAWN} draws end."
        )
    if d > 2:
        said.append("The flow also moves along the axes that a plane does not show.")
    return element("p", Html(" ".join(said)), "key")


def _thumbnail(report: Report, x: NDArray, number: int) -> Html | None:
    if not images.is_image(report.test.x_shape):
        return None
    low, high = images.levels(x)
    pixels = images.as_pixels(x[None], low=low, high=high, x_shape=report.test.x_shape)[0]
    label = "" if report.labels is None else f", labelled “{report.labels[number]}”"
    return image(pixels, f"Test point {number}{label}: the input of this posterior.")


def _is_learned(module: Any) -> bool:
    return any(jax.tree.leaves(trainable(module)))
