"""What to say of an evaluation that is not to be trusted: the cause, the cure, and what it costs.

The words are those of the place: flags for the program, calls for Python.
"""

import math
from collections.abc import Sequence

from hvax.evaluation.ais import CHAINS, LEAPFROG, TEMPERATURES, transitions
from hvax.evaluation.diagnosis import ESS, K_HAT, Diagnosis

AIS_POINTS = 100
"""Data points that `hvax evaluate --ais` takes by default."""

_AIS_IN_PYTHON = "hvax.annealed_importance_sampling(model, x, key=key)"
_ONE_SIDED, _BOTH_SIDED = (
    transitions(TEMPERATURES, both=False),
    transitions(TEMPERATURES, both=True),
)
# Even on a device with room for all rows, a leapfrog step of a chain takes its time.
_LEAST_SECONDS_PER_STEP = 5e-5
_ROWS = 25 * CHAINS  # that step at a time


def untrusted_words(
    diagnosis: Diagnosis,
    *,
    seconds_per_gradient: float = math.nan,
    run: str | None = None,
    ais_follows: bool = False,
) -> str:
    """What the warning untrusted-nll says, in lines, with its name.

    `run` is what stands behind `hvax evaluate` in the program's words, as a shell takes it; without
    it the words are Python's. `seconds_per_gradient` tells how long annealed importance sampling
    will take, NaN where that is not known; `ais_follows` where it is what comes next.
    """
    lines = [f"untrusted-nll: {_cause(diagnosis)}."]
    if diagnosis.unresolved > diagnosis.points / 2:
        return "\n".join(
            [*lines, "Scale the data, so that they suit the likelihood, and train again."]
        )
    if diagnosis.needed is not None:
        lines.append(f"From about {diagnosis.needed} samples on the estimate would be trusted:")
        with_more = f"hvax.evaluate(model, x, key=key, num_samples={diagnosis.needed})"
        if run is not None:
            with_more = f"hvax evaluate {run} --num-samples {diagnosis.needed}"
        return "\n".join([*lines, f"    {with_more}"])
    if ais_follows:
        return "\n".join([*lines, "The cure is annealed importance sampling, which follows."])
    seconds = ais_seconds(diagnosis.points, seconds_per_gradient, program=run is not None)
    time = "" if math.isnan(seconds) else f", in about {duration(seconds)}"
    lines.append(f"The cure is annealed importance sampling{time}:")
    return "\n".join(
        [*lines, f"    {_AIS_IN_PYTHON if run is None else f'hvax evaluate {run} --ais'}"]
    )


def failed_words(
    non_finite: int, total: int, plain: Sequence[int], lost: Sequence[int], others: float
) -> str | None:
    """The warning failed-draws, None where no draw failed.

    `plain` and `lost` are the points that plain draws scored, and those with log p = -inf; `others`
    is the NLL of all but the lost.
    """
    said = []
    if plain:
        said.append(
            f"the flow's draws fail at {_points(plain)}, scored by the encoder's draws without it "
            "(a bound all the same)"
        )
    if lost:
        rest = f", {others:.3f} over the others" if math.isfinite(others) else ""
        said.append(f"every draw fails at {_points(lost)}: log p is -inf there, the NLL inf{rest}")
    if non_finite:
        said.append(
            f"{non_finite} of the {total} log-weights are not finite: they count as weight 0, and "
            "the ELBO is -inf"
        )
    return "; ".join(said) + "." if said else None


def ais_seconds(points: int, seconds_per_gradient: float, *, program: bool) -> float:
    """About how long annealed importance sampling takes by its defaults.

    The program's runs four times over at most 100 points, twice with the reverse chains.
    """
    points = min(points, AIS_POINTS) if program else points
    passes = 2 * (_ONE_SIDED + _BOTH_SIDED) if program else _ONE_SIDED
    steps = math.ceil(points * CHAINS / _ROWS) * passes * LEAPFROG
    rows = min(points * CHAINS, _ROWS)
    return steps * max(rows * seconds_per_gradient, _LEAST_SECONDS_PER_STEP)


def duration(seconds: float) -> str:
    """In a unit that suits: 40 seconds, 12 minutes, 3 hours."""
    for size, unit in ((1, "second"), (60, "minute"), (3600, "hour"), (86_400, "day")):
        count = max(1, round(seconds / size))
        if seconds < 90 * size or unit == "day":
            break
    return f"{count} {unit}" + ("" if count == 1 else "s")


def _cause(diagnosis: Diagnosis) -> str:
    """The cause at most points, and at how many."""
    named = (
        (diagnosis.heavy_tail, f"heavy-tailed weights (k-hat > {K_HAT:g})"),
        (diagnosis.few, f"too few samples (ESS < {ESS:g})"),
        (diagnosis.not_finite, "half of the draws or more fail"),
        (diagnosis.unresolved, "log w too large for floats to tell draws apart"),
    )
    found = sorted((pair for pair in named if pair[0]), reverse=True, key=lambda pair: pair[0])
    return ",\n".join(f"{words} at {count} of {diagnosis.points} points" for count, words in found)


def _points(indices: Sequence[int]) -> str:
    shown = ", ".join(str(i) for i in indices[:10])
    more = ", ..." if len(indices) > 10 else ""
    return f"{len(indices)} point{'' if len(indices) == 1 else 's'} ({shown}{more})"
