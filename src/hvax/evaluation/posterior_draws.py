"""Draws of the true posterior p(z | x), of any latent size, for pictures.

Importance-resampled draws of the model start Hamiltonian Monte Carlo, which leaves p(z | x)
invariant: what the weights get wrong the chains repair, and no Gaussian is assumed.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from hvax.batch import Batch
from hvax.hamiltonian.gradient import ReverseMode
from hvax.hamiltonian.hmc import hmc_proposal
from hvax.hamiltonian.leapfrog import phase_state
from hvax.models.latent_model import AbstractLatentModel, posterior_of, potential_of

_CHAINS = 128  # a point
_ADAPTED, _KEPT = 20, 16  # iterations: while the step size adapts, and those whose states are kept
_LEAPFROG = 6
_TARGET, _GAIN = 0.75, 0.3  # acceptance, and how fast log step sizes follow it


class PosteriorDraws(NamedTuple):
    """Of n data points: dependent draws of p(z | x), and how often the last moves succeeded."""

    z: Float[np.ndarray, "n draws d"]
    acceptance: Float[np.ndarray, " n"]


def posterior_draws(
    model: AbstractLatentModel,
    data: Batch,
    z: Float[np.ndarray, "n proposals d"],
    log_weight: Float[np.ndarray, "n proposals"],
    *,
    key: PRNGKeyArray,
) -> PosteriorDraws:
    """Draws of p(z | x) by HMC from proposals with their log importance weights, in nats.

    128 chains a point, of which the states of the last 16 iterations are kept. A proposal whose
    weight is not finite has none; each point needs one that is. `data` are the points on the
    device, as the model takes them.
    """
    chain_key, start_key = jax.random.split(key)
    seeds = np.asarray(jax.random.key_data(start_key)).ravel()
    generator = np.random.default_rng(seeds)
    start = np.stack([resampled(z[i], log_weight[i], _CHAINS, generator) for i in range(len(z))])
    keys = jax.random.split(chain_key, (len(z), _CHAINS))
    states, acceptance = jax.device_get(_chains(model, data, jnp.asarray(start, float), keys))
    return PosteriorDraws(
        np.asarray(states, np.float64).reshape(len(z), -1, z.shape[-1]), acceptance
    )


def resampled(
    z: Float[np.ndarray, "m d"],
    log_weight: Float[np.ndarray, " m"],
    count: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, "count d"]:
    """Systematic resampling: z_i comes count * w_i / sum(w) times, rounded up or down."""
    log_w = np.where(np.isfinite(log_weight), log_weight.astype(np.float64), -np.inf)
    cumulative = np.cumsum(np.exp(log_w - log_w.max()))
    places = (np.arange(count) + generator.uniform()) / count * cumulative[-1]
    return z[np.minimum(np.searchsorted(cumulative, places, side="right"), len(z) - 1)]


@eqx.filter_jit
def _chains(
    model: AbstractLatentModel,
    data: Batch,
    start: Float[Array, "n chains d"],
    keys: Key[Array, "n chains"],
) -> tuple[Float[Array, "n kept chains d"], Float[Array, " n"]]:
    def of_point(row: Batch, z: Array, keys: Array) -> tuple[Array, Array]:
        sigma = posterior_of(model, row).sigma
        evaluate = ReverseMode().value_and_grad(potential_of(model, row))

        def move(z: Array, step: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
            rho_key, accept_key = jax.random.split(key)
            before = phase_state(evaluate, z=z, rho=jax.random.normal(rho_key, z.shape, z.dtype))
            after, accept, p = hmc_proposal(
                evaluate, before, step * sigma, _LEAPFROG, key=accept_key
            )
            return jnp.where(accept, after.z, z), p

        def iterate(carry: tuple[Array, Array], t: Array) -> tuple[Any, tuple[Array, Array]]:
            z, log_step = carry
            now = jax.vmap(lambda key: jax.random.fold_in(key, t))(keys)
            z, p = jax.vmap(move, (0, None, 0))(z, jnp.exp(log_step), now)
            # An iteration that still changes the step size keeps nothing.
            log_step = log_step + jnp.where(t < _ADAPTED, _GAIN * (p.mean() - _TARGET), 0.0)
            return (z, log_step), (z, p.mean())

        first = jnp.log(jnp.asarray(0.8 * z.shape[-1] ** -0.25, z.dtype))
        _, (states, p) = jax.lax.scan(iterate, (z, first), jnp.arange(_ADAPTED + _KEPT))
        return states[_ADAPTED:], p[_ADAPTED:].mean()

    return jax.lax.map(lambda each: of_point(*each), (data, start, keys))
