"""An evaluation as a table on the screen, and as JSON."""

import dataclasses
from typing import Any

import numpy as np

from hvax.caution import GreyLevels, UntrustedNLL, caution
from hvax.evaluation.evaluate import Evaluation

GREY = (
    "WARNING grey-levels: the data are grey levels under a Bernoulli: ELBO and NLL are\n"
    "cross-entropies, not likelihoods. Binarise the data to compare with others."
)

UNTRUSTED = "WARNING untrusted-nll: the estimate is not to be trusted; use more samples."


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Every number but those of single points, with the verdict on the NLL."""
    record = {
        field.name: getattr(evaluation, field.name)
        for field in dataclasses.fields(evaluation)
        if field.name != "per_point"
    }
    return record | {"trusted": evaluation.trusted}


def as_table(evaluation: Evaluation) -> str:
    """The evaluation in lines of at most 80 columns."""
    e = evaluation
    rows: list[tuple[str, str]] = [
        ("points, samples each", f"{e.num_points}, {e.num_samples}"),
        ("ELBO", f"{e.elbo:.3f} +- {e.elbo_se:.3f} (data)"),
        *(
            (f"bound, {size} samples", f"{value:.3f}")
            for size, value in e.bounds.items()
            if size > 1
        ),
        (
            "NLL",
            f"{e.nll:.3f} +- {e.nll_se:.3f} (data) +- {e.nll_mc_se:.3f} (draws)",
        ),
        ("NLL, first-order bias", f"{e.nll_bias:+.4f}"),
        ("gap: NLL below -ELBO by", f"{-e.elbo - e.nll:.3f}"),
        ("effective samples", f"median {e.ess_median:.1f}, 5th percentile {e.ess_5:.1f}"),
        ("points with k-hat > 0.7 or ESS < 10", f"{e.untrusted:.1%}"),
        ("KL(q(z0|x) || N(0, I))", f"{e.kl:.3f}"),
        ("active units", f"{e.active_units} of {e.latent_size}"),
        ("-log p(x|zK)", f"{e.reconstruction_nll:.3f}"),
        ("reconstruction error (rms)", f"{e.reconstruction_rmse:.4f}"),
        ("log w not finite", f"{e.non_finite} of {e.num_points * e.num_samples}"),
    ]
    if e.beta is not None:
        rows += [
            ("flow moves z by", f"{e.distance:.3f} posterior sd"),
            ("energy error (median of largest)", f"{e.energy_error:.4f}"),
            ("divergent trajectories", f"{e.divergent:.2%}"),
            ("step size", _range(e.step_size)),
            ("inverse temperatures", _row(e.beta)),
        ]
        if e.bridge is not None:
            rows.append(("bridging weights", _row(e.bridge)))
        if e.eta is not None:
            rows.append(("momentum kept, eta", f"{e.eta:.4f}"))
    lines = [f"{name:38}{value}" for name, value in rows]
    if e.grey:
        lines.append(GREY)
    if not e.trusted:
        lines.append(UNTRUSTED)
    return "\n".join(lines)


def _row(values: list[float]) -> str:
    shown = " ".join(f"{value:.3f}" for value in values[:8])
    return f"{shown} ..." if len(values) > 8 else shown


def _range(value: Any) -> str:
    array = np.asarray(value)
    if array.size == 1:
        return f"{float(array.reshape(())):.4f}"
    return f"{array.min():.4f} to {array.max():.4f}, median {np.median(array):.4f}"


def note(evaluation: Evaluation) -> None:
    """Gives the warnings that the table shows, for those who count them."""
    if evaluation.grey:
        caution(GreyLevels, "the data are grey levels under a Bernoulli.")
    if not evaluation.trusted:
        caution(UntrustedNLL, "the NLL is not to be trusted; use more samples.")
