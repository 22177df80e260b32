"""The schedules against the table of MATHS.md, in NumPy's float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hvax.hamiltonian import tempering as module
from hvax.hamiltonian.tempering import (
    CustomTempering,
    FreeTempering,
    NullTempering,
    QuadraticTempering,
    TemperatureTempering,
)
from hvax.parameters import Fixed, Learned
from models_for_tests import SCHEDULES, tempering

# The table, as it is printed.
TABLE = {
    "quadratic": lambda beta0, k, K: ((1 - 1 / np.sqrt(beta0)) * (k / K) ** 2 + beta0**-0.5) ** -2,
    "null": lambda beta0, k, K: beta0,
    "temperature": lambda beta0, k, K: 1 / ((1 - 1 / beta0) * (k / K) ** 2 + 1 / beta0),
}
CLASSES = {
    "quadratic": QuadraticTempering,
    "null": NullTempering,
    "temperature": TemperatureTempering,
}


@pytest.mark.parametrize("hold", [Fixed, Learned])
@pytest.mark.parametrize("beta0", [1.0, 0.8, 0.3, 0.01])
@pytest.mark.parametrize("num_steps", [1, 3, 10])
@pytest.mark.parametrize("name", TABLE)
def test_named_schedules_follow_the_table(name, num_steps, beta0, hold, x64):
    if hold is Learned:
        beta0 = min(beta0, 0.99)  # a learned value cannot stand at its bound
    schedule = CLASSES[name](hold(beta0))
    expected = [TABLE[name](beta0, k, num_steps) for k in range(num_steps + 1)]
    beta = schedule.beta(num_steps)
    # Ten roundings; the table's own sum cancels from 1/beta0 = 100 to 1 at the cold end.
    np.testing.assert_allclose(beta, expected, rtol=3e-14)
    function = getattr(module, f"{name}_tempering")
    one = [function(beta0, k, num_steps) for k in range(num_steps + 1)]
    np.testing.assert_allclose(one, expected, rtol=3e-14)


@pytest.mark.parametrize("name", ["quadratic", "temperature"])
def test_the_cold_end_is_exactly_one(name):
    for num_steps in (1, 3, 7):
        beta = CLASSES[name](0.3).beta(num_steps)
        assert beta[-1] == 1
        # beta_0 comes through a square root and its square: 4 roundings.
        np.testing.assert_allclose(beta[0], 0.3, rtol=4 * float(jnp.finfo(beta.dtype).eps))
        assert np.all(np.diff(beta) > 0)


def test_the_test_sees_the_power_plus_two():
    """The trap of MATHS.md: with the power +2 in place of -2, beta_0 is 1 / beta0."""
    plus_two = ((1 - 1 / np.sqrt(0.3)) * (np.arange(4) / 3) ** 2 + 0.3**-0.5) ** 2
    assert np.min(abs(np.asarray(QuadraticTempering(0.3).beta(3)) - plus_two)[:-1]) > 0.3


@pytest.mark.parametrize("learned", [False, True])
def test_free_is_the_product_of_squared_scalings(learned, x64):
    alpha = np.array([0.9, 0.5, 0.7])
    beta = np.asarray(FreeTempering(3, Learned(alpha) if learned else alpha).beta(3))
    np.testing.assert_allclose(beta[:-1] / beta[1:], alpha**2, rtol=1e-14)
    np.testing.assert_allclose(beta[0], np.prod(alpha**2), rtol=1e-14)
    assert beta[-1] == 1


def test_free_starts_from_learned_scalings_of_nine_tenths():
    schedule = FreeTempering(4)
    assert isinstance(schedule.alpha, Learned)
    np.testing.assert_allclose(schedule.alpha.value, np.full(4, 0.9), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.8, Learned(0.8), Fixed(np.full(4, 0.8))])
def test_free_takes_one_number_or_one_per_step(alpha):
    np.testing.assert_allclose(FreeTempering(4, alpha).beta(4), 0.64 ** np.arange(4, -1, -1), 1e-6)


def test_free_serves_its_own_number_of_steps():
    with pytest.raises(
        ValueError, match=r"one scaling per step .*, 5, got 3\. Use FreeTempering\(5\)"
    ):
        FreeTempering(3).beta(5)


def test_custom_is_called_at_python_integers(x64):
    """beta0 may be traced, so a schedule's k and K must be plain numbers to branch on."""
    calls = []

    def schedule(beta0, k, num_steps):
        calls.append((k, num_steps))
        assert type(k) is int and type(num_steps) is int
        return 2.0 if k == num_steps else beta0 * (k + 1)

    beta = eqx.filter_jit(lambda tempering: tempering.beta(3))(CustomTempering(schedule, 0.25))
    assert calls == [(k, 3) for k in range(4)]
    np.testing.assert_array_equal(beta, [0.25, 0.5, 0.75, 2.0])


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_steps(name):
    """K = 0: beta = [beta0], [1] for free; a user's callable is not called."""
    if name == "custom":
        schedule = CustomTempering(lambda *_: pytest.fail("called"), 0.4)
    else:
        schedule = tempering(name, 0, 0.4)
    expected = [1.0 if name == "free" else 0.4]
    np.testing.assert_array_equal(schedule.beta(0), jnp.asarray(expected))


@pytest.mark.parametrize("name", SCHEDULES)
def test_learned_schedules_are_differentiable(name, x64):
    """d log beta_0 / d raw against a central difference."""
    schedule = tempering(name, 3, 0.4, learned=True)
    (raw,), structure = jax.tree.flatten(eqx.filter(schedule, eqx.is_array))
    rest = eqx.filter(schedule, eqx.is_array, inverse=True)

    @jax.jit
    def first(raw):
        return jnp.log(eqx.combine(jax.tree.unflatten(structure, [raw]), rest).beta(3)[0])

    h, v = 1e-5, jnp.ones_like(raw)
    expected = (first(raw + h * v) - first(raw - h * v)) / (2 * h)
    assert abs(expected) > 0.1
    # Truncation h^2 and rounding eps / h: 1e-10 and 2e-11.
    np.testing.assert_allclose(jnp.sum(jax.grad(first)(raw)), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", CLASSES.values())
@pytest.mark.parametrize("beta0", [0.0, -0.1, 1.1, np.nan, np.inf])
def test_beta0_outside_its_range_is_refused(kind, beta0):
    with pytest.raises(ValueError, match=r"beta0 must be in \(0, 1\]"):
        kind(beta0)
    with pytest.raises(ValueError, match=r"beta0 must be in \(0, 1\]"):
        CustomTempering(lambda beta0, k, K: beta0, beta0)


def test_other_values_outside_their_range_are_refused():
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\]"):
        FreeTempering(2, np.array([0.5, 1.5]))
    with pytest.raises(ValueError, match="num_steps must be >= 0"):
        FreeTempering(-1)
    with pytest.raises(ValueError, match="beta0 must be one number"):
        QuadraticTempering(Fixed(np.array([0.3, 0.4])))
    with pytest.raises(ValueError, match="a learned beta0 must have upper <= 1"):
        QuadraticTempering(Learned(0.3, upper=2.0))
    with pytest.raises(ValueError, match="a learned alpha must have upper <= 1"):
        FreeTempering(2, Learned(0.3, upper=2.0))
    with pytest.raises(TypeError, match=r"schedule must be callable|Expected type"):
        CustomTempering("quadratic")


@pytest.mark.parametrize("beta0", [1.0, 0.3, 1e-4])
@pytest.mark.parametrize("name", TABLE)
def test_the_functions_without_steps_are_beta0(name, beta0):
    """Seen to fail before: NaN. And at equal ends nothing changes."""
    function = getattr(module, f"{name}_tempering")
    slope = jax.grad(lambda beta0: function(beta0, 0, 0))(beta0)
    # Through a square root and its square: 4 roundings.
    np.testing.assert_allclose(function(beta0, 0, 0), beta0, rtol=5e-7)
    np.testing.assert_allclose(slope, 1.0, rtol=5e-6)
    for k, num_steps in ((0, 1), (1, 1), (2, 3)):
        np.testing.assert_array_equal(function(1.0, k, num_steps), 1.0)


@pytest.mark.parametrize("beta0", [0.0, -0.3, 1.5, np.nan, np.inf])
@pytest.mark.parametrize("name", TABLE)
def test_the_functions_refuse_what_the_schedules_do(name, beta0):
    """Seen to fail before: NaN, or temperatures below zero."""
    with pytest.raises(ValueError, match=r"beta0 must be in \(0, 1\]"):
        getattr(module, f"{name}_tempering")(beta0, 1, 2)


def test_free_keeps_a_learned_scaling_close_to_its_bound():
    close = Learned(0.9999994)
    np.testing.assert_array_equal(FreeTempering(3, close).alpha.value, np.full(3, close.value))
