"""Flows through decoders with relu: what its jumps cost, and the potential without them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hvax
from hvax.exceptions import KinkedDecoder
from hvax.models.smoothed import kinks_of
from models_for_tests import QUICK_COMPILE
from settings_for_tests import but_slow, slow

pytestmark = pytest.mark.usefixtures("x64")

BITS = np.array([1.0, 0.0, 1.0])


def bits():
    return jnp.asarray(BITS)


SHARP = hvax.models.SmoothedPotential(20.0)


def vae(activation=jax.nn.relu, d=1):
    """One whose decoder bends within the posterior's width."""
    encoder, decoder = hvax.mlp((3,), d, hidden=(6,), activation=activation, key=jax.random.key(0))
    layers = decoder.network.layers
    steep = [4.0 * layer.weight for layer in layers]
    decoder = eqx.tree_at(lambda d: [k.weight for k in d.network.layers], decoder, steep)
    return hvax.VAE(encoder, decoder)


def log_weights(model, factor, draws, seed=0):
    """Of BITS, with the step size times a factor, and always the same noise."""

    @jax.jit
    def found(factor, keys):
        return jax.vmap(lambda key: scaled(model, factor).log_weight(bits(), key=key))(keys)

    return found(factor, jax.random.split(jax.random.key(seed), draws))


def scaled(model, factor):
    flow = hvax.HamiltonianFlow.uha(
        3, step_size=factor * 0.6, units="latent", bridge=[0.3, 0.6, 0.9], eta=0.7
    )
    return hvax.HVAE(model.vae, flow, model.potential_for_flow)


# The bias


def slopes(model, draws=40_000, h=0.02):
    """The mean derivative of log w in the step size's factor, that of its mean over [1 - h, 1 + h],
    and the standard error of their difference."""
    derivative = jax.jit(
        jax.vmap(jax.grad(lambda f, key: scaled(model, f).log_weight(bits(), key=key)), (None, 0)),
        compiler_options=QUICK_COMPILE,
    )
    each = derivative(1.0, jax.random.split(jax.random.key(0), draws))
    rise = (log_weights(model, 1 + h, draws) - log_weights(model, 1 - h, draws)) / (2 * h)
    error = np.std(each - rise) / draws**0.5
    return float(jnp.mean(each)), float(jnp.mean(rise)), float(error)


def test_the_gradient_through_relu_is_biased():
    """Autodiff sees the slope between the jumps alone: -22.4 where the bound has -14.4, which is 30
    standard errors. So `SmoothedPotential` has something to mend."""
    derivative, rise, error = slopes(hvax.HVAE(vae()))
    assert abs(derivative - rise) > 8 * error
    assert abs(derivative - rise) > 0.3 * abs(rise)


def test_the_gradient_is_the_bounds_where_the_force_is_smooth():
    """Within 4.5 standard errors, about 1.2 of 14; the curvature over [1 - h, 1 + h] is 0.1."""
    derivative, rise, error = slopes(hvax.HVAE(vae(), potential=SHARP))
    assert abs(derivative - rise) < 4.5 * error


# The bound


def test_the_weights_are_those_of_the_decoder_as_it_is():
    """mean exp(log w) is p(x), by quadrature over z, within 4.5 standard errors; with a sharpness
    of 1, whose decoder is quite another. Planted error: scored by the smooth one it is 0.05."""
    model = hvax.HVAE(vae(), potential=hvax.models.SmoothedPotential(1.0))
    z = np.linspace(-9, 9, 20_001)
    joint = jax.vmap(lambda z: model.vae.log_joint(bits(), z[None]))(jnp.asarray(z))
    p = np.trapezoid(np.exp(joint.log_likelihood + joint.log_prior), z)
    w = np.exp(np.asarray(log_weights(model, 1.0, 40_000))) / p
    assert abs(w.mean() - 1) < 4.5 * w.std() / len(w) ** 0.5 < 0.05


def test_a_sharp_potential_is_the_decoders_own():
    """softplus(s a) / s is relu(a) + at most log 2 / s: U differs by that times the weights."""
    model = vae()
    last = model.decoder.network.layers[-1]
    for z in (-1.3, 0.2, 2.0):
        own, _ = model.potential(bits())(jnp.array([z]))
        for sharpness in (1.0, 4.0):
            smooth, _ = hvax.models.SmoothedPotential(sharpness)(model, bits())(jnp.array([z]))
            # |d log p / d logit| <= 1
            assert 0 < abs(smooth - own) < np.abs(last.weight).sum() * np.log(2) / sharpness


def test_it_is_saved_with_the_model(tmp_path):
    model = hvax.HVAE(vae(), hvax.HamiltonianFlow.uha(2), hvax.models.SmoothedPotential(7.1))
    hvax.save(model, tmp_path)
    found = hvax.load(tmp_path)
    assert found.potential_for_flow.sharpness == 7.1
    first, second = (one.log_weight(bits(), key=jax.random.key(1)) for one in (found, model))
    assert first == second


# What it finds


W = jax.random.normal(jax.random.key(0), (4, 4))


def squeezed(a):
    return jnp.tanh(jax.nn.relu(a))


@jax.custom_vjp
def thrice(a):
    return jnp.sin(a)


thrice.defvjp(lambda a: (jnp.sin(a), a), lambda a, g: (3 * g * a,))

# Ways to call relu on the way from z to a number.
CALLED = {
    "plain": lambda z: squeezed(W @ z),
    "jit": lambda z: jax.jit(lambda z: squeezed(W @ z))(z),
    "checkpoint": lambda z: jax.checkpoint(lambda z: squeezed(W @ z))(z),
    "scan": lambda z: jax.lax.scan(lambda z, w: (squeezed(w @ z), z), z, jnp.stack([W, W]))[0],
    "loop": lambda z: jax.lax.fori_loop(0, 3, lambda _, z: squeezed(W @ z), z),
    "branch": lambda z: jax.lax.cond(z[0] > 0, squeezed, jnp.sin, W @ z),
    "vmap": lambda z: jax.vmap(lambda w: squeezed(w @ z))(W),
    "one of two outputs": lambda z: jax.lax.top_k(squeezed(W @ z), 2)[0],
    "before a gradient of its own": lambda z: thrice(squeezed(W @ z)),
    "in an equinox module": lambda z: eqx.nn.MLP(4, 4, 3, 2, squeezed, key=jax.random.key(0))(z),
}


class Sums(hvax.Bernoulli):
    """A likelihood whose log p is the sum of the decoder's output."""

    def log_prob(self, params, x):
        return jnp.sum(params)


@pytest.mark.parametrize(
    "called", but_slow(CALLED, keep=("jit", "scan", "branch", "before a gradient of its own"))
)
def test_relu_is_replaced_wherever_it_is_called(called, monkeypatch):
    """As if `jax.nn.relu` had been softplus from the start: value, gradient, batch and what comes
    with U."""

    def evaluated(potential):
        return jax.vmap(jax.value_and_grad(potential, has_aux=True))(zs)

    zs, x = jax.random.normal(jax.random.key(1), (5, 4)), bits()
    model = hvax.VAE(vae(d=4).encoder, hvax.Decoder(CALLED[called], Sums()))
    assert kinks_of(model.potential(x), zs[0]) == {"relu"}
    found, own = (
        evaluated(hvax.models.SmoothedPotential(7.0)(model, x)),
        evaluated(model.potential(x)),
    )
    monkeypatch.setattr(jax.nn, "relu", lambda a: jax.nn.softplus(7.0 * a) / 7.0)
    jax.clear_caches()
    expected = evaluated(model.potential(x))
    for each, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(each, other, rtol=1e-12)
    assert not np.allclose(own[0][0], found[0][0]) and not np.allclose(own[1], found[1])


@pytest.mark.parametrize("name", ["relu6", "leaky_relu", "selu", "hard_tanh", "hard_silu"])
def test_other_kinks_have_their_names(name):
    assert kinks_of(lambda z: jnp.sum(getattr(jax.nn, name)(z)), jnp.ones(3)) == {name}


@pytest.mark.parametrize("name", ["softplus", "silu", "gelu", "elu", "celu", "tanh", "sigmoid"])
def test_smooth_activations_have_none(name):
    assert kinks_of(lambda z: jnp.sum(getattr(jax.nn, name)(z)), jnp.ones(3)) == set()


def test_a_network_of_equinoxs():
    network = eqx.nn.MLP(1, 3, 5, 1, jax.nn.relu, key=jax.random.key(0))
    model = hvax.VAE(vae().encoder, hvax.Decoder(network, hvax.Bernoulli()))
    own, _ = model.potential(bits())(jnp.array([0.3]))
    smooth, _ = hvax.models.SmoothedPotential(10.0)(model, bits())(jnp.array([0.3]))
    assert smooth != own
    np.testing.assert_allclose(smooth, own, atol=0.2)


@pytest.mark.parametrize(
    ("activation", "said"), [(hvax.models.softplus, "got none"), (jax.nn.selu, "got selu")]
)
def test_a_decoder_without_relu_is_refused(activation, said):
    with pytest.raises(ValueError, match=said):
        hvax.models.SmoothedPotential()(vae(activation), bits())(jnp.zeros(1))


@pytest.mark.parametrize("sharpness", [0.0, -1.0, np.inf, np.nan])
def test_a_sharpness_out_of_range_is_refused(sharpness):
    with pytest.raises(ValueError, match="sharpness must be finite and > 0"):
        hvax.models.SmoothedPotential(sharpness)


# The warning


def trained(model):
    return hvax.fit(model, np.stack([BITS] * 4), epochs=1, batch_size=2, progress=False)


class Own(eqx.Module):
    """A network as users write one, with relu in its code."""

    layers: list

    def __call__(self, z):
        return self.layers[1](jax.nn.relu(self.layers[0](z)))


def own_vae():
    first, second = (eqx.nn.Linear(*size, key=jax.random.key(size[1])) for size in ((1, 5), (5, 3)))
    return hvax.VAE(vae().encoder, hvax.Decoder(Own([first, second]), hvax.Bernoulli()))


@pytest.mark.parametrize("model", [slow(vae()), own_vae()], ids=["hvax's", "a user's"])
def test_fit_warns_of_a_kinked_decoder(model):
    with pytest.warns(
        KinkedDecoder, match=r"kinked-decoder: the decoder has relu, .*SmoothedPotential\(\)"
    ):
        trained(hvax.HVAE(model, hvax.HamiltonianFlow(1, 0.1)))


def test_the_data_of_the_warning_are_those_of_training():
    """Separate inputs and targets, of other shapes, scaled and transformed on the way."""
    x, y = np.full((4, 7), 255, np.uint8), np.stack([BITS] * 4)

    def transform(batch, *, key):
        return batch._replace(x=batch.x[:, :3])

    data = (hvax.data.Examples(x, None, 255.0), y)
    with pytest.warns(KinkedDecoder):
        hvax.fit(
            hvax.HVAE(own_vae(), hvax.HamiltonianFlow(1, 0.1)),
            data,
            transform=transform,
            epochs=1,
            batch_size=2,
            progress=False,
        )


@pytest.mark.parametrize(
    "model",
    [
        vae(),
        hvax.HVAE(vae(), hvax.HamiltonianFlow(0, 0.1)),
        hvax.HVAE(vae(), hvax.HamiltonianFlow(1, 0.1), hvax.models.SmoothedPotential()),
        slow(hvax.HVAE(vae(), hvax.HamiltonianFlow(1, 0.1, gradient="finite"))),
        slow(hvax.HVAE(vae(jax.nn.silu), hvax.HamiltonianFlow(1, 0.1))),
    ],
    ids=["plain", "no steps", "smoothed", "finite", "silu"],
)
def test_fit_does_not_warn_where_nothing_jumps(model):
    trained(model)
