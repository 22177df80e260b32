"""One data point: its type, its shape, and the entries that a mask hides."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

Data = Shaped[Array, "..."]
"""One data point: floats, integers or booleans."""

Mask = Bool[Array, "..."] | None
"""Of x's shape, True where x is observed; None means everywhere."""


class ShapeMismatch(ValueError):
    """The shape of a data point differs from that of the decoder's output."""


def filled(x: Data, mask: Mask, dtype: Any = None) -> Data:
    """x (as `dtype`, if given) with 0, which is in every family's support, where it is hidden."""
    x = x if dtype is None else x.astype(dtype)
    return x if mask is None else jnp.where(mask, x, jnp.zeros((), x.dtype))


def sum_observed(log_p: Float[Array, "..."], mask: Mask) -> Float[Array, ""]:
    """The sum of log-densities, of features with a mask over the observed ones."""
    # Of finite numbers alone: x was filled in before, so that no NaN reaches a gradient.
    return jnp.sum(log_p if mask is None else jnp.where(mask, log_p, 0.0))


def check_shape(x: Array, expected: tuple[int, ...], *, name: str = "x") -> None:
    """Raise `ShapeMismatch` unless x has the expected shape; for a batch it says to use vmap."""
    if x.shape == expected:
        return
    message = f"{name} must have shape {expected}, got {x.shape}."
    if x.shape[1:] == expected:
        message += " " + batch_advice()
    raise ShapeMismatch(message)


def batch_advice() -> str:
    """Advice on calling a function of one example with a batch."""
    return (
        "This function takes one example; for a batch write\n"
        "    keys = jax.random.split(key, len(x))\n"
        "    jax.vmap(lambda x, key: f(x, key=key))(x, keys)"
    )


def check_range(
    x: np.ndarray,
    family: str,
    wanted: str,
    valid: np.ndarray,
    advice: str = "",
    mask: np.ndarray | None = None,
) -> None:
    if mask is not None:
        valid = valid | ~mask
    if not np.all(valid):
        where = tuple(int(i) for i in np.argwhere(~valid)[0])
        message = f"data of {family} must be {wanted}, got {x[where]!s} at index {where}. {advice}"
        raise ValueError(message.rstrip())
