"""`hvax train`: trains a model, and the plain VAE beside it; prints and draws what came of it."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from hvax.commands.build import (
    Parts,
    build_hvae,
    build_optimiser,
    build_vae,
    load_parts,
    warm_started,
)
from hvax.commands.directory import (
    BASELINE,
    BEFORE_FLOW,
    REPORT,
    RESULTS,
    begin_as,
    claimed,
    followed_by,
    open_run,
    write_json,
)
from hvax.commands.report import report_on
from hvax.commands.select import evenly, seed_key
from hvax.config import Train
from hvax.door import count
from hvax.evaluation.evaluate import Evaluation, difference, evaluate
from hvax.evaluation.table import GREY, UNTRUSTED, as_json, note
from hvax.models.hvae import plain_vae
from hvax.structure import digest
from hvax.training.fit import Fit, check_fit, fit
from hvax.training.loop import Plan

_PARTS = ("train", "validation", "test")
_EXIT = {"interrupted": 130, "terminated": 143}
_UPDATES_WITH_FLOW = 400  # what its own numbers need to settle, and the networks to follow


def train(config: Train) -> int:
    """The program's `train`; gives its exit code.

    Raises `ValueError`, `TypeError` and `OSError` for bad input, before anything is written.
    """
    key = seed_key(config.train.seed)
    jax.config.update("jax_enable_x64", config.train.x64)
    parts = load_parts(config)
    vae = build_vae(config, parts, key=key)
    if config.train.warm_start is not None:
        vae = warm_started(vae, config.train.warm_start)
    models: dict[str, PyTree] = {"vae": vae}
    if config.model.model == "hvae":
        plain = models if config.train.baseline else {}
        models = plain | {"hvae": build_hvae(config, vae)}
    build_optimiser(config)
    check_fit(vae, parts.train, parts.validation, Plan(**_plan(config)))
    for name in ("num_samples", "test_points", "train_samples"):
        count(getattr(config.train, name), f"--{name.replace('_', '-')}")
    config = _decided(config, len(parts.train))

    with claimed(config, parts) as run_dir:
        print(_describe(config, parts))
        return _train(config, models, parts, run_dir)


def _decided(config: Train, examples: int) -> Train:
    """The options with the epoch in which the flow is turned on, which a resumed run keeps."""
    options, first, epochs = config.train, config.train.flow_from_epoch, config.train.epochs
    if config.model.model == "vae":
        return config
    if first is None:
        gradients = config.flow.num_steps * config.flow.leapfrog_steps
        last = epochs_with_flow(epochs, gradients, examples // options.batch_size)
        first = 1 if options.warm_start is not None else epochs - last + 1
    if count(first, "--flow-from-epoch") > epochs:
        raise ValueError(f"--flow-from-epoch must be at most --epochs, {epochs}, got {first}.")
    return replace(config, train=replace(options, flow_from_epoch=first))


def epochs_with_flow(epochs: int, gradients: int, updates: int) -> int:
    """How many of the epochs, of so many updates each, have the flow by default.

    As many as take about a quarter of the time: an update through n gradients takes 1 + 3n/4 times
    one of the plain VAE. Where these are few updates, more, up to a quarter of the epochs.
    """
    quarter_of_time = epochs / (4 + 9 * gradients / 4)
    return math.ceil(min(epochs / 4, max(quarter_of_time, _UPDATES_WITH_FLOW / updates)))


def _train(config: Train, models: Mapping[str, PyTree], parts: Parts, run_dir: Path) -> int:
    rows, scores, before = {}, {}, None
    first = config.train.flow_from_epoch or 1
    if first > 1:
        vae = plain_vae(models["hvae"])
        before = _fit(config, "vae", vae, parts, run_dir / BEFORE_FLOW, first - 1)
        if before.ended in _EXIT:
            return _left(config, before, run_dir)
    for name, model in models.items():
        folder = run_dir if name == config.model.model else run_dir / BASELINE
        fitted = _fitted(config, name, model, parts, folder, before)
        if fitted.ended in _EXIT:
            return _left(config, fitted, run_dir)
        rows[name], scores[name] = _score(config, fitted, parts)
    apart = difference(scores["hvae"], scores["vae"]) if len(scores) == 2 else None
    write_json(run_dir / RESULTS, rows if apart is None else rows | {"difference": apart})
    print(f"\n{_table(config, rows, apart)}\n\nrun directory: {run_dir}")
    if config.report:
        report_on(open_run(run_dir), parts.test, parts.test_labels, run_dir / REPORT)
        print(f"report: {run_dir / REPORT}")
    return 0


def _left(config: Train, fitted: Fit, run_dir: Path) -> int:
    """Says how to go on with a run that a signal ended; its exit code."""
    print(
        f"\n{fitted.ended}; everything is saved. Go on with\n"
        f"    hvax train {shlex.quote(config.source)} --run-dir {shlex.quote(str(run_dir))}"
        " --resume"
    )
    return _EXIT[fitted.ended]


def _fitted(
    config: Train, name: str, model: PyTree, parts: Parts, folder: Path, before: Fit | None
) -> Fit:
    """A trained model, in all epochs: those of `before` its flow, or its baseline, among them."""
    epochs = config.train.epochs
    if before is None:
        return _fit(config, name, model, parts, folder, epochs)
    if name == "vae":
        begin_as(folder, folder.parent / BEFORE_FLOW)
        return _fit(replace(config, resume=True), name, model, parts, folder, epochs)
    done, first = len(before.history), config.train.flow_from_epoch or 1
    flowing = build_hvae(config, plain_vae(before.model))
    after = _fit(config, name, flowing, parts, folder, epochs - first + 1)
    return after._replace(
        history=followed_by(before.history, after.history),
        best_epoch=after.best_epoch + done,
        skipped=before.skipped + after.skipped,
        seconds_compiling=before.seconds_compiling + after.seconds_compiling,
        seconds_training=before.seconds_training + after.seconds_training,
    )


def _fit(config: Train, name: str, model: PyTree, parts: Parts, folder: Path, epochs: int) -> Fit:
    """Trains one model, or goes on with it; what stands in its folder is then complete."""
    fitted = fit(
        model,
        parts.train,
        validation=parts.validation,
        optimiser=build_optimiser(config),
        num_samples=config.train.train_samples,
        loss_kwargs={"estimator": config.train.estimator},
        transform=parts.transform,
        progress=config.progress,
        run_dir=folder,
        resume=config.resume,
        **_plan(config) | {"epochs": epochs},
    )
    step = int(fitted.state.step)
    pace = step * config.train.batch_size / fitted.seconds_training
    skipped = f"; {fitted.skipped} updates left out" if fitted.skipped else ""
    label = _label(config, name)
    print(
        f"{label:5} {fitted.ended} after {len(fitted.history)} epochs ({step} steps); "
        f"best epoch {fitted.best_epoch}{skipped}; {fitted.seconds_training:.1f} s training, "
        f"{fitted.seconds_compiling:.1f} s compiling; {pace:.0f} examples/s\n"
        f"      weights {digest(fitted.model)[:16]}"
    )
    return fitted


def _score(config: Train, fitted: Fit, parts: Parts) -> tuple[dict[str, Any], Evaluation]:
    """A model's record in results.json, and its scores."""
    scores = evaluate(
        fitted.model,
        evenly(parts.test, config.train.test_points),
        key=jax.random.key(0),  # not of --seed: runs are compared on the same draws
        num_samples=config.train.num_samples,
        progress=config.progress,
    )
    record = {
        **as_json(scores),
        "ended": fitted.ended,
        "epochs": len(fitted.history),
        "best_epoch": fitted.best_epoch,
        "skipped": fitted.skipped,
        "weights": digest(fitted.model),
        "seconds_training": fitted.seconds_training,
        "seconds_compiling": fitted.seconds_compiling,
    }
    note(scores)
    return record, scores


def _plan(config: Train) -> dict[str, Any]:
    options = config.train
    return {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "patience": options.patience,
        "save_seconds": options.save_seconds,
        "max_skipped": options.max_skipped,
        "seed": options.seed,
    }


def _describe(config: Train, parts: Parts) -> str:
    sizes = ", ".join(f"{len(getattr(parts, part))} {part}" for part in _PARTS)
    return f"{config.source}: {sizes}; examples of shape {parts.train.x_shape}"


def _label(config: Train, name: str) -> str:
    """What a model is called: the one with a flow by its flow."""
    return (config.flow.flow if name == "hvae" else name).upper()


def _table(
    config: Train, rows: Mapping[str, Mapping[str, Any]], apart: Mapping[str, float] | None
) -> str:
    first = next(iter(rows.values()))
    points, samples = first["num_points"], first["num_samples"]
    lines = [
        f"On {points} test points, in nats, +- one standard error over points:",
        f"{'':11}{'ELBO':>16}{f'NLL ({samples} samples)':>22}{'seconds':>9}{'flow moves z by':>18}",
    ]
    for name, row in rows.items():
        elbo = f"{row['elbo']:.2f} +- {row['elbo_se']:.2f}"
        nll = f"{row['nll']:.2f} +- {row['nll_se']:.2f}"
        moved = f"{row['distance']:.2f} sd" if name == "hvae" else "-"
        label = _label(config, name)
        lines.append(f"{label:11}{elbo:>16}{nll:>22}{row['seconds_training']:>9.1f}{moved:>18}")
    if apart is not None:
        elbo = f"{apart['elbo']:+.3f} +- {apart['elbo_se']:.3f}"
        nll = f"{apart['nll']:+.3f} +- {apart['nll_se']:.3f}"
        lines.append(f"{_label(config, 'hvae') + ' - VAE':11}{elbo:>16}{nll:>22}   point by point")
    if first["grey"]:
        lines.append(GREY)
    if not all(row["trusted"] for row in rows.values()):
        lines.append(UNTRUSTED)
    return "\n".join(lines)
