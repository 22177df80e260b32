"""The result of an evaluation: its numbers, whether to trust them, and their presentation."""

import dataclasses
import math
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np

from hvax.evaluation.advice import failed_words, untrusted_words
from hvax.evaluation.diagnosis import Diagnosis, diagnose
from hvax.evaluation.weights import Points, WeightStatistics

_NO_JSON = ("per_point", "seconds_per_gradient")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of `evaluate`: means over data points, in nats.

    - `elbo`: mean log w, -inf if any draw is not finite; `elbo_se`: its standard error over data
      points.
    - `nll`: -log (1/S) sum w, in which a draw that is not finite counts as w = 0; `nll_se`: its
      standard error over data points; `nll_mc_se`: over draws (delta method); `nll_bias`: by how
      much it is too high on average, to first order var(w/p) / 2S.
    - `bounds`: S -> importance weighted bound with S samples, from the same draws.
    - `ess_median`, `ess_5`: effective sample size per point, median and 5th percentile;
      `untrusted`: the fraction of points with k-hat > 0.7 or ESS < 10.
    - `kl`: KL(q(z_0 | x) || N(0, I)); `active_units`: latent units whose posterior mean varies.
    - `reconstruction_nll`: -log p(x | z_K); `reconstruction_rmse`: of E[x | z_K], per feature; in
      standard deviations of each feature if the model standardizes them, NaN for columns of
      several kinds.
    - `distance`: rms |z_K - z_0| in standard deviations of q(z_0 | x); `energy_error`: median over
      draws of the largest |H_k - H_{k-1}|; `divergent`: fraction of diverged trajectories. The
      first two are over the points that were scored with the flow.
    - `non_finite`: the number of log w that are not finite. Such draws are left out of the
      reconstruction, the distance and the energy error, which are NaN if no draw is left.
    - `gray`: whether a Bernoulli scored gray levels, which makes these numbers cross-entropies, not
      likelihoods.
    - `step_size`, `beta`, `bridge`, `eta`: the flow's parameters; None if there is no flow, no
      bridge, no refreshment.
    - `per_point`: log p, ELBO, ESS, k-hat and var(w/p) of each point, its number of failed draws,
      and whether it was scored without the flow.
    - `seconds_per_gradient`: approximate time of one gradient of log p(x, z); NaN if unknown.

    If the value of any point is infinite, so are `elbo`, `nll` and the bounds, and the standard
    errors are NaN; `evaluate` then warns and names the points.
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
    gray: bool
    step_size: list[Any] | float | None
    beta: list[float] | None
    bridge: list[float] | None
    eta: float | None
    per_point: WeightStatistics
    seconds_per_gradient: float = math.nan

    @property
    def diagnosis(self) -> Diagnosis:
        """Whether the NLL can be trusted, if not why, and how many samples would be enough."""
        return diagnose(self.per_point, self.num_samples)

    @property
    def trusted(self) -> bool:
        """Whether the NLL is finite and its importance weights are reliable."""
        return self.diagnosis.trusted

    @property
    def plain_points(self) -> int:
        """The number of points at which the flow failed and the plain VAE's draws were scored."""
        return int(self.per_point.plain_draws.sum())

    @property
    def lost_points(self) -> int:
        """The number of points at which every draw failed, so that log p = -inf."""
        return self.diagnosis.lost

    @property
    def scores(self) -> Points:
        """log p of each point in nats, made finite for scikit-learn's metrics: higher is more
        normal.

        Points with log p = -inf get a finite score below that of every other point.
        """
        log_p = self.per_point.log_p
        finite = log_p[np.isfinite(log_p)]
        if len(finite) == 0:
            return np.full(len(log_p), float(np.finfo(np.float32).min))
        low, high = float(finite.min()), float(finite.max())
        below = low - max(1.0, high - low, 1e-3 * abs(low))
        return np.where(np.isfinite(log_p), log_p, below)

    def to_dict(self) -> dict[str, Any]:
        """All numbers except those of single points and of time, in JSON types.

        Includes whether the NLL is trusted, the numbers of untrusted points by cause, and the
        number of samples that would be enough (None: unknown).
        """
        found = self.diagnosis
        numbers = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in _NO_JSON
        }
        return numbers | {
            "plain_points": self.plain_points,
            "lost_points": found.lost,
            "trusted": found.trusted,
            "points_with": {
                "failed draws": found.not_finite,
                "unresolved weights": found.unresolved,
                "heavy tail": found.heavy_tail,
                "too few samples": found.few,
            },
            "samples_needed": found.needed,
        }

    def __repr__(self) -> str:
        """The main numbers and warnings, in about ten lines."""
        lines = [
            f"Evaluation of {self.num_points} points, {self.num_samples} samples each, in nats",
            f"  ELBO               {with_error(self.elbo, self.elbo_se)}",
            f"  NLL                {with_error(self.nll, self.nll_se)}, draws +- "
            f"{self.nll_mc_se:.3f}",
            f"  effective samples  median {self.ess_median:.1f}, 5th percentile {self.ess_5:.1f}",
            f"  KL                 {self.kl:.3f}, {self.active_units} of {self.latent_size} units "
            "active",
            f"  -log p(x | z)      {self.reconstruction_nll:.3f}",
        ]
        if self.beta is not None:
            lines.append(
                f"  flow               moves z by {self.distance:.3f} encoder sd, "
                f"{self.divergent:.2%} divergent"
            )
        lines.append(f"  trusted            {'yes' if self.trusted else 'no'}")
        failed = self.failed()
        if failed is not None:
            lines += textwrap.wrap(f"WARNING failed-draws: {failed}", 78)
        if not self.trusted:
            lines += f"WARNING {self.untrusted_because()}".splitlines()
        return "\n".join(lines)

    def untrusted_because(self, run: str | None = None, **options: Any) -> str:
        """The text of the warning untrusted-nll; `untrusted_words` explains the options."""
        return untrusted_words(
            self.diagnosis, seconds_per_gradient=self.seconds_per_gradient, run=run, **options
        )

    def failed(self) -> str | None:
        """The text of the warning failed-draws; None if no draw failed."""
        points = self.per_point
        lost = points.log_p == -np.inf
        return failed_words(
            self.non_finite,
            self.num_points * self.num_samples,
            np.flatnonzero(points.plain_draws).tolist(),
            np.flatnonzero(lost).tolist(),
            -float(points.log_p[~lost].mean()) if not lost.all() else math.nan,
        )


def difference(first: Evaluation, second: Evaluation) -> dict[str, float]:
    """ELBO and NLL of the first evaluation minus those of the second, paired by data point.

    Returns `elbo`, `elbo_se`, `nll` and `nll_se` in nats. The errors are standard errors of the
    mean difference; pairing cancels the variation between points, so they are smaller than those of
    either mean. If a draw failed, the difference is infinite (NaN if in both) and its error NaN.

    Raises `ValueError` for evaluations of different numbers of points.
    """
    if first.num_points != second.num_points:
        raise ValueError(
            "first and second must be of the same data points, got "
            f"{first.num_points} and {second.num_points} points."
        )
    with np.errstate(invalid="ignore"):  # inf - inf
        elbo = first.per_point.elbo - second.per_point.elbo
        nll = second.per_point.log_p - first.per_point.log_p
    return {
        "elbo": float(elbo.mean()),
        "elbo_se": standard_error(elbo),
        "nll": float(nll.mean()),
        "nll_se": standard_error(nll),
    }


def standard_error(values: Points) -> float:
    """The standard error of the mean; NaN for a single value and for infinite ones."""
    if len(values) < 2 or not np.all(np.isfinite(values)):
        return math.nan
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def with_error(value: float, error: float) -> str:
    """A number and its standard error as text, saying so if the error is unknown."""
    if math.isfinite(error):
        return f"{value:.3f} +- {error:.3f}"
    return f"{value:.3f} ({'its error is not known' if math.isfinite(value) else 'draws failed'})"
