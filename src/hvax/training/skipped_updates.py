"""Diagnosis of skipped updates (loss or gradient not finite), for the log and for messages."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from hvax.batch import Batch
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.gradient import ReverseMode
from hvax.hamiltonian.phase_space import PhaseSpace
from hvax.models.draw_batch import draw_batch
from hvax.models.hvae import HVAE, has_flow
from hvax.models.latent_model import AbstractLatentModel, map_examples
from hvax.training.flow_start import can_shrink
from hvax.training.prepare import is_prepared
from hvax.wording import named, words


def advice(model: PyTree) -> str:
    """What to try when many updates in a row are skipped, depending on the model."""
    remedies = []
    if not is_prepared(model):
        remedies.append(words("networks in the data's units (hvax.prepare)", "--standardize"))
    if has_flow(model):
        remedies.append(_gentler_flow())
    remedies.append(
        words(
            "an optimizer with a smaller learning rate (hvax.fit(..., optimizer=optax.adam(1e-4)))",
            "a smaller --learning-rate",
        )
    )
    if jnp.result_type(float) == jnp.float32:
        x64 = 'jax.config.update("jax_enable_x64", True), before anything else'
        remedies.append(f"64-bit numbers ({words(x64, '--x64')})")
    return f"Try {'; '.join(remedies)}."


def divergence_advice(model: PyTree) -> str:
    """What was done about diverged trajectories, or what to try."""
    if not can_shrink(model):
        return f"Use {_gentler_flow()}."
    sizes = np.ravel(model.flow.step_sizes)
    bound = words("a lower bound of the step size (Learned(..., upper=...))", "a lower --max-step")
    return (
        f"Its step size was shrunk to {np.max(sizes):.3g}. If this continues, use fewer steps "
        f"({named('num_steps')}) or {bound}."
    )


def _gentler_flow() -> str:
    return (
        f"a smaller step size of the flow ({named('step_size')}) or fewer steps "
        f"({named('num_steps')})"
    )


def describe(model: PyTree, batch: Batch, *, key: PRNGKeyArray) -> dict[str, float | list[float]]:
    """Numbers of one batch on the noise of the skipped step, for the log.

    The ELBO in nats and, for a Hamiltonian flow, the step sizes, the largest |grad U| before and
    after the trajectories, and the largest energy error in nats.
    """
    found = {name: np.asarray(value) for name, value in _measured(model, batch, key).items()}
    return {name: value.tolist() for name, value in found.items()}


@eqx.filter_jit
def _measured(
    model: AbstractLatentModel, batch: Batch, key: PRNGKeyArray
) -> dict[str, Float[Array, "..."]]:
    draws = draw_batch(model, batch, key=key)
    measured = {"elbo": jnp.mean(draws.log_weight)}
    if not isinstance(draws.trajectory, PhaseSpace):
        return measured

    def size(z: Array, x: Array, given: dict[str, Array]) -> Array:
        gradient = ReverseMode().value_and_grad(model.potential(x, **given))(z).gradient
        return jnp.linalg.norm(gradient)

    space = draws.trajectory
    before, after = (
        jnp.max(map_examples(size, z, batch.scored, batch.given()))
        for z in (space.z_init, space.z_final)
    )
    if isinstance(model, HVAE) and isinstance(model.flow, HamiltonianFlow):
        measured["step_size"] = model.flow.step_sizes
    return measured | {
        "largest_gradient_of_U_before": before,
        "largest_gradient_of_U_after": after,
        "largest_energy_error": jnp.max(jnp.abs(space.energy_errors), initial=0.0),
    }


def message(record: Mapping[str, Any], *, in_a_row: int) -> str:
    """One sentence about a skipped update, from the record in the log."""
    about = f"ELBO {record['elbo']:.4g}"
    if "step_size" in record:
        sizes = np.ravel(record["step_size"])
        about += (
            f", step sizes {np.min(sizes):.3g} to {np.max(sizes):.3g}, largest |grad U| "
            f"{record['largest_gradient_of_U_before']:.3g} before the flow and "
            f"{record['largest_gradient_of_U_after']:.3g} after it"
        )
    times = "" if in_a_row == 1 else f" ({in_a_row} in a row)"
    return (
        f"the loss or its gradient was not finite at step {record['step']}{times}: {about}. "
        f"The update was skipped."
    )
