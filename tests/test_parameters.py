"""Learned and fixed numbers: the map of MATHS.md, its bounds, and what training moves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import expit

from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.tempering import FreeTempering, QuadraticTempering
from hvax.models.hvae import HVAE
from hvax.parameters import Fixed, Learned, as_parameter, trainable
from models_for_tests import linear_gaussian


@pytest.mark.parametrize("upper", [1.0, 0.5, 3.0])
def test_learned_starts_at_its_initial_value(upper, x64):
    initial = upper * np.array([1.01e-4, 0.01, 0.5, 0.99, 1 - 1e-6])
    # The map is inverted by logs of numbers rounded at 1: 1e-16 near the ends, 1e-12 relative.
    np.testing.assert_allclose(Learned(initial, upper=upper).value, initial, rtol=1e-11)


@pytest.mark.parametrize("upper", [1.0, 0.5])
def test_learned_is_the_scaled_sigmoid(upper, x64):
    raw = np.linspace(-30, 30, 25)
    parameter = eqx.tree_at(
        lambda p: p.raw, Learned(np.full(25, 0.2), upper=upper), jnp.asarray(raw)
    )
    expected = upper * (1e-4 + (1 - 1e-4) * expit(raw))
    np.testing.assert_allclose(parameter.value, expected, rtol=1e-15)


def test_learned_never_leaves_its_range_in_float32():
    raw = jnp.asarray([-1e30, -200.0, 200.0, 1e30], jnp.float32)
    parameter = eqx.tree_at(lambda p: p.raw, Learned(np.full(4, 0.2), upper=0.5), raw)
    assert np.all(parameter.value >= np.float32(0.5e-4)) and np.all(parameter.value <= 0.5)


@pytest.mark.parametrize(
    "initial", [0.0, 1e-4, 0.5e-4, 1.0, 1.5, -0.3, np.nan, np.array([0.5, 1.0])]
)
def test_learned_is_refused_at_and_beyond_its_bounds(initial):
    with pytest.raises(ValueError, match=r"initial must lie strictly between .* number inside"):
        Learned(initial)


def test_learned_bounds_scale_with_upper():
    for initial in (0.5, 0.5e-4):
        with pytest.raises(ValueError, match=r"between 5e-05 and its upper bound 0\.5"):
            Learned(initial, upper=0.5)


@pytest.mark.parametrize("initial", [0.99999999, np.array([0.5, 1 - 1e-8]), 1e-4 * (1 + 1e-5)])
def test_learned_is_refused_where_float32_would_learn_nothing(initial):
    """Seen to fail before: accepted, at the bound, with a gradient of 0."""
    said = r"between 0\.0001\d* and 0\.9999\d*.*float32.*Fixed"
    with jax.enable_x64(False), pytest.raises(ValueError, match=said):
        Learned(initial)
    with jax.enable_x64(True):
        assert np.all(np.asarray(Learned(initial).value) < 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("upper", [1.0, 0.5, 3.0])
def test_learned_comes_back_from_wherever_it_drifts(dtype, upper):
    """Seen to fail before at |raw| = 17 in float32: at the bound, with a gradient of 0."""
    with jax.enable_x64(dtype == "float64"):
        start = Learned(0.2, upper=upper)

        def value(raw):
            return eqx.tree_at(lambda p: p.raw, start, raw).value

        raw = jnp.asarray([-1e30, -200.0, -40.0, -17.0, 17.0, 40.0, 200.0, 1e30])
        values, slopes = jax.vmap(jax.value_and_grad(value))(raw)
        eps = float(jnp.finfo(dtype).eps)
        assert values.dtype == np.dtype(dtype)
        assert np.all((values > upper * np.float64(1e-4)) & (values < upper))
        assert np.all(slopes > 0.5 * eps * upper)
        far = eqx.tree_at(lambda p: p.raw, start, raw)
        np.testing.assert_allclose(far.scaled(0.5).value, np.maximum(0.5 * values, 1.01e-4 * upper),
                                   rtol=1e-3)  # fmt: skip


@pytest.mark.parametrize("upper", [0.0, -1.0, np.inf, np.nan])
def test_upper_must_be_finite_and_positive(upper):
    with pytest.raises(ValueError, match="upper must be finite and > 0"):
        Learned(0.1, upper=upper)


def test_values_have_the_default_dtype_and_their_own_shape():
    default = jnp.zeros(()).dtype
    for parameter in (Fixed(1), Fixed(np.float64(0.3)), Learned(0.3)):
        assert parameter.value.dtype == default and parameter.value.shape == ()
    for parameter in (Fixed(np.array([[1, 2]])), Learned(np.array([[0.1, 0.2]]))):
        assert parameter.value.dtype == default and parameter.value.shape == (1, 2)
        assert not parameter.value.weak_type


def test_a_plain_number_is_held_fixed_and_a_parameter_kept():
    assert isinstance(as_parameter(0.3, "sigma"), Fixed)
    learned = Learned(0.3)
    assert as_parameter(learned, "sigma") is learned


def test_trainable_is_every_floating_array_outside_fixed():
    model = {
        "weight": jnp.ones(3),
        "fixed": Fixed(np.ones(2)),
        "learned": Learned(0.3),
        "deep": [(Fixed(1.0), Learned(np.full(2, 0.1)))],
        "integers": jnp.arange(3),
        "bits": jnp.ones(2, bool),
        "name": "a string",
        "function": jnp.sin,
        "number": 0.5,
    }
    mask = jax.tree.leaves_with_path(trainable(model))
    learned = {jax.tree_util.keystr(path) for path, is_learned in mask if is_learned}
    assert learned == {"['weight']", "['learned'].raw", "['deep'][0][1].raw"}
    assert len(mask) == len(jax.tree.leaves(model))


def test_weight_decay_moves_the_learned_and_nothing_else():
    """A large weight decay pulls every trained array; a fixed one stays bit for bit."""
    flow = HamiltonianFlow(2, Fixed(np.array([0.1, 0.2])), QuadraticTempering(Fixed(0.3)))
    model = HVAE(linear_gaussian(), flow)
    parameters, rest = eqx.partition(model, trainable(model))
    optimizer = optax.adamw(0.1, weight_decay=0.5)
    state = optimizer.init(parameters)
    gradients = jax.tree.map(jnp.zeros_like, parameters)
    updates, _ = optimizer.update(gradients, state, parameters)
    moved = eqx.combine(optax.apply_updates(parameters, updates), rest)

    assert eqx.tree_equal(moved.flow, model.flow)
    before, after = (jax.tree.leaves(eqx.filter(m.vae, eqx.is_array)) for m in (model, moved))
    assert len(before) == 6  # encoder's 3, decoder's 2, the likelihood's learned sigma
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new, 0.95 * old, rtol=1e-6)


def test_a_learned_flow_is_trainable():
    flow = HamiltonianFlow(3, Learned(np.array([[0.1], [0.2], [0.1]]), upper=0.5), FreeTempering(3))
    leaves = jax.tree.leaves(eqx.filter(flow, trainable(flow)))
    assert [leaf.shape for leaf in leaves] == [(3, 1), (3,)]
