"""The true posterior on a grid, against the linear-Gaussian model's closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

from exact_posterior import exact
from hvax.batch import Batch
from hvax.evaluation.posterior_grid import most_correlated_axes, plane
from hvax.models.decoder import Decoder
from hvax.models.likelihood import FixedGaussian
from hvax.models.vae import VAE
from laplace_posterior import LaplaceEncoder
from models_for_tests import Affine, AffineEncoder, linear_gaussian

X = np.array([0.4, -1.1, 0.7])


NOTHING = np.zeros((0, 2))


def drawn(vae, cover=NOTHING):
    return plane(vae, Batch(jnp.asarray(X, float)), cover=cover)


@pytest.mark.parametrize("scale", [1.0, 0.003])
def test_the_sum_over_the_grid_is_the_likelihood(scale):
    """For a posterior as wide as the prior and for one 300 times narrower; float32 leaves about
    1e-5 of |log p|, which grows as 1 / scale^2."""
    vae = linear_gaussian()
    likelihood = FixedGaussian(0.8 * scale)
    vae = VAE(vae.encoder, Decoder(vae.decoder.network, likelihood))
    log_p, mean, cov = exact(vae, X)
    found = drawn(vae)
    assert found.log_p == pytest.approx(log_p, abs=2e-4, rel=1e-5)
    posterior = vae.posterior(jnp.asarray(X, float))
    q_mean, q_cov = np.asarray(posterior.mean), np.diag(np.asarray(posterior.sigma) ** 2)
    gap = mean - q_mean
    kl = 0.5 * (
        np.trace(np.linalg.solve(cov, q_cov)) + gap @ np.linalg.solve(cov, gap) - 2
        + np.linalg.slogdet(cov)[1] - np.linalg.slogdet(q_cov)[1]
    )  # fmt: skip
    assert found.kl == pytest.approx(kl, abs=1e-3, rel=1e-4)


def test_the_grid_shows_the_mode_and_what_is_to_be_covered():
    vae = linear_gaussian()
    _, mean, cov = exact(vae, X)
    found = drawn(vae, cover=np.array([[7.0, -6.0]]))
    first, second, log_joint = found.density
    row, column = np.unravel_index(log_joint.argmax(), log_joint.shape)
    cell = first[1] - first[0], second[1] - second[0]
    assert first[column] == pytest.approx(mean[0], abs=cell[0])
    assert second[row] == pytest.approx(mean[1], abs=cell[1])
    assert first[0] < mean[0] - 4 * np.sqrt(cov[0, 0])
    assert first[-1] >= 7.0
    assert second[0] <= -6.0


def test_the_most_tied_axes():
    """A posterior precision of 1 + W'W / s^2 whose largest correlation is between axes 1 and 3."""
    W = np.array([[1.0, 0, 0, 0], [0, 1.0, 0.2, 0.9], [0, 0, 1.0, 0]])
    encoder = AffineEncoder(Affine(jnp.zeros((4, 3)), jnp.zeros(4)), jnp.zeros(4))
    vae = VAE(encoder, Decoder(Affine(jnp.asarray(W, float), jnp.zeros(3)), FixedGaussian(0.5)))
    assert most_correlated_axes(vae, Batch(jnp.asarray(X, float))) == (1, 3)


def test_a_decoder_that_overflows_far_out_is_drawn_all_the_same():
    class Exploding(Affine):
        def __call__(self, z):
            return jnp.exp(jnp.exp(2 * (self.weight @ z + self.bias)))

    vae = linear_gaussian()
    network = Exploding(vae.decoder.network.weight, vae.decoder.network.bias)
    found = drawn(VAE(vae.encoder, Decoder(network, FixedGaussian(1.0))))
    assert np.all(np.isfinite(found.density.log_density))
    assert np.isfinite(found.log_p)


def test_no_gaussian_gap_of_another_posterior():
    vae = linear_gaussian()
    log_p, *_ = exact(vae, X)
    found = drawn(VAE(LaplaceEncoder(jnp.zeros(2), jnp.ones(2)), vae.decoder))
    assert found.log_p == pytest.approx(log_p, abs=2e-4, rel=1e-5)
    assert found.kl is None
