"""Step sizes at which a flow's trajectories are stable for the data and the networks at hand."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.tempering import NullTempering
from hvax.models.hvae import HVAE
from hvax.objectives import each, forward
from hvax.parameters import Learned

CALM = 2.0  # nats: the energy error within which nine trajectories of ten start
_HALVINGS = 20


def with_calm_steps(
    model: HVAE, x: Array, x_out: Array | None, *, key: PRNGKeyArray
) -> tuple[HVAE, int]:
    """The model with its learned step sizes halved until nine trajectories of ten of a batch have
    no energy error above 2 nats; and how often they were halved.

    Leapfrog is stable below a step of about 2 / sqrt(curvature of U), which nobody knows before the
    data are seen; above it energy errors grow exponentially with the steps. A fixed step size is
    the user's and stays, and so does one that twenty halvings do not make stable.
    """
    given = model
    for halvings in range(_HALVINGS + 1):
        noise = jax.random.fold_in(key, halvings)
        if not can_shrink(model) or _energy_error(model, x, x_out, noise) <= CALM:
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


def without_flow(model: HVAE) -> HVAE:
    """The same model with a flow of no steps: the plain VAE, with its numbers."""
    flow = HamiltonianFlow(0, 0.05, NullTempering(1.0))
    return HVAE(model.vae, flow, model.potential)


def can_shrink(model: PyTree) -> bool:
    return (
        isinstance(model, HVAE)
        and model.flow.num_steps > 0
        and isinstance(model.flow.step_size, Learned)
    )


def _energy_error(model: HVAE, x: Array, x_out: Array | None, key: PRNGKeyArray) -> float:
    """The 90th percentile over a batch of the largest |H_k - H_{k-1}|; inf where one is NaN."""
    errors = np.asarray(_largest_errors(model, x, x_out, key), np.float64)
    return float(np.quantile(np.where(np.isfinite(errors), errors, np.inf), 0.9, method="lower"))


@eqx.filter_jit
def _largest_errors(
    model: HVAE, x: Array, x_out: Array | None, key: PRNGKeyArray
) -> Float[Array, " batch"]:
    outputs: Any = forward(model, x, x_out, key=key)
    return each(outputs, lambda one: jnp.max(jnp.abs(one.phase_space.energy_errors)))
