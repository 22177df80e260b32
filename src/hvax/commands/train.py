"""`hvax train`: trains a model, and the plain VAE beside it; prints and draws what came of it."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from hvax.checks import count
from hvax.commands.build import (
    Parts,
    build_hvae,
    build_optimizer,
    build_vae,
    decided,
    load_parts,
    warm_started,
)
from hvax.commands.directory import open_run, run_directory
from hvax.commands.inputs import seed_key, subsample
from hvax.commands.outcome import describe, outcome_table
from hvax.commands.reference_rows import is_worse, reference_rows, why_worse
from hvax.commands.report import report_on
from hvax.config import Train
from hvax.evaluation.evaluate import Evaluation, difference, evaluate
from hvax.evaluation.table import as_json, note
from hvax.exceptions import StillImproving, WorseThanIndependent, warn
from hvax.models.hvae import without_flow
from hvax.storage.forms import write_record
from hvax.storage.run_files import copy_training
from hvax.storage.run_folder import BASELINE, BEFORE_FLOW, REPORT, RESULTS
from hvax.storage.structure import digest
from hvax.training.fit import Fit, check_data, check_plan, fit
from hvax.training.loop import TrainingOptions
from hvax.training.schedule import epochs_with_flow

_EXIT = {"interrupted": 130, "terminated": 143}
_STILL = 0.1  # nats that the validation bound may rise in the last tenth of all epochs


def train(config: Train) -> int:
    """The program's `train`; gives its exit code.

    Raises `ValueError`, `TypeError` and `OSError` for bad input, before anything is written.
    """
    key = seed_key(config.train.seed)
    jax.config.update("jax_enable_x64", config.train.x64)
    parts = load_parts(config)
    config = _flow_decided(decided(config, parts), len(parts.train))
    vae = build_vae(config, parts, key=key)
    if config.train.warm_start is not None:
        vae = warm_started(vae, config.train.warm_start)
    models: dict[str, PyTree] = {"vae": vae}
    if config.model.model == "hvae":
        plain = models if config.train.baseline else {}
        models = plain | {"hvae": build_hvae(config, vae)}
    build_optimizer(config)
    check_plan(TrainingOptions(**_plan(config)), *check_data(vae, parts.train, parts.validation))
    check_data(vae, parts.test, None)
    for name in ("num_samples", "test_points", "train_samples"):
        count(getattr(config.train, name), f"--{name.replace('_', '-')}")

    with run_directory(config, parts) as run_dir:
        print(describe(config, parts))
        return _train(config, models, parts, run_dir)


def _flow_decided(config: Train, examples: int) -> Train:
    """The options with the epoch in which the flow is turned on, which a resumed run keeps."""
    options, first = config.train, config.train.flow_from_epoch
    epochs, batch_size = options.epochs, options.batch_size
    assert epochs is not None and batch_size is not None
    if config.model.model == "vae":
        return config
    if first is None:
        gradients = config.flow.num_steps * config.flow.leapfrog_steps
        updates = max(1, examples // max(1, batch_size))
        first = 1 + max(0, epochs - epochs_with_flow(epochs, gradients, updates))
        first = 1 if options.warm_start is not None else first
    if count(first, "--flow-from-epoch") > count(epochs, "--epochs"):
        raise ValueError(f"--flow-from-epoch must be at most --epochs, {epochs}, got {first}.")
    return replace(config, train=replace(options, flow_from_epoch=first))


def _train(config: Train, models: Mapping[str, PyTree], parts: Parts, run_dir: Path) -> int:
    test = subsample(parts.test, config.train.test_points)
    rows: dict[str, Any]
    rows, independent = reference_rows(parts, test)
    scores: dict[str, Evaluation] = {}
    first = config.train.flow_from_epoch or 1
    if first > 1:
        vae = without_flow(models["hvae"])
        before = _fit(config, vae, parts, run_dir / BEFORE_FLOW, epochs=first - 1)
        if before.ended in _EXIT:
            print(_said(config, "vae", before))
            return _left(config, before, run_dir)
    for name, model in models.items():
        is_baseline = name != config.model.model
        folder = run_dir / BASELINE if is_baseline else run_dir
        begun = config
        if first > 1:  # both go on from the epochs before the flow, which are trained once
            begun = replace(config, resume=True)
            if is_baseline:
                copy_training(folder, run_dir / BEFORE_FLOW)
        try:
            fitted = _fit(begun, model, parts, folder)
        except FloatingPointError as error:
            if not scores:
                raise
            rows["failed"] = {"model": name, "why": " ".join(str(error).split())}
            print(f"{_label(config, name)} failed: {error}")
            break
        print(_said(config, name, fitted))
        if fitted.ended in _EXIT:
            return _left(config, fitted, run_dir)
        rows[name], scores[name] = _score(config, fitted, parts)
        _judge(config, name, fitted, scores[name], run_dir)
        if is_worse(scores[name].per_point.log_p, independent, math.prod(parts.train.x_shape)):
            warn(
                WorseThanIndependent,
                f"{_label(config, name)} has a test NLL of {scores[name].nll:.4g}, worse than the "
                f"{-independent.mean():.4g} of independent features. "
                + why_worse(
                    fitted.model,
                    parts,
                    test,
                    log_p=scores[name].per_point.log_p,
                    independent=independent,
                    standardized=config.data.standardize,
                    longer=_longer(config, run_dir) if _still_improves(fitted) else None,
                ),
            )
    if len(scores) == 2:
        rows["difference"] = difference(scores["hvae"], scores["vae"])
    write_record(run_dir / RESULTS, rows)
    print(f"\n{outcome_table(config, rows, scores, run_dir)}\n\nrun directory: {run_dir}")
    if config.report:
        shown = run_dir if config.model.model in scores else run_dir / BASELINE
        report_on(open_run(shown), parts.test, parts.test_labels, run_dir / REPORT)
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


def _fit(
    config: Train, model: PyTree, parts: Parts, folder: Path, *, epochs: int | None = None
) -> Fit:
    """Trains one model, or goes on with it; what stands in its folder is then complete."""
    plan = _plan(config) | {"patience": config.train.patience or 0}
    if epochs is not None:
        plan |= {"epochs": epochs}
    return fit(
        model,
        parts.train,
        validation=parts.validation,
        optimizer=build_optimizer(config),
        num_samples=config.train.train_samples,
        loss_kwargs={"estimator": config.train.estimator},
        transform=parts.transform,
        prepare=False,  # `build_vae` has done so where it is asked for
        flow_from_epoch=None if epochs is not None else config.train.flow_from_epoch,
        progress=config.progress,
        run_dir=folder,
        resume=config.resume,
        **plan
        | ({} if epochs is None else {"epochs": epochs})
        | {"patience": plan["patience"] or 0},
    )


def _said(config: Train, name: str, fitted: Fit) -> str:
    skipped = f"; {fitted.skipped} updates skipped" if fitted.skipped else ""
    return (
        f"{_label(config, name):5} {_ending(config, fitted)} after {len(fitted.history)} epochs; "
        f"best epoch {fitted.best_epoch}{skipped}; {fitted.seconds_training:.1f} s training, "
        f"{fitted.seconds_compiling:.1f} s compiling\n"
        f"      weights {digest(fitted.model)[:16]}"
    )


def _ending(config: Train, fitted: Fit) -> str:
    """Why a training ended, in words."""
    patience = config.train.patience
    if fitted.ended == "early stop":
        return f"stopped early (no better validation ELBO for {patience} epochs)"
    return {"flow failed": "flow switched off", "flow of no use": "flow switched off"}.get(
        fitted.ended, fitted.ended
    )


def _score(config: Train, fitted: Fit, parts: Parts) -> tuple[dict[str, Any], Evaluation]:
    """A model's record in results.json, and its scores."""
    scores = evaluate(
        fitted.model,
        subsample(parts.test, config.train.test_points),
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
    return record, scores


def _judge(
    config: Train,
    name: str,
    fitted: Fit,
    scores: Evaluation,
    run_dir: Path,
) -> None:
    """The warnings that a trained model deserves, each with what to do."""
    note(scores, run=run_dir if name == config.model.model else run_dir / BASELINE)
    if _still_improves(fitted) and name == config.model.model:
        warn(
            StillImproving,
            f"the validation ELBO of {_label(config, name)} still rose by "
            f"{rise_at_the_end(fitted.history):.2g} nats in the last tenth of its epochs. Go on "
            f"with: {_longer(config, run_dir)}",
        )


def _still_improves(fitted: Fit) -> bool:
    return fitted.ended == "finished" and rise_at_the_end(fitted.history) > _STILL


def _longer(config: Train, run_dir: Path) -> str:
    """The command that goes on with a run, to twice its epochs."""
    return (
        f"hvax train {shlex.quote(config.source)} --run-dir {shlex.quote(str(run_dir))} --resume "
        f"--epochs {2 * (config.train.epochs or 0)}"
    )


def rise_at_the_end(history: list[dict[str, Any]]) -> float:
    """By how many nats the best validation ELBO of the last tenth of the epochs (of those with the
    flow, where there is one) is above that of those before; 0 where there are too few to say."""
    flowed = "divergent" in history[-1]
    bounds = [
        row["validation_elbo"]
        for row in history
        if "validation_elbo" in row and ("divergent" in row) == flowed
    ]
    last = len(bounds) // 10
    return max(bounds[-last:]) - max(bounds[:-last]) if last else 0.0


def _plan(config: Train) -> dict[str, Any]:
    options = config.train
    return {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "patience": options.patience or None,
        "save_seconds": options.save_seconds,
        "max_skipped": options.max_skipped,
        "seed": options.seed,
    }


def _label(config: Train, name: str) -> str:
    """What a model is called: the one with a flow by its flow."""
    return (config.flow.flow if name == "hvae" else name).upper()
