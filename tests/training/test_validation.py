"""The validation ELBO is the mean log w of the held-out points, each once, with its own key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hvax.batch import Batch
from hvax.data.examples import Examples
from hvax.models.decoder import Decoder
from hvax.models.likelihood import AbstractLikelihood, FixedGaussian
from hvax.models.vae import VAE
from hvax.training.validation import Validation
from models_for_tests import linear_gaussian, moving

X = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
TOLERANCE = 2e-6  # about ten numbers are summed, each rounded at 6e-8


def validate(model, *arrays, batch_size=3, seed=5, num_samples=1):
    parts = Batch(*(a if isinstance(a, Examples) else Examples(a) for a in arrays))
    key = jax.random.key(seed)
    return Validation(parts, batch_size=batch_size, key=key, num_samples=num_samples)(model)


def by_hand(model, *arrays, seed=5):
    def one(i, *x):
        return model.log_weight(*x, key=jax.random.fold_in(jax.random.key(seed), i))

    log_w = jax.jit(jax.vmap(one))(jnp.arange(len(arrays[0])), *map(jnp.asarray, arrays))
    return float(jnp.mean(log_w))


@pytest.mark.parametrize(
    "model", [linear_gaussian(), moving(linear_gaussian())], ids=["VAE", "HVAE"]
)
def test_it_is_the_mean_log_weight_with_a_key_for_each_point(model):
    """Counting the padding would move it by 0.2 nats, another key by 0.3."""
    metrics = validate(model, X)
    assert metrics.pop("validation_elbo") == pytest.approx(by_hand(model, X), rel=TOLERANCE)
    assert metrics == ({"validation_divergent": 0.0} if hasattr(model, "flow") else {})


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_it_does_not_depend_on_the_batch_size(batch_size):
    model = linear_gaussian()
    expected = validate(model, X)["validation_elbo"]
    assert validate(model, X, batch_size=batch_size)["validation_elbo"] == pytest.approx(
        expected, rel=TOLERANCE
    )


def test_it_is_one_number_for_one_key():
    model = linear_gaussian()
    validation = Validation(Batch(Examples(X)), batch_size=3, key=jax.random.key(5))
    assert validation(model) == validation(model)
    assert validation(model) != validate(model, X, seed=6)


def test_several_draws_have_a_bound_of_their_own():
    """mean log (1/S) sum_s w_s over the points, beside the mean of all log w."""
    model, key = linear_gaussian(), jax.random.key(5)

    def log_weights(i, x):
        keys = jax.random.split(jax.random.fold_in(key, i), 4)
        return jax.vmap(lambda key: model.log_weight(x, key=key))(keys)

    log_w = np.asarray(jax.vmap(log_weights)(jnp.arange(len(X)), X))
    metrics = validate(model, X, num_samples=4)
    assert metrics["validation_elbo"] == pytest.approx(log_w.mean(), rel=TOLERANCE)
    bound = np.mean(np.log(np.mean(np.exp(log_w), axis=1)))
    assert metrics["validation_bound"] == pytest.approx(bound, rel=TOLERANCE)
    assert bound > log_w.mean() + 0.1


def test_pairs_are_scored_at_x_out():
    model, target = linear_gaussian(), X[::-1].copy()
    value = validate(model, X, target)["validation_elbo"]
    assert value == pytest.approx(by_hand(model, X, target), rel=TOLERANCE)
    assert value != validate(model, X)["validation_elbo"]


def test_examples_are_scaled():
    model, stored = linear_gaussian(), np.random.default_rng(1).integers(0, 9, (7, 3), np.uint8)
    scaled = Examples(stored, np.array([6, 2, 3]), scale=4.0)
    expected = by_hand(model, (stored[[6, 2, 3]] / 4).astype(np.float32))
    assert validate(model, scaled)["validation_elbo"] == pytest.approx(expected, rel=TOLERANCE)


class NanAbove(AbstractLikelihood):
    """A Gaussian whose log-density is NaN where x[0] > 1."""

    def log_prob(self, output, x):
        return jnp.where(x[0] > 1, jnp.nan, FixedGaussian().log_prob(output, x))

    def mean(self, output):
        return output

    def sample(self, output, *, key):
        return output

    def check(self, x):
        pass


def test_a_draw_that_is_not_finite_makes_it_minus_infinity():
    """Never NaN, which no comparison would find worse than the best so far."""
    inner = linear_gaussian()
    model = VAE(inner.encoder, Decoder(inner.decoder.network, NanAbove()))
    good = np.clip(X, -3, 1)
    assert np.isfinite(validate(model, good)["validation_elbo"])
    good[4, 0] = 2.0
    assert validate(model, good)["validation_elbo"] == -np.inf


def test_diverged_trajectories_are_reported():
    steep = moving(linear_gaussian())
    far = X.copy()
    far[:2] = 1e5  # energy errors grow with the square of the distance
    assert validate(steep, far)["validation_divergent"] == pytest.approx(2 / 7)
