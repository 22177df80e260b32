"""The mask of a data set with missing values."""

import numpy as np

from hvax.batch import Batch

_CHECKED_ROWS = 4096  # checked at a time, since data may be larger than memory


def with_mask(parts: Batch, name: str = "data") -> Batch:
    """The same data set with the mask of its missing values, if x has any.

    Raises `ValueError` for NaN elsewhere than in x (or where its mask says observed), and for a
    mask of another shape or dtype than booleans of x's shape.
    """
    for field in ("target", "condition"):
        part = getattr(parts, field)
        if part is not None and part.holes:
            raise ValueError(
                f"{name} must have missing values in x alone, got NaN in its {field}. Give the "
                "Batch a mask (booleans, True where an entry is observed) and any number there."
            )
    mask = parts.mask
    if mask is None:
        if not parts.x.holes:
            return parts
        if parts.target is not None:
            raise ValueError(
                f"{name} must have no missing values in x if it has a target, got NaN. Give one "
                "array, whose observed entries are both encoded and scored."
            )
        return parts._replace(mask=parts.x.observed())
    if mask.is_mask:
        return parts
    shapes = {parts.x.x_shape, parts.scored.x_shape, mask.x_shape}
    if len(shapes) > 1 or mask.stored.dtype != np.bool_:
        raise ValueError(
            f"the mask of {name} must be booleans of the shape of x (and target), True where an "
            f"entry is observed, got {mask.stored.dtype} of shape {mask.x_shape} for examples of "
            f"shape {parts.scored.x_shape}."
        )
    if parts.x.holes:
        for start in range(0, len(mask), _CHECKED_ROWS):
            some = slice(start, start + _CHECKED_ROWS)
            lost = mask.rows(some) & ~parts.x.observed().rows(some)
            if lost.any():
                row, *rest = (int(i) for i in np.argwhere(lost)[0])
                raise ValueError(
                    f"x of {name} must have a number wherever its mask is True, got NaN at index "
                    f"{(start + row, *rest)}."
                )
    return parts
