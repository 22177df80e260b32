"""Models in the units of their data: where they start, when they are left as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import hvax
from hvax.models.standardize import ScaledOutput, StandardizedInput, StandardizedLikelihood
from hvax.models.transform import Transform
from hvax.training.marginals import marginals
from hvax.training.prepare import is_trained, prepared_if_needed
from hvax.training.units import real_units

RNG = np.random.default_rng(0)
N = 300
REAL = RNG.normal(size=(N, 5)) * [1e-9, 1.0, 30.0, 1e6, 1e9] + [0, 5, -400, 1e6, 0]
SKEWED = np.exp(RNG.normal(size=(N, 4)) * [0.1, 1.0, 2.0, 0.5] + [0, 3, -6, 9])
HEAVY = RNG.standard_t(1.5, size=(N, 3)) * [1, 1e4, 1e-4] + [0, 1e4, 0]
COUNTS = RNG.poisson(np.exp(RNG.normal(size=(N, 1)) * 0.3 + [0, 2, 5, 8.0]))
BITS = RNG.uniform(size=(N, 6)) < [0.01, 0.2, 0.5, 0.9, 0.999, 0.0]
CLASSES = RNG.choice(4, p=[0.7, 0.2, 0.09, 0.01], size=(N, 3))
IMAGES = RNG.uniform(size=(N, 6, 6)) * np.linspace(0, 1, 36).reshape(6, 6)
DATA = {
    "gaussian": (hvax.LearnedGaussian(), REAL),
    "gaussian, skewed": (hvax.LearnedGaussian(), SKEWED),
    "gaussian, heavy tails": (hvax.LearnedGaussian(), HEAVY),
    "gaussian, images": (hvax.LearnedGaussian(), IMAGES),
    "fixed gaussian": (hvax.FixedGaussian(REAL.std(0)), REAL),
    "poisson": (hvax.Poisson(), RNG.poisson([0.1, 3, 100, 1e4], size=(N, 4))),
    "negative binomial": (hvax.NegativeBinomial(), COUNTS),
    "bernoulli": (hvax.Bernoulli(), BITS.astype(np.float32)),
    "categorical": (hvax.Categorical(4), CLASSES),
}


def model(likelihood, x, latent_size=2):
    networks = hvax.mlp(
        x.shape[1:], latent_size, hidden=(30,), likelihood=likelihood, key=jax.random.key(0)
    )
    return hvax.VAE(*networks)


def bound(vae, x):
    return float(hvax.hamiltonian_elbo(vae, jnp.asarray(x), key=jax.random.key(1)))


@pytest.mark.parametrize("name", DATA)
def test_an_untrained_model_starts_near_independent_features(name):
    """Within 2 nats a feature, whatever the units. Seen unprepared: 2e8 (negative binomial) to 1e31
    nats below, or -inf; the images 73, bits and classes 3 and 2.

    What is lost is the KL of two latents, about 0.5 nats each, and what networks at random weights
    give about their offsets, of size 0.5: about 0.3 nats a feature.
    """
    likelihood, x = DATA[name]
    found = marginals(likelihood, x)
    start = bound(hvax.prepare(model(likelihood, x), x), x)
    reference = float(found.log_prob(x).mean())
    assert np.isfinite(reference)
    assert reference - 2 * x[0].size <= start <= reference + 1


def test_the_independent_model_is_that_of_scipy():
    found = marginals(hvax.LearnedGaussian(), REAL, transform="none")
    expected = stats.norm(REAL.mean(0), REAL.std(0)).logpdf(REAL).sum(1)
    # float32 holds (x - shift) / scale to 1e-7 of shift / scale = 13.
    np.testing.assert_allclose(found.log_prob(REAL), expected, rtol=2e-4, atol=2e-4)
    counted = marginals(hvax.Poisson(), COUNTS)
    rates = (COUNTS.sum(0) + 0.5) / (N + 1)
    few = COUNTS[:, :2]
    expected = stats.poisson(rates[:2]).logpmf(few).sum(1)
    again = marginals(hvax.Poisson(), few)
    np.testing.assert_allclose(again.log_prob(few), expected, rtol=1e-4, atol=1e-4)
    assert np.asarray(counted.output) == pytest.approx(np.log(rates), rel=1e-5)


def test_units_do_not_change_where_training_starts():
    """The same data in other units: the same network inputs, and a bound less by the log of the
    units. A scale that enters a network anywhere would show."""
    x = RNG.normal(size=(N, 3))
    units = np.array([1e-8, 1.0, 1e8])
    bounds = [bound(hvax.prepare(model(hvax.LearnedGaussian(), x), y), y) for y in (x, x * units)]
    assert bounds[1] + np.log(units).sum() == pytest.approx(bounds[0], abs=1e-3)


def test_tails_choose_the_transform():
    kinds = {
        "normal": "none",
        "lognormal": "log",
        "shifted lognormal": "asinh",
        "cauchy": "asinh",
        "uniform": "none",
    }
    x = np.stack(
        [
            RNG.normal(size=N),
            np.exp(RNG.normal(size=N)),
            np.exp(RNG.normal(size=N)) - 1,
            RNG.standard_cauchy(size=N),
            RNG.uniform(size=N),
        ],
        axis=1,
    )
    units = real_units(x)
    assert units.transform.kinds == tuple(kinds.values())
    # Where rows to be scored are not positive there is no logarithm.
    least = x.min(0) - 1
    assert "log" not in real_units(x, least=least).transform.kinds


def test_columns_that_float32_does_not_tell_apart_are_constant():
    x = np.stack([np.full(N, 7.0), 1e9 + RNG.normal(size=N), 3 + RNG.normal(size=N)], axis=1)
    units = real_units(x)
    assert units.constant.tolist() == [True, True, False]
    assert np.all(units.floor[:2] == 0.1) and np.isfinite(units.scale).all()


def test_rounded_numbers_have_a_floor():
    """The step of the recording over sqrt(12), in standard deviations."""
    x = np.round(RNG.normal(size=(N, 1)) * 3)
    (floor,) = real_units(x, "none").floor
    assert floor == pytest.approx(1 / np.sqrt(12) / x.std(), rel=1e-6)


def test_what_is_prepared_stays_as_it_is():
    prepared = hvax.prepare(model(hvax.LearnedGaussian(), REAL), REAL)
    assert hvax.prepare(prepared, REAL) is prepared
    assert isinstance(prepared.encoder, StandardizedInput)
    assert isinstance(prepared.decoder.likelihood, StandardizedLikelihood)
    counted = hvax.prepare(model(hvax.Poisson(), COUNTS), COUNTS)
    assert isinstance(counted.decoder.network, ScaledOutput)
    assert isinstance(counted.encoder.transform, Transform)


def test_a_prepared_model_comes_back_from_its_folder(tmp_path):
    for likelihood, x in (DATA["gaussian, skewed"], DATA["negative binomial"]):
        prepared = hvax.prepare(model(likelihood, x), x)
        hvax.save(prepared, tmp_path / "model")
        assert bound(hvax.load(tmp_path / "model"), x[:20]) == bound(prepared, x[:20])


def test_fit_prepares_what_is_far_and_untrained_and_nothing_else():
    standard = (hvax.LearnedGaussian(), RNG.normal(size=(N, 3)))
    for (likelihood, x), far in (
        (DATA["gaussian"], True),
        (DATA["negative binomial"], True),
        (DATA["bernoulli"], False),
        (standard, False),
    ):
        vae = model(likelihood, x)
        found = prepared_if_needed(vae, hvax.Batch(hvax.Examples(x)), key=jax.random.key(0))[0]
        assert (found is not vae) == far


def test_a_trained_model_is_left_as_it_is():
    """One whose bound is that of its data, in units of its own."""
    x = RNG.normal(size=(N, 3)) * 100
    vae = hvax.fit(
        hvax.prepare(model(hvax.LearnedGaussian(), x), x), x, epochs=1, progress=False
    ).model
    assert prepared_if_needed(vae, hvax.Batch(hvax.Examples(x)), key=jax.random.key(0))[0] is vae


def test_whether_a_model_is_trained_is_known_by_its_bound():
    z = RNG.normal(size=(N, 1))
    x = z @ np.ones((1, 6)) + 0.1 * RNG.normal(size=(N, 6))
    vae = hvax.prepare(model(hvax.LearnedGaussian(), x), x)
    assert not is_trained(vae, hvax.Batch(hvax.Examples(x)))
    trained = hvax.fit(vae, x, epochs=60, batch_size=30, progress=False).model
    assert is_trained(trained, hvax.Batch(hvax.Examples(x)))
