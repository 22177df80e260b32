"""Data sets of users, checked against a model before anything is compiled."""

from typing import Any

import numpy as np

from hvax.batch import Batch
from hvax.checks import check_kind
from hvax.data.examples import as_data, feature_name, scored_rows
from hvax.exceptions import UnresolvedFeature, warn
from hvax.models.latent_model import AbstractLatentModel, check_takes
from hvax.models.origin import origin_of
from hvax.precision import unresolved
from hvax.wording import words

_NAMED = 5  # features named in a warning
_MAX_ROWS = 20_000  # rows that are tested for resolution


def checked_data_with_warnings(model: AbstractLatentModel, data: Any, name: str = "data") -> Batch:
    """A data set as a `Batch` of `Examples`, checked, with the model's origin subtracted.

    Raises what `as_data` raises. Warns (`UnresolvedFeature`) where float32 cannot tell a feature's
    values apart.
    """
    parts = checked_data(model, data, name)
    warn_of_unresolved(parts, name)
    return parts


def checked_data(model: AbstractLatentModel, data: Any, name: str) -> Batch:
    """`checked_data_with_warnings` without the warning: `fit` may yet give the model an origin."""
    check_kind(model, "model", AbstractLatentModel)
    check = model.decoder.likelihood.check
    checked = as_data(data, name, check=check, origin=origin_of(model))
    check_takes(model, checked.given())
    return checked


def checked_training_data(
    model: AbstractLatentModel, data: Any, validation: Any
) -> tuple[Batch, Batch | None]:
    """`checked_data` of training and validation data, whose examples must have the same shapes."""
    parts = checked_data(model, data, "data")
    if validation is None:
        return parts, None
    held_out = checked_data(model, validation, "validation")
    here, there = (data.map(lambda part: part.x_shape) for data in (held_out, parts))
    if here != there:
        raise ValueError(
            f"validation must have examples of the shape of data, {_shapes(there)}, got "
            f"{_shapes(here)}."
        )
    return parts, held_out


def _shapes(shapes: Batch) -> str:
    """The shape of x if nothing else is given, else all shapes by name."""
    given = {name: shape for name, shape in shapes._asdict().items() if shape is not None}
    return str(shapes.x) if len(given) == 1 else str(given)


def warn_of_unresolved(parts: Batch, name: str) -> None:
    """Warn (`UnresolvedFeature`) of features whose values float32 cannot tell apart."""
    for part in filter(None, (parts.x, parts.target)):
        rows = scored_rows(Batch(part, mask=parts.mask), _MAX_ROWS)
        lost = np.argwhere(unresolved(rows))
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
