"""One self-contained HTML file that says how a run went: numbers, pictures, options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from hvax.data.examples import Examples
from hvax.models.hvae import HVAE
from hvax.models.vae import VAE
from hvax.report.names import check_names
from hvax.storage.files import write_atomically

# The numbers of an evaluation that a page cannot do without.
REQUIRED = frozenset(
    {
        "num_points", "num_samples", "elbo", "elbo_se", "bounds", "nll", "nll_se", "nll_mc_se",
        "ess_median", "ess_5", "untrusted", "trusted", "non_finite", "latent_size", "distance",
        "energy_error", "divergent", "step_size", "beta",
    }
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Report:
    """What a report is made from.

    - `title`: any text, such as the run's name.
    - `model`: what was trained; `test`: the examples (batch axis first) that the pictures show;
      `labels`: theirs, numbers or strings, or None; `feature_names`: one for each number of an
      example (in row-major order), or each channel of series (T, C) or (C, T), or None.
    - `evaluation`: `hvax.evaluation.table.as_json` of the model on test data; it may have what a
      run knows besides (`epochs`, `seconds_training`, ...). `history`: one mapping per epoch, the
      lines of metrics.jsonl. None stands for a number that was not finite.
    - `baseline`, `baseline_history`: the same of the plain VAE; `difference`:
      `hvax.evaluation.evaluate.difference` of the two, or None where it is not known.
    - `references`: the NLL of models without a latent, by name, in nats: of independent features,
      of a Gaussian with full covariance.
    - `failed`: what went wrong in training, in words, or None.
    - `options`: those of the run, nested; `data`: what is known of how the data were prepared.

    Raises `ValueError` for labels that are not one per example, and names that do not fit.
    """

    title: str
    model: VAE | HVAE
    test: Examples
    evaluation: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]] = ()
    baseline: Mapping[str, Any] | None = None
    baseline_history: Sequence[Mapping[str, Any]] = ()
    difference: Mapping[str, Any] | None = None
    labels: np.ndarray | None = None
    feature_names: Sequence[str] | None = None
    references: Mapping[str, float] = field(default_factory=dict)
    failed: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != len(self.test):
            raise ValueError(
                f"labels must be one per test example, got {len(self.labels)} labels for "
                f"{len(self.test)} examples."
            )
        check_names(self.feature_names, self.test.x_shape)


def has_flow(model: VAE | HVAE) -> bool:
    """Whether a model moves its encoder's draws: a flow of no steps does not."""
    return isinstance(model, HVAE) and model.flow.num_steps > 0


def write_report(report: Report, path: str | Path, *, key: PRNGKeyArray) -> None:
    """Writes the report to `path`, whole or not at all; a file that is there is replaced.

    What is random in the pictures comes from `key`; with the same key the file is the same.
    """
    from hvax.report.sections import report_html  # loads matplotlib

    write_atomically(Path(path), report_html(report, key=key).encode(errors="backslashreplace"))
