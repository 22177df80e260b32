"""The rows of a data set, batch by batch, for functions of whole data sets."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.checked_data import checked_data_with_warnings
from hvax.checks import check_key, check_kind
from hvax.data.batches import padded_batches
from hvax.devices import model_rows_of
from hvax.models.latent_model import AbstractLatentModel
from hvax.progress import progress_bar

BATCH = 256
"""Rows of one compiled call."""

_QUICK = 1.0  # seconds that need no progress bar


def key_or_default(key: PRNGKeyArray | None) -> PRNGKeyArray:
    """A key of the user's, checked, or `jax.random.key(0)` where there is none."""
    if key is None:
        return jax.random.key(0)
    check_key(key)
    return key


def checked_parts(model: AbstractLatentModel, data: Any) -> Batch:
    """A data set, checked before anything is compiled."""
    check_kind(model, "model", AbstractLatentModel)
    parts = checked_data_with_warnings(model, data)
    first = parts.x.seen(slice(0, 1))
    row, whole = (
        jax.ShapeDtypeStruct(shape, jnp.asarray(first).dtype)
        for shape in (first.shape[1:], (len(parts.x), *first.shape[1:]))
    )
    try:
        if parts.condition is None:
            eqx.filter_eval_shape(model.posterior, row)
    except ValueError as error:
        if _takes(model, whole):
            raise ValueError(
                f"data must have the batch axis first, got one example of shape {whole.shape}. "
                "Give x[None]."
            ) from error
        raise
    return parts


def _takes(model: AbstractLatentModel, x: jax.ShapeDtypeStruct) -> bool:
    try:
        eqx.filter_eval_shape(model.posterior, x)
    except Exception:  # whatever a user's encoder raises for another shape
        return False
    return True


def failed_points(array: NDArray[Any]) -> str | None:
    """How many points have numbers that are not finite, and the first of them."""
    wrong = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
    if len(wrong) == 0:
        return None
    first = ", ".join(map(str, wrong[:10])) + (", ..." if len(wrong) > 10 else "")
    return f"{len(wrong)} of {len(array)} points ({first})"


def in_batches(
    data: Batch, progress: bool, title: str, size: int = BATCH
) -> Iterator[tuple[Int[Array, " rows"], NDArray[np.bool_], Batch]]:
    """(indices, mask, rows of each part), padded, with a progress bar."""
    n = len(data.x)
    with progress_bar(progress=progress, total=n, unit="point", desc=title, delay=_QUICK) as bar:
        for indices, mask in padded_batches(n, min(size, n)):
            yield jnp.asarray(indices, jnp.int32), mask, model_rows_of(data, indices)
            bar.update(int(mask.sum()))
