"""Momentum kernels: how a flow draws its momenta, and their term of the log-weight."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from hvax.checks import check_kind
from hvax.hamiltonian.abstract_flow import Start
from hvax.parameters import AbstractParameter, Fixed, Learned, as_parameter


class AbstractMomentum(eqx.Module):
    """How a flow draws its momenta, and how the log-weight scores them.

    The flow starts with rho_0. Before each transition it replaces rho by rho', drawn from a forward
    kernel F_k(rho' | rho) and scored against a reverse kernel R_k(rho | rho'). Momenta are
    functions of standard normal noise: gamma for rho_0, xi_k for rho'_k.

        log_ratio = log p(rho_K) - log p(rho_0) + sum_k log R_k(rho | rho') - log F_k(rho' | rho)

    E[exp(log w)] = p(x) holds for any two kernels that are normalized densities. The densities of
    rho_0 and rho_K are those at inverse temperature beta, without the constant
    (d/2) log(beta / 2 pi): it cancels with the Jacobian of the flow's rescaling of momenta by
    sqrt(beta_{k-1} / beta_k).
    """

    refreshes: eqx.AbstractVar[bool]
    """Whether transitions refresh the momentum; if not, no noise xi is drawn."""

    def noise(
        self, z: Float[Array, " d"], *, num_steps: int, key: PRNGKeyArray
    ) -> tuple[Float[Array, " d"], Float[Array, "K d"] | None]:
        """gamma (d,) of a flow from z, and xi (K, d) of its refreshments; None without them."""
        if not self.refreshes:
            return jax.random.normal(key, z.shape, z.dtype), None
        gamma_key, xi_key = jax.random.split(key)
        xi = jax.random.normal(xi_key, (num_steps, *z.shape), z.dtype)
        return jax.random.normal(gamma_key, z.shape, z.dtype), xi

    @abstractmethod
    def start(
        self, gamma: Float[Array, " d"], beta: Float[Array, ""]
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """rho_0 from the noise gamma, and its log-density in nats."""

    @abstractmethod
    def log_density(self, rho: Float[Array, " d"], beta: Float[Array, ""]) -> Float[Array, ""]:
        """The log-density of a momentum at inverse temperature beta, in nats."""

    @abstractmethod
    def refresh(
        self,
        rho: Float[Array, " d"],
        xi: Float[Array, " d"],
        *,
        z: Float[Array, " d"],
        k: Int[Array, ""],
        beta: Float[Array, ""],
        start: Start | None,
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """rho' of transition k = 1 ... K from the noise xi, and log R - log F in nats.

        `z` is the current position, beta = beta_{k-1}, and `start` is q, through which a kernel can
        depend on x.
        """


class GaussianMomentum(AbstractMomentum):
    """rho ~ N(0, I / beta), partially refreshed: a fraction eta is kept at each transition.

        rho_0 = gamma / sqrt(beta_0)
        rho'  = eta rho + sqrt(1 - eta^2) xi / sqrt(beta)

    This kernel is reversible with respect to N(0, I / beta), so it is its own reverse kernel, and
    log R - log F = log N(rho) - log N(rho').

    **Arguments:**

    - `eta`: in [0, 1], a number or `Learned(0.9)`. 1, the default, keeps the whole momentum and
      draws no noise; it is stored as None.

    Raises `ValueError` for an eta that is not one number in [0, 1].
    """

    eta: AbstractParameter | None = None

    def __init__(self, eta: AbstractParameter | ArrayLike = 1.0):
        self.eta = _as_eta(eta)

    @property  # type: ignore[misc]
    def refreshes(self) -> bool:  # type: ignore[override]
        return self.eta is not None

    def start(
        self, gamma: Float[Array, " d"], beta: Float[Array, ""]
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        return gamma / jnp.sqrt(beta), -0.5 * (gamma @ gamma)

    def log_density(self, rho: Float[Array, " d"], beta: Float[Array, ""]) -> Float[Array, ""]:
        return -(0.5 * beta * (rho @ rho))

    def refresh(
        self,
        rho: Float[Array, " d"],
        xi: Float[Array, " d"],
        *,
        z: Float[Array, " d"],
        k: Int[Array, ""],
        beta: Float[Array, ""],
        start: Start | None,
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        assert self.eta is not None
        eta = self.eta.value.astype(rho.dtype)
        # A learned eta may round to 1, where the square root has an infinite derivative.
        room = jnp.where(eta < 1, 1 - eta**2, 1.0)
        spread = jnp.where(eta < 1, jnp.sqrt(room), 0.0)
        fresh = eta * rho + spread * xi / jnp.sqrt(beta)
        return fresh, 0.5 * beta * (fresh @ fresh - rho @ rho)


def check_noise(
    momentum: AbstractMomentum,
    xi: Float[Array, "K d"] | None,
    num_steps: int,
    z: Float[Array, " d"],
) -> Float[Array, "K d"] | None:
    """The noise xi of K refreshments in z's dtype; None if nothing is refreshed.

    Raises `ValueError` unless its shape is (K, d).
    """
    if not momentum.refreshes:
        return None
    shape = (num_steps, *z.shape)
    if xi is None or xi.shape != shape:
        got = "none" if xi is None else f"shape {xi.shape}"
        raise ValueError(
            f"xi must be normal numbers of shape {shape} for a flow with eta, got {got}. "
            "Use gamma, xi = flow.momenta(z, key=key)."
        )
    return xi.astype(z.dtype)


def momentum_or_eta(
    momentum: AbstractMomentum | None, eta: AbstractParameter | ArrayLike | None
) -> AbstractMomentum:
    """`momentum` if given, else `GaussianMomentum(eta)`; `ValueError` if both are given."""
    if momentum is None:
        return GaussianMomentum(1.0 if eta is None else eta)
    check_kind(momentum, "momentum", AbstractMomentum)
    if eta is not None:
        raise ValueError(
            "eta must be None if momentum is given: it is short for GaussianMomentum(eta)."
        )
    return momentum


def _as_eta(eta: AbstractParameter | ArrayLike) -> AbstractParameter | None:
    """eta as a parameter in [0, 1]; None if it is fixed at 1, so that nothing is refreshed."""
    if isinstance(eta, int | float) and eta == 1:
        return None  # tested on the Python number: under a trace an array's value is unknown
    parameter = as_parameter(eta, "eta")
    if parameter.value.shape != ():
        raise ValueError(f"eta must be one number, got shape {parameter.value.shape}.")
    if isinstance(parameter, Learned) and parameter.upper > 1:
        raise ValueError(f"a learned eta must have upper <= 1, got upper={parameter.upper}.")
    if isinstance(parameter.value, jax.core.Tracer):
        return parameter
    value = float(parameter.value)
    if not 0 <= value <= 1:
        raise ValueError(f"eta must be in [0, 1], got {value}.")
    return None if value == 1 and isinstance(parameter, Fixed) else parameter
