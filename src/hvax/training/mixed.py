"""Networks for a table with columns of several kinds, in the units of its training rows."""

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.models.decoder import Decoder
from hvax.models.heads import JointGaussian
from hvax.models.likelihood import AbstractLikelihood, Bernoulli, NegativeBinomial
from hvax.models.mixed import CategoryColumns, MixedLikelihood
from hvax.models.mixed_networks import MixedInput, mixed_heads, num_features
from hvax.models.network import MLP
from hvax.models.numerics import softplus
from hvax.models.standardize import ScaledOutput, StandardizedLikelihood
from hvax.parameters import Fixed
from hvax.training.marginals import Marginals
from hvax.training.units import real_units


def mixed_mlp(
    found: Marginals,
    x: NDArray[np.float64],
    latent_size: int,
    *,
    hidden: tuple[int, ...] = (100,),
    missing_values: bool = False,
    key: PRNGKeyArray,
) -> tuple[MixedInput, Decoder]:
    """An encoder and a decoder of dense layers for rows x (n, d) of a table, NaN where missing.

    `found` are the marginals of its `MixedLikelihood`, where the decoder starts; with
    `missing_values` the encoder takes the mask of a row beside it.
    """
    likelihood = found.likelihood
    assert isinstance(likelihood, MixedLikelihood)
    keys = jax.random.split(key, 5)
    *inner, width = hidden
    features = num_features(likelihood, takes_mask=missing_values)
    trunk = MLP((features,), (width,), inner, activation=softplus, activate_last=True, key=keys[0])
    posterior = JointGaussian(
        trunk,
        MLP((width,), (latent_size,), key=keys[1]),
        MLP((width,), (latent_size,), key=keys[2]),
    )
    units = [_units(group.likelihood, group.of(x)) for group in likelihood.groups]
    shift, scale = (tuple(Fixed(each[i]) for each in units) for i in (0, 1))
    encoder = MixedInput(posterior, likelihood, shift, scale, missing_values)
    *inner, width = tuple(hidden)[::-1]
    trunk = MLP(
        (latent_size,), (width,), inner, activation=softplus, activate_last=True, key=keys[3]
    )
    network = mixed_heads(likelihood, width, trunk, key=keys[4])
    offset, gain = (
        tuple(Fixed(leaf) for leaf in jax.tree.leaves(tree)) for tree in (found.output, found.gain)
    )
    return encoder, Decoder(ScaledOutput(network, offset, gain), likelihood)


def _units(
    likelihood: AbstractLikelihood, x: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shift and scale of a group's columns as features of the encoder."""
    if isinstance(likelihood, StandardizedLikelihood):
        shift, scale = likelihood.shift.value, likelihood.scale.value
        return np.asarray(shift, np.float64), np.asarray(scale, np.float64)
    zeros = np.zeros(x.shape[1])
    if isinstance(likelihood, CategoryColumns):
        return zeros, zeros + 1
    if isinstance(likelihood, NegativeBinomial):
        units = real_units(np.log1p(x), "none")
        return units.shift, units.scale
    assert isinstance(likelihood, Bernoulli)
    return np.nanmean(x, axis=0), zeros + 1
