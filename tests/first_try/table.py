"""The Markdown table of all records."""

from collections.abc import Iterable
from typing import Any

from tests.first_try.verdict import Record, judged, number

HEAD = (
    "data",
    "rows x columns",
    "likelihood",
    "independent",
    "Gaussian",
    "mixture",
    "VAE",
    "`hvax train`",
    "`fit`",
    "seconds",
    "remarks",
)
SHORT = {
    "LearnedGaussian": "Gaussian",
    "NegativeBinomial": "negative binomial",
    "FixedGaussian": "fixed Gaussian",
}


def markdown(records: Iterable[Record]) -> str:
    """One line for each data set; log p and bounds in nats of the raw data, higher is better."""
    lines = [HEAD, ("---",) * len(HEAD), *(_row(record) for record in records)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _row(record: Record) -> tuple[str, ...]:
    program, library = record["program"], record.get("library", {})
    verdict = judged(record)
    remarks = [f"**{text}**" for text in verdict.failures] + verdict.remarks
    family = record.get("references", {}).get(program.get("likelihood"), {})
    seconds = f"{program['seconds']:.0f}"
    if library:
        seconds += f", {library['seconds']:.0f}"
    chosen = program.get("likelihood", "–")
    return (
        record["name"],
        " x ".join(map(str, record.get("shape", ["–"]))),
        SHORT.get(chosen, chosen),
        *(_number(family.get(name, {}).get("mean")) for name in REFERENCES),
        _bound(program.get("vae")),
        _bound(program.get("hvae")),
        _bound(library),
        seconds,
        "; ".join(text.replace("|", "\\|") for text in remarks),
    )


REFERENCES = ("independent", "gaussian", "mixture")


def _bound(scores: Any) -> str:
    """The ELBO, and behind it the estimate of log p."""
    if not scores or scores.get("elbo") is None:
        return "–"
    return f"{_number(scores['elbo'])} ({_number(-scores['nll'])})"


def _number(value: float | None) -> str:
    return "–" if value is None else number(value)
