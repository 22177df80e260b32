"""`hvax train`: trains a model, and the plain VAE beside it, and prints their numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from hvax.commands.build import Parts, build_hvae, build_optimiser, build_vae, load_parts
from hvax.commands.directory import BASELINE, METRICS, MODEL, RESULTS, claim, dumps, write_json
from hvax.commands.select import evenly
from hvax.config import Train
from hvax.evaluation.evaluate import evaluate
from hvax.evaluation.table import GREY, as_json
from hvax.structure import save
from hvax.training.fit import Event, check_fit, fit

_PARTS = ("train", "validation", "test")


def train(config: Train) -> int:
    """The program's `train`; gives its exit code.

    Raises `ValueError`, `TypeError` and `OSError` for bad input, before anything is written.
    """
    if not 0 <= config.train.seed < 2**32:
        raise ValueError(f"--seed must be in [0, 2**32), got {config.train.seed}.")
    jax.config.update("jax_enable_x64", config.train.x64)
    parts = load_parts(config)
    vae = build_vae(config, parts, key=jax.random.key(config.train.seed))
    models: dict[str, PyTree] = {"vae": vae}
    if config.model.model == "hvae":
        plain = models if config.train.baseline else {}
        models = plain | {"hvae": build_hvae(config, vae)}
    build_optimiser(config)
    check_fit(vae, parts.train, parts.validation, **_loop_options(config))
    if config.train.num_samples < 1 or config.train.test_points < 1:
        raise ValueError("--num-samples and --test-points must be >= 1.")

    run_dir = claim(config, parts)
    print(_describe(config, parts))
    rows = {}
    for name, model in models.items():
        own = name == config.model.model
        rows[name] = _train_one(config, name, model, parts, run_dir if own else run_dir / BASELINE)
        if rows[name]["ended"] == "interrupted":
            break
    write_json(run_dir / RESULTS, rows)
    print(f"\n{_table(rows)}\n\nrun directory: {run_dir}")
    return 130 if any(row["ended"] == "interrupted" for row in rows.values()) else 0


def _train_one(
    config: Train, name: str, model: PyTree, parts: Parts, folder: Path
) -> dict[str, Any]:
    """Trains, saves and scores one model; its row of the final table."""
    folder.mkdir(exist_ok=True)
    with (folder / METRICS).open("a") as metrics:

        def log(event: Event) -> None:
            metrics.write(dumps(event.metrics) + "\n")
            metrics.flush()

        fitted = fit(
            model,
            parts.train,
            validation=parts.validation,
            optimiser=build_optimiser(config),
            transform=parts.transform,
            seed=config.train.seed,
            callback=log,
            progress=config.progress,
            **_loop_options(config),
        )
    save(fitted.model, folder / MODEL)
    step = int(fitted.state.step)
    pace = step * config.train.batch_size / fitted.seconds_training
    print(
        f"{name.upper():5} {fitted.ended} after {len(fitted.history)} epochs ({step} steps); "
        f"best epoch {fitted.best_epoch}; {fitted.seconds_training:.1f} s training, "
        f"{fitted.seconds_compiling:.1f} s compiling; {pace:.0f} examples/s"
    )
    test = evenly(parts.test, config.train.test_points)
    scores = evaluate(
        fitted.model,
        test,
        key=jax.random.key(0),  # not of --seed: runs are compared on the same draws
        num_samples=config.train.num_samples,
        progress=config.progress,
    )
    return {
        **as_json(scores),
        "ended": fitted.ended,
        "epochs": len(fitted.history),
        "best_epoch": fitted.best_epoch,
        "seconds_training": fitted.seconds_training,
        "seconds_compiling": fitted.seconds_compiling,
    }


def _loop_options(config: Train) -> dict[str, Any]:
    options = config.train
    return {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "patience": options.patience,
    }


def _describe(config: Train, parts: Parts) -> str:
    sizes = ", ".join(f"{len(getattr(parts, part))} {part}" for part in _PARTS)
    return f"{config.source}: {sizes}; examples of shape {parts.train.x_shape}"


def _table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    first = next(iter(rows.values()))
    points, samples = first["num_points"], first["num_samples"]
    lines = [
        f"On {points} test points, in nats, +- one standard error over points:",
        f"{'':6}{'ELBO':>18}{f'NLL ({samples} samples)':>22}{'seconds':>9}{'flow moves z by':>18}",
    ]
    for name, row in rows.items():
        elbo = f"{row['elbo']:.2f} +- {row['elbo_se']:.2f}"
        nll = f"{row['nll']:.2f} +- {row['nll_se']:.2f}"
        moved = f"{row['distance']:.2f} sd" if name == "hvae" else "-"
        lines.append(
            f"{name.upper():6}{elbo:>18}{nll:>22}{row['seconds_training']:>9.1f}{moved:>18}"
        )
    if first["grey"]:
        lines.append(GREY)
    return "\n".join(lines)
