"""The rows of a data set, batch by batch, for functions of whole data sets."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree
from numpy.typing import NDArray

from hvax.checks import check_key
from hvax.data.batches import padded_batches
from hvax.data.examples import Examples
from hvax.models.hvae import plain_vae
from hvax.progress import progress_bar
from hvax.seen import seen_by

BATCH = 256
"""Rows of one compiled call."""

_QUICK = 1.0  # seconds that need no progress bar


def or_first_key(key: PRNGKeyArray | None) -> PRNGKeyArray:
    """A key of the user's, checked, or `jax.random.key(0)` where there is none."""
    if key is None:
        return jax.random.key(0)
    check_key(key)
    return key


def checked_parts(model: PyTree, data: Any) -> tuple[Examples, ...]:
    """(x,) or (x_in, x_out), checked before anything is compiled."""
    vae = plain_vae(model)
    parts = seen_by(model, data)
    first = parts[0].seen(slice(0, 1))
    row, whole = (
        jax.ShapeDtypeStruct(shape, jnp.asarray(first).dtype)
        for shape in (first.shape[1:], (len(parts[0]), *first.shape[1:]))
    )
    try:
        jax.eval_shape(vae.posterior, row)
    except ValueError as error:
        if _takes(vae, whole):
            raise ValueError(
                f"data must have the batch axis first, got one example of shape {whole.shape}. "
                "Give x[None]."
            ) from error
        raise
    return parts


def _takes(vae: PyTree, x: jax.ShapeDtypeStruct) -> bool:
    try:
        jax.eval_shape(vae.posterior, x)
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
    parts: Sequence[Examples], progress: bool, title: str, size: int = BATCH
) -> Iterator[tuple[Int[Array, " rows"], NDArray[np.bool_], tuple[Array, ...]]]:
    """(indices, mask, rows of each part), padded, with a progress bar."""
    n = len(parts[0])
    with progress_bar(progress=progress, total=n, unit="point", desc=title, delay=_QUICK) as bar:
        for indices, mask in padded_batches(n, min(size, n)):
            batch = tuple(jnp.asarray(part.seen(indices)) for part in parts)
            yield jnp.asarray(indices, jnp.int32), mask, batch
            bar.update(int(mask.sum()))
