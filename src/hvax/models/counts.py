"""Log-probabilities of counts, written so that no large terms cancel.

x log(rate) - rate - log x! is a difference of numbers of order x log x, of which float32 keeps
seven digits: at x = 1e7 it would be 25 nats off. In its place stand

    D(x, rate)   how far the distribution's mean is from x; 0 where they are equal, else > 0
    S(x)         log x! - (x log x - x), which is about log(2 pi x) / 2

and log p = -D - S: neither is much larger than log p itself. Loader, "Fast and Accurate Computation
of Binomial Probabilities" (2000), calls them the deviance and Stirling's error.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from hvax.models.gaussian import HALF_LOG_TWO_PI
from hvax.models.numerics import softplus

_SERIES_FROM = 16.0  # where five terms of Stirling's series reach 1e-16

POISSON_FROM = 60.0
"""The log dispersion beyond which a negative binomial is a Poisson distribution: with r = e^60 the
two differ by (x - rate)^2 / 2r, less than rounding for any x and rate that float32 tells apart."""


def poisson_log_prob(log_rate: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x log rate - rate - log x! for each feature; a rate of 0 (log rate -inf) is one of x = 0."""
    return -_poisson_deviance(log_rate, x) - stirling_rest(x)


def negative_binomial_log_prob(
    log_mean: Float[Array, "..."], log_dispersion: Float[Array, "..."], x: Float[Array, "..."]
) -> Float[Array, "..."]:
    """log Gamma(x + r) - log Gamma(r) - log x! + r log(r / (r + mu)) + x log(mu / (r + mu)).

    With the dispersion r -> inf it is `poisson_log_prob`; r and mu may underflow.
    """
    log_r = jnp.minimum(log_dispersion, POISSON_FROM)
    r = jnp.exp(log_r)
    chosen = stirling_rest(x + r) - stirling_rest(r) - stirling_rest(x)
    share = jnp.where(x == 0, 0.0, -softplus(_log(x) - log_r))  # log r / (x + r)
    return chosen + share - _binomial_deviance(log_mean, log_r, x)


def stirling_rest(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """S(y) = log y! - (y log y - y) for y >= 0: 0 at 0, about log(2 pi y) / 2 for a large y."""
    large = y >= _SERIES_FROM
    few = jnp.where(large, 1.0, y)
    log_factorial = jax.lax.lgamma(few + 1)
    # Which is 5e-7 off at 0 and 1 in float32: much, over thousands of features that are 0.
    off = jnp.where(few * (few - 1) == 0, jax.lax.stop_gradient(log_factorial), 0.0)
    direct = log_factorial - off - few * _log(few) + few
    many = jnp.where(large, y, _SERIES_FROM)
    inverse = 1 / many
    square = inverse * inverse
    series = inverse * (
        1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))
    )
    return jnp.where(large, 0.5 * jnp.log(many) + HALF_LOG_TWO_PI + series, direct)


@jax.custom_jvp
def _poisson_deviance(log_rate: Array, x: Array) -> Array:
    """x log(x / rate) - x + rate."""
    d = log_rate - _log(x)
    # Close to x the rate and the rest would cancel; far from it they do not, nor overflow early.
    near = x * (jnp.expm1(jnp.clip(d, -1.0, 1.0)) - d)
    far = jnp.exp(log_rate) - x - _product(x, d)
    return jnp.where(jnp.abs(d) < 1, near, far)


def _poisson_slopes(primals: Any, tangents: Any) -> tuple[Array, Array]:
    log_rate, x = primals
    slopes = (lambda: jnp.exp(log_rate) - x), (lambda: _log(x) - log_rate)
    return _poisson_deviance(log_rate, x), _along(tangents, slopes)


_poisson_deviance.defjvp(_poisson_slopes, symbolic_zeros=True)


@jax.custom_jvp
def _binomial_deviance(log_mean: Array, log_r: Array, x: Array) -> Array:
    """x log(x / mu) + (x + r) log((r + mu) / (r + x)).

    With m the smaller of x and r, and e = log(mu / x), or its negative where m = r:

        (x + r) log(1 + m / (x + r) (exp(e) - 1)) - m e

    in which terms of order m cancel, not of order x + r.
    """
    d, a, odds = _logs(log_mean, log_r, x)
    r, fewer = jnp.exp(log_r), a <= 0  # x <= r
    m, e = jnp.where(fewer, x, r), jnp.where(fewer, d, -d)
    share = m / jnp.maximum(x + r, jnp.finfo(r.dtype).tiny)  # so that share (x + r) is m
    near = jnp.abs(e) < 1
    # Far from 0 the same logarithm is softplus(+- odds) - softplus(-|a|), which overflows nowhere.
    ahead = jnp.maximum(jnp.where(fewer, odds, -odds), 0.0) - softplus(-jnp.abs(a))
    small = jnp.where(near, share * jnp.expm1(jnp.clip(e, -1.0, 1.0)), jnp.exp(-jnp.abs(odds)))
    return (x + r) * (jnp.log1p(small) + jnp.where(near, 0.0, ahead)) - _product(m, e)


def _binomial_slopes(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """By d / d log mu = (mu - x) r / (r + mu) and d / d log r = r (v - log(1 + v)), where
    1 + v = (r + x) / (r + mu)."""
    log_mean, log_r, x = primals
    d, a, odds = _logs(log_mean, log_r, x)
    r, ratio = jnp.exp(log_r), jnp.exp(-jnp.abs(odds))
    larger = 1 / (1 + ratio)  # the larger of mu and r, as a share of mu + r
    smaller = ratio * larger
    share = jnp.where(odds > 0, larger, smaller)  # of mu
    # mu r / (r + mu) from the smaller of the two, as the larger may overflow.
    of_mean = jnp.exp(jnp.minimum(log_mean, log_r)) * larger - x * jnp.where(
        odds > 0, smaller, larger
    )

    def log_ratio() -> Array:  # log(1 + v)
        return softplus(a) - softplus(odds)

    def of_r() -> Array:
        whole = jnp.exp(-jnp.maximum(jnp.maximum(log_mean, log_r), -80.0)) * larger
        v = x * whole - share
        small = jnp.abs(v) < 0.2
        return jnp.where(
            small, r * _minus_log1p(jnp.where(small, v, 0.0)), -of_mean - r * log_ratio()
        )

    slopes = (lambda: of_mean), of_r, (lambda: -d - log_ratio())
    return _binomial_deviance(log_mean, log_r, x), _along(tangents, slopes)


_binomial_deviance.defjvp(_binomial_slopes, symbolic_zeros=True)


def _along(tangents: Any, slopes: tuple[Callable[[], Array], ...]) -> Array:
    """The derivative along the tangents; a slope whose tangent is known to be 0 costs nothing."""
    pairs = [
        slope() * tangent
        for tangent, slope in zip(tangents, slopes, strict=True)
        if not isinstance(tangent, SymbolicZero)
    ]
    return sum(pairs[1:], pairs[0])


def _logs(log_mean: Array, log_r: Array, x: Array) -> tuple[Array, Array, Array]:
    """log of mu / x, of x / r and of mu / r."""
    log_x = _log(x)
    return log_mean - log_x, log_x - log_r, log_mean - log_r


def _minus_log1p(v: Array) -> Array:
    """v - log(1 + v) for |v| <= 0.2, to rounding: with t = v / (2 + v), log(1 + v) = 2 atanh t."""
    t = v / (2 + v)
    square = t * t
    rest = jnp.zeros_like(t)
    for k in range(17, 1, -2):
        rest = square * rest + 1 / k
    return t * (v - 2 * square * rest)


def _log(y: Array) -> Array:
    """log y, and a finite number at 0, where it is multiplied by 0; with two finite derivatives."""
    return jnp.log(jnp.maximum(y, 2 * float(jnp.finfo(y.dtype).tiny) ** 0.5))


def _product(factor: Array, log: Array) -> Array:
    """factor * log, 0 where the factor is 0 and the log is not finite."""
    return factor * jnp.where(factor == 0, 0.0, log)
