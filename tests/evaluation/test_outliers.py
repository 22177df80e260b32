"""Points at which the flow's draws fail: scored by plain draws, finite, and bounds all the same."""

import math
import re
import warnings
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm
from sklearn.metrics import roc_auc_score

import hvax
from hvax.evaluation import draws
from hvax.evaluation.evaluate import difference
from hvax.evaluation.table import as_table
from hvax.exceptions import FailedDraws
from hvax.models.draw_batch import draw_batch
from hvax.models.hvae import guarded_log_weight
from models_for_tests import Affine, linear_gaussian

OUTLIERS = [7, 40]


class LogCounts(eqx.Module):
    """A rough posterior from log(1 + x)."""

    weight: jax.Array

    def __call__(self, x):
        return hvax.DiagonalGaussian(self.weight @ jnp.log1p(x), jnp.full(2, -1.0))


class Overflowing(eqx.Module):
    """A posterior from x itself: at a count of 1e6 its z overflows the decoder."""

    def __call__(self, x):
        return hvax.DiagonalGaussian(jnp.mean(x) * jnp.ones(2), jnp.full(2, -1.0))


def counts(encoder=None) -> tuple[hvax.VAE, np.ndarray]:
    """Poisson counts with log rates W z, and 60 points of which two are far from all others."""
    draw = np.random.default_rng(0)
    weight = draw.normal(size=(5, 2)).astype(np.float32)
    encoder = encoder or LogCounts(jnp.asarray(np.linalg.pinv(weight)))
    network = Affine(jnp.asarray(weight), jnp.zeros(5))
    x = draw.poisson(np.exp(draw.normal(size=(60, 2)) @ weight.T)).astype(np.float32)
    x[OUTLIERS] = [[3e4] * 5, [0, 2e5, 0, 0, 2e5]]
    return hvax.VAE(encoder, hvax.Decoder(network, hvax.Poisson())), x


def flowing(vae: hvax.VAE) -> hvax.HVAE:
    # Without a limit of the force, which would keep its trajectories.
    return hvax.HVAE(vae, hvax.HamiltonianFlow.dais(4, step_size=0.3, max_force=None))


def score(model, x, num_samples=20, seed=0):
    key = jax.random.key(seed)
    return hvax.evaluate(model, x, key=key, num_samples=num_samples, progress=False)


@pytest.fixture
def no_pilot(monkeypatch):
    """Evaluates as if no flow ever failed."""

    def run(model, x, *more):
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore", FailedDraws)
            patch.setattr(draws, "_flow_fails", lambda model, batch, width: np.zeros(32, bool))
            return score(model, x, *more)

    return run


def test_an_outlier_is_scored_by_the_encoders_draws(no_pilot):
    """Seen to fail before there was a pilot: log p of both is -inf, and the NLL inf."""
    vae, x = counts()
    assert no_pilot(flowing(vae), x).nll == math.inf
    with pytest.warns(FailedDraws, match=r"fail at 2 points \(7, 40\), scored by the encoder's"):
        scores = score(flowing(vae), x)
    points, plain = scores.per_point, score(vae, x).per_point
    np.testing.assert_array_equal(np.flatnonzero(points.plain_draws), OUTLIERS)
    np.testing.assert_array_equal(points.log_p[OUTLIERS], plain.log_p[OUTLIERS])
    assert scores.plain_points == 2 and scores.lost_points == 0 and scores.non_finite == 0
    shown = vars(scores)
    for name in ("elbo", "elbo_se", "nll", "nll_se", "nll_mc_se", "distance", "energy_error",
                 "reconstruction_nll", "reconstruction_rmse"):  # fmt: skip
        assert math.isfinite(shown[name]), name
    assert 0.1 < scores.distance < 10  # of the other points: the flow runs away at these
    assert re.search(r"scored without the flow +2 of 60", as_table(scores))


def test_the_other_points_are_scored_as_if_there_were_no_pilot(no_pilot):
    vae, x = counts()
    without = no_pilot(flowing(vae), x)
    with pytest.warns(FailedDraws):
        scores = score(flowing(vae), x)
    usual = ~scores.per_point.plain_draws
    for name in ("elbo", "log_p", "variance", "ess", "k_hat"):
        mine, other = getattr(scores.per_point, name), getattr(without.per_point, name)
        np.testing.assert_array_equal(mine[usual], other[usual], err_msg=name)


def test_which_draws_are_scored_does_not_depend_on_how_many():
    """A choice by the scored draws themselves would favor lucky ones."""
    vae, x = counts()
    model = hvax.HVAE(vae, hvax.HamiltonianFlow.dais(4, step_size=0.12))
    seen = []
    for num_samples in (1, 7, 20):
        with pytest.warns(FailedDraws):
            seen.append(score(model, x, num_samples).per_point.plain_draws)
    assert 0 < seen[0].sum() < 60
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])


class Constant(eqx.Module):
    """One posterior for every x."""

    mean: jax.Array
    log_sigma: jax.Array

    def __call__(self, x):
        return hvax.DiagonalGaussian(self.mean, self.log_sigma)


class Holed(hvax.AbstractLikelihood):
    """A Gaussian whose density is not finite where the first output exceeds a limit."""

    limit: float

    def log_prob(self, output, x):
        return jnp.where(
            output[0] > self.limit, jnp.nan, hvax.FixedGaussian(0.8).log_prob(output, x)
        )

    def mean(self, output):
        return output

    def sample(self, output, *, key):
        return output

    def check(self, x):
        pass


def test_the_choice_keeps_the_bound(no_pilot):
    """The mean weight over 4,000 evaluations of one point is at most p(x), to 4.5 standard errors
    of about 1%, where a third of the pilots fail; of those that plain draws scored it is p(x).

    p(x) is that of the density with the hole, by quadrature. Planted error: the better of both
    kinds of draws, 21 standard errors too high.
    """
    network = linear_gaussian().decoder.network
    W, b = (np.asarray(a, float) for a in (network.weight, network.bias))
    x = np.tile(np.array([0.4, -0.2, 0.3], np.float32), (4000, 1))
    precision = np.eye(2) + W.T @ W / 0.8**2
    mean = np.linalg.solve(precision, W.T @ (x[0] - b)) / 0.8**2
    # A little wider than the posterior, so that the weights have a variance to be believed.
    log_sigma = -0.5 * np.log(np.diag(precision)) + 0.4
    encoder = Constant(jnp.asarray(mean, float), jnp.asarray(log_sigma, float))
    vae = hvax.VAE(encoder, hvax.Decoder(network, Holed(limit=float(W[0] @ mean + b[0]) + 0.1)))
    model = hvax.HVAE(vae, hvax.HamiltonianFlow.reference(1, step_size=0.2))
    grid = np.linspace(-6, 6, 601)
    z = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    out = z @ W.T + b
    density = np.exp(norm(out, 0.8).logpdf(x[0].astype(float)).sum(axis=1))
    density = density * multivariate_normal(np.zeros(2)).pdf(z)
    p = np.sum(density[out[:, 0] <= vae.decoder.likelihood.limit]) * (grid[1] - grid[0]) ** 2
    with pytest.warns(FailedDraws):
        scores = score(model, x, 2)
        plain = score(vae, x, 2)
    chosen, flow = scores.per_point.plain_draws, no_pilot(model, x, 2)
    assert 0.2 < chosen.mean() < 0.8

    def excess(log_p):
        w = np.exp(log_p)
        return (w.mean() - p) / (w.std(ddof=1) / np.sqrt(len(w)))

    assert excess(scores.per_point.log_p) < 4.5
    assert abs(excess(scores.per_point.log_p[chosen])) < 4.5
    assert excess(np.maximum(flow.per_point.log_p, plain.per_point.log_p)) > 9


def test_a_point_without_a_draw_is_said_to_be_lost():
    """Seen to fail before: log p -inf, NLL inf, standard errors NaN, and no warning."""
    vae, x = counts(Overflowing())
    x[OUTLIERS[0]] = x[0]
    with pytest.warns(FailedDraws, match=r"every draw fails at 1 point \(40\).* over the others"):
        scores = score(flowing(vae), x)
    assert scores.per_point.log_p[40] == -math.inf and scores.nll == math.inf
    assert scores.lost_points == 1 and not scores.trusted
    for name in ("distance", "energy_error", "reconstruction_nll", "reconstruction_rmse"):
        assert math.isfinite(getattr(scores, name)), name
    table = as_table(scores)
    assert "nan" not in table and re.search(r"NLL +inf \(draws failed\)", table)
    assert re.search(r"points with log p = -inf +1 of 60", table)


def test_one_failed_draw_leaves_the_other_numbers_finite():
    """Seen to fail before: reconstruction and distance were NaN."""
    vae = linear_gaussian()
    holed = hvax.VAE(vae.encoder, hvax.Decoder(vae.decoder.network, Holed(limit=-0.1)))
    x = np.zeros((10, 3), np.float32)
    with pytest.warns(FailedDraws, match="log-weights are not finite"):
        scores = score(hvax.HVAE(holed, hvax.HamiltonianFlow(1, 0.2)), x, 50)
    assert 0 < scores.non_finite < 50 and scores.elbo == -math.inf and math.isfinite(scores.nll)
    for name in ("distance", "energy_error", "reconstruction_nll", "reconstruction_rmse"):
        assert math.isfinite(getattr(scores, name)), name
    assert "nan" not in as_table(scores)


@pytest.mark.parametrize("encoder", [None, Overflowing()], ids=["plain draws", "no draws"])
def test_scores_rank_outliers_by_scikit_learn(encoder):
    """roc_auc_score refuses infinities."""
    vae, x = counts(encoder)
    outlier = np.isin(np.arange(60), OUTLIERS)
    with pytest.warns(FailedDraws):
        scores = score(flowing(vae), x)
    assert roc_auc_score(outlier, -scores.scores) == 1
    log_p = scores.per_point.log_p
    finite = np.isfinite(log_p)
    np.testing.assert_array_equal(scores.scores[finite], log_p[finite])
    if encoder is not None:
        assert not finite.all() and scores.scores[~finite].max() < log_p[finite].min()
        with pytest.raises(ValueError, match="infinity"):
            roc_auc_score(outlier, -log_p)


def test_scores_without_any_likelihood_are_finite():
    vae, x = counts(Overflowing())
    with pytest.warns(FailedDraws, match="every draw fails at 2 points"):
        scores = score(vae, x[[40, 40]])
    assert np.all(np.isfinite(scores.scores))


def test_a_difference_with_a_failed_draw_is_infinite():
    vae, x = counts(Overflowing())
    with pytest.warns(FailedDraws):
        bad = score(vae, x)
    good = score(counts()[0], x)
    apart = difference(bad, good)
    assert apart["nll"] == math.inf and math.isnan(apart["nll_se"])
    assert math.isnan(difference(bad, bad)["nll"])


# One trajectory in many that runs away


def test_a_draw_is_never_far_below_its_plain_start(no_pilot):
    """By hand; unbiased, for both weights are. Seen to fail, at -1e26, without the guard."""
    vae, x = linear_gaussian(), np.random.default_rng(0).normal(size=(40, 3))
    for flow, some in ((0.05, False), (1.0, True)):
        model = hvax.HVAE(vae, hvax.HamiltonianFlow(6, flow, hvax.hamiltonian.NullTempering(1.0)))
        outputs = draw_batch(model, jnp.asarray(x), key=jax.random.key(1))
        guarded, ran_away = jax.vmap(partial(guarded_log_weight, model))(outputs, jnp.asarray(x))
        own = jax.vmap(lambda one: one.log_weight)(outputs)
        z = outputs.trajectory.z_init
        joint = jax.vmap(vae.log_joint)(jnp.asarray(x), z)
        plain = joint.log_likelihood + joint.log_prior - outputs.log_posterior
        by_hand = jnp.log((1 - 1e-8) * jnp.exp(own - plain) + 1e-8) + plain
        np.testing.assert_allclose(guarded, by_hand, rtol=1e-5)
        assert bool(jnp.any(ran_away)) == some
        np.testing.assert_array_equal(ran_away, own < plain + math.log(1e-8))
        scores = no_pilot(model, x.astype(np.float32))
        assert scores.elbo > score(vae, x.astype(np.float32)).elbo - 18.5
        if not some:
            np.testing.assert_allclose(guarded, own, rtol=1e-6)


def test_a_draw_that_failed_keeps_its_log_weight():
    vae, x = counts()
    model, far = flowing(vae), jnp.asarray(x[OUTLIERS])
    outputs = draw_batch(model, far, key=jax.random.key(2))
    guarded, ran_away = jax.vmap(partial(guarded_log_weight, model))(outputs, far)
    own = jax.vmap(lambda one: one.log_weight)(outputs)
    failed = ~np.isfinite(own)
    assert failed.any() and not np.any(np.asarray(ran_away)[failed])
    np.testing.assert_array_equal(np.asarray(guarded)[failed], np.asarray(own)[failed])
