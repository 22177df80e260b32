"""The way of a flow through phase space, step by step, where the flow itself keeps the ends."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, PRNGKeyArray, PyTree
from numpy.typing import NDArray

from hvax.hamiltonian.gradient import with_aux
from hvax.models.hvae import HVAE, plain_vae
from hvax.models.origin import to_model
from hvax.models.vae import VAE

_ROWS = 256  # draws of one compiled call: one program serves every picture


class Positions(NamedTuple):
    """A flow's stages k = 0 ... K."""

    z: Float[Array, "stages d"]
    rho: Float[Array, "stages d"]  # after the tempering of step k
    log_refreshment: Float[Array, " stages"]  # of the transitions up to k
    energy_errors: Float[Array, " steps"]  # nats


class Paths(NamedTuple):
    """Draws of a model for n data points; K = 0 for a plain VAE.

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


class Noise(NamedTuple):
    """What a model draws: z_0 = mean + sigma * start, rho_0 = gamma / sqrt(beta_0), and what its
    momenta are refreshed with, in K rows or none."""

    start: Float[np.ndarray, "n draws d"]
    gamma: Float[np.ndarray, "n draws d"]
    xi: Float[np.ndarray, "n draws refreshments d"]


def noise(
    model: VAE | HVAE, points: int, draws: int, latent_size: int, *, key: PRNGKeyArray
) -> Noise:
    """Independent standard normals; from NumPy, which compiles nothing for a new shape."""
    normal = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel()).standard_normal
    flow = model.flow if isinstance(model, HVAE) else None
    refreshments = 0 if flow is None or flow.eta is None else flow.num_steps
    start, gamma = normal((2, points, draws, latent_size))
    xi = normal((points, draws, refreshments, latent_size))
    return Noise(start, gamma, xi)


def paths(model: VAE | HVAE, x: Num[NDArray, "n ..."], noise: Noise) -> Paths:
    """The draws of the model for each data point that this noise makes."""
    points, draws, _ = noise.start.shape
    count = points * draws
    rows = np.resize(np.arange(count), -(-count // _ROWS) * _ROWS).reshape(-1, _ROWS)
    flat = [array.reshape(count, *array.shape[2:]) for array in noise]
    pieces = [
        jax.device_get(
            _paths(
                model,
                jnp.asarray(to_model(model, x[some // draws])),
                *(jnp.asarray(a[some], float) for a in flat),
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
    space, later = model.flow.stages(
        potential, z=z, gamma=gamma, xi=xi, start=model.vae.posterior(x)
    )
    return Positions(
        jnp.concatenate([z[None], later.z]),
        jnp.concatenate([space.rho_init[None], later.rho]),
        jnp.append(jnp.zeros((), z.dtype), jnp.cumsum(later.log_refreshment)),
        space.energy_errors,
    )


@eqx.filter_jit
def _paths(model: PyTree, x: Array, start: Array, gamma: Array, xi: Array) -> tuple[Array, ...]:
    vae = plain_vae(model)

    def one(x: Array, start: Array, gamma: Array, xi: Array) -> tuple[Array, ...]:
        posterior = vae.posterior(x)
        start, gamma, xi = (noise.astype(posterior.mean.dtype) for noise in (start, gamma, xi))
        z = posterior.mean + posterior.sigma * start
        if isinstance(model, HVAE):
            beta = model.flow.tempering.beta(model.flow.num_steps)
            stages = positions(model, x, z=z, gamma=gamma, xi=xi)
        else:
            beta, nothing = jnp.ones((1,), z.dtype), jnp.zeros((1,), z.dtype)
            stages = Positions(z[None], gamma[None], nothing, nothing[:0])
        log_joint = -jax.vmap(lambda z: vae.potential(x)(z)[0])(stages.z)
        kinetic = 0.5 * (gamma @ gamma - beta * jnp.sum(stages.rho**2, axis=1))
        log_weight = log_joint - posterior.log_prob(z) + kinetic + stages.log_refreshment
        return posterior.mean, posterior.sigma, stages.z, log_weight, stages.energy_errors

    return jax.vmap(one)(x, start, gamma, xi)
