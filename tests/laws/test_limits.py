"""Limits: a flow that does not move is the plain VAE, one importance sample is the ELBO."""

from functools import partial
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.models.hvae import HVAE
from hvax.objectives import importance_weighted_bound, loss
from models_for_tests import (
    FAMILY,
    QUICK_COMPILE,
    SCHEDULES,
    family,
    linear_gaussian,
    tempering,
)

X = np.array([0.7, -1.1, 0.4])


@partial(eqx.filter_jit, compiler_options=QUICK_COMPILE)
def log_weight(model, x):
    return model.log_weight(x, key=jax.random.key(0))


@pytest.mark.parametrize("num_steps, step_size", [(0, 0.3), (3, 1e-12)])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_flow_that_does_not_move_is_the_vae(schedule, num_steps, step_size, x64):
    """No steps, and steps of no length, for every schedule and beta_0, on the same noise."""
    vae, x = linear_gaussian(), jnp.asarray(X)
    expected = log_weight(vae, x)
    for beta0 in (1.0, 0.8, 0.5, 0.3):
        flow = HamiltonianFlow(num_steps, step_size, tempering(schedule, num_steps, beta0))
        # Rounding of ten terms of up to ten; three steps of 1e-12 along slopes of up to ten.
        atol = 1e-13 if num_steps == 0 else 1e-10
        np.testing.assert_allclose(log_weight(HVAE(vae, flow), x), expected, rtol=0, atol=atol)


def test_a_flow_that_moves_is_not_the_vae(x64):
    vae, x = linear_gaussian(), jnp.asarray(X)
    moved = HVAE(vae, HamiltonianFlow(3, 0.1, tempering("quadratic", 3, 0.5)))
    assert abs(log_weight(moved, x) - log_weight(vae, x)) > 0.1


@pytest.mark.parametrize("name", FAMILY)
def test_a_member_of_the_family_without_steps_is_the_vae(name, x64):
    vae, x = linear_gaussian(), jnp.asarray(X)
    flowed = HVAE(vae, family(name, 0))
    np.testing.assert_allclose(log_weight(flowed, x), log_weight(vae, x), rtol=0, atol=1e-13)


@pytest.mark.slow
def test_a_long_bridge_comes_to_log_p_x(x64):
    """As annealed importance sampling does: with even weights and fresh momenta the gap of the
    bound falls with K, here from 1.16 nats (K = 0) by 0.40 and 0.16 to 0.06, within 0.03 as 4,000
    draws give it. Seen to fail where the bridge was not followed: it stays at 1.15."""
    vae, x = linear_gaussian(), jnp.asarray(X)
    W, b = (np.asarray(leaf) for leaf in jax.tree.leaves(vae.decoder.network))
    sigma = float(vae.decoder.likelihood.sigma.value)
    log_p = multivariate_normal(b, W @ W.T + sigma**2 * np.eye(3)).logpdf(X)

    def gap(num_steps):
        even = np.arange(1, num_steps + 1) / (num_steps + 1)
        model = vae
        if num_steps:
            options = {"step_size": 0.15, "units": "latent", "leapfrog_steps": 5}
            flow = HamiltonianFlow.ula(num_steps, bridge=even, **options)
            model = HVAE(vae, flow)
        keys = jax.random.split(jax.random.key(1), 4000)
        draw = eqx.filter_jit(jax.vmap(lambda key: model.log_weight(x, key=key)))
        return log_p - float(np.mean(draw(keys)))

    gaps = [gap(K) for K in (0, 4, 16, 64)]
    assert gaps[0] > 1
    assert all(2 * ahead < behind for behind, ahead in pairwise(gaps)) and gaps[-1] > 0


@pytest.mark.parametrize("num_steps", [0, 2])
def test_the_losses_of_hvae_and_vae(num_steps, x64):
    """No steps: equal, by either KL. With steps the analytic KL changes the loss by what it changes
    the VAE's on the same noise, which is zero in expectation."""
    vae, x = linear_gaussian(), jnp.asarray([X, X + 1])
    hvae = HVAE(vae, HamiltonianFlow(num_steps, 0.1, tempering("quadratic", num_steps)))

    @partial(eqx.filter_jit, compiler_options=QUICK_COMPILE)
    def by_either_kl(function, model):
        return [function(model, x, key=jax.random.key(0), kl=kl) for kl in ("analytic", "sampled")]

    ours, theirs = by_either_kl(loss, hvae), by_either_kl(loss, vae)
    np.testing.assert_allclose(ours[0] - ours[1], theirs[0] - theirs[1], rtol=0, atol=1e-13)
    assert abs(ours[0] - ours[1]) > 0.1
    assert np.allclose(ours, theirs, rtol=0, atol=1e-13) is (num_steps == 0)


@eqx.filter_jit
def bounds(model, x, *, num_samples, key):
    """Two thousand draws of the bound at one data point."""

    def one(key):
        return importance_weighted_bound(model, x[None], key=key, num_samples=num_samples)

    return jax.vmap(one)(jax.random.split(key, 2000))


def test_the_importance_weighted_bound_rises_with_its_samples():
    """E[bound] with 8 samples is above that with 2, by 13 standard errors; below log p(x).

    Seen to fail where one key served all samples: the rise was then -0.3 (1.2 in float64).
    """
    vae, x = linear_gaussian(), jnp.asarray(X, float)
    model = HVAE(vae, HamiltonianFlow(2, 0.15, tempering("quadratic", 2, 0.6)))
    W, b = (np.asarray(leaf) for leaf in jax.tree.leaves(vae.decoder.network))
    sigma = float(vae.decoder.likelihood.sigma.value)
    log_p = multivariate_normal(b, W @ W.T + sigma**2 * np.eye(3)).logpdf(X)

    few, many = (np.asarray(bounds(model, x, num_samples=s, key=jax.random.key(s))) for s in (2, 8))
    error = np.hypot(np.std(few), np.std(many)) / np.sqrt(2000)
    assert np.mean(many) - np.mean(few) > 4.5 * error
    assert np.mean(many) < log_p + 4.5 * error
