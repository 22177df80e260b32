"""The latent prior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hvax.models.prior import StandardNormal


@pytest.mark.parametrize("latent_size", [1, 5])
def test_standard_normal_is_the_density(x64, latent_size):
    z = np.linspace(-3, 7, latent_size)
    np.testing.assert_allclose(
        StandardNormal().log_prob(jnp.asarray(z)), stats.norm.logpdf(z).sum(), rtol=2e-14
    )


def test_standard_normal_draws():
    """20,000 draws; a standard deviation of 1.05 would lie 10 standard errors off."""
    n = 20_000
    draw = jax.vmap(lambda key: StandardNormal().sample(3, key=key))
    z = np.asarray(draw(jax.random.split(jax.random.key(0), n)), np.float64)
    assert z.shape == (n, 3)
    assert np.all(np.abs(z.mean(0)) < 4.5 / np.sqrt(n))
    assert np.all(np.abs((z**2).mean(0) - 1) < 4.5 * np.sqrt(2 / n))


def test_single_precision_stays_single(x64):
    assert StandardNormal().log_prob(jnp.zeros(2, jnp.float32)).dtype == jnp.float32
