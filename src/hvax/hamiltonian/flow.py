"""The tempered Hamiltonian flow: K leapfrog steps, each followed by a rescaling of the momentum."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from hvax.door import check_callable, check_key, check_kind, count, vector
from hvax.hamiltonian.gradient import AbstractGradient, Potential, gradient_method, with_aux
from hvax.hamiltonian.leapfrog import PhaseState, leapfrog_step, phase_state
from hvax.hamiltonian.tempering import AbstractTempering, QuadraticTempering
from hvax.parameter import AbstractParameter, as_parameter

DIVERGENT = 1000.0
"""A trajectory whose energy error exceeds this many nats in one step has diverged."""


# Flows of up to so many steps are compiled without a loop: 784-400-20 with K = 3 then trains in
# 0.85 of the time, the paper's convolutional net with K = 5 in 0.84.
_UNROLLED = 5


class PhaseSpace(NamedTuple):
    """Where a flow started and ended, and what it takes to score it."""

    z_init: Float[Array, " d"]
    rho_init: Float[Array, " d"]
    z_final: Float[Array, " d"]
    rho_final: Float[Array, " d"]
    gamma: Float[Array, " d"]  # rho_init = gamma / sqrt(beta_0)
    beta: Float[Array, " stages"]
    energy_errors: Float[Array, " K"]  # H after minus H before each leapfrog step, nats
    aux: PyTree  # what the potential yielded at z_final

    @property
    def log_det_jacobian(self) -> Float[Array, ""]:
        """log |det d(z_final, rho_final) / d(z_init, rho_init)| = (d/2) log(beta_0 / beta_K)."""
        return 0.5 * self.z_init.size * jnp.log(self.beta[0] / self.beta[-1])

    @property
    def divergent(self) -> Array:
        """Whether an energy error is beyond `DIVERGENT` nats or not finite; never at K = 0."""
        return ~jnp.all(jnp.abs(self.energy_errors) <= DIVERGENT)


class HamiltonianFlow(eqx.Module):
    """K tempered leapfrog steps on any potential z -> U, or z -> (U, aux).

        rho_0 = gamma / sqrt(beta_0),  gamma ~ N(0, I)
        for k = 1 ... K:
            z, rho = leapfrog_step(z, rho)
            rho    = sqrt(beta_{k-1} / beta_k) rho

    A flow of K >= 1 steps evaluates the potential's gradient K + 1 times; one of none evaluates
    the potential once and no gradient. The defaults are the reference's, but for its step size of
    1e-4, at which nothing moves. Caterini, Doucet and Sejdinovic (2018), Algorithm 1.

    **Arguments:**

    - `num_steps`: K, an integer >= 0.
    - `step_size`: > 0, of shape `()`, `(d,)`, `(K, 1)` or `(K, d)`; numbers and arrays are held
      fixed, `Learned(initial, upper=...)` is trained.
    - `tempering`: the schedule of inverse temperatures; `QuadraticTempering(0.3)` by default.
    - `gradient`: `"reverse"`, `"forward"`, `"taylor"`, `"finite"`, or a method such as
      `Finite("forward")`.
    - `remat`: whether training keeps only positions and momenta of each step and computes the rest
      again when it differentiates: memory flat in K, in about the same time on a CPU.

    Raises `ValueError` for an argument outside its range.
    """

    num_steps: int = eqx.field(static=True)
    step_size: AbstractParameter
    tempering: AbstractTempering
    gradient: AbstractGradient
    remat: bool = eqx.field(static=True, default=False)

    def __init__(
        self,
        num_steps: int = 3,
        step_size: AbstractParameter | ArrayLike = 0.05,
        tempering: AbstractTempering | None = None,
        gradient: str | AbstractGradient = "reverse",
        remat: bool = False,
    ):
        if tempering is not None:
            check_kind(tempering, "tempering", AbstractTempering)
        self.num_steps = count(num_steps, "num_steps", least=0)
        self.step_size = as_parameter(step_size, "step_size")
        self.tempering = QuadraticTempering() if tempering is None else tempering
        self.gradient = gradient_method(gradient)
        self.remat = remat
        _check_step_size(self.step_size.value, self.num_steps)
        _check_beta(self.tempering.beta(self.num_steps), self.num_steps)

    def __call__(
        self,
        potential: Callable[[Float[Array, " d"]], Any],
        z: Float[Array, " d"],
        *,
        key: PRNGKeyArray,
    ) -> PhaseSpace:
        """The flow from z with a fresh momentum, on a potential z -> U or z -> (U, aux)."""
        check_callable(potential, "potential")
        check_key(key)
        z = vector(z, "z")
        gamma = jax.random.normal(key, z.shape, z.dtype)
        return self.transport(with_aux(potential), z=z, gamma=gamma)

    def transport(
        self, potential: Potential, *, z: Float[Array, " d"], gamma: Float[Array, " d"]
    ) -> PhaseSpace:
        """The deterministic flow from (z, gamma / sqrt(beta_0))."""
        z, gamma = vector(z, "z"), vector(gamma, "gamma")
        beta = self.tempering.beta(self.num_steps).astype(z.dtype)
        rho = gamma / jnp.sqrt(beta[0])
        if self.num_steps == 0:
            _, aux = potential(z)
            return PhaseSpace(z, rho, z, rho, gamma, beta, jnp.zeros((0,), z.dtype), aux)

        value_and_grad = self.gradient.value_and_grad(potential)

        def step(state: PhaseState, k: tuple[Array, Array]) -> tuple[PhaseState, Array]:
            step_size, scaling = k
            moved = leapfrog_step(value_and_grad, state, step_size)
            return moved._replace(rho=scaling * moved.rho), moved.energy - state.energy

        if self.remat:
            step = jax.checkpoint(step)
        start = phase_state(value_and_grad, z=z, rho=rho)
        per_step = (self._step_sizes(z), jnp.sqrt(beta[:-1] / beta[1:]))
        unroll = self.num_steps <= _UNROLLED and not self.remat
        end, energy_errors = jax.lax.scan(step, start, per_step, unroll=unroll)
        return PhaseSpace(z, rho, end.z, end.rho, gamma, beta, energy_errors, end.aux)

    def _step_sizes(self, z: Float[Array, " d"]) -> Float[Array, "K d"]:
        step_size, shape = self.step_size.value, (self.num_steps, z.size)
        if step_size.shape not in {(), z.shape, (self.num_steps, 1), shape}:
            raise ValueError(
                f"step_size must have shape (), ({z.size},), ({self.num_steps}, 1) or {shape} "
                f"for {self.num_steps} steps in {z.size} dimensions, got {step_size.shape}."
            )
        return jnp.broadcast_to(step_size, shape).astype(z.dtype)


def _check_step_size(value: Float[Array, "..."], num_steps: int) -> None:
    if value.ndim > 2 or (value.ndim == 2 and value.shape[0] != num_steps):
        raise ValueError(
            "step_size must have shape (), (d,), (K, 1) or (K, d) with K = num_steps = "
            f"{num_steps}, got {value.shape}."
        )
    if isinstance(value, jax.core.Tracer):
        return
    if not np.all(np.isfinite(value) & (np.asarray(value) > 0)):
        raise ValueError(f"step_size must be finite and > 0, got {value}.")


def _check_beta(beta: Float[Array, "..."], num_steps: int) -> None:
    if beta.shape != (num_steps + 1,):
        raise ValueError(
            f"the schedule must give one number per stage, shape ({num_steps + 1},), "
            f"got {beta.shape}."
        )
    if isinstance(beta, jax.core.Tracer):
        return
    if not np.all(np.isfinite(beta) & (np.asarray(beta) > 0)):
        raise ValueError(f"the schedule's inverse temperatures must be finite and > 0, got {beta}.")
