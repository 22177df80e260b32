"""The numbers of a trained model on held-out data, each with its standard error."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray, PyTree
from numpy.typing import NDArray
from tqdm import tqdm

from hvax.data.examples import as_pair
from hvax.evaluation.draws import draws
from hvax.models.hvae import plain_vae


@dataclass(frozen=True)
class Evaluation:
    """Means over data points in nats, and what tells whether to trust them.

    - `elbo`: mean log w, -inf where a draw is not finite; `nll`: -log mean w, by importance
      sampling with the model's own flow as proposal, in which a non-finite draw counts as w = 0.
      Each with its standard error over data points.
    - `distance`: rms |z_K - z_0| in standard deviations of q(z_0 | x), mean over draws.
    - `divergent`: the fraction of diverged trajectories; `non_finite`: how many log w were not
      finite.
    """

    num_points: int
    num_samples: int
    elbo: float
    elbo_se: float
    nll: float
    nll_se: float
    distance: float
    divergent: float
    non_finite: int


def evaluate(
    model: PyTree,
    data: Any,
    *,
    key: PRNGKeyArray,
    num_samples: int = 500,
    progress: bool = True,
) -> Evaluation:
    """The ELBO and the negative log-likelihood of `data`, from `num_samples` draws per point.

    `data` is an array with the batch axis first, a pair (x_in, x_out) of them, or `Examples`. The
    draws of point i depend on `key` and i alone. Raises `ValueError` for data outside the
    likelihood's support and for num_samples < 1.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be >= 1, got {num_samples}.")
    parts = as_pair(data, "data", check=plain_vae(model).decoder.likelihood.check)
    points = len(parts[0])
    elbo, nll = np.empty(points), np.empty(points)
    distance, divergent, non_finite = 0.0, 0, 0
    with tqdm(
        total=points, disable=not progress, unit="point", desc="evaluating", leave=False
    ) as bar:
        for some in draws(model, parts, num_samples=num_samples, key=key):
            finite = np.isfinite(some.log_weight)
            log_w = np.where(finite, some.log_weight.astype(np.float64), -np.inf)
            elbo[some.indices] = log_w.mean(axis=1)
            nll[some.indices] = math.log(num_samples) - np.logaddexp.reduce(log_w, axis=1)
            distance += float(some.distance.sum(dtype=np.float64))
            divergent += int(some.divergent.sum())
            non_finite += int((~finite).sum())
            bar.update(len(some.indices))
    return Evaluation(
        num_points=points,
        num_samples=num_samples,
        elbo=float(elbo.mean()),
        elbo_se=_standard_error(elbo),
        nll=float(nll.mean()),
        nll_se=_standard_error(nll),
        distance=distance / (points * num_samples),
        divergent=divergent / (points * num_samples),
        non_finite=non_finite,
    )


def _standard_error(values: NDArray[np.float64]) -> float:
    """NaN for one point, which says nothing of its spread."""
    if len(values) < 2 or not np.all(np.isfinite(values)):
        return math.nan
    return float(values.std(ddof=1) / math.sqrt(len(values)))
