"""The networks of a VAE for prepared data: their sizes, and where they start."""

import math
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from hvax.checks import check_one_of
from hvax.models.convolution import conv
from hvax.models.hvae import without_flow
from hvax.models.latent_model import AbstractLatentModel
from hvax.models.likelihood import Bernoulli, FixedGaussian, Poisson
from hvax.models.mixed import MixedLikelihood
from hvax.models.network import mlp
from hvax.models.vae import VAE
from hvax.pipeline.parts import Parts
from hvax.training.marginals import spaced_rows
from hvax.training.mixed import mixed_mlp
from hvax.training.prepare import prepared_vae
from hvax.wording import kind_of, named, words

Network = Literal["mlp", "conv"]

_LARGE = 1000  # training examples from which on the networks are wide


class Sizes(NamedTuple):
    """Of the networks of a VAE."""

    hidden: tuple[int, ...]  # of the mlp encoder, which the decoder mirrors
    latent_size: int


def sizes_for(
    parts: Parts, *, hidden: tuple[int, ...] | None = None, latent_size: int | None = None
) -> Sizes:
    """The sizes that are given, and for the others those that suit the data: 400 hidden units, or
    100 for fewer than 1,000 training examples; 20 latent dimensions, or half the features of an
    example where those are fewer."""
    features = math.prod(parts.train.x_shape)
    default = (400,) if len(parts.train) >= _LARGE else (100,)
    return Sizes(
        default if hidden is None else hidden,
        min(20, max(2, -(-features // 2))) if latent_size is None else latent_size,
    )


def build_vae(parts: Parts, sizes: Sizes, *, network: Network = "mlp", key: PRNGKeyArray) -> VAE:
    """A VAE for prepared data, of networks that have not been trained; in the units of the data
    where they were prepared so. Raises `ValueError` for another `network`, and for data that it
    does not suit."""
    check_one_of(network, named("network"), get_args(Network))
    x_shape = parts.train.x_shape
    if isinstance(parts.likelihood, MixedLikelihood):
        return mixed_vae(parts, sizes, network=network, key=key)
    if network == "conv":
        if x_shape != (28, 28) or not isinstance(
            parts.likelihood, Bernoulli | FixedGaussian | Poisson
        ):
            other = words("network='mlp'", "--network mlp")
            raise ValueError(
                "network conv is for 28 x 28 images with the likelihood bernoulli, fixed-gaussian "
                f"or poisson, got examples of shape {x_shape}; use "
                f"{other}."
            )
        if parts.train.holes:
            raise ValueError(
                "network conv takes no missing values, got NaN in the data. Use "
                + words("network='mlp'.", "--network mlp.")
            )
        encoder: Any
        encoder, decoder = conv(sizes.latent_size, likelihood=parts.likelihood, key=key)
    else:
        encoder, decoder = mlp(
            x_shape,
            sizes.latent_size,
            hidden=sizes.hidden,
            likelihood=parts.likelihood,
            missing_values=parts.train.holes,
            key=key,
        )
    vae = VAE(encoder, decoder, origin=parts.train.origin)
    if not parts.standardized:
        return vae
    return prepared_vae(vae, parts.independent, spaced_rows(parts.train))


def mixed_vae(parts: Parts, sizes: Sizes, *, network: Network, key: PRNGKeyArray) -> VAE:
    """A VAE for a table with columns of several kinds, in the units of its training rows.

    Raises `ValueError` for another network than mlp, and for networks outside the data's units.
    """
    if network != "mlp" or not parts.standardized:
        raise ValueError(
            "a table with columns of several kinds needs "
            + words("network='mlp' and standardize=True.", "--network mlp and --standardize.")
        )
    found = parts.independent
    assert isinstance(found.likelihood, MixedLikelihood)
    return VAE(
        *mixed_mlp(
            found,
            spaced_rows(parts.train),
            sizes.latent_size,
            hidden=sizes.hidden,
            missing_values=parts.train.holes,
            key=key,
        ),
        origin=parts.train.origin,
    )


def networks_of(model: AbstractLatentModel, vae: VAE, told: str) -> VAE:
    """The VAE inside a trained model, to start from in the place of `vae`.

    `told` is what an error calls the model. Raises `ValueError` where its networks have other sizes
    than those of `vae`.
    """
    found = without_flow(model)
    if not isinstance(found, VAE):
        raise ValueError(f"{told} must hold a VAE or an HVAE, got {kind_of(found)}.")
    here, there = _shapes(vae), _shapes(found)
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            raise ValueError(
                f"{told} holds other networks than the options describe: {name} is "
                f"{there.get(name, 'not there')}, here {here.get(name, 'not there')}. Give the "
                + words(
                    "`network`, `hidden`, `latent_size` and likelihood that it was trained with.",
                    "--network, --hidden, --latent-size and --likelihood that it was trained with.",
                )
            )
    return found


def _shapes(model: VAE) -> dict[str, tuple[int, ...]]:
    arrays = jax.tree_util.tree_leaves_with_path(eqx.filter(model, eqx.is_array))
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in arrays}
