"""What a record says: the numbers of its row, and what is not as it should be."""

import math
from typing import Any, NamedTuple

import numpy as np

SKIPPED, SECONDS = 5, 60.0
FEW, ERRORS = 20, 2.0  # below so many test rows a bound may be so many standard errors below
PER_FEATURE = 0.01  # nats that a bound may be below: where features are independent none is above

Record = dict[str, Any]


class Verdict(NamedTuple):
    """`failures` end the check; `remarks` are for the reader."""

    failures: list[str]
    remarks: list[str]


def judged(record: Record) -> Verdict:
    """Whether both ways ended well, and above what is simpler."""
    program = record["program"]
    if record["messy"] and program["exit"] == 2:
        return Verdict([], [f"refused before training: {_last(program)}"])
    failures = [*_ended(program, "program"), *_ended(record["library"], "fit")]
    remarks: list[str] = []
    scored = [("program", program.get("hvae") or program.get("vae"), program)]
    if "elbo" in record["library"]:
        scored.append(("fit", record["library"], record["library"]))
    for who, scores, ran in scored:
        if scores is None:
            failures.append(f"{who}: no result")
            continue
        _compare(record, who, scores, ran, failures, remarks)
    if program.get("hvae") is None and program.get("vae") is not None:
        failures.append("program: the flow has no result")
    remarks += [f"{who}: {name}" for who, name in _warnings(record)]
    return Verdict(failures, remarks)


def _compare(
    record: Record,
    who: str,
    scores: Record,
    ran: Record,
    failures: list[str],
    remarks: list[str],
) -> None:
    elbo = scores["elbo"]
    if elbo is None or not math.isfinite(elbo):
        failures.append(f"{who}: ELBO {elbo}")
        return
    if scores["skipped"] > SKIPPED:
        failures.append(f"{who}: {scores['skipped']} updates skipped")
    elif scores["skipped"]:
        remarks.append(f"{who}: {scores['skipped']} skipped")
    own = record.get("references_of_fit") if who == "fit" else None
    family = (own or record["references"]).get(ran.get("likelihood"))
    if family is None:
        failures.append(f"{who}: no reference for {ran.get('likelihood')}")
        return
    allowed = PER_FEATURE * math.prod(record["shape"][1:])
    for name, reference in family.items():
        below = reference["mean"] - elbo
        if below <= 0:
            continue
        each, points = ran.get("elbo_per_point"), reference["per_point"]
        error = standard_error(each, points) if each else math.nan
        by = number(below) if math.isnan(error) else f"{number(below)} ± {number(error)}"
        text = f"{who}: {by} below {name}"
        few = len(points) < FEW and below < ERRORS * error
        failed = name == "independent" and not (few or below <= allowed)
        (failures if failed else remarks).append(text)
    below = ran.get("independent", -math.inf) - elbo
    if below > 0:
        few = len(family["independent"]["per_point"]) < FEW
        text = f"{who}: {number(below)} below independent features as it transforms them"
        (remarks if few or below <= allowed else failures).append(text)


def number(value: float) -> str:
    """Two digits behind the point, of what is not absurd."""
    return f"{value:.2f}" if abs(value) < 1e5 else f"{value:.3g}"


def standard_error(elbo: list[float], reference: list[float]) -> float:
    """Of the mean difference, point by point; infinite for a single point."""
    apart = np.subtract(elbo, reference)
    return float(apart.std(ddof=1) / math.sqrt(len(apart))) if len(apart) > 1 else math.inf


def _ended(ran: Record, who: str) -> list[str]:
    found = []
    if ran["exit"] is None:
        found.append(f"{who}: not at its end after {ran['seconds']:.0f} s")
    elif ran["exit"] != 0:
        found.append(f"{who}: exit {ran['exit']}: {ran.get('error') or _last(ran)}"[:200])
    elif ran["seconds"] > SECONDS:
        found.append(f"{who}: {ran['seconds']:.0f} s")
    return found


def _last(ran: Record) -> str:
    said = [line for line in ran.get("said", []) if line.startswith("hvax:")]
    return (said or ran.get("said") or ["nothing was said"])[-1].removeprefix("hvax: ")


def _warnings(record: Record) -> list[tuple[str, str]]:
    """Each kind once."""
    program = sorted(set(record["program"]["warnings"]))
    library = sorted({_kind(text) for text in record["library"]["warnings"]})
    return [("program", name) for name in program] + [("fit", name) for name in library]


def _kind(text: str) -> str:
    """The name of a warning of hvax's own; of others their text, shortened."""
    category, _, rest = text.partition(": ")
    name = rest.partition(":")[0]
    return name if name.replace("-", "").isalpha() else f"{category}: {rest[:60]}"
