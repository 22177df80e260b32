"""Standardized networks: the density stays that of the raw data, in nats, exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from hvax.models.data_point import ShapeMismatch
from hvax.models.decoder import Decoder
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.likelihood import FixedGaussian, LearnedGaussian
from hvax.models.network import mlp
from hvax.models.standardize import StandardizedInput, StandardizedLikelihood, standardized
from hvax.models.vae import VAE
from hvax.parameters import Fixed, trainable
from models_for_tests import linear_gaussian

SHIFT, SCALE = np.array([3.0, -500.0, 0.01]), np.array([0.2, 100.0, 1e-3])
MEAN, SIGMA = np.array([0.4, -1.0, 2.0]), np.array([0.5, 1.3, 0.8])
ORACLE = stats.norm(SHIFT + SCALE * MEAN, SCALE * SIGMA)  # of the raw data


def learned() -> tuple[StandardizedLikelihood, DiagonalGaussian]:
    likelihood = StandardizedLikelihood(LearnedGaussian(), Fixed(SHIFT), Fixed(SCALE))
    return likelihood, DiagonalGaussian(jnp.asarray(MEAN), jnp.log(jnp.asarray(SIGMA)))


def fixed() -> tuple[StandardizedLikelihood, jax.Array]:
    return StandardizedLikelihood(FixedGaussian(SIGMA), Fixed(SHIFT), Fixed(SCALE)), jnp.asarray(
        MEAN
    )


@pytest.mark.parametrize("family", [learned, fixed])
def test_log_prob_is_the_density_of_the_raw_data(family, x64):
    """Without the log-Jacobian it would be sum log scale = -3.9 nats off; by its sign, twice."""
    likelihood, output = family()
    x = ORACLE.mean() + ORACLE.std() * np.array([0.3, -2.0, 4.0])
    # Rounding of (x - shift) / scale: 500 / 100 * eps, times a derivative of 4.
    np.testing.assert_allclose(
        likelihood.log_prob(output, jnp.asarray(x)), ORACLE.logpdf(x).sum(), rtol=1e-13
    )


@pytest.mark.parametrize("i", range(3))
def test_the_density_integrates_to_one(i, x64):
    likelihood = StandardizedLikelihood(LearnedGaussian(), Fixed(SHIFT[i]), Fixed(SCALE[i]))
    output = DiagonalGaussian(jnp.asarray(MEAN[i]), jnp.log(SIGMA[i]))
    middle, sd = ORACLE.mean()[i], ORACLE.std()[i]
    x = np.linspace(middle - 12 * sd, middle + 12 * sd, 2001)
    density = np.exp(jax.vmap(lambda x: likelihood.log_prob(output, x))(jnp.asarray(x)))
    # The trapezoid rule converges exponentially on a Gaussian: rounding alone.
    assert integrate.trapezoid(density, x) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("family", [learned, fixed])
def test_mean_and_samples_are_raw(family):
    likelihood, output = family()
    np.testing.assert_allclose(likelihood.mean(output), ORACLE.mean(), rtol=1e-6)
    n = 20_000
    draw = jax.vmap(lambda key: likelihood.sample(output, key=key))
    x = np.asarray(draw(jax.random.split(jax.random.key(0), n)), np.float64)
    z = (x - ORACLE.mean()) / ORACLE.std()
    # 4.5 SE; a sample of unit scale is off by factors of 5 to 1000.
    assert np.all(np.abs(z.mean(0)) < 4.5 / np.sqrt(n))
    assert np.all(np.abs(z.var(0) - 1) < 4.5 * np.sqrt(2 / n))


def test_numbers_do_not_depend_on_the_unit_but_for_the_jacobian(x64):
    """Data in thousandths: the same networks give log p lower by D log 1000, draw for draw."""
    inner = linear_gaussian(2, 3)
    x, keys = np.array([2.5, -400.0, 0.012]), (jax.random.key(0), jax.random.key(0))

    def log_weight(unit, key):
        model = VAE(
            *standardized(inner.encoder, inner.decoder, shift=unit * SHIFT, scale=unit * SCALE)
        )
        return float(model.log_weight(jnp.asarray(unit * x), key=key))

    meters, millimetres = (log_weight(u, k) for u, k in zip((1.0, 1000.0), keys, strict=True))
    assert meters - millimetres == pytest.approx(3 * np.log(1000), rel=1e-12)


def test_without_shift_and_scale_it_is_the_plain_model():
    inner = linear_gaussian(2, 3)
    same = VAE(*standardized(inner.encoder, inner.decoder, shift=np.zeros(3), scale=np.ones(3)))
    x = jnp.asarray([0.7, -1.1, 0.4])
    expected = inner.log_weight(x, key=jax.random.key(0))
    np.testing.assert_array_equal(same.log_weight(x, key=jax.random.key(0)), expected)


def test_networks_see_standardized_data():
    seen = StandardizedInput(lambda x: x, Fixed(SHIFT), Fixed(SCALE))
    np.testing.assert_allclose(seen(jnp.asarray(SHIFT + 2 * SCALE)), np.full(3, 2.0), rtol=1e-4)
    integers = StandardizedInput(lambda x: x, Fixed(np.full(2, 10.0)), Fixed(np.full(2, 4.0)))
    np.testing.assert_allclose(integers(jnp.asarray([2, 250], jnp.uint8)), [-2.0, 60.0])


def test_shift_and_scale_are_not_trained():
    encoder, decoder = standardized(
        *mlp((3,), 2, hidden=(4,), likelihood=LearnedGaussian(), key=jax.random.key(0)),
        shift=SHIFT,
        scale=SCALE,
    )
    held = [encoder.shift, encoder.scale, decoder.likelihood.shift, decoder.likelihood.scale]
    assert not any(jax.tree.leaves([trainable(parameter) for parameter in held]))
    assert any(jax.tree.leaves(trainable(encoder)))


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, np.array([1.0, 0.0, 1.0])])
def test_scale_must_be_finite_and_positive(scale):
    with pytest.raises(
        ValueError, match=r"scale must be finite and > 0, got .* Give 1 for a feature"
    ):
        standardized(lambda x: x, Decoder(lambda z: z, FixedGaussian()), shift=SHIFT, scale=scale)


@pytest.mark.parametrize(("shift", "scale"), [(SHIFT, 2.0), (0.0, SCALE), (SHIFT, SCALE[:1])])
def test_shift_and_scale_have_one_shape(shift, scale):
    with pytest.raises(ValueError, match="shape"):
        standardized(lambda x: x, Decoder(lambda z: z, FixedGaussian()), shift=shift, scale=scale)


def test_a_batch_is_refused():
    likelihood, output = learned()
    with pytest.raises(ShapeMismatch, match=r"jax\.vmap"):
        likelihood.log_prob(output, jnp.zeros((5, 3)))
    with pytest.raises(ShapeMismatch, match=r"\(3,\), got \(4,\)"):
        StandardizedInput(lambda x: x, Fixed(SHIFT), Fixed(SCALE))(jnp.zeros(4))


def test_raw_data_are_checked():
    likelihood, _ = learned()
    likelihood.check(np.array([[1.0, 2.0, 3.0]]))
    with pytest.raises(ValueError, match="finite"):
        likelihood.check(np.array([[1.0, np.nan, 3.0]]))
