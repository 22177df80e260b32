"""Models of raw data whose networks see standardised data: (x - shift) / scale, feature by feature.

The density of x is the inner one's at the standardised point times |d standardised / d x|, so a
log-likelihood stays in nats of the raw data, comparable with that of any other model of them.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num, PRNGKeyArray, PyTree

from hvax.models.decoder import Decoder
from hvax.models.likelihood import AbstractLikelihood, Data, check_shape
from hvax.parameter import Fixed


class StandardisedInput(eqx.Module):
    """x -> network((x - shift) / scale)."""

    network: Callable[[Array], Any]
    shift: Fixed
    scale: Fixed

    def __call__(self, x: Data) -> Any:
        check_shape(x, self.shift.value.shape)
        return self.network((x - self.shift.value) / self.scale.value)


class StandardisedLikelihood(AbstractLikelihood):
    """log p(x | z) = inner log-density of (x - shift) / scale, minus sum log scale."""

    inner: AbstractLikelihood
    shift: Fixed
    scale: Fixed

    def log_prob(self, output: PyTree, x: Data) -> Float[Array, ""]:
        check_shape(x, self.shift.value.shape)
        dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else self.shift.value.dtype
        shift, scale = self.shift.value.astype(dtype), self.scale.value.astype(dtype)
        standardised = (x.astype(dtype) - shift) / scale
        log_p = self.inner.log_prob(output, standardised)
        return log_p - jnp.sum(jnp.log(self.scale.value)).astype(log_p.dtype)

    def mean(self, output: PyTree) -> Float[Array, "..."]:
        return self._raw(self.inner.mean(output))

    def sample(self, output: PyTree, *, key: PRNGKeyArray) -> Num[Array, "..."]:
        return self._raw(self.inner.sample(output, key=key))

    def check(self, x: np.ndarray) -> None:
        self.inner.check(x)

    def _raw(self, standardised: Float[Array, "..."]) -> Float[Array, "..."]:
        """Back to x's units, in the dtype at hand."""
        dtype = standardised.dtype
        return self.shift.value.astype(dtype) + self.scale.value.astype(dtype) * standardised


def standardised(
    encoder: Callable[[Array], Any], decoder: Decoder, *, shift: ArrayLike, scale: ArrayLike
) -> tuple[StandardisedInput, Decoder]:
    """An encoder and a decoder of raw data from a pair for standardised data.

    `shift` and `scale` > 0 have x's shape: the training data's mean and standard deviation, with 1
    for a feature that does not vary. For Gaussian likelihoods.
    """
    if not np.all(np.isfinite(scale) & (np.asarray(scale) > 0)):
        raise ValueError("scale must be finite and > 0; give 1 for a feature that does not vary.")
    if jnp.shape(shift) != jnp.shape(scale):
        raise ValueError(
            "shift and scale must both have the shape of x, got the shapes "
            f"{jnp.shape(shift)} and {jnp.shape(scale)}."
        )
    held = Fixed(shift), Fixed(scale)
    likelihood = StandardisedLikelihood(decoder.likelihood, *held)
    return StandardisedInput(encoder, *held), Decoder(decoder.network, likelihood)
