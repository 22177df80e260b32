"""Messages about an untrusted evaluation: the cause, the remedy, and how long it takes.

They name options in the program and calls in Python.
"""

import math
from collections.abc import Sequence

from hvax.evaluation.ais import CHAINS, LEAPFROG, TEMPERATURES, transitions
from hvax.evaluation.diagnosis import ESS, K_HAT, Diagnosis

AIS_POINTS = 100
"""Data points that `hvax evaluate --ais` uses by default."""

_PATIENCE = 600.0  # seconds of AIS from which fewer points are advised
_FEWER_POINTS = (50, 20, 10)
_ONE_SIDED, _BOTH_SIDED = (
    transitions(TEMPERATURES, both=False),
    transitions(TEMPERATURES, both=True),
)
# The overhead of a leapfrog step, even on a device that computes all rows at once.
_LEAST_SECONDS_PER_STEP = 5e-5
_ROWS = 25 * CHAINS  # chains that are computed at once


def untrusted_words(
    diagnosis: Diagnosis,
    *,
    seconds_per_gradient: float = math.nan,
    run: str | None = None,
    ais_follows: bool = False,
    about: str = "",
    python: tuple[str, str] = ("model", "x"),
    affects: str = "",
) -> str:
    """The text of the warning untrusted-nll, in lines, beginning with its name.

    `run` is the argument of `hvax evaluate`, quoted for a shell; None gives advice for Python, with
    `python`, model and data, as the arguments of its calls. `about` names the model where there are
    several; `affects` is a sentence about the numbers that are affected. `seconds_per_gradient`
    predicts the duration of annealed importance sampling (NaN: unknown). `ais_follows` says that
    the program runs it next anyway.
    """
    lines = [f"untrusted-nll: {about and f'{about}: '}{_cause(diagnosis)}."]
    if affects:
        lines.append(affects)
    if diagnosis.unresolved > diagnosis.points / 2:
        return "\n".join([*lines, "Rescale the data to suit the likelihood, and train again."])
    if diagnosis.needed is not None:
        lines.append(f"With about {diagnosis.needed} samples the estimate would be trusted:")
        with_more = f"hvax.evaluate({', '.join(python)}, key=key, num_samples={diagnosis.needed})"
        if run is not None:
            with_more = f"hvax evaluate {run} --num-samples {diagnosis.needed}"
        return "\n".join([*lines, f"    {with_more}"])
    if ais_follows:
        return "\n".join([*lines, "The cure is annealed importance sampling, which follows."])
    return "\n".join([*lines, *_ais_words(diagnosis.points, seconds_per_gradient, run, python)])


def _ais_words(
    points: int, seconds_per_gradient: float, run: str | None, python: tuple[str, str]
) -> tuple[str, ...]:
    """How to run annealed importance sampling, and how long it takes; on fewer points where on all
    it takes long."""

    def seconds(points: int) -> float:
        return ais_seconds(points, seconds_per_gradient, program=run is not None)

    cure, fewer = "The cure is annealed importance sampling", None
    lines = [f"{cure}:"]
    if not math.isnan(whole := seconds(points)):
        lines = [f"{cure}, in about {duration(whole)}:"]
        able = [n for n in _FEWER_POINTS if n < points]
        if whole > _PATIENCE and able:
            fewer = next((n for n in able if seconds(n) <= _PATIENCE), able[-1])
            short = duration(seconds(fewer))
            lines = [
                f"{cure}, in about {duration(whole)};",
                f"on {fewer} of the points in about {short}:",
            ]
    model, x = python
    some = f"{x}[:{fewer}]" if fewer else x
    call = f"hvax.annealed_importance_sampling({model}, {some}, key=key)"
    if run is not None:
        call = f"hvax evaluate {run} --ais" + (f" --ais-points {fewer}" if fewer else "")
    return (*lines, f"    {call}")


def failed_words(
    non_finite: int, total: int, plain: Sequence[int], lost: Sequence[int], others: float
) -> str | None:
    """The text of the warning failed-draws; None if no draw failed.

    `plain` are the points scored without the flow, `lost` those with log p = -inf, and `others` is
    the NLL of all points that are not lost.
    """
    parts = []
    if plain:
        parts.append(
            f"the flow's draws fail at {_points(plain)}, scored by the encoder's draws without it "
            "(a bound all the same)"
        )
    if lost:
        rest = f", {others:.3f} over the others" if math.isfinite(others) else ""
        parts.append(f"every draw fails at {_points(lost)}: log p is -inf there, the NLL inf{rest}")
    if non_finite:
        parts.append(
            f"{non_finite} of the {total} log-weights are not finite: they count as weight 0, and "
            "the ELBO is -inf"
        )
    return "; ".join(parts) + "." if parts else None


def ais_seconds(points: int, seconds_per_gradient: float, *, program: bool) -> float:
    """Estimated seconds of annealed importance sampling with default options.

    The program runs it four times on at most 100 points, twice of these with reverse chains.
    """
    points = min(points, AIS_POINTS) if program else points
    passes = 2 * (_ONE_SIDED + _BOTH_SIDED) if program else _ONE_SIDED
    steps = math.ceil(points * CHAINS / _ROWS) * passes * LEAPFROG
    rows = min(points * CHAINS, _ROWS)
    return steps * max(rows * seconds_per_gradient, _LEAST_SECONDS_PER_STEP)


def duration(seconds: float) -> str:
    """Seconds in a suitable unit: "40 seconds", "12 minutes", "3 hours"."""
    for size, unit in ((1, "second"), (60, "minute"), (3600, "hour"), (86_400, "day")):
        count = max(1, round(seconds / size))
        if seconds < 90 * size or unit == "day":
            break
    return f"{count} {unit}" + ("" if count == 1 else "s")


def _cause(diagnosis: Diagnosis) -> str:
    """The causes and their numbers of points, the most frequent first."""
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
