"""The model of independent features: units, transforms and parameters estimated from training data.

It gives a decoder its starting parameters (those that do not depend on z) and is the reference that
a trained model has to beat. Everything is estimated on the observed values (not NaN)
of at most 20,000 evenly spaced rows, in float64.
"""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.data.examples import Examples, scored_rows
from hvax.data.masks import with_mask
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.likelihood import (
    AbstractLikelihood,
    Bernoulli,
    Categorical,
    CountRate,
    FixedGaussian,
    LearnedGaussian,
    NegativeBinomial,
    Poisson,
)
from hvax.models.mixed import CategoryColumns, Group, MixedLikelihood
from hvax.models.standardize import StandardizedLikelihood
from hvax.parameters import Fixed
from hvax.training.units import IGNORE_OVERFLOW, Transforms, Units, real_units

_ROWS = 20_000


class Marginals(NamedTuple):
    """The model of independent features: `likelihood` with the constant parameters `output`.

    `gain` is how much each parameter varies between examples: the unit of a network's output.
    """

    likelihood: AbstractLikelihood
    output: PyTree
    gain: PyTree
    units: Units | None = None  # None unless the features are real numbers

    def describe(self) -> str:
        """One line for the user about the units that were chosen."""
        if isinstance(self.likelihood, Poisson | NegativeBinomial):
            return "log(1 + x) into the encoder, decoder from the data's marginals"
        if isinstance(self.likelihood, MixedLikelihood):
            return "numbers standardized, classes one-hot, decoder from the data's marginals"
        if self.units is None:
            return "decoder from the data's marginals"
        size, transform = self.units.shift.size, self.units.transform
        kinds = () if transform is None else transform.kinds
        kinds = kinds * (size if len(kinds) == 1 else 1)
        bent = [f"{kinds.count(k)} by {k}" for k in dict.fromkeys(kinds) if k != "none"]
        return ", ".join([f"(x - mean) / sd of {size} features", *bent])

    @IGNORE_OVERFLOW
    def log_prob(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """log p(x) of the observed entries (not NaN) of each example (batch axis first), in nats,
        under independent features."""
        holes, pieces = has_holes(x), []
        for i in range(0, len(x), 4096):
            some = x[i : i + 4096]
            mask = (~np.isnan(some),) if holes else ()
            arrays = map(jnp.asarray, (some, *mask))
            pieces.append(np.asarray(_log_prob(self.likelihood, self.output, *arrays)))
        return np.concatenate(pieces).astype(np.float64)


@eqx.filter_jit
def _log_prob(likelihood: AbstractLikelihood, output: PyTree, *rows: jax.Array) -> jax.Array:
    return jax.vmap(lambda *row: likelihood.log_prob(output, *row))(*rows)


def has_holes(x: NDArray[Any]) -> bool:
    """Whether a number of x is NaN: a missing value."""
    return x.dtype.kind == "f" and bool(np.isnan(x).any())


def spaced_rows(data: Batch | Examples, most: int = _ROWS) -> NDArray[Any]:
    """At most `most` rows of what is scored, as the model takes them, NaN where one is missing.

    Evenly spaced, because files are often sorted.
    """
    return scored_rows(data, most)


def smallest(*parts: Batch | Examples) -> NDArray[np.float64] | None:
    """The minimum of each feature over all rows of all parts; None unless examples are vectors."""
    batches = [Batch(part) if isinstance(part, Examples) else part for part in parts]
    if len(batches[0].scored.x_shape) != 1:
        return None
    found = []
    for batch in map(with_mask, batches):
        for i in range(0, len(batch.x), 4096):
            some = slice(i, i + 4096)
            seen = batch.scored.seen(some).astype(np.float64)
            hidden = False if batch.mask is None else ~batch.mask.rows(some)
            found.append(np.where(hidden, np.inf, seen).min(axis=0))
    return np.min(found, axis=0)


@IGNORE_OVERFLOW
def marginals(
    likelihood: AbstractLikelihood,
    x: NDArray[Any],
    *,
    transform: Transforms = "auto",
    least: NDArray[np.float64] | None = None,
) -> Marginals | None:
    """Fit the model of independent features to rows `x` (batch axis first).

    Returns None for a likelihood that is not one of hvax's own.

    **Arguments:**

    - `transform`: for a `LearnedGaussian`: "auto" chooses a transform for each feature of a vector
      by its marginal likelihood, and none for images and series. One for all features of a vector,
      or one for each.
    - `least`: the minimum of each feature over all data that will be scored, if more than `x` are
      known: a logarithm requires positive values everywhere.

    Raises `ValueError` for transform "log" of features that are not positive.
    """
    if isinstance(likelihood, MixedLikelihood):
        return _mixed(likelihood, x, transform, least)
    if isinstance(likelihood, LearnedGaussian):
        units = real_units(x, transform, least)
        shape = x.shape[1:]
        inner = StandardizedLikelihood(
            likelihood, Fixed(units.shift), Fixed(units.scale), Fixed(units.floor), units.transform
        )
        log_sigma = 0.5 * jnp.log1p(
            -(_floats(units.floor) ** 2)
        )  # plus floor^2 this is a variance of 1
        output = DiagonalGaussian(jnp.zeros(shape), log_sigma)
        return Marginals(inner, output, DiagonalGaussian(jnp.ones(shape), jnp.ones(shape)), units)
    if isinstance(likelihood, FixedGaussian):
        units = real_units(x, "none")
        return Marginals(likelihood, _floats(units.shift), _floats(units.scale), units)
    if isinstance(likelihood, Poisson | NegativeBinomial):
        return _counts(likelihood, np.asarray(x, np.float64))
    if isinstance(likelihood, Bernoulli):
        # Half a count is added to each side (Jeffreys' prior), so that no logit is infinite.
        x = np.asarray(x, np.float64)
        ones = np.nansum(x, axis=0)
        logits = np.log(ones + 0.5) - np.log(np.sum(~np.isnan(x), axis=0) - ones + 0.5)
        return Marginals(likelihood, _floats(logits), jnp.ones(logits.shape))
    if isinstance(likelihood, CategoryColumns):
        return _category_columns(likelihood, np.asarray(x, np.float64))
    if isinstance(likelihood, Categorical):
        return _classes(likelihood, x)
    return None


def as_prepared(
    likelihood: AbstractLikelihood, x: NDArray[Any], **options: Any
) -> Marginals | None:
    """`marginals` of a likelihood; a standardized one keeps its units (mean 0, sigma 1)."""
    if not isinstance(likelihood, StandardizedLikelihood):
        return marginals(likelihood, x, **options)
    if not isinstance(likelihood.inner, LearnedGaussian):
        return None
    zeros = jnp.zeros(likelihood.shift.value.shape)
    return Marginals(likelihood, DiagonalGaussian(zeros, zeros), DiagonalGaussian(zeros, zeros))


def _counts(likelihood: AbstractLikelihood, x: NDArray[np.float64]) -> Marginals:
    """Poisson or negative binomial marginals by moments: r = mean^2 / (variance - mean).

    The gain of the log rate is the spread that explains the variance in excess of a Poisson's.
    """
    mean = (np.nansum(x, axis=0) + 0.5) / (np.sum(~np.isnan(x), axis=0) + 1)
    variance = np.nanvar(x, axis=0) if has_holes(x) else x.var(0)
    excess = np.maximum(variance - mean, 0.0) / mean**2  # 1 / r
    log_mean, gain = _floats(np.log(mean)), _floats(np.clip(np.sqrt(np.log1p(excess)), 0.01, 1.0))
    if isinstance(likelihood, Poisson):
        return Marginals(likelihood, log_mean, gain)
    log_r = _floats(-np.log(np.clip(excess, 1e-4, 1e2)))
    return Marginals(likelihood, CountRate(log_mean, log_r), CountRate(gain, jnp.ones(gain.shape)))


def _mixed(
    likelihood: MixedLikelihood,
    x: NDArray[Any],
    transform: Transforms,
    least: NDArray[np.float64] | None,
) -> Marginals | None:
    """The marginals of each group; None if one is of a likelihood of the user's own."""
    each = np.broadcast_to(np.array(transform), likelihood.num_columns)
    found = []
    for group in likelihood.groups:
        of_group = as_prepared(
            group.likelihood,
            group.of(x),
            transform=[str(choice) for choice in group.of(each)],
            least=group.of(least),
        )
        if of_group is None:
            return None
        found.append(of_group)
    parts = zip(found, likelihood.groups, strict=True)
    return Marginals(
        MixedLikelihood([Group(one.likelihood, group.columns) for one, group in parts]),
        tuple(one.output for one in found),
        tuple(one.gain for one in found),
    )


def _category_columns(likelihood: CategoryColumns, x: NDArray[np.float64]) -> Marginals:
    """Log frequencies of each column's classes."""
    logits = np.zeros((len(likelihood.num_classes), max(likelihood.num_classes)))
    for j, number in enumerate(likelihood.num_classes):
        seen = x[~np.isnan(x[:, j]), j].astype(int)
        counted = np.bincount(seen, minlength=number)
        logits[j, :number] = np.log(counted + 0.5) - math.log(len(seen) + 0.5 * number)
    output = _floats(logits)
    return Marginals(likelihood, output, jnp.ones(output.shape))


def _classes(likelihood: Categorical, x: NDArray[Any]) -> Marginals:
    """Marginals of a categorical: log frequencies of the classes, of integer or one-hot rows."""
    classes = likelihood.num_classes
    if likelihood.is_one_hot(x.shape[1:]):
        counted = np.nansum(x, axis=0)
    else:
        counted = np.stack([(x == c).sum(0) for c in range(classes)], axis=-1)
    seen = counted.sum(-1, keepdims=True)
    logits = _floats(np.log(counted + 0.5) - np.log(seen + 0.5 * classes))
    return Marginals(likelihood, logits, jnp.ones(logits.shape))


def _floats(values: NDArray[Any]) -> jax.Array:
    return jnp.asarray(values, dtype=float)
