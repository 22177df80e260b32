"""From data to the latent space and back: `encode`, `decode`, `reconstruct` and `sample`.

These functions take whole data sets (arrays with the batch axis first, also memory-mapped ones
larger than memory, or `Examples`) and return NumPy arrays. They work in compiled batches of one
size, so device memory does not grow with the data. Without a `key` they use `jax.random.key(0)`:
the same call then returns the same numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.checks import count, real_array
from hvax.data.examples import Examples
from hvax.evaluation.batching import BATCH, checked_parts, failed_points, in_batches, key_or_default
from hvax.evaluation.draws import each_draw
from hvax.exceptions import FailedDraws, warn
from hvax.models.data_point import ShapeMismatch
from hvax.models.hvae import has_flow
from hvax.models.inputs import innermost_name, needs_condition
from hvax.models.latent_model import AbstractLatentModel, Draw, batch_of_posteriors, map_examples
from hvax.models.latent_size import find_latent_size
from hvax.models.origin import to_data


class Encoding(NamedTuple):
    """The posteriors of n data points, with S draws each."""

    mean: Float[np.ndarray, "n d"]  # of q(z_0 | x)
    sigma: Float[np.ndarray, "n d"]
    z: Float[np.ndarray, "n S d"]  # after the flow; draws of q(z | x) for a plain VAE
    log_weight: Float[np.ndarray, "n S"]  # log w, nats; softmax over S weights z towards p(z | x)


def encode(
    model: AbstractLatentModel,
    data: Any,
    *,
    key: PRNGKeyArray | None = None,
    num_samples: int = 1,
    progress: bool = True,
) -> Encoding:
    """Encode every data point: mean and sigma of q(z_0 | x), and weighted draws after the flow.

        mean, sigma     of q(z_0 | x), (n, d); they do not depend on the key
        z, log_weight   (n, S, d) and (n, S) with S = num_samples: z_0 ~ q(z_0 | x), moved by the
                        flow; log w in nats, with E[exp(log w)] = p(x)

    Use `mean` as features for a classifier or a plot. Use `z`, weighted by softmax(log_weight) over
    S, as draws from the posterior. Draw s of point i uses fold_in(fold_in(key, i), s), as in
    `evaluate`.

    `data` is an array (n, *x_shape), a pair (x, target) whose first part is encoded, or a `Batch`.
    Raises `ValueError` for data of another shape or outside the likelihood's support, and for
    num_samples < 1. Warns (`FailedDraws`) if some z are not finite; `mean` and `sigma` are valid
    even then.

        features = hvax.encode(model, x).mean
    """
    num_samples = count(num_samples, "num_samples")
    key = key_or_default(key)
    parts = checked_parts(model, data)
    width = min(num_samples, BATCH)
    pieces = []
    for indices, mask, batch in in_batches(parts, progress, "encoding", max(1, BATCH // width)):
        calls = [
            jax.device_get(_encode(model, batch, key, indices, jnp.arange(s, s + width)))
            for s in range(0, num_samples, width)
        ]
        drawn = (np.concatenate([call[i] for call in calls], axis=1) for i in (2, 3))
        z, log_weight = (draws[:, :num_samples] for draws in drawn)
        pieces.append([array[mask] for array in (*calls[0][:2], z, log_weight)])
    found = Encoding(*(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))
    if (failed := failed_points(found.z)) is not None:
        warn(FailedDraws, f"z is not finite at {failed}: the flow fails there. Use `mean`.")
    return found


def reconstruct(
    model: AbstractLatentModel, data: Any, *, key: PRNGKeyArray | None = None, progress: bool = True
) -> NDArray[Any]:
    """E[x | z] of every data point at one draw of z after the flow: an array (n, *x_shape).

    Means are in the data's units: probabilities of bits, rates of counts; for integer classes class
    probabilities, in an additional last axis. Point i uses fold_in(key, i).

    `data` is an array (n, *x_shape), a pair (x, target) whose first part is encoded, or a `Batch`
    (a flow needs the target). Raises what `encode` raises. Warns (`FailedDraws`) if the result is
    not finite.

        error = np.mean((hvax.reconstruct(model, x) - x) ** 2)
    """
    key = key_or_default(key)
    parts = checked_parts(model, data)
    pieces = []
    for indices, mask, batch in in_batches(parts, progress, "reconstructing"):
        pieces.append(np.asarray(_reconstruct(model, batch, key, indices))[mask])
    made = to_data(model, np.concatenate(pieces))
    if (failed := failed_points(made)) is not None:
        warn(FailedDraws, f"reconstructions are not finite at {failed}: the flow fails there.")
    return made


def decode(
    model: AbstractLatentModel,
    z: ArrayLike,
    *,
    key: PRNGKeyArray | None = None,
    mean: bool = True,
    progress: bool = True,
) -> NDArray[Any]:
    """Decode latent points z (n, d): E[x | z], or with `mean=False` draws of x; (n, *x_shape).

    Draw i uses fold_in(key, i); a mean uses no key. Raises `TypeError` for what is no array of
    numbers, and `ValueError` for another shape.

        images = hvax.decode(model, hvax.encode(model, x).mean)
    """
    key = key_or_default(key)
    _check_no_condition(model)
    points = real_array(z, "z")
    if points.ndim != 2 or points.size == 0:
        one = " For one latent point give z[None]." if points.ndim == 1 else ""
        raise ValueError(f"z must have shape (n, d), got {points.shape}.{one}")
    if not jnp.issubdtype(points.dtype, jnp.floating):
        points = points.astype(float)
    pieces = []
    for indices, mask, some in in_batches(
        Batch(Examples(np.asarray(points))), progress, "decoding"
    ):
        pieces.append(np.asarray(_decode(model, some.x, key, indices, mean))[mask])
    return to_data(model, np.concatenate(pieces))


def _check_no_condition(model: AbstractLatentModel) -> None:
    """Raise `ValueError` for a decoder that cannot do without a condition."""
    if needs_condition(model.decoder.network):
        raise ValueError(
            f"the decoder must need no condition, got {innermost_name(model.decoder.network)}, "
            "which is called as network(z, condition): `sample` and `decode` take none. Decode "
            "each z yourself, with model.decoder(z, condition) (see docs/your-own.md)."
        )


def sample(
    model: AbstractLatentModel,
    n: int,
    *,
    key: PRNGKeyArray | None = None,
    mean: bool = False,
    latent_size: int | None = None,
    progress: bool = True,
) -> NDArray[Any]:
    """`n` new data points (n, *x_shape): z from the prior, then x from p(x | z).

    With `mean=True`, E[x | z] instead of a draw of x. The flow is not used: it is a part of the
    posterior. `latent_size` is needed only if it cannot be inferred from the networks. Raises
    `ValueError` for n < 1, and if `latent_size` is missing or does not suit the decoder.

        new = hvax.sample(model, 64, key=jax.random.key(1))
    """
    n = count(n, "n")
    _check_no_condition(model)
    z_key, x_key = jax.random.split(key_or_default(key))
    prior = model.prior
    d = find_latent_size(model) if latent_size is None else count(latent_size, "latent_size")
    z = jax.vmap(lambda key: prior.sample(d, key=key))(jax.random.split(z_key, n))
    return decode(model, z, key=x_key, mean=mean, progress=progress)


@eqx.filter_jit
def _encode(
    model: AbstractLatentModel,
    batch: Batch,
    key: PRNGKeyArray,
    indices: Int[Array, " rows"],
    samples: Int[Array, " width"],
) -> tuple[Array, ...]:
    def numbers(draw: Draw, *_: Any) -> tuple[Array, Array]:
        return draw.z, draw.log_weight

    posterior = batch_of_posteriors(model, batch.x, batch.given())
    drawn = each_draw(model, posterior, batch, numbers, key=key, indices=indices, samples=samples)
    return posterior.mean, posterior.sigma, *drawn


@eqx.filter_jit
def _reconstruct(
    model: AbstractLatentModel, batch: Batch, key: PRNGKeyArray, indices: Int[Array, " rows"]
) -> Array:
    def one(x: Array, target: Array, given: dict[str, Array], index: Array) -> Array:
        of_one = jax.random.fold_in(key, index)
        posterior = model.posterior(x, **given)
        try:
            output = model.draw(posterior, target, key=of_one, **given).output
        except ShapeMismatch:
            # x has another shape than the decoded data, and no target is given. A plain VAE can
            # still decode a draw, as nothing has to be scored; a flow needs the target's
            # likelihood.
            if batch.target is not None or has_flow(model):
                raise
            z, _ = posterior.sample_and_log_prob(key=jax.random.split(jax.random.clone(of_one))[0])
            output = model.decoder(z, given.get("condition"))
        return model.decoder.likelihood.mean(output)

    return map_examples(one, batch.x, batch.scored, batch.given(), indices)


@eqx.filter_jit
def _decode(
    model: AbstractLatentModel,
    z: Float[Array, "n d"],
    key: PRNGKeyArray,
    indices: Int[Array, " n"],
    mean: bool,
) -> Array:
    decoder = model.decoder

    def one(index: Array, z: Float[Array, " d"]) -> Array:
        output = decoder(z)
        if mean:
            return decoder.likelihood.mean(output)
        return decoder.likelihood.sample(output, key=jax.random.fold_in(key, index))

    return jax.vmap(one)(indices, z)
