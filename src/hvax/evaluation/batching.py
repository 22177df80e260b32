"""Padded batches of a data set, for functions of whole data sets."""

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
from hvax.checks import check_key
from hvax.data.batches import padded_batches
from hvax.devices import model_rows_of
from hvax.models.latent_model import AbstractLatentModel, check_model
from hvax.progress import progress_bar

BATCH = 256
"""Rows of one compiled call."""

_QUICK = 1.0  # seconds: shorter work shows no progress bar


def key_or_default(key: PRNGKeyArray | None) -> PRNGKeyArray:
    """`key`, checked, or `jax.random.key(0)` for None."""
    if key is None:
        return jax.random.key(0)
    check_key(key)
    return key


def checked_parts(model: AbstractLatentModel, data: Any) -> Batch:
    """A data set as a checked `Batch` of `Examples`. Warns and raises before compiling anything."""
    check_model(model)
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
        if _accepts(model, whole):
            raise ValueError(
                f"data must have the batch axis first, got one example of shape {whole.shape}. "
                "Give x[None]."
            ) from error
        raise
    return parts


def _accepts(model: AbstractLatentModel, x: jax.ShapeDtypeStruct) -> bool:
    try:
        eqx.filter_eval_shape(model.posterior, x)
    except Exception:  # a user's encoder may raise anything for a wrong shape
        return False
    return True


def failed_points(array: NDArray[Any]) -> str | None:
    """In words how many points of an array are not finite, and the first ten; None for none."""
    wrong = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
    if len(wrong) == 0:
        return None
    first = ", ".join(map(str, wrong[:10])) + (", ..." if len(wrong) > 10 else "")
    return f"{len(wrong)} of {len(array)} points ({first})"


def in_batches(
    data: Batch, progress: bool, title: str, size: int = BATCH, *, whole: bool = False
) -> Iterator[tuple[Int[Array, " rows"], NDArray[np.bool_], Batch]]:
    """Iterate over (indices, mask, rows on the device), padded to one size, with a progress bar.

    The size is `size`, or the number of rows if that is smaller; with `whole` always `size`.
    """
    n = len(data.x)
    with progress_bar(progress=progress, total=n, unit="point", desc=title, delay=_QUICK) as bar:
        for indices, mask in padded_batches(n, size if whole else min(size, n)):
            yield jnp.asarray(indices, jnp.int32), mask, model_rows_of(data, indices)
            bar.update(int(mask.sum()))
