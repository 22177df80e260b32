"""What a step whose loss or gradient is not finite looked like: for the log, and for the error."""

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
from hvax.models.hvae import HVAE, has_flow
from hvax.models.latent_model import AbstractLatentModel, map_examples
from hvax.objectives import draw_batch
from hvax.training.flow_start import can_shrink
from hvax.training.prepare import is_prepared
from hvax.wording import named, words


def advice(model: PyTree) -> str:
    """What may help where update after update is not finite, of what this model has."""
    cures = []
    if not is_prepared(model):
        cures.append(words("networks in the data's units (hvax.prepare)", "--standardize"))
    if has_flow(model):
        cures.append(_gentler_flow())
    cures.append(
        words(
            "an optimizer with a smaller learning rate (hvax.fit(..., optimizer=optax.adam(1e-4)))",
            "a smaller --learning-rate",
        )
    )
    if jnp.result_type(float) == jnp.float32:
        x64 = 'jax.config.update("jax_enable_x64", True), before anything else'
        cures.append(f"64-bit numbers ({words(x64, '--x64')})")
    return f"Try {'; '.join(cures)}."


def divergence_advice(model: PyTree) -> str:
    """What was done about trajectories that diverged, or what may be."""
    if not can_shrink(model):
        return f"Take {_gentler_flow()}."
    sizes = np.ravel(model.flow.step_sizes)
    bound = words("a lower bound of the step size (Learned(..., upper=...))", "a lower --max-step")
    return (
        f"Its step size was shrunk to {np.max(sizes):.3g}. Where this goes on, take fewer steps "
        f"({named('num_steps')}) or {bound}."
    )


def _gentler_flow() -> str:
    return (
        f"a smaller step size of the flow ({named('step_size')}) or fewer steps "
        f"({named('num_steps')})"
    )


def describe(model: PyTree, batch: Batch, *, key: PRNGKeyArray) -> dict[str, float | list[float]]:
    """The ELBO of a batch and, of an HVAE, its step sizes, largest |grad U| at both ends of its
    trajectories and largest energy error, on the noise of the step."""
    found = {name: np.asarray(value) for name, value in _seen(model, batch, key).items()}
    return {name: value.tolist() for name, value in found.items()}


@eqx.filter_jit
def _seen(
    model: AbstractLatentModel, batch: Batch, key: PRNGKeyArray
) -> dict[str, Float[Array, "..."]]:
    draws = draw_batch(model, batch, key=key)
    seen = {"elbo": jnp.mean(draws.log_weight)}
    if not isinstance(draws.trajectory, PhaseSpace):
        return seen
    condition = () if batch.condition is None else (batch.condition,)

    def size(z: Array, x: Array, *condition: Array) -> Array:
        gradient = ReverseMode().value_and_grad(model.potential(x, *condition))(z).gradient
        return jnp.linalg.norm(gradient)

    space = draws.trajectory
    before, after = (
        jnp.max(map_examples(size, z, batch.scored, *condition))
        for z in (space.z_init, space.z_final)
    )
    if isinstance(model, HVAE) and isinstance(model.flow, HamiltonianFlow):
        seen["step_size"] = model.flow.step_sizes
    return seen | {
        "largest_gradient_of_U_before": before,
        "largest_gradient_of_U_after": after,
        "largest_energy_error": jnp.max(jnp.abs(space.energy_errors), initial=0.0),
    }


def message(record: Mapping[str, Any], *, in_a_row: int) -> str:
    """One line about a step, for people."""
    about = f"ELBO {record['elbo']:.4g}"
    if "step_size" in record:
        sizes = np.ravel(record["step_size"])
        about += (
            f", step sizes {np.min(sizes):.3g} to {np.max(sizes):.3g}, largest |grad U| "
            f"{record['largest_gradient_of_U_before']:.3g} before the flow and "
            f"{record['largest_gradient_of_U_after']:.3g} behind it"
        )
    times = "" if in_a_row == 1 else f" ({in_a_row} in a row)"
    return (
        f"the loss or its gradient was not finite at step {record['step']}{times}: {about}. "
        f"The update was left out."
    )
