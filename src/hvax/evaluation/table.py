"""An evaluation as a text table and as JSON."""

import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from hvax.evaluation.result import Evaluation, with_error
from hvax.exceptions import GrayLevels, UntrustedNLL, warn
from hvax.wording import words


def gray_warning() -> str:
    """The text of the warning gray-levels, in lines."""
    likelihood = words("LearnedGaussian()", "--likelihood gaussian")
    return (
        "WARNING gray-levels: the data are gray levels under a Bernoulli: ELBO and NLL are\n"
        "cross-entropies, not likelihoods. Train on bits "
        f"({words('hvax.data.binarize', '--binarize dynamic')}), or with a likelihood\n"
        f"of real numbers ({likelihood})."
    )


UNTRUSTED = "WARNING untrusted-nll"
"""The start of the warning in a table; `untrusted_advice` returns the rest."""


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """All numbers except those of single points; see `Evaluation.to_dict`."""
    return evaluation.to_dict()


def untrusted_advice(evaluation: Evaluation, run: str | Path | None = None, **options: Any) -> str:
    """The text of the warning untrusted-nll: the cause, the remedy and the command for it.

    `run` is the run directory, or the arguments of `hvax evaluate` as one string for a shell; None
    gives advice for Python. `untrusted_words` explains the other options.
    """
    arguments = shlex.quote(str(run)) if isinstance(run, Path) else run
    return evaluation.untrusted_because(arguments, **options)


def as_table(
    evaluation: Evaluation, run: str | Path | None = None, *, ais_follows: bool = False
) -> str:
    """The evaluation as lines of at most 80 columns (except for file names)."""
    e = evaluation
    rows: list[tuple[str, str]] = [
        ("points, samples each", f"{e.num_points}, {e.num_samples}"),
        ("ELBO", _over_data(e.elbo, e.elbo_se)),
        *(
            (f"bound, {size} samples", f"{value:.3f}")
            for size, value in e.bounds.items()
            if size > 1
        ),
        (
            "NLL",
            _over_data(e.nll, e.nll_se) + _known(f" +- {e.nll_mc_se:.3f} (draws)", e.nll_mc_se),
        ),
        ("NLL, first-order bias", _known(f"{e.nll_bias:+.4f}", e.nll_bias) or "not known"),
        ("gap: NLL below -ELBO by", _gap(e)),
        ("effective samples", f"median {e.ess_median:.1f}, 5th percentile {e.ess_5:.1f}"),
        ("points with k-hat > 0.7 or ESS < 10", f"{e.untrusted:.1%}"),
        ("KL(q(z0|x) || N(0, I))", f"{e.kl:.3f}"),
        ("active units", f"{e.active_units} of {e.latent_size}"),
        ("-log p(x|zK)", _or_none(f"{e.reconstruction_nll:.3f}", e.reconstruction_nll)),
        (
            "reconstruction error (rms)",
            _or_none(f"{e.reconstruction_rmse:.4f}", e.reconstruction_rmse),
        ),
        ("log w not finite", f"{e.non_finite} of {e.num_points * e.num_samples}"),
    ]
    if e.plain_points:
        rows.append(("points scored without the flow", f"{e.plain_points} of {e.num_points}"))
    if e.lost_points:
        rows.append(("points with log p = -inf", f"{e.lost_points} of {e.num_points}"))
    if e.beta is not None:
        rows += [
            ("flow moves z by", _or_none(f"{e.distance:.3f} encoder sd", e.distance)),
            (
                "energy error (median of largest)",
                _or_none(f"{e.energy_error:.4f}", e.energy_error),
            ),
            ("divergent trajectories", f"{e.divergent:.2%}"),
            ("step size", _range(e.step_size)),
            ("inverse temperatures", _row(e.beta)),
        ]
        if e.bridge is not None:
            rows.append(("bridging weights", _row(e.bridge)))
        if e.eta is not None:
            rows.append(("momentum kept, eta", f"{e.eta:.4f}"))
    lines = [f"{name:38}{value}" for name, value in rows]
    if e.gray:
        lines.append(gray_warning())
    if not e.trusted:
        lines.append(f"WARNING {untrusted_advice(e, run, ais_follows=ais_follows)}")
    return "\n".join(lines)


def _row(values: list[float]) -> str:
    shown = " ".join(f"{value:.3f}" for value in values[:8])
    return f"{shown} ..." if len(values) > 8 else shown


def _range(value: Any) -> str:
    array = np.asarray(value)
    if array.size == 1:
        return f"{float(array.reshape(())):.4f}"
    return f"{array.min():.4f} to {array.max():.4f}, median {np.median(array):.4f}"


def _over_data(value: float, error: float) -> str:
    shown = with_error(value, error)
    return f"{shown} (data)" if math.isfinite(error) else shown


def _gap(e: Evaluation) -> str:
    gap = -e.elbo - e.nll
    return f"{gap:.3f}" if math.isfinite(gap) else "not known (draws failed)"


def _known(shown: str, value: float) -> str:
    return shown if math.isfinite(value) else ""


def _or_none(shown: str, value: float) -> str:
    """`shown`, or "none" for NaN: no draw is left, or classes have no mean."""
    return "none" if math.isnan(value) else shown


def note(evaluation: Evaluation, advice: str) -> None:
    """Issue the table's warnings as Python warnings, except failed-draws, which `evaluate` does.

    `advice` is that of `untrusted_advice`.
    """
    if evaluation.gray:
        warn(GrayLevels, "the data are gray levels under a Bernoulli.")
    if not evaluation.trusted:
        warn(UntrustedNLL, " ".join(advice.split()).removeprefix(f"{UntrustedNLL.name}: "))
