"""Many draws of a model's log-weights for many data points, in bounded memory.

Draw s of data point i uses the key fold_in(fold_in(key, i), s): how the work is cut into calls
changes no draw. The encoder runs once per point, the flow once per draw.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree
from numpy.typing import NDArray

from hvax.data.batches import padded_batches
from hvax.data.examples import Examples
from hvax.models.hvae import HVAEOutputs, plain_vae

_POINTS, _ROWS = 32, 2048  # data points, and draws in all, of one compiled call


class Draws(NamedTuple):
    """All draws for some data points."""

    indices: NDArray[np.int64]  # (points,)
    log_weight: Float[np.ndarray, "points samples"]  # nats
    distance: Float[np.ndarray, "points samples"]  # rms |z_K - z_0| / sigma of q(z_0 | x)
    divergent: Bool[np.ndarray, "points samples"]


def draws(
    model: PyTree, parts: tuple[Examples, ...], *, num_samples: int, key: PRNGKeyArray
) -> Iterator[Draws]:
    """`num_samples` draws for every example, a few examples at a time.

    `parts` is (x,) or (x_in, x_out).
    """
    points = min(_POINTS, len(parts[0]))
    calls = math.ceil(num_samples * points / _ROWS)
    width = math.ceil(num_samples / calls)
    for indices, mask in padded_batches(len(parts[0]), points):
        batch = tuple(jnp.asarray(part[indices]) for part in parts)
        posterior = _posteriors(model, batch[0])
        where = jnp.asarray(indices, jnp.int32)
        pieces = [
            jax.device_get(
                _draw(model, posterior, batch[-1], key, where, start + jnp.arange(width))
            )
            for start in range(0, num_samples, width)
        ]
        joined = (
            np.concatenate(arrays, axis=1)[mask, :num_samples]
            for arrays in zip(*pieces, strict=True)
        )
        yield Draws(indices[mask], *joined)


@eqx.filter_jit
def _posteriors(model: PyTree, x: Array) -> PyTree:
    return jax.vmap(plain_vae(model).posterior)(x)


@eqx.filter_jit
def _draw(
    model: PyTree,
    posterior: PyTree,
    x: Array,
    key: PRNGKeyArray,
    indices: Int[Array, " points"],
    samples: Int[Array, " width"],
) -> tuple[Any, ...]:
    def one(index: Array, sample: Array, posterior: PyTree, x: Array) -> tuple[Any, ...]:
        draw_key = jax.random.fold_in(jax.random.fold_in(key, index), sample)
        outputs = model.draw(posterior, x, key=draw_key)
        if not isinstance(outputs, HVAEOutputs):
            return outputs.log_weight, jnp.zeros(()), jnp.zeros((), bool)
        space = outputs.phase_space
        moved = (space.z_final - space.z_init) / posterior.sigma
        return outputs.log_weight, jnp.sqrt(jnp.mean(moved**2)), space.divergent

    per_sample = jax.vmap(one, in_axes=(None, 0, None, None))
    return jax.vmap(per_sample, in_axes=(0, None, 0, 0))(indices, samples, posterior, x)
