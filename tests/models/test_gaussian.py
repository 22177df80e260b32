"""The diagonal Gaussian against scipy and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hvax.models.gaussian import DiagonalGaussian

MEAN = np.array([[0.3, -2.0, 5.0], [0.0, 1e-3, -40.0]])
LOG_SIGMA = np.array([[0.0, -1.5, 2.0], [-4.0, 0.7, 3.0]])
ORACLE = stats.norm(MEAN, np.exp(LOG_SIGMA))


def gaussian(dtype=float) -> DiagonalGaussian:
    return DiagonalGaussian(jnp.asarray(MEAN, dtype), jnp.asarray(LOG_SIGMA, dtype))


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


def test_log_prob_is_the_density(x64):
    z = MEAN + np.exp(LOG_SIGMA) * np.array([[0.0, 1.0, -3.0], [8.0, -0.1, 30.0]])
    # Six terms up to 450: rounding is below 1e-15 of their sum.
    np.testing.assert_allclose(
        gaussian().log_prob(jnp.asarray(z)), ORACLE.logpdf(z).sum(), rtol=2e-14
    )


def test_entropy_is_the_oracles(x64):
    np.testing.assert_allclose(gaussian().entropy(), ORACLE.entropy().sum(), rtol=2e-14)


def test_kl_is_the_integral(x64):
    """Gauss-Hermite with 5 nodes is exact for log q - log p, a polynomial of degree two."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    z = MEAN[..., None] + np.exp(LOG_SIGMA)[..., None] * nodes
    log_q = stats.norm(MEAN[..., None], np.exp(LOG_SIGMA)[..., None]).logpdf(z)
    integral = (log_q - stats.norm.logpdf(z)) @ weights / weights.sum()
    np.testing.assert_allclose(gaussian().kl_from_standard_normal(), integral.sum(), rtol=1e-13)


def test_kl_of_the_standard_normal_itself_is_zero(dtype):
    itself = DiagonalGaussian(jnp.zeros(3, dtype), jnp.zeros(3, dtype))
    assert itself.kl_from_standard_normal() == 0.0


def test_kl_keeps_its_digits_near_zero():
    """mean^2 + sigma^2 - 1, computed as it is written, has no digits left here in float32."""
    tiny = DiagonalGaussian(jnp.float32([0.0]), jnp.float32([1e-3]))
    exact = 0.5 * np.expm1(2e-3) - 1e-3
    # What cancels in expm1(2 s)/2 - s leaves eps * s = 6e-11 of the 1e-6; seen: 6e-11.
    np.testing.assert_allclose(tiny.kl_from_standard_normal(), exact, rtol=0, atol=6e-10)


def test_sample_and_log_prob_agree_with_sample_and_log_prob(dtype):
    q = gaussian(dtype)
    z, log_prob = q.sample_and_log_prob(key=jax.random.key(1))
    np.testing.assert_array_equal(z, q.sample(key=jax.random.key(1)))
    # (z - mean) / sigma loses digits where |mean| / sigma is large, 40/20 at most here: 2 eps of
    # log p's terms, each below 10.
    np.testing.assert_allclose(q.log_prob(z), log_prob, rtol=0, atol=300 * np.finfo(dtype).eps)


def test_log_prob_of_a_draw_is_exact_at_a_large_mean():
    """N(1e4, e^-10): in float32 every draw rounds to the mean, and its log-density stays right."""
    q = DiagonalGaussian(jnp.full(4, 1e4, jnp.float32), jnp.full(4, -10.0, jnp.float32))
    _, log_prob = q.sample_and_log_prob(key=jax.random.key(2))
    noise = np.asarray(jax.random.normal(jax.random.key(2), (4,), jnp.float32), np.float64)
    # Four terms of size 10: 4 * 10 * eps = 5e-6.
    np.testing.assert_allclose(log_prob, stats.norm.logpdf(noise).sum() + 40, rtol=0, atol=5e-5)


def test_draws_have_the_moments():
    """20,000 draws; scaling sigma by 1.05 moves the variance by 10 standard errors, and a mean off
    by 0.05 sigma moves the mean by 7."""
    n = 20_000
    z = jax.vmap(lambda key: gaussian().sample(key=key))(jax.random.split(jax.random.key(3), n))
    standardized = (np.asarray(z, np.float64) - MEAN) / np.exp(LOG_SIGMA)
    assert np.all(np.abs(standardized.mean(0)) < 4.5 / np.sqrt(n))
    assert np.all(np.abs((standardized**2).mean(0) - 1) < 4.5 * np.sqrt(2 / n))


def test_draws_are_reparameterized():
    """dz/dmean = 1 and dz/dlog_sigma = z - mean."""
    q = DiagonalGaussian(jnp.array([0.5, -1.0]), jnp.array([0.2, -0.3]))
    dz = jax.jacobian(lambda q: q.sample(key=jax.random.key(4)))(q)
    z = q.sample(key=jax.random.key(4))
    np.testing.assert_array_equal(dz.mean, np.eye(2))
    # z - mean loses 1e-7 in float32, of numbers near 1.
    np.testing.assert_allclose(dz.log_sigma, np.diag(z - q.mean), rtol=0, atol=5e-6)


def test_dtypes_are_kept(dtype):
    q = gaussian(dtype)
    z, log_prob = q.sample_and_log_prob(key=jax.random.key(5))
    numbers = [z, log_prob, q.sigma, q.log_prob(z), q.kl_from_standard_normal(), q.entropy()]
    assert all(number.dtype == dtype for number in numbers)


def test_single_precision_stays_single_in_a_double_world(x64):
    q = gaussian(jnp.float32)
    z, log_prob = q.sample_and_log_prob(key=jax.random.key(6))
    assert z.dtype == log_prob.dtype == q.kl_from_standard_normal().dtype == jnp.float32
