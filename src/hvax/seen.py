"""A data set as a model sees it."""

from typing import Any

import numpy as np

from hvax.batch import Batch
from hvax.checks import check_kind
from hvax.data.examples import as_data, feature_name
from hvax.exceptions import UnresolvedFeature, warn
from hvax.models.latent_model import AbstractLatentModel
from hvax.models.origin import origin_of
from hvax.precision import unresolved
from hvax.wording import words

_NAMED = 5  # features that a warning names
_LOOKED_AT = 20_000  # rows, at most


def seen_by(model: AbstractLatentModel, data: Any, name: str = "data") -> Batch:
    """A data set, checked, less the model's origin. Raises as `as_data` does; warns
    (`UnresolvedFeature`) where float32 does not tell a feature's values apart."""
    parts = checked_data(model, data, name)
    warn_of_unresolved(parts, name)
    return parts


def checked_data(model: AbstractLatentModel, data: Any, name: str) -> Batch:
    """`seen_by` without its warning, for a model that may yet be given an origin."""
    check_kind(model, "model", AbstractLatentModel)
    check = model.decoder.likelihood.check
    return as_data(data, name, check=check, origin=origin_of(model))


def warn_of_unresolved(parts: Batch, name: str) -> None:
    """Warns of features whose values are lost in float32, by their names."""
    for part in filter(None, (parts.x, parts.target)):
        lost = np.argwhere(unresolved(part.spaced(_LOOKED_AT)))
        if len(lost) == 0:
            continue
        named = ", ".join(feature_name(part, tuple(index)) for index in lost[:_NAMED].tolist())
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        warn(
            UnresolvedFeature,
            f"float32 does not tell the values of {named}{more} in {name} apart: they vary by too "
            "little, so far from 0, and numbers of them are wrong. "
            + words(
                "Take a constant off such features first, in float64 (hvax.prepare does so for "
                "Gaussians), or compute in float64 (jax_enable_x64).",
                "Train with --x64, or without --no-standardize.",
            ),
        )
