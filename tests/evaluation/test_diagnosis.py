"""Why an NLL is not to be trusted, and advice that helps when it is followed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import hvax
from hvax.evaluation.advice import ais_seconds, duration
from hvax.evaluation.diagnosis import diagnose
from hvax.evaluation.table import as_table, note, untrusted_advice
from hvax.evaluation.weights import weight_statistics
from hvax.exceptions import UntrustedNLL
from models_for_tests import Affine, AffineEncoder, linear_gaussian

POINTS = 40


def pareto(k: float, points: int, samples: int, seed: int = 0) -> np.ndarray:
    """Log-weights whose tail has shape k: w = u^-k."""
    return -k * np.log(np.random.default_rng(seed).uniform(size=(points, samples)))


def diagnosed(log_w):
    return diagnose(weight_statistics(log_w), log_w.shape[1])


def test_every_cause_is_told_from_the_others():
    good = np.random.default_rng(1).normal(scale=0.3, size=(5, 200))
    failing = np.where(np.arange(200) < 195, np.nan, good)
    huge = (good - 1e8).astype(np.float32)
    found = diagnosed(np.concatenate([good, failing, pareto(2.0, 5, 200)]))
    assert (found.not_finite, found.heavy_tail, found.few, found.unresolved) == (5, 5, 0, 0)
    assert found.untrusted == 10 / 15 and not found.trusted and found.needed is None
    assert diagnosed(huge).unresolved == 5
    assert diagnosed(good).trusted and diagnosed(good).needed == 200
    assert diagnosed(good[:, :8]).few == 5 and not diagnosed(good[:, :8]).trusted


def test_a_lost_point_is_never_trusted():
    log_w = np.random.default_rng(1).normal(scale=0.3, size=(100, 200))
    log_w[3] = -np.inf
    found = diagnosed(log_w)
    assert found.lost == 1 and found.untrusted == 0.01 and not found.trusted


@pytest.mark.parametrize(
    ("k_hat", "needed"),
    [(-np.inf, 1500), (0.5, 1500), (0.6, 2500), (0.7, 5800), (np.nan, 1500), (0.71, None)],
)
def test_the_samples_needed_by_hand(k_hat, needed):
    """200 draws with an ESS of 2, of which 15 are aimed at: 200 x 7.5^(1 / (2 - 2k)), in two
    digits, upwards. Seen to fail with an ESS that grows like S for every tail."""
    n = 20
    statistics = weight_statistics(np.zeros((n, 200)))
    statistics = statistics._replace(ess=np.full(n, 2.0), k_hat=np.full(n, k_hat))
    assert diagnose(statistics, 200).needed == needed
    # 5% of the points, one of twenty, may stay as they are.
    one, two = (np.where(np.arange(n) < bad, 2.0, 150.0) for bad in (1, 2))
    assert diagnose(statistics._replace(ess=one, k_hat=np.full(n, 0.5)), 200).needed == 200
    assert diagnose(statistics._replace(ess=two, k_hat=np.full(n, 0.5)), 200).needed == 1500


def test_enough_samples_are_as_many_as_are_asked_for():
    """Of log-normal weights, exp(n), ten draws are too few, and 500 are not."""
    draw = np.random.default_rng(0).normal
    first = diagnosed(draw(size=(200, 10)))
    assert first.few > 100 and first.needed == 500
    assert diagnosed(draw(size=(200, first.needed))).trusted


def test_no_number_of_samples_is_named_for_a_heavy_tail():
    """k = 0.9: five thousand times the samples would do, in principle."""
    found = diagnosed(pareto(0.9, 200, 1000))
    assert found.heavy_tail > 0.5 * 200 and found.needed is None


def narrow(width: float, shift: float = 0.0) -> tuple[hvax.VAE, np.ndarray, np.ndarray]:
    """A linear-Gaussian model whose encoder has so many times the posterior's sigma; data, and
    their log p in closed form."""
    decoder = linear_gaussian().decoder
    W, b = (np.asarray(a, float) for a in (decoder.network.weight, decoder.network.bias))
    s = float(decoder.likelihood.sigma.value)
    precision = np.eye(2) + W.T @ W / s**2
    gain = np.linalg.solve(precision, W.T) / s**2
    log_sigma = -0.5 * np.log(np.diag(precision)) + np.log(width)
    mean = Affine(jnp.asarray(gain, float), jnp.asarray(shift - gain @ b, float))
    marginal = multivariate_normal(b, W @ W.T + s**2 * np.eye(3))
    x = marginal.rvs(POINTS, random_state=0).astype(np.float32)
    vae = hvax.VAE(AffineEncoder(mean, jnp.asarray(log_sigma, float)), decoder)
    return vae, x, marginal.logpdf(x)


def score(model, x, num_samples):
    key = jax.random.key(0)
    return hvax.evaluate(model, x, key=key, num_samples=num_samples, progress=False)


def test_more_samples_help_where_they_are_advised():
    """The words of Python: the call that is named is made, and its numbers are trusted."""
    vae, x, log_p = narrow(1.3)
    scores = score(vae, x, 10)
    advice = untrusted_advice(scores)
    assert "too few samples (ESS < 10)" in advice and not scores.trusted
    call = advice.splitlines()[-1].strip()
    needed = scores.diagnosis.needed
    assert call == f"hvax.evaluate(model, x, key=key, num_samples={needed})"
    again = eval(call, {"hvax": hvax, "model": vae, "x": x, "key": jax.random.key(1)})
    assert again.trusted
    assert abs(again.nll + log_p.mean()) < 4.5 * again.nll_mc_se + again.nll_bias


def test_annealed_importance_sampling_helps_where_it_is_advised():
    """A narrow encoder: 1,000 draws overstate the NLL by more than a tenth of a nat, the call that
    is named by less than a fiftieth."""
    vae, x, log_p = narrow(0.15)
    scores = score(vae, x, 1000)
    advice = untrusted_advice(scores)
    assert "heavy-tailed weights (k-hat > 0.7)" in advice
    assert "The cure is annealed importance sampling, in about" in advice
    call = advice.splitlines()[-1].strip()
    assert call == "hvax.annealed_importance_sampling(model, x, key=key)"
    quick = call.replace("key=key", "key=key, num_temperatures=200, progress=False")
    found = eval(quick, {"hvax": hvax, "model": vae, "x": x, "key": jax.random.key(1)})
    assert scores.nll + log_p.mean() > 0.1
    assert abs(found.lower.mean() - log_p.mean()) < 0.02


def test_the_words_are_the_programs_where_there_is_a_run():
    vae, x, _ = narrow(0.15)
    heavy, few = score(vae, x, 1000), score(narrow(1.3)[0], x, 10)
    assert "\n    hvax evaluate runs/a --seed 3 --ais" in untrusted_advice(heavy, "runs/a --seed 3")
    told = untrusted_advice(few, "runs/a")
    assert told.endswith(f"\n    hvax evaluate runs/a --num-samples {few.diagnosis.needed}")
    assert "hvax." not in told
    assert "hvax evaluate" not in untrusted_advice(heavy, "runs/a", ais_follows=True)
    for scores in (heavy, few):
        lines = as_table(scores, "runs/a").splitlines()
        assert max(map(len, lines)) <= 80
        with pytest.warns(UntrustedNLL, match=r"^untrusted-nll: (heavy|too few).*evaluate runs/a"):
            note(scores, untrusted_advice(scores, "runs/a"))


def test_data_that_floats_do_not_resolve_are_said_to_be_so():
    """Five draws at -1e19 nats were trusted before, with 25 effective ones."""
    with jax.enable_x64(False):
        vae, x, _ = narrow(1.0)
        for scale in (5e3, 1e10):
            with pytest.warns(UntrustedNLL, match="for floats.*Rescale the data"):
                scores = score(vae, np.float32(scale) * x, 5)
            assert not scores.trusted and scores.per_point.ess.max() <= 5
            assert "log w too large for floats" in untrusted_advice(scores)


def test_an_evaluation_shows_itself():
    _, x, _ = narrow(1.0)
    good = score(hvax.HVAE(narrow(1.3)[0], hvax.HamiltonianFlow(2, 0.1)), x, 300)
    lines = repr(good).splitlines()
    assert 7 <= len(lines) <= 10 and lines[0].startswith("Evaluation of 40 points, 300 samples")
    assert lines[-1].split() == ["trusted", "yes"]
    assert f"{good.elbo:.3f} +- {good.elbo_se:.3f}" in repr(good) and "moves z by" in repr(good)
    bad = score(narrow(0.1)[0], x, 300)
    assert "WARNING untrusted-nll: " in repr(bad) and "hvax.annealed" in repr(bad)
    assert len(repr(bad).splitlines()) <= 12
    record = bad.to_dict()
    assert record["trusted"] is False and record["points_with"]["heavy tail"] > 2
    assert record["nll"] == bad.nll and not {"per_point", "seconds_per_gradient"} & record.keys()
    assert good.to_dict()["trusted"] is True and good.to_dict()["samples_needed"] == 300


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (45.0, "45 seconds"),
        (600.0, "10 minutes"),
        (7300.0, "2 hours"),
        (4e5, "5 days"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_the_suggested_time_of_ais_grows_with_the_points():
    assert ais_seconds(50, 1e-5, program=False) == pytest.approx(50 * 16 * 10 * 2100 * 1e-5)
    four = 2 * 2100 + 2 * 3100
    assert ais_seconds(1000, 1e-5, program=True) == pytest.approx(100 * 16 * 10 * four * 1e-5)
