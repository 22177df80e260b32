"""What is taken off features that float32 does not resolve, before a model sees them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.examples import Examples, feature_name
from hvax.models.likelihood import AbstractLikelihood, LearnedGaussian
from hvax.models.mixed import MixedLikelihood
from hvax.precision import origin_of_rows


def origin_for(likelihood: AbstractLikelihood, rows: NDArray[Any]) -> NDArray[np.float64] | None:
    """The constant that is subtracted of features float32 does not resolve; see `VAE.origin`."""
    found = origin_of_rows(rows)
    if found is not None and isinstance(likelihood, MixedLikelihood):
        real = np.zeros(found.shape, bool)
        for group in likelihood.groups:
            if isinstance(group.likelihood, LearnedGaussian):
                real[list(group.columns)] = True
        found = np.where(real & (rows.min(axis=0) <= 0), found, 0.0)
    return found


def taken_off(train: Examples) -> tuple[str, ...]:
    """A note of what is taken off features that float32 does not resolve."""
    if train.origin is None:
        return ()
    which = np.argwhere(train.origin != 0)
    means = [f"{feature_name(train, tuple(i))} {train.origin[*i]:.9g}" for i in which[:5].tolist()]
    more = f" and of {len(which) - 5} more" if len(which) > 5 else ""
    return (f"float32 does not resolve some columns: their means are taken off before, of "
            f"{', '.join(means)}{more}",)  # fmt: skip
