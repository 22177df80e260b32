"""Monotone transforms of features: inverses, derivatives and means against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from hvax.models.gaussian import DiagonalGaussian
from hvax.models.likelihood import LearnedGaussian
from hvax.models.standardize import ScaledOutput, StandardizedLikelihood
from hvax.models.transform import Transform
from hvax.parameters import Fixed

KINDS = ("none", "log", "log1p", "asinh")
CENTER, WIDTH = np.array([0.0, 0.0, 0.0, 2.0]), np.array([1.0, 1.0, 1.0, 0.5])
EACH = Transform(KINDS, CENTER, WIDTH)
X = np.array([-3.0, 0.02, 7.0, -40.0])


def test_the_inverse_undoes_it(x64):
    x = jnp.asarray(X)
    np.testing.assert_allclose(EACH.inverse(EACH(x)), X, rtol=1e-13)
    expected = [X[0], np.log(X[1]), np.log1p(X[2]), np.arcsinh((X[3] - 2.0) / 0.5)]
    np.testing.assert_allclose(EACH(x), expected, rtol=1e-14)


def test_the_log_derivative_is_autodiffs(x64):
    slopes = np.diag(jax.jacobian(EACH)(jnp.asarray(X)))
    np.testing.assert_allclose(EACH.log_derivative(jnp.asarray(X)), np.log(slopes), rtol=1e-12)


def test_one_kind_for_all_features_is_that_kind_for_each(x64):
    one, each = (Transform(kinds, CENTER, WIDTH) for kinds in ("asinh", ("asinh",) * 4))
    assert one.kinds == each.kinds == ("asinh",)
    np.testing.assert_array_equal(one(jnp.asarray(X)), each(jnp.asarray(X)))


def test_the_mean_is_that_of_many_draws():
    """Against quadrature of E[t^-1(y)] over y ~ N(0.3, 0.7^2). Without the sigma^2 / 2 a
    log-normal's would be 22% too low, 10,000 times the tolerance."""
    location, sigma = jnp.full(4, 0.3), jnp.full(4, 0.7)
    y, weight = np.polynomial.hermite_e.hermegauss(60)
    nodes = jnp.asarray(0.3 + 0.7 * y, dtype=float)
    values = np.stack([EACH.inverse(jnp.full(4, node)) for node in nodes])
    expected = weight @ values / weight.sum()
    np.testing.assert_allclose(EACH.mean(location, sigma), expected, rtol=2e-5)


def test_the_support_is_known():
    inside = EACH.supports(np.array([[-1.0, 1.0, 0.0, -9.0], [5.0, 0.0, -1.0, 5.0]]))
    np.testing.assert_array_equal(inside, [[True] * 4, [True, False, False, True]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("log", "none"), np.zeros(1), np.ones(1)), "must describe the same features"),
        (("log", np.zeros(1), np.zeros(1)), "width must be > 0"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Transform(*arguments)


@pytest.mark.parametrize("kind", ["log", "asinh"])
def test_a_transformed_density_integrates_to_one(kind, x64):
    """Over raw x. Seen without log t': 1.6 and 2.3 in the place of 1."""
    transform = Transform(kind, np.array([1.0]), np.array([2.0]))
    likelihood = StandardizedLikelihood(
        LearnedGaussian(),
        Fixed(np.array([0.2])),
        Fixed(np.array([0.5])),
        Fixed(np.array([0.1])),
        transform,
    )
    output = DiagonalGaussian(jnp.array([0.4]), jnp.log(jnp.array([0.8])))
    density = jax.jit(lambda x: jnp.exp(likelihood.log_prob(output, x[None])))
    low = 0.0 if kind == "log" else -60.0
    total = integrate.quad(lambda x: float(density(jnp.asarray(x))), low, 60.0, limit=200)[0]
    assert total == pytest.approx(1, abs=1e-7)


def test_the_floor_adds_to_the_variance(x64):
    likelihood = StandardizedLikelihood(
        LearnedGaussian(),
        Fixed(np.array([1.0])),
        Fixed(np.array([2.0])),
        floor=Fixed(np.array([0.3])),
    )
    output = DiagonalGaussian(jnp.array([0.5]), jnp.log(jnp.array([0.4])))
    oracle = stats.norm(1 + 2 * 0.5, 2 * np.hypot(0.4, 0.3))
    for x in (-3.0, 2.0, 9.0):
        log_p = likelihood.log_prob(output, jnp.array([x]))
        assert float(log_p) == pytest.approx(oracle.logpdf(x), rel=1e-12)
    tight = DiagonalGaussian(jnp.array([0.5]), jnp.array([-30.0]))
    assert float(likelihood.log_prob(tight, jnp.array([2.0]))) == pytest.approx(
        stats.norm(2, 0.6).logpdf(2), rel=1e-12
    )


def test_float16_is_scored_in_float32():
    likelihood = StandardizedLikelihood(
        LearnedGaussian(), Fixed(np.array([3.0])), Fixed(np.array([0.01]))
    )
    output = DiagonalGaussian(jnp.zeros(1), jnp.zeros(1))
    x = np.array([3.02], np.float16)
    expected = stats.norm(3.0, 0.01).logpdf(np.float64(x[0]))
    assert float(likelihood.log_prob(output, jnp.asarray(x))) == pytest.approx(expected, rel=1e-4)


def test_data_without_a_logarithm_are_refused_by_feature():
    likelihood = StandardizedLikelihood(
        LearnedGaussian(),
        Fixed(np.zeros(2)),
        Fixed(np.ones(2)),
        transform=Transform(("none", "log"), np.zeros(2), np.ones(2)),
    )
    likelihood.check(np.array([[-1.0, 2.0]]))
    with pytest.raises(ValueError, match=r"feature 1 must be positive.* got -2.0 at index 1"):
        likelihood.check(np.array([[-1.0, 2.0], [1.0, -2.0]]))


def test_scaled_output_is_offset_plus_gain_times_output():
    wrapped = ScaledOutput(
        lambda z: z**2, (Fixed(np.array([1.0, 2.0])),), (Fixed(np.array([3.0, 0.5])),)
    )
    np.testing.assert_allclose(wrapped(jnp.array([2.0, 4.0])), [13.0, 10.0])
