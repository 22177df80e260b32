"""The refreshment of the momentum: how much of it stays, the rest fresh noise."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hvax.parameters import AbstractParameter, Fixed, Learned, as_parameter


def refresh(
    eta: Float[Array, ""],
    rho: Float[Array, " d"],
    xi: Float[Array, " d"],
    beta: Float[Array, ""],
) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """rho' = eta rho + sqrt(1 - eta^2) xi / sqrt(beta), and log N(rho) - log N(rho').

    N is the normal of variance 1 / beta, which the refreshment leaves as it is.
    """
    # At eta = 1, where a learned one may round to, the root has no derivative.
    room = jnp.where(eta < 1, 1 - eta**2, 1.0)
    spread = jnp.where(eta < 1, jnp.sqrt(room), 0.0)
    fresh = eta * rho + spread * xi / jnp.sqrt(beta)
    return fresh, 0.5 * beta * (fresh @ fresh - rho @ rho)


def as_eta(eta: AbstractParameter | ArrayLike) -> AbstractParameter | None:
    """eta as a parameter in [0, 1]; None where it is held at 1, and nothing is refreshed."""
    if isinstance(eta, int | float) and eta == 1:
        return None  # known under a trace too, where the array of it is not
    parameter = as_parameter(eta, "eta")
    if parameter.value.shape != ():
        raise ValueError(f"eta must be one number, got shape {parameter.value.shape}.")
    if isinstance(parameter, Learned) and parameter.upper > 1:
        raise ValueError(f"a learned eta needs upper <= 1, got upper={parameter.upper}.")
    if isinstance(parameter.value, jax.core.Tracer):
        return parameter
    value = float(parameter.value)
    if not 0 <= value <= 1:
        raise ValueError(f"eta must be in [0, 1], got {value}.")
    return None if value == 1 and isinstance(parameter, Fixed) else parameter
