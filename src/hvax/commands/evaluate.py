"""`hvax evaluate`: the numbers of a run, on its test part or on other data."""

from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from hvax.commands.directory import EVALUATION, Run, open_run, write_json
from hvax.commands.select import (
    as_data,
    at_least_one,
    evenly,
    new_file,
    run_data,
    seed_key,
    write_whole,
)
from hvax.config import Evaluate
from hvax.data.examples import Examples
from hvax.evaluation.ais import AIS, annealed_importance_sampling, simulate
from hvax.evaluation.evaluate import evaluate
from hvax.evaluation.table import as_json, as_table, note


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
        new_file(config.per_point, (".npy",))
    data, _ = run_data(run, config.source, config.data_dir)
    chosen = evenly(data, config.points)
    scores = evaluate(
        run.model, chosen, key=key, num_samples=config.num_samples, progress=config.progress
    )
    print(as_table(scores))
    note(scores)
    record: dict[str, Any] = {"source": config.source or "test", **as_json(scores)}
    if config.per_point is not None:
        table = np.stack(scores.per_point, axis=1)
        write_whole(config.per_point, lambda file: np.save(file, table))
    if config.source is None:
        write_json(run.path / EVALUATION, record)  # before AIS, which may take an hour
    if config.ais:
        some = evenly(chosen, config.ais_points)
        record["ais"] = _ais(config, run, some, scores.latent_size, key=ais_key)
        if config.source is None:
            write_json(run.path / EVALUATION, record)
    return 0


def _ais(
    config: Evaluate, run: Run, data: Examples, latent_size: int, *, key: PRNGKeyArray
) -> dict[str, Any]:
    """AIS from both starts on real data (lower bounds) and on simulated data (both bounds)."""
    data_key, *keys = jax.random.split(key, 5)
    drawn, latents = simulate(run.model, len(data), latent_size, key=data_key)
    made = as_data(run, np.asarray(drawn))
    # Of one dtype, so that both are swept by the same compiled program.
    real, simulated = Examples(data[:].astype(made.dtype)), Examples(made)
    record: dict[str, Any] = {}
    print(
        f"\nAIS: {len(data)} points, {config.ais_chains} chains, {config.ais_temperatures} "
        f"temperatures, {config.ais_leapfrog} leapfrog steps; log p(x), nats"
    )
    for which, examples, draws in (("real", real, None), ("simulated", simulated, latents)):
        for start in ("prior", "posterior"):
            result = annealed_importance_sampling(
                run.model,
                examples,
                key=keys.pop(),
                start=start,
                num_temperatures=config.ais_temperatures,
                num_chains=config.ais_chains,
                num_leapfrog=config.ais_leapfrog,
                posterior_draws=draws,
                progress=config.progress,
            )
            record[f"{which} data, from {start}"] = _summary(result)
            print(f"{which + ' data, from ' + start:32}{_line(result)}")
    print("on real data there is no exact posterior draw, so AIS gives a lower bound alone")
    return record


def _summary(result: AIS) -> dict[str, Any]:
    upper = None if result.upper is None else float(result.upper.mean())
    return {
        "lower": float(result.lower.mean()),
        "upper": upper,
        "acceptance": result.acceptance,
        "points": len(result.lower),
    }


def _line(result: AIS) -> str:
    lower = result.lower.mean()
    if result.upper is None:
        return f">= {lower:.3f}"
    upper = result.upper.mean()
    return f"{lower:.3f} to {upper:.3f}, gap {upper - lower:.3f}"
