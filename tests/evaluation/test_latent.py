"""Embeddings, reconstructions, samples and interpolations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hvax
from hvax.evaluation.latent import (
    decoded,
    encode,
    interpolation,
    prior_samples,
    reconstructions,
)

BITS = np.random.default_rng(0).integers(0, 2, (300, 6)).astype(np.uint8)


def model(flow=True):
    vae = hvax.VAE(*hvax.mlp((6,), 2, hidden=(8,), key=jax.random.key(0)))
    return hvax.HVAE(vae, hvax.HamiltonianFlow(2, 0.3)) if flow else vae


@pytest.mark.parametrize("flow", [True, False])
def test_encode_gives_the_model_s_own_posterior_and_draws(flow):
    """Row i is the encoder at x_i, and draw s of it uses fold_in(fold_in(key, i), s)."""
    one = model(flow)
    result = encode(one, BITS, key=jax.random.key(1), num_samples=3, progress=False)
    assert result.mean.shape == (300, 2) and result.z.shape == (300, 3, 2)
    vae = one.vae if flow else one
    for i in (0, 299):
        posterior = vae.posterior(jnp.asarray(BITS[i]))
        np.testing.assert_allclose(result.mean[i], posterior.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(result.sigma[i], posterior.sigma, rtol=1e-5)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), i), 2)
        outputs = one(jnp.asarray(BITS[i]), key=key, latent=True)
        z = outputs.phase_space.z_final if flow else outputs.z
        np.testing.assert_allclose(result.z[i, 2], z, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(result.log_weight[i, 2], outputs.log_weight, rtol=1e-5)


def test_encode_streams_a_file_on_disk(tmp_path):
    np.save(tmp_path / "x.npy", BITS)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    here = encode(model(), BITS, key=jax.random.key(1), progress=False)
    there = encode(model(), mapped, key=jax.random.key(1), progress=False)
    np.testing.assert_array_equal(here.z, there.z)


def test_reconstructions_are_probabilities_near_the_likelihood_s_mean():
    made = reconstructions(model(), BITS, key=jax.random.key(1), progress=False)
    assert made.shape == BITS.shape and np.all((made > 0) & (made < 1))
    key = jax.random.fold_in(jax.random.key(1), 7)
    np.testing.assert_allclose(
        made[7], hvax.reconstruct(model(), jnp.asarray(BITS[7]), key=key), rtol=1e-5
    )


def test_prior_samples_are_draws_or_means():
    draws = prior_samples(model(), 300, 2, key=jax.random.key(2))
    means = prior_samples(model(), 300, 2, key=jax.random.key(2), mean=True)
    assert set(np.unique(draws)) <= {0, 1} and np.all((means > 0) & (means < 1))
    # The same z: over 1,800 bits the mean difference has standard error below 0.5 / sqrt(1800).
    assert abs(draws.mean() - means.mean()) < 4.5 * 0.5 / np.sqrt(1800)


def test_decoded_at_given_points():
    z = np.zeros((3, 2))
    made = decoded(model(), z, key=jax.random.key(0), mean=True)
    np.testing.assert_allclose(made[0], made[2], rtol=1e-6)


def test_interpolation_ends_where_it_should_and_keeps_its_length():
    start, end = np.array([2.0, 0.0]), np.array([0.0, 2.0])
    for path in ("linear", "spherical"):
        way = interpolation(start, end, 9, path=path)
        np.testing.assert_allclose(way[0], start, atol=1e-6)
        np.testing.assert_allclose(way[-1], end, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 2.0, rtol=1e-6)
    np.testing.assert_allclose(np.diff(np.arctan2(way[:, 1], way[:, 0])), np.pi / 16, rtol=1e-5)


def test_interpolation_between_parallel_points_is_straight():
    way = interpolation(np.ones(3), 3 * np.ones(3), 3)
    np.testing.assert_allclose(way[1], 2.0, rtol=1e-6)


def test_bad_input():
    with pytest.raises(ValueError, match="num_points must be >= 2"):
        interpolation(np.ones(2), np.ones(2), 1)
    with pytest.raises(ValueError, match="num_samples must be >= 1"):
        encode(model(), BITS, key=jax.random.key(0), num_samples=0)
