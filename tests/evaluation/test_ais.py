"""Annealed importance sampling brackets log p(x) where log p(x) is known in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import hvax
from hvax.evaluation.ais import annealed_importance_sampling, simulate, temperatures

D_LATENT, D_DATA, SIGMA = 2, 4, 0.7


class Affine(eqx.Module):
    weight: jax.Array
    bias: jax.Array

    def __call__(self, z):
        return self.weight @ z + self.bias


class RoughEncoder(eqx.Module):
    """A posterior that is neither right nor absurd."""

    def __call__(self, x):
        return hvax.DiagonalGaussian(0.1 * x[:D_LATENT], jnp.full(D_LATENT, -0.5))


def linear_model():
    decoder = Affine(
        jax.random.normal(jax.random.key(1), (D_DATA, D_LATENT)), 0.1 * jnp.arange(float(D_DATA))
    )
    return hvax.VAE(RoughEncoder(), hvax.Decoder(decoder, hvax.FixedGaussian(SIGMA)))


def log_p(model, x):
    weight, bias = (
        np.asarray(a, np.float64)
        for a in (model.decoder.network.weight, model.decoder.network.bias)
    )
    covariance = weight @ weight.T + SIGMA**2 * np.eye(D_DATA)
    return scipy.stats.multivariate_normal(bias, covariance).logpdf(np.asarray(x))


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_both_bounds_close_on_the_closed_form(x64, start):
    """The means over 25 points of lower and upper bound are within 4.5 standard errors of
    log p(x), and those errors are below 0.008 nat.

    Planted errors: the weights taken behind their transitions put the lower bound 0.023 nat, 4.8
    standard errors, too high (0.21 at 20 temperatures); without the Metropolis correction the lower
    bound is 8.2 nats too low.
    """
    model = linear_model()
    x, z = simulate(model, 25, D_LATENT, key=jax.random.key(2))
    result = annealed_importance_sampling(
        model,
        np.asarray(x),
        key=jax.random.key(3),
        start=start,
        num_temperatures=600,
        num_chains=100,
        num_leapfrog=5,
        posterior_draws=z,
        progress=False,
    )
    truth = log_p(model, x)
    assert 0.5 < result.acceptance < 0.8
    for bound in (result.lower, result.upper):
        error = np.std(bound - truth, ddof=1) / np.sqrt(25)
        assert error < 0.008
        assert abs(np.mean(bound - truth)) < 4.5 * error


def test_lower_bound_is_low_and_upper_bound_high_with_few_temperatures(x64):
    """With 3 temperatures and one chain the bounds are loose, each on its own side."""
    model = linear_model()
    x, z = simulate(model, 25, D_LATENT, key=jax.random.key(4))
    result = annealed_importance_sampling(
        model,
        np.asarray(x),
        key=jax.random.key(5),
        num_temperatures=3,
        num_chains=1,
        posterior_draws=z,
        progress=False,
    )
    truth = log_p(model, x)
    assert np.mean(result.lower - truth) < -0.1
    assert np.mean(result.upper - truth) > 0.1


def test_simulated_data_come_with_their_posterior_draw(x64):
    """Over many simulated points, x = W z + b + N(0, SIGMA^2): the residual's standard deviation
    is SIGMA within 4.5 / sqrt(2 * 4000 * 4) = 2.5%."""
    model = linear_model()
    x, z = simulate(model, 4000, D_LATENT, key=jax.random.key(6))
    residual = x - jax.vmap(model.decoder)(z)
    assert abs(float(residual.std()) / SIGMA - 1) < 0.025


def test_temperatures_rise_from_zero_to_one():
    b = temperatures(10)
    assert b[0] == 0 and b[-1] == 1 and np.all(np.diff(b) > 0)
    assert len(temperatures(1)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_temperatures": 0}, "num_temperatures must be >= 1"),
        ({"num_chains": 0}, "num_chains must be >= 1"),
        ({"num_leapfrog": 0}, "num_leapfrog must be >= 1"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        annealed_importance_sampling(
            linear_model(), np.zeros((2, D_DATA)), key=jax.random.key(0), **options
        )
