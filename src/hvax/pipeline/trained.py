"""What a training leaves: models, their scores, and what these are to be compared with."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hvax.evaluation.evaluate import difference
from hvax.evaluation.result import Evaluation
from hvax.evaluation.table import as_json
from hvax.models.latent_model import AbstractLatentModel
from hvax.pipeline.parts import Parts
from hvax.pipeline.settings import Settings
from hvax.storage.structure import digest
from hvax.training.phase import Fit


class Scored(NamedTuple):
    """One trained model with its scores on the test part."""

    label: str
    """What tables call it: VAE, or its flow, such as DAIS."""
    fit: Fit
    scores: Evaluation

    @property
    def model(self) -> AbstractLatentModel:
        """The best by validation bound."""
        return self.fit.model

    def record(self) -> dict[str, Any]:
        """Its row of results.json."""
        return {
            **as_json(self.scores),
            "ended": self.fit.ended,
            "epochs": len(self.fit.history),
            "best_epoch": self.fit.best_epoch,
            "skipped": self.fit.skipped,
            "weights": digest(self.model),
            "seconds_training": self.fit.seconds_training,
            "seconds_compiling": self.fit.seconds_compiling,
        }


@dataclass(eq=False)
class Trained:
    """What `hvax.train` gives. Printed it is the table of scores that `hvax train` ends with."""

    parts: Parts
    """The data: `parts.train`, `parts.validation` and `parts.test` are `Examples`."""
    settings: Settings
    """Epochs, batch size and the rest, as they were chosen."""
    name: str
    """Of the model that was asked for: "hvae" with a flow, "vae" without."""
    labels: dict[str, str]
    """By name, what tables call the models."""
    run_dir: Path | None
    references: dict[str, dict[str, float]] = field(default_factory=dict)
    """By name ("independent", and "gaussian" for real numbers): the test NLL of a model that needs
    no training, in nats, and its standard error."""
    results: dict[str, Scored] = field(default_factory=dict)
    """By name, "vae" and "hvae"."""
    failed: dict[str, str] | None = None
    """Of a model with a flow whose training failed for good: its name ("model"), and "why". Then
    `model`, `fitted` and `scores` are those of the plain VAE."""
    unfinished: Fit | None = None
    """The training that a signal ended, where signals are handled; there are then no scores of that
    model and of those after it."""

    @property
    def _shown(self) -> str:
        return self.name if self.name in self.results else "vae"

    @property
    def model(self) -> AbstractLatentModel:
        """The model that was asked for, the best by validation bound."""
        return self.results[self._shown].model

    @property
    def fitted(self) -> Fit:
        """What `fit` gave of it: the history, the best epoch, why it ended."""
        return self.results[self._shown].fit

    @property
    def scores(self) -> Evaluation:
        """Its ELBO, NLL and diagnostics on the test part."""
        return self.results[self._shown].scores

    @property
    def baseline(self) -> Scored | None:
        """The plain VAE beside a model with a flow; None where none was trained."""
        return self.results.get("vae") if self._shown == "hvae" else None

    @property
    def difference(self) -> dict[str, float] | None:
        """ELBO and NLL less those of the baseline, point by point, with standard errors; see
        `hvax.difference`."""
        if self.baseline is None:
            return None
        return difference(self.scores, self.baseline.scores)

    def record(self) -> dict[str, Any]:
        """What results.json holds of it."""
        rows: dict[str, Any] = dict(self.references)
        rows |= {name: scored.record() for name, scored in self.results.items()}
        if self.failed is not None:
            rows["failed"] = self.failed
        if self.difference is not None:
            rows["difference"] = self.difference
        return rows

    def __repr__(self) -> str:
        from hvax.pipeline.table import outcome_table  # which knows this class

        return outcome_table(self) if self.results else f"unfinished training of {self.parts.name}"
