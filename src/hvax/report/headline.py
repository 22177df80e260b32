"""The result of a run: in a sentence, a warning, and a table of the few numbers that matter."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hvax.evaluation.evaluate import ESS, K_HAT
from hvax.hamiltonian.phase_space import DIVERGENT
from hvax.report.numbers import Evaluation, Score, heads, number
from hvax.report.page import Html, element, table, text


class _Row(NamedTuple):
    """A line of the table: its name, what it means, the value and a remark below the value."""

    name: str
    meaning: str
    value: Callable[[Evaluation], str]
    remark: Callable[[Evaluation], str]
    holds: Callable[[Evaluation], bool] = lambda e: True  # else the model has no such number
    key: str | None = None  # of a number whose difference between the models is shown


def _has_flow(e: Evaluation) -> bool:
    """A flow of no steps has one temperature, and moves nothing."""
    return e["beta"] is not None and len(e["beta"]) > 1


_ROWS = (
    _Row(
        "ELBO",
        "nats, higher is better",
        lambda e: f"{number(e['elbo'])} ± {number(e['elbo_se'])}",
        lambda e: "± standard error over points",
        key="elbo",
    ),
    _Row(
        "NLL",
        "nats, lower is better",
        lambda e: f"{number(e['nll'])} ± {number(e['nll_se'])}",
        lambda e: f"± {number(e['nll_mc_se'], 3)} from the draws",
        key="nll",
    ),
    _Row(
        "Effective samples",
        "per point; few make an NLL too high",
        lambda e: number(e["ess_median"], 1),
        lambda e: f"median of {e['num_samples']}; 5th percentile {number(e['ess_5'], 1)}",
    ),
    _Row(
        "NLL to be trusted",
        f"k-hat ≤ {K_HAT} and ESS ≥ {ESS:g} at most points",
        lambda e: "yes" if e["trusted"] else "no",
        lambda e: f"fails at {e['untrusted']:.1%} of points",
    ),
    _Row(
        "Flow moves z by",
        "root mean square",
        lambda e: number(e["distance"]),
        lambda e: "standard deviations of q(z₀ | x)",
        _has_flow,
    ),
    _Row(
        "Divergent trajectories",
        f"energy error above {DIVERGENT:g} nats",
        lambda e: f"{e['divergent']:.2%}",
        lambda e: f"typical energy error {number(e['energy_error'], 3)} nats",
        _has_flow,
    ),
    _Row(
        "Training",
        "",
        lambda e: f"{number(e['seconds_training'], 0 if e['seconds_training'] >= 10 else 1)} s",
        lambda e: f"best epoch {e['best_epoch']} of {e['epochs']}; {e['ended']}",
        lambda e: {"seconds_training", "best_epoch", "epochs", "ended"} <= e.keys(),
    ),
)


Difference = Mapping[str, Any] | None
"""Of the first model from the second, paired over points, where it is known."""


def sentence(scores: Sequence[Score], difference: Difference) -> Html:
    """The result, in the first model's NLL."""
    name, _, mine = scores[0]
    if not math.isfinite(mine["nll"]):
        return Html(f"The {text(name)}’s NLL is <strong>not finite</strong>.")
    spread = f"{number(mine['nll'])} ± {number(mine['nll_se'])}"
    said = (
        f"The {text(name)}’s NLL is <strong>{spread} nats</strong> on {mine['num_points']:,} test"
    )
    if difference is None:
        return Html(f"{said} points; its ELBO is {number(mine['elbo'])}.")
    gap, error = difference["nll"], difference["nll_se"]
    if gap is None or not math.isfinite(gap):
        return Html(f"{said} points; that of the plain VAE is not finite.")
    if error is None or abs(gap) < 2 * error:
        apart = _with_error(gap, error)
        return Html(f"{said} points. No difference from the plain VAE’s is seen: {apart} nats.")
    better = f"{_with_error(abs(gap), error)} nats {'better' if gap < 0 else 'worse'}"
    return Html(f"{said} points, <strong>{better}</strong> than the plain VAE’s.")


def warnings(scores: Sequence[Score]) -> list[Html]:
    """What stands against the NLLs, in paragraphs."""
    said: list[str] = []
    doubtful: list[str] = []
    cures: dict[str, None] = {}
    for name, _, e in scores:
        lost, total = e["non_finite"], e["num_points"] * e["num_samples"]
        these = f"{lost:,} of the {name}’s {total:,} log-weights are not finite"
        if not math.isfinite(e["nll"]):
            said.append(f"{these}: it has no finite likelihood on these data.")
        elif not e["trusted"]:
            doubtful.append(f"the {name}’s at {e['untrusted']:.0%} of the points")
            cures[_cure(e)] = None
        if lost and math.isfinite(e["nll"]):
            said.append(f"{these}; they count as zero weight.")
        if e.get("plain_points"):
            said.append(
                f"At {e['plain_points']:,} of {e['num_points']:,} points the {name}’s flow fails: "
                "they are scored by the encoder’s draws without it, a bound all the same."
            )
    found = [text(words) for words in said]
    if doubtful:
        why = text(
            f" Too few effective samples (below {ESS:g}) or too heavy a tail of the importance "
            f"weights (k-hat above {K_HAT}): {' and '.join(doubtful)}. {' '.join(cures)}"
        )
        found.append(Html(element("strong", text("The NLL is not to be trusted.")) + why))
    return found


def _cure(e: Evaluation) -> str:
    """What would make an NLL trusted, as far as the evaluation tells."""
    needed = e.get("samples_needed", math.nan)
    if math.isfinite(needed):
        return f"From about {needed:,.0f} samples on it would be."
    if "samples_needed" in e:
        return "More samples are no cure; annealed importance sampling is (hvax evaluate --ais)."
    return "Evaluate with more samples, or by annealed importance sampling (--ais)."


def against(scores: Sequence[Score], references: Mapping[str, float]) -> list[Html]:
    """Says which models are worse than a reference."""
    said = []
    for name, nll in references.items():
        worse = [score.name for score in scores if not score.evaluation["nll"] <= nll]
        if worse:
            verb = "have a higher NLL" if len(worse) > 1 else "has a higher NLL"
            said.append(
                text(
                    f"{' and '.join(worse)} {verb} than the reference “{name}”, which has no "
                    "latent: train longer, give more data or try other settings."
                )
            )
    return said


def headline(
    scores: Sequence[Score], difference: Difference, references: Mapping[str, float]
) -> Html:
    """The table, with the difference between two models where it is known, and a line for each
    reference, a model without a latent, by its NLL."""
    evaluations = [score.evaluation for score in scores]
    rows = []
    for row in _ROWS:
        if not any(row.holds(e) for e in evaluations):
            continue
        cells = [
            Html(f"{text(row.value(e))}<small>{text(row.remark(e))}</small>")
            if row.holds(e)
            else text("–")
            for e in evaluations
        ]
        if difference is not None:
            cells.append(_difference(row.key, difference))
        rows.append([Html(f"{text(row.name)}<small>{text(row.meaning)}</small>"), *cells])
        if row.key == "nll":
            blank = [] if difference is None else [Html("")]
            rows += [
                [*_reference(name, nll, evaluations), *blank] for name, nll in references.items()
            ]
    last = [] if difference is None else [text("difference")]
    return table([*heads(scores), *last], rows, "The main numbers")


def _reference(name: str, nll: float, evaluations: Sequence[Evaluation]) -> list[Html]:
    """The NLL of a reference in each column, and how far the model there is from it."""
    called = text(name[:1].upper() + name[1:])
    cells = [Html(f"{called}<small>NLL of a model without a latent</small>")]
    for e in evaluations:
        gap = nll - e["nll"]
        remark = "the model’s is not finite"
        if math.isfinite(gap):
            remark = f"the model is {number(abs(gap))} {'better' if gap >= 0 else 'worse'}"
        kind = "" if math.isfinite(gap) and gap >= 0 else "worse"
        cells.append(Html(f"{text(number(nll))}{element('small', text(remark), kind)}"))
    return cells


def _difference(key: str | None, difference: Mapping[str, Any]) -> Html:
    if key is None or difference[key] is None:
        return Html("")
    shown = _with_error(difference[key], difference[f"{key}_se"], sign=True)
    return Html(f"{text(shown)}<small>point by point</small>")


def _with_error(value: float, error: float | None, *, sign: bool = False) -> str:
    """A difference, whose error is not known where there is one point."""
    known = "" if error is None or math.isnan(error) else f" ± {number(error, 3)}"
    return number(value, 3, sign=sign) + known
