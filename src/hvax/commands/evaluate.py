"""`hvax evaluate`: the numbers of a run, on its test part or on other data."""

from typing import Any

import jax
import numpy as np

from hvax.commands.directory import EVALUATION, Run, open_run, write_json
from hvax.commands.select import evenly, new_file, run_data
from hvax.config import Evaluate
from hvax.data.examples import Examples
from hvax.evaluation.ais import AIS, annealed_importance_sampling, simulate
from hvax.evaluation.evaluate import evaluate
from hvax.evaluation.table import as_json, as_table


def evaluate_run(config: Evaluate) -> int:
    """The program's `evaluate`; its exit code."""
    run = open_run(config.run)
    if config.points < 1 or config.ais_points < 1:
        raise ValueError("--points and --ais-points must be >= 1.")
    if config.per_point is not None:
        new_file(config.per_point, (".npy",))
    data, _ = run_data(run, config.source, config.data_dir)
    chosen = evenly(data, config.points)
    keys = jax.random.split(jax.random.key(config.seed), 3)
    scores = evaluate(
        run.model, chosen, key=keys[0], num_samples=config.num_samples, progress=config.progress
    )
    print(as_table(scores))
    record: dict[str, Any] = {"source": config.source or "test", **as_json(scores)}
    if config.ais:
        record["ais"] = _ais(config, run, evenly(chosen, config.ais_points), scores.latent_size)
    if config.per_point is not None:
        with config.per_point.open("xb") as file:
            np.save(file, np.stack(scores.per_point, axis=1))
    if config.source is None:
        write_json(run.path / EVALUATION, record)
    return 0


def _ais(config: Evaluate, run: Run, data: Examples, latent_size: int) -> dict[str, Any]:
    """AIS from both starts on real data (lower bounds) and on simulated data (both bounds)."""
    data_key, *keys = jax.random.split(jax.random.key(config.seed + 1), 5)
    made, latents = simulate(run.model, len(data), latent_size, key=data_key)
    simulated = Examples(np.asarray(made))
    record: dict[str, Any] = {}
    print(
        f"\nAIS: {len(data)} points, {config.ais_chains} chains, {config.ais_temperatures} "
        f"temperatures, {config.ais_leapfrog} leapfrog steps; log p(x), nats"
    )
    for which, examples, draws in (("real", data, None), ("simulated", simulated, latents)):
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
