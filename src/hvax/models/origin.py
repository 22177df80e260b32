"""Between the data's numbers and a model's: what a model takes off before float32 would round.

Functions of whole data sets (`fit`, `evaluate`, `encode`, `reconstruct`, `decode`, `sample`, ...)
take and give the data's numbers; those of one example take and give the model's. The two are the
same but for a model of features that float32 does not resolve, such as POSIX seconds.
"""

from typing import Any

import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from hvax.models.latent_model import AbstractLatentModel


def origin_of(model: AbstractLatentModel) -> NDArray[np.float64] | None:
    """What `model` takes off every example, exactly; None for nothing."""
    origin = getattr(model, "origin", None)  # which a model of the user's own need not have
    return None if origin is None else np.asarray(origin.value, np.float64).sum(axis=0)


def to_model(model: AbstractLatentModel, x: ArrayLike) -> NDArray[Any]:
    """Examples of the data as the model takes them; batch axes first."""
    origin, x = origin_of(model), np.asarray(x)
    return x if origin is None else x - origin


def to_data(model: AbstractLatentModel, x: ArrayLike) -> NDArray[Any]:
    """Examples of the model as the data have them, in float64 where float32 would round."""
    origin, x = origin_of(model), np.asarray(x)
    return x if origin is None else x.astype(np.float64) + origin
