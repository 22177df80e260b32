"""One training step: what it moves, what it draws, what it reports and what it compiles."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hvax.batch import Batch
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.tempering import QuadraticTempering
from hvax.models.hvae import HVAE
from hvax.objectives import hamiltonian_elbo, loss
from hvax.parameters import Fixed, trainable
from hvax.training.state import default_loss, train_state, train_step
from models_for_tests import in_bits, linear_gaussian, moving

X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32))
OPTIMIZER = optax.adam(0.02)  # one object: a step compiles once for all tests
MODELS = [linear_gaussian(), moving(linear_gaussian())]


def start(model, optimizer=OPTIMIZER, seed=4):
    return train_state(model, optimizer, key=jax.random.key(seed))


def own_loss(model):
    """The plain loss of this kind of model: one object, unlike the default loss."""
    return loss


def steps(state, n):
    losses = []
    for _ in range(n):
        state, value = train_step(state, X, loss_function=own_loss(state.model))
        losses.append(float(value))
    return state, losses


@pytest.mark.parametrize("model", MODELS, ids=["VAE", "HVAE"])
def test_the_loss_falls_on_a_fixed_batch(model):
    """From 5.3 to 3.0 nats; a step's own noise is 0.3."""
    state, losses = steps(start(model), 100)
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 1.5
    assert int(state.step) == 100


@pytest.mark.parametrize("model", MODELS, ids=["VAE", "HVAE"])
def test_step_n_reports_the_loss_on_the_noise_of_step_n(model):
    """Another step's noise moves it by 0.1 and more."""
    for n in (0, 7):
        state = eqx.tree_at(lambda s: s.step, start(model), jnp.asarray(n, jnp.int32))
        _, (value,) = steps(state, 1)
        key = jax.random.fold_in(jax.random.key(4), n)
        expected = eqx.filter_jit(own_loss(model))(model, X, key=key)
        assert value == pytest.approx(float(expected), rel=1e-5)  # other fusions


def test_the_gradient_is_the_losses_and_the_optimizer_follows_it():
    model, rate = linear_gaussian(), 0.1
    state, _ = steps(start(model, optax.sgd(rate)), 1)
    key = jax.random.fold_in(jax.random.key(4), 0)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: loss(m, X, key=key)))(model)
    expected = jax.tree.map(lambda p, g: p - rate * g, model, gradient)
    for new, wanted in zip(jax.tree.leaves(state.model), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(new, wanted, rtol=1e-5, atol=1e-6)


def test_the_same_state_and_data_give_the_same_bits():
    state, _ = steps(start(linear_gaussian()), 2)
    assert in_bits(steps(state, 1)[0]) == in_bits(steps(state, 1)[0])
    other = eqx.tree_at(lambda s: s.key, state, jax.random.key(5))
    assert in_bits(steps(other, 1)[0].model) != in_bits(steps(state, 1)[0].model)


def test_a_resumed_run_repeats_the_uninterrupted_one_bit_for_bit():
    """All that is carried are arrays: they go through host memory in between."""
    model = moving(linear_gaussian())
    whole, losses = steps(start(model), 6)
    half, first = steps(start(model), 3)
    arrays, static = eqx.partition(eqx.tree_at(lambda s: s.key, half, None), eqx.is_array)
    arrays = jax.tree.map(lambda leaf: jnp.asarray(np.array(leaf)), arrays)
    data = np.array(jax.random.key_data(half.key))
    resumed = eqx.tree_at(
        lambda s: s.key,
        eqx.combine(arrays, static),
        jax.random.wrap_key_data(data),
        is_leaf=lambda leaf: leaf is None,
    )
    resumed, second = steps(resumed, 3)
    assert first + second == losses
    assert in_bits(resumed) == in_bits(whole)


def test_weight_decay_does_not_move_what_is_fixed():
    """adamw at a rate at which every trained leaf loses a tenth of itself a step."""
    flow = HamiltonianFlow(2, Fixed(np.array([0.1, 0.2])), QuadraticTempering(Fixed(0.3)))
    model = HVAE(linear_gaussian(), flow)
    state, _ = steps(start(model, optax.adamw(0.1, weight_decay=1.0)), 3)
    assert in_bits(state.model.flow) == in_bits(model.flow)
    learned = [eqx.filter(m, trainable(m)) for m in (model, state.model)]
    for old, new in zip(*map(jax.tree.leaves, learned), strict=True):
        assert np.all(old != new)
    held = [eqx.filter(m, trainable(m), inverse=True) for m in (model, state.model)]
    assert eqx.tree_equal(*held)  # the structure and what is static with it
    # The optimizer carries nothing for what is held.
    moments = jax.tree.leaves(eqx.filter(state.opt_state[0].mu, eqx.is_array))
    assert len(moments) == len(jax.tree.leaves(learned[0]))


def test_a_learned_flow_is_trained():
    state, _ = steps(start(moving(linear_gaussian())), 1)
    before = moving(linear_gaussian()).flow
    assert np.all(state.model.flow.step_size.value != before.step_size.value)
    assert state.model.flow.tempering.beta0.value != before.tempering.beta0.value


class Counter:
    """A loss function that counts how often it is traced."""

    def __init__(self):
        self.traces = 0

    def __call__(self, model, batch, *, key, weight=1.0, weights=(0.0, 0.0), power=2):
        x = batch.x
        self.traces += 1
        error = jnp.mean(jnp.abs(x - model.decoder.network.bias[None]) ** power)
        return weight * error + jnp.sum(jnp.asarray(weights)) * jnp.sum(weights)


def test_new_numbers_in_loss_kwargs_compile_nothing():
    counter, state = Counter(), start(linear_gaussian(), optax.sgd(0.1))

    def value(**loss_kwargs):
        return float(train_step(state, X, loss_function=counter, loss_kwargs=loss_kwargs)[1])

    base = value(weight=1.0, weights=[0.0, 0.0])
    for weight in (0.5, np.float64(2.0), 3e-3):
        scaled = value(weight=weight, weights=[0.0, 0.0])
        assert scaled == pytest.approx(weight * base, rel=1e-5)
    for weights in ([1.0, 0.5], [1, 0.5], [2, -0.5], (2.0, 1.0)):
        expected = base + sum(weights) ** 2
        assert value(weight=1.0, weights=weights) == pytest.approx(expected, rel=1e-5)
    assert counter.traces == 1
    # Integers are static: a new one compiles anew, and may be used as a Python number.
    value(weight=1.0, weights=[0.0, 0.0], power=1)
    value(weight=1.0, weights=[0.0, 0.0], power=1)
    assert counter.traces == 2


def test_nested_numbers_and_the_losses_own_options_are_traced():
    """A regularization's strength and prefactors, as the HVAE's loss takes them."""
    traces = []

    def own(model, batch, **kwargs):
        traces.append(kwargs["reg_kwargs"])
        return loss(model, batch, **kwargs)

    def push(outputs, scale):
        return scale * jnp.mean(outputs.trajectory.z_final)

    state = start(moving(linear_gaussian()))
    values = []
    for strength, scale in ((0.0, 1.0), (1.0, 1.0), (1.0, 3.0), (3.0, 1.0)):
        options = {
            "reg_function": push,
            "reg_kwargs": {"scale": scale},
            "reg_strength": strength,
            "logp_prefactor": [1.0, strength, 1.0],
        }
        values.append(train_step(state, X, loss_function=own, loss_kwargs=options)[1])
    assert len(traces) == 1 and isinstance(traces[0]["scale"], jax.Array)
    assert len({float(value) for value in values}) == 4


def test_a_loss_function_may_report_beside_its_number():
    def reporting(model, batch, *, key):
        x = batch.x
        return jnp.mean(model.decoder.network.bias**2), {"mean": jnp.mean(x)}

    state, value = train_step(start(linear_gaussian()), X, loss_function=reporting)
    bias = linear_gaussian().decoder.network.bias
    assert float(value) == pytest.approx(float(jnp.mean(bias**2)), rel=1e-6)
    assert int(state.step) == 1


def test_a_loss_function_sees_x_out():
    def difference(model, batch, *, key):
        x, target = batch.x, batch.target
        return jnp.mean(target - x) + 0 * jnp.sum(model.decoder.network.bias)

    for target in (X + 2.0, np.asarray(X) + 2.0):
        _, value = train_step(start(linear_gaussian()), X, target, loss_function=difference)
        assert float(value) == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("shape", [(2,), (1,), (6, 3)])
def test_a_loss_function_returns_one_number(shape):
    def wrong(model, batch, *, key):
        return jnp.zeros(shape)

    with pytest.raises(ValueError, match="loss_function must return one number"):
        train_step(start(linear_gaussian()), X, loss_function=wrong)


def test_the_default_losses_are_the_models_own():
    @eqx.filter_jit
    def numbers(model):
        default = default_loss(model)(model, Batch(X), key=jax.random.key(0))
        expected = own_loss(model)(model, X, key=jax.random.key(0), kl="analytic")
        return default, expected, hamiltonian_elbo(model, X, key=jax.random.key(0))

    for model in MODELS:
        (value, report), expected, log_w = numbers(model)
        assert float(value) == pytest.approx(float(expected), rel=1e-6)
        assert float(report.pop("elbo")) == pytest.approx(float(log_w), rel=1e-6)
        none = {"divergent": 0.0, "large_errors": 0.0} if isinstance(model, HVAE) else {}
        assert report == none


def test_the_default_loss_compiles_once(compilations):
    state, _ = train_step(start(linear_gaussian()), X)
    before = compilations("update")
    train_step(state, X)
    assert compilations("update") == before == 1
