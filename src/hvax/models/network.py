"""Encoders and decoders of dense layers (multilayer perceptrons)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from hvax.checks import check_key, count, shape
from hvax.models.data_point import check_shape
from hvax.models.decoder import Decoder
from hvax.models.heads import DispersedCounts, JointGaussian
from hvax.models.inputs import MaskedInput
from hvax.models.likelihood import (
    AbstractLikelihood,
    Bernoulli,
    Categorical,
    LearnedGaussian,
    NegativeBinomial,
)
from hvax.models.numerics import softplus

Activation = Callable[[Array], Array]


class MLP(eqx.Module):
    """Dense layers from an array of `in_shape` to one of `out_shape`, with activations between.

    The input is flattened and cast to the weights' dtype, the output is reshaped. `hidden` are the
    sizes of the layers between; with `activate_last` the output is activated too. Raises
    `ValueError` and `TypeError` for sizes that are not integers >= 1.
    """

    layers: tuple[eqx.nn.Linear, ...]
    in_shape: tuple[int, ...] = eqx.field(static=True)
    out_shape: tuple[int, ...] = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    activate_last: bool = eqx.field(static=True)

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        hidden: Sequence[int] = (),
        *,
        activation: Activation = softplus,
        activate_last: bool = False,
        key: PRNGKeyArray,
    ):
        in_shape, out_shape = shape(in_shape, "in_shape"), shape(out_shape, "out_shape")
        sizes = (math.prod(in_shape), *shape(hidden, "hidden"), math.prod(out_shape))
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = tuple(
            eqx.nn.Linear(n_in, n_out, key=k)
            for n_in, n_out, k in zip(sizes, sizes[1:], keys, strict=False)
        )
        self.in_shape, self.out_shape = in_shape, out_shape
        self.activation, self.activate_last = activation, activate_last

    def __call__(self, x: Shaped[Array, "..."]) -> Float[Array, "..."]:
        check_shape(x, self.in_shape, name="the network's input")
        h = x.reshape(-1).astype(self.layers[0].weight.dtype)
        for layer in self.layers[:-1]:
            h = self.activation(layer(h))
        h = self.layers[-1](h)
        return (self.activation(h) if self.activate_last else h).reshape(self.out_shape)


def mlp(
    x_shape: Sequence[int],
    latent_size: int,
    *,
    hidden: Sequence[int] = (400,),
    likelihood: AbstractLikelihood | None = None,
    activation: Activation = softplus,
    missing_values: bool = False,
    key: PRNGKeyArray,
) -> tuple[JointGaussian | MaskedInput, Decoder]:
    """An encoder and a decoder of dense layers, for `VAE(*mlp(...))`.

    The encoder has one trunk of `hidden` layers and two heads. The decoder mirrors it and returns
    the parameters of `likelihood` (Bernoulli by default): one array of x's shape, a mean and a log
    sigma (`LearnedGaussian`), a log mean and one log dispersion per feature (`NegativeBinomial`),
    or logits (`Categorical`: of x's shape for one-hot data, else with one more axis).

    With `missing_values` the encoder takes the mask of x beside it (see `MaskedInput`), so that it
    can tell a missing value from an average one: for data with NaN.

    The default activation is smooth, because the gradient of a flow through a kink, such as relu's,
    is biased (see `SmoothedPotential`). Raises `ValueError` and `TypeError` for sizes that are not
    integers >= 1, and for no hidden layer.
    """
    x_shape, hidden = shape(x_shape, "x_shape"), shape(hidden, "hidden")
    latent_size = count(latent_size, "latent_size")
    check_key(key)
    if len(hidden) < 1:
        raise ValueError("hidden must have at least one layer size, got none.")
    likelihood = Bernoulli() if likelihood is None else likelihood
    encoder_key, decoder_key = jax.random.split(key)
    latent = (latent_size,)
    if missing_values:
        both = (2 * math.prod(x_shape),)
        encoder: Any = MaskedInput(_joint(both, latent, hidden, activation, key=encoder_key))
    else:
        encoder = _joint(x_shape, latent, hidden, activation, key=encoder_key)
    backwards = tuple(hidden)[::-1]
    if isinstance(likelihood, LearnedGaussian):
        network: Callable = _joint(latent, x_shape, backwards, activation, key=decoder_key)
    else:
        out_shape = tuple(x_shape)
        if isinstance(likelihood, Categorical) and not likelihood.is_one_hot(out_shape):
            out_shape = (*out_shape, likelihood.num_classes)
        network = MLP(latent, out_shape, backwards, activation=activation, key=decoder_key)
        if isinstance(likelihood, NegativeBinomial):
            network = DispersedCounts(network, jnp.zeros(out_shape))
    return encoder, Decoder(network, likelihood)


def _joint(
    in_shape: Sequence[int],
    out_shape: Sequence[int],
    hidden: Sequence[int],
    activation: Activation,
    *,
    key: PRNGKeyArray,
) -> JointGaussian:
    trunk_key, mean_key, sigma_key = jax.random.split(key, 3)
    *inner, width = hidden
    trunk = MLP(in_shape, (width,), inner, activation=activation, activate_last=True, key=trunk_key)
    return JointGaussian(
        trunk, MLP((width,), out_shape, key=mean_key), MLP((width,), out_shape, key=sigma_key)
    )
