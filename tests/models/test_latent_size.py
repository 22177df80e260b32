"""The dimension of z, told from a model's networks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import hvax
from hvax.models.latent_size import find_latent_size

LIKELIHOODS = [
    hvax.Bernoulli(), hvax.LearnedGaussian(), hvax.FixedGaussian(), hvax.Categorical(4),
    hvax.Poisson(), hvax.NegativeBinomial(),
]  # fmt: skip


def key(seed=0):
    return jax.random.key(seed)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("d", [1, 3, 8])
def test_of_ready_made_networks(likelihood, d):
    """Also where a layer, or x, is as wide as z, and with a flow of its own sizes."""
    vae = hvax.VAE(*hvax.mlp((3,), d, hidden=(8, 3), likelihood=likelihood, key=key()))
    assert find_latent_size(vae) == d
    assert find_latent_size(hvax.HVAE(vae, hvax.HamiltonianFlow(2, jnp.full(d, 0.1)))) == d


def test_of_convolutions_and_prepared_models():
    assert find_latent_size(hvax.VAE(*hvax.conv(20, key=key()))) == 20
    x = jax.random.normal(key(), (50, 6))
    vae = hvax.VAE(*hvax.mlp((6,), 2, likelihood=hvax.LearnedGaussian(), key=key()))
    assert find_latent_size(hvax.prepare(vae, x)) == 2


class Elementwise(eqx.Module):
    """A decoder that takes a z of its own length, and by broadcasting one of length 1."""

    weight: jax.Array

    def __call__(self, z):
        return self.weight * z


def test_the_encoder_decides_where_the_decoder_takes_several():
    encoder, _ = hvax.mlp((5,), 5, hidden=(1,), key=key())
    decoder = hvax.Decoder(Elementwise(jnp.ones(5)), hvax.Bernoulli())
    assert find_latent_size(hvax.VAE(encoder, decoder)) == 5


@pytest.mark.parametrize("network", [lambda z: z, lambda z: jnp.zeros(5) + z.sum()])
def test_a_model_that_does_not_tell_says_what_to_give(network):
    """None of the sizes is z's, or each of them could be."""
    vae = hvax.VAE(
        lambda x: hvax.DiagonalGaussian(x[:2], x[2:4]), hvax.Decoder(network, hvax.Bernoulli())
    )
    with pytest.raises(ValueError, match=r"Give it as latent_size=\.\.\."):
        find_latent_size(vae)
    with pytest.raises(ValueError, match="latent_size"):
        hvax.sample(vae, 3)
    assert len(hvax.sample(vae, 3, latent_size=2, progress=False)) == 3
