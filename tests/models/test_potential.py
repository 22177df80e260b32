"""The potential energy of a model, on one whose every number is on this page."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hvax.models.decoder import Decoder
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.hvae import HVAE
from hvax.models.likelihood import FixedGaussian
from hvax.models.network import mlp
from hvax.models.potential import potential_energy, potential_gradient
from hvax.models.vae import VAE

W = np.array([[1.0, -2.0], [0.5, 0.3], [0.0, 4.0]])
X, Z = np.array([1.0, 0.2, -3.0]), np.array([0.7, -1.1])


def linear() -> VAE:
    """x | z ~ N(W z, 0.25 I)."""
    decoder = Decoder(lambda z: jnp.asarray(W) @ z, FixedGaussian(0.5))
    return VAE(lambda x: DiagonalGaussian(jnp.zeros(2), jnp.zeros(2)), decoder)


def by_hand(z):
    return -stats.norm.logpdf(X, W @ z, 0.5).sum() - stats.norm.logpdf(z).sum()


@pytest.fixture
def model(x64):
    return linear()


@pytest.fixture
def xz(x64):
    return jnp.asarray(X), jnp.asarray(Z)


@pytest.mark.parametrize("kind", [lambda vae: vae, HVAE], ids=["VAE", "HVAE"])
def test_energy(model, xz, kind):
    np.testing.assert_allclose(potential_energy(kind(model), *xz), by_hand(Z), rtol=1e-13)


@pytest.mark.parametrize("method", ["reverse", "forward", "taylor", "finite"])
def test_gradient_holds_the_likelihoods_part(model, xz, method):
    gradient = potential_gradient(model, *xz, method=method)
    exact = Z - W.T @ (X - W @ Z) / 0.25
    # Exact methods: 1e-14 of 100. Central differences of a parabola: eps^(2/3) of U = 100.
    atol = 1e-7 if method == "finite" else 1e-12
    np.testing.assert_allclose(gradient, exact, rtol=0, atol=atol)
    assert np.abs(gradient - Z).min() > 1  # a gradient of the prior's part alone


def test_gradient_through_a_network_is_the_energys_slope(x64):
    """Central differences at h = 1e-5: an error of h^2 U''' / 6 + eps U / h, 1e-10 here."""
    model = VAE(*mlp((3,), 2, hidden=(4,), key=jax.random.key(0)))
    x, energy = jnp.array([1.0, 0.0, 1.0]), jax.jit(lambda x, z: potential_energy(model, x, z))
    slopes = [(energy(x, Z + h) - energy(x, Z - h)) / 2e-5 for h in 1e-5 * np.eye(2)]
    ours = potential_gradient(model, x, jnp.asarray(Z))
    np.testing.assert_allclose(ours, np.array(slopes), rtol=0, atol=2e-9)


def test_a_log_likelihood_of_the_users(model, xz):
    """It gets the data and the decoder's output."""

    def laplace(x, output):
        return -jnp.sum(jnp.abs(x - output))

    energy = potential_energy(model, *xz, log_likelihood=laplace)
    exact = np.abs(X - W @ Z).sum() - stats.norm.logpdf(Z).sum()
    np.testing.assert_allclose(energy, exact, rtol=1e-13)
    gradient = potential_gradient(model, *xz, log_likelihood=laplace)
    np.testing.assert_allclose(gradient, Z - W.T @ np.sign(X - W @ Z), rtol=0, atol=1e-13)


def test_a_log_prior_of_the_users(model, xz):
    energy = potential_energy(model, *xz, log_prior=lambda z: -jnp.sum(z**4))
    exact = -stats.norm.logpdf(X, W @ Z, 0.5).sum() + (Z**4).sum()
    np.testing.assert_allclose(energy, exact, rtol=1e-13)
    gradient = potential_gradient(model, *xz, log_prior=lambda z: -jnp.sum(z**4))
    np.testing.assert_allclose(gradient, 4 * Z**3 - W.T @ (X - W @ Z) / 0.25, rtol=0, atol=1e-12)


def test_both_of_the_users(model, xz):
    energy = potential_energy(
        model, *xz, log_likelihood=lambda x, output: x[0] * output[0], log_prior=lambda z: z[0]
    )
    np.testing.assert_allclose(energy, -X[0] * (W @ Z)[0] - Z[0], rtol=1e-14)


def test_refusals(model, xz):
    x, z = xz
    with pytest.raises(ValueError, match=r"got \(4, 3\)\.(?s:.*)jax\.vmap"):
        potential_energy(model, jnp.zeros((4, 3)), z)
    with pytest.raises(ValueError, match="gradient method must be one of reverse, forward, taylor"):
        potential_gradient(model, x, z, method="magic")
