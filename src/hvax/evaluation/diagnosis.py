"""Whether the importance weights of an evaluation can be trusted, why not, and what would help."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvax.evaluation.weights import WeightStatistics

K_HAT, ESS, UNTRUSTED = 0.7, 10.0, 0.05
"""An NLL is not trusted if more than 5% of the points have k-hat > 0.7 or ESS < 10."""

ROUNDING = 0.1
"""Nats: a point is not trusted either if floats near its log w are spaced this far apart (in
float32 from |log w| = 1e6 on)."""

_MARGIN = 1.5  # the advice aims at ESS 15, so that 10 is reached
_MOST_TIMES, _MOST = 100, 50_000  # upper limits of the advised number of samples
_LEAST = 500  # with few samples k-hat and ESS are unknown or noisy


class Diagnosis(NamedTuple):
    """The number of untrusted points, each counted under one of four causes."""

    points: int
    samples: int
    lost: int  # points with log p = -inf; they are counted below as well
    not_finite: int  # k-hat > 0.7 or ESS < 10, and at least half of the draws failed
    unresolved: int  # |log w| so large that floats cannot tell the draws apart
    heavy_tail: int  # k-hat > 0.7: rare draws, probably missed, have most of the weight
    few: int  # ESS < 10 for none of these reasons: too few samples
    needed: int | None  # samples from which the NLL would be trusted; None: unknown

    @property
    def untrusted(self) -> float:
        """The fraction of untrusted points."""
        bad = self.not_finite + self.unresolved + self.heavy_tail + self.few
        return bad / self.points

    @property
    def trusted(self) -> bool:
        """Whether the NLL is finite and at most 5% of the points are untrusted."""
        return self.untrusted <= UNTRUSTED and self.lost == 0


def diagnose(weights: WeightStatistics, samples: int) -> Diagnosis:
    """Count the untrusted points by cause, from their statistics with `samples` draws each."""
    with np.errstate(invalid="ignore"):
        tail = weights.k_hat > K_HAT
    noise = weights.rounding >= ROUNDING
    bad = tail | noise | (weights.ess < ESS)
    not_finite = bad & (2 * weights.non_finite >= samples)
    unresolved = ~not_finite & noise
    heavy_tail = ~not_finite & ~unresolved & tail
    hopeless = not_finite | unresolved | heavy_tail
    few = bad & ~hopeless
    return Diagnosis(
        points=len(weights.ess),
        samples=samples,
        lost=int(np.sum(weights.log_p == -np.inf)),
        not_finite=int(not_finite.sum()),
        unresolved=int(unresolved.sum()),
        heavy_tail=int(heavy_tail.sum()),
        few=int(few.sum()),
        needed=_samples_needed(weights, samples, hopeless),
    )


def _samples_needed(
    weights: WeightStatistics, samples: int, hopeless: NDArray[np.bool_]
) -> int | None:
    """The number of samples from which at most 5% of the points have ESS < 10; None if unknown."""
    # Weights with tail shape k have finite moments below 1/k. So the effective sample size grows
    # like S for k <= 1/2, and like S^(2 - 2k) for 1/2 < k < 1. Points with k-hat > 0.7 cannot be
    # predicted: with more samples k-hat falls if the weights are log-normal, but not if their tail
    # is a power law. An unknown k (few samples) is taken to be 1/2.
    if np.any(weights.log_p == -np.inf):
        return None
    k = np.clip(np.nan_to_num(weights.k_hat, nan=0.5), 0.5, K_HAT)
    short = np.where(weights.ess < ESS, _MARGIN * ESS / np.maximum(weights.ess, 1.0), 1.0)
    needed = np.where(hopeless, np.inf, samples * short ** (1 / (2 - 2 * k)))
    allowed = int(UNTRUSTED * len(needed))
    enough = float(np.sort(needed)[-1 - allowed])
    if enough <= samples:
        return samples
    if np.any(np.isnan(weights.k_hat)):
        enough = max(enough, float(_LEAST))
    most = min(max(_MOST_TIMES * samples, _LEAST), _MOST)
    return _rounded_up(enough) if enough <= most else None


def _rounded_up(number: float) -> int:
    """Round up to two significant digits."""
    unit = 10 ** max(0, int(np.floor(np.log10(number))) - 1)
    return int(np.ceil(number / unit) * unit)
