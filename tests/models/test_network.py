"""Ready-made multilayer perceptrons: their shapes for every likelihood, and what they compute."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hvax
from hvax.models.likelihood import (
    Bernoulli,
    Categorical,
    FixedGaussian,
    LearnedGaussian,
    NegativeBinomial,
    Poisson,
)
from hvax.models.network import MLP, mlp
from hvax.parameters import trainable
from settings_for_tests import slow

# likelihood, x_shape, and the shape of every array that the decoder yields
CASES = {
    "Bernoulli": (Bernoulli(), (6,), (6,)),
    "default": (None, (6,), (6,)),
    "image": (Bernoulli(), (2, 5), (2, 5)),
    "FixedGaussian": (FixedGaussian(np.full((2, 5), 0.5)), (2, 5), (2, 5)),
    "LearnedGaussian": (LearnedGaussian(), (2, 5), (2, 5)),
    "Poisson": (Poisson(), (3,), (3,)),
    "NegativeBinomial": (NegativeBinomial(), (2, 3), (2, 3)),
    "one-hot": (Categorical(3), (5, 3), (5, 3)),
    "classes": (Categorical(3), (5,), (5, 3)),
    "one class": (Categorical(3), (), (3,)),
    "one feature": (Bernoulli(), (1,), (1,)),
}


@pytest.mark.parametrize("name", CASES)
def test_shapes(name):
    likelihood, x_shape, out_shape = CASES[name]

    def everything(x, key):
        encoder, decoder = mlp(x_shape, 4, hidden=(8, 7), likelihood=likelihood, key=key)
        q = encoder(x)
        output = decoder(q.mean)
        return q, output, decoder.likelihood.mean(output), decoder.log_likelihood(x, output)

    x = jnp.zeros(x_shape, jnp.int32 if "class" in name else float)
    q, output, mean, log_p = jax.eval_shape(everything, x, jax.random.key(0))
    assert q.mean.shape == q.log_sigma.shape == (4,)
    arrays = jax.tree.leaves(output)
    assert len(arrays) == (2 if name in ("LearnedGaussian", "NegativeBinomial") else 1)
    assert {array.shape for array in arrays} == {mean.shape} == {out_shape}
    assert log_p.shape == ()


def test_the_decoder_mirrors_the_encoder():
    build = eqx.filter_eval_shape
    encoder, decoder = build(lambda key: mlp((6,), 2, hidden=(5, 4), key=key), jax.random.key(0))
    weights = [layer.weight.shape for layer in encoder.trunk.layers]
    assert weights == [(5, 6), (4, 5)] and encoder.trunk.activate_last
    assert encoder.mean.layers[0].weight.shape == (2, 4)
    assert encoder.log_sigma.network.layers[0].weight.shape == (2, 4)
    assert [layer.weight.shape for layer in decoder.network.layers] == [(4, 2), (5, 4), (6, 5)]


def test_every_weight_is_drawn_from_its_own_key():
    """Planted: one key for the two heads makes two weights equal."""
    leaves = [
        a for a in jax.tree.leaves(mlp((4,), 4, hidden=(4,), key=jax.random.key(0))) if a.ndim
    ]
    assert len(leaves) == 10
    assert len({np.asarray(a).ravel()[0].item() for a in leaves}) == 10


@pytest.mark.parametrize("activate_last", [False, True])
def test_an_mlp_is_its_formula(x64, activate_last):
    network = MLP(
        (2, 3),
        (2, 2),
        (5, 4),
        activation=jnp.tanh,
        activate_last=activate_last,
        key=jax.random.key(1),
    )
    x = np.arange(6.0).reshape(2, 3) / 3
    h = x.ravel()
    for i, layer in enumerate(network.layers):
        h = np.asarray(layer.weight) @ h + np.asarray(layer.bias)
        h = np.tanh(h) if i < 2 or activate_last else h
    np.testing.assert_allclose(network(jnp.asarray(x)), h.reshape(2, 2), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.float16])
def test_data_are_cast_to_the_weights(dtype):
    network = MLP((3,), (2,), key=jax.random.key(2))
    out = network(jnp.array([0, 1, 200], dtype))
    np.testing.assert_array_equal(out, network(jnp.array([0.0, 1.0, 200.0])))
    assert out.dtype == network.layers[0].weight.dtype == jnp.zeros(()).dtype


def test_everything_is_trained():
    pair = mlp((4,), 4, hidden=(4,), likelihood=NegativeBinomial(), key=jax.random.key(3))
    leaves = jax.tree.leaves(trainable(pair))
    assert len(leaves) == 11 and all(leaves)


@pytest.mark.parametrize(
    ("x_shape", "latent_size", "hidden", "said"),
    [
        ((3,), 0, (4,), "latent_size must be >= 1, got 0"),
        ((3,), 2, (), "hidden must have at least one layer size, got none"),
        ((3,), 2, (4, 0), "each number of hidden must be >= 1, got 0"),
        ((3,), 2, (-1,), "each number of hidden must be >= 1"),
        ((3, 0), 2, (4,), "each number of x_shape must be >= 1"),
    ],
)
def test_bad_sizes_are_refused(x_shape, latent_size, hidden, said):
    with pytest.raises(ValueError, match=said):
        mlp(x_shape, latent_size, hidden=hidden, key=jax.random.key(0))


def test_a_batch_is_refused_with_what_to_write():
    with pytest.raises(ValueError, match=r"network's input must have shape \(3,\)(?s:.*)jax\.vmap"):
        MLP((3,), (2,), key=jax.random.key(0))(jnp.zeros((5, 3)))


class InTheMiddle(eqx.Module):
    """A network with a layer of a user's choice between two of its own."""

    into: eqx.nn.Linear
    layer: eqx.Module
    out: eqx.nn.Linear

    def __call__(self, x):
        return self.out(self.layer(self.into(x)))


def with_layer(layer, *, in_encoder):
    keys = jax.random.split(jax.random.key(0), 3)
    likelihood = hvax.FixedGaussian(1.0)
    encoder, decoder = hvax.mlp((3,), 2, likelihood=likelihood, hidden=(4,), key=keys[0])
    if in_encoder:
        into, out = eqx.nn.Linear(3, 4, key=keys[1]), eqx.nn.Linear(4, 4, key=keys[2])
        trunk = InTheMiddle(into, layer, out)
        return hvax.VAE(eqx.tree_at(lambda e: e.trunk, encoder, trunk), decoder)
    into = eqx.nn.Linear(2, 4, key=keys[1])
    network = InTheMiddle(into, layer, eqx.nn.Linear(4, 3, key=keys[2]))
    return hvax.VAE(encoder, hvax.Decoder(network, likelihood))


@pytest.mark.parametrize("in_encoder", [slow(True), False], ids=["encoder", "decoder"])
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (eqx.nn.Dropout(0.1), r"a Dropout layer.*inference_mode"),
        (eqx.nn.BatchNorm(4, axis_name="batch", mode="batch"), r"keeps a state.*LayerNorm"),
        (eqx.nn.Dropout(0.1, inference=True), None),
        (eqx.nn.LayerNorm(4), None),
    ],
    ids=["dropout", "batch norm", "dropout switched off", "layer norm"],
)
def test_layers_that_ask_for_more_than_their_input_are_named(layer, message, in_encoder):
    model = with_layer(layer, in_encoder=in_encoder)
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    if message is None:
        fitted = hvax.fit(model, x, epochs=1, batch_size=8, progress=False)
        assert np.isfinite(fitted.history[0]["elbo"])
        return
    with pytest.raises(TypeError, match=f"^networks must be functions of one array.*{message}"):
        hvax.fit(model, x, epochs=1, batch_size=8, progress=False)
