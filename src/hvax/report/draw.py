"""A model and its test data -> the arrays that the pictures show."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from numpy.typing import NDArray

from hvax.data.examples import Examples
from hvax.evaluation.latent import decode
from hvax.evaluation.trajectories import noise, paths
from hvax.models.hvae import HVAE, plain_vae
from hvax.models.likelihood import Categorical
from hvax.models.vae import VAE


class Reconstructed(NamedTuple):
    """Inputs and E[x | z_K] at one draw each, of one shape."""

    rows: NDArray[np.int64]  # of the test data
    x: NDArray[Any]
    mean: NDArray[Any]


class Embedded(NamedTuple):
    """Data points in the latent space: the encoder's means, and one z_K each."""

    mean: Float[np.ndarray, "n d"]
    z: Float[np.ndarray, "n d"]


class Projection(NamedTuple):
    """Two coordinates of each point, and what the axes are."""

    mean: Float[np.ndarray, "n 2"]
    z: Float[np.ndarray, "n 2"]
    explained: tuple[float, float] | None  # of the means' variance, where the axes are principal


def spaced(count: int, most: int) -> NDArray[np.int64]:
    """At most so many indices, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def reconstructed(
    model: VAE | HVAE, test: Examples, rows: NDArray[np.int64], *, key: PRNGKeyArray
) -> Reconstructed:
    """Some test points and their reconstructions.

    Vectors of classes are one-hot; images of classes show the most probable one.
    """
    noise_key, decoder_key = jax.random.split(key)
    x = test[rows]
    z = paths(model, x, noise(model, len(x), 1, latent_size(model, x), key=noise_key)).z[:, 0, -1]
    mean = decode(model, z, key=decoder_key, progress=False)
    likelihood = plain_vae(model).decoder.likelihood
    if isinstance(likelihood, Categorical):
        x = np.eye(likelihood.num_classes)[x] if x.shape != mean.shape else x
        if x.ndim > 3:
            x, mean = x.argmax(axis=-1), mean.argmax(axis=-1)
    return Reconstructed(rows, x, mean)


def embedded(
    model: VAE | HVAE, test: Examples, rows: NDArray[np.int64], *, key: PRNGKeyArray
) -> Embedded:
    """Some test points in the latent space."""
    x = test[rows]
    found = paths(model, x, noise(model, len(x), 1, latent_size(model, x), key=key))
    return Embedded(found.mean, found.z[:, 0, -1])


def latent_size(model: VAE | HVAE, x: NDArray[Any]) -> int:
    """The dimension of z."""
    one = jax.ShapeDtypeStruct(x.shape[1:], jnp.asarray(x[:1]).dtype)
    return jax.eval_shape(plain_vae(model).posterior, one).mean.shape[0]


def projected(points: Embedded) -> Projection:
    """The two latent axes where there are two, else the means' first two principal axes."""
    if points.mean.shape[1] == 2:
        return Projection(points.mean, points.z, None)
    center = points.mean.mean(axis=0)
    axes, explained = principal_axes(points.mean - center)
    return Projection((points.mean - center) @ axes, (points.z - center) @ axes, explained)


def principal_axes(
    centerd: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, "d 2"], tuple[float, float]]:
    """Two orthonormal directions of largest variance, and their fractions of it.

    Each points to where its largest component is positive.
    """
    _, singular, directions = np.linalg.svd(centerd.astype(np.float64), full_matrices=False)
    axes = directions[:2].T
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(2)])
    variance = singular**2
    first, second = variance[:2] / max(variance.sum(), np.finfo(float).tiny)
    return axes, (float(first), float(second))


def one_of_each(labels: NDArray[Any] | None, count: int, most: int) -> NDArray[np.int64]:
    """Indices of a few points: of different labels where there are labels, else evenly spaced."""
    if labels is None:
        return spaced(count, most)
    _, first = np.unique(labels, return_index=True)
    chosen = first[spaced(len(first), most)].astype(np.int64)
    others = np.setdiff1d(np.arange(count), chosen)
    lacking = min(most - len(chosen), len(others))
    more = others[np.linspace(0, len(others) - 1, lacking + 2)[1:-1].astype(np.int64)]
    return np.append(chosen, more) if lacking else chosen
