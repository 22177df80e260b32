"""One training run as the program does it: a run directory, the baseline, the final table.

runs/NAME/config.json     format version, every option, what was read, versions
runs/NAME/metrics.jsonl   one JSON object per epoch
runs/NAME/model/          the best model by validation ELBO (hvax.load opens it)
runs/NAME/results.json    the final table
runs/NAME/baseline/       the plain VAE of the same networks: a run directory of its own
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from hvax import __version__
from hvax.build import Parts, build_hvae, build_optimiser, build_vae, load_parts
from hvax.config import Train
from hvax.data.examples import Examples
from hvax.evaluation.evaluate import evaluate
from hvax.evaluation.table import as_json
from hvax.files import write_atomically
from hvax.structure import save
from hvax.training.fit import Event, check_fit, fit

FORMAT = 1
_PARTS = ("train", "validation", "test")


def train(config: Train) -> int:
    """The program's `train`; gives its exit code.

    Raises `ValueError`, `TypeError` and `OSError` for bad input, before anything is written.
    """
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

    run_dir = _claim(config, parts)
    print(_describe(config, parts))
    rows = {}
    for name, model in models.items():
        own = name == config.model.model
        rows[name] = _train_one(
            config, name, model, parts, run_dir if own else run_dir / "baseline"
        )
        if rows[name]["ended"] == "interrupted":
            break
    write_atomically(run_dir / "results.json", json.dumps(rows, indent=1).encode())
    print(f"\n{_table(rows)}\n\nrun directory: {run_dir}")
    return 130 if any(row["ended"] == "interrupted" for row in rows.values()) else 0


def _train_one(
    config: Train, name: str, model: PyTree, parts: Parts, folder: Path
) -> dict[str, Any]:
    """Trains, saves and scores one model; its row of the final table."""
    folder.mkdir(exist_ok=True)
    with (folder / "metrics.jsonl").open("a") as metrics:

        def log(event: Event) -> None:
            metrics.write(json.dumps(event.metrics) + "\n")
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
    save(fitted.model, folder / "model")
    step = int(fitted.state.step)
    pace = step * config.train.batch_size / fitted.seconds_training
    print(
        f"{name.upper():5} {fitted.ended} after {len(fitted.history)} epochs ({step} steps); "
        f"best epoch {fitted.best_epoch}; {fitted.seconds_training:.1f} s training, "
        f"{fitted.seconds_compiling:.1f} s compiling; {pace:.0f} examples/s"
    )
    test = _evenly(parts.test, config.train.test_points)
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


def _claim(config: Train, parts: Parts) -> Path:
    """A new run directory with its config.json; one that is there is replaced if asked to be."""
    name = f"{Path(config.source).stem}-{config.model.model}-{time.strftime('%Y%m%d-%H%M%S')}"
    run_dir = config.run_dir or Path("runs") / name
    if run_dir.exists():
        if not config.overwrite:
            raise ValueError(f"{run_dir} is there already; use --overwrite or another --run-dir.")
        if any(run_dir.iterdir()) and not (run_dir / "config.json").is_file():
            raise ValueError(f"{run_dir} is no run of hvax's, so --overwrite does not replace it.")
        shutil.rmtree(run_dir)
    run_dir.mkdir(parents=True)
    record = {
        "format": FORMAT,
        "hvax": __version__,
        "jax": jax.__version__,
        "device": str(jax.devices()[0]),
        "options": dataclasses.asdict(config),
        "data": {
            "x_shape": parts.train.x_shape,
            "scale": parts.train.scale,
            "examples": {part: len(getattr(parts, part)) for part in _PARTS},
            "likelihood": type(parts.likelihood).__name__,
        },
    }
    write_atomically(run_dir / "config.json", json.dumps(record, indent=1, default=str).encode())
    return run_dir


def _describe(config: Train, parts: Parts) -> str:
    sizes = ", ".join(f"{len(getattr(parts, part))} {part}" for part in _PARTS)
    return f"{config.source}: {sizes}; examples of shape {parts.train.x_shape}"


def _evenly(examples: Examples, most: int) -> Examples:
    """At most so many examples, evenly spaced: a file's first ones may be of another kind."""
    if len(examples) <= most:
        return examples
    chosen = np.linspace(0, len(examples) - 1, most).round().astype(np.int64)
    index = chosen if examples.index is None else examples.index[chosen]
    return dataclasses.replace(examples, index=index)


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
    return "\n".join(lines)
