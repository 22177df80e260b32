"""What a Hamiltonian flow does to one point: K transitions, and their term of the log-weight."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hvax.checks import vector
from hvax.hamiltonian.abstract_flow import FlowResult, Start
from hvax.hamiltonian.gradient import AbstractGradient, Potential
from hvax.hamiltonian.integrator import AbstractIntegrator
from hvax.hamiltonian.momentum import AbstractMomentum, check_noise
from hvax.hamiltonian.path import path_to
from hvax.hamiltonian.phase_space import PhaseSpace, Stages
from hvax.hamiltonian.step_size import Units, of_transitions, unit_of
from hvax.hamiltonian.transitions import Mover, Steps, Transitions


class Transport(NamedTuple):
    """A `HamiltonianFlow`, which explains the parts, with its schedules as arrays."""

    num_steps: int
    leapfrog_steps: int
    step_sizes: Float[Array, "..."]  # in `units`, of shape (), (d,), (K, 1) or (K, d)
    units: Units
    beta: Float[Array, " stages"]
    b: Float[Array, " K"] | None  # the weights of the bridge; None without one
    momentum: AbstractMomentum
    integrator: AbstractIntegrator
    gradient: AbstractGradient
    max_force: float | None
    remat: bool

    def __call__(
        self,
        potential: Potential,
        *,
        z: Float[Array, " d"],
        gamma: Float[Array, " d"],
        xi: Float[Array, "K d"] | None,
        start: Start | None,
    ) -> tuple[FlowResult, Steps]:
        """The flow from z with the noise gamma and xi, and the states on its way."""
        z, gamma = vector(z, "z"), vector(gamma, "gamma")
        xi = check_noise(self.momentum, xi, self.num_steps, z)
        beta = self.beta.astype(z.dtype)
        rho, log_start = self.momentum.start(gamma, beta[0])
        if self.num_steps == 0:
            _, aux = potential(z)
            z_end, rho_end, none = z, rho, beta[:0]
            steps = Steps(z[None][:0], rho[None][:0], none, none[:, None])
            total, errors = jnp.zeros((), z.dtype), none
        else:
            unit = unit_of(self.units, start, z)
            transitions = self._transitions(beta, unit, z, xi)
            path = path_to(
                potential,
                start=start,
                bridged=self.b is not None,
                gradient=self.gradient,
                with_aux_at_gradients=self.integrator.last_gradient_at_end,
                limit=None if self.max_force is None else self.max_force / unit,
            )
            parts = (path, self.integrator, self.momentum, self.leapfrog_steps, start)
            end, steps = Mover(*parts).move(transitions, z=z, rho=rho, remat=self.remat)
            # The potential at the end is that of the last transition's density; its aux is the
            # model's.
            value, errors = path.value(transitions.b[-1]), steps.energy_errors.reshape(-1)
            aux, errors = self.integrator.end(value, end, errors)
            z_end, rho_end, total = end.z, end.rho, jnp.sum(steps.log_refreshment)
        # Volume is preserved by leapfrog steps, and the Jacobian of the rescalings cancels with the
        # constants that `log_density` leaves out: only momentum terms remain.
        log_ratio = self.momentum.log_density(rho_end, beta[-1]) - (log_start - total)
        space = PhaseSpace(z, rho, z_end, rho_end, gamma, beta, total, errors)
        return FlowResult(z_end, log_ratio, aux, space), steps

    def _transitions(
        self,
        beta: Float[Array, " stages"],
        unit: Float[Array, " d"],
        z: Float[Array, " d"],
        xi: Float[Array, "K d"] | None,
    ) -> Transitions:
        """The inputs of K >= 1 transitions."""
        K = self.num_steps
        sizes = of_transitions(self.step_sizes, K, z)
        sizes = sizes if self.units == "latent" else sizes * unit[None]
        scaling, k = jnp.sqrt(beta[:-1] / beta[1:]), jnp.arange(1, K + 1)
        b = jnp.ones(K) if self.b is None else self.b
        return Transitions(k, sizes, scaling, beta[:-1], b.astype(z.dtype), xi)

    def stages(
        self,
        potential: Potential,
        *,
        z: Float[Array, " d"],
        gamma: Float[Array, " d"],
        xi: Float[Array, "K d"] | None,
        start: Start | None,
    ) -> tuple[PhaseSpace, Stages]:
        """The flow's trajectory, with the state and the log-ratio after each transition."""
        result, steps = self(potential, z=z, gamma=gamma, xi=xi, start=start)
        space = result.trajectory
        _, log_start = self.momentum.start(space.gamma, space.beta[0])
        log_end = jax.vmap(self.momentum.log_density)(steps.rho, space.beta[1:])
        log_ratio = log_end - log_start + jnp.cumsum(steps.log_refreshment)
        return space, Stages(steps.z, steps.rho, steps.log_refreshment, log_ratio)
