"""A trained model as one HTML file, which holds everything it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from hvax.batch import Batch
from hvax.data.examples import as_examples
from hvax.evaluation.batching import key_or_default
from hvax.evaluation.evaluate import evaluate
from hvax.evaluation.result import Evaluation, difference
from hvax.report.inputs import ReportInputs, check_labels
from hvax.report.model_view import Model
from hvax.report.names import check_names
from hvax.storage.files import write_atomically


def write_report(
    model: Model,
    data: Any,
    path: str | Path,
    *,
    title: str | None = None,
    labels: Any = None,
    feature_names: Sequence[str] | None = None,
    evaluation: Evaluation | Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    baseline: Evaluation | Mapping[str, Any] | None = None,
    baseline_history: Sequence[Mapping[str, Any]] = (),
    num_samples: int = 500,
    key: PRNGKeyArray | None = None,
    progress: bool = True,
) -> None:
    """Write a page of a model's numbers and pictures on held-out data, as one HTML file.

    A model and an array are enough:

        fitted = hvax.fit(model, x_train, validation=x_valid, epochs=50)
        hvax.write_report(fitted.model, x_test, "report.html", history=fitted.history)

    **Arguments:**

    - `model`: a trained model.
    - `data`: the examples that are scored and shown, (n, *x_shape) with the batch axis first: an
      array, a DataFrame or `Examples`. There is no page of pairs (x, target), nor of conditions.
    - `path`: the file to write; one that is there is replaced, whole or not at all.
    - `title`: the page's title; by default the file's name without its ending.
    - `labels`: one for each example, numbers or strings: an array, a list or a Series. They color
      the map of the latent space.
    - `feature_names`: one for each number of an example, or for each channel of series; by default
      the columns of a DataFrame, or none.
    - `evaluation`: `hvax.evaluate(...)` of the model on these data, or its `to_dict()`; where None,
      `num_samples` importance samples per example are drawn here, which takes most of the time.
    - `history`: `Fit.history`, for the learning curves; without it the page has none.
    - `baseline`, `baseline_history`: the same of a plain VAE to compare with. Two `Evaluation`s of
      the same examples are compared point by point.
    - `key`: of the draws, `jax.random.key(0)` where None; with the same key the file is the same.

    Raises `ValueError` for data that do not suit the model, labels or names that do not fit the
    data, and an evaluation that lacks numbers; `OSError` where the folder is missing or the file
    cannot be written.
    """
    key = key_or_default(key)
    if isinstance(data, Batch) and len(data.parts()) == 1:
        data = data.x
    if isinstance(data, Batch) and data.condition is not None:
        raise ValueError(
            "`data` must have no condition, got one: there is no page of such a model."
        )
    if isinstance(data, tuple):
        raise ValueError(
            "`data` must be one array of examples, got a pair or a batch of several parts. Give "
            "the examples that the model both reads and scores."
        )
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(
            f"`path` must be in a folder that exists, got {path}. Create {Path(path).parent} first."
        )
    test = as_examples(data)
    known_labels = None if labels is None else np.asarray(labels)
    names = feature_names if feature_names is not None else test.names
    check_labels(known_labels, len(test))  # before the work
    check_names(names, test.x_shape)
    score_key, page_key = jax.random.split(key)
    if evaluation is None:
        evaluation = evaluate(
            model, test, key=score_key, num_samples=num_samples, progress=progress
        )
    apart = None
    if isinstance(evaluation, Evaluation) and isinstance(baseline, Evaluation):
        apart = difference(evaluation, baseline)
    inputs = ReportInputs(
        model=model,
        test=test,
        evaluation=_numbers(evaluation),
        title=Path(path).stem if title is None else title,
        history=history,
        labels=known_labels,
        feature_names=names,
        baseline=None if baseline is None else _numbers(baseline),
        baseline_history=baseline_history,
        difference=apart,
    )
    write_page(inputs, path, key=page_key)


def write_page(report: ReportInputs, path: str | Path, *, key: PRNGKeyArray) -> None:
    """Writes a report to `path`, whole or not at all; a file that is there is replaced.

    What is random in the pictures comes from `key`; with the same key the file is the same.
    """
    write_atomically(Path(path), page_of(report, key=key).encode(errors="backslashreplace"))


def page_of(report: ReportInputs, *, key: PRNGKeyArray) -> str:
    """A report as HTML."""
    # Matplotlib and jinja2 are loaded where a page is written, not with `import hvax`.
    from hvax.report.contents import contents
    from hvax.report.page import render

    return render(contents(report, key=key))


def _numbers(evaluation: Evaluation | Mapping[str, Any]) -> Mapping[str, Any]:
    return evaluation.to_dict() if isinstance(evaluation, Evaluation) else evaluation
