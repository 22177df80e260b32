"""The record of a Hamiltonian flow: start, end, energy errors and stages."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

DIVERGENT = 1000.0
"""A trajectory whose energy error exceeds this many nats in one step has diverged."""


class PhaseSpace(NamedTuple):
    """The start and end of a flow in phase space, and all that scoring it needs."""

    z_init: Float[Array, " d"]
    rho_init: Float[Array, " d"]
    z_final: Float[Array, " d"]
    rho_final: Float[Array, " d"]
    gamma: Float[Array, " d"]  # the noise of rho_init, which is gamma / sqrt(beta_0)
    beta: Float[Array, " stages"]
    log_refreshment: Float[Array, ""]  # sum_k log R_k - log F_k, nats; 0 without refreshment
    energy_errors: Float[Array, " steps"]  # H after minus H before each leapfrog step, nats

    @property
    def log_det_jacobian(self) -> Float[Array, ""]:
        """log |det d(z_final, rho_final) / d(z_init, rho_init)| = (d/2) log(beta_0 / beta_K)."""
        return 0.5 * self.z_init.size * jnp.log(self.beta[0] / self.beta[-1])

    @property
    def divergent(self) -> Array:
        """Whether an energy error exceeds `DIVERGENT` nats or is not finite; False for K = 0."""
        return ~jnp.all(jnp.abs(self.energy_errors) <= DIVERGENT)


class Stages(NamedTuple):
    """The states of a flow after each of its transitions k = 1 ... K."""

    z: Float[Array, "K d"]
    rho: Float[Array, "K d"]
    log_refreshment: Float[Array, " K"]  # of transition k alone
    log_ratio: Float[Array, " K"]  # of the flow stopped after transition k, nats
