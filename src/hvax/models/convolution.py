"""The convolutional encoder and decoder of Caterini et al. (2018) for 28 x 28 images."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from hvax.checks import check_key, count
from hvax.models.banded_convolution import KERNEL, STRIDE, gather, padding, scatter
from hvax.models.data_point import check_shape
from hvax.models.decoder import Decoder
from hvax.models.heads import JointGaussian, SigmaHead
from hvax.models.likelihood import (
    AbstractLikelihood,
    Bernoulli,
    Categorical,
    LearnedGaussian,
    NegativeBinomial,
)
from hvax.models.network import MLP
from hvax.models.numerics import softplus

SIZE = 28


class Convolution(eqx.Module):
    """A 5 x 5 convolution of stride 2 with SAME padding, or its adjoint (`transposed`).

    Shapes are (height, width, channels); the adjoint doubles the sides (or takes 4 to 7).
    """

    weight: Float[Array, "5 5 c_in c_out"]
    bias: Float[Array, " c_out"]
    in_shape: tuple[int, int, int] = eqx.field(static=True)
    out_shape: tuple[int, int, int] = eqx.field(static=True)
    transposed: bool = eqx.field(static=True)

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, int, int],
        *,
        transposed: bool = False,
        key: PRNGKeyArray,
    ):
        self.weight = _initial_weight(
            (KERNEL, KERNEL, in_shape[-1], out_shape[-1]), in_shape, out_shape, key=key
        )
        self.bias = jnp.zeros(out_shape[-1])
        self.in_shape, self.out_shape, self.transposed = in_shape, out_shape, transposed

    def __call__(self, x: Float[Array, "h row"]) -> Float[Array, "h2 row2"]:
        """The convolution of an image given as rows, (height, width * channels)."""
        y = jax.lax.platform_dependent(
            x,
            self.weight,
            cpu=lambda x, weight: self._by_rows(x, weight),
            default=lambda x, weight: self._by_lax(x, weight),
        )
        # The bias per channel, repeated for every column of a row. As a matrix product, because XLA
        # fuses `jnp.tile` into the activation that follows, which then takes nine times as long.
        columns = np.tile(np.eye(self.bias.size, dtype=self.bias.dtype), (self.out_shape[1], 1))
        return y + (columns @ self.bias)[None]

    def _by_rows(self, x: Array, weight: Array) -> Array:
        if self.transposed:
            return scatter(x, weight[::-1, ::-1], self.out_shape[0])
        return gather(x, weight, self.out_shape[0])

    def _by_lax(self, x: Array, weight: Array) -> Array:
        # The adjoint of a stride-2 convolution is one of stride 1 on an input dilated by 2.
        before, after = padding(*sorted([self.in_shape[0], self.out_shape[0]]))
        pad = (before, after)
        if self.transposed:
            pad = (KERNEL - 1 - before, KERNEL - 1 - after)
        stride, dilation = (1, STRIDE) if self.transposed else (STRIDE, 1)
        y = jax.lax.conv_general_dilated(
            x.reshape(1, *self.in_shape),
            weight,
            window_strides=(stride, stride),
            padding=(pad, pad),
            lhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y.reshape(self.out_shape[0], -1)


class ConvolutionalTrunk(eqx.Module):
    """28 x 28 -> 16, 32, 32 channels with stride 2 -> 512 -> 450 features, softplus throughout."""

    convolutions: tuple[Convolution, ...]
    dense: MLP

    def __init__(self, *, key: PRNGKeyArray):
        *keys, dense_key = jax.random.split(key, 4)
        shapes = [(28, 28, 1), (14, 14, 16), (7, 7, 32), (4, 4, 32)]
        self.convolutions = tuple(
            Convolution(a, b, key=k) for a, b, k in zip(shapes, shapes[1:], keys, strict=False)
        )
        self.dense = _dense(512, 450, activate_last=True, key=dense_key)

    def __call__(self, x: Shaped[Array, "28 28"]) -> Float[Array, "450"]:
        check_shape(x, (SIZE, SIZE), name="the network's input")
        h = x.astype(self.dense.layers[0].weight.dtype)
        for convolution in self.convolutions:
            h = softplus(convolution(h))
        return self.dense(h.reshape(-1))


class ConvolutionalDecoder(eqx.Module):
    """z -> 450 -> 512 = 4 x 4 x 32 -> 7 x 7 x 32 -> 14 x 14 x 16 -> 28 x 28, softplus between."""

    dense: tuple[MLP, MLP]
    convolutions: tuple[Convolution, ...]

    def __init__(self, latent_size: int, *, output_bias: ArrayLike = 0.0, key: PRNGKeyArray):
        first, second, *keys = jax.random.split(key, 5)
        self.dense = (
            _dense(latent_size, 450, activate_last=True, key=first),
            _dense(450, 512, activate_last=True, key=second),
        )
        shapes = [(4, 4, 32), (7, 7, 32), (14, 14, 16), (28, 28, 1)]
        layers = [
            Convolution(a, b, transposed=True, key=k)
            for a, b, k in zip(shapes, shapes[1:], keys, strict=False)
        ]
        bias = jnp.broadcast_to(jnp.asarray(output_bias, dtype=float), (1,))
        layers[-1] = eqx.tree_at(lambda layer: layer.bias, layers[-1], bias)
        self.convolutions = tuple(layers)

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, "28 28"]:
        h = self.dense[1](self.dense[0](z)).reshape(4, 4 * 32)
        for convolution in self.convolutions[:-1]:
            h = softplus(convolution(h))
        return self.convolutions[-1](h)


def conv(
    latent_size: int = 64,
    *,
    likelihood: AbstractLikelihood | None = None,
    output_bias: ArrayLike = 0.0,
    key: PRNGKeyArray,
) -> tuple[JointGaussian, Decoder]:
    """The paper's convolutional encoder and decoder for 28 x 28 images, for `VAE(*conv(...))`.

    Weights are drawn from N(0, 1 / (n_in + n_out)) with n the sizes of the whole feature maps;
    biases are 0 except the last. sigma of q(z | x) is a softplus.

    **Arguments:**

    - `latent_size`: the dimension of z.
    - `likelihood`: one whose parameters are one array of x's shape; by default Bernoulli.
    - `output_bias`: the bias of the last layer; the paper uses the mean over images of
      logit(mean intensity).

    Raises `ValueError` for a likelihood with other parameters and for latent_size < 1. Caterini,
    Doucet and Sejdinovic (2018), supplement.
    """
    latent_size = count(latent_size, "latent_size")
    check_key(key)
    if isinstance(likelihood, LearnedGaussian | Categorical | NegativeBinomial):
        raise ValueError(
            "likelihood must have one parameter per pixel, such as Bernoulli, FixedGaussian or "
            f"Poisson, got {type(likelihood).__name__}."
        )
    trunk_key, mean_key, sigma_key, decoder_key = jax.random.split(key, 4)
    encoder = JointGaussian(
        ConvolutionalTrunk(key=trunk_key),
        _dense(450, latent_size, key=mean_key),
        SigmaHead(_dense(450, latent_size, key=sigma_key), form="softplus"),
    )
    network = ConvolutionalDecoder(latent_size, output_bias=output_bias, key=decoder_key)
    return encoder, Decoder(network, Bernoulli() if likelihood is None else likelihood)


def _dense(n_in: int, n_out: int, *, activate_last: bool = False, key: PRNGKeyArray) -> MLP:
    """One dense layer with the paper's initialization."""
    shape_key, weight_key = jax.random.split(key)
    layer = MLP((n_in,), (n_out,), activate_last=activate_last, key=shape_key)
    weight = _initial_weight((n_out, n_in), (n_in,), (n_out,), key=weight_key)
    return eqx.tree_at(
        lambda m: (m.layers[0].weight, m.layers[0].bias), layer, (weight, jnp.zeros(n_out))
    )


def _initial_weight(
    shape: tuple[int, ...], in_shape: Sequence[int], out_shape: Sequence[int], *, key: PRNGKeyArray
) -> Array:
    scale = (math.prod(in_shape) + math.prod(out_shape)) ** -0.5
    return scale * jax.random.normal(key, shape)
