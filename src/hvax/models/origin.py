"""A model's origin: the constant subtracted from data in float64, before float32 would round.

Functions of whole data sets (`fit`, `evaluate`, `encode`, `reconstruct`, `decode`, `sample`, ...)
take and return raw data x; a model's methods, which take one example, use x - origin. Only models
of features that float32 cannot resolve, such as POSIX seconds, have an origin.
"""

from typing import Any

import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from hvax.models.latent_model import AbstractLatentModel


def origin_of(model: AbstractLatentModel) -> NDArray[np.float64] | None:
    """The constant that `model` subtracts from every example, in float64; None if it has none."""
    origin = getattr(model, "origin", None)  # a user's own model need not have the attribute
    return None if origin is None else np.asarray(origin.value, np.float64).sum(axis=0)


def to_model(model: AbstractLatentModel, x: ArrayLike) -> NDArray[Any]:
    """Raw examples (batch axes first) -> the examples that the model takes, x - origin."""
    origin, x = origin_of(model), np.asarray(x)
    return x if origin is None else x - origin


def to_data(model: AbstractLatentModel, x: ArrayLike) -> NDArray[Any]:
    """The model's examples (batch axes first) -> raw data, x + origin, in float64 if it has one."""
    origin, x = origin_of(model), np.asarray(x)
    return x if origin is None else x.astype(np.float64) + origin
