"""Many draws of a model for many data points, in bounded memory.

Draw s of data point i uses the key fold_in(fold_in(key, i), s), so the division into compiled calls
changes no draw. The encoder runs once per point, the flow once per draw.

At an outlier a flow may run away and ruin every log w. Therefore eight extra draws per point, the
pilot, decide which draws are scored: if at least half of them fail, the draws of the model's plain
VAE instead of the flow's. The pilot's draws are not scored themselves. So the decision is
independent of the scored weights, whose mean keeps the expectation p(x), and every bound holds.
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

from hvax.batch import Batch
from hvax.data.batches import padded_batches
from hvax.devices import model_rows_of, place
from hvax.hamiltonian.phase_space import PhaseSpace
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.hvae import guarded_log_weight, has_flow, without_flow
from hvax.models.latent_model import AbstractLatentModel, Draw, batch_of_posteriors, map_examples
from hvax.models.likelihood import AbstractLikelihood
from hvax.models.mixed import MixedLikelihood
from hvax.models.prior import StandardNormal
from hvax.models.standardize import StandardizedLikelihood

_POINTS = 32  # data points of one compiled call
# Draws of one compiled call, over all its points. On a CPU calls that fit the caches are fastest.
_ROWS, _ROWS_CPU = 16_384, 512
# Draws of a pilot, and the number of the first: a number that no scored draw has.
_PILOT, _FIRST_OF_PILOT = 8, 1 << 30


class PerDraw(NamedTuple):
    """Numbers of each draw, (points, draws)."""

    log_weight: Float[
        np.ndarray, "points samples"
    ]  # nats; with a flow the guarded one (`guarded_log_weight`)
    ran_away: Bool[
        np.ndarray, "points samples"
    ]  # whether the flow's own weight is negligible in it
    log_likelihood: Float[np.ndarray, "points samples"]  # log p(x | z_K), nats
    square_error: Float[np.ndarray, "points samples"]  # of E[x | z_K], mean over features
    # The next three describe the flow; the first two are NaN where plain draws are scored instead.
    distance: Float[np.ndarray, "points samples"]  # rms |z_K - z_0| / sigma of q(z_0 | x)
    energy_error: Float[np.ndarray, "points samples"]  # largest |H_k - H_{k-1}|, nats
    divergent: Bool[np.ndarray, "points samples"]
    kl: Float[np.ndarray, "points samples"]  # log q(z_0 | x) - log p(z_0): its mean is the KL


class Draws(NamedTuple):
    """All draws for some data points."""

    indices: NDArray[np.int64]  # (points,)
    posterior_mean: Float[np.ndarray, "points d"]
    kl: Float[
        np.ndarray, " points"
    ]  # KL(q(z_0 | x) || p(z)), nats; closed form if known, else by draws
    per_draw: PerDraw
    plain: Bool[np.ndarray, " points"]  # whether the plain VAE's draws were scored


class _Points(NamedTuple):
    """Some data points with their posteriors and the key: the arguments of `_draw`."""

    posterior: PyTree
    batch: Batch
    key: PRNGKeyArray
    indices: Int[Array, " points"]


def draws(
    model: AbstractLatentModel,
    data: Batch,
    *,
    num_samples: int,
    key: PRNGKeyArray,
    numbers: NDArray[np.int64] | None = None,
    done: Callable[[float], object] = lambda points: None,
) -> Iterator[Draws]:
    """`num_samples` draws for every example, a few examples at a time.

    `numbers` are the i of the examples' keys, by default their places; with them every call has one
    shape, however few the examples. `done(points)` is called after each compiled call with the
    number of points it has completed, a fraction if the draws of a point take several calls.
    """
    points = _POINTS if numbers is not None else min(_POINTS, len(data.x))
    rows = _ROWS_CPU if jax.default_backend() == "cpu" else _ROWS
    calls = math.ceil(num_samples * points / rows)
    width = math.ceil(num_samples / calls)
    # The pilot uses the shape of the scored draws, unless that is much larger: then it shares their
    # compiled program.
    pilot = width if points * width <= _ROWS_CPU else _PILOT
    for indices, mask in padded_batches(len(data.x), points):
        batch = model_rows_of(data, indices)
        posterior = _posteriors(model, batch)
        of_keys = indices if numbers is None else numbers[indices]
        some = _Points(posterior, batch, key, place(of_keys.astype(np.int32)))
        plain = mask & _flow_fails(model, some, pilot)
        progress = partial(_report_progress, done, mask.sum() / num_samples)
        all_draws = _in_pieces(model, some, range(num_samples), width, progress)
        if plain.any():
            of_vae = _in_pieces(without_flow(model), some, range(num_samples), width)
            all_draws = _where(plain, of_vae, all_draws)
        per_draw = PerDraw(*(column[mask] for column in all_draws))
        kl = _kl(model, posterior, per_draw.kl, mask)
        yield Draws(indices[mask], np.asarray(posterior.mean)[mask], kl, per_draw, plain[mask])


def _report_progress(done: Callable[[float], object], points_per_draw: float, count: int) -> None:
    done(count * points_per_draw)


def _flow_fails(model: AbstractLatentModel, some: _Points, width: int) -> NDArray[np.bool_]:
    """Points at which at least half of the pilot's draws diverge or have no finite log w."""
    if not has_flow(model):
        return np.zeros(len(some.indices), bool)
    samples = range(_FIRST_OF_PILOT, _FIRST_OF_PILOT + _PILOT)
    drawn = _in_pieces(model, some, samples, width)
    failed = ~np.isfinite(drawn.log_weight) | drawn.divergent
    return 2 * np.sum(failed, axis=1) >= _PILOT


def _in_pieces(
    model: AbstractLatentModel,
    some: _Points,
    samples: range,
    width: int,
    done: Callable[[int], None] | None = None,
) -> PerDraw:
    """The draws number `samples` of some points, `width` per call; a last surplus is dropped."""
    pieces = []
    for s in range(samples.start, samples.stop, width):
        pieces.append(jax.device_get(_draw(model, *some, jnp.arange(s, s + width))))
        if done is not None:
            done(min(width, samples.stop - s))
    whole = {name: np.concatenate([piece[name] for piece in pieces], axis=1) for name in pieces[0]}
    return PerDraw(**{name: column[:, : len(samples)] for name, column in whole.items()})


def _where(plain: NDArray[np.bool_], of_vae: PerDraw, of_flow: PerDraw) -> PerDraw:
    """The VAE's draws where `plain`, without the numbers that describe a flow's moves."""
    unknown = np.full_like(of_flow.distance, np.nan)
    of_vae = of_vae._replace(distance=unknown, energy_error=unknown, divergent=of_flow.divergent)
    return PerDraw(*(np.where(plain[:, None], *both) for both in zip(of_vae, of_flow, strict=True)))


@eqx.filter_jit
def _posteriors(model: AbstractLatentModel, batch: Batch) -> PyTree:
    return batch_of_posteriors(model, batch.x, batch.given())


def _kl(
    model: AbstractLatentModel,
    posterior: PyTree,
    drawn: Float[np.ndarray, "points samples"],
    mask: NDArray[np.bool_],
) -> Float[np.ndarray, " points"]:
    """KL(q(z_0 | x) || p(z)) of each point in nats: in closed form if known, else by draws."""
    if isinstance(posterior, DiagonalGaussian) and isinstance(model.prior, StandardNormal):
        kl = jax.vmap(lambda q: q.kl_from_standard_normal())(posterior)
        return np.asarray(kl, np.float64)[mask]
    return np.asarray(drawn, np.float64).mean(axis=1)


def _square_error(
    likelihood: AbstractLikelihood, x: Array, mean: Array, mask: Array | None
) -> Float[Array, ""]:
    """The mean over observed features of (x - E[x | z])^2; NaN if there are none.

    In standard deviations of each feature where the likelihood standardizes, since features may
    have different units. NaN too where no such mean makes sense: integer classes cannot be compared
    with class probabilities, nor columns of several kinds with one another.
    """
    if x.shape != mean.shape or isinstance(likelihood, MixedLikelihood):
        return jnp.asarray(jnp.nan)
    if isinstance(likelihood, StandardizedLikelihood):
        hidden = x if mask is None else jnp.where(mask, x, mean)
        x, mean = likelihood.standardized(hidden), likelihood.standardized(mean)
    if mask is None:
        return jnp.mean((x - mean) ** 2)
    return jnp.sum(jnp.where(mask, x - mean, 0.0) ** 2) / jnp.sum(mask)


@eqx.filter_jit
def _draw(
    model: AbstractLatentModel,
    posterior: PyTree,
    batch: Batch,
    key: PRNGKeyArray,
    indices: Int[Array, " points"],
    samples: Int[Array, " width"],
) -> dict[str, Array]:
    """The fields of `PerDraw` by name, each (points, width)."""

    def numbers(draw: Draw, target: Array, given: dict[str, Array]) -> dict[str, Array]:
        mean = model.decoder.likelihood.mean(draw.output)
        error = _square_error(model.decoder.likelihood, target, mean, given.get("mask"))
        log_w, ran_away = guarded_log_weight(model, draw, target, **given)
        energy, divergent = jnp.zeros(()), jnp.zeros((), bool)
        if isinstance(draw.trajectory, PhaseSpace):
            energy = jnp.max(jnp.abs(draw.trajectory.energy_errors), initial=0.0)
            divergent = draw.trajectory.divergent
        return dict(
            log_weight=log_w,
            ran_away=ran_away,
            log_likelihood=draw.log_likelihood,
            square_error=error,
            distance=jnp.sqrt(jnp.mean(((draw.z - draw.z_init) / draw.posterior.sigma) ** 2)),
            energy_error=energy,
            divergent=divergent,
            kl=draw.log_posterior - model.prior.log_prob(draw.z_init),
        )

    return each_draw(model, posterior, batch, numbers, key=key, indices=indices, samples=samples)


def each_draw(
    model: AbstractLatentModel,
    posterior: PyTree,
    batch: Batch,
    numbers: Callable[[Draw, Array, dict[str, Array]], PyTree],
    *,
    key: PRNGKeyArray,
    indices: Int[Array, " points"],
    samples: Int[Array, " width"],
) -> PyTree:
    """`numbers(draw, target, given)` of draws `samples` of every point: axes (points, width)."""
    # All draws are rows of one axis, not of two nested vmaps: that takes 0.6 of the time in XLA's
    # CPU backend (network 784-400-20, K = 3).
    shape = len(indices), len(samples)

    def in_rows(a: Any) -> Any:
        if not eqx.is_array(a):
            return a
        return jnp.broadcast_to(a[:, None], (*shape, *a.shape[1:])).reshape(-1, *a.shape[1:])

    def one(q: PyTree, target: Array, given: dict[str, Array], index: Array, s: Array) -> PyTree:
        draw_key = jax.random.fold_in(jax.random.fold_in(key, index), s)
        return numbers(model.draw(q, target, key=draw_key, **given), target, given)

    of_points = jax.tree.map(in_rows, (posterior, batch.scored, batch.given(), indices))
    rows = map_examples(one, *of_points, jnp.tile(samples, shape[0]))
    return jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), rows)
