"""Options -> what a run works on: the split data and the models."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.commands.reading import read, read_alike, read_own, rows_of
from hvax.config import FlowOptions, Train
from hvax.data.binarize import binarize_once
from hvax.data.check import holds_bits
from hvax.data.digest import digest_of_numbers
from hvax.data.examples import Examples, feature_name
from hvax.data.source import SOURCES, Source
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.presets import (
    PRESETS,
    as_share,
    as_step_size,
    bridge_named,
    tempering_named,
)
from hvax.hamiltonian.tempering import AbstractTempering
from hvax.models.convolution import conv
from hvax.models.hvae import HVAE, without_flow
from hvax.models.likelihood import (
    AbstractLikelihood,
    Bernoulli,
    Categorical,
    FixedGaussian,
    LearnedGaussian,
    NegativeBinomial,
    Poisson,
)
from hvax.models.network import mlp
from hvax.models.standardize import StandardizedLikelihood
from hvax.models.vae import VAE
from hvax.parameters import AbstractParameter
from hvax.precision import origin_of_rows
from hvax.storage.run_folder import MODEL
from hvax.storage.structure import load
from hvax.training.marginals import (
    Marginals,
    are_counts,
    marginals,
    real_units,
    smallest,
    spaced_rows,
)
from hvax.training.optimizers import clip_by_running_norm, scale_flow_updates
from hvax.training.prepare import prepared_vae
from hvax.training.schedule import schedule

_LARGE = 1000  # training examples from which on the networks are wide
_LARGEST_COUNT = 1_000_000  # whole numbers beyond are taken for measurements, not for counts


class Parts(NamedTuple):
    """A source's examples as a run uses them, disjoint."""

    train: Examples
    validation: Examples
    test: Examples
    test_labels: NDArray[Any] | None
    transform: Callable[..., Batch] | None  # of training batches
    likelihood: AbstractLikelihood
    scale: float  # of stored numbers, which other data of the same kind have too
    feature_names: tuple[str, ...] | None  # of a table with a header
    independent: Marginals  # the model of independent features of the training data
    notes: tuple[str, ...]  # what was left out, and what looks odd
    header: bool | None  # whether the first line of a .csv file names the columns
    test_rows: NDArray[np.int64]  # where the test examples stand in the file, from 0
    digest: str  # of the numbers of all parts


class Whole(NamedTuple):
    """All examples of a source, prepared as a run's test part is."""

    examples: Examples
    labels: NDArray[Any] | None
    rows: NDArray[np.int64]  # where they stand in the file, from 0
    notes: tuple[str, ...]  # what was left out, and what was guessed


def load_parts(config: Train) -> Parts:
    """Reads, splits and prepares the data. Raises as the readers do, and `ValueError` for options
    that do not suit them."""
    options = config.data
    source, indices, notes = read_own(config)
    likelihood = _likelihood(config, source, indices.train)
    scale = _scale(source, likelihood)
    train, validation, test = (
        Examples(source.x, index, scale, names=source.feature_names)
        for index in (indices.train, indices.validation, indices.test)
    )
    for part, examples in (("validation", validation), ("test", test)):
        if len(examples) == 0:
            raise ValueError(f"{config.source} has no {part} examples; give it a fraction > 0.")
    binarize = _binarize(config, source, likelihood)
    if binarize != "none":
        validation = _binarized(validation, "validation")
        test = _binarized(test, "test")
    if binarize == "static":
        train = _binarized(train, "train")
    if options.standardize and isinstance(likelihood, LearnedGaussian | FixedGaussian):
        origin = origin_of_rows(spaced_rows(train))
        train, validation, test = (
            replace(part, origin=origin) for part in (train, validation, test)
        )
        notes += _taken_off(train)
    rows = spaced_rows(train)
    likelihood.check(rows)
    if isinstance(likelihood, FixedGaussian) and options.standardize:
        likelihood = FixedGaussian(config.model.sigma * real_units(rows, "none").scale)
    least = smallest(train, validation, test)
    independent = marginals(likelihood, rows, transform=options.transform, least=least)
    assert independent is not None
    return Parts(
        train=train,
        validation=validation,
        test=test,
        test_labels=None if source.labels is None else source.labels[indices.test],
        transform=_bits if binarize == "dynamic" else None,
        likelihood=likelihood,
        scale=scale,
        feature_names=source.feature_names,
        independent=independent,
        notes=notes,
        header=source.header,
        test_rows=rows_of(source)[indices.test],
        digest=digest_of_numbers(source.x),
    )


def _taken_off(train: Examples) -> tuple[str, ...]:
    """A note of what is taken off features that float32 does not resolve."""
    if train.origin is None:
        return ()
    which = np.argwhere(train.origin != 0)
    means = [f"{feature_name(train, tuple(i))} {train.origin[*i]:.9g}" for i in which[:5].tolist()]
    more = f" and of {len(which) - 5} more" if len(which) > 5 else ""
    return (f"float32 does not resolve some columns: their means are taken off before, of "
            f"{', '.join(means)}{more}",)  # fmt: skip


def decided(config: Train, parts: Parts) -> Train:
    """The options with what depends on the data filled in, so that later commands and a resumed run
    do not choose anew."""
    data, model, options = config.data, config.model, config.train
    features = math.prod(parts.train.x_shape)
    if data.columns is None and parts.feature_names is not None:
        names = parts.feature_names
        data = replace(data, columns=names if len(set(names)) == len(names) else None)
    if parts.header is not None:
        data = replace(data, header="yes" if parts.header else "no")
    large = len(parts.train) >= _LARGE
    model = replace(
        model,
        hidden=((400,) if large else (100,)) if model.hidden is None else model.hidden,
        latent_size=min(20, max(2, -(-features // 2)))
        if model.latent_size is None
        else model.latent_size,
        likelihood=model.likelihood or _name_of(parts.likelihood),
    )
    chosen = schedule(
        len(parts.train),
        epochs=options.epochs,
        batch_size=options.batch_size,
        patience=options.patience,
    )
    options = replace(
        options,
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        patience=chosen.patience or 0,
    )
    return replace(config, data=data, model=model, train=options)


def load_whole(
    config: Train, likelihood: AbstractLikelihood, scale: float, *, chosen: bool = False
) -> Whole:
    """All examples of a source, prepared as a run's test part is. The columns of its options are
    those of the run, unless they were `chosen` for this file.

    Gray levels in a file that go no further than the run's white, its `scale`, count as the run's.
    """
    source = read(config) if chosen else read_alike(config)
    if source.name not in SOURCES and source.x.max() <= scale < source.scale:
        source = replace(source, scale=scale)
    examples = Examples(source.x, None, _scale(source, likelihood), names=source.feature_names)
    if _binarize(config, source, likelihood) != "none":
        examples = _binarized(examples, "whole")
    return Whole(examples, source.labels, rows_of(source), source.notes)


def build_vae(config: Train, parts: Parts, *, key: PRNGKeyArray) -> VAE:
    """The VAE that the options describe, for these data."""
    options, x_shape = config.model, parts.train.x_shape
    assert options.latent_size is not None and options.hidden is not None
    if options.network == "conv":
        if x_shape != (28, 28) or not isinstance(
            parts.likelihood, Bernoulli | FixedGaussian | Poisson
        ):
            raise ValueError(
                "network conv is for 28 x 28 images with the likelihood bernoulli, fixed-gaussian "
                f"or poisson, got examples of shape {x_shape}; use --network mlp."
            )
        encoder, decoder = conv(
            options.latent_size,
            likelihood=parts.likelihood,
            key=key,
        )
    else:
        encoder, decoder = mlp(
            x_shape,
            options.latent_size,
            hidden=options.hidden,
            likelihood=parts.likelihood,
            key=key,
        )
    vae = VAE(encoder, decoder, origin=parts.train.origin)
    if not config.data.standardize:
        return vae
    return prepared_vae(vae, parts.independent, spaced_rows(parts.train))


def build_hvae(config: Train, vae: VAE) -> HVAE:
    """The HVAE on a VAE that the options describe."""
    options = config.flow
    given: dict[str, Any] = {
        "step_size": _step_size(options, config.model.latent_size or 0),
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
    return HVAE(vae, HamiltonianFlow.preset(options.flow, options.num_steps, **given))


def _step_size(options: FlowOptions, latent_size: int) -> AbstractParameter:
    """The options' step sizes; without a first one the flow's own."""
    first = options.step_size
    if first is None:
        first = PRESETS[options.flow].first_step_size(options.num_steps, options.leapfrog_steps)
    shape = {
        "shared": (),
        "per-dimension": (latent_size,),  # `decided` has filled it in
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


def warm_started(vae: VAE, run: Path) -> VAE:
    """The networks of a run in the place of these, which must be of the same sizes."""
    found = without_flow(load(run / MODEL))
    assert isinstance(found, VAE), "the program trains no other model"
    here, there = _sizes(vae), _sizes(found)
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            raise ValueError(
                f"--warm-start {run} holds other networks than the options describe: {name} is "
                f"{there.get(name, 'not there')}, here {here.get(name, 'not there')}. Give the "
                "--network, --hidden, --latent-size and --likelihood that it was trained with."
            )
    return found


def _sizes(model: VAE) -> dict[str, tuple[int, ...]]:
    arrays = jax.tree_util.tree_leaves_with_path(eqx.filter(model, eqx.is_array))
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in arrays}


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
    return scale_flow_updates(clip_by_running_norm(optimizer, clip) if clip else optimizer, factor)


def _scale(source: Source, likelihood: AbstractLikelihood) -> float:
    """What stored numbers are divided by: 1 for counts and classes, which are no gray levels."""
    if isinstance(likelihood, StandardizedLikelihood):
        likelihood = likelihood.inner
    real = isinstance(likelihood, Bernoulli | FixedGaussian | LearnedGaussian)
    return source.scale if real else 1.0


def _likelihood(
    config: Train, source: Source, train: NDArray[np.int64] | None = None
) -> AbstractLikelihood:
    options = config.model
    name = options.likelihood or _default_likelihood(source, train)
    if name == "categorical":
        if not np.issubdtype(source.x.dtype, np.integer):
            raise ValueError(f"categorical needs integer classes, got {source.x.dtype} data.")
        classes = int(source.x.max()) + 1 if options.num_classes is None else options.num_classes
        as_many = source.x.ndim > 1 and source.x.shape[-1] == classes
        return Categorical(classes, one_hot=False if as_many and not _one_hot(source.x) else None)
    if name == "fixed-gaussian":
        return FixedGaussian(options.sigma)
    return _FAMILIES[name]()


def _one_hot(x: NDArray[Any]) -> bool:
    """Whether the last axis of all examples holds one 1 and else 0."""
    rows = (x[start : start + 4096] for start in range(0, len(x), 4096))
    return all(np.all((row == 0) | (row == 1)) and np.all(row.sum(axis=-1) == 1) for row in rows)


_FAMILIES: dict[str, type[AbstractLikelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": LearnedGaussian,
    "poisson": Poisson,
    "negative-binomial": NegativeBinomial,
}


def _name_of(likelihood: AbstractLikelihood) -> Any:
    known = {kind: name for name, kind in _FAMILIES.items()}
    return known.get(
        type(likelihood),
        "categorical" if isinstance(likelihood, Categorical) else "fixed-gaussian",
    )


def _default_likelihood(source: Source, train: NDArray[np.int64] | None) -> str:
    if source.name in SOURCES or source.x.dtype == np.uint8 or holds_bits(source.x):
        return "bernoulli"
    x = source.x
    if not np.issubdtype(x.dtype, np.integer) or x.min() < 0 or x.max() > _LARGEST_COUNT:
        return "gaussian"
    return "negative-binomial" if are_counts(spaced_rows(Examples(x, train))) else "gaussian"


def _binarize(config: Train, source: Source, likelihood: AbstractLikelihood) -> str:
    gray = source.scale != 1 and isinstance(likelihood, Bernoulli)
    binarize = config.data.binarize or ("dynamic" if gray else "none")
    if binarize != "none" and not isinstance(likelihood, Bernoulli):
        raise ValueError(f"--binarize {binarize} is for the bernoulli likelihood.")
    return binarize


def _binarized(examples: Examples, part: str) -> Examples:
    """`binarize_once` of gray levels in [0, 1]; it would take other numbers too."""
    for start in range(0, len(examples), 4096):
        Bernoulli().check(examples[start : start + 4096])
    return binarize_once(examples, part)


def _bits(batch: Batch, *, key: PRNGKeyArray) -> Batch:
    return batch._replace(x=jax.random.bernoulli(key, batch.x).astype(jnp.float32))
