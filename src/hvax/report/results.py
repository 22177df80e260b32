"""The result of a run: a sentence, what stands against it, and the table of the main numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hvax.evaluation.evaluate import ESS, K_HAT
from hvax.report.headline import headline
from hvax.report.inputs import ReportInputs
from hvax.report.numbers import number
from hvax.report.parts import Sentence, Span, Table
from hvax.report.scores import Difference, Evaluation, Score, scores_of, with_error

_GRAY = (
    "These data have gray levels between 0 and 1 under a Bernoulli likelihood. The numbers are "
    "cross-entropies, not likelihoods of the data."
)


@dataclass(frozen=True)
class Results:
    """The first section of a page."""

    sentence: Sentence
    warnings: Sequence[Sentence]
    table: Table


def results(report: ReportInputs) -> Results:
    """The section's numbers and words."""
    scores = scores_of(report)
    references = {name: float(nll) for name, nll in report.references.items()}
    said = [
        *([] if report.failed is None else [[Span(report.failed)]]),
        *warnings(scores),
        *against(scores, references),
        *([[Span(_GRAY)]] if report.evaluation.get("gray") else []),
    ]
    return Results(
        sentence(scores, report.difference),
        said,
        headline(scores, report.difference, references),
    )


def sentence(scores: Sequence[Score], difference: Difference) -> Sentence:
    """The result, in the first model's NLL."""
    name, _, mine = scores[0]
    if not math.isfinite(mine["nll"]):
        return [Span(f"The {name}’s NLL is "), Span("not finite", strong=True), Span(".")]
    said = [
        Span(f"The {name}’s NLL is "),
        Span(f"{number(mine['nll'])} ± {number(mine['nll_se'])} nats", strong=True),
        Span(f" on {mine['num_points']:,} test points"),
    ]
    if difference is None:
        return [*said, Span(f"; its ELBO is {number(mine['elbo'])}.")]
    gap, error = difference["nll"], difference["nll_se"]
    if gap is None or not math.isfinite(gap):
        return [*said, Span("; that of the plain VAE is not finite.")]
    if error is None or abs(gap) < 2 * error:
        apart = with_error(gap, error)
        words = f". Its difference from the plain VAE’s, {apart} nats, is not significant."
        return [*said, Span(words)]
    better = f"{with_error(abs(gap), error)} nats {'better' if gap < 0 else 'worse'}"
    return [*said, Span(", "), Span(better, strong=True), Span(" than the plain VAE’s.")]


def warnings(scores: Sequence[Score]) -> list[Sentence]:
    """What stands against the NLLs, in paragraphs."""
    said: list[Sentence] = []
    doubtful: list[str] = []
    cures: dict[str, None] = {}
    for name, _, e in scores:
        lost, total = e["non_finite"], e["num_points"] * e["num_samples"]
        these = f"{lost:,} of the {name}’s {total:,} log-weights are not finite"
        if not math.isfinite(e["nll"]):
            said.append([Span(f"{these}: it has no finite likelihood on these data.")])
        elif not e["trusted"]:
            doubtful.append(f"the {name}’s at {e['untrusted']:.0%} of the points")
            cures[_cure(e)] = None
        if lost and math.isfinite(e["nll"]):
            said.append([Span(f"{these}; they count as zero weight.")])
        if e.get("plain_points"):
            some = (
                f"At {e['plain_points']:,} of {e['num_points']:,} points the {name}’s flow fails: "
                "they are scored by the encoder’s draws without it, which is a lower bound too."
            )
            said.append([Span(some)])
    if doubtful:
        why = (
            f" Too few effective samples (below {ESS:g}) or too heavy a tail of the importance "
            f"weights (k-hat above {K_HAT}): {' and '.join(doubtful)}. {' '.join(cures)}"
        )
        said.append([Span("The NLL is not to be trusted.", strong=True), Span(why)])
    return said


def _cure(e: Evaluation) -> str:
    """What would make an NLL trusted, as far as the evaluation tells."""
    needed = e.get("samples_needed", math.nan)
    if math.isfinite(needed):
        return f"About {needed:,.0f} samples would suffice."
    if "samples_needed" in e:
        return (
            "More samples will not help; annealed importance sampling will (hvax evaluate --ais)."
        )
    return "Evaluate with more samples, or by annealed importance sampling (hvax evaluate --ais)."


def against(scores: Sequence[Score], references: Mapping[str, float]) -> list[Sentence]:
    """Says which models are worse than a reference."""
    said: list[Sentence] = []
    for name, nll in references.items():
        worse = [score.name for score in scores if not score.evaluation["nll"] <= nll]
        if worse:
            verb = "have a higher NLL" if len(worse) > 1 else "has a higher NLL"
            words = (
                f"{' and '.join(worse)} {verb} than the reference “{name}”, which has no latent "
                "variables: train longer, give more data or try other settings."
            )
            said.append([Span(words)])
    return said
