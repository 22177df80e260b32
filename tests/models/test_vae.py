"""The variational autoencoder, one example at a time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hvax.evaluation.latent import reconstruct
from hvax.models.decoder import Decoder
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.heads import JointGaussian, SplitGaussian
from hvax.models.likelihood import AbstractLikelihood, Bernoulli, Categorical, FixedGaussian
from hvax.models.network import mlp
from hvax.models.prior import AbstractPrior
from hvax.models.vae import VAE

pytestmark = pytest.mark.usefixtures("x64")

X = np.array([1.0, 0.0, 1.0])


def vae(x_shape=(3,), latent_size=2, *, target_shape=None, prior=None, **options) -> VAE:
    """A small VAE; with `target_shape` its decoder is over data of that shape."""
    encoder, decoder = mlp(x_shape, latent_size, hidden=(4,), key=jax.random.key(0), **options)
    if target_shape is not None:
        _, decoder = mlp(target_shape, latent_size, hidden=(4,), key=jax.random.key(1), **options)
    return VAE(encoder, decoder, prior)


@eqx.filter_jit
def outputs(model, x, target=None, key=None):
    key = jax.random.key(7) if key is None else key
    return model(jnp.asarray(x), target, key=key, latent=True)


class Wide(AbstractPrior):
    """A user's own: N(0, 9 I)."""

    def log_prob(self, z):
        return jnp.sum(jax.scipy.stats.norm.logpdf(z, 0.0, 3.0))

    def sample(self, latent_size, *, key):
        return 3 * jax.random.normal(key, (latent_size,))


class Laplace(AbstractLikelihood):
    """A user's own: exp(-|x - m|) / 2."""

    def log_prob(self, output, x):
        return jnp.sum(-jnp.abs(x - output) - jnp.log(2.0))

    def mean(self, output):
        return output

    def sample(self, output, *, key):
        return output + jax.random.laplace(key, output.shape, output.dtype)

    def check(self, x):
        pass


def test_outputs_are_what_their_names_say():
    model = vae()
    out = outputs(model, X)
    for number, exact in [
        (out.posterior.mean, model.posterior(jnp.asarray(X)).mean),
        (out.output, model.decoder(out.z)),
        (out.log_likelihood, stats.bernoulli.logpmf(X, 1 / (1 + np.exp(-out.output))).sum()),
        (out.log_prior, stats.norm.logpdf(out.z).sum()),
        (
            out.log_posterior,
            stats.norm.logpdf(out.z, out.posterior.mean, out.posterior.sigma).sum(),
        ),
        (out.log_weight, out.log_likelihood + out.log_prior - out.log_posterior),
        (model.log_weight(jnp.asarray(X), key=jax.random.key(7)), out.log_weight),
    ]:
        # Sums of a few numbers of order one: 1e-15.
        np.testing.assert_allclose(number, exact, rtol=0, atol=5e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_number_has_the_models_dtype(dtype):
    with jax.enable_x64(dtype == "float64"):
        out = jax.eval_shape(lambda: outputs(vae(), X))
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {np.dtype(dtype)}


def test_the_ways_to_call_share_their_draw():
    model, x = vae(), jnp.asarray(X)
    out = outputs(model, X)
    output = model(x, key=jax.random.key(7))
    drawn = model.draw(model.posterior(x), x, key=jax.random.key(7))
    np.testing.assert_allclose(output, out.output, rtol=0, atol=1e-14)
    np.testing.assert_allclose(drawn.log_weight, out.log_weight, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("x_shape", "likelihood", "x"),
    [
        ((2, 3), None, np.eye(2, 3)),
        ((2, 3), None, np.eye(2, 3, dtype=np.uint8)),
        ((4,), Categorical(3), np.array([0, 2, 1, 1])),
        ((4, 3), Categorical(3), np.eye(3)[[0, 2, 1, 1]]),
        ((), FixedGaussian(), np.array(0.3)),
    ],
)
def test_shapes_of_data(x_shape, likelihood, x):
    out = jax.eval_shape(lambda: outputs(vae(x_shape, likelihood=likelihood), x))
    assert out.z.shape == out.posterior.mean.shape == (2,) and out.log_likelihood.shape == ()


def test_a_users_likelihood():
    out = outputs(vae(likelihood=Laplace()), X)
    exact = stats.laplace.logpdf(X, np.asarray(out.output, np.float64)).sum()
    np.testing.assert_allclose(out.log_likelihood, exact, rtol=1e-6)


def test_a_users_prior_scores_z():
    ours, theirs = outputs(vae(), X), outputs(vae(prior=Wide()), X)
    np.testing.assert_array_equal(ours.z, theirs.z)
    exact = stats.norm.logpdf(np.asarray(ours.z, np.float64), 0, 3).sum()
    np.testing.assert_allclose(theirs.log_prior, exact, rtol=1e-6)


# x and target


@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_the_encoder_sees_x_and_the_likelihood_the_target(shape):
    model, target = vae(target_shape=shape), jnp.ones(shape)
    out = outputs(model, X, target)
    np.testing.assert_array_equal(out.z, outputs(vae(), X).z)
    exact = stats.bernoulli.logpmf(1, 1 / (1 + np.exp(-np.asarray(out.output, np.float64)))).sum()
    np.testing.assert_allclose(out.log_likelihood, exact, rtol=1e-6)


def test_a_reconstruction_needs_no_target():
    model = vae(target_shape=(2, 2))
    assert reconstruct(model, np.asarray(X)[None], progress=False).shape == (1, 2, 2)
    with pytest.raises(ValueError, match=r"x must have shape \(2, 2\), got \(3,\)"):
        outputs(model, X)


def test_reconstruct_gives_pixels():
    model, x = vae(), jnp.asarray(X)
    pixels = reconstruct(model, x[None], key=jax.random.key(7), progress=False)[0]
    output = model(x, key=jax.random.fold_in(jax.random.key(7), 0))
    np.testing.assert_allclose(pixels, jax.nn.sigmoid(output), rtol=0, atol=1e-6)


def test_nan_in_gives_nan_out():
    assert jnp.isnan(outputs(vae(), np.array([1.0, np.nan, 0.0])).log_weight)


# A batch where one example belongs, for our own encoders and for users'


def users_encoder(in_size=3):
    """Of Equinox's layers, which do not check the shape of what they are given."""
    network = eqx.nn.MLP(in_size, 2, 4, 1, key=jax.random.key(3))
    return SplitGaussian(network, network)


def joint_encoder():
    trunk = eqx.nn.MLP(3, 4, 4, 1, key=jax.random.key(3))
    heads = [eqx.nn.Linear(4, 2, key=jax.random.key(4)) for _ in range(2)]
    return JointGaussian(trunk, *heads)


def summing_encoder(x):
    return DiagonalGaussian(jnp.full(2, jnp.sum(x)), jnp.zeros(2))


@pytest.mark.parametrize("batch", [1, 3, 5])
@pytest.mark.parametrize("encoder", [None, users_encoder, joint_encoder, lambda: summing_encoder])
def test_a_batch_is_refused_with_the_two_lines_to_write(encoder, batch):
    """Three of three features is the trap: a matrix product with a batch of that size succeeds."""
    ours = vae()
    model = ours if encoder is None else VAE(encoder(), ours.decoder)
    with pytest.raises(ValueError) as refusal:
        model.log_weight(jnp.ones((batch, 3)), key=jax.random.key(0))
    assert "keys = jax.random.split(key, len(x))\n" in str(refusal.value)
    assert "jax.vmap(lambda x, key: f(x, key=key))(x, keys)" in str(refusal.value)


def test_a_users_encoder_serves():
    for encoder in (users_encoder(), joint_encoder(), summing_encoder):
        out = outputs(VAE(encoder, vae().decoder), X)
        assert out.z.shape == (2,) and jnp.isfinite(out.log_weight)


def test_an_encoders_own_error_is_not_dressed_as_a_batch():
    def broken(x):
        raise TypeError("my own mistake")

    with pytest.raises(TypeError, match="my own mistake"):
        VAE(broken, vae().decoder).posterior(jnp.asarray(X))


def test_a_posterior_over_a_matrix_is_refused():
    def matrix(x):
        return DiagonalGaussian(jnp.zeros((2, 2)), jnp.zeros((2, 2)))

    with pytest.raises(ValueError, match=r"one latent vector \(d,\), got a mean of shape \(2, 2\)"):
        VAE(matrix, vae().decoder).posterior(jnp.asarray(X))


def test_a_users_network_in_the_decoder():
    network = eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(5))
    model = VAE(vae().encoder, Decoder(network, Bernoulli()))
    assert jnp.isfinite(outputs(model, X).log_weight)
