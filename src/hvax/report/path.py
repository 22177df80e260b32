"""The way of a flow through phase space, step by step, where the flow itself keeps the ends."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, PRNGKeyArray, PyTree
from numpy.typing import NDArray

from hvax.hamiltonian.leapfrog import PhaseState, leapfrog_step, phase_state
from hvax.models.hvae import HVAE, plain_vae
from hvax.models.vae import VAE

_ROWS = 256  # draws of one compiled call: one program serves every picture


class Positions(NamedTuple):
    """A flow's stages k = 0 ... K."""

    z: Float[Array, "stages d"]
    rho: Float[Array, "stages d"]  # after the tempering of step k
    energy_errors: Float[Array, " K"]  # H_k - H_{k-1}, nats


class Paths(NamedTuple):
    """Draws of a model for n data points; K = 0 for a plain VAE.

    `log_weight` at stage k is log w of the flow stopped after k steps, a bound's draw of its own:

        log w_k = log p(x, z_k) - log q(z_0 | x) + |gamma|^2 / 2 - beta_k |rho_k|^2 / 2

    so at 0 it is the encoder's alone, and at K the model's.
    """

    mean: Float[np.ndarray, "n d"]  # of q(z_0 | x)
    sigma: Float[np.ndarray, "n d"]
    z: Float[np.ndarray, "n draws stages d"]
    log_weight: Float[np.ndarray, "n draws stages"]  # nats
    energy_errors: Float[np.ndarray, "n draws K"]  # nats


class Noise(NamedTuple):
    """What a model draws: z_0 = mean + sigma * start, rho_0 = gamma / sqrt(beta_0)."""

    start: Float[np.ndarray, "n draws d"]
    gamma: Float[np.ndarray, "n draws d"]


def noise(points: int, draws: int, latent_size: int, *, key: PRNGKeyArray) -> Noise:
    """Independent standard normals; from NumPy, which compiles nothing for a new shape."""
    seed = np.asarray(jax.random.key_data(key)).ravel()
    normal = np.random.default_rng(seed).standard_normal((2, points, draws, latent_size))
    return Noise(*normal)


def paths(model: VAE | HVAE, x: Num[NDArray, "n ..."], noise: Noise) -> Paths:
    """The draws of the model for each data point that this noise makes."""
    points, draws, d = noise.start.shape
    count = points * draws
    rows = np.resize(np.arange(count), -(-count // _ROWS) * _ROWS).reshape(-1, _ROWS)
    flat = [array.reshape(count, d) for array in noise]
    pieces = [
        jax.device_get(
            _paths(
                model, jnp.asarray(x[some // draws]), *(jnp.asarray(a[some], float) for a in flat)
            )
        )
        for some in rows
    ]
    mean, sigma, *drawn = (
        np.concatenate(arrays)[:count].reshape(points, draws, *arrays[0].shape[1:])
        for arrays in zip(*pieces, strict=True)
    )
    return Paths(mean[:, 0], sigma[:, 0], *drawn)


def positions(
    model: HVAE, x: Num[Array, "..."], *, z: Float[Array, " d"], gamma: Float[Array, " d"]
) -> Positions:
    """The stages of the flow for x from z_0 = z and rho_0 = gamma / sqrt(beta_0)."""
    flow = model.flow
    beta = flow.tempering.beta(flow.num_steps).astype(z.dtype)
    rho = gamma / jnp.sqrt(beta[0])
    if flow.num_steps == 0:
        return Positions(z[None], rho[None], jnp.zeros((0,), z.dtype))
    potential = (model.potential or VAE.potential)(model.vae, x)
    value_and_grad = flow.gradient.value_and_grad(potential)
    step_sizes = jnp.broadcast_to(flow.step_size.value, (flow.num_steps, z.size)).astype(z.dtype)

    def step(state: PhaseState, k: tuple[Array, Array]) -> tuple[PhaseState, Positions]:
        step_size, scaling = k
        moved = leapfrog_step(value_and_grad, state, step_size)
        error = moved.energy - state.energy
        moved = moved._replace(rho=scaling * moved.rho)
        return moved, Positions(moved.z, moved.rho, error)

    start = phase_state(value_and_grad, z=z, rho=rho)
    _, later = jax.lax.scan(step, start, (step_sizes, jnp.sqrt(beta[:-1] / beta[1:])))
    return Positions(
        jnp.concatenate([z[None], later.z]),
        jnp.concatenate([rho[None], later.rho]),
        later.energy_errors,
    )


@eqx.filter_jit
def _paths(model: PyTree, x: Array, start: Array, gamma: Array) -> tuple[Array, ...]:
    vae = plain_vae(model)

    def one(x: Array, start: Array, gamma: Array) -> tuple[Array, ...]:
        posterior = vae.posterior(x)
        start, gamma = (noise.astype(posterior.mean.dtype) for noise in (start, gamma))
        z = posterior.mean + posterior.sigma * start
        if isinstance(model, HVAE):
            beta = model.flow.tempering.beta(model.flow.num_steps)
            stages = positions(model, x, z=z, gamma=gamma)
        else:
            beta = jnp.ones((1,), z.dtype)
            stages = Positions(z[None], gamma[None], jnp.zeros((0,), z.dtype))
        log_joint = -jax.vmap(lambda z: vae.potential(x)(z)[0])(stages.z)
        kinetic = 0.5 * (gamma @ gamma - beta * jnp.sum(stages.rho**2, axis=1))
        log_weight = log_joint - posterior.log_prob(z) + kinetic
        return posterior.mean, posterior.sigma, stages.z, log_weight, stages.energy_errors

    return jax.vmap(one)(x, start, gamma)
