"""Placement: the only file that puts arrays on a device."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from hvax.batch import Batch


def place(tree: PyTree) -> PyTree:
    """All arrays of a tree on JAX's default device, in its current precision."""
    return jax.tree.map(jnp.asarray, tree)


def rows_of(data: Batch, which: Any) -> Batch:
    """Rows `which` of a data set on the device, as stored (not yet divided by the scale)."""
    return place(data.map(lambda part: part.rows(which)))


def model_rows_of(data: Batch, which: Any) -> Batch:
    """Rows `which` of a data set on the device, as a model takes them (scaled, less its origin)."""
    return place(data.map(lambda part: part.seen(which)))
