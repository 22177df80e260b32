"""Elementary functions against float64 sums of logarithms, values and two derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln, poch

from hvax.models.numerics import log_rising_factorial, log_softplus, smooth_bound, softplus

EXTREMES = np.array([-1e4, -1e3, -88.0, -50.0, -20.0, 0.0, 20.0, 50.0, 88.0, 1e3, 1e4])


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


def derivatives(f, *x):
    """f and its first and second derivative in the first argument, elementwise, as float64."""
    first = jax.grad(f)
    second = jax.grad(lambda *x: first(*x))
    together = jax.jit(jax.vmap(lambda *x: (f(*x), first(*x), second(*x))))
    return [np.asarray(y, np.float64) for y in together(*x)]


def assert_close(ours, exact, *, units, dtype, floor=0.0):
    """Within `units` roundings of the exact value, or of `floor` where that is larger."""
    scale = np.maximum(np.abs(exact), floor)
    assert np.all(np.abs(ours - exact) <= units * np.finfo(dtype).eps * scale)


@pytest.mark.parametrize(("lower", "upper"), [(-10.0, 10.0), (-3.0, 8.0)])
def test_smooth_bound(dtype, lower, upper):
    x = np.concatenate([np.linspace(-30, 30, 61), EXTREMES, [0.5 * (lower + upper)]])
    f, df, ddf = derivatives(lambda x: smooth_bound(x, lower, upper), jnp.asarray(x, dtype))
    middle, half = 0.5 * (lower + upper), 0.5 * (upper - lower)
    t = np.tanh((x - middle) / half)
    # Rounding seen: 2 units; the derivatives lose what 1 - t^2 cancels, so they are absolute.
    assert_close(f, middle + half * t, units=40, dtype=dtype, floor=half)
    assert_close(df, 1 - t**2, units=40, dtype=dtype, floor=1.0)
    assert_close(ddf, -2 * t * (1 - t**2) / half, units=40, dtype=dtype, floor=1.0)
    assert f.min() >= lower and f.max() <= upper
    assert np.all(np.diff(f[:61]) >= 0)
    assert f[-1] == middle and df[-1] == 1.0


def test_softplus(dtype):
    x = np.concatenate([np.linspace(-40, 40, 161), EXTREMES])
    f, df, ddf = derivatives(softplus, jnp.asarray(x, dtype))
    sigmoid = np.where(x < -700, 0.0, 1 / (1 + np.exp(-np.maximum(x, -700))))
    # Relative to the value itself: softplus(-40) = 4e-18 keeps its digits.
    assert_close(f, np.logaddexp(0, x), units=8, dtype=dtype, floor=1e-30)
    assert_close(df, sigmoid, units=8, dtype=dtype, floor=1e-30)
    assert_close(ddf, sigmoid * (1 - sigmoid), units=8, dtype=dtype, floor=1.0)


def test_softplus_of_what_is_no_number():
    x = jnp.array([jnp.nan, jnp.inf, -jnp.inf])
    np.testing.assert_array_equal(softplus(x), [np.nan, np.inf, 0.0])
    np.testing.assert_array_equal(jax.vmap(jax.grad(softplus))(x), [np.nan, 1.0, 0.0])


def test_log_softplus(dtype):
    x = np.concatenate([np.linspace(-40, 40, 161), EXTREMES])
    f, df, ddf = derivatives(log_softplus, jnp.asarray(x, dtype))
    softplus, sigmoid = np.logaddexp(0, x), 1 / (1 + np.exp(-np.maximum(x, -700)))
    exact = np.where(x < -700, x, np.log(np.maximum(softplus, 1e-300)))
    ratio = np.where(x < -700, 1.0, sigmoid / np.maximum(softplus, 1e-300))
    # Rounding seen: 5 units. Below -20 the line x stands for the function, which lies
    # exp(x)/2 < 1.1e-9 beneath it.
    line = 1.1e-9 / np.finfo(dtype).eps
    assert_close(f, exact, units=40 + line, dtype=dtype, floor=1.0)
    assert_close(df, ratio, units=40 + line, dtype=dtype, floor=1.0)
    assert_close(ddf, ratio * (1 - sigmoid - ratio), units=40 + line, dtype=dtype, floor=1.0)


def rising_factorial_oracle(r, n):
    """log r(r+1)...(r+n-1) and its derivatives in r as sums over the factors, in float64."""
    factors = [np.float64(a) + np.arange(int(b)) for a, b in zip(r, n, strict=True)]
    logs = np.array([np.log(f).sum() for f in factors])
    firsts = np.array([(1 / f).sum() for f in factors])
    return logs, firsts, np.array([-(1 / f**2).sum() for f in factors])


def test_log_rising_factorial(dtype):
    """From r = 1e-4 to e^10, and on both sides of its switch at 16, where it must not jump. The
    plain difference of lgammas fails, 26,000 units off in float32."""
    r = np.append(np.geomspace(1e-4, np.exp(10), 80), 16).astype(dtype)
    r = np.append(r, np.nextafter(r[-1], dtype.type(17)))
    n = np.concatenate([np.arange(10), np.round(np.geomspace(10, 1e4, 12))]).astype(dtype)
    r, n = (a.ravel() for a in np.meshgrid(r, n))
    ours = derivatives(log_rising_factorial, jnp.asarray(r), jnp.asarray(n))
    # Rounding seen: 64 units. Where n = 0 the exact value is 0, hence the floors.
    floors = [1, 1 / r, 1 / r**2]
    for derived, exact, floor in zip(ours, rising_factorial_oracle(r, n), floors, strict=True):
        assert_close(derived, exact, units=600, dtype=dtype, floor=floor)


def test_log_rising_factorial_of_fractions(x64):
    """n need not be whole; scipy's gammaln and poch are the oracle where they do not cancel."""
    r, n = (a.ravel() for a in np.meshgrid(np.geomspace(0.1, 30, 9), [0.0, 0.3, 2.5, 11.7]))
    ours = np.asarray(log_rising_factorial(jnp.asarray(r), jnp.asarray(n)))
    # Differences of gammaln near 100 carry 1e-14; 50 times that.
    np.testing.assert_allclose(ours, gammaln(r + n) - gammaln(r), rtol=0, atol=5e-13)
    np.testing.assert_allclose(ours, np.log(poch(r, n)), rtol=0, atol=5e-13)
