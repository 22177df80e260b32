"""Step sizes: their checks, their dependence on a bridge, and their units."""

from typing import Literal, cast, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hvax.hamiltonian.abstract_flow import Start
from hvax.parameters import AbstractParameter, as_parameter

Units = Literal["latent", "posterior"]


class AffineStepSize(eqx.Module):
    """A step size that depends on the bridging weight: at_start + b_k (at_end - at_start).

    Both ends are > 0, of shape `()` or `(d,)`; plain numbers stay fixed. All step sizes are then >
    0 too. Raises `ValueError` for other values or shapes. Geffner and Domke (2021), section 5.
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
        """The step sizes of K transitions, a row of one number or d numbers each."""
        start, end = (jnp.atleast_2d(end.value) for end in (self.at_start, self.at_end))
        return start + b[:, None] * (end - start)


def check_positive(value: Float[Array, "..."], name: str) -> None:
    """Raise `ValueError` unless all numbers are finite and > 0; traced ones are not checked."""
    if isinstance(value, jax.core.Tracer):
        return
    if not np.all(np.isfinite(value) & (np.asarray(value) > 0)):
        raise ValueError(f"{name} must be finite and > 0, got {np.asarray(value)!s}.")


def check_step_sizes(value: Float[Array, "..."], num_steps: int) -> None:
    """Raise `ValueError` for step sizes of a wrong shape for K transitions, or not > 0."""
    if value.ndim > 2 or (value.ndim == 2 and value.shape[0] != num_steps):
        raise ValueError(
            "step_size must have shape (), (d,), (K, 1) or (K, d) with K = num_steps = "
            f"{num_steps}, got {value.shape}."
        )
    check_positive(value, "step_size")


def check_mass(mass: Float[Array, "..."]) -> None:
    """Raise `ValueError` unless masses are a scalar or a vector, finite and > 0."""
    if mass.ndim > 1:
        raise ValueError(f"mass must have shape () or (d,), got {mass.shape}.")
    check_positive(mass, "mass")


def check_units(units: str) -> Units:
    """`units` if it is "latent" or "posterior"; else `ValueError`."""
    if units not in get_args(Units):
        raise ValueError(f"units must be 'latent' or 'posterior', got {units!r}.")
    return cast(Units, units)


def in_unit_mass(step_sizes: Float[Array, "..."], mass: Float[Array, "..."]) -> Float[Array, "..."]:
    """step_size / sqrt(m): the step size of unit mass that gives the same flow."""
    per_dimension = mass.ndim == 1 and step_sizes.ndim == 2
    return step_sizes / jnp.sqrt(mass[None] if per_dimension else mass)


def of_transitions(
    step_sizes: Float[Array, "..."], num_steps: int, z: Float[Array, " d"]
) -> Float[Array, "K d"]:
    """The step sizes of each transition, (K, d), in z's dtype; `ValueError` for other shapes."""
    shape = (num_steps, z.size)
    if step_sizes.shape not in {(), z.shape, (num_steps, 1), shape}:
        raise ValueError(
            f"step_size must have shape (), ({z.size},), ({num_steps}, 1) or {shape} "
            f"for {num_steps} steps in {z.size} dimensions, got {step_sizes.shape}."
        )
    return jnp.broadcast_to(step_sizes, shape).astype(z.dtype)


def unit_of(units: str, start: Start | None, z: Float[Array, " d"]) -> Float[Array, " d"]:
    """The length of a step size of 1 in each dimension of z: 1, or q's standard deviation.

    Raises `ValueError` for units "posterior" without a `start` that has a `sigma` of z's shape.
    """
    if units == "latent":
        return jnp.ones_like(z)
    sigma = getattr(start, "sigma", None)
    if sigma is None or sigma.shape != z.shape:
        got = "none" if sigma is None else f"shape {sigma.shape}"
        raise ValueError(
            f'start must have a sigma of shape {z.shape} for a flow with units="posterior", got '
            f"{got}. Give the density that z was drawn from."
        )
    return sigma.astype(z.dtype)
