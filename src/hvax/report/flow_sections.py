"""The section on the flow: what was learned of it, and how well it goes."""

from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from hvax.evaluation.trajectories import noise, paths
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.integrator import PositionVerlet
from hvax.models.hvae import HVAE
from hvax.parameters import trainable
from hvax.report import draw, flow_pictures
from hvax.report.page import Section, joined, paragraph, pictures
from hvax.report.report import Report

_POINTS, _DRAWS = 200, 10  # of the energy errors and of the bound by step


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
    if flow.num_steps == 0:
        return "a flow of no steps"
    kind = "tempered " if flow.bridge is None and flow.eta is None else ""
    by = " by position Verlet" if isinstance(flow.integrator, PositionVerlet) else ""
    if flow.bridge is None and flow.eta is None and flow.leapfrog_steps == 1:
        return f"{flow.num_steps} {kind}leapfrog steps{by}"
    many = "" if flow.leapfrog_steps == 1 else f" of {flow.leapfrog_steps} leapfrog steps"
    annealed = kind if flow.bridge is None else "annealed "
    return f"{flow.num_steps} {annealed}transitions{many}{by}"


def _is_learned(module: Any) -> bool:
    return any(jax.tree.leaves(trainable(module)))
