"""Draws of the true posterior against the linear-Gaussian model's closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exact_posterior import exact
from hvax.models.decoder import Decoder
from hvax.models.likelihood import FixedGaussian
from hvax.models.vae import VAE
from hvax.report.path import noise, paths
from hvax.report.posterior_draws import posterior_draws, resampled
from models_for_tests import Affine, AffineEncoder


def badly_encoded(d: int) -> tuple[VAE, np.ndarray]:
    """A model whose posterior is correlated, and whose encoder is off by a standard deviation and
    half as wide as it should be."""
    W = np.random.default_rng(0).normal(size=(d + 2, d)) + 0.8
    x = np.linspace(-1, 1.5, d + 2)
    vae = VAE(
        AffineEncoder(Affine(jnp.zeros((d, d + 2)), jnp.zeros(d)), jnp.zeros(d)),
        Decoder(Affine(jnp.asarray(W, float), jnp.zeros(d + 2)), FixedGaussian(0.7)),
    )
    _, mean, covariance = exact(vae, x)
    sigma = np.sqrt(np.diag(covariance))
    shifted = Affine(jnp.zeros((d, d + 2)), jnp.asarray(mean + sigma, float))
    return VAE(AffineEncoder(shifted, jnp.log(0.5 * sigma)), vae.decoder), x


@pytest.mark.parametrize("d", [3, 10])
def test_they_have_the_posterior_mean_and_covariance(d):
    """To 4.5 standard errors of 256 draws, as many as there are chains: those of one chain are not
    independent. Without the prior in the potential, or at a temperature of 1.5, both fail; with
    proposals that are not weighted and 3 iterations the mean does."""
    vae, x = badly_encoded(d)
    drawn = paths(vae, x[None], noise(vae, 1, 256, d, key=jax.random.key(0)))
    found = posterior_draws(
        vae, x[None], drawn.z[:, :, 0], drawn.log_weight[:, :, 0], key=jax.random.key(1)
    )
    _, mean, covariance = exact(vae, x)
    assert found.z.shape == (1, 12 * 256, d)
    assert 0.5 < found.acceptance[0] < 0.98
    # In coordinates in which the posterior is a standard normal.
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), (found.z[0] - mean).T)
    np.testing.assert_array_less(np.abs(whitened.mean(axis=1)), 4.5 / np.sqrt(256))
    second = whitened @ whitened.T / whitened.shape[1] - np.eye(d)
    bound = 4.5 / np.sqrt(256) * np.sqrt(1 + np.eye(d))
    np.testing.assert_array_less(np.abs(second), bound)


def test_every_point_has_its_own_chains():
    vae, x = badly_encoded(3)
    both = np.stack([x, -x])
    drawn = paths(vae, both, noise(vae, 2, 64, 3, key=jax.random.key(0)))
    found = posterior_draws(
        vae, both, drawn.z[:, :, 0], drawn.log_weight[:, :, 0], key=jax.random.key(1)
    )
    for i in (0, 1):
        _, mean, covariance = exact(vae, both[i])
        sigma = np.sqrt(np.diag(covariance))
        np.testing.assert_array_less(np.abs(found.z[i].mean(axis=0) - mean), 4.5 / 16 * sigma)


def test_resampling_follows_the_weights():
    """Systematic: each comes its expected number of times, rounded up or down; never those whose
    weight is not finite."""
    z = np.arange(5.0)[:, None]
    log_weight = np.array([0.0, np.nan, np.log(2.0), -np.inf, np.log(7.0)]) + 1e4
    found = resampled(z, log_weight, 95, np.random.default_rng(0))
    counts = np.bincount(found[:, 0].astype(int), minlength=5)
    expected = 95 * np.array([0.1, 0, 0.2, 0, 0.7])
    assert counts.sum() == 95 and counts[1] == counts[3] == 0
    assert np.all(np.abs(counts - expected) < 1)
