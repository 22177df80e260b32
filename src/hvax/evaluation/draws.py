"""Many draws of a model's log-weights for many data points, in bounded memory.

Draw s of data point i uses the key fold_in(fold_in(key, i), s): how the work is cut into calls
changes no draw. The encoder runs once per point, the flow once per draw.

At an outlier a flow may run away, and every log w with it. Eight further draws of each point, with
keys of their own, are a pilot: where at least half of them fail, the point is scored by the draws
of the same model's plain VAE. The scored draws have no say in that, so that given the pilot each
point's mean weight has the expectation p(x) as before, and every bound made of it holds.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree
from numpy.typing import NDArray

from hvax.data.batches import padded_batches
from hvax.data.examples import Examples
from hvax.models.hvae import HVAEOutputs, guarded_log_weight, has_flow, plain_vae
from hvax.models.posterior import Posterior

_POINTS = 32  # data points of one compiled call
_ROWS, _ROWS_CPU = 16_384, 512  # its draws in all; on a CPU what fits its caches is fastest
_PILOT, _FIRST_OF_PILOT = 8, 1 << 30  # draws of a pilot, whose number no scored draw has


class PerDraw(NamedTuple):
    """Numbers of each draw; the first axis is the data points, the second the draws."""

    log_weight: Float[np.ndarray, "points samples"]  # nats; of a flow, see `guarded_log_weight`
    ran_away: Bool[np.ndarray, "points samples"]  # the flow, with nothing left of its weight
    log_likelihood: Float[np.ndarray, "points samples"]  # log p(x | z_K), nats
    square_error: Float[np.ndarray, "points samples"]  # of E[x | z_K], mean over features
    # Of the flow; the first two are NaN where plain draws are scored in its place.
    distance: Float[np.ndarray, "points samples"]  # rms |z_K - z_0| / sigma of q(z_0 | x)
    energy_error: Float[np.ndarray, "points samples"]  # largest |H_k - H_{k-1}|, nats
    divergent: Bool[np.ndarray, "points samples"]


class Draws(NamedTuple):
    """All draws for some data points, and their posteriors."""

    indices: NDArray[np.int64]  # (points,)
    posterior_mean: Float[np.ndarray, "points d"]
    posterior_sigma: Float[np.ndarray, "points d"]
    per_draw: PerDraw
    plain: Bool[np.ndarray, " points"]  # whether the plain VAE's draws were scored


class _Batch(NamedTuple):
    """What the draws of some data points need."""

    posterior: Posterior
    x: Array
    key: PRNGKeyArray
    indices: Int[Array, " points"]


def draws(
    model: PyTree,
    parts: tuple[Examples, ...],
    *,
    num_samples: int,
    key: PRNGKeyArray,
    done: Callable[[float], object] = lambda points: None,
) -> Iterator[Draws]:
    """`num_samples` draws for every example, a few examples at a time.

    `parts` is (x,) or (x_in, x_out). `done` is told, as the work goes, for how many more points
    the draws are there: fractions, since a point's draws may take many calls.
    """
    points = min(_POINTS, len(parts[0]))
    rows = _ROWS_CPU if jax.default_backend() == "cpu" else _ROWS
    calls = math.ceil(num_samples * points / rows)
    width = math.ceil(num_samples / calls)
    # The pilot is cut as the draws are, if that costs little: then it compiles nothing.
    pilot = width if points * width <= _ROWS_CPU else _PILOT
    for indices, mask in padded_batches(len(parts[0]), points):
        x = [jnp.asarray(part.seen(indices)) for part in parts]
        posterior = _posteriors(model, x[0])
        batch = _Batch(posterior, x[-1], key, jnp.asarray(indices, jnp.int32))
        plain = mask & _flow_fails(model, batch, pilot)
        told = partial(_tell, done, mask.sum() / num_samples)
        all_draws = _in_pieces(model, batch, range(num_samples), width, told)
        if plain.any():
            of_vae = _in_pieces(plain_vae(model), batch, range(num_samples), width)
            all_draws = _where(plain, of_vae, all_draws)
        mean, sigma = np.asarray(posterior.mean)[mask], np.asarray(posterior.sigma)[mask]
        per_draw = PerDraw(*(column[mask] for column in all_draws))
        yield Draws(indices[mask], mean, sigma, per_draw, plain[mask])


def _tell(done: Callable[[float], object], points_per_draw: float, count: int) -> None:
    done(count * points_per_draw)


def _flow_fails(model: PyTree, batch: _Batch, width: int) -> NDArray[np.bool_]:
    """Of which points at least half of the pilot's trajectories diverge, or give a log w that is
    not finite."""
    if not has_flow(model):
        return np.zeros(len(batch.indices), bool)
    samples = range(_FIRST_OF_PILOT, _FIRST_OF_PILOT + _PILOT)
    drawn = _in_pieces(model, batch, samples, width)
    failed = ~np.isfinite(drawn.log_weight) | drawn.divergent
    return 2 * np.sum(failed, axis=1) >= _PILOT


def _in_pieces(
    model: PyTree,
    batch: _Batch,
    samples: range,
    width: int,
    done: Callable[[int], None] | None = None,
) -> PerDraw:
    """These draws of some points, `width` of them a call; the last call's surplus is dropped."""
    pieces = []
    for s in range(samples.start, samples.stop, width):
        pieces.append(jax.device_get(_draw(model, *batch, jnp.arange(s, s + width))))
        if done is not None:
            done(min(width, samples.stop - s))
    whole = (np.concatenate(arrays, axis=1) for arrays in zip(*pieces, strict=True))
    return PerDraw(*(column[:, : len(samples)] for column in whole))


def _where(plain: NDArray[np.bool_], of_vae: PerDraw, of_flow: PerDraw) -> PerDraw:
    """The VAE's draws where `plain`; how far the flow moves, it then does not say."""
    unknown = np.full_like(of_flow.distance, np.nan)
    of_vae = of_vae._replace(distance=unknown, energy_error=unknown, divergent=of_flow.divergent)
    return PerDraw(*(np.where(plain[:, None], *both) for both in zip(of_vae, of_flow, strict=True)))


@eqx.filter_jit
def _posteriors(model: PyTree, x: Array) -> Posterior:
    return jax.vmap(plain_vae(model).posterior)(x)


@eqx.filter_jit
def _draw(
    model: PyTree,
    posterior: Posterior,
    x: Array,
    key: PRNGKeyArray,
    indices: Int[Array, " points"],
    samples: Int[Array, " width"],
) -> tuple[Any, ...]:
    mean_of = plain_vae(model).decoder.likelihood.mean

    def numbers(outputs: PyTree, posterior: Posterior, x: Array) -> tuple[Any, ...]:
        mean = mean_of(outputs.decoder)
        # Integer classes are not comparable with class probabilities: no square error.
        error = jnp.mean((x - mean) ** 2) if x.shape == mean.shape else jnp.asarray(jnp.nan)
        moved, energy, divergent = jnp.zeros(()), jnp.zeros(()), jnp.zeros((), bool)
        log_w, ran_away = outputs.log_weight, jnp.zeros((), bool)
        if has_flow(model):
            log_w, ran_away = guarded_log_weight(model, outputs, x)
        if isinstance(outputs, HVAEOutputs):
            space = outputs.phase_space
            moved = jnp.sqrt(jnp.mean(((space.z_final - space.z_init) / posterior.sigma) ** 2))
            energy = jnp.max(jnp.abs(space.energy_errors), initial=0.0)
            divergent = space.divergent
        return log_w, ran_away, outputs.log_likelihood, error, moved, energy, divergent

    return each_draw(model, posterior, x, numbers, key=key, indices=indices, samples=samples)


def each_draw(
    model: PyTree,
    posterior: Posterior,
    x: Array,
    numbers: Callable[[PyTree, Posterior, Array], PyTree],
    *,
    key: PRNGKeyArray,
    indices: Int[Array, " points"],
    samples: Int[Array, " width"],
) -> PyTree:
    """What `numbers(outputs, posterior, x)` makes of every draw; axes (points, width) lead.

    All draws stand in one axis, and not the points' draws in two: XLA's CPU backend then takes
    0.6 of the time (784-400-20, K = 3).
    """
    shape = len(indices), len(samples)

    def in_rows(a: Array) -> Array:
        return jnp.broadcast_to(a[:, None], (*shape, *a.shape[1:])).reshape(-1, *a.shape[1:])

    def one(index: Array, sample: Array, posterior: Posterior, x: Array) -> PyTree:
        draw_key = jax.random.fold_in(jax.random.fold_in(key, index), sample)
        return numbers(model.draw(posterior, x, key=draw_key), posterior, x)

    of_points = jax.tree.map(in_rows, (indices, posterior, x))
    rows = jax.vmap(one)(of_points[0], jnp.tile(samples, shape[0]), *of_points[1:])
    return jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), rows)
