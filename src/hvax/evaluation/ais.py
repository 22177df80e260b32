"""Annealed importance sampling (AIS) with Hamiltonian Monte Carlo: accurate bounds on log p(x).

Chains move from a start density p_0 (the prior, or q(z | x)) to the posterior through

    log f_b(z) = (1 - b) log p_0(z) + b log p(x, z),   0 = b_0 < b_1 < ... < b_T = 1
    log w = sum_t (b_t - b_{t-1}) (log p(x, z_{t-1}) - log p_0(z_{t-1}))

where z_t follows z_{t-1} by a Metropolis-corrected HMC transition that leaves f_{b_t} invariant.
E[w] = p(x), so the log of a mean of w is a stochastic lower bound. For data simulated from the
model an exact posterior draw is known; chains that run backwards from it satisfy E[1 / w] = 1 /
p(x), which gives an upper bound. log p(x) is between the two. Neal, "Annealed importance sampling"
(2001); Grosse, Ghahramani and Adams, "Sandwiching the marginal likelihood" (2015).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.checked_data import checked_data_with_warnings
from hvax.checks import check_key, count
from hvax.data.batches import PaddedBatch, padded_batches
from hvax.devices import model_rows_of
from hvax.evaluation.annealing import Start, Sweep
from hvax.evaluation.finished import Bounds, Finished, fingerprint
from hvax.evaluation.weights import log_mean_weight
from hvax.exceptions import FailedDraws, warn
from hvax.models.hvae import without_flow
from hvax.models.latent_model import AbstractLatentModel, check_model
from hvax.models.origin import origin_of, to_data
from hvax.progress import progress_bar

TEMPERATURES, CHAINS, LEAPFROG = 1000, 16, 10
"""Defaults of `annealed_importance_sampling`."""

_POINTS = 25  # data points of one compiled call
_SETTLE = 100  # transitions of the pilot at b_1, in which its step sizes settle


class AIS(NamedTuple):
    """Bounds on log p(x) of each data point in nats, and diagnostics of the chains."""

    lower: NDArray[np.float64]  # log (1/C) sum w over chains; -inf where every w is 0
    upper: NDArray[np.float64] | None  # -log (1/C) sum 1/w of the reverse chains
    acceptance: float  # mean over chains and temperatures of the forward run
    lost: int = 0  # chains, over all points, that failed: their weight counts as 0


class _Plan(NamedTuple):
    """The work for each batch of data points."""

    sweep: Sweep
    b: NDArray[np.float64]
    num_chains: int
    key: PRNGKeyArray
    posterior_draws: NDArray[np.floating] | None


def annealed_importance_sampling(
    model: AbstractLatentModel,
    data: Any,
    *,
    key: PRNGKeyArray,
    start: Start = "prior",
    num_temperatures: int = TEMPERATURES,
    num_chains: int = CHAINS,
    num_leapfrog: int = LEAPFROG,
    posterior_draws: Float[Array, "n d"] | Float[np.ndarray, "n d"] | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> AIS:
    """Stochastic bounds on log p(x) of each data point, for a model's decoder and prior, in nats.

    **Arguments:**

    - `data`: an array of examples (n, ...), a pair (x, target) or a `Batch`. Missing values (NaN)
      are left out of p(x): the bounds are on log p of the observed entries.
    - `start`: p_0, the prior or the encoder's posterior q(z | x).
    - `num_temperatures`, `num_chains`: T, and the number of chains per point.
    - `num_leapfrog`: leapfrog steps per transition. Step sizes, one per point and temperature, are
      adapted in a pilot run to an acceptance of 0.65 and then fixed.
    - `posterior_draws`: one exact draw from p(z | x) per point, (n, d), as `simulate` returns; with
      it the upper bound is computed too.
    - `checkpoint`: a folder for finished batches of 25 points. After a kill, the same call with the
      same model, data and key continues from them and returns the same numbers.

    A chain that overflows the decoder has w = 0 (1/w = 0 for the upper bound), so both bounds
    remain valid. If all chains of a point fail, its lower bound is -inf, with a warning
    (`FailedDraws`).

    Raises `ValueError` for numbers < 1, an unknown start, and a different number of
    `posterior_draws` than of points.
    """
    for name, number in (
        ("num_temperatures", num_temperatures),
        ("num_chains", num_chains),
        ("num_leapfrog", num_leapfrog),
    ):
        count(number, name)
    check_key(key)
    if start not in ("prior", "posterior"):
        raise ValueError(f"start must be 'prior' or 'posterior', got {start!r}.")
    check_model(model)
    vae = without_flow(model)
    parts = checked_data_with_warnings(model, data)
    n = len(parts.x)
    latents = None if posterior_draws is None else np.asarray(posterior_draws)
    if latents is not None and len(latents) != n:
        raise ValueError(f"posterior_draws must be one for each of {n} points, got {len(latents)}.")

    plan = _Plan(Sweep(vae, start, num_leapfrog), temperatures(num_temperatures), num_chains, key,
                 latents)  # fmt: skip
    finished = Finished(None, {})
    if checkpoint is not None:
        settings = {"start": start, "temperatures": num_temperatures, "chains": num_chains,
                    "leapfrog": num_leapfrog, "batch": _POINTS}  # fmt: skip
        finished = Finished(Path(checkpoint), fingerprint(vae, parts, latents, key, **settings))
    passes = transitions(num_temperatures, both=latents is not None)
    batches = list(padded_batches(n, min(_POINTS, n)))
    with progress_bar(
        progress=progress, total=len(batches) * passes, unit="temperature", desc="AIS"
    ) as bar:
        found = list(_each(plan, parts, batches, finished, passes, bar))
    lower, upper, acceptance, lost = zip(*found, strict=True)
    result = AIS(
        lower=np.concatenate(lower),
        upper=None if latents is None else np.concatenate(upper),
        acceptance=float(np.mean(np.concatenate(acceptance))),
        lost=int(np.sum(np.concatenate(lost))),
    )
    hopeless = np.flatnonzero(result.lower == -np.inf)
    if len(hopeless):
        warn(
            FailedDraws,
            f"every chain fails at {len(hopeless)} of {n} points, the first of them "
            f"{hopeless[0]}: the lower bound is -inf there.",
        )
    return result


def transitions(num_temperatures: int, *, both: bool) -> int:
    """HMC transitions of each chain: pilot and forward run, and if `both` the reverse run."""
    return (3 if both else 2) * num_temperatures + _SETTLE


def _each(
    plan: _Plan,
    data: Batch,
    batches: list[PaddedBatch],
    finished: Finished,
    passes: int,
    bar: Any,
) -> Iterator[Bounds]:
    """The bounds of each batch in turn; finished batches are not computed again."""
    for indices, mask in batches:
        begin = int(indices[0])
        known = finished.get(begin)
        if known is not None:
            bar.update(passes)
            yield known
            continue
        bounds = _batch(plan, model_rows_of(data, indices), indices, bar).only(mask)
        finished.add(begin, bounds)
        yield bounds


def _batch(plan: _Plan, x: Batch, indices: NDArray[np.int64], bar: Any) -> Bounds:
    """The lower bound, and with posterior draws the upper bound, for some data points."""
    sweep, b = plan.sweep, plan.b
    keys = jax.random.split(jax.random.fold_in(plan.key, int(indices[0])), 6)
    # A pilot run finds the step sizes. They are fixed afterwards, because chains that adapt while
    # they are scored would not leave f_b invariant. It stays at b_1 until the first has settled.
    slow = np.concatenate([np.full(_SETTLE, b[1]), b[1:]])
    chains = sweep.started(x, plan.num_chains, key=keys[0])
    pilot = sweep(x, chains, slow, np.diff(slow, prepend=b[1]), 0 * slow, None, keys[1], bar)
    steps = pilot.steps[:, _SETTLE:]
    chains = sweep.started(x, plan.num_chains, key=keys[2])
    done = sweep(x, chains, b[1:], np.diff(b), 0 * b[1:], steps, keys[3], bar)
    upper = None
    if plan.posterior_draws is not None:
        chains = sweep.repeated(
            x, jnp.asarray(plan.posterior_draws[indices], float), plan.num_chains
        )
        back = (b[:0:-1], 0 * b[1:], np.diff(b)[::-1], steps[:, ::-1])
        upper = -log_mean_weight(-sweep(x, chains, *back, keys[5], bar).log_weight)
    return Bounds(
        lower=log_mean_weight(done.log_weight),
        upper=upper,
        acceptance=done.acceptance.mean(axis=0),
        lost=np.sum(~np.isfinite(done.log_weight), axis=1),
    )


def simulate(
    model: AbstractLatentModel, num_points: int, latent_size: int, *, key: PRNGKeyArray
) -> tuple[Array | NDArray[Any], Array]:
    """`num_points` data points from the model, and the z of each, an exact draw from p(z | x).

    Returns x (n, *x_shape) and z (n, d). For a model with an origin x is a NumPy array of float64.
    """

    def one(key: PRNGKeyArray) -> tuple[Array, Array]:
        z_key, x_key = jax.random.split(key)
        z = model.prior.sample(latent_size, key=z_key)
        return model.decoder.likelihood.sample(model.decoder(z), key=x_key), z

    made, z = eqx.filter_jit(jax.vmap(one))(jax.random.split(key, num_points))
    return (made if origin_of(model) is None else to_data(model, made)), z


def temperatures(count: int) -> NDArray[np.float64]:
    """b_0 = 0 ... b_count = 1 along a sigmoid: dense at both ends, where densities change most."""
    t = np.tanh(2 * (2 * np.arange(count + 1) / count - 1))
    return (t - t[0]) / (t[-1] - t[0])
