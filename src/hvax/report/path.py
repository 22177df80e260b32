"""The way of a flow through phase space, step by step, where the flow itself keeps the ends."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, PRNGKeyArray, PyTree

from hvax.hamiltonian.leapfrog import PhaseState, leapfrog_step, phase_state
from hvax.models.hvae import HVAE, HVAEOutputs
from hvax.models.vae import VAE


class Positions(NamedTuple):
    """A flow's stages k = 0 ... K."""

    z: Float[Array, "stages d"]
    rho: Float[Array, "stages d"]  # after the tempering of step k


class Paths(NamedTuple):
    """Draws of a model for n data points; K = 0 for a plain VAE.

    `log_weight` at stage k is log w of the flow stopped after k steps, a bound's draw of its own:

        log w_k = log p(x, z_k) - log q(z_0 | x) + |gamma|^2 / 2 - beta_k |rho_k|^2 / 2

    so at 0 it is the encoder's alone, and at K the model's.
    """

    z: Float[np.ndarray, "n draws stages d"]
    log_weight: Float[np.ndarray, "n draws stages"]  # nats
    energy_errors: Float[np.ndarray, "n draws K"]  # H_k - H_{k-1}, nats


def positions(
    model: HVAE, x: Num[Array, "..."], *, z: Float[Array, " d"], gamma: Float[Array, " d"]
) -> Positions:
    """The stages of the flow for x from z_0 = z and rho_0 = gamma / sqrt(beta_0)."""
    flow = model.flow
    beta = flow.tempering.beta(flow.num_steps).astype(z.dtype)
    rho = gamma / jnp.sqrt(beta[0])
    if flow.num_steps == 0:
        return Positions(z[None], rho[None])
    potential = (model.potential or VAE.potential)(model.vae, x)
    value_and_grad = flow.gradient.value_and_grad(potential)
    step_sizes = jnp.broadcast_to(flow.step_size.value, (flow.num_steps, z.size)).astype(z.dtype)

    def step(state: PhaseState, k: tuple[Array, Array]) -> tuple[PhaseState, Positions]:
        step_size, scaling = k
        moved = leapfrog_step(value_and_grad, state, step_size)
        moved = moved._replace(rho=scaling * moved.rho)
        return moved, Positions(moved.z, moved.rho)

    start = phase_state(value_and_grad, z=z, rho=rho)
    _, later = jax.lax.scan(step, start, (step_sizes, jnp.sqrt(beta[:-1] / beta[1:])))
    return Positions(jnp.concatenate([z[None], later.z]), jnp.concatenate([rho[None], later.rho]))


def paths(model: VAE | HVAE, x: Num[Array, "n ..."], num_draws: int, *, key: PRNGKeyArray) -> Paths:
    """`num_draws` draws of the model for each data point."""
    keys = jax.random.split(key, (len(x), num_draws))
    return Paths(*(np.asarray(array) for array in _paths(model, x, keys)))


def paths_from(
    model: VAE | HVAE,
    x: Num[Array, "..."],
    z: Float[Array, " d"],
    num_draws: int,
    *,
    key: PRNGKeyArray,
) -> Float[np.ndarray, "draws stages d"]:
    """Where flows go that all start at z, each with a momentum of its own."""
    if not isinstance(model, HVAE):
        return np.broadcast_to(np.asarray(z), (num_draws, 1, z.size))
    gamma = jax.random.normal(key, (num_draws, z.size), z.dtype)
    return np.asarray(_paths_from(model, x, z, gamma))


@eqx.filter_jit
def _paths(model: PyTree, x: Array, keys: PRNGKeyArray) -> tuple[Array, ...]:
    def one(x: Array, key: PRNGKeyArray) -> tuple[Array, ...]:
        outputs = model(x, key=key, latent=True)
        if not isinstance(outputs, HVAEOutputs):
            return outputs.z[None], outputs.log_weight[None], jnp.zeros((0,))
        space = outputs.phase_space
        stages = positions(model, x, z=space.z_init, gamma=space.gamma)
        log_joint = -jax.vmap(lambda z: model.vae.potential(x)(z)[0])(stages.z)
        kinetic = 0.5 * (space.gamma @ space.gamma - space.beta * jnp.sum(stages.rho**2, axis=1))
        return stages.z, log_joint - outputs.log_posterior + kinetic, space.energy_errors

    return jax.vmap(jax.vmap(one, in_axes=(None, 0)))(x, keys)


@eqx.filter_jit
def _paths_from(model: HVAE, x: Array, z: Array, gamma: Array) -> Array:
    return jax.vmap(lambda gamma: positions(model, x, z=z, gamma=gamma).z)(gamma)
