"""Draws of the true posterior against the linear-Gaussian model's closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exact_posterior import exact
from hvax.batch import Batch
from hvax.evaluation.posterior_draws import posterior_draws, resampled
from hvax.evaluation.trajectories import paths
from hvax.models.decoder import Decoder
from hvax.models.likelihood import FixedGaussian
from hvax.models.vae import VAE
from models_for_tests import Affine, AffineEncoder


def badly_encoded(d: int) -> tuple[VAE, np.ndarray]:
    """A model whose posterior is correlated, and whose encoder is off by a standard deviation and
    half as wide as it should be."""
    W = np.random.default_rng(0).normal(size=(d + 2, d)) + 0.8
    x = np.linspace(-1, 1.5, d + 2)
    vae = VAE(
        AffineEncoder(Affine(jnp.zeros((d, d + 2)), jnp.zeros(d)), jnp.zeros(d)),
        Decoder(Affine(jnp.asarray(W, float), jnp.zeros(d + 2)), FixedGaussian(2.0)),
    )
    _, mean, covariance = exact(vae, x)
    sigma = np.sqrt(np.diag(covariance))
    shifted = Affine(jnp.zeros((d, d + 2)), jnp.asarray(mean + sigma, float))
    return VAE(AffineEncoder(shifted, jnp.log(0.5 * sigma)), vae.decoder), x


def on_device(x):
    return Batch(jnp.asarray(x, float))


@pytest.mark.parametrize("d", [3, 10])
def test_they_have_the_posterior_mean_and_covariance(d):
    """To 4.5 standard errors of 1,024 draws, as many as there are chains over eight copies of a
    point: those of one chain are not independent. Seen to fail without the prior in the potential
    and at a temperature of 1.5."""
    vae, x = badly_encoded(d)
    copies = np.tile(x, (8, 1))
    drawn = paths(vae, on_device(copies), 256, key=jax.random.key(0))
    found = posterior_draws(
        vae, on_device(copies), drawn.z[:, :, 0], drawn.log_weight[:, :, 0], key=jax.random.key(1)
    )
    _, mean, covariance = exact(vae, x)
    assert found.z.shape[0] == 8 and found.z.shape[2] == d
    assert np.all((found.acceptance > 0.5) & (found.acceptance < 0.98))
    # In coordinates in which the posterior is a standard normal.
    z = found.z.reshape(-1, d)
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), (z - mean).T)
    error = 4.5 / np.sqrt(8 * 128)
    np.testing.assert_array_less(np.abs(whitened.mean(axis=1)), error)
    second = whitened @ whitened.T / whitened.shape[1] - np.eye(d)
    np.testing.assert_array_less(np.abs(second), error * np.sqrt(1 + np.eye(d)))


def test_every_point_has_its_own_chains():
    vae, x = badly_encoded(3)
    both = np.stack([x, -x])
    drawn = paths(vae, on_device(both), 64, key=jax.random.key(0))
    found = posterior_draws(
        vae, on_device(both), drawn.z[:, :, 0], drawn.log_weight[:, :, 0], key=jax.random.key(1)
    )
    for i in (0, 1):
        _, mean, covariance = exact(vae, both[i])
        sigma = np.sqrt(np.diag(covariance))
        np.testing.assert_array_less(
            np.abs(found.z[i].mean(axis=0) - mean), 4.5 / np.sqrt(128) * sigma
        )


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
