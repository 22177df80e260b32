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
from hvax.models.likelihood import AbstractLikelihood, check_shape
from hvax.parameter import Fixed


class StandardisedInput(eqx.Module):
    """x -> network((x - shift) / scale)."""

    network: Callable[[Array], Any]
    shift: Fixed
    scale: Fixed

    def __call__(self, x: Num[Array, "..."]) -> Any:
        check_shape(x, self.shift.value.shape)
        return self.network((x - self.shift.value) / self.scale.value)


class StandardisedLikelihood(AbstractLikelihood):
    """log p(x | z) = inner log-density of (x - shift) / scale, minus sum log scale."""

    inner: AbstractLikelihood
    shift: Fixed
    scale: Fixed

    def log_prob(self, output: PyTree, x: Num[Array, "..."]) -> Float[Array, ""]:
        check_shape(x, self.shift.value.shape)
        standardised = (x - self.shift.value) / self.scale.value
        return self.inner.log_prob(output, standardised) - jnp.sum(jnp.log(self.scale.value))

    def mean(self, output: PyTree) -> Float[Array, "..."]:
        return self.shift.value + self.scale.value * self.inner.mean(output)

    def sample(self, output: PyTree, *, key: PRNGKeyArray) -> Num[Array, "..."]:
        return self.shift.value + self.scale.value * self.inner.sample(output, key=key)

    def check(self, x: np.ndarray) -> None:
        self.inner.check(x)


def standardised(
    encoder: Callable[[Array], Any], decoder: Decoder, *, shift: ArrayLike, scale: ArrayLike
) -> tuple[StandardisedInput, Decoder]:
    """An encoder and a decoder of raw data from a pair for standardised data.

    `shift` and `scale` > 0 have x's shape: the training data's mean and standard deviation, with 1
    for a feature that does not vary. For Gaussian likelihoods.
    """
    if not np.all(np.isfinite(scale) & (np.asarray(scale) > 0)):
        raise ValueError("scale must be finite and > 0; give 1 for a feature that does not vary.")
    held = Fixed(shift), Fixed(scale)
    likelihood = StandardisedLikelihood(decoder.likelihood, *held)
    return StandardisedInput(encoder, *held), Decoder(decoder.network, likelihood)
