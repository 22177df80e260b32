"""The six terms of the Hamiltonian ELBO, separately: for weighted losses and for inspection."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hvax.checks import check_kind
from hvax.hamiltonian.phase_space import PhaseSpace
from hvax.models.gaussian import HALF_LOG_TWO_PI
from hvax.models.latent_model import Draw

ONES = (1.0, 1.0, 1.0)
Prefactor = ArrayLike | Sequence[float]
"""Three numbers, one per term."""


def log_p_terms(draw: Draw) -> Float[Array, " 3"]:
    """[log p(x | z_K), log p(z_K), log N(rho_K; 0, I / beta_K)] of one draw, in nats.

    Raises `TypeError` unless the draw is one of an HVAE with a `HamiltonianFlow`.
    """
    return _terms(draw)[0]


def log_q_terms(draw: Draw) -> Float[Array, " 3"]:
    """[log q(z_0 | x), log N(rho_0; 0, I / beta_0), -(d/2) log(beta_0 / beta_K)], in nats.

    With momentum refreshment the second term covers all momenta: it is reduced by
    sum_k log N(rho_{k-1}; 0, I / beta_{k-1}) - log N(rho'_k; 0, I / beta_{k-1}).
    Raises as `log_p_terms` does.
    """
    return _terms(draw)[1]


def log_p_bar(draw: Draw) -> Float[Array, ""]:
    """log p(x | z_K) + log p(z_K) + log N(rho_K; 0, I / beta_K), in nats, of one draw."""
    return jnp.sum(log_p_terms(draw))


def log_q_bar(draw: Draw) -> Float[Array, ""]:
    """log q(z_0 | x) + log N(rho_0; 0, I / beta_0) - (d/2) log(beta_0 / beta_K), in nats."""
    return jnp.sum(log_q_terms(draw))


def weighted(draw: Draw, logp_prefactor: Prefactor, logq_prefactor: Prefactor) -> Float[Array, ""]:
    """sum logp_prefactor * log_p_terms - sum logq_prefactor * log_q_terms; log w at ones.

    The normalizing constants are summed with their coefficients first: with all factors 1 they
    cancel exactly, and so does their gradient through log beta. Raises as `log_p_terms` does.
    """
    (p, q), (log_beta_0, log_beta_K) = _kernels(draw), _log_beta(draw)
    a, b = jnp.asarray(logp_prefactor, p.dtype), jnp.asarray(logq_prefactor, p.dtype)
    half_d = 0.5 * draw.z.size
    # log N(rho_k; 0, I / beta_k) has d/2 (log beta_k - log 2 pi), and the sixth term d/2 of the
    # difference of both log beta: each constant with the sum of its factors, 0 if all are 1.
    constants = (a[2] - b[2]) * log_beta_K + (b[2] - b[1]) * log_beta_0
    constants = constants + (b[1] - a[2]) * 2 * HALF_LOG_TWO_PI
    return a @ p - b[:2] @ q + half_d * constants


def _kernels(draw: Draw) -> tuple[Float[Array, " 3"], Float[Array, " 2"]]:
    """The terms without the normalizing constants of the momenta's densities."""
    space = _phase_space(draw)
    rho, gamma = space.rho_final, space.gamma
    kinetic = 0.5 * space.beta[-1] * (rho @ rho)
    p = jnp.stack([draw.log_likelihood, draw.log_prior, -kinetic])
    momenta = -0.5 * (gamma @ gamma) - space.log_refreshment
    return p, jnp.stack([draw.log_posterior, momenta])


def _log_beta(draw: Draw) -> tuple[Float[Array, ""], Float[Array, ""]]:
    beta = _phase_space(draw).beta
    return jnp.log(beta[0]), jnp.log(beta[-1])


def _terms(draw: Draw) -> tuple[Float[Array, " 3"], Float[Array, " 3"]]:
    (p, q), (log_beta_0, log_beta_K) = _kernels(draw), _log_beta(draw)
    d = draw.z.size
    normal_0, normal_K = (
        d * (0.5 * log_beta - HALF_LOG_TWO_PI) for log_beta in (log_beta_0, log_beta_K)
    )
    log_p = p.at[2].add(normal_K)
    log_q = jnp.append(q.at[1].add(normal_0), -0.5 * d * (log_beta_0 - log_beta_K))
    return log_p, log_q


def _phase_space(draw: Draw) -> PhaseSpace:
    check_kind(draw, "draw", Draw)
    if not isinstance(draw.trajectory, PhaseSpace):
        raise TypeError(
            "draw must be one of an HVAE with a HamiltonianFlow, whose trajectory has these "
            f"terms, got one with the trajectory {type(draw.trajectory).__name__}."
        )
    return draw.trajectory
