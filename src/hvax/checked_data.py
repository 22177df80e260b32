"""Data sets of users, checked against a model before anything is compiled."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.data.examples import as_data, feature_name, scored_rows
from hvax.exceptions import UnresolvedFeature, warn
from hvax.models.latent_model import AbstractLatentModel, check_model, check_takes
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
    check_model(model)

    def check(x: NDArray[Any], *mask: NDArray[np.bool_]) -> None:
        check_takes(model, ["mask"] if mask else [])
        model.decoder.likelihood.check(x, *mask)

    checked = as_data(data, name, check=check, origin=origin_of(model))
    check_takes(model, checked.given())
    return checked


def checked_training_data(
    model: AbstractLatentModel, data: Any, validation: Any
) -> tuple[Batch, Batch | None]:
    """`checked_data` of training and validation data, whose examples must have the same shapes.

    Raises `ValueError` for a feature that no training example has.
    """
    parts = checked_data(model, data, "data")
    _check_each_feature_observed(parts)
    if validation is None:
        return parts, None
    held_out = checked_data(model, validation, "validation")
    here, there = (
        data._replace(mask=None).map(lambda part: part.x_shape) for data in (held_out, parts)
    )
    if here != there:
        raise ValueError(
            f"validation must have examples of the shape of data, {_shapes(there)}, got "
            f"{_shapes(here)}."
        )
    return parts, held_out


def _check_each_feature_observed(parts: Batch) -> None:
    if parts.mask is None:
        return
    seen = np.zeros(parts.mask.x_shape, bool)
    for start in range(0, len(parts.mask), _MAX_ROWS):
        seen |= parts.mask.rows(slice(start, start + _MAX_ROWS)).any(axis=0)
    lost = np.argwhere(~seen)
    if len(lost):
        named = ", ".join(feature_name(parts.x, tuple(index)) for index in lost[:_NAMED].tolist())
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        raise ValueError(
            f"each feature of data must be observed in some example, got only missing values of "
            f"{named}{more}. Leave such features out."
        )


def describe_missing(parts: Batch) -> str | None:
    """How much of a data set is missing, in words; None if nothing is."""
    if parts.mask is None:
        return None
    missing = empty = rows = 0
    for start in range(0, len(parts.mask), _MAX_ROWS):
        mask = parts.mask.rows(slice(start, start + _MAX_ROWS))
        flat = ~mask.reshape(len(mask), -1)
        missing += int(flat.sum())
        rows += int(flat.any(axis=1).sum())
        empty += int(flat.all(axis=1).sum())
    if not missing:
        return None
    share = missing / (len(parts.mask) * max(1, int(np.prod(parts.mask.x_shape))))
    said = f"{share:.1%} of the values are missing, in {rows} of {len(parts.mask)} examples"
    return said if not empty else f"{said}, {empty} of which have none (their bound is 0)"


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
