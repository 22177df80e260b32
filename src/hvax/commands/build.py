"""From the options of `hvax train` to what they stand for: data, networks, flow, optimizer."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from hvax.config import FlowOptions, Train
from hvax.data.encode import Unseen
from hvax.data.schema import Table
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.presets import (
    PRESETS,
    as_share,
    as_step_size,
    bridge_named,
    tempering_named,
)
from hvax.hamiltonian.tempering import AbstractTempering
from hvax.models.latent_model import AbstractLatentModel
from hvax.models.likelihood import AbstractLikelihood
from hvax.models.vae import VAE
from hvax.parameters import AbstractParameter
from hvax.pipeline.likelihood import name_of
from hvax.pipeline.models import models_for
from hvax.pipeline.networks import Sizes, build_vae, networks_of, sizes_for
from hvax.pipeline.parts import Parts, Whole, load_parts, load_whole
from hvax.pipeline.reading import Reading
from hvax.pipeline.settings import Settings, settings_for
from hvax.pipeline.table import describe
from hvax.storage.run_folder import MODEL
from hvax.storage.structure import load
from hvax.training.flat import flatten_small
from hvax.training.optimizers import clip_by_running_norm, scale_flow_updates


class PlannedRun(NamedTuple):
    """A run that could start: nothing is written yet."""

    config: Train  # with every default that depends on the data filled in
    parts: Parts
    models: dict[str, AbstractLatentModel]  # what is trained, by name and in this order
    settings: Settings
    description: str  # of the data, the networks and the settings, in lines


def planned_run(config: Train, *, key: PRNGKeyArray) -> PlannedRun:
    """Read the data of a run, build its models and check both against the options.

    Raises `ValueError`, `TypeError` and `OSError` for bad input.
    """
    parts = own_parts(config)
    config = decided(config, parts)
    vae = run_vae(config, parts, key=key)
    models, settings = run_models(config, vae), run_settings(config, parts)
    settings.check(vae, parts)
    text = describe(parts, config.model.network, run_sizes(config, parts), settings)
    return PlannedRun(config, parts, models, settings, text)


def own_parts(config: Train) -> Parts:
    """The parts of a run's own data. Raises as `load_parts` does."""
    data, model = config.data, config.model
    return load_parts(
        config.source,
        data_dir=data.data_dir,
        array=data.array,
        labels=data.labels,
        columns=data.columns,
        header=data.header,
        missing=data.missing,
        kinds=named_kinds(data.kinds),
        fractions=data.fractions,
        split_seed=data.split_seed,
        likelihood=model.likelihood,
        sigma=model.sigma,
        num_classes=model.num_classes,
        binarize=data.binarize,
        standardize=data.standardize,
        transform=data.transform,
    )


def named_kinds(kinds: Sequence[str] | None) -> dict[str, str] | None:
    """--kinds as a dict. Raises `ValueError` for what is not COLUMN=KIND."""
    if kinds is None:
        return None
    found = {}
    for text in kinds:
        name, equals, kind = text.rpartition("=")
        if not equals or not name:
            raise ValueError(f"--kinds must be COLUMN=KIND, such as age=real, got {text!r}.")
        found[name] = kind
    return found


def whole_source(
    config: Train,
    likelihood: AbstractLikelihood,
    scale: float,
    *,
    table: Table | None = None,
    chosen: bool = False,
    unseen: Unseen = "refuse",
    empty_rows: bool = False,
) -> Whole:
    """All examples of a source, prepared as a run's test data are.

    Its columns are those of the run, unless they were `chosen` for this file; `table` is the run's
    schema, if it has one.
    """
    data = config.data
    reading = Reading(
        config.source,
        data_dir=data.data_dir,
        array=data.array,
        labels=data.labels,
        columns=data.columns,
        header=data.header,
        missing=data.missing,
        table=table,
        unseen=unseen,
        empty_rows=empty_rows,
        mixed=table is not None,
    )
    return load_whole(reading, likelihood, scale, binarize=data.binarize, own_columns=not chosen)


def decided(config: Train, parts: Parts) -> Train:
    """The options with every default that depends on the data filled in, so that later commands and
    a resumed run do not choose again."""
    data = config.data
    if parts.table is not None:
        kinds = tuple(f"{column.name}={column.kind}" for column in parts.table.columns)
        data = replace(data, kinds=kinds, columns=None, labels=None)
    elif data.columns is None and parts.feature_names is not None:
        names = parts.feature_names
        data = replace(data, columns=names if len(set(names)) == len(names) else None)
    if parts.header is not None:
        data = replace(data, header="yes" if parts.header else "no")
    sizes, settings = run_sizes(config, parts), run_settings(config, parts)
    model = replace(
        config.model,
        hidden=sizes.hidden,
        latent_size=sizes.latent_size,
        likelihood=name_of(parts.likelihood),
    )
    options = replace(
        config.train,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        patience=settings.patience,
    )
    if model.model == "hvae":
        options = replace(options, flow_from_epoch=settings.flow_from_epoch)
    return replace(config, data=data, model=model, train=options)


def run_sizes(config: Train, parts: Parts) -> Sizes:
    """The sizes of the networks; what is not given is chosen by the data."""
    return sizes_for(parts, hidden=config.model.hidden, latent_size=config.model.latent_size)


def run_settings(config: Train, parts: Parts) -> Settings:
    """How the run is trained and scored; what is not given is chosen by the data."""
    options, flow = config.train, config.flow
    has_flow = config.model.model == "hvae"
    return settings_for(
        len(parts.train),
        gradients=flow.num_steps * flow.leapfrog_steps if has_flow else 0,
        epochs=options.epochs,
        batch_size=options.batch_size,
        patience=options.patience,
        flow_from_epoch=options.flow_from_epoch,
        trained=options.warm_start is not None,
        optimizer=build_optimizer(config),
        train_samples=options.train_samples,
        estimator=options.estimator,
        num_samples=options.num_samples,
        test_points=options.test_points,
        seed=options.seed,
        save_seconds=options.save_seconds,
        max_skipped=options.max_skipped,
    )


def run_vae(config: Train, parts: Parts, *, key: PRNGKeyArray) -> VAE:
    """The VAE that the options describe, with the networks of --warm-start where it is given."""
    sizes = run_sizes(config, parts)
    vae = build_vae(parts, sizes, network=config.model.network, key=key)
    start = config.train.warm_start
    return vae if start is None else _warm_started(vae, start)


def _warm_started(vae: VAE, run: Path) -> VAE:
    return networks_of(load(run / MODEL), vae, f"--warm-start {run}")


def run_models(config: Train, vae: VAE) -> dict[str, AbstractLatentModel]:
    """The models of a run, by name: the baseline first."""
    flow = None
    if config.model.model == "hvae":
        latent_size = config.model.latent_size
        assert latent_size is not None  # `decided` has filled it in
        flow = build_flow(config.flow, latent_size=latent_size)
    return models_for(vae, flow, baseline=config.train.baseline)


def build_flow(options: FlowOptions, *, latent_size: int) -> HamiltonianFlow:
    """The flow that the options describe."""
    given: dict[str, Any] = {
        "step_size": _step_size(options, latent_size),
        "units": options.units,
        "tempering": _tempering(options),
        "leapfrog_steps": options.leapfrog_steps,
        "gradient": options.gradient,
        "remat": options.remat,
    }
    if options.bridge is not None:
        given["bridge"] = bridge_named(options.bridge, options.num_steps)
    if options.eta is not None or not options.learn_eta:
        given["eta"] = _eta(options)
    return HamiltonianFlow.preset(options.flow, options.num_steps, **given)


def _step_size(options: FlowOptions, latent_size: int) -> AbstractParameter:
    """The options' step sizes; by default those of the preset."""
    first = options.step_size
    if first is None:
        first = PRESETS[options.flow].first_step_size(options.num_steps, options.leapfrog_steps)
    shape = {
        "shared": (),
        "per-dimension": (latent_size,),
        "per-step": (options.num_steps, 1),
        "per-layer": (options.num_steps, latent_size),
    }[options.step_size_shape]
    return as_step_size(
        np.full(shape, first), options.max_step if options.learn_step_size else None
    )


def _eta(options: FlowOptions) -> AbstractParameter:
    eta = PRESETS[options.flow].eta if options.eta is None else options.eta
    if not 0 <= eta <= 1:
        raise ValueError(f"--eta must be in [0, 1], got {eta}.")
    return as_share(eta, learned=options.learn_eta)


def _tempering(options: FlowOptions) -> AbstractTempering:
    if not 0 < options.beta0 <= 1:
        raise ValueError(f"--beta0 must be in (0, 1], got {options.beta0}.")
    return tempering_named(
        options.schedule or PRESETS[options.flow].schedule,
        options.num_steps,
        beta0=options.beta0,
        learned=options.learn_beta0,
    )


def build_optimizer(config: Train) -> optax.GradientTransformation:
    """The optimizer that the options name."""
    rate = config.train.learning_rate
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"--learning-rate must be finite and > 0, got {rate}.")
    factor = config.train.flow_rate
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"--flow-rate must be finite and > 0, got {factor}.")
    clip = config.train.clip
    if not (clip == 0 or (math.isfinite(clip) and clip > 1)):
        raise ValueError(f"--clip must be finite and > 1, or 0, got {clip}.")
    optimizer = getattr(optax, config.train.optimizer)(rate)
    clipped = clip_by_running_norm(optimizer, clip) if clip else optimizer
    return scale_flow_updates(flatten_small(clipped), factor)
