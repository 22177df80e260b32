"""Inference of the latent dimension from the shapes that a model's networks accept."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from hvax.models.latent_model import AbstractLatentModel


def find_latent_size(model: AbstractLatentModel) -> int:
    """The dimension d for which the decoder accepts a z of shape (d,).

    The axis lengths of all arrays in the model are tried with `jax.eval_shape`, so nothing is
    computed. If the decoder accepts several, the one is taken for which the encoder returns a
    posterior over (d,) from what is decoded. Raises `ValueError` if that leaves none or several.
    """
    found = [d for d in _sizes(model) if _decoded(model, d) is not None]
    if len(found) > 1:
        found = [d for d in found if _encoded(model, d) == (d,)]
    if len(found) != 1:
        raise ValueError(
            "the model's networks must determine the dimension of z, got "
            f"{'several candidates' if found else 'none'}. Give it as latent_size=..."
        )
    return found[0]


def _sizes(model: AbstractLatentModel) -> list[int]:
    """The axis lengths of all arrays in a model: the candidates for d."""
    arrays = jax.tree.leaves(eqx.filter(model, eqx.is_array))
    return sorted({size for array in arrays for size in array.shape if size > 0})


def _decoded(model: AbstractLatentModel, d: int) -> jax.ShapeDtypeStruct | None:
    """Shape and dtype of E[x | z] for z of shape (d,)."""
    z = jax.ShapeDtypeStruct((d,), jnp.zeros(()).dtype)
    return _shape_of(lambda z: model.decoder.likelihood.mean(model.decoder(z)), z)


def _encoded(model: AbstractLatentModel, d: int) -> tuple[int, ...] | None:
    """The shape of the posterior's mean for what is decoded from z of shape (d,)."""
    x = _decoded(model, d)
    mean = None if x is None else _shape_of(lambda x: model.posterior(x).mean, x)
    return None if mean is None else mean.shape


def _shape_of(function: Callable[[Any], Any], value: Any) -> jax.ShapeDtypeStruct | None:
    """Shape and dtype of `function(value)`; None if the function raises."""
    try:
        return jax.eval_shape(function, value)
    except Exception:  # a user's network may raise anything for a wrong shape
        return None
