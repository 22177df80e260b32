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
from jaxtyping import Array, PRNGKeyArray
from numpy.typing import NDArray

from hvax.config import FlowOptions, Train
from hvax.data.binarise import binarise_once
from hvax.data.check import holds_bits
from hvax.data.examples import Examples
from hvax.data.source import SOURCES, Source, load_source
from hvax.data.split import split
from hvax.hamiltonian.bridge import AbstractBridge, FixedBridge, LearnedBridge
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.tempering import (
    AbstractTempering,
    FreeTempering,
    NullTempering,
    QuadraticTempering,
    TemperatureTempering,
)
from hvax.models.convolution import conv
from hvax.models.hvae import HVAE, plain_vae
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
from hvax.models.standardize import StandardizedLikelihood, standardized
from hvax.models.vae import VAE
from hvax.parameter import AbstractParameter, Fixed, Learned
from hvax.structure import load
from hvax.training.folder import MODEL
from hvax.training.optimiser import clip_outliers, faster_flow


class Parts(NamedTuple):
    """A source's examples as a run uses them, disjoint."""

    train: Examples
    validation: Examples
    test: Examples
    test_labels: NDArray[Any] | None
    transform: Callable[..., Array] | None  # of training batches
    likelihood: AbstractLikelihood
    scale: float  # of stored numbers, which other data of the same kind have too


def load_parts(config: Train) -> Parts:
    """Reads, splits and prepares the data. Raises as the readers do, and `ValueError` for options
    that do not suit them."""
    options = config.data
    source = _read(config)
    likelihood = _likelihood(config, source)
    scale = _scale(source, likelihood)
    indices = split(source, seed=options.split_seed, fractions=options.fractions)
    train, validation, test = (
        Examples(source.x, index, scale)
        for index in (indices.train, indices.validation, indices.test)
    )
    for part, examples in (("validation", validation), ("test", test)):
        if len(examples) == 0:
            raise ValueError(f"{config.source} has no {part} examples; give it a fraction > 0.")
    binarise = _binarise(config, source, likelihood)
    if binarise != "none":
        validation = _binarised(validation, "validation")
        test = _binarised(test, "test")
    if binarise == "static":
        train = _binarised(train, "train")
    return Parts(
        train=train,
        validation=validation,
        test=test,
        test_labels=None if source.labels is None else source.labels[indices.test],
        transform=_bits if binarise == "dynamic" else None,
        likelihood=likelihood,
        scale=scale,
    )


def load_whole(
    config: Train, likelihood: AbstractLikelihood, scale: float
) -> tuple[Examples, NDArray[Any] | None]:
    """All examples of a source, prepared as a run's test part is, and their labels.

    Grey levels in a file that go no further than the run's white, its `scale`, count as the run's.
    """
    source = _read(config)
    if source.name not in SOURCES and source.x.max() <= scale < source.scale:
        source = replace(source, scale=scale)
    examples = Examples(source.x, None, _scale(source, likelihood))
    if _binarise(config, source, likelihood) != "none":
        examples = _binarised(examples, "whole")
    return examples, source.labels


def build_vae(config: Train, parts: Parts, *, key: PRNGKeyArray) -> VAE:
    """The VAE that the options describe, for these data."""
    options, x_shape = config.model, parts.train.x_shape
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
            output_bias=_mean_logit(parts.train)
            if isinstance(parts.likelihood, Bernoulli)
            else 0.0,
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
    if config.data.standardize:
        shift, scale = _moments(parts.train)
        return VAE(*standardized(encoder, decoder, shift=shift, scale=scale))
    return VAE(encoder, decoder)


def build_hvae(config: Train, vae: VAE) -> HVAE:
    """The HVAE on a VAE that the options describe."""
    options = config.flow
    shape = {
        "shared": (),
        "per-dimension": (config.model.latent_size,),
        "per-step": (options.num_steps, 1),
        "per-layer": (options.num_steps, config.model.latent_size),
    }[options.step_size_shape]
    initial = np.full(shape, _first_step_size(options))
    step_size = (
        Learned(initial, upper=options.max_step) if options.learn_step_size else Fixed(initial)
    )
    flow = HamiltonianFlow(
        options.num_steps,
        step_size,
        _tempering(options),
        options.gradient,
        options.remat,
        bridge=_bridge(options),
        eta=_eta(options),
        leapfrog_steps=options.leapfrog_steps,
        units=options.units,
        integrator="position" if options.flow == "dais" else "velocity",
    )
    return HVAE(vae, flow)


def warm_started(vae: VAE, run: Path) -> VAE:
    """The networks of a run in the place of these, which must be of the same sizes."""
    found = plain_vae(load(run / MODEL))
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


def build_optimiser(config: Train) -> optax.GradientTransformation:
    """The optimiser that the options name."""
    rate = config.train.learning_rate
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"--learning-rate must be finite and > 0, got {rate}.")
    factor = config.train.flow_rate
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"--flow-rate must be finite and > 0, got {factor}.")
    clip = config.train.clip
    if not (clip == 0 or (math.isfinite(clip) and clip > 1)):
        raise ValueError(f"--clip must be finite and > 1, or 0, got {clip}.")
    optimiser = getattr(optax, config.train.optimiser)(rate)
    return faster_flow(clip_outliers(optimiser, clip) if clip else optimiser, factor)


def _first_step_size(options: FlowOptions) -> float:
    if options.step_size is not None:
        return options.step_size
    steps = options.num_steps * options.leapfrog_steps
    return min(0.4, 1.6 / max(1, steps)) if options.flow == "hvae" else 0.4


def _bridge(options: FlowOptions) -> AbstractBridge | None:
    kind = options.bridge or ("none" if options.flow == "hvae" else "learned")
    if kind == "none" or options.num_steps == 0:
        return None
    if kind == "learned":
        return LearnedBridge(options.num_steps)
    return FixedBridge(np.arange(1, options.num_steps + 1) / (options.num_steps + 1))


def _eta(options: FlowOptions) -> AbstractParameter:
    first = {"hvae": 1.0, "uha": 0.9, "dais": 0.9, "ula": 0.0}[options.flow]
    eta = first if options.eta is None else options.eta
    if not 0 <= eta <= 1:
        raise ValueError(f"--eta must be in [0, 1], got {eta}.")
    return Learned(eta) if options.learn_eta and 0 < eta < 1 else Fixed(eta)


def _tempering(options: FlowOptions) -> AbstractTempering:
    schedule = options.schedule or ("quadratic" if options.flow == "hvae" else "none")
    if not 0 < options.beta0 <= 1:
        raise ValueError(f"--beta0 must be in (0, 1], got {options.beta0}.")
    if schedule == "none":
        return NullTempering(1.0)
    learnt = options.learn_beta0
    if schedule == "free":
        if options.num_steps == 0:
            return FreeTempering(0)
        alpha = options.beta0 ** (0.5 / options.num_steps)
        return FreeTempering(options.num_steps, Learned(alpha) if learnt else Fixed(alpha))
    beta0: AbstractParameter = Learned(options.beta0) if learnt else Fixed(options.beta0)
    if schedule == "temperature":
        return TemperatureTempering(beta0)
    return QuadraticTempering(beta0)


def _read(config: Train) -> Source:
    options = config.data
    return load_source(
        config.source, data_dir=options.data_dir, array=options.array, labels=options.labels
    )


def _scale(source: Source, likelihood: AbstractLikelihood) -> float:
    """What stored numbers are divided by: 1 for counts and classes, which are no grey levels."""
    if isinstance(likelihood, StandardizedLikelihood):
        likelihood = likelihood.inner
    real = isinstance(likelihood, Bernoulli | FixedGaussian | LearnedGaussian)
    return source.scale if real else 1.0


def _likelihood(config: Train, source: Source) -> AbstractLikelihood:
    options = config.model
    name = options.likelihood or _default_likelihood(source)
    if config.data.standardize and name not in ("gaussian", "fixed-gaussian"):
        raise ValueError(f"--standardize is for Gaussian likelihoods, got {name}.")
    if name == "categorical":
        if not np.issubdtype(source.x.dtype, np.integer):
            raise ValueError(f"categorical needs integer classes, got {source.x.dtype} data.")
        if options.num_classes is None:
            return Categorical(int(source.x.max()) + 1)
        return Categorical(options.num_classes)
    if name == "fixed-gaussian":
        return FixedGaussian(options.sigma)
    families: dict[str, type[AbstractLikelihood]] = {
        "bernoulli": Bernoulli,
        "gaussian": LearnedGaussian,
        "poisson": Poisson,
        "negative-binomial": NegativeBinomial,
    }
    return families[name]()


def _default_likelihood(source: Source) -> str:
    if source.name in SOURCES or source.x.dtype == np.uint8 or holds_bits(source.x):
        return "bernoulli"
    if np.issubdtype(source.x.dtype, np.floating):
        return "gaussian"
    raise ValueError(
        f"{source.name} holds integers ({source.x.dtype}): say what they are with --likelihood "
        "poisson or negative-binomial (counts), categorical (classes) or gaussian (numbers)."
    )


def _binarise(config: Train, source: Source, likelihood: AbstractLikelihood) -> str:
    grey = source.scale != 1 and isinstance(likelihood, Bernoulli)
    binarise = config.data.binarise or ("dynamic" if grey else "none")
    if binarise != "none" and not isinstance(likelihood, Bernoulli):
        raise ValueError(f"--binarise {binarise} is for the bernoulli likelihood.")
    return binarise


def _binarised(examples: Examples, part: str) -> Examples:
    """`binarise_once` of grey levels in [0, 1]; it would take other numbers too."""
    for start in range(0, len(examples), 4096):
        Bernoulli().check(examples[start : start + 4096])
    return binarise_once(examples, part)


def _bits(x: Array, *, key: PRNGKeyArray) -> Array:
    return jax.random.bernoulli(key, x).astype(jnp.float32)


def _moments(examples: Examples) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and standard deviation of each feature over all rows, in two passes; 1 for none."""
    starts = range(0, len(examples), 4096)
    mean = sum(examples[i : i + 4096].sum(0, dtype=np.float64) for i in starts) / len(examples)
    square = sum(((examples[i : i + 4096] - mean) ** 2).sum(0) for i in starts) / len(examples)
    return mean, np.where(square > 0, np.sqrt(square), 1.0)


def _mean_logit(examples: Examples) -> float:
    """The mean over images of logit(mean intensity): where the paper starts the last bias."""
    axes = tuple(range(1, 1 + len(examples.x_shape)))
    starts = range(0, len(examples), 4096)
    means = np.concatenate([examples[i : i + 4096].mean(axes, dtype=np.float64) for i in starts])
    means = np.clip(means, 1e-3, 1 - 1e-3)
    return float(np.mean(np.log(means) - np.log1p(-means)))
