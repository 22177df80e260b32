"""The table of the few numbers that matter."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hvax.evaluation.evaluate import ESS, K_HAT
from hvax.hamiltonian.phase_space import DIVERGENT
from hvax.report.numbers import number
from hvax.report.parts import Cell, Head, Row, Table
from hvax.report.scores import Difference, Evaluation, Score, with_error


class _Line(NamedTuple):
    """A line of the table: its name, what it means, the value and a remark below the value."""

    name: str
    meaning: str
    value: Callable[[Evaluation], str]
    remark: Callable[[Evaluation], str]
    holds: Callable[[Evaluation], bool] = lambda e: True  # else the model has no such number
    key: str | None = None  # of a number whose difference between the models is shown


def _epochs(e: Evaluation) -> str:
    """The best epoch among how many; where the flow came later, how many were without it."""
    words = f"best epoch {e['best_epoch']} of {e['epochs']}"
    if not (before := e.get("vae_epochs")):
        return words
    words += f", {before} of the VAE and {e['epochs'] - before} with the flow"
    if _has_flow(e) and e["best_epoch"] <= before:
        words += ", none of which was better: the flow is as it was turned on"
    return words


def _has_flow(e: Evaluation) -> bool:
    """A flow of no steps has one temperature, and moves nothing."""
    return e["beta"] is not None and len(e["beta"]) > 1


_LINES = (
    _Line(
        "ELBO",
        "nats, higher is better",
        lambda e: f"{number(e['elbo'])} ± {number(e['elbo_se'])}",
        lambda e: "± standard error over points",
        key="elbo",
    ),
    _Line(
        "NLL",
        "nats, lower is better",
        lambda e: f"{number(e['nll'])} ± {number(e['nll_se'])}",
        lambda e: f"± {number(e['nll_mc_se'], 3)} from the draws",
        key="nll",
    ),
    _Line(
        "Effective samples",
        "per point; too few make the NLL too high",
        lambda e: number(e["ess_median"], 1),
        lambda e: f"median of {e['num_samples']}; 5th percentile {number(e['ess_5'], 1)}",
    ),
    _Line(
        "NLL to be trusted",
        f"k-hat ≤ {K_HAT} and ESS ≥ {ESS:g} at most points",
        lambda e: "yes" if e["trusted"] else "no",
        lambda e: f"fails at {e['untrusted']:.1%} of points",
    ),
    _Line(
        "Flow moves z by",
        "root mean square",
        lambda e: number(e["distance"]),
        lambda e: "standard deviations of q(z₀ | x)",
        _has_flow,
    ),
    _Line(
        "Divergent trajectories",
        f"energy error above {DIVERGENT:g} nats",
        lambda e: f"{e['divergent']:.2%}",
        lambda e: f"typical energy error {number(e['energy_error'], 3)} nats",
        _has_flow,
    ),
    _Line(
        "Training",
        "",
        lambda e: f"{number(e['seconds_training'], 0 if e['seconds_training'] >= 10 else 1)} s",
        lambda e: f"{_epochs(e)}; {e['ended']}",
        lambda e: {"seconds_training", "best_epoch", "epochs", "ended"} <= e.keys(),
    ),
)


def headline(
    scores: Sequence[Score], difference: Difference, references: Mapping[str, float]
) -> Table:
    """The table, with the difference between two models where it is known, and a line for each
    reference, a model without a latent, by its NLL."""
    evaluations = [score.evaluation for score in scores]
    rows = []
    for line in _LINES:
        if not any(line.holds(e) for e in evaluations):
            continue
        cells = [
            Cell(line.value(e), line.remark(e)) if line.holds(e) else Cell("–") for e in evaluations
        ]
        if difference is not None:
            cells.append(_difference(line.key, difference))
        rows.append(Row(Cell(line.name, line.meaning), cells))
        if line.key == "nll":
            blank = [] if difference is None else [Cell("")]
            rows += [
                Row(_reference_name(name), [*(_reference(nll, e) for e in evaluations), *blank])
                for name, nll in references.items()
            ]
    heads = [Head(score.name, score.kind) for score in scores]
    last = [] if difference is None else [Head("difference", "")]
    return Table("The main numbers", [*heads, *last], rows)


def _reference_name(name: str) -> Cell:
    return Cell(name[:1].upper() + name[1:], "NLL of a model without latent variables")


def _reference(nll: float, e: Evaluation) -> Cell:
    """The NLL of a reference, and how far a model is from it."""
    gap = nll - e["nll"]
    if not math.isfinite(gap):
        return Cell(number(nll), "the model’s is not finite", worse=True)
    verdict = "better" if gap >= 0 else "worse"
    return Cell(number(nll), f"the model is {number(abs(gap))} {verdict}", worse=gap < 0)


def _difference(key: str | None, difference: Mapping[str, Any]) -> Cell:
    if key is None or difference[key] is None:
        return Cell("")
    shown = with_error(difference[key], difference[f"{key}_se"], sign=True)
    return Cell(shown, "point by point")
