"""The decoder: a network and a likelihood, which may be the user's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hvax.models.data_point import ShapeMismatch
from hvax.models.decoder import Decoder
from hvax.models.likelihood import AbstractLikelihood, FixedGaussian


class Laplace(AbstractLikelihood):
    """A user's own: exp(-|x - m|) / 2, its features summed or, by mistake, not."""

    summed: bool = True

    def log_prob(self, output, x):
        log_p = -jnp.abs(x - output) - jnp.log(2.0)
        return jnp.sum(log_p) if self.summed else log_p

    def mean(self, output):
        return output

    def sample(self, output, *, key):
        return output + jax.random.laplace(key, output.shape, output.dtype)

    def check(self, x):
        pass


def test_output_and_log_likelihood():
    decoder = Decoder(lambda z: jnp.append(z, z[0]), FixedGaussian(2.0))
    z, x = jnp.array([1.0, -1.0]), jnp.array([1.0, 1.0, 5.0])
    np.testing.assert_array_equal(decoder(z), [1.0, -1.0, 1.0])
    exact = -0.5 * (0 + 1 + 4) - 3 * np.log(2) - 1.5 * np.log(2 * np.pi)
    # Terms of order 3 in float32.
    np.testing.assert_allclose(decoder.log_likelihood(x, decoder(z)), exact, rtol=0, atol=5e-6)


def test_a_users_likelihood():
    decoder = Decoder(lambda z: 2 * z, Laplace())
    x, z = jnp.array([1.0, 0.0]), jnp.array([0.5, 1.0])
    np.testing.assert_allclose(decoder.log_likelihood(x, decoder(z)), -2 - 2 * np.log(2), rtol=1e-6)


def test_a_likelihood_that_forgets_to_sum_is_refused():
    decoder = Decoder(lambda z: 2 * z, Laplace(summed=False))
    with pytest.raises(ValueError, match=r"Laplace.log_prob .* \(2,\)\. Sum over the features\."):
        decoder.log_likelihood(jnp.zeros(2), jnp.zeros(2))


@pytest.mark.parametrize("likelihood", [FixedGaussian(), Laplace()])
def test_a_batch_of_data_is_refused_with_what_to_write(likelihood):
    """A user's likelihood, which checks no shape and sums over all, would give a number."""
    decoder = Decoder(lambda z: z, likelihood)
    with pytest.raises(ShapeMismatch, match=r"got \(7, 2\)\. (?s:.*)jax\.vmap"):
        decoder.log_likelihood(jnp.zeros((7, 2)), jnp.zeros(2))
