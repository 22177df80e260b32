"""`hvax evaluate`: the numbers of a run, on its test part or on other data."""

import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.checked_data import checked_data
from hvax.commands.directory import Run, open_run
from hvax.commands.inputs import (
    as_data,
    at_least_one,
    new_file,
    run_data,
    seed_key,
    write_whole,
)
from hvax.config import Evaluate
from hvax.data.examples import Examples, subsample
from hvax.evaluation.advice import duration
from hvax.evaluation.ais import AIS, annealed_importance_sampling, simulate, transitions
from hvax.evaluation.evaluate import evaluate
from hvax.evaluation.table import as_json, as_table, note
from hvax.storage.forms import write_record
from hvax.storage.run_folder import EVALUATION

FINISHED = "ais"
"""In a run directory, the finished batches of annealed importance sampling."""

_ROUGH = 10  # so many times fewer temperatures come first, where as many are left


class _Sweep(NamedTuple):
    """One of the runs of annealed importance sampling."""

    name: str
    data: Examples
    start: Any
    posterior_draws: Any
    key: PRNGKeyArray


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
    note(scores, again)
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
    default = Evaluate(config.run)
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
    """AIS from both starts on real data (lower bounds) and on simulated data (both bounds): what
    is recorded, and the bounds of each real point."""
    sweeps = _sweeps(run, data, latent_size, key)
    temperatures, rough = config.ais_temperatures, config.ais_temperatures // _ROUGH
    print(
        f"\nAIS: {len(data)} points, {config.ais_chains} chains, {temperatures} "
        f"temperatures, {config.ais_leapfrog} leapfrog steps; log p(x), nats",
        flush=True,
    )
    if rough >= _ROUGH:
        seconds = _first(config, run, sweeps, rough)
        print(f"with {temperatures} temperatures, in about {duration(seconds)}:", flush=True)
    record: dict[str, Any] = {}
    lower = {}
    folder = _folder(config, run)
    for sweep, result in _run(config, run, sweeps, temperatures, folder):
        record[sweep.name] = _summary(result)
        if sweep.posterior_draws is None:
            lower[f"ais_from_{sweep.start}"] = result.lower
        print(f"{sweep.name:32}{_line(result)}", flush=True)
    print("on real data there is no exact posterior draw, so AIS gives a lower bound alone")
    return record, lower


def _sweeps(run: Run, data: NDArray[Any], latent_size: int, key: PRNGKeyArray) -> list[_Sweep]:
    data_key, *keys = jax.random.split(key, 5)
    drawn, latents = simulate(run.model, len(data), latent_size, key=data_key)
    made = as_data(run, np.asarray(drawn))
    # Of one dtype, so that both are swept by the same compiled program.
    kinds = [
        ("real", Examples(data.astype(made.dtype)), None),
        ("simulated", Examples(made), latents),
    ]
    try:
        checked_data(run.model, made, "simulated data")
    except ValueError as error:
        print(f"\nno AIS on simulated data, since what the model draws are no data: {error}")
        del kinds[1]
    return [
        _Sweep(f"{which} data, from {start}", examples, start, draws, keys.pop())
        for which, examples, draws in kinds
        for start in ("prior", "posterior")
    ]


def _first(config: Evaluate, run: Run, sweeps: list[_Sweep], temperatures: int) -> float:
    """Prints the bounds with fewer temperatures; about how many seconds all of them will take."""
    print(f"first with {temperatures} temperatures, whose bounds are looser:", flush=True)
    early = [sweep._replace(key=jax.random.fold_in(sweep.key, 1)) for sweep in sweeps]
    seconds = steps = 0.0
    begun = time.perf_counter()
    for sweep, result in _run(config, run, early, temperatures, None):
        # The last alone is timed: those before it compile.
        seconds, begun = time.perf_counter() - begun, time.perf_counter()
        steps = transitions(temperatures, both=sweep.posterior_draws is not None)
        print(f"  {sweep.name:32}{_line(result)}", flush=True)
    whole = [
        transitions(config.ais_temperatures, both=sweep.posterior_draws is not None)
        for sweep in sweeps
    ]
    return seconds / steps * sum(whole)


def _run(
    config: Evaluate, run: Run, sweeps: list[_Sweep], temperatures: int, folder: Path | None
) -> Iterator[tuple[_Sweep, AIS]]:
    for sweep in sweeps:
        yield (
            sweep,
            annealed_importance_sampling(
                run.model,
                sweep.data,
                key=sweep.key,
                start=sweep.start,
                num_temperatures=temperatures,
                num_chains=config.ais_chains,
                num_leapfrog=config.ais_leapfrog,
                posterior_draws=sweep.posterior_draws,
                checkpoint=folder,
                progress=config.progress,
            ),
        )


def _folder(config: Evaluate, run: Run) -> Path | None:
    """Where finished batches are kept; nowhere for other data and a run that is read-only."""
    if config.source is not None and not os.access(run.path, os.W_OK):
        return None
    return run.path / FINISHED


def _summary(result: AIS) -> dict[str, Any]:
    upper = None if result.upper is None else float(result.upper.mean())
    return {
        "lower": float(result.lower.mean()),
        "upper": upper,
        "acceptance": result.acceptance,
        "points": len(result.lower),
        "lost_chains": result.lost,
    }


def _line(result: AIS) -> str:
    lower = result.lower.mean()
    lost = f" ({result.lost} chains failed)" if result.lost else ""
    if result.upper is None:
        return f">= {lower:.3f}{lost}"
    upper = result.upper.mean()
    return f"{lower:.3f} to {upper:.3f}, gap {upper - lower:.3f}{lost}"
