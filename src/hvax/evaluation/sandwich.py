"""Annealed importance sampling (AIS) on real and on simulated data, from both starts.

On real data AIS gives a lower bound on log p(x), once from the prior and once from the encoder's
posterior: the higher of the two counts. On data simulated from the model an exact posterior draw is
known, so there is an upper bound too. The gap between the two says how much the lower bound on real
data is likely to miss. Grosse, Ghahramani and Adams, "Sandwiching the marginal likelihood" (2015).
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from numpy.typing import NDArray

from hvax.checked_data import checked_data
from hvax.data.examples import Examples
from hvax.evaluation.ais import (
    AIS,
    CHAINS,
    LEAPFROG,
    TEMPERATURES,
    annealed_importance_sampling,
    simulate,
    transitions,
)
from hvax.evaluation.annealing import Start
from hvax.models.latent_model import AbstractLatentModel

_ROUGH = 10  # a rough estimate has this many times fewer temperatures, and at least this many


@dataclass(frozen=True, kw_only=True)
class Effort:
    """The arguments of `annealed_importance_sampling` that decide between time and accuracy."""

    num_temperatures: int = TEMPERATURES
    num_chains: int = CHAINS
    num_leapfrog: int = LEAPFROG


class Case(NamedTuple):
    """Data and start of one run of AIS; on simulated data with the exact posterior draws."""

    simulated: bool
    data: Examples
    start: Start
    posterior_draws: Array | None
    key: PRNGKeyArray

    @property
    def name(self) -> str:
        """Such as "real data, from prior"."""
        return f"{'simulated' if self.simulated else 'real'} data, from {self.start}"


class CaseBounds(NamedTuple):
    """The bounds of one case, and the time they took."""

    case: Case
    bounds: AIS
    seconds: float
    transitions: int  # of each chain

    def to_dict(self) -> dict[str, Any]:
        """Means over the data points, in nats, in JSON types."""
        lower, upper, acceptance, lost = self.bounds
        return {
            "lower": float(lower.mean()),
            "upper": None if upper is None else float(upper.mean()),
            "acceptance": acceptance,
            "points": len(lower),
            "lost_chains": lost,
        }

    def __str__(self) -> str:
        """One line: the name of the case, and the mean bounds in nats."""
        lower, upper, _, failed = self.bounds
        lost = f" ({failed} chains failed)" if failed else ""
        if upper is None:
            return f"{self.case.name:32}>= {lower.mean():.3f}{lost}"
        gap = upper.mean() - lower.mean()
        return f"{self.case.name:32}{lower.mean():.3f} to {upper.mean():.3f}, gap {gap:.3f}{lost}"


def ais_cases(
    model: AbstractLatentModel, data: NDArray[Any], latent_size: int, *, key: PRNGKeyArray
) -> tuple[list[Case], str | None]:
    """The four cases for data points (n, ...), with as many simulated points.

    If the model's own draws are outside its likelihood's support, the two cases of real data alone,
    and why.
    """
    data_key, *keys = jax.random.split(key, 5)
    drawn, latents = simulate(model, len(data), latent_size, key=data_key)
    made = np.asarray(drawn)
    if made.shape[1:] != data.shape[1:]:  # one-hot classes, where the data hold integers
        made = made.argmax(axis=-1)
    # Of one dtype, so that one compiled program serves real and simulated data. Integers have no
    # NaN for missing values.
    missing = data.dtype.kind == "f" and bool(np.isnan(data).any())
    dtype = data.dtype if missing else made.dtype
    real = Examples(data.astype(dtype), holes=missing)
    simulated = Examples(made.astype(dtype))
    kinds: list[tuple[bool, Examples, Array | None]] = [
        (False, real, None),
        (True, simulated, latents),
    ]
    refused = None
    try:
        if made.dtype.kind == "f" and np.isnan(made).any():  # which would be missing values
            raise ValueError("simulated data must be finite, got NaN.")
        checked_data(model, made, "simulated data")
    except ValueError as error:
        kinds, refused = kinds[:1], str(error)
    starts: tuple[Start, Start] = ("prior", "posterior")
    cases = [
        Case(is_simulated, examples, start, draws, keys.pop())
        for is_simulated, examples, draws in kinds
        for start in starts
    ]
    return cases, refused


def rough_cases(cases: Sequence[Case], effort: Effort) -> tuple[list[Case], Effort] | None:
    """The same with a tenth of the temperatures and other keys; None if that were too few."""
    few = effort.num_temperatures // _ROUGH
    if few < _ROUGH:
        return None
    again = [case._replace(key=jax.random.fold_in(case.key, 1)) for case in cases]
    return again, replace(effort, num_temperatures=few)


def bounds_of_cases(
    model: AbstractLatentModel,
    cases: Sequence[Case],
    effort: Effort,
    *,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> Iterator[CaseBounds]:
    """The bounds of each case in turn; `checkpoint` as in `annealed_importance_sampling`."""
    for case in cases:
        began = time.perf_counter()
        bounds = annealed_importance_sampling(
            model,
            case.data,
            key=case.key,
            start=case.start,
            num_temperatures=effort.num_temperatures,
            num_chains=effort.num_chains,
            num_leapfrog=effort.num_leapfrog,
            posterior_draws=case.posterior_draws,
            checkpoint=checkpoint,
            progress=progress,
        )
        yield CaseBounds(case, bounds, time.perf_counter() - began, _transitions(case, effort))


def predicted_seconds(cases: Sequence[Case], effort: Effort, done: CaseBounds) -> float:
    """About how long the cases will take, from one that has been run on as many points.

    Take the last of several: those before it compile.
    """
    return done.seconds / done.transitions * sum(_transitions(case, effort) for case in cases)


def _transitions(case: Case, effort: Effort) -> int:
    return transitions(effort.num_temperatures, both=case.posterior_draws is not None)
