"""Log-probabilities of counts (Poisson, negative binomial) without cancellation of large terms.

The textbook x log(rate) - rate - log x! is a difference of numbers of order x log x. float32 keeps
seven digits of them, so at x = 1e7 the result is 25 nats off. Loader, "Fast and Accurate
Computation of Binomial Probabilities" (2000), computes log p = -D - S instead, from

    D(x, rate)   the deviance: 0 if the distribution's mean equals x, else > 0
    S(x)         Stirling's error, log x! - (x log x - x), about log(2 pi x) / 2

neither of which is much larger than log p itself. Derivatives are given by hand (`custom_jvp`),
since automatic differentiation of the stable formulas would cancel again.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from hvax.models.gaussian import HALF_LOG_TWO_PI
from hvax.models.numerics import softplus

_SERIES_FROM = 16.0  # from here on five terms of Stirling's series are accurate to 1e-16

POISSON_FROM = 60.0
"""Log dispersion from which a negative binomial counts as a Poisson distribution: at r = e^60 their
log-probabilities differ by (x - rate)^2 / 2r, which is below rounding in float32."""


def poisson_log_prob(log_rate: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """log p(x) = x log rate - rate - log x! of each feature, in nats.

    A log rate of -inf is a rate of 0, under which x = 0 has probability 1.
    """
    return -_poisson_deviance(log_rate, x) - stirling_error(x)


def negative_binomial_log_prob(
    log_mean: Float[Array, "..."], log_dispersion: Float[Array, "..."], x: Float[Array, "..."]
) -> Float[Array, "..."]:
    """log p(x) of each feature under a negative binomial of mean mu and dispersion r, in nats.

        log Gamma(x + r) - log Gamma(r) - log x! + r log(r / (r + mu)) + x log(mu / (r + mu))

    As r -> inf this becomes `poisson_log_prob`. r and mu may underflow to 0.
    """
    log_r = jnp.minimum(log_dispersion, POISSON_FROM)
    r = jnp.exp(log_r)
    # With log Gamma(y + 1) = y log y - y + S(y), the terms y log y - y combine into the deviance
    # and one logarithm; Gamma(r) = Gamma(r + 1) / r leaves log(r / (x + r)).
    chosen = stirling_error(x + r) - stirling_error(r) - stirling_error(x)
    share = jnp.where(x == 0, 0.0, -softplus(_safe_log(x) - log_r))  # log r / (x + r)
    return chosen + share - _binomial_deviance(log_mean, log_r, x)


def stirling_error(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """Stirling's error S(y) = log y! - (y log y - y) for y >= 0: 0 at 0, about log(2 pi y) / 2."""
    large = y >= _SERIES_FROM
    few = jnp.where(large, 1.0, y)
    log_factorial = jax.lax.lgamma(few + 1)
    # lgamma is 5e-7 off at y = 0 and 1 in float32. Most counts are 0 or 1, and over thousands of
    # features that adds up; so the value there is subtracted from itself, keeping the derivative.
    off = jnp.where(few * (few - 1) == 0, jax.lax.stop_gradient(log_factorial), 0.0)
    direct = log_factorial - off - few * _safe_log(few) + few
    many = jnp.where(large, y, _SERIES_FROM)
    inverse = 1 / many
    square = inverse * inverse
    series = inverse * (
        1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))
    )
    return jnp.where(large, 0.5 * jnp.log(many) + HALF_LOG_TWO_PI + series, direct)


@jax.custom_jvp
def _poisson_deviance(log_rate: Array, x: Array) -> Array:
    """D = x log(x / rate) - x + rate, the deviance of a Poisson distribution."""
    d = log_rate - _safe_log(x)
    # With d = log(rate / x): near x, D = x (exp(d) - 1 - d), where expm1 avoids the cancellation.
    # Far from x nothing cancels, and the direct form does not overflow before D itself does.
    near = x * (jnp.expm1(jnp.clip(d, -1.0, 1.0)) - d)
    far = jnp.exp(log_rate) - x - _safe_product(x, d)
    return jnp.where(jnp.abs(d) < 1, near, far)


def _poisson_slopes(primals: Any, tangents: Any) -> tuple[Array, Array]:
    log_rate, x = primals
    slopes = (lambda: jnp.exp(log_rate) - x), (lambda: _safe_log(x) - log_rate)
    return _poisson_deviance(log_rate, x), _directional_derivative(tangents, slopes)


_poisson_deviance.defjvp(_poisson_slopes, symbolic_zeros=True)


@jax.custom_jvp
def _binomial_deviance(log_mean: Array, log_r: Array, x: Array) -> Array:
    """D = x log(x / mu) + (x + r) log((r + mu) / (r + x)), the negative binomial's deviance.

    With m = min(x, r), and e = log(mu / x) if m = x, else log(x / mu):

        D = (x + r) log(1 + m / (x + r) (exp(e) - 1)) - m e

    Here terms of order m cancel instead of terms of order x + r.
    """
    d, a, odds = _logs(log_mean, log_r, x)
    r, fewer = jnp.exp(log_r), a <= 0  # x <= r
    m, e = jnp.where(fewer, x, r), jnp.where(fewer, d, -d)
    share = m / jnp.maximum(x + r, jnp.finfo(r.dtype).tiny)  # so that share (x + r) is m
    near = jnp.abs(e) < 1
    # For large |e| the same logarithm is softplus(+- odds) - softplus(-|a|), which cannot overflow.
    # It is split as log1p(small) + ahead, so that both branches share the log1p.
    ahead = jnp.maximum(jnp.where(fewer, odds, -odds), 0.0) - softplus(-jnp.abs(a))
    small = jnp.where(near, share * jnp.expm1(jnp.clip(e, -1.0, 1.0)), jnp.exp(-jnp.abs(odds)))
    return (x + r) * (jnp.log1p(small) + jnp.where(near, 0.0, ahead)) - _safe_product(m, e)


def _binomial_slopes(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """dD/d log mu = (mu - x) r / (r + mu) and dD/d log r = r (v - log(1 + v)).

    Here 1 + v = (r + x) / (r + mu).
    """
    log_mean, log_r, x = primals
    d, a, odds = _logs(log_mean, log_r, x)
    r, ratio = jnp.exp(log_r), jnp.exp(-jnp.abs(odds))
    larger = 1 / (1 + ratio)  # the larger of mu and r, as a share of mu + r
    smaller = ratio * larger
    share = jnp.where(odds > 0, larger, smaller)  # of mu
    # mu r / (r + mu) = min(mu, r) * larger: the larger of the two may overflow.
    slope_of_mean = jnp.exp(jnp.minimum(log_mean, log_r)) * larger - x * jnp.where(
        odds > 0, smaller, larger
    )

    def log_ratio() -> Array:  # log(1 + v)
        return softplus(a) - softplus(odds)

    def slope_of_r() -> Array:
        # For small v, v - log(1 + v) cancels to v^2 / 2 and needs its series.
        whole = jnp.exp(-jnp.maximum(jnp.maximum(log_mean, log_r), -80.0)) * larger
        v = x * whole - share
        small = jnp.abs(v) < 0.2
        return jnp.where(
            small,
            r * _difference_from_log1p(jnp.where(small, v, 0.0)),
            -slope_of_mean - r * log_ratio(),
        )

    slopes = (lambda: slope_of_mean), slope_of_r, (lambda: -d - log_ratio())
    return _binomial_deviance(log_mean, log_r, x), _directional_derivative(tangents, slopes)


_binomial_deviance.defjvp(_binomial_slopes, symbolic_zeros=True)


def _directional_derivative(tangents: Any, slopes: tuple[Callable[[], Array], ...]) -> Array:
    """The sum of slope times tangent; slopes with a symbolically zero tangent are not computed."""
    pairs = [
        slope() * tangent
        for tangent, slope in zip(tangents, slopes, strict=True)
        if not isinstance(tangent, SymbolicZero)
    ]
    return sum(pairs[1:], pairs[0])


def _logs(log_mean: Array, log_r: Array, x: Array) -> tuple[Array, Array, Array]:
    """log(mu / x), log(x / r) and log(mu / r)."""
    log_x = _safe_log(x)
    return log_mean - log_x, log_x - log_r, log_mean - log_r


def _difference_from_log1p(v: Array) -> Array:
    """v - log(1 + v) for |v| <= 0.2, by the series of log(1 + v) = 2 atanh(v / (2 + v))."""
    t = v / (2 + v)
    square = t * t
    rest = jnp.zeros_like(t)
    for k in range(17, 1, -2):
        rest = square * rest + 1 / k
    return t * (v - 2 * square * rest)


def _safe_log(y: Array) -> Array:
    """log y, but finite at y = 0, where it is multiplied by 0; so are its first two derivatives."""
    return jnp.log(jnp.maximum(y, 2 * float(jnp.finfo(y.dtype).tiny) ** 0.5))


def _safe_product(factor: Array, log: Array) -> Array:
    """factor * log, but 0 (not NaN) for a factor of 0 and an infinite log."""
    return factor * jnp.where(factor == 0, 0.0, log)
