"""The numbers of a report, in words: the headline, the table of everything, the options."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hvax.evaluation.evaluate import ESS, K_HAT
from hvax.report.page import Html, element, table, text

Evaluation = Mapping[str, Any]

# What the table of everything calls the numbers of an evaluation, in its order.
_NAMES = {
    "num_points": "test points",
    "num_samples": "importance samples per point",
    "elbo": "ELBO, nats",
    "elbo_se": "ELBO, standard error over points",
    "bounds": "bound, nats, with samples:",
    "nll": "NLL, nats",
    "nll_se": "NLL, standard error over points",
    "nll_mc_se": "NLL, standard error over draws",
    "nll_bias": "NLL, bias to first order",
    "ess_median": "effective samples, median",
    "ess_5": "effective samples, 5th percentile",
    "untrusted": f"fraction of points with k-hat > {K_HAT} or ESS < {ESS:g}",
    "trusted": "NLL to be trusted",
    "non_finite": "log-weights that are not finite",
    "kl": "KL(q(z₀ | x) || N(0, I)), nats",
    "active_units": "active latent units",
    "latent_size": "latent dimensions",
    "reconstruction_nll": "−log p(x | z), nats",
    "reconstruction_rmse": "reconstruction error, root mean square",
    "distance": "flow moves z by, encoder standard deviations",
    "energy_error": "largest energy error of a trajectory, median, nats",
    "divergent": "fraction of divergent trajectories",
    "step_size": "leapfrog step size",
    "beta": "inverse temperatures",
    "ended": "training ended",
    "epochs": "epochs",
    "best_epoch": "best epoch",
    "seconds_training": "seconds of training",
    "seconds_compiling": "seconds of compiling",
}


def number(value: float, digits: int = 2, *, sign: bool = False) -> str:
    """A number as a reader writes it."""
    if math.isnan(value):
        return "not known"
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    return f"{value:{'+' if sign else ''},.{digits}f}".replace("-", "−")


def headline(scores: Sequence[tuple[str, str, Evaluation]]) -> Html:
    """The few numbers that matter; `scores` has a name, a CSS class and an evaluation each."""
    head = [Html(""), *(element("span", Html(name), kind) for name, kind, _ in scores)]
    evaluations = [evaluation for _, _, evaluation in scores]
    if len(evaluations) == 2:
        head.append(Html("difference"))
    rows = []
    for name, note, value, hint in _HEADLINE:
        shown = [value(e) for e in evaluations]
        if any(v is not None for v in shown):
            title = f"{text(name)}<small>{text(note)}</small>"
            cells = [_cell("–" if v is None else v, "" if v is None else hint(e))
                     for v, e in zip(shown, evaluations, strict=True)]  # fmt: skip
            rows.append([Html(title), *cells, *_difference(name, evaluations)])
    return table(head, rows, "The main numbers")


def everything(scores: Sequence[tuple[str, str, Evaluation]]) -> Html:
    """Every number of the evaluations."""
    columns = [dict(_flat(evaluation)) for _, _, evaluation in scores]
    names = list(dict.fromkeys(name for column in columns for name in column))
    head = [Html(""), *(element("span", Html(name), kind) for name, kind, _ in scores)]
    rows = [[text(name), *(text(column.get(name, "–")) for column in columns)] for name in names]
    return table(head, rows, "Every number of the evaluation")


def options(nested: Mapping[str, Any]) -> Html:
    """The options of a run, one row each, in the groups that they come in."""
    rows = [
        [Html(f"<code>{text(name)}</code>"), Html(f'<span class="words">{text(value)}</span>')]
        for name, value in _options(nested)
    ]
    return table([], rows, "The options of the run")


def lead(name: str, mine: Evaluation, baseline: Evaluation | None) -> Html:
    """The result in a sentence or two."""
    if not math.isfinite(mine["nll"]):
        return Html(f"The {text(name)}’s NLL is <strong>not finite</strong>.")
    spread = f"{number(mine['nll'])} ± {number(mine['nll_se'])}"
    points = f"{mine['num_points']:,}"
    said = f"The {text(name)}’s NLL is <strong>{spread} nats</strong> on {points} test points"
    if baseline is None:
        return Html(f"{said}; its ELBO is {number(mine['elbo'])}.")
    gap = baseline["nll"] - mine["nll"]
    if not math.isfinite(gap):
        return Html(f"{said}; that of the plain VAE is {number(baseline['nll'])}.")
    better = "better" if gap >= 0 else "worse"
    return Html(f"{said}, <strong>{number(abs(gap))} nats {better}</strong> than the plain VAE’s.")


def distrust(name: str, evaluation: Evaluation) -> list[str]:
    """What stands against an NLL, in sentences."""
    lost, total = evaluation["non_finite"], evaluation["num_points"] * evaluation["num_samples"]
    if not math.isfinite(evaluation["nll"]):
        return [
            f"The {name} has no finite likelihood on these data: {lost:,} of {total:,} log-weights "
            "are not finite."
        ]
    said = []
    if not evaluation["trusted"]:
        said.append(
            f"The {name}’s NLL is not to be trusted. At {evaluation['untrusted']:.0%} of the points"
            f" the importance weights have too heavy a tail (k-hat > {K_HAT}) or fewer than "
            f"{ESS:g} effective samples. Evaluate with more samples."
        )
    if lost:
        said.append(
            f"{lost:,} of the {name}’s {total:,} log-weights are not finite; they count as zero "
            "weight."
        )
    return said


def _trust(e: Evaluation) -> str:
    return "yes" if e["trusted"] else "no"


def _when_flow(name: str, form: str) -> Any:
    return lambda e: None if e.get("beta") is None else _tidy(form.format(e[name]))


def _tidy(written: str) -> str:
    return written.replace("-", "−").replace("nan", "not known")


# Name, what it says, the value (None: the model has none) and a line below it.
_HEADLINE: list[tuple[str, str, Any, Any]] = [
    (
        "ELBO",
        "nats, higher is better",
        lambda e: f"{number(e['elbo'])} ± {number(e['elbo_se'])}",
        lambda e: "± standard error over points",
    ),
    (
        "NLL",
        "nats, lower is better",
        lambda e: f"{number(e['nll'])} ± {number(e['nll_se'])}",
        lambda e: f"± {number(e['nll_mc_se'], 3)} from the draws",
    ),
    (
        "Effective samples",
        "per point; few make an NLL too high",
        lambda e: number(e["ess_median"], 1),
        lambda e: f"median of {e['num_samples']}; 5th percentile {number(e['ess_5'], 1)}",
    ),
    (
        "NLL to be trusted",
        f"k-hat ≤ {K_HAT} and ESS ≥ {ESS:g} at most points",
        _trust,
        lambda e: f"fails at {e['untrusted']:.1%} of points",
    ),
    (
        "Flow moves z by",
        "root mean square",
        _when_flow("distance", "{:.2f}"),
        lambda e: "standard deviations of q(z₀ | x)",
    ),
    (
        "Divergent trajectories",
        "energy error above 1000 nats",
        _when_flow("divergent", "{:.2%}"),
        lambda e: f"typical energy error {number(e['energy_error'], 3)} nats",
    ),
    (
        "Training",
        "",
        lambda e: None if "seconds_training" not in e else f"{number(e['seconds_training'], 0)} s",
        lambda e: f"best epoch {e['best_epoch']} of {e['epochs']}; {e['ended']}",
    ),
]


def _difference(name: str, evaluations: Sequence[Evaluation]) -> list[Html]:
    if len(evaluations) != 2:
        return []
    key = {"ELBO": "elbo", "NLL": "nll"}.get(name)
    if key is None:
        return [Html("")]
    return [_cell(number(evaluations[0][key] - evaluations[1][key], sign=True), "")]


def _cell(value: str, hint: str) -> Html:
    return Html(text(value) + (f"<small>{text(hint)}</small>" if hint else ""))


def _flat(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    for key in [*_NAMES, *(key for key in evaluation if key not in _NAMES)]:
        if key not in evaluation:
            continue
        value, name = evaluation[key], _NAMES.get(key, key)
        if isinstance(value, Mapping):
            yield from ((f"{name} {inner}", _shown(each)) for inner, each in value.items())
        else:
            yield name, _shown(value)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, 4)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return _several(np.asarray(value, np.float64).ravel())
    return str(value)


def _several(values: np.ndarray) -> str:
    if len(values) <= 6:
        return ", ".join(number(float(value), 3) for value in values)
    low, middle, high = (number(float(np.percentile(values, q)), 3) for q in (0, 50, 100))
    return f"{len(values)} numbers from {low} to {high}, median {middle}"


def _options(nested: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _options(value, f"{before}{name}.")
        else:
            listed = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield f"{before}{name}", "–" if value is None else listed
