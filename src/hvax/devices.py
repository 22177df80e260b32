"""Where arrays are computed on: the one place that puts them on a device."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from hvax.batch import Batch


def place(tree: PyTree) -> PyTree:
    """Arrays on the device that computes, in the precision that JAX is set to."""
    return jax.tree.map(jnp.asarray, tree)


def rows_of(data: Batch, which: Any) -> Batch:
    """Some rows of a data set as they are stored, on the device."""
    return place(data.map(lambda part: part.rows(which)))


def seen_rows_of(data: Batch, which: Any) -> Batch:
    """Some rows of a data set as a model sees them, on the device."""
    return place(data.map(lambda part: part.seen(which)))
