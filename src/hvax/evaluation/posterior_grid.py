"""The exact posterior of one data point, for models with two latent dimensions.

A sum over a fine grid gives p(x) to many digits, so the gaps of encoder and flow are known exactly
instead of being estimated by a bound.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.latent_model import AbstractLatentModel, posterior_of, potential_of

_CELLS = 120  # along each axis
_ZOOMS = 3  # how often the box is shrunk around the posterior
_KEPT = 14.0  # nats below the maximum that stay inside the box
_NOWHERE = -1e12  # nats: replaces log-densities that are not finite, where a decoder overflows
_BLOCK = 1024  # grid points decoded at once
_NODES = 24  # nodes of Gauss-Hermite quadrature along each axis


class Density(NamedTuple):
    """A log density on a grid over two axes, in nats, up to a constant."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    log_density: Float[np.ndarray, "second first"]


class Plane(NamedTuple):
    """log p(x, z) on a grid over the two latent axes, its integral, and the encoder's gap."""

    density: Density  # log p(x, z), nats: the posterior up to a constant
    log_p: float  # log p(x), nats
    kl: float | None  # KL(q(z | x) || p(z | x)), nats; None where q is not a diagonal Gaussian


def plane(model: AbstractLatentModel, row: Batch, *, cover: Float[np.ndarray, "points 2"]) -> Plane:
    """The exact posterior of one example, on a grid that covers its mass and the points `cover`."""
    posterior = posterior_of(model, row)
    mean, sigma = (np.asarray(a, np.float64) for a in (posterior.mean, posterior.sigma))
    low, high = np.minimum(-4, mean - 6 * sigma), np.maximum(4, mean + 6 * sigma)
    # The box shrinks to where the posterior is, so that the final grid resolves it however narrow.
    for _ in range(_ZOOMS):
        first, second, log_joint = _grid(model, row, low, high)
        rows, columns = np.nonzero(log_joint > log_joint.max() - _KEPT)
        pad = 2 * (high - low) / (_CELLS - 1)
        low = np.array([first[columns.min()], second[rows.min()]]) - pad
        high = np.array([first[columns.max()], second[rows.max()]]) + pad
    first, second, log_joint = _grid(model, row, low, high)
    cell = math.log((first[1] - first[0]) * (second[1] - second[0]))
    log_p = float(np.logaddexp.reduce(log_joint, axis=None)) + cell
    gaussian = isinstance(posterior, DiagonalGaussian)
    kl = log_p - _gaussian_elbo(model, row, mean, sigma) if gaussian else None
    near = np.concatenate([mean + 3 * sigma * np.array([[-1], [1]]), cover])
    low, high = np.minimum(low, near.min(axis=0)), np.maximum(high, near.max(axis=0))
    return Plane(_grid(model, row, low, high), log_p, kl)


def most_correlated_axes(model: AbstractLatentModel, row: Batch) -> tuple[int, int]:
    """The two latent axes that are most correlated in the posterior of x.

    They have the largest |H_ij| / sqrt(H_ii H_jj), H the Hessian of U at the encoder's mean.
    """
    hessian = np.asarray(_hessian(model, row), np.float64)
    scale = np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-12))
    correlation = np.nan_to_num(np.abs(np.triu(hessian / np.outer(scale, scale), k=1)))
    first, second = np.unravel_index(np.argmax(correlation), correlation.shape)
    return int(first), int(second)


def _grid(
    model: AbstractLatentModel, row: Batch, low: NDArray[np.float64], high: NDArray[np.float64]
) -> Density:
    first, second = (np.linspace(low[i], high[i], _CELLS) for i in (0, 1))
    z = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    log_joint = np.asarray(_log_joint(model, row, jnp.asarray(z, float)))
    log_joint = log_joint.reshape(_CELLS, _CELLS).astype(np.float64)
    return Density(first, second, np.where(np.isfinite(log_joint), log_joint, _NOWHERE))


def _gaussian_elbo(
    model: AbstractLatentModel, row: Batch, mean: NDArray[np.float64], sigma: NDArray[np.float64]
) -> float:
    """The ELBO of a diagonal Gaussian q in two dimensions, by Gauss-Hermite quadrature, nats."""
    node, weight = np.polynomial.hermite_e.hermegauss(_NODES)
    standard = np.stack(np.meshgrid(node, node), axis=-1).reshape(-1, 2)
    z = jnp.asarray(mean + sigma * standard, float)
    weights = np.outer(weight, weight).reshape(-1) / (2 * np.pi)
    entropy = float(np.log(sigma).sum()) + 1 + math.log(2 * math.pi)
    return float(weights @ np.asarray(_log_joint(model, row, z), np.float64)) + entropy


@eqx.filter_jit
def _log_joint(
    model: AbstractLatentModel, row: Batch, z: Float[Array, "points d"]
) -> Float[Array, " points"]:
    return -jax.lax.map(lambda z: potential_of(model, row)(z)[0], z, batch_size=_BLOCK)


@eqx.filter_jit
def _hessian(model: AbstractLatentModel, row: Batch) -> Float[Array, "d d"]:
    return jax.hessian(lambda z: potential_of(model, row)(z)[0])(posterior_of(model, row).mean)
