"""Imputation: draws of missing values given the observed ones, from a model's posterior.

z_1 ... z_S are drawn by the encoder and the flow, with weights w_s, from what is observed of a data
point. Some of them are chosen by weight (sampling importance resampling), and each gives one draw
x_missing ~ p(x_missing | z): as S grows, a draw of p(x_missing | x_observed).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.checks import count
from hvax.data.batches import padded_batches
from hvax.devices import model_rows_of
from hvax.evaluation.batching import BATCH, checked_parts, key_or_default
from hvax.evaluation.draws import each_draw
from hvax.exceptions import FailedDraws, warn
from hvax.models.hvae import without_flow
from hvax.models.latent_model import AbstractLatentModel, Draw, batch_of_posteriors
from hvax.models.mixed import mean_of_mixture
from hvax.models.origin import to_data
from hvax.progress import progress_bar
from hvax.quick_compile import quickly_compiled

_NUMBERS = 1 << 22  # decoded numbers that one compiled call may hold
_PER_DRAW = 10  # proposals for each draw, by default


@dataclass(frozen=True, eq=False)
class Imputed:
    """What a model makes of the missing values of n data points.

    Only missing values are stored; the properties put them between the observed ones, which are
    those of the data, unchanged.

    - `x`: the data, (n, *x_shape), NaN where a value is missing; `missing`: True there.
    - `means`, `draws_of_missing`: of the m missing values, in the order of `x[missing]`: (m,) and
      (num_draws, m).
    - `ess`: the effective sample size of each point's weights, out of `num_samples` draws of z; NaN
      where nothing is missing. Where it is small, take more `num_samples`.

    Nothing is checked: it raises no errors of its own, but for `interval`.
    """

    x: NDArray[Any]
    missing: NDArray[np.bool_]
    means: NDArray[Any]
    draws_of_missing: NDArray[Any]
    ess: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[Any]:
        """The data with E[x | observed] in the place of missing values, (n, *x_shape).

        For integer classes it is the most probable class.
        """
        return self._with(self.means)

    @property
    def draws(self) -> NDArray[Any]:
        """Completed data sets, each with one draw of all missing values: (num_draws, n, *x_shape).

        Analyze each and average the results (multiple imputation).
        """
        return np.stack([self._with(values) for values in self.draws_of_missing])

    @property
    def sd(self) -> NDArray[Any]:
        """The standard deviation of each missing value given the observed ones; 0 if observed."""
        found = np.zeros(self.x.shape)
        found[self.missing] = self.draws_of_missing.std(axis=0, ddof=1)
        return found

    def interval(self, level: float = 0.9) -> tuple[NDArray[Any], NDArray[Any]]:
        """Lower and upper ends that hold a missing value with probability `level`.

        Both are (n, *x_shape), with the data themselves where they are observed. The ends leave out
        (1 - level) / 2 on each side. Raises `ValueError` unless 0 < level < 1 - 2 / (num_draws +
        1): the ends of a wider interval are beyond all draws.
        """
        most = 1 - 2 / (len(self.draws_of_missing) + 1)
        if not 0 < level < 1 or level > most:
            raise ValueError(
                f"level must be > 0 and, with {len(self.draws_of_missing)} draws, at most "
                f"{most:.4g}, got {level}. Impute with more num_draws for wider intervals."
            )
        tail = (1 - level) / 2
        # "weibull" is the rank q (num_draws + 1): a new draw of the same distribution is then below
        # it with probability q exactly, however few draws there are.
        ends = np.quantile(self.draws_of_missing, [tail, 1 - tail], axis=0, method="weibull")
        return self._with(ends[0]), self._with(ends[1])

    def _with(self, values: NDArray[Any]) -> NDArray[Any]:
        filled = self.x.astype(np.promote_types(self.x.dtype, values.dtype))
        filled[self.missing] = values
        return filled

    def __repr__(self) -> str:
        n, rows = len(self.x), int(self.missing.reshape(len(self.x), -1).any(axis=1).sum())
        return (
            f"Imputed({int(self.missing.sum())} missing values in {rows} of {n} data points, "
            f"{len(self.draws_of_missing)} draws: .mean, .draws, .sd, .interval(0.9))"
        )


def impute(
    model: AbstractLatentModel,
    data: Any,
    *,
    key: PRNGKeyArray | None = None,
    num_draws: int = 100,
    num_samples: int | None = None,
    progress: bool = True,
) -> Imputed:
    """Draws of the missing values of each data point given its observed ones; see `Imputed`.

        found = hvax.impute(model, x)          # x has NaN where a value is missing
        x_full = found.mean
        low, high = found.interval(0.9)

    **Arguments:**

    - `data`: as in `encode`: an array (n, *x_shape) with NaN, a DataFrame, or a `Batch` with a
      mask.
    - `num_draws`: draws of each missing value, for intervals.
    - `num_samples`: draws of z from which those are resampled; 10 * num_draws by default.
    - `key`: `jax.random.key(0)` by default. Point i uses fold_in(key, i).

    Raises `ValueError` for numbers < 1, num_samples < num_draws, and what `encode` raises. Warns
    (`FailedDraws`) of points at which the flow fails, where the encoder's draws are taken instead.
    """
    num_draws = count(num_draws, "num_draws")
    num_samples = (
        _PER_DRAW * num_draws if num_samples is None else count(num_samples, "num_samples")
    )
    if num_samples < num_draws:
        raise ValueError(f"num_samples must be >= num_draws, {num_draws}, got {num_samples}.")
    key = key_or_default(key)
    parts = checked_parts(model, data)
    x, missing = _data_of(parts)
    flat = missing.reshape(len(x), -1)
    rows = np.flatnonzero(flat.any(axis=1))
    means = np.zeros(x.shape, _dtype(x))
    draws = np.zeros((num_draws, int(missing.sum())), means.dtype)
    ess = np.full(len(x), np.nan)
    place_of = np.cumsum(flat.sum(axis=1)) - flat.sum(axis=1)  # of a point's first missing value
    size = max(1, min(BATCH, _NUMBERS // (num_samples * math.prod(x.shape[1:])), len(rows)))
    fails: list[int] = []
    with progress_bar(
        progress=progress, total=len(rows), unit="point", desc="imputing", delay=1.0
    ) as bar:
        for some, real in padded_batches(len(rows), size) if len(rows) else ():
            which = rows[some]
            batch, indices = model_rows_of(parts, which), jnp.asarray(which, jnp.int32)
            found = jax.device_get(_impute(model, batch, key, indices, num_draws, num_samples))
            lost = real & ~np.isfinite(found[2])
            if lost.any():
                fails += which[lost].tolist()
                plain = without_flow(model)
                again = jax.device_get(_impute(plain, batch, key, indices, num_draws, num_samples))
                found = [_where(lost, b, a) for a, b in zip(found, again, strict=True)]
            mean, drawn = (to_data(model, array) for array in found[:2])
            for i in np.flatnonzero(real):
                row, holes = which[i], flat[which[i]]
                means[row].reshape(-1)[holes] = mean[i].reshape(-1)[holes]
                here = slice(place_of[row], place_of[row] + holes.sum())
                draws[:, here] = drawn[i].reshape(num_draws, -1)[:, holes]
                ess[row] = found[2][i]
            bar.update(int(real.sum()))
    if fails:
        warn(
            FailedDraws,
            f"the flow fails at {len(fails)} of {len(rows)} points with missing values "
            f"({', '.join(map(str, fails[:10]))}): the encoder's draws are taken there.",
        )
    return Imputed(x, missing, means[missing], draws, ess)


def _data_of(parts: Batch) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The scored data in their own units, NaN where missing, and where that is."""
    everything = slice(None)
    x = parts.scored[everything]
    if parts.mask is None:
        return x, np.zeros(x.shape, bool)
    missing = ~parts.mask.rows(everything)
    if not missing.any():
        return x, missing
    return np.where(missing, np.array(np.nan, _dtype(x)), x), missing


def _dtype(x: NDArray[Any]) -> Any:
    return x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)


def _where(chosen: NDArray[np.bool_], a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    return np.where(chosen.reshape(-1, *(1,) * (a.ndim - 1)), a, b)


@quickly_compiled(level=1)  # random numbers of counts compile slowly, and run as fast as at 3
def _impute(
    model: AbstractLatentModel,
    batch: Batch,
    key: PRNGKeyArray,
    indices: Int[Array, " points"],
    num_draws: int,
    num_samples: int,
) -> tuple[Array, Array, Float[Array, " points"]]:
    """E[x | observed] (points, *x_shape), draws (points, num_draws, *x_shape) of x, and the ESS.

    The last is NaN where no draw of z has a weight.
    """
    likelihood = model.decoder.likelihood
    classes = (
        jax.eval_shape(
            lambda z: likelihood.mean(model.decoder(z, *_condition(batch))),
            _one_latent(model, batch),
        ).shape
        != batch.scored.shape[1:]
    )

    def numbers(draw: Draw, *_: Any) -> tuple[Any, Array]:
        return draw.output, draw.log_weight

    # The draws of z and of x have different keys: the first index below is that of a point's draw.
    posterior = batch_of_posteriors(model, batch.x, batch.given())
    outputs, log_w = each_draw(
        model, posterior, batch, numbers, key=key, indices=indices,
        samples=jnp.arange(num_samples),
    )  # fmt: skip

    def one(output: Any, log_w: Array, index: Array) -> tuple[Array, Array, Array]:
        of_point = jax.random.fold_in(jax.random.fold_in(key, index), num_samples)
        place_key, x_key = jax.random.split(of_point)
        log_w = jnp.where(jnp.isfinite(log_w), log_w, -jnp.inf)
        weight = jnp.exp(log_w - jax.nn.logsumexp(log_w))
        mean = mean_of_mixture(likelihood, output, weight)
        chosen = resampled(weight, num_draws, key=place_key)
        picked = jax.tree.map(lambda a: a[chosen], output)
        drawn = jax.vmap(lambda output, key: likelihood.sample(output, key=key))(
            picked, jax.random.split(x_key, num_draws)
        )
        if classes:  # integer classes: the most probable one, and the classes drawn
            mean, drawn = jnp.argmax(mean, axis=-1), jnp.argmax(drawn, axis=-1)
        return mean, drawn, 1 / jnp.sum(weight**2)

    return jax.vmap(one)(outputs, log_w, indices)


def resampled(
    weight: Float[Array, " samples"], num_draws: int, *, key: PRNGKeyArray
) -> Int[Array, " draws"]:
    """Systematic resampling: index s comes num_draws * w_s times, rounded up or down at random."""
    cumulative = jnp.cumsum(weight)
    place = (jnp.arange(num_draws) + jax.random.uniform(key, dtype=weight.dtype)) / num_draws
    found = jnp.searchsorted(cumulative, place * cumulative[-1], side="right")
    return jnp.minimum(found, len(weight) - 1)


def _condition(batch: Batch) -> tuple[Any, ...]:
    return () if batch.condition is None else (batch.condition[0],)


def _one_latent(model: AbstractLatentModel, batch: Batch) -> Any:
    row = batch.map(lambda part: part[0])
    return eqx.filter_eval_shape(lambda m: m.posterior(row.x, **row.given()).mean, model)
