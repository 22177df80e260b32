"""A transition of Hamiltonian Monte Carlo, for the chains of an evaluation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from hvax.hamiltonian.gradient import ValueAndGrad
from hvax.hamiltonian.leapfrog import PhaseState, leapfrog_step


def hmc_proposal(
    value_and_grad: ValueAndGrad,
    start: PhaseState,
    step_size: Float[Array, ""] | Float[Array, " d"],
    num_leapfrog: int,
    *,
    key: PRNGKeyArray,
) -> tuple[PhaseState, Bool[Array, ""], Float[Array, ""]]:
    """The end of `num_leapfrog` leapfrog steps, whether it is accepted, and its probability p.

    p = min(1, exp(H(start) - H(end))). A trajectory whose energy is not finite is rejected. With
    the momentum of `start` drawn afresh from N(0, I), keeping `start` where the end is rejected
    leaves exp(-U) invariant (Duane et al. 1987).
    """
    end = jax.lax.fori_loop(
        0, num_leapfrog, lambda _, state: leapfrog_step(value_and_grad, state, step_size), start
    )
    change = end.energy - start.energy
    p = jnp.where(jnp.isfinite(change), jnp.exp(jnp.minimum(0.0, -change)), 0.0)
    return end, jax.random.uniform(key, (), start.z.dtype) < p, p
