"""Networks of tables with columns of several kinds: rows in, parameters of each family out."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from hvax.models.data_point import Data, Mask, check_shape, filled
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.heads import DispersedCounts, SigmaHead
from hvax.models.likelihood import AbstractLikelihood, LearnedGaussian, NegativeBinomial
from hvax.models.mixed import CategoryColumns, MixedLikelihood
from hvax.models.network import MLP
from hvax.models.standardize import StandardizedLikelihood
from hvax.parameters import Fixed


class MixedInput(eqx.Module):
    """An encoder of a table's rows: x (d,) -> network(features).

    Features are standardized numbers (log(1 + x) of counts), classes one-hot, and 0 where a value
    is missing; with `takes_mask` the mask follows them.
    """

    network: Callable[[Array], Any]
    likelihood: MixedLikelihood
    shift: tuple[Fixed, ...]  # of each group: of log(1 + x) for counts
    scale: tuple[Fixed, ...]
    takes_mask: bool = eqx.field(static=True)

    def __call__(self, x: Data, mask: Mask = None) -> Any:
        check_shape(x, (self.likelihood.num_columns,))
        observed = jnp.ones(x.shape, bool) if mask is None else mask
        features = []
        units = zip(self.likelihood.groups, self.shift, self.scale, strict=True)
        for group, shift, scale in units:
            here, seen = group.of(x), group.of(observed)
            features.append(_features(group.likelihood, here, seen, shift, scale))
        if self.takes_mask:
            features.append(observed.astype(features[0].dtype))
        return self.network(jnp.concatenate(features))


def num_features(likelihood: MixedLikelihood, *, takes_mask: bool) -> int:
    """The length of the vector that `MixedInput` gives its network."""
    total = likelihood.num_columns if takes_mask else 0
    for group in likelihood.groups:
        if isinstance(group.likelihood, CategoryColumns):
            total += sum(group.likelihood.num_classes)
        else:
            total += len(group.columns)
    return total


def _features(
    likelihood: AbstractLikelihood, x: Array, seen: Array, shift: Fixed, scale: Fixed
) -> Float[Array, " features"]:
    """A group's columns as features, 0 where a value is missing."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if isinstance(likelihood, CategoryColumns):
        index = jnp.rint(filled(x, seen)).astype(jnp.int32)
        hot = [
            jax.nn.one_hot(index[j], number, dtype=x.dtype) * seen[j]
            for j, number in enumerate(likelihood.num_classes)
        ]
        return jnp.concatenate(hot)
    if isinstance(likelihood, NegativeBinomial):
        x = jnp.log1p(filled(x, seen))
    elif isinstance(likelihood, StandardizedLikelihood) and likelihood.transform is not None:
        x = likelihood.transform(jnp.where(seen, x, jnp.ones((), x.dtype)))
    y = (x - shift.value.astype(x.dtype)) / scale.value.astype(x.dtype)
    return jnp.where(seen, y, jnp.zeros((), y.dtype))


class MixedHeads(eqx.Module):
    """A decoder network: z -> trunk -> one head for each group, the tuple of their parameters."""

    trunk: Callable[[Array], Array]
    heads: tuple[Callable[[Array], Any], ...]

    def __call__(self, z: Float[Array, " d"]) -> tuple[Any, ...]:
        features = self.trunk(z)
        return tuple(head(features) for head in self.heads)


class GaussianHead(eqx.Module):
    """Features -> N(mean, exp(log_sigma)^2) of each column."""

    mean: Callable[[Array], Array]
    log_sigma: SigmaHead

    def __call__(self, features: Float[Array, " h"]) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean(features), self.log_sigma(features))


def mixed_heads(
    likelihood: MixedLikelihood, width: int, trunk: Callable[[Array], Array], *, key: PRNGKeyArray
) -> MixedHeads:
    """A `MixedHeads` whose `trunk` returns `width` features."""
    keys = jax.random.split(key, len(likelihood.groups))
    groups = zip(likelihood.groups, keys, strict=True)
    return MixedHeads(
        trunk, tuple(_head(g.likelihood, len(g.columns), width, key=k) for g, k in groups)
    )


def _head(
    likelihood: AbstractLikelihood, columns: int, width: int, *, key: PRNGKeyArray
) -> Callable[[Array], Any]:
    first, second = jax.random.split(key)
    if isinstance(likelihood, CategoryColumns):
        return MLP((width,), (columns, max(likelihood.num_classes)), key=first)
    inner = likelihood.inner if isinstance(likelihood, StandardizedLikelihood) else likelihood
    if isinstance(inner, LearnedGaussian):
        sigma = SigmaHead(MLP((width,), (columns,), key=second))
        return GaussianHead(MLP((width,), (columns,), key=first), sigma)
    head = MLP((width,), (columns,), key=first)
    if isinstance(inner, NegativeBinomial):
        return DispersedCounts(head, jnp.zeros((columns,)))
    return head
