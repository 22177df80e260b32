"""Step sizes that change along a bridge, and what every step size must satisfy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hvax.parameters import AbstractParameter, as_parameter


class AffineStepSize(eqx.Module):
    """A step size that depends on the bridging weight: at_start + b_k (at_end - at_start).

    Both ends are > 0, of shape `()` or `(d,)`; plain numbers are held fixed. Between positive ends
    it cannot leave their range. Geffner and Domke (2021), section 5.
    """

    at_start: AbstractParameter
    at_end: AbstractParameter

    def __init__(
        self, at_start: AbstractParameter | ArrayLike, at_end: AbstractParameter | ArrayLike
    ):
        self.at_start = as_parameter(at_start, "at_start")
        self.at_end = as_parameter(at_end, "at_end")
        for name, end in (("at_start", self.at_start), ("at_end", self.at_end)):
            if end.value.ndim > 1:
                raise ValueError(f"{name} must have shape () or (d,), got {end.value.shape}.")
            check_positive(end.value, name)

    def along(self, b: Float[Array, " K"]) -> Float[Array, "K width"]:
        """One row per transition, of one number or d."""
        start, end = (jnp.atleast_2d(end.value) for end in (self.at_start, self.at_end))
        return start + b[:, None] * (end - start)


def check_positive(value: Float[Array, "..."], name: str) -> None:
    """Refuses numbers that are not finite and > 0; traced ones pass."""
    if isinstance(value, jax.core.Tracer):
        return
    if not np.all(np.isfinite(value) & (np.asarray(value) > 0)):
        raise ValueError(f"{name} must be finite and > 0, got {value}.")
