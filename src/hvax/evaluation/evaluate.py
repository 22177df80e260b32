"""The numbers of a trained model on held-out data, with their errors, and whether to trust them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray, PyTree
from numpy.typing import NDArray
from tqdm import tqdm

from hvax.data.examples import Examples, as_pair
from hvax.door import check_key, count
from hvax.evaluation.draws import Draws, draws
from hvax.evaluation.weights import Points, WeightStatistics, importance_bound, weight_statistics
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.models.hvae import HVAE, plain_vae
from hvax.models.likelihood import Bernoulli

K_HAT, ESS, UNTRUSTED = 0.7, 10.0, 0.05
"""An NLL is not to be trusted where more than 5% of the points have k-hat > 0.7 or ESS < 10."""

ACTIVE = 0.01
"""A latent unit is active where the variance over x of its posterior mean exceeds this."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Means over data points, in nats.

    - `elbo`: mean log w, -inf where a draw is not finite; `elbo_se`: its standard error over data.
    - `nll`: -log (1/S) sum w, in which a draw that is not finite counts as w = 0; `nll_se`: its
      standard error over data points; `nll_mc_se`: over draws (delta method); `nll_bias`: by how
      much it is too high on average, to first order, var(w/p) / 2S.
    - `bounds`: S -> importance-weighted bound with S samples, from the same draws.
    - `ess_median`, `ess_5`: effective sample size per point, median and 5th percentile;
      `untrusted`: the fraction of points with k-hat > 0.7 or ESS < 10.
    - `kl`: KL(q(z_0 | x) || N(0, I)); `active_units`: latent units whose posterior mean varies.
    - `reconstruction_nll`: -log p(x | z_K); `reconstruction_rmse`: of E[x | z_K], per feature.
    - `distance`: rms |z_K - z_0| in standard deviations of q(z_0 | x); `energy_error`: median over
      draws of the largest |H_k - H_{k-1}|; `divergent`: fraction of diverged trajectories.
    - `non_finite`: how many log w were not finite.
    - `grey`: whether a Bernoulli scored grey levels, so that these are cross-entropies, not
      likelihoods.
    - `step_size`, `beta`, `bridge`, `eta`: the flow's, as learned; None is no flow, no bridge, no
      refreshment.
    - `per_point`: log p, ELBO, ESS, k-hat and var(w/p) of each point.
    """

    num_points: int
    num_samples: int
    elbo: float
    elbo_se: float
    nll: float
    nll_se: float
    nll_mc_se: float
    nll_bias: float
    bounds: dict[int, float]
    ess_median: float
    ess_5: float
    untrusted: float
    kl: float
    active_units: int
    latent_size: int
    reconstruction_nll: float
    reconstruction_rmse: float
    distance: float
    energy_error: float
    divergent: float
    non_finite: int
    grey: bool
    step_size: list[Any] | float | None
    beta: list[float] | None
    bridge: list[float] | None
    eta: float | None
    per_point: WeightStatistics

    @property
    def trusted(self) -> bool:
        """Whether the weights let the NLL be believed."""
        return self.untrusted <= UNTRUSTED


def evaluate(
    model: PyTree,
    data: Any,
    *,
    key: PRNGKeyArray,
    num_samples: int = 500,
    progress: bool = True,
) -> Evaluation:
    """The ELBO, the likelihood and the diagnostics of `data`, from `num_samples` draws per point.

    `data` is an array with the batch axis first, a pair (x_in, x_out) of them, or `Examples`. The
    draws of point i depend on `key` and i alone. Raises `ValueError` for data outside the
    likelihood's support and for num_samples < 1.
    """
    num_samples = count(num_samples, "num_samples")
    check_key(key)
    parts = as_pair(data, "data", check=plain_vae(model).decoder.likelihood.check)
    sizes = sorted({size for size in (1, 10, 100) if size <= num_samples} | {num_samples})
    collected = _Collected(sizes)
    with tqdm(
        total=len(parts[0]), disable=not progress, unit="point", desc="evaluating", leave=False,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total_fmt} points "
        "[{elapsed}<{remaining}]",
    ) as bar:  # fmt: skip
        for some in draws(model, parts, num_samples=num_samples, key=key, done=bar.update):
            collected.add(some)
    return collected.evaluation(model, num_samples, grey=_is_grey(model, parts[-1]))


def difference(first: Evaluation, second: Evaluation) -> dict[str, float]:
    """ELBO and NLL of the first less those of the second, paired over the same data points.

    `elbo_se` and `nll_se` are standard errors of the mean difference; they hold what the points
    have in common, and so are smaller than those of either mean. Raises `ValueError` for
    evaluations of different numbers of points.
    """
    if first.num_points != second.num_points:
        raise ValueError(
            "a paired difference needs the same data points, got "
            f"{first.num_points} and {second.num_points}."
        )
    elbo = first.per_point.elbo - second.per_point.elbo
    nll = second.per_point.log_p - first.per_point.log_p
    return {
        "elbo": float(elbo.mean()),
        "elbo_se": _standard_error(elbo),
        "nll": float(nll.mean()),
        "nll_se": _standard_error(nll),
    }


class _Collected:
    """What is kept of the draws: numbers per point, never the draws themselves."""

    def __init__(self, bound_sizes: Sequence[int]):
        self._sizes = bound_sizes
        self._weights: list[WeightStatistics] = []
        self._bounds: list[NDArray[np.float64]] = []
        self._posterior: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._means: list[NDArray[np.float64]] = []

    def add(self, some: Draws) -> None:
        each = some.per_draw
        self._weights.append(weight_statistics(each.log_weight))
        self._bounds.append(
            np.stack([importance_bound(each.log_weight, size) for size in self._sizes])
        )
        self._posterior.append((some.posterior_mean, some.posterior_sigma))
        columns = (each.log_likelihood, each.square_error, each.distance, each.divergent)
        means = [column.mean(axis=1, dtype=np.float64) for column in columns]
        self._means.append(np.stack([*means, np.median(each.energy_error, axis=1)]))

    def evaluation(self, model: PyTree, num_samples: int, *, grey: bool) -> Evaluation:
        weights = WeightStatistics(*(np.concatenate(a) for a in zip(*self._weights, strict=True)))
        mean, sigma = (np.concatenate(a) for a in zip(*self._posterior, strict=True))
        log_likelihood, square_error, distance, divergent, energy = np.concatenate(
            self._means, axis=1
        )
        bounds = np.concatenate(self._bounds, axis=1).mean(axis=1)
        points = len(weights.log_p)
        bad = ~(weights.k_hat <= K_HAT) & ~np.isnan(weights.k_hat) | (weights.ess < ESS)
        kl = np.sum(0.5 * (mean**2 + sigma**2 - 1) - np.log(sigma), axis=1)
        flow = model.flow if isinstance(model, HVAE) else None
        return Evaluation(
            num_points=points,
            num_samples=num_samples,
            elbo=float(weights.elbo.mean()),
            elbo_se=_standard_error(weights.elbo),
            nll=float(-weights.log_p.mean()),
            nll_se=_standard_error(weights.log_p),
            nll_mc_se=float(np.sqrt(weights.variance.sum() / num_samples) / points),
            nll_bias=float(weights.variance.mean() / (2 * num_samples)),
            bounds=dict(zip(self._sizes, map(float, bounds), strict=True)),
            ess_median=float(np.median(weights.ess)),
            ess_5=float(np.percentile(weights.ess, 5)),
            untrusted=float(bad.mean()),
            kl=float(kl.mean()),
            active_units=int((mean.var(axis=0) > ACTIVE).sum()),
            latent_size=mean.shape[1],
            reconstruction_nll=float(-log_likelihood.mean()),
            reconstruction_rmse=float(np.sqrt(square_error.mean())),
            distance=float(distance.mean()),
            energy_error=float(np.median(energy)),
            divergent=float(divergent.mean()),
            non_finite=int(weights.non_finite.sum()),
            grey=grey,
            **_learned(flow),
            per_point=weights,
        )


def _learned(flow: HamiltonianFlow | None) -> dict[str, Any]:
    """The flow's numbers, None where there are none."""
    if flow is None:
        return dict.fromkeys(("step_size", "beta", "bridge", "eta"))
    K = flow.num_steps
    return {
        "step_size": np.asarray(flow.step_sizes).tolist(),
        "beta": np.asarray(flow.tempering.beta(K)).tolist(),
        "bridge": None if flow.bridge is None else np.asarray(flow.bridge.weights(K)).tolist(),
        "eta": None if flow.eta is None else float(flow.eta.value),
    }


def _is_grey(model: PyTree, scored: Examples) -> bool:
    """Whether a Bernoulli is given values strictly between 0 and 1."""
    if not isinstance(plain_vae(model).decoder.likelihood, Bernoulli):
        return False
    pieces = (scored[start : start + 4096] for start in range(0, len(scored), 4096))
    return any(bool(np.any((x > 0) & (x < 1))) for x in pieces)


def _standard_error(values: Points) -> float:
    """NaN for one point, which says nothing of its spread."""
    if len(values) < 2 or not np.all(np.isfinite(values)):
        return math.nan
    return float(values.std(ddof=1) / math.sqrt(len(values)))
