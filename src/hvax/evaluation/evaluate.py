"""Evaluation of a trained model on held-out data: ELBO, NLL, their errors and diagnostics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.checked_data import checked_data_with_warnings
from hvax.checks import check_key, count
from hvax.data.examples import Examples
from hvax.evaluation.diagnosis import ESS as ESS
from hvax.evaluation.diagnosis import K_HAT as K_HAT
from hvax.evaluation.diagnosis import diagnose
from hvax.evaluation.draws import Draws, draws
from hvax.evaluation.result import Evaluation, standard_error
from hvax.evaluation.result import difference as difference
from hvax.evaluation.weights import WeightStatistics, importance_bound, weight_statistics
from hvax.exceptions import FailedDraws, UntrustedNLL, warn
from hvax.hamiltonian.abstract_flow import AbstractFlow
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.models.hvae import HVAE, has_flow
from hvax.models.latent_model import AbstractLatentModel
from hvax.models.likelihood import Bernoulli
from hvax.progress import progress_bar

ACTIVE = 0.01
"""A latent unit is active where the variance over x of its posterior mean exceeds this."""

_CALL_OVERHEAD = 5e-4  # seconds of a call that are not computation


def evaluate(
    model: AbstractLatentModel,
    data: Any,
    *,
    key: PRNGKeyArray,
    num_samples: int = 500,
    progress: bool = True,
) -> Evaluation:
    """ELBO, log-likelihood and diagnostics of `data` in nats, from `num_samples` draws per point.

    `data` is an array with the batch axis first, a pair (x, target) of arrays, or a `Batch`. The
    draws of point i depend only on `key` and i. Raises `TypeError` and `ValueError` for data of the
    wrong type, shape or range, and for num_samples < 1.

    Points at which the flow runs away are scored by the encoder's draws, without the flow. Eight
    separate draws per point, which are not scored, decide this, so every bound remains valid.

    Warns (`FailedDraws`) of such points and of draws that are not finite. Warns (`UntrustedNLL`) if
    at most points log w is too large for floats to tell draws apart, which means that the data's
    scale does not suit the likelihood.
    """
    num_samples = count(num_samples, "num_samples")
    check_key(key)
    parts = checked_data_with_warnings(model, data)
    sizes = sorted({size for size in (1, 10, 100) if size <= num_samples} | {num_samples})
    collected = _Collected(sizes)
    with progress_bar(
        progress=progress, total=len(parts.x), unit="point", desc="evaluating",
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total_fmt} points "
        "[{elapsed}<{remaining}]",
    ) as bar:  # fmt: skip
        clock = _Clock(num_samples, bar.update)
        for some in draws(model, parts, num_samples=num_samples, key=key, done=clock.done):
            collected.add(some)
    scores = collected.evaluation(
        model,
        num_samples,
        gray=_is_gray(model, parts.scored),
        seconds_per_gradient=clock.seconds_per_draw() / _gradients(model),
    )
    failed = scores.failed()
    if failed is not None:
        warn(FailedDraws, failed)
    if 2 * scores.diagnosis.unresolved > scores.num_points:
        # Other causes of distrust are left to the reader of the NLL; this one is a mistake in the
        # data.
        message = " ".join(scores.untrusted_because().split())
        warn(UntrustedNLL, message.removeprefix(f"{UntrustedNLL.name}: "))
    return scores


class _Clock:
    """Measures the time per draw as that of the quickest call.

    The first call compiles, and others may wait for the host, so a mean would be too large.
    """

    def __init__(self, draws_per_point: int, then: Callable[[float], object]):
        self._draws, self._then = draws_per_point, then
        self._last: float | None = None
        self._quickest = math.nan

    def done(self, points: float) -> None:
        """Record that the draws of `points` more points are finished."""
        now, before = time.perf_counter(), self._last
        if before is not None:
            seconds = max(now - before - _CALL_OVERHEAD, 0.0) / (points * self._draws)
            self._quickest = min(seconds, self._quickest, key=_nan_last)
        self._last = now
        self._then(points)

    def seconds_per_draw(self) -> float:
        """NaN after a single call, which compiled."""
        return self._quickest


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _gradients(model: AbstractLatentModel) -> float:
    """What a draw costs, in gradients of log p(x, z): a run of the decoder is a third of one."""
    if not isinstance(model, HVAE) or not has_flow(model):
        return 1 / 3
    return float(model.flow.num_gradients + 1)


class _Collected:
    """What is kept of the draws: numbers per point, never the draws themselves."""

    def __init__(self, bound_sizes: Sequence[int]):
        self._sizes = bound_sizes
        self._weights: list[WeightStatistics] = []
        self._bounds: list[NDArray[np.float64]] = []
        self._posterior: list[tuple[NDArray[Any], NDArray[np.float64]]] = []
        self._means: list[NDArray[np.float64]] = []

    def add(self, some: Draws) -> None:
        each = some.per_draw
        self._weights.append(weight_statistics(each.log_weight, some.plain))
        self._bounds.append(
            np.stack([importance_bound(each.log_weight, size) for size in self._sizes])
        )
        self._posterior.append((some.posterior_mean, some.kl))
        finite = np.isfinite(each.log_weight) & ~each.ran_away
        self._means.append(
            np.stack([
                _over_draws(np.nanmean, each.log_likelihood, finite),
                _over_draws(np.nanmean, each.square_error, finite),
                _over_draws(np.nanmean, each.distance, finite),
                _over_draws(np.nanmedian, each.energy_error, finite),
                each.divergent.mean(axis=1, dtype=np.float64),
            ])
        )  # fmt: skip

    def evaluation(
        self,
        model: AbstractLatentModel,
        num_samples: int,
        *,
        gray: bool,
        seconds_per_gradient: float,
    ) -> Evaluation:
        weights = WeightStatistics(*(np.concatenate(a) for a in zip(*self._weights, strict=True)))
        mean, kl = (np.concatenate(a) for a in zip(*self._posterior, strict=True))
        log_likelihood, square_error, distance, energy, divergent = (
            row[~np.isnan(row)] for row in np.concatenate(self._means, axis=1)
        )
        bounds = np.concatenate(self._bounds, axis=1).mean(axis=1)
        points = len(weights.log_p)
        flow = model.flow if isinstance(model, HVAE) and has_flow(model) else None
        return Evaluation(
            num_points=points,
            num_samples=num_samples,
            elbo=float(weights.elbo.mean()),
            elbo_se=standard_error(weights.elbo),
            nll=float(-weights.log_p.mean()),
            nll_se=standard_error(weights.log_p),
            nll_mc_se=float(np.sqrt(weights.variance.sum() / num_samples) / points),
            nll_bias=float(weights.variance.mean() / (2 * num_samples)),
            bounds=dict(zip(self._sizes, map(float, bounds), strict=True)),
            ess_median=float(np.median(weights.ess)),
            ess_5=float(np.percentile(weights.ess, 5)),
            untrusted=diagnose(weights, num_samples).untrusted,
            kl=float(kl.mean()),
            active_units=int((mean.var(axis=0) > ACTIVE).sum()),
            latent_size=mean.shape[1],
            reconstruction_nll=-_mean(log_likelihood),
            reconstruction_rmse=math.sqrt(_mean(square_error)),
            distance=_mean(distance),
            energy_error=float(np.median(energy)) if len(energy) else math.nan,
            divergent=_mean(divergent),
            non_finite=int(weights.non_finite.sum()),
            gray=gray,
            **_learned(flow),
            per_point=weights,
            seconds_per_gradient=seconds_per_gradient,
        )


def _over_draws(
    statistic: Callable[..., NDArray[np.float64]],
    column: NDArray[np.floating],
    finite: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """A statistic over the draws of each point that did not fail; NaN if all failed."""
    kept = np.where(finite & np.isfinite(column), column.astype(np.float64), np.nan)
    found = np.full(len(kept), np.nan)
    some = ~np.isnan(kept).all(axis=1)  # NumPy warns of statistics of nothing
    found[some] = statistic(kept[some], axis=1)
    return found


def _mean(values: NDArray[np.float64]) -> float:
    """The mean; NaN for no values."""
    return float(values.mean()) if len(values) else math.nan


def _learned(flow: AbstractFlow | None) -> dict[str, Any]:
    """The flow's parameters for an `Evaluation`; None for those it does not have."""
    if not isinstance(flow, HamiltonianFlow):
        return dict.fromkeys(("step_size", "beta", "bridge", "eta"))
    K = flow.num_steps
    return {
        "step_size": np.asarray(flow.step_sizes).tolist(),
        "beta": np.asarray(flow.tempering.beta(K)).tolist(),
        "bridge": None if flow.bridge is None else np.asarray(flow.bridge.weights(K)).tolist(),
        "eta": None if flow.eta is None else float(flow.eta.value),
    }


def _is_gray(model: AbstractLatentModel, scored: Examples) -> bool:
    """Whether a Bernoulli scores values strictly between 0 and 1."""
    if not isinstance(model.decoder.likelihood, Bernoulli):
        return False
    pieces = (scored[start : start + 4096] for start in range(0, len(scored), 4096))
    return any(bool(np.any((x > 0) & (x < 1))) for x in pieces)
