"""What a training leaves: models, their scores, and what these are to be compared with."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from hvax.data.encode import Unseen
from hvax.data.examples import chosen_rows, subsample
from hvax.evaluation.evaluate import evaluate
from hvax.evaluation.imputation import Imputed, impute
from hvax.evaluation.latent import Encoding, encode, reconstruct, sample
from hvax.evaluation.result import Evaluation, difference
from hvax.evaluation.table import as_json
from hvax.models.latent_model import AbstractLatentModel
from hvax.pipeline.imputed_table import ImputedTable
from hvax.pipeline.parts import Parts
from hvax.pipeline.settings import Settings
from hvax.pipeline.tables import is_table
from hvax.report.inputs import ReportInputs
from hvax.report.report import write_page
from hvax.storage.structure import digest, save
from hvax.training.phase import Fit


def as_frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a pandas DataFrame where pandas is installed, else as a list of dicts."""
    try:
        import pandas
    except ImportError:
        return [dict(row) for row in rows]
    return pandas.DataFrame(rows)


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
            "vae_epochs": self.fit.vae_epochs,
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
    progress: bool = True
    """Whether the methods show progress bars, unless they are told by `progress=`."""
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

    @property
    def history(self) -> Any:
        """The epochs of the model, a row for each: a pandas DataFrame, without pandas a list."""
        return as_frame(self.fitted.history)

    def encode(
        self, data: Any, *, num_samples: int = 1, unseen: Unseen = "refuse", **options: Any
    ) -> Encoding:
        """`hvax.encode` of the model: mean and sigma of q(z_0 | x), and draws of z.

        Here and below, classes of a table that the model did not learn are refused, or taken as
        missing values with `unseen="missing"`.
        """
        options = {"progress": self.progress} | options
        return encode(self.model, self._numbers(data, unseen), num_samples=num_samples, **options)

    def sample(self, n: int, **options: Any) -> Any:
        """`hvax.sample` of the model: n new data points; a DataFrame if it learned from one."""
        options = {"progress": self.progress} | options
        made = sample(self.model, n, latent_size=self.scores.latent_size, **options)
        return made if self.table is None else self.table.decode(made)

    def reconstruct(self, data: Any, *, unseen: Unseen = "refuse", **options: Any) -> Any:
        """`hvax.reconstruct` of the model: E[x | z] of each data point; a DataFrame of one."""
        options = {"progress": self.progress} | options
        made = reconstruct(self.model, self._numbers(data, unseen), **options)
        return self.table.decode(made, like=data) if self._is_frame(data) else made

    def impute(
        self, data: Any, *, unseen: Unseen = "refuse", **options: Any
    ) -> Imputed | ImputedTable:
        """`hvax.impute` of the model: the missing values of each data point, with intervals.

        Of a DataFrame the result gives DataFrames with its columns, order and types: `.mean`,
        `.draws`, `.interval(0.9)`, and `.cells()` with one row for each missing cell.
        """
        options = {"progress": self.progress} | options
        found = impute(self.model, self._numbers(data, unseen), **options)
        return ImputedTable(data, self.table, found) if self._is_frame(data) else found

    @property
    def table(self) -> Any:
        """The schema (`hvax.Table`) of the DataFrame or table it learned from; None of arrays."""
        return self.parts.table

    def _is_frame(self, data: Any) -> bool:
        return self.table is not None and not isinstance(data, str | Path) and is_table(data)

    def _numbers(self, data: Any, unseen: Unseen) -> Any:
        """A table as numbers, by the schema of the training data; anything else as it is."""
        if self.table is None or not is_table(data):
            return data
        return self.table.encode(data, unseen=unseen)

    def score(
        self,
        data: Any,
        *,
        num_samples: int | None = None,
        unseen: Unseen = "refuse",
        **options: Any,
    ) -> Evaluation:
        """`hvax.evaluate` of the model on other data: ELBO, NLL and their errors."""
        number = self.settings.num_samples if num_samples is None else num_samples
        given: dict[str, Any] = {"progress": self.progress, "key": jax.random.key(0)} | options
        x = self._numbers(data, unseen)
        return evaluate(self.model, x, num_samples=number, **given)

    def save(self, folder: str | Path) -> None:
        """`hvax.save` of the model, to be loaded with `hvax.load(folder)`."""
        save(self.model, folder)

    def report(self, path: str | Path, *, title: str | None = None) -> None:
        """Write the page of `hvax.write_report` on the test part, with the baseline beside it."""
        inputs = replace(self._report_inputs(), title=title or Path(path).stem)
        write_page(inputs, path, key=jax.random.key(0))

    def _report_inputs(self) -> ReportInputs:
        parts, points = self.parts, self.scores.num_points
        labels = parts.test_labels
        if labels is not None and points < len(parts.test):
            labels = labels[chosen_rows(len(parts.test), points)]
        beside = self.baseline
        return ReportInputs(
            model=self.model,
            test=subsample(parts.test, points),
            evaluation=self.scores.to_dict(),
            name=self.results[self._shown].label,
            history=self.fitted.history,
            labels=labels,
            feature_names=parts.feature_names,
            classes={} if parts.table is None else parts.table.classes,
            baseline=None if beside is None else beside.scores.to_dict(),
            baseline_history=() if beside is None else beside.fit.history,
            difference=self.difference,
            references={name: row["nll"] for name, row in self.references.items()},
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the table of scores, learning curves and samples."""
        if not self.results:
            return f"<pre>{html.escape(repr(self))}</pre>"
        # Matplotlib and jinja2 are loaded here, not with `import hvax`.
        from hvax.report.summary import summary

        return summary(self._report_inputs(), repr(self))

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
