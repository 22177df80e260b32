"""Step sizes at which a flow's trajectories are stable for the data and the networks at hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from hvax.batch import Batch
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.tempering import NullTempering
from hvax.models.hvae import HVAE
from hvax.objectives import draw_batch, each
from hvax.parameters import Learned

CALM = 2.0  # nats: the energy error within which nine trajectories of ten start
_HALVINGS = 20


def with_stable_steps(model: HVAE, batch: Batch, *, key: PRNGKeyArray) -> tuple[HVAE, int]:
    """The model with its learned step sizes halved until nine trajectories of ten of a batch have
    no energy error above 2 nats; and how often they were halved.

    Leapfrog is stable below a step of about 2 / sqrt(curvature of U), which nobody knows before the
    data are seen; above it energy errors grow exponentially with the steps. A fixed step size is
    the user's and stays, and so does one that twenty halvings do not make stable.
    """
    given = model
    for halvings in range(_HALVINGS + 1):
        noise = jax.random.fold_in(key, halvings)
        if not can_shrink(model) or _energy_error(model, batch, noise) <= CALM:
            return model, halvings
        model = with_smaller_steps(model, 0.5)
    return given, 0  # no step is small enough: the fault is not the step's


def with_smaller_steps(model: PyTree, factor: ArrayLike) -> PyTree:
    """The model with the learned step sizes of its flow `factor` <= 1 times as long; other models,
    and step sizes that are fixed, as they are."""
    if not can_shrink(model):
        return model
    smaller = model.flow.step_size.scaled(factor)
    return eqx.tree_at(lambda m: m.flow.step_size, model, smaller)


def switched_off(model: HVAE) -> HVAE:
    """The same model with a flow of no steps: the plain VAE, with its numbers."""
    flow = HamiltonianFlow(0, 0.05, NullTempering(1.0))
    return HVAE(model.vae, flow, model.potential_for_flow)


def can_shrink(model: PyTree) -> bool:
    return (
        isinstance(model, HVAE)
        and isinstance(model.flow, HamiltonianFlow)
        and model.flow.num_steps > 0
        and isinstance(model.flow.step_size, Learned)
    )


def _energy_error(model: HVAE, batch: Batch, key: PRNGKeyArray) -> float:
    """The 90th percentile over a batch of the largest |H_k - H_{k-1}|; inf where one is NaN."""
    errors = np.asarray(_largest_errors(model, batch, key), np.float64)
    return float(np.quantile(np.where(np.isfinite(errors), errors, np.inf), 0.9, method="lower"))


@eqx.filter_jit
def _largest_errors(model: HVAE, batch: Batch, key: PRNGKeyArray) -> Float[Array, " batch"]:
    draws = draw_batch(model, batch, key=key)
    return each(draws, lambda draw: jnp.max(jnp.abs(draw.trajectory.energy_errors)))
