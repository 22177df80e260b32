"""`hvax report`: a run's page, from what its directory holds."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from numpy.typing import NDArray

from hvax.commands.directory import Run, open_run, read_history
from hvax.commands.inputs import new_file, run_data
from hvax.config import InsideFile, WriteReport
from hvax.data.examples import Examples
from hvax.models.hvae import HVAE
from hvax.report.inputs import REQUIRED, ReportInputs
from hvax.report.report import write_page
from hvax.storage.forms import read_record
from hvax.storage.run_folder import BASELINE, CONFIG, EVALUATION, MODEL, REPORT, RESULTS

# Rows of results.json that are no models with a latent, and what the page calls them.
_REFERENCES = {
    "independent": "independent features",
    "gaussian": "full-covariance Gaussian",
    "mixture": "mixture of Gaussians",
}
_NO_MODEL = {"vae", "hvae", "difference", "failed"}


def report_run(config: WriteReport) -> int:
    """The program's `report`; its exit code."""
    run = _opened(config.run)
    path = config.out or config.run / REPORT
    new_file(path, (".html",), overwrite=config.overwrite)
    data = run_data(run, None, InsideFile(labels=config.labels), config.own_data)
    report_on(run, data.examples, data.labels, path)
    print(f"report: {path}")
    return 0


def report_on(run: Run, test: Examples, labels: NDArray[Any] | None, path: Path) -> None:
    """Writes the page of a run, whose test part is given, to `path`.

    A model's numbers are those of its last `hvax evaluate`, or else of the end of its training.
    Raises `ValueError` where there are neither, or some are missing.
    """
    baseline = run.path / BASELINE
    trained, record = _results(run), _prepared(run)
    own = trained.get(run.config.model.model, {})
    beside = trained.get("vae") if run.config.model.model == "hvae" else None
    again, beside_again = (_evaluation(folder) for folder in (run.path, baseline))
    as_trained = again is None and beside_again is None
    write_page(
        ReportInputs(
            title=run.path.resolve().name,
            name=_name(run),
            model=run.model,
            test=test,
            labels=labels,
            feature_names=_feature_names(record, test),
            classes={} if run.table is None else run.table.classes,
            evaluation=_whole({**own, **(again or {})}, run.path),
            history=read_history(run.path),
            baseline=None
            if beside is None
            else _whole({**beside, **(beside_again or {})}, baseline),
            baseline_history=[] if beside is None else read_history(baseline),
            difference=trained.get("difference") if beside is not None and as_trained else None,
            references=_references(trained),
            failed=_failure(trained),
            options=run.options,
            data=record,
        ),
        path,
        key=jax.random.key(0),
    )


def _name(run: Run) -> str:
    """What tables call the model: by its flow, where it has one."""
    flow = str(run.options.get("flow", {}).get("flow", "hvae"))
    return flow.upper() if isinstance(run.model, HVAE) else "VAE"


def _opened(path: Path) -> Run:
    """The run in a directory; where its flow failed for good, the plain VAE beside it."""
    has_model, baseline = (path / MODEL).is_dir(), path / BASELINE
    results = path / RESULTS
    if not has_model and results.is_file() and "failed" in read_record(results):
        return open_run(baseline if baseline.is_dir() else path)
    return open_run(path)


def _results(run: Run) -> dict[str, Mapping[str, Any]]:
    """results.json: a row for each model, and their difference; empty before the end of a run."""
    path = _beside(run, RESULTS)
    rows = read_record(path) if path.is_file() else {}
    for name, row in rows.items():
        if not isinstance(row, dict) and name != "failed":
            raise ValueError(f"{path} is damaged: the row {name!r} holds no numbers but {row!r}.")
    return rows


def _prepared(run: Run) -> Mapping[str, Any]:
    """What config.json says of the data: their shape, units, names, and what was left out."""
    path = _beside(run, CONFIG)
    data = read_record(path).get("data", {}) if path.is_file() else {}
    return data if isinstance(data, dict) else {}


def _beside(run: Run, name: str) -> Path:
    """A file of the run, which a baseline has in the folder above its own."""
    path = run.path / name
    if not path.is_file() and run.path.absolute().name == BASELINE:
        return run.path.absolute().parent / name
    return path


def _feature_names(record: Mapping[str, Any], test: Examples) -> list[str] | None:
    names = record.get("feature_names")
    if not isinstance(names, list) or len(names) != math.prod(test.x_shape):
        return None
    return [str(name) for name in names]


def _references(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The NLL of each reference model that has a finite one."""
    found = {}
    for name, row in rows.items():
        nll = row.get("nll") if name not in _NO_MODEL and isinstance(row, dict) else None
        if isinstance(nll, int | float) and math.isfinite(nll):
            found[_REFERENCES.get(name, name)] = float(nll)
    return found


def _failure(rows: Mapping[str, Any]) -> str | None:
    """What went wrong with the flow, in words."""
    failed, ended = rows.get("failed"), rows.get("hvae", {}).get("ended")
    if isinstance(failed, Mapping):
        why = failed.get("why", "")
        return f"The flow failed, and the plain VAE is shown alone. {why}".strip()
    if isinstance(failed, str):
        return failed
    if ended in ("flow failed", "flow of no use"):
        return "The flow was switched off in training: the model is scored without it."
    return None


def _whole(numbers: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    missing = sorted(REQUIRED - numbers.keys())
    if missing:
        raise ValueError(
            f"the numbers of {folder} are not complete ({missing[0]} is missing): "
            f"use `hvax evaluate {folder}` first."
        )
    return numbers


def _evaluation(folder: Path) -> Mapping[str, Any] | None:
    path = folder / EVALUATION
    return read_record(path) if path.is_file() else None
