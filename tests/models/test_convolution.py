"""The paper's convolutional pair: adjointness, shapes, and its recipe of initial weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from hvax.models.convolution import Convolution, conv
from hvax.models.likelihood import FixedGaussian, Poisson

SIDES = [(28, 14), (14, 7), (7, 4)]
LATENT = 64


@pytest.fixture(scope="module")
def pair():
    key = jax.random.key(0, impl="rbg")  # compiles in half the time
    return eqx.filter_jit(conv)(LATENT, output_bias=-1.25, key=key)


def layers(pair):
    """(weight, bias, n_in, n_out) of every layer, in the order of MATHS.md."""
    encoder, decoder = pair
    maps = [28 * 28, 14 * 14 * 16, 7 * 7 * 32, 4 * 4 * 32]
    network = decoder.network
    mean, log_sigma = encoder.mean.layers[0], encoder.log_sigma.network.layers[0]
    return [
        *zip(encoder.trunk.convolutions, maps, maps[1:], strict=False),
        (encoder.trunk.dense.layers[0], 512, 450),
        (mean, 450, LATENT),
        (log_sigma, 450, LATENT),
        (network.dense[0].layers[0], LATENT, 450),
        (network.dense[1].layers[0], 450, 512),
        *zip(network.convolutions, maps[::-1], maps[-2::-1], strict=False),
    ]


def image(height, width, channels):
    """An image as rows."""
    return jnp.asarray(np.random.default_rng(0).normal(size=(height, width * channels)))


@pytest.mark.parametrize(("large", "small"), SIDES)
def test_plain_convolution_pads_as_same_does(x64, large, small):
    layer = Convolution((large, large, 3), (small, small, 2), key=jax.random.key(1))
    x = image(large, large, 3)
    same = jax.lax.conv_general_dilated(
        x.reshape(1, large, large, 3),
        layer.weight,
        (2, 2),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    # Sums of 75 products of order one.
    np.testing.assert_allclose(layer(x), same.reshape(small, -1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("large", "small"), SIDES)
def test_by_rows_is_what_lax_gives(x64, large, small, transposed):
    """Values, gradients in image and weight, and Hessian-vector products of a function that is
    not linear, in both directions: to rounding of sums of some hundred products."""
    shapes = [(large, large, 3), (small, small, 2)]
    layer = Convolution(
        *(shapes[::-1] if transposed else shapes), transposed=transposed, key=jax.random.key(1)
    )
    x, along = image(*layer.in_shape), 0.1 * image(*layer.in_shape)[::-1]

    def everything(convolve):
        def energy(x, weight):
            return jnp.sum(jnp.sin(convolve(x, weight)))

        def gradient(x, weight):
            return jax.grad(energy, argnums=(0, 1))(x, weight)

        def slope(weight):
            return jnp.vdot(gradient(x, weight)[0], along)

        forwards = jax.jvp(lambda x: gradient(x, layer.weight), (x,), (along,))
        return convolve(x, layer.weight), forwards, jax.grad(slope)(layer.weight)

    rows, lax = (jax.jit(lambda c=c: everything(c))() for c in (layer._by_rows, layer._by_lax))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-11), rows, lax)
    np.testing.assert_allclose(layer(x), rows[0], rtol=0, atol=1e-13)


def test_no_convolution_of_xlas_is_left_in_the_compiled_program(pair):
    """On a CPU; traced there are both, and the platform chooses."""
    _, decoder = pair
    compiled = jax.jit(lambda z: decoder(z)).lower(jnp.zeros(LATENT)).compile().as_text()
    assert (" convolution(" not in compiled) == (jax.default_backend() == "cpu")


@pytest.mark.parametrize(("large", "small"), SIDES)
def test_transposed_convolution_is_the_adjoint(x64, large, small):
    """<conv x, y> = <x, conv' y> for every x, y: conv' is conv's linear transpose, alignment of
    the odd padding included, with the weight flipped in space and its channels exchanged."""
    plain = Convolution((large, large, 3), (small, small, 2), key=jax.random.key(1))
    adjoint = Convolution(
        (small, small, 2), (large, large, 3), transposed=True, key=jax.random.key(1)
    )
    weight = plain.weight[::-1, ::-1].swapaxes(2, 3)
    adjoint = eqx.tree_at(lambda layer: layer.weight, adjoint, weight)
    x = image(large, large, 3)
    y = image(small, small, 2)
    np.testing.assert_allclose(adjoint(y), jax.linear_transpose(plain, x)(y)[0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(jnp.vdot(plain(x), y), jnp.vdot(x, adjoint(y)), rtol=1e-11)


def test_a_bias_per_channel_is_added(x64):
    layer = Convolution((7, 7, 3), (4, 4, 2), key=jax.random.key(0))
    layer = eqx.tree_at(lambda layer: layer.bias, layer, jnp.array([1.0, 2.0]))
    np.testing.assert_array_equal(layer(jnp.zeros((7, 21)))[0, :4], [1.0, 2.0, 1.0, 2.0])


def test_initial_weights(pair):
    """N(0, 1 / (n_in + n_out)) with the full feature maps' sizes, each layer within 4.5 standard
    errors. The kernels' own sizes (25 c_in, 25 c_out) in their place lie 55 off in the first
    layer; a scale 10% too large lies 15 off at 12,800 weights."""
    assert len(layers(pair)) == 11
    for layer, n_in, n_out in layers(pair):
        w = np.asarray(layer.weight, np.float64).ravel() * np.sqrt(n_in + n_out)
        assert abs(w.mean()) < 4.5 / np.sqrt(w.size)
        assert abs(w.std() - 1) < 4.5 / np.sqrt(2 * w.size)


def test_initial_biases(pair):
    *inner, (last, _, _) = layers(pair)
    assert not any(np.any(layer.bias) for layer, _, _ in inner)
    np.testing.assert_array_equal(last.bias, [-1.25])


def test_every_layer_is_drawn_from_its_own_key(pair):
    draws = [np.ravel(l.weight)[:9] * (n_in + n_out) ** 0.5 for l, n_in, n_out in layers(pair)]
    assert min(np.abs(a - b).max() for i, a in enumerate(draws) for b in draws[:i]) > 0.1


def test_shapes_inside(pair):
    encoder, decoder = pair
    maps = [layer.out_shape for layer in encoder.trunk.convolutions]
    assert maps == [(14, 14, 16), (7, 7, 32), (4, 4, 32)]
    maps = [layer.out_shape for layer in decoder.network.convolutions]
    assert maps == [(7, 7, 32), (14, 14, 16), (28, 28, 1)]
    for layer in (*encoder.trunk.convolutions, *decoder.network.convolutions):
        (_, width, channels), out = layer.in_shape, layer.out_shape
        rows = jax.eval_shape(layer, jnp.zeros((width, width * channels)))
        assert rows.shape == (out[0], out[1] * out[2])


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
def test_shapes_outside(pair, dtype):
    encoder, decoder = pair
    q = jax.eval_shape(encoder, jnp.zeros((28, 28), dtype))
    assert q.mean.shape == q.log_sigma.shape == (LATENT,)
    output = jax.eval_shape(decoder, jnp.zeros(LATENT))
    assert output.shape == (28, 28)
    assert jax.eval_shape(decoder.log_likelihood, jnp.zeros((28, 28), dtype), output).shape == ()


def test_the_sigma_head_is_a_softplus(pair):
    encoder, _ = pair
    head = encoder.log_sigma
    assert (head.form, head.lower, head.upper) == ("softplus", -10.0, 10.0)
    h = jnp.linspace(-1, 1, 450)
    log_sigma = np.log(np.logaddexp(0, np.asarray(head.network(h), np.float64)))
    np.testing.assert_allclose(head(h), 10 * np.tanh(log_sigma / 10), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_softplus_everywhere_inside(pair):
    """Dense features are positive whatever comes in, and the logits are not."""
    encoder, decoder = pair
    h = encoder.trunk(jnp.full((28, 28), -3.0))
    assert h.shape == (450,) and h.min() > 0
    hidden = decoder.network.dense[1](decoder.network.dense[0](jnp.full(LATENT, -3.0)))
    assert hidden.shape == (512,) and hidden.min() > 0
    assert decoder(jnp.zeros(LATENT)).min() < 0  # logits


@pytest.mark.parametrize("likelihood", [FixedGaussian(0.3), Poisson()])
def test_another_likelihood(likelihood):
    def log_likelihood(x, key):
        _, decoder = conv(3, likelihood=likelihood, key=key)
        return decoder.log_likelihood(x, decoder(jnp.zeros(3)))

    assert jax.eval_shape(log_likelihood, jnp.zeros((28, 28)), jax.random.key(0)).shape == ()


def test_refusals(pair):
    with pytest.raises(ValueError, match="latent_size must be >= 1, got 0"):
        conv(0, key=jax.random.key(0))
    # The suite's type checker is the first to refuse; without it, check_shape does.
    with pytest.raises((ValueError, TypeCheckError), match=r"28, ?28, ?1"):
        pair[0](jnp.zeros((28, 28, 1)))
