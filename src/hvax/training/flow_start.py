"""Initial step sizes at which a flow's trajectories are stable on the given data and networks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from hvax.batch import Batch
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.tempering import NullTempering
from hvax.models.draw_batch import draw_batch, each
from hvax.models.hvae import HVAE
from hvax.parameters import Learned
from hvax.quick_compile import quickly_compiled

STABLE_ERROR = 2.0  # nats: the energy error that 90% of trajectories must not exceed
_HALVINGS = 20


def with_stable_steps(model: HVAE, batch: Batch, *, key: PRNGKeyArray) -> tuple[HVAE, int]:
    """Halve the learned step sizes until 90% of a batch's trajectories are stable.

    A trajectory is stable if no energy error exceeds 2 nats. Returns the model and the number of
    halvings. Fixed step sizes are not changed, nor are those that 20 halvings do not make stable.
    """
    # Leapfrog is stable below a step of about 2 / sqrt(largest curvature of U), and energy errors
    # grow exponentially above. That curvature depends on data and networks, so it has to be tried.
    given = model
    for halvings in range(_HALVINGS + 1):
        noise = jax.random.fold_in(key, halvings)
        if not can_shrink(model) or _energy_error(model, batch, noise) <= STABLE_ERROR:
            return model, halvings
        model = with_smaller_steps(model, 0.5)
    return given, 0  # the step size is not the cause


def with_smaller_steps(model: PyTree, factor: ArrayLike) -> PyTree:
    """Multiply the learned step sizes of a model's flow by `factor` <= 1, which may be traced.

    Models without learned step sizes are returned unchanged.
    """
    if not can_shrink(model):
        return model
    smaller = model.flow.step_size.scaled(factor)
    return eqx.tree_at(lambda m: m.flow.step_size, model, smaller)


def switched_off(model: HVAE) -> HVAE:
    """The same model with a flow of no steps, which equals its plain VAE."""
    flow = HamiltonianFlow(0, 0.05, NullTempering(1.0))
    return HVAE(model.vae, flow, model.potential_for_flow)


def can_shrink(model: PyTree) -> bool:
    """Whether a model has a Hamiltonian flow with learned step sizes."""
    return (
        isinstance(model, HVAE)
        and isinstance(model.flow, HamiltonianFlow)
        and model.flow.num_steps > 0
        and isinstance(model.flow.step_size, Learned)
    )


def _energy_error(model: HVAE, batch: Batch, key: PRNGKeyArray) -> float:
    """The 90th percentile over a batch of the largest |H_k - H_{k-1}|, nats; NaN counts as inf."""
    errors = np.asarray(_largest_errors(model, batch, key), np.float64)
    return float(np.quantile(np.where(np.isfinite(errors), errors, np.inf), 0.9, method="lower"))


@quickly_compiled(level=0)  # it runs once for each halving, on one batch
def _largest_errors(model: HVAE, batch: Batch, key: PRNGKeyArray) -> Float[Array, " batch"]:
    draws = draw_batch(model, batch, key=key)
    return each(draws, lambda draw: jnp.max(jnp.abs(draw.trajectory.energy_errors)))
