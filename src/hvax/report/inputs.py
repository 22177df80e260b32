"""What a report is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hvax.data.examples import Examples
from hvax.report.images import is_image
from hvax.report.model_view import Model, moves_draws, name_of
from hvax.report.names import Classes, check_names

REQUIRED = frozenset(
    {
        "num_points", "num_samples", "elbo", "elbo_se", "bounds", "nll", "nll_se", "nll_mc_se",
        "ess_median", "ess_5", "untrusted", "trusted", "non_finite", "latent_size", "distance",
        "energy_error", "divergent", "step_size", "beta",
    }
)  # fmt: skip
"""The numbers of an evaluation that a page cannot do without."""


@dataclass(frozen=True, eq=False)
class ReportInputs:
    """What a report is made from.

    - `model`: what was trained; `test`: the examples (batch axis first) that the pictures show.
    - `evaluation`: `Evaluation.to_dict()` of the model on test data, with `REQUIRED` in it; it may
      have what a run knows besides (`epochs`, `seconds_training`, ...). None stands for a number
      that was not finite, as in JSON.
    - `title`: any text, such as the run's name; `name`: what the model is called in tables.
    - `history`: one mapping per epoch, `Fit.history` or the lines of metrics.jsonl.
    - `labels`: of the examples, numbers or strings; `feature_names`: one for each number of an
      example (in row-major order), or each channel of series (T, C) or (C, T).
    - `classes`: the names of the classes of features that have them, by the feature's index.
    - `baseline`, `baseline_history`: evaluation and history of the plain VAE; `difference`:
      `hvax.difference` of the two, or None where it is not known.
    - `references`: the NLL of models without a latent, by name, in nats: of independent features,
      of a Gaussian with full covariance.
    - `failed`: what went wrong in training, in words, or None.
    - `options`: those of the run, nested; `data`: what is known of how the data were prepared.

    Raises `ValueError` for labels that are not one per example, names that do not fit, and an
    evaluation that lacks a number.
    """

    model: Model
    test: Examples
    evaluation: Mapping[str, Any]
    title: str = "hvax report"
    name: str = ""
    history: Sequence[Mapping[str, Any]] = ()
    labels: np.ndarray | None = None
    feature_names: Sequence[str] | None = None
    classes: Classes = field(default_factory=dict)
    baseline: Mapping[str, Any] | None = None
    baseline_history: Sequence[Mapping[str, Any]] = ()
    difference: Mapping[str, Any] | None = None
    references: Mapping[str, float] = field(default_factory=dict)
    failed: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_labels(self.labels, len(self.test))
        check_names(self.feature_names, self.test.x_shape)
        for name, numbers in (("evaluation", self.evaluation), ("baseline", self.baseline)):
            missing = sorted(REQUIRED - numbers.keys()) if numbers is not None else []
            if missing:
                raise ValueError(
                    f"`{name}` must hold the numbers of `hvax.evaluate`, but {missing[0]} is "
                    "missing. Give `hvax.evaluate(...).to_dict()`."
                )

    @property
    def latent_size(self) -> int:
        """The dimension of z."""
        return int(self.evaluation["latent_size"])

    @property
    def model_name(self) -> str:
        """What the model is called in tables."""
        return self.name or name_of(self.model)

    @property
    def moved(self) -> bool:
        """Whether something, such as a flow, moves the encoder's draws."""
        return moves_draws(self.model, self.test)

    @property
    def shown_as_images(self) -> bool:
        """Whether an example is shown as a picture: it has the shape of one, and no names."""
        return is_image(self.test.x_shape) and self.feature_names is None

    def label(self, row: int | np.integer[Any]) -> str | None:
        """The label of an example in words; None where there are none."""
        return None if self.labels is None else str(self.labels[row])


def check_labels(labels: np.ndarray | None, count: int) -> None:
    """Raises `ValueError` unless there is a label for each of so many examples, or none at all."""
    if labels is not None and labels.shape != (count,):
        raise ValueError(
            f"`labels` must be one per test example, got {len(labels) if labels.ndim else 1} "
            f"labels, shape {labels.shape}, for {count} examples. Give labels of shape ({count},)."
        )
