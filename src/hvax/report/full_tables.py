"""The tables at the end of a page: every number of the evaluations, every option of the run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hvax.evaluation.evaluate import ESS, K_HAT
from hvax.report.numbers import number
from hvax.report.parts import Cell, Head, Row, Table
from hvax.report.scores import Score

_LISTED = 40  # items of an option that are written out

# What the table of everything calls the numbers of an evaluation, in its order.
_NAMES = {
    "num_points": "test points",
    "num_samples": "importance samples per point",
    "elbo": "ELBO, nats",
    "elbo_se": "ELBO, standard error over points",
    "bounds": "bound, nats, with this many samples:",
    "nll": "NLL, nats",
    "nll_se": "NLL, standard error over points",
    "nll_mc_se": "NLL, standard error over draws",
    "nll_bias": "NLL, bias to first order",
    "ess_median": "effective samples, median",
    "ess_5": "effective samples, 5th percentile",
    "untrusted": f"fraction of points with k-hat > {K_HAT} or ESS < {ESS:g}",
    "trusted": "NLL to be trusted",
    "points_with": "points not to be trusted, for",
    "samples_needed": "samples with which the NLL would be trusted",
    "plain_points": "points scored without the flow, which fails there",
    "lost_points": "points at which every draw fails",
    "non_finite": "log-weights that are not finite",
    "kl": "KL(q(z₀ | x) || N(0, I)), nats",
    "active_units": "active latent units",
    "latent_size": "latent dimensions",
    "reconstruction_nll": "−log p(x | z), nats",
    "reconstruction_rmse": "reconstruction error, root mean square; in standard deviations where "
    "the model standardizes",
    "distance": "flow moves z by, encoder standard deviations",
    "energy_error": "largest energy error of a trajectory, median, nats",
    "divergent": "fraction of divergent trajectories",
    "step_size": "leapfrog step size",
    "beta": "inverse temperatures",
    "bridge": "bridging weights",
    "eta": "momentum kept, η",
    "ended": "training ended",
    "epochs": "epochs",
    "vae_epochs": "of these before the flow",
    "best_epoch": "best epoch",
    "skipped": "updates skipped",
    "seconds_training": "seconds of training",
    "seconds_compiling": "seconds of compiling",
    "gray": "gray levels under a Bernoulli: no likelihoods",
    "source": "scored on",
    "weights": "weights, SHA-256",
    "ais": "annealed importance sampling,",
}


def everything(scores: Sequence[Score]) -> Table:
    """Every number of the evaluations, a column for each model."""
    columns = [dict(_flat(score.evaluation)) for score in scores]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [Row(Cell(name), [Cell(column.get(name, "–")) for column in columns]) for name in names]
    heads = [Head(score.name, score.kind) for score in scores]
    return Table("Every number of the evaluation", heads, rows)


def options(label: str, nested: Mapping[str, Any]) -> Table:
    """Nested options, a row each, in the groups that they come in."""
    return Table(label, [], [Row(Cell(name), [Cell(value)]) for name, value in _options(nested)])


def _flat(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in [*_NAMES, *(key for key in evaluation if key not in _NAMES)]:
        # An NLL that is trusted needs no other number of samples.
        if key in evaluation and not (key == "samples_needed" and evaluation.get("trusted")):
            yield from _rows(_NAMES.get(key, key), evaluation[key])


def _rows(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for inner, each in value.items():
            yield from _rows(f"{name} {inner}", each)
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
            listed = _listed(value) if isinstance(value, list | tuple) else str(value)
            yield f"{before}{name}", "–" if value is None else listed or "–"


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(str(value) for value in values[:_LISTED])
    more = len(values) - _LISTED
    return f"{shown} and {more:,} more" if more > 0 else shown
