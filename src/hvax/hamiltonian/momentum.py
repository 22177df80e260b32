"""The momenta of a flow: how they are drawn, and what the log-weight says of them."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from hvax.checks import check_kind
from hvax.hamiltonian.abstract_flow import Start
from hvax.parameters import AbstractParameter, Fixed, Learned, as_parameter


class AbstractMomentum(eqx.Module):
    """What a flow draws its momenta from, and what it scores them under.

    The flow begins with rho_0 and ahead of each transition replaces rho by rho', drawn from a
    forward kernel F_k(rho' | rho); a reverse kernel R_k(rho | rho') is what the log-weight sets
    against it. All is a function of standard normal noise: gamma for rho_0, xi_k for rho'_k.

        log_ratio = log p(rho_K) - log p(rho_0) + sum_k log R_k(rho | rho') - log F_k(rho' | rho)

    E[exp(log w)] = p(x) for any pair of kernels that are normalized densities. Densities of rho_0
    and rho_K are those at inverse temperature beta, and are given without (d/2) log(beta / 2 pi):
    that constant cancels with the Jacobian of the flow's rescaling, sqrt(beta_{k-1} / beta_k).
    """

    refreshes: eqx.AbstractVar[bool]
    """Whether transitions refresh the momentum; where they do not, no noise xi is drawn."""

    @abstractmethod
    def start(
        self, gamma: Float[Array, " d"], beta: Float[Array, ""]
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """rho_0 made of the noise gamma, and its log-density in nats."""

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
        """rho' of transition k = 1 ... K made of the noise xi, and log R - log F in nats.

        z is where the refreshment happens, beta = beta_{k-1}, and `start` is q, by which a kernel
        may know of x.
        """


class GaussianMomentum(AbstractMomentum):
    """rho ~ N(0, I / beta), of which a share eta stays at each transition, the rest fresh noise.

        rho_0 = gamma / sqrt(beta_0)
        rho'  = eta rho + sqrt(1 - eta^2) xi / sqrt(beta)

    N(0, I / beta) is left as it is, so both kernels are the same, and
    log R - log F = log N(rho) - log N(rho').

    **Arguments:**

    - `eta`: in [0, 1], a number or `Learned(0.9)`. 1, the default, keeps all of the momentum and
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
        # At eta = 1, where a learned one may round to, the root has no derivative.
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
    """The noise of K refreshments in z's dtype; None where nothing is refreshed.

    Raises `ValueError` where it is not of the shape (K, d).
    """
    if not momentum.refreshes:
        return None
    shape = (num_steps, *z.shape)
    if xi is None or xi.shape != shape:
        got = "none" if xi is None else f"shape {xi.shape}"
        raise ValueError(
            f"a flow with eta needs xi, normal numbers of shape {shape}, got {got}; "
            "flow.momenta(z, key=key) draws gamma and xi."
        )
    return xi.astype(z.dtype)


def momentum_or_eta(
    momentum: AbstractMomentum | None, eta: AbstractParameter | ArrayLike | None
) -> AbstractMomentum:
    """The momentum that is given, or the Gaussian one of eta; `ValueError` where both are."""
    if momentum is None:
        return GaussianMomentum(1.0 if eta is None else eta)
    check_kind(momentum, "momentum", AbstractMomentum)
    if eta is not None:
        raise ValueError("eta is short for momentum=GaussianMomentum(eta): give one of the two.")
    return momentum


def _as_eta(eta: AbstractParameter | ArrayLike) -> AbstractParameter | None:
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
