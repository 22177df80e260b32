"""To the latent space and back: embeddings, reconstructions, decoded points, samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hvax
from hvax.data import Examples
from hvax.evaluation.latent import _encode
from hvax.exceptions import FailedDraws

BITS = np.random.default_rng(0).integers(0, 2, (300, 6)).astype(np.uint8)


def model(flow=True):
    vae = hvax.VAE(*hvax.mlp((6,), 2, hidden=(8,), key=jax.random.key(0)))
    return hvax.HVAE(vae, hvax.HamiltonianFlow(2, 0.3)) if flow else vae


# encode


@pytest.mark.parametrize("flow", [True, False])
def test_encode_gives_the_model_s_own_posterior_and_draws(flow):
    """Row i is the encoder at x_i, and draw s of it uses fold_in(fold_in(key, i), s)."""
    one = model(flow)
    result = hvax.encode(one, BITS, key=jax.random.key(1), num_samples=3, progress=False)
    assert result.mean.shape == (300, 2) and result.z.shape == (300, 3, 2)
    vae = one.vae if flow else one
    for i in (0, 299):
        posterior = vae.posterior(jnp.asarray(BITS[i]))
        np.testing.assert_allclose(result.mean[i], posterior.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(result.sigma[i], posterior.sigma, rtol=1e-5)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), i), 2)
        outputs = one(jnp.asarray(BITS[i]), key=key, latent=True)
        z = outputs.z
        np.testing.assert_allclose(result.z[i, 2], z, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(result.log_weight[i, 2], outputs.log_weight, rtol=1e-5)


def test_encode_streams_a_file_on_disk(tmp_path):
    np.save(tmp_path / "x.npy", BITS)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    here = hvax.encode(model(), BITS, key=jax.random.key(1), progress=False)
    there = hvax.encode(model(), mapped, key=jax.random.key(1), progress=False)
    np.testing.assert_array_equal(here.z, there.z)


def test_many_draws_are_cut_into_calls_of_bounded_size(monkeypatch):
    """600 draws of a point in calls of 256 rows at most; draw s is the same in any number of them.

    Seen to fail where all draws of a point were one call."""
    rows = []

    def counted(model, batch, key, indices, samples):
        rows.append(len(indices) * len(samples))
        return _encode(model, batch, key, indices, samples)

    monkeypatch.setattr("hvax.evaluation.latent._encode", counted)
    many = hvax.encode(model(), BITS[:3], num_samples=600, progress=False)
    few = hvax.encode(model(), BITS[:3], num_samples=5, progress=False)
    assert many.z.shape == (3, 600, 2) and many.log_weight.shape == (3, 600)
    assert max(rows) <= 256
    np.testing.assert_allclose(many.z[:, :5], few.z, rtol=1e-4, atol=1e-5)
    assert len(np.unique(many.z.reshape(-1, 2), axis=0)) == 1800


def test_examples_are_scaled_and_chosen_as_in_training():
    gray = Examples(255 * BITS, np.arange(10, 20), 255.0)
    found = hvax.encode(model(), gray, progress=False)
    expected = hvax.encode(model(), BITS[10:20].astype(np.float32), progress=False)
    np.testing.assert_array_equal(found.z, expected.z)


def test_where_the_flow_fails_encode_and_reconstruct_say_so():
    """A trajectory of a far outlier overflows; the encoder's mean is finite there."""
    vae = hvax.VAE(
        *hvax.mlp((6,), 2, hidden=(8,), likelihood=hvax.FixedGaussian(1e-6), key=jax.random.key(0))
    )
    steep = hvax.HVAE(vae, hvax.HamiltonianFlow(20, 1.0))
    x = np.zeros((4, 6))
    x[2] = np.sqrt(float(jnp.finfo(jnp.zeros(()).dtype).max))
    with pytest.warns(FailedDraws, match=r"failed-draws: z is not finite at .* of 4 points"):
        found = hvax.encode(steep, x, progress=False)
    assert np.isfinite(found.mean).all() and not np.isfinite(found.z[2]).all()
    with pytest.warns(FailedDraws, match="reconstructions are not finite at"):
        hvax.reconstruct(steep, x, progress=False)


# reconstruct


@pytest.mark.parametrize("flow", [True, False])
def test_reconstruct_gives_the_mean_at_one_draw_of_each_point(flow):
    made = hvax.reconstruct(model(flow), BITS, key=jax.random.key(1), progress=False)
    assert made.shape == BITS.shape and np.all((made > 0) & (made < 1))
    key = jax.random.fold_in(jax.random.key(1), 270)
    one = model(flow)(jnp.asarray(BITS[270]), key=key)
    np.testing.assert_allclose(made[270], jax.nn.sigmoid(one), rtol=1e-5)


def test_reconstruct_of_a_pair_shows_the_encoder_the_first():
    """The flow of a denoiser follows the second."""
    noisy = 1 - BITS
    pair = hvax.reconstruct(model(), (noisy, BITS), progress=False)
    key = jax.random.fold_in(jax.random.key(0), 5)
    one = model()(jnp.asarray(noisy[5]), jnp.asarray(BITS[5]), key=key)
    np.testing.assert_allclose(pair[5], jax.nn.sigmoid(one), rtol=1e-5)


# decode


def test_decode_at_given_points():
    z = np.array([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]])
    one, key = model(), jax.random.key(3)
    made = hvax.decode(one, z)
    exact = jax.nn.sigmoid(one.vae.decoder(jnp.asarray([1.0, 2.0])))
    np.testing.assert_allclose(made[1], exact, rtol=1e-5)
    np.testing.assert_array_equal(made[0], made[2])
    draws = hvax.decode(one, z, key=key, mean=False, progress=False)
    assert set(np.unique(draws)) <= {0, 1}
    output = one.vae.decoder(jnp.asarray([1.0, 2.0]))
    exact = one.vae.decoder.likelihood.sample(output, key=jax.random.fold_in(key, 1))
    np.testing.assert_array_equal(draws[1], exact)


def test_decode_takes_integers():
    z = np.array([[0, 0], [1, 2]])
    np.testing.assert_array_equal(hvax.decode(model(), z), hvax.decode(model(), z.astype(float)))


# sample


def test_samples_are_draws_or_means():
    """Both at the same z: over 1,800 bits the mean difference has a standard error below
    0.5 / sqrt(1800). Seen to fail where the draws' logits were shifted by 1."""
    draws = hvax.sample(model(), 300, key=jax.random.key(2), progress=False)
    means = hvax.sample(model(), 300, key=jax.random.key(2), mean=True, progress=False)
    assert draws.shape == means.shape == (300, 6)
    assert set(np.unique(draws)) <= {0, 1} and np.all((means > 0) & (means < 1))
    assert abs(draws.mean() - means.mean()) < 4.5 * 0.5 / np.sqrt(1800)


def test_samples_begin_at_the_prior():
    """z has the prior's law: through a decoder that shows it, mean 0 and variance 1 over 4,000
    numbers. Seen to fail with a prior twice as wide."""
    shown = hvax.Decoder(hvax.MLP((2,), (2,), key=jax.random.key(0)), hvax.FixedGaussian())
    encoder, _ = hvax.mlp((2,), 2, hidden=(4,), key=jax.random.key(0))
    layer = shown.network.layers[0]
    weight, bias = np.asarray(layer.weight, np.float64), np.asarray(layer.bias)
    x = hvax.sample(hvax.VAE(encoder, shown), 2000, mean=True, progress=False)
    z = np.linalg.solve(weight, (x - bias).T.astype(np.float64))
    assert abs(z.mean()) < 4.5 / np.sqrt(4000)
    assert abs(z.var() - 1) < 4.5 * np.sqrt(2 / 4000)


# All of them


def test_without_a_key_the_same_call_gives_the_same_numbers():
    one, z = model(), np.zeros((3, 2))
    for call in (
        lambda **key: hvax.encode(one, BITS[:9], **key, progress=False).z,
        lambda **key: hvax.reconstruct(one, BITS[:9], **key, progress=False),
        lambda **key: hvax.decode(one, z, mean=False, **key, progress=False),
        lambda **key: hvax.sample(one, 9, **key, progress=False),
    ):
        first = call()
        np.testing.assert_array_equal(first, call())
        np.testing.assert_array_equal(first, call(key=jax.random.key(0)))
        assert np.any(first != call(key=jax.random.key(1)))


BAD = [
    (lambda m: hvax.encode(m, BITS[0]), r"batch axis first, got one example of shape \(6,\)"),
    (lambda m: hvax.reconstruct(m, BITS[0]), r"batch axis first.* Give x\[None\]"),
    (lambda m: hvax.encode(m, BITS[:, :3]), r"must have shape \(6,\), got \(3,\)"),
    (lambda m: hvax.encode(m, 2 * BITS), r"data of a Bernoulli must be in \[0, 1\]"),
    (lambda m: hvax.encode(m, BITS, num_samples=0), "num_samples must be >= 1"),
    (lambda m: hvax.decode(m, np.ones(2)), r"z must have shape \(n, d\), got \(2,\).*z\[None\]"),
    (lambda m: hvax.decode(m, np.ones((0, 2))), r"z must have shape \(n, d\), got \(0, 2\)"),
    (lambda m: hvax.decode(m, np.ones((3, 4))), "z does not suit the decoder"),
    (lambda m: hvax.sample(m, 0), "n must be >= 1, got 0"),
    (lambda m: hvax.sample(m, 3, latent_size=3), "z does not suit the decoder"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(model())
