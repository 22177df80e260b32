"""Elementary functions against float64 sums of logarithms, values and two derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hvax.models.numerics import log_softplus, smooth_bound, softplus

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
