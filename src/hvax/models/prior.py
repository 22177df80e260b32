"""The latent prior p(z): a standard normal unless the user brings another."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from hvax.models.gaussian import HALF_LOG_TWO_PI


class AbstractPrior(eqx.Module):
    """A density over latent vectors of any length. The momentum is Gaussian whatever the prior."""

    @abstractmethod
    def log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """log p(z), in nats, normalized."""

    @abstractmethod
    def sample(self, latent_size: int, *, key: PRNGKeyArray) -> Float[Array, " d"]:
        """One draw."""


class StandardNormal(AbstractPrior):
    """N(0, I)."""

    def log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        return jnp.sum(-0.5 * z**2 - HALF_LOG_TWO_PI)

    def sample(self, latent_size: int, *, key: PRNGKeyArray) -> Float[Array, " d"]:
        return jax.random.normal(key, (latent_size,))
