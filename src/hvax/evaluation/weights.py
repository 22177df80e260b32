"""Estimates of log p(x) from importance weights, and diagnostics of their reliability.

With w_s = p(x, z_s) / q(z_s), log p(x) is estimated by log (1/S) sum_s w_s. The spread of the
weights tells the error of the estimate. Everything here is NumPy in float64.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # one number per data point


class WeightStatistics(NamedTuple):
    """Per data point, from S draws each; logarithms in nats."""

    elbo: Points  # mean log w; -inf where a draw is not finite
    log_p: Points  # log (1/S) sum w, in which a draw that is not finite counts as w = 0
    variance: Points  # of w / p; the Monte Carlo variance of log_p is this over S
    ess: Points  # effective sample size, (sum w)^2 / sum w^2, in [1, S]; 0 where every w is 0
    k_hat: Points  # shape of the weights' tail; above 0.7 the variance estimate is unreliable
    non_finite: NDArray[np.int64]  # how many log w were not finite
    plain_draws: NDArray[
        np.bool_
    ]  # whether the encoder's draws were scored instead of a failing flow's
    rounding: Points  # spacing of floats (of log w's dtype) at the largest log w; 0 if all w are 0


def weight_statistics(
    log_weight: NDArray[np.floating], plain_draws: NDArray[np.bool_] | None = None
) -> WeightStatistics:
    """The statistics of log-weights (points, S) in nats, per data point.

    `plain_draws` (points,) says which points were scored without the flow; None is none.
    """
    finite = np.isfinite(log_weight)
    log_w = np.where(finite, log_weight.astype(np.float64), -np.inf)
    points, samples = log_w.shape
    lost = ~finite.any(axis=1)
    # Relative to the largest weight, and only then to their mean: exp(log w - log p) would lose the
    # log S that rounding drops from log p at |log w| = 1e19.
    largest = np.where(lost, 0.0, log_w.max(axis=1))
    relative = np.exp(log_w - largest[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        ess = relative.sum(axis=1) ** 2 / np.sum(relative**2, axis=1)
        relative = relative / relative.mean(axis=1)[:, None]  # w / p, NaN where every w is 0
        spread = relative.var(axis=1, ddof=1) if samples > 1 else np.full(points, np.nan)
    spacing = np.spacing(np.abs(largest).astype(log_weight.dtype))
    return WeightStatistics(
        elbo=log_w.mean(axis=1),
        log_p=log_mean_weight(log_weight),
        variance=spread,
        ess=np.where(lost, 0.0, np.clip(ess, 1.0, samples)),
        k_hat=np.array([pareto_k_hat(row) for row in log_w]),
        non_finite=(~finite).sum(axis=1),
        plain_draws=np.zeros(points, bool) if plain_draws is None else plain_draws,
        rounding=np.where(lost, 0.0, spacing.astype(np.float64)),
    )


def log_mean_weight(log_weight: NDArray[np.floating]) -> Points:
    """log (1/S) sum w of log-weights (points, S) in nats; a draw that is not finite has w = 0."""
    log_w = np.where(np.isfinite(log_weight), log_weight.astype(np.float64), -np.inf)
    return np.logaddexp.reduce(log_w, axis=1) - np.log(log_w.shape[1])


def importance_bound(log_weight: NDArray[np.floating], num_samples: int) -> Points:
    """The importance weighted bound with k = `num_samples` draws of each point, in nats.

    The mean of log (1/k) sum w over disjoint groups of k of the S draws; left-over draws are
    unused.
    """
    log_w = np.where(np.isfinite(log_weight), log_weight.astype(np.float64), -np.inf)
    groups = log_w.shape[1] // num_samples
    grouped = log_w[:, : groups * num_samples].reshape(len(log_w), groups, num_samples)
    return np.mean(np.logaddexp.reduce(grouped, axis=2) - np.log(num_samples), axis=1)


def pareto_k_hat(log_weight: Points) -> float:
    """k-hat: the shape of a generalized Pareto distribution fitted to the largest weights of a
    point.

    The moments of the weights below 1 / k exist. Above k = 0.7, importance sampling is unreliable
    for any practical S. NaN for fewer than five tail weights, -inf if they are all equal, inf if
    their spread exceeds float64's range.

    The tail is the largest min(S/5, 3 sqrt(S)) weights. The estimator is that of Zhang and Stephens
    (2009), shrunk towards 1/2 by ten pseudo-draws as in Vehtari et al., "Pareto Smoothed Importance
    Sampling" (2024).
    """
    samples = len(log_weight)
    size = int(np.ceil(min(0.2 * samples, 3 * np.sqrt(samples))))
    if size < 5 or not np.isfinite(log_weight.max()):
        return np.nan
    ordered = np.sort(log_weight)
    # k does not depend on the scale of the weights, so the largest is set to 1.
    scaled = np.exp(ordered - ordered[-1])
    excess = scaled[-size:] - scaled[-size - 1]
    excess = excess[excess > 0]
    if len(excess) < 5:
        return -np.inf
    return (len(excess) * _generalized_pareto_shape(excess) + 10 * 0.5) / (len(excess) + 10)


def _generalized_pareto_shape(excess: Points) -> float:
    """The estimate of k by Zhang and Stephens (2009), for ascending excesses > 0.

    With theta = k / sigma the likelihood has a closed-form maximum in k. theta's posterior mean
    under a weak prior, on a grid of candidates, replaces its unstable maximum likelihood estimate.
    """
    n = len(excess)
    candidates = 30 + int(np.sqrt(n))
    quartile = excess[int(np.floor(n / 4 + 0.5)) - 1]
    if quartile < 1e-300:  # its reciprocal, and k with it, overflows
        return np.inf
    j = np.arange(1, candidates + 1)
    theta = 1 / excess[-1] + (1 - np.sqrt(candidates / (j - 0.5))) / (3 * quartile)
    k = -np.mean(np.log1p(-theta[:, None] * excess), axis=1)
    profile = n * (np.log(theta / k) + k - 1)
    weight = 1 / np.exp(profile[None, :] - profile[:, None]).sum(axis=1)
    best = np.sum(theta * weight)
    return float(np.mean(np.log1p(-best * excess)))
