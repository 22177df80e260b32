"""The paths of a model's draws through the latent space, stage by stage, for figures."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from hvax.batch import Batch
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.gradient import with_aux
from hvax.models.hvae import HVAE, has_flow
from hvax.models.latent_model import AbstractLatentModel, posterior_of, potential_of
from hvax.models.posterior import Posterior

_ROWS = 256  # draws of one compiled call: one program serves every figure


class Stages(NamedTuple):
    """One draw at stages k = 0 ... K of the flow: z_0 is the encoder's draw, z_K is decoded."""

    z: Float[Array, "stages d"]
    log_ratio: Float[Array, " stages"]  # nats, of the flow stopped there; 0 at stage 0
    energy_errors: Float[Array, " steps"]  # nats


class Paths(NamedTuple):
    """Draws of a model for n data points, stage by stage; K = 0 for a plain VAE.

    `log_weight` at stage k is log w of the flow stopped after k steps, a valid weight by itself:

        log w_k = log p(x, z_k) - log q(z_0 | x) + log_ratio_k,  E[exp(log w_k)] = p(x)

    At stage 0 it is the encoder's, at stage K the model's.
    """

    mean: Float[np.ndarray, "n d"]  # of q(z_0 | x)
    sigma: Float[np.ndarray, "n d"]
    z: Float[np.ndarray, "n draws stages d"]
    log_weight: Float[np.ndarray, "n draws stages"]  # nats
    energy_errors: Float[np.ndarray, "n draws steps"]  # nats; steps = 0 for a flow without energies


def paths(model: AbstractLatentModel, data: Batch, draws: int, *, key: PRNGKeyArray) -> Paths:
    """`draws` draws of a model for each data point, with the path of the flow.

    `data` are the points on the device, as the model takes them (its origin subtracted).

    Draw j of point i is that of `model.draw` with the key fold_in(fold_in(key, i), j). A
    `HamiltonianFlow` has a stage for each transition. Other flows, and a user's own model whose
    draws have a trajectory, have two stages, start and end. A model without a flow has one stage.
    """
    points = len(data.x)
    count = points * draws
    rows = np.resize(np.arange(count), -(-count // _ROWS) * _ROWS).reshape(-1, _ROWS)
    pieces = []
    for some in rows:
        point, draw = some // draws, some % draws
        batch = data.map(lambda part: part[point])  # noqa: B023
        pieces.append(jax.device_get(_paths(model, batch, jnp.stack([point, draw], axis=1), key)))
    mean, sigma, *drawn = (
        np.concatenate(arrays)[:count].reshape(points, draws, *arrays[0].shape[1:])
        for arrays in zip(*pieces, strict=True)
    )
    return Paths(mean[:, 0], sigma[:, 0], *drawn)


def hamiltonian_stages(
    model: HVAE,
    row: Batch,
    posterior: Posterior,
    *,
    z: Float[Array, " d"],
    gamma: Float[Array, " d"],
    xi: Float[Array, "K d"] | None,
) -> Stages:
    """The stages of a model's Hamiltonian flow for one example from z_0 = z, given the noise."""
    flow, followed = model.flow, model.followed(row.scored, **row.given())
    assert isinstance(flow, HamiltonianFlow)
    if model.potential_for_flow is not None:
        followed = with_aux(followed)
    space, later = flow.stages(followed, z=z, gamma=gamma, xi=xi, start=posterior)
    return Stages(
        jnp.concatenate([z[None], later.z]),
        jnp.append(jnp.zeros((1,), z.dtype), later.log_ratio),
        space.energy_errors,
    )


@eqx.filter_jit
def _paths(
    model: AbstractLatentModel, data: Batch, number: Int[Array, "rows 2"], key: PRNGKeyArray
) -> tuple[Array, ...]:
    def one(row: Batch, number: Int[Array, " 2"]) -> tuple[Array, ...]:
        posterior = posterior_of(model, row)
        own_key = jax.random.fold_in(jax.random.fold_in(key, number[0]), number[1])
        stages, log_weight = _drawn(model, row, posterior, own_key)
        return posterior.mean, posterior.sigma, stages.z, log_weight, stages.energy_errors

    return jax.vmap(one)(data, number)


def _drawn(
    model: AbstractLatentModel, row: Batch, posterior: Posterior, key: PRNGKeyArray
) -> tuple[Stages, Float[Array, " stages"]]:
    """The stages of one draw of the model, and log w at each of them."""
    potential = potential_of(model, row)
    if isinstance(model, HVAE) and isinstance(model.flow, HamiltonianFlow):
        z_key, flow_key = jax.random.split(key)  # as `HVAE.draw` does
        z, log_q = posterior.sample_and_log_prob(key=z_key)
        gamma, xi = model.flow.momenta(z, key=flow_key)
        stages = hamiltonian_stages(model, row, posterior, z=z, gamma=gamma, xi=xi)
        log_joint = jax.vmap(lambda z: -potential(z)[0])(stages.z)
        return stages, log_joint - log_q + stages.log_ratio
    draw = model.draw(posterior, row.scored, key=key, **row.given())
    moved = has_flow(model) if isinstance(model, HVAE) else draw.trajectory is not None
    if not moved:
        only = jnp.zeros((1,), draw.z.dtype)
        return Stages(draw.z[None], only, only[:0]), draw.log_weight[None]
    before = -potential(draw.z_init)[0] - draw.log_posterior
    after = draw.log_weight - (draw.log_likelihood + draw.log_prior - draw.log_posterior)
    log_ratio = jnp.stack([jnp.zeros_like(after), after])
    stages = Stages(jnp.stack([draw.z_init, draw.z]), log_ratio, log_ratio[:0])
    return stages, jnp.stack([before, draw.log_weight])
