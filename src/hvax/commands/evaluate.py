"""`hvax evaluate`: the numbers of a run, on its test part or on other data."""

import os
import shlex
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.commands.directory import Run, open_run
from hvax.commands.inputs import (
    at_least_one,
    new_file,
    run_data,
    seed_key,
    write_whole,
)
from hvax.config import Evaluate
from hvax.data.examples import Examples, subsample
from hvax.evaluation.advice import duration
from hvax.evaluation.evaluate import evaluate
from hvax.evaluation.sandwich import (
    Effort,
    ais_cases,
    bounds_of_cases,
    predicted_seconds,
    rough_cases,
)
from hvax.evaluation.table import as_json, as_table, note, untrusted_advice
from hvax.storage.forms import write_record
from hvax.storage.run_folder import EVALUATION

FINISHED = "ais"
"""In a run directory, the finished batches of annealed importance sampling."""


def evaluate_run(config: Evaluate) -> int:
    """The program's `evaluate`; its exit code."""
    at_least_one(
        num_samples=config.num_samples,
        points=config.points,
        ais_points=config.ais_points,
        ais_temperatures=config.ais_temperatures,
        ais_chains=config.ais_chains,
        ais_leapfrog=config.ais_leapfrog,
    )
    key, ais_key = jax.random.split(seed_key(config.seed))
    run = open_run(config.run)
    if config.per_point is not None:
        new_file(config.per_point, (".npy", ".npz"), overwrite=config.overwrite)
    data, _, rows = run_data(run, config.source, config.file, config.own_data)
    chosen = subsample(data, config.points)
    scores = evaluate(
        run.model, chosen, key=key, num_samples=config.num_samples, progress=config.progress
    )
    again = _again(config)
    print(as_table(scores, again, ais_follows=config.ais), flush=True)
    note(scores, untrusted_advice(scores, again))
    record: dict[str, Any] = {"source": config.source or "test", **as_json(scores)}
    columns: dict[str, NDArray[Any]] = dict(scores.per_point._asdict())
    columns["row"] = subsample(Examples(rows), config.points)[:]
    _write(config, run, record, columns)  # before AIS, which may take an hour
    if config.ais:
        order = Examples(np.arange(len(chosen)))
        some = subsample(order, config.ais_points)[:]
        part = chosen[some]
        record["ais"], lower = _ais(config, run, part, scores.latent_size, key=ais_key)
        for name, bounds in lower.items():
            columns[name] = np.full(len(chosen), np.nan)
            columns[name][some] = bounds
        _write(config, run, record, columns)
    return 0


def _write(
    config: Evaluate, run: Run, record: dict[str, Any], columns: dict[str, NDArray[Any]]
) -> None:
    """The numbers of the points, and of all where they are of the run's own test part."""
    path = config.per_point
    numbers = [np.asarray(column, np.float64) for name, column in columns.items() if name != "row"]
    if path is not None and path.suffix == ".npz":
        write_whole(path, lambda file: np.savez(file, allow_pickle=False, **columns))
    elif path is not None:
        write_whole(path, lambda file: np.save(file, np.stack(numbers, axis=1)))
    if config.source is None:
        write_record(run.path / EVALUATION, record)


def _again(config: Evaluate) -> str:
    """What stands behind `hvax evaluate` to score the same points, as a shell takes it."""
    default = Evaluate(run=config.run)
    words = [str(config.run)] + ([] if config.source is None else [config.source])
    for options, plain, names in (
        (config, default, ("points", "seed")),
        (config.file, default.file, ("array", "labels", "columns")),
        (config.own_data, default.own_data, ("source", "data_dir")),
    ):
        for name in names:
            value = getattr(options, name)
            if value != getattr(plain, name):
                several = value if isinstance(value, tuple) else (value,)
                words += [f"--{name.replace('_', '-')}", *map(str, several)]
    return shlex.join(words)


def _ais(
    config: Evaluate, run: Run, data: NDArray[Any], latent_size: int, *, key: PRNGKeyArray
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Print the bounds of AIS: what is recorded, and the lower bounds of each real point."""
    effort = Effort(
        num_temperatures=config.ais_temperatures,
        num_chains=config.ais_chains,
        num_leapfrog=config.ais_leapfrog,
    )
    cases, refused = ais_cases(run.model, data, latent_size, key=key)
    if refused is not None:
        print(f"\nno AIS on simulated data, since what the model draws are no data: {refused}")
    print(
        f"\nAIS: {len(data)} points, {effort.num_chains} chains, {effort.num_temperatures} "
        f"temperatures, {effort.num_leapfrog} leapfrog steps; log p(x), nats",
        flush=True,
    )
    rough = rough_cases(cases, effort)
    if rough is not None:
        few = rough[1].num_temperatures
        print(f"first with {few} temperatures, whose bounds are looser:", flush=True)
        for done in bounds_of_cases(run.model, *rough, progress=config.progress):
            print(f"  {done}", flush=True)
        time = duration(predicted_seconds(cases, effort, done))
        print(f"with {effort.num_temperatures} temperatures, in about {time}:", flush=True)
    record, lower = {}, {}
    for done in bounds_of_cases(
        run.model, cases, effort, checkpoint=_folder(config, run), progress=config.progress
    ):
        record[done.case.name] = done.to_dict()
        if not done.case.simulated:
            lower[f"ais_from_{done.case.start}"] = done.bounds.lower
        print(done, flush=True)
    print("on real data there is no exact posterior draw, so AIS gives a lower bound alone")
    return record, lower


def _folder(config: Evaluate, run: Run) -> Path | None:
    """The folder of finished batches; None for other data than the run's in a read-only run."""
    if config.source is not None and not os.access(run.path, os.W_OK):
        return None
    return run.path / FINISHED
