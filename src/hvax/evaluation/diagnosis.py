"""Why the importance weights of an evaluation are not to be trusted, and how many would be."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvax.evaluation.weights import WeightStatistics

K_HAT, ESS, UNTRUSTED = 0.7, 10.0, 0.05
"""An NLL is not to be trusted where more than 5% of the points have k-hat > 0.7 or ESS < 10."""

ROUNDING = 0.1
"""Nor those points whose log w stand a tenth of a nat or more apart for being floats: from 1e6 nats
on in 32 bits."""

_MARGIN = 1.5  # an effective sample size of 15 is aimed at, so that one of 10 is reached
_MOST_TIMES, _MOST = 100, 50_000  # what more samples are advised up to
_LEAST = 500  # from fewer than 21 no k-hat is fitted, and an ESS of so few says little


class Diagnosis(NamedTuple):
    """How many of an evaluation's points are not to be trusted, each for one of four causes."""

    points: int
    samples: int
    lost: int  # points whose log p is -inf, which are among the next
    not_finite: int  # k-hat > 0.7 or ESS < 10, and at least half of the draws failed
    unresolved: int  # log w so large that floats do not tell the draws apart
    heavy_tail: int  # k-hat > 0.7: some draws that were not met would have weighed most
    few: int  # ESS < 10 for another reason, as too few samples
    needed: int | None  # samples with which the NLL would be trusted; None: no number that is known

    @property
    def untrusted(self) -> float:
        """The fraction of points that are not to be trusted."""
        bad = self.not_finite + self.unresolved + self.heavy_tail + self.few
        return bad / self.points

    @property
    def trusted(self) -> bool:
        """Whether the NLL is finite and at most 5% of the points are not to be trusted."""
        return self.untrusted <= UNTRUSTED and self.lost == 0


def diagnose(weights: WeightStatistics, samples: int) -> Diagnosis:
    """What stands against the NLL of these points, with `samples` draws each."""
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
    """From how many samples on at most 5% of the points have an effective sample size below 10.

    Weights whose tail has shape k have moments below 1/k: the effective sample size grows like S
    for k <= 1/2, like S^(2 - 2k) for 1/2 < k < 1. Of points with k-hat > 0.7 nothing is promised:
    k-hat falls with S where the weights are log-normal, and stays where their tail is a power. An
    unknown k (few samples) is taken for 1/2.
    """
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
    """To two digits."""
    unit = 10 ** max(0, int(np.floor(np.log10(number))) - 1)
    return int(np.ceil(number / unit) * unit)
