"""`hvax report`: a run's page, from what its directory holds."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from numpy.typing import NDArray

from hvax.commands.directory import (
    BASELINE,
    EVALUATION,
    REPORT,
    RESULTS,
    Run,
    open_run,
    read_history,
    read_json,
)
from hvax.commands.select import new_file, run_data
from hvax.config import WriteReport
from hvax.data.examples import Examples
from hvax.evaluation.evaluate import Evaluation
from hvax.report.report import Report, write_report

# Runs from before the bridges do not name the last two.
_NUMBERS = {field.name for field in dataclasses.fields(Evaluation)} - {
    "per_point", "seconds_per_gradient", "bridge", "eta",
}  # fmt: skip


def report_run(config: WriteReport) -> int:
    """The program's `report`; its exit code."""
    run = open_run(config.run)
    path = config.out or run.path / REPORT
    new_file(path, (".html",), overwrite=config.overwrite)
    test, labels = run_data(run, None, config.data_dir)
    report_on(run, test, labels, path)
    print(f"report: {path}")
    return 0


def report_on(run: Run, test: Examples, labels: NDArray[Any] | None, path: Path) -> None:
    """Writes the page of a run, whose test part is given, to `path`.

    A model's numbers are those of its last `hvax evaluate`, or else of the end of its training.
    Raises `ValueError` where there are neither, or some are missing.
    """
    baseline = run.path / BASELINE
    trained = _results(run)
    own = trained.get(run.config.model.model, {})
    beside = trained.get("vae") if run.config.model.model == "hvae" else None
    again, beside_again = (_evaluation(folder) for folder in (run.path, baseline))
    as_trained = again is None and beside_again is None
    write_report(
        Report(
            title=run.path.resolve().name,
            model=run.model,
            test=test,
            labels=labels,
            evaluation=_whole({**own, **(again or {})}, run.path),
            history=read_history(run.path),
            baseline=None
            if beside is None
            else _whole({**beside, **(beside_again or {})}, baseline),
            baseline_history=[] if beside is None else read_history(baseline),
            difference=trained.get("difference") if beside is not None and as_trained else None,
            options=run.options,
        ),
        path,
        key=jax.random.key(0),
    )


def _results(run: Run) -> dict[str, Mapping[str, Any]]:
    """results.json: a row for each model, and their difference; empty before the end of a run."""
    path = run.path / RESULTS
    if not path.is_file() and run.path.absolute().name == BASELINE:
        path = run.path.absolute().parent / RESULTS
    rows = read_json(path) if path.is_file() else {}
    for name, row in rows.items():
        if not isinstance(row, dict):
            raise ValueError(f"{path} is damaged: the row {name!r} holds no numbers but {row!r}.")
    return rows


def _whole(numbers: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    missing = sorted(_NUMBERS - numbers.keys())
    if missing:
        raise ValueError(
            f"the numbers of {folder} are not complete ({missing[0]} is missing): "
            f"use `hvax evaluate {folder}` first."
        )
    return numbers


def _evaluation(folder: Path) -> Mapping[str, Any] | None:
    path = folder / EVALUATION
    return read_json(path) if path.is_file() else None
