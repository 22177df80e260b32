"""Latent priors p(z): the contract, and the standard normal."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from hvax.models.gaussian import HALF_LOG_TWO_PI


class AbstractPrior(eqx.Module):
    """A normalized density over latent vectors (d,) of any length d."""

    @abstractmethod
    def log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """The normalized log p(z) of one latent vector, in nats."""

    @abstractmethod
    def sample(self, latent_size: int, *, key: PRNGKeyArray) -> Float[Array, " d"]:
        """One draw of shape (latent_size,)."""


class StandardNormal(AbstractPrior):
    """The standard normal prior N(0, I)."""

    def log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        return jnp.sum(-0.5 * z**2 - HALF_LOG_TWO_PI)

    def sample(self, latent_size: int, *, key: PRNGKeyArray) -> Float[Array, " d"]:
        return jax.random.normal(key, (latent_size,))
