"""Counts in 50 digits are the oracle, over all sizes of count, mean and dispersion."""

from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hvax.models.counts import (
    negative_binomial_log_prob,
    poisson_log_prob,
    stirling_error,
)

COUNTS = [0.0, 1.0, 2.0, 10.0, 16.0, 1e3, 1e5, 1e7]
FACTORS = [1e-3, 0.3, 0.9, 1.0, 1.001, 2.0, 1e3]  # of the mean over the count
DISPERSIONS = [1e-20, 1e-4, 1.0, 16.0, 1e3, 1e5, 1e8, 1e20]
_STIRLING = [(1, 12), (-1, 360), (1, 1260), (-1, 1680), (1, 1188), (-691, 360360), (1, 156)]
_TWO_PI = 2 * Decimal("3.14159265358979323846264338327950288419716939937510")


def log_gamma(y: Decimal) -> Decimal:
    """To 1e-22: Stirling's series from 40 on."""
    below = Decimal(0)
    while y < 40:
        below, y = below - y.ln(), y + 1
    tail = sum(Decimal(a) / b / y ** (2 * i + 1) for i, (a, b) in enumerate(_STIRLING))
    return below + (y - Decimal("0.5")) * y.ln() - y + _TWO_PI.ln() / 2 + tail


def exact(log_mean, log_r, x):
    """The log-probability of these very floats; Poisson's where log_r is None."""
    log_mean, x = Decimal(float(log_mean)), Decimal(float(x))
    mean = log_mean.exp()
    if log_r is None:
        return x * log_mean - mean - log_gamma(x + 1)
    r = (log_r if isinstance(log_r, Decimal) else Decimal(float(log_r))).exp()
    chosen = log_gamma(x + r) - log_gamma(r) - log_gamma(x + 1)
    return chosen - r * (1 + mean / r).ln() - x * (1 + r / mean).ln()


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"), localcontext() as context:
        context.prec = 50
        yield np.dtype(request.param)


def grid(dtype, *more):
    rows = [
        (np.log(max(x, 0.5) * factor), *rest, x)
        for x in COUNTS
        for factor in FACTORS
        for rest in more or [()]
    ]
    return np.array(rows, dtype).T


def test_poisson(dtype):
    """Within 30 roundings of the terms: log p, a Stirling's rest of order 10, and what a rounding
    of log rate or log x does, |x - rate| |log|. The plain formula fails by 3e6 of them."""
    log_rate, x = grid(dtype)
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(poisson_log_prob)))(log_rate, x)
    oracle = np.array([float(exact(l, None, k)) for l, k in zip(log_rate, x, strict=True)])
    rate, size = np.exp(log_rate.astype(float)), np.maximum(1, np.abs(log_rate))
    eps = np.finfo(dtype).eps
    tolerance = 30 * eps * (10 + np.abs(oracle) + np.abs(x - rate) * np.maximum(size, 17))
    assert np.all(np.abs(value - oracle) <= tolerance)
    assert np.all(np.abs(slope - (x - rate)) <= 30 * eps * (x + rate) * size)


def test_negative_binomial(dtype):
    """As above; a rounding of log mu costs |x - mu| r / (r + mu), one of log r its own slope. The
    slopes are within roundings of their terms, r mu / (r + mu) and the smallest of x, r and mu."""
    log_mean, log_r, x = grid(dtype, *[(r,) for r in np.log(DISPERSIONS)])
    rows = list(zip(log_mean, log_r, x, strict=True))
    compute = jax.jit(jax.vmap(jax.value_and_grad(negative_binomial_log_prob, (0, 1))))
    value, (of_mean, of_r) = compute(log_mean, log_r, x)
    step = Decimal("1e-12")
    oracle = np.array([float(exact(*row)) for row in rows])
    ends = [
        (exact(l, Decimal(float(q)) + step, k), exact(l, Decimal(float(q)) - step, k))
        for l, q, k in rows
    ]
    slope_r = np.array([float((up - down) / (2 * step)) for up, down in ends])
    mean, r = np.exp(log_mean.astype(float)), np.exp(log_r.astype(float))
    slope_mean, size = (x - mean) * (r / (r + mean)), np.maximum(17, np.abs(log_mean))
    eps = np.finfo(dtype).eps
    terms = 10 + np.abs(oracle) + np.abs(slope_mean) * size
    terms = terms + np.abs(slope_r) * np.maximum(1, np.abs(log_r))
    assert np.all(np.abs(value - oracle) <= 30 * eps * terms)
    few = np.minimum(r, mean)
    error = 30 * eps * (np.abs(slope_mean) + few * size) + 1e-37
    assert np.all(np.abs(of_mean - slope_mean) <= error)
    error = 100 * eps * (1 + np.abs(slope_r) + np.abs(slope_mean) + np.minimum(few, x))
    # The series of v - log(1 + v) ends at 1e-17 of it.
    assert np.all(np.abs(of_r - slope_r) <= error)


def test_a_huge_dispersion_is_poissons():
    log_mean = jnp.asarray([-3.0, 0.0, 5.0, 11.0])
    x = jnp.asarray([0.0, 2.0, 160.0, 6e4])
    for log_r in (60.0, 100.0, 1e4):
        value, slopes = jax.vmap(jax.value_and_grad(negative_binomial_log_prob, (0, 1)))(
            log_mean, jnp.full(4, log_r), x
        )
        np.testing.assert_allclose(value, poisson_log_prob(log_mean, x), rtol=0, atol=2e-5)
        np.testing.assert_allclose(slopes[0], x - jnp.exp(log_mean), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(slopes[1], np.zeros(4), atol=1e-6)


EDGES = [-1e3, -120.0, -88.0, -20.0, 0.0, 20.0, 80.0]


def test_values_and_two_derivatives_are_finite_at_the_edges():
    """Where the mean or the dispersion underflow: one that is far from x costs its logarithm."""
    log_mean, log_r, x = (
        jnp.asarray(a.ravel(), jnp.float32)
        for a in np.meshgrid(EDGES, [*EDGES, 1e3], [0.0, 1.0, 3.0, 1e4])
    )

    def both(log_mean, log_r, x):
        return negative_binomial_log_prob(log_mean, log_r, x), poisson_log_prob(log_mean, x)

    first = jax.jacfwd(both, (0, 1))
    for order in (both, jax.jacrev(both, (0, 1)), jax.jacfwd(first, (0, 1))):
        for leaf in jax.tree.leaves(jax.jit(jax.vmap(order))(log_mean, log_r, x)):
            assert np.all(np.isfinite(leaf))
    # A dispersion that vanishes leaves no counts but 0: log p = log r - log x, with a slope of 1.
    log_mean, log_r, x = jnp.zeros(2), jnp.full(2, -120.0), jnp.array([0.0, 3.0])
    value, slope = jax.vmap(jax.value_and_grad(negative_binomial_log_prob, 1))(log_mean, log_r, x)
    np.testing.assert_allclose(value, [0, -120 - np.log(3)], rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(slope, [0, 1], rtol=1e-6, atol=1e-15)


def test_a_rate_of_zero_is_one_of_no_counts():
    zero, none, some = jnp.asarray(-jnp.inf), jnp.asarray(0.0), jnp.asarray(2.0)
    for log_prob in (
        poisson_log_prob,
        lambda log_mean, x: negative_binomial_log_prob(log_mean, jnp.ones(()), x),
    ):
        value, slope = jax.value_and_grad(log_prob)(zero, none)
        np.testing.assert_allclose([value, slope], [0, 0], atol=1e-15)
        assert log_prob(zero, some) == -jnp.inf


def test_stirlings_rest_does_not_jump():
    y = jnp.asarray([np.nextafter(np.float32(16), np.float32(0)), 16.0], jnp.float32)
    value, slope = jax.vmap(jax.value_and_grad(stirling_error))(y)
    # lgamma(17) = 31 carries 31 eps, and so does 16 log 16.
    assert abs(value[1] - value[0]) < 1e-5 and abs(slope[1] - slope[0]) < 1e-5
    assert stirling_error(jnp.float32(0.0)) == 0


def test_thousands_of_large_counts():
    """2,000 counts to 1e5, at the mean and at one standard deviation: seen to fail before by 0.06
    nats and more. Each of the terms, of order 6, carries a rounding."""
    x = np.round(np.geomspace(10, 1e5, 2000)).astype(np.float32)
    log_rate = np.log(x + np.sqrt(x) * np.resize([-1.0, 0.0, 1.0], 2000)).astype(np.float32)
    with localcontext() as context:
        context.prec = 50
        oracle = sum(float(exact(l, None, k)) for l, k in zip(log_rate, x, strict=True))
    ours = float(jnp.sum(poisson_log_prob(jnp.asarray(log_rate), jnp.asarray(x))))
    assert abs(ours - oracle) < 0.02
