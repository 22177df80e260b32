"""To the latent space and back: embeddings, samples, reconstructions, interpolations."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from numpy.typing import NDArray
from tqdm import tqdm

from hvax.data.batches import padded_batches
from hvax.data.examples import as_pair
from hvax.door import check_key, count, vector
from hvax.evaluation.draws import each_draw
from hvax.models.hvae import HVAEOutputs, plain_vae, reconstruct

_BATCH = 256  # rows of one compiled call


class Encoding(NamedTuple):
    """Embeddings of n data points; with S draws each where weights were asked for."""

    mean: Float[np.ndarray, "n d"]  # of q(z_0 | x)
    sigma: Float[np.ndarray, "n d"]
    z: Float[np.ndarray, "n S d"]  # after the flow; draws of q(z | x) for a plain VAE
    log_weight: Float[np.ndarray, "n S"]  # log w; softmax over S weighs z towards p(z | x)


def encode(
    model: PyTree, data: Any, *, key: PRNGKeyArray, num_samples: int = 1, progress: bool = True
) -> Encoding:
    """The encoder's mean and sigma, and z after the flow with its log-weight, for every point.

    Data are read batch by batch, so a memory-mapped array may be larger than memory. Draw s of
    point i uses fold_in(fold_in(key, i), s), as `evaluate` does.
    """
    num_samples = count(num_samples, "num_samples")
    check_key(key)
    pieces = list(_encoded(model, data, num_samples, key, progress))
    return Encoding(*(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))


def reconstructions(
    model: PyTree, data: Any, *, key: PRNGKeyArray, progress: bool = True
) -> NDArray[Any]:
    """E[x | z_K] of every point, at one draw each: pixels, rates or probabilities."""
    parts = as_pair(data, "data", check=plain_vae(model).decoder.likelihood.check)
    pieces = []
    for indices, mask, batch in _batches(parts, progress, "reconstructing"):
        pieces.append(np.asarray(_reconstruct(model, batch, key, indices))[mask])
    return np.concatenate(pieces)


def prior_samples(
    model: PyTree, num_samples: int, latent_size: int, *, key: PRNGKeyArray, mean: bool = False
) -> NDArray[Any]:
    """Samples of x with z from the prior; E[x | z] instead of a draw where `mean`."""
    z_key, x_key = jax.random.split(key)
    prior = plain_vae(model).prior
    keys = jax.random.split(z_key, num_samples)
    z = jax.vmap(lambda key: prior.sample(latent_size, key=key))(keys)
    return decoded(model, z, key=x_key, mean=mean)


def decoded(
    model: PyTree, z: Float[Array | np.ndarray, "n d"], *, key: PRNGKeyArray, mean: bool = False
) -> NDArray[Any]:
    """Draws of x, or E[x | z] where `mean`, at given latent points."""
    pieces = []
    for indices, mask in padded_batches(len(z), min(_BATCH, len(z))):
        where = jnp.asarray(indices, jnp.int32)
        pieces.append(np.asarray(_decode(model, jnp.asarray(z)[where], key, where, mean))[mask])
    return np.concatenate(pieces)


def interpolation(
    start: Float[Array | np.ndarray, " d"],
    end: Float[Array | np.ndarray, " d"],
    num_points: int,
    *,
    path: Literal["linear", "spherical"] = "spherical",
) -> Float[Array, "num_points d"]:
    """Latent points from `start` to `end`, both included.

    "spherical" turns and changes length at even rates, and so stays where a standard normal has
    its mass; between parallel ends it is the straight line. Raises `ValueError` for fewer than two
    points or an unknown path.
    """
    num_points = count(num_points, "num_points", least=2)
    start, end = vector(start, "start"), vector(end, "end")
    if start.shape != end.shape:
        raise ValueError(f"end must have the shape of start, {start.shape}, got {end.shape}.")
    if path not in ("linear", "spherical"):
        raise ValueError(f"path must be 'linear' or 'spherical', got {path!r}.")
    t = jnp.linspace(0.0, 1.0, num_points)
    lengths = jnp.linalg.norm(start), jnp.linalg.norm(end)
    angle = jnp.arccos(jnp.clip(start @ end / jnp.maximum(lengths[0] * lengths[1], 1e-12), -1, 1))
    if path == "linear" or bool(jnp.sin(angle) < 1e-4):
        return jnp.outer(1 - t, jnp.asarray(start)) + jnp.outer(t, jnp.asarray(end))
    length = (1 - t) * lengths[0] + t * lengths[1]
    first = jnp.sin((1 - t) * angle) / jnp.sin(angle) * length / lengths[0]
    last = jnp.sin(t * angle) / jnp.sin(angle) * length / lengths[1]
    return jnp.outer(first, jnp.asarray(start)) + jnp.outer(last, jnp.asarray(end))


def _encoded(
    model: PyTree, data: Any, num_samples: int, key: PRNGKeyArray, progress: bool
) -> Iterator[tuple[NDArray[Any], ...]]:
    parts = as_pair(data, "data", check=plain_vae(model).decoder.likelihood.check)
    size = max(1, _BATCH // num_samples)
    for indices, mask, batch in _batches(parts, progress, "encoding", size):
        yield tuple(np.asarray(a)[mask] for a in _encode(model, batch, key, indices, num_samples))


def _batches(
    parts: tuple[Any, ...], progress: bool, title: str, size: int = _BATCH
) -> Iterator[tuple[Any, ...]]:
    """(indices, mask, rows of each part), padded, with a progress bar."""
    n = len(parts[0])
    with tqdm(total=n, disable=not progress, unit="point", desc=title, leave=False) as bar:
        for indices, mask in padded_batches(n, min(size, n)):
            batch = tuple(jnp.asarray(part[indices]) for part in parts)
            yield jnp.asarray(indices, jnp.int32), mask, batch
            bar.update(int(mask.sum()))


@eqx.filter_jit
def _encode(
    model: PyTree, batch: tuple[Array, ...], key: PRNGKeyArray, indices: Array, num_samples: int
) -> tuple[Array, ...]:
    def numbers(outputs: PyTree, *_: Any) -> tuple[Array, Array]:
        flowed = isinstance(outputs, HVAEOutputs)
        return outputs.phase_space.z_final if flowed else outputs.z, outputs.log_weight

    posterior = jax.vmap(plain_vae(model).posterior)(batch[0])
    samples = jnp.arange(num_samples)
    drawn = each_draw(
        model, posterior, batch[-1], numbers, key=key, indices=indices, samples=samples
    )
    return posterior.mean, posterior.sigma, *drawn


@eqx.filter_jit
def _reconstruct(
    model: PyTree, batch: tuple[Array, ...], key: PRNGKeyArray, indices: Array
) -> Array:
    def one(index: Array, batch: tuple[Array, ...]) -> Array:
        return reconstruct(model, *batch, key=jax.random.fold_in(key, index))

    return jax.vmap(one)(indices, batch)


@eqx.filter_jit
def _decode(
    model: PyTree, z: Float[Array, "n d"], key: PRNGKeyArray, indices: Array, mean: bool
) -> Array:
    decoder = plain_vae(model).decoder

    def one(index: Array, z: Float[Array, " d"]) -> Array:
        output = decoder(z)
        if mean:
            return decoder.likelihood.mean(output)
        return decoder.likelihood.sample(output, key=jax.random.fold_in(key, index))

    return jax.vmap(one)(indices, z)
