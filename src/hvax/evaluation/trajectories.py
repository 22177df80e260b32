"""The way of a flow through phase space, step by step, where the flow itself keeps the ends."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray
from numpy.typing import NDArray

from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.gradient import with_aux
from hvax.models.hvae import HVAE
from hvax.models.latent_model import AbstractLatentModel
from hvax.models.origin import to_model

_ROWS = 256  # draws of one compiled call: one program serves every picture


class Positions(NamedTuple):
    """A flow's stages k = 0 ... K."""

    z: Float[Array, "stages d"]
    rho: Float[Array, "stages d"]  # after the tempering of step k
    log_refreshment: Float[Array, " stages"]  # of the transitions up to k
    energy_errors: Float[Array, " steps"]  # nats


class Paths(NamedTuple):
    """Draws of a model for n data points; K = 0 without a flow, K = 1 for a flow that does not say
    where it was on its way.

    `log_weight` at stage k is log w of the flow stopped after k steps, a bound's draw of its own:

        log w_k = log p(x, z_k) - log q(z_0 | x) + |gamma|^2 / 2 - beta_k |rho_k|^2 / 2
                  + sum_{j <= k} log N(rho_{j-1}; 0, I / beta_{j-1}) - log N(rho'_j; same)

    so at 0 it is the encoder's alone, and at K the model's.
    """

    mean: Float[np.ndarray, "n d"]  # of q(z_0 | x)
    sigma: Float[np.ndarray, "n d"]
    z: Float[np.ndarray, "n draws stages d"]
    log_weight: Float[np.ndarray, "n draws stages"]  # nats
    energy_errors: Float[np.ndarray, "n draws steps"]  # nats


def paths(
    model: AbstractLatentModel, x: Num[NDArray, "n ..."], draws: int, *, key: PRNGKeyArray
) -> Paths:
    """So many draws of a model for each data point, with where the flow went.

    Draw j of point i is the model's own with the key fold_in(fold_in(key, i), j): z_0 comes from
    `posterior.sample_and_log_prob`, whatever the posterior is.
    """
    count = len(x) * draws
    rows = np.resize(np.arange(count), -(-count // _ROWS) * _ROWS).reshape(-1, _ROWS)
    pieces = []
    for some in rows:
        point, draw = some // draws, some % draws
        batch = jnp.asarray(to_model(model, x[point]))
        pieces.append(jax.device_get(_paths(model, batch, jnp.stack([point, draw], axis=1), key)))
    mean, sigma, *drawn = (
        np.concatenate(arrays)[:count].reshape(len(x), draws, *arrays[0].shape[1:])
        for arrays in zip(*pieces, strict=True)
    )
    return Paths(mean[:, 0], sigma[:, 0], *drawn)


def positions(
    model: HVAE,
    x: Num[Array, "..."],
    *,
    z: Float[Array, " d"],
    gamma: Float[Array, " d"],
    xi: Float[Array, "refreshments d"] | None = None,
) -> Positions:
    """The stages of the flow for x from z_0 = z and rho_0 = gamma / sqrt(beta_0)."""
    own = model.potential_for_flow
    potential = with_aux(model.potential(x) if own is None else own(model.vae, x))
    assert isinstance(model.flow, HamiltonianFlow)
    space, later = model.flow.stages(potential, z=z, gamma=gamma, xi=xi, start=model.posterior(x))
    return Positions(
        jnp.concatenate([z[None], later.z]),
        jnp.concatenate([space.rho_init[None], later.rho]),
        jnp.append(jnp.zeros((), z.dtype), jnp.cumsum(later.log_refreshment)),
        space.energy_errors,
    )


@eqx.filter_jit
def _paths(
    model: AbstractLatentModel, x: Array, number: Int[Array, "rows 2"], key: PRNGKeyArray
) -> tuple[Array, ...]:
    known = isinstance(model, HVAE) and isinstance(model.flow, HamiltonianFlow)
    of_one = _stages_of_flow if known else _ends

    def one(x: Array, number: Int[Array, " 2"]) -> tuple[Array, ...]:
        own_key = jax.random.fold_in(jax.random.fold_in(key, number[0]), number[1])
        posterior = model.posterior(x)
        return posterior.mean, posterior.sigma, *of_one(model, x, own_key)

    return jax.vmap(one)(x, number)


def _stages_of_flow(model: Any, x: Array, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
    """z and log w at each stage of a Hamiltonian flow, and its energy errors."""
    z_key, flow_key = jax.random.split(key)  # as `HVAE.draw` does
    z, log_q = model.posterior(x).sample_and_log_prob(key=z_key)
    gamma, xi = model.flow.momenta(z, key=flow_key)
    beta = model.flow.tempering.beta(model.flow.num_steps)
    stages = positions(model, x, z=z, gamma=gamma, xi=xi)
    kinetic = 0.5 * (gamma @ gamma - beta * jnp.sum(stages.rho**2, axis=1))
    log_joint = -jax.vmap(lambda z: model.potential(x)(z)[0])(stages.z)
    log_weight = log_joint - log_q + kinetic + stages.log_refreshment
    return stages.z, log_weight, stages.energy_errors


def _ends(model: AbstractLatentModel, x: Array, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
    """The same of any model: where a draw began, and where it ended if that is elsewhere."""
    draw = model.draw(model.posterior(x), x, key=key)
    nothing = jnp.zeros((0,), draw.log_weight.dtype)
    if draw.trajectory is None:
        return draw.z[None], draw.log_weight[None], nothing
    start = -model.potential(x)(draw.z_init)[0] - draw.log_posterior
    log_weight = jnp.stack([start, draw.log_weight])
    return jnp.stack([draw.z_init, draw.z]), log_weight, nothing
