"""The diagonal Gaussian: the encoder's posterior, and the density of a learned-sigma decoder."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from hvax.models.numerics import at_least_single

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class DiagonalGaussian(eqx.Module):
    """N(mean, diag(exp(log_sigma))^2); `mean` and `log_sigma` have one shape, any rank."""

    mean: Float[Array, "*shape"]
    log_sigma: Float[Array, "*shape"]

    @property
    def sigma(self) -> Float[Array, "*shape"]:
        """exp(log_sigma)."""
        return jnp.exp(self.log_sigma)

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, "*shape"]:
        """One reparameterized draw, mean + sigma * N(0, I)."""
        return self.mean + self.sigma * self._noise(key)

    def sample_and_log_prob(
        self, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "*shape"], Float[Array, ""]]:
        """One reparameterized draw and its log-density in nats.

        The density is computed from the noise, not from (z - mean) / sigma, which would cancel for
        a small sigma.
        """
        noise = self._noise(key)
        return self.mean + self.sigma * noise, self._log_density(noise)

    def log_prob(self, z: Shaped[Array, "*shape"]) -> Float[Array, ""]:
        """sum -((z - mean) / sigma)^2 / 2 - log sigma - log(2 pi) / 2, in nats."""
        return self._log_density(self._standardized(z))

    def log_prob_each(self, z: Shaped[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The log-density of each dimension, in nats; `log_prob` is their sum."""
        return self._log_densities(self._standardized(z))

    def kl_from_standard_normal(self) -> Float[Array, ""]:
        """KL(self || N(0, I)) = sum (mean^2 + sigma^2 - 1) / 2 - log sigma, in nats."""
        # expm1, because sigma^2 - 1 cancels near sigma = 1, where an untrained encoder is.
        return jnp.sum(0.5 * (self.mean**2 + jnp.expm1(2 * self.log_sigma)) - self.log_sigma)

    def entropy(self) -> Float[Array, ""]:
        """sum log sigma + (1 + log(2 pi)) / 2, in nats."""
        return jnp.sum(self.log_sigma + HALF_LOG_TWO_PI + 0.5)

    def _noise(self, key: PRNGKeyArray) -> Float[Array, "*shape"]:
        return jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def _standardized(self, z: Shaped[Array, "*shape"]) -> Float[Array, "*shape"]:
        mean, log_sigma = at_least_single(self.mean), at_least_single(self.log_sigma)
        return (z - mean) * jnp.exp(-log_sigma)

    def _log_density(self, standardized: Float[Array, "*shape"]) -> Float[Array, ""]:
        return jnp.sum(self._log_densities(standardized))

    def _log_densities(self, standardized: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        log_sigma, standardized = map(at_least_single, (self.log_sigma, standardized))
        return -0.5 * standardized**2 - log_sigma - HALF_LOG_TWO_PI
