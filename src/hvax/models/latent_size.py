"""The dimension of a model's latent vector, told from its networks' shapes."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from hvax.models.latent_model import AbstractLatentModel


def find_latent_size(model: AbstractLatentModel) -> int:
    """The one d for which the decoder takes a z of shape (d,).

    Nothing is computed: the sizes of the model's arrays are tried on shapes alone. Where the
    decoder takes several, the encoder decides, if it gives a posterior over (d,) for an x of the
    shape that is decoded. Raises `ValueError` where that leaves none or more than one.
    """
    found = [d for d in _sizes(model) if _decoded(model, d) is not None]
    if len(found) > 1:
        found = [d for d in found if _encoded(model, d) == (d,)]
    if len(found) != 1:
        raise ValueError(
            "the model's networks do not tell the dimension of z: give it as latent_size=..."
        )
    return found[0]


def _sizes(model: AbstractLatentModel) -> list[int]:
    """The lengths of the axes of a model's arrays: that of z is among them, and few others."""
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
    """Of a function's array; None where the function does not take the value."""
    try:
        return jax.eval_shape(function, value)
    except Exception:  # whatever a user's network raises for a shape that it does not take
        return None
