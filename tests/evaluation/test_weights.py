"""Statistics of importance weights, against distributions whose answers are known."""

import numpy as np
import pytest

from hvax.evaluation.weights import importance_bound, pareto_k_hat, weight_statistics


def test_equal_weights_are_perfect():
    """w = c: log p is log c, its variance 0, every draw effective, and the tail has no shape."""
    statistics = weight_statistics(np.full((3, 200), -7.5))
    np.testing.assert_allclose(statistics.elbo, -7.5, rtol=1e-14)
    np.testing.assert_allclose(statistics.log_p, -7.5, rtol=1e-14)
    np.testing.assert_allclose(statistics.variance, 0, atol=1e-24)
    np.testing.assert_allclose(statistics.ess, 200, rtol=1e-12)
    assert np.all(statistics.k_hat == -np.inf)


def test_numbers_by_hand():
    """Two draws with w = 1 and 3: p = 2, mean log w = log(3)/2, var(w/p) = 1/2, ESS = 16/10."""
    statistics = weight_statistics(np.log([[1.0, 3.0]]))
    np.testing.assert_allclose(statistics.log_p, np.log(2), rtol=1e-14)
    np.testing.assert_allclose(statistics.elbo, np.log(3) / 2, rtol=1e-14)
    np.testing.assert_allclose(statistics.variance, 0.5, rtol=1e-14)
    np.testing.assert_allclose(statistics.ess, 1.6, rtol=1e-14)


def test_draws_that_are_not_finite_count_as_zero_weights():
    log_w = np.array([[0.0, np.nan, np.inf, 0.0], [np.nan] * 4])
    statistics = weight_statistics(log_w)
    np.testing.assert_allclose(statistics.log_p[0], np.log(2 / 4))
    assert statistics.elbo[0] == -np.inf
    assert list(statistics.non_finite) == [2, 4]
    assert statistics.log_p[1] == -np.inf and statistics.ess[1] == 0


def test_the_scale_of_the_weights_does_not_matter():
    """log w of -1e5 would underflow if it were exponentiated as it is."""
    log_w = np.random.default_rng(0).normal(size=(2, 500))
    far = weight_statistics(log_w - 1e5)
    near = weight_statistics(log_w)
    # 1e5 * eps = 2e-11 of rounding in the shifted logarithms.
    np.testing.assert_allclose(far.log_p + 1e5, near.log_p, atol=1e-10)
    np.testing.assert_allclose(far.ess, near.ess, rtol=1e-9)
    np.testing.assert_allclose(far.k_hat, near.k_hat, rtol=1e-7)


@pytest.mark.parametrize("apart", [0.0, 1e12, 1e15])
def test_effective_samples_of_huge_log_weights(apart):
    """log w of -1e19, with one draw ahead of the others by so much: one effective draw, or all.

    Seen to fail before: 25 effective ones of 5, since log S is nothing beside 1e19.
    """
    log_w = np.full((1, 5), -1.3e19)
    log_w[0, 2] += apart
    (ess,) = weight_statistics(log_w).ess
    assert ess == (5 if apart == 0 else 1)
    (rounding,) = weight_statistics(log_w.astype(np.float32)).rounding
    assert rounding == 2.0**40  # of 24 bits, at 2^63
    assert weight_statistics(np.array([[-90.0, -91.0]], np.float32)).rounding[0] < 1e-5


def test_standard_error_of_log_p_is_honest():
    """Over 2,000 repetitions with log-normal weights, the delta method's variance of log p-hat is
    the observed one, and its first-order bias var/2S too.

    The observed variance has relative error sqrt(2/2000) = 3.2%, so 4.5 of them is 14%. Planted
    error: leaving out the division by S is off by a factor 400.
    """
    log_w = np.random.default_rng(1).normal(scale=0.7, size=(2000, 400))
    statistics = weight_statistics(log_w)
    claimed = statistics.variance.mean() / 400
    assert abs(statistics.log_p.var() / claimed - 1) < 0.14
    truth = 0.7**2 / 2  # log E[w]
    bias, error = truth - statistics.log_p.mean(), np.sqrt(claimed / 2000)
    assert abs(bias - claimed / 2) < 4.5 * error


@pytest.mark.parametrize("k", [0.2, 0.5, 0.7, 1.0])
def test_k_hat_finds_the_tail_of_a_pareto_distribution(k):
    """Weights with tail index 1/k have shape k. Mean of 60 fits of a tail of 3 sqrt(4000) = 190.

    The estimator's spread is (1 + k) / sqrt(190) = 0.07 (1 + k), over sqrt(60): 0.018 for k = 1;
    it is shrunk to 1/2 by 10 / 200, 0.025. 4.5 x 0.018 + 0.025 = 0.11. Planted error: fitting
    log w in place of w gives about 0 for every k.
    """
    random = np.random.default_rng(2)
    fitted = [pareto_k_hat(np.log(random.pareto(1 / k, 4000) + 1)) for _ in range(60)]
    assert abs(np.mean(fitted) - k) < 0.11


def test_k_hat_needs_a_tail():
    assert np.isnan(pareto_k_hat(np.zeros(10)))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert pareto_k_hat(-100.0 * np.arange(200.0)) > 10
        assert pareto_k_hat(-180.0 * np.arange(200.0)) == np.inf


def test_importance_bound_of_groups():
    """Groups of k disjoint draws: k = 1 is the mean log w, k = S is log p; it grows with k."""
    log_w = np.random.default_rng(3).normal(size=(5, 120))
    statistics = weight_statistics(log_w)
    np.testing.assert_allclose(importance_bound(log_w, 1), statistics.elbo, rtol=1e-12)
    np.testing.assert_allclose(importance_bound(log_w, 120), statistics.log_p, rtol=1e-12)
    by_hand = np.log(np.exp(log_w).reshape(5, 12, 10).mean(axis=2)).mean(axis=1)
    np.testing.assert_allclose(importance_bound(log_w, 10), by_hand, rtol=1e-10)
    assert np.all(np.diff([importance_bound(log_w, k).mean() for k in (1, 2, 10, 60, 120)]) > 0)


def test_effective_sample_size_of_log_normal_weights():
    """ESS/S -> 1 / E[w^2] E[w]^-2 = exp(-s^2) for log w ~ N(0, s^2).

    At s = 0.5 the relative standard deviation of one estimate over 50,000 draws is under 1%, and
    the mean of 20 under 0.2%; 4.5 of them is 1%.
    """
    log_w = np.random.default_rng(4).normal(scale=0.5, size=(20, 50_000))
    ratio = weight_statistics(log_w).ess.mean() / 50_000
    assert abs(ratio / np.exp(-0.25) - 1) < 0.01


@pytest.mark.parametrize("samples", [100, 400, 900, 10_000])
def test_k_hat_is_that_of_arviz(samples):
    """Where the length of the tail is a whole number; else arviz rounds it down, and we up."""
    array_stats = pytest.importorskip("arviz_stats.base").array_stats
    random = np.random.default_rng(samples)
    for log_w in (random.normal(size=samples), 3 * random.normal(size=samples),
                  np.log(random.pareto(1 / 0.6, samples) + 1)):  # fmt: skip
        _, expected = array_stats.psislw(-log_w)  # which takes log ratios the other way round
        assert pareto_k_hat(log_w) == pytest.approx(float(expected), rel=1e-6, abs=1e-9)
