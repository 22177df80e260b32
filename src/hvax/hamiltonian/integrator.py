"""The two forms of the leapfrog, as a flow takes its steps: where in a step the gradient is met."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hvax.hamiltonian.gradient import Potential, ValueAndGrad
from hvax.hamiltonian.leapfrog import PhaseState, leapfrog_step, phase_state


class AbstractIntegrator(eqx.Module):
    """Steps of H = U + |rho|^2 / 2 that preserve volume, each with one gradient of U.

    A flow gives its steps another density of its path, with U and its gradient in the state, and
    changes the momentum between them.
    """

    last_gradient_at_end: ClassVar[bool]
    """Whether a trajectory's last evaluation is at its end, with the potential's aux there."""

    @abstractmethod
    def start(
        self, value_and_grad: ValueAndGrad, *, z: Float[Array, " d"], rho: Float[Array, " d"]
    ) -> PhaseState:
        """The state at (z, rho)."""

    @abstractmethod
    def step(
        self, value_and_grad: ValueAndGrad, state: PhaseState, step_size: Float[Array, " d"]
    ) -> tuple[PhaseState, Float[Array, ""]]:
        """The state after one step, and an energy error in nats."""

    @abstractmethod
    def end(
        self, potential: Potential, state: PhaseState, errors: Float[Array, " steps"]
    ) -> tuple[PyTree, Float[Array, " steps"]]:
        """The potential's aux at the end of a trajectory, and the energy errors of its steps."""


class VelocityVerlet(AbstractIntegrator):
    """Half a kick, a drift, half a kick: `leapfrog_step`. A trajectory of n steps takes n + 1
    gradients. The energy errors are H after minus H before each step."""

    last_gradient_at_end = True

    def start(
        self, value_and_grad: ValueAndGrad, *, z: Float[Array, " d"], rho: Float[Array, " d"]
    ) -> PhaseState:
        return phase_state(value_and_grad, z=z, rho=rho)

    def step(
        self, value_and_grad: ValueAndGrad, state: PhaseState, step_size: Float[Array, " d"]
    ) -> tuple[PhaseState, Float[Array, ""]]:
        moved = leapfrog_step(value_and_grad, state, step_size)
        return moved, moved.energy - state.energy

    def end(
        self, potential: Potential, state: PhaseState, errors: Float[Array, " steps"]
    ) -> tuple[PyTree, Float[Array, " steps"]]:
        return state.aux, errors


class PositionVerlet(AbstractIntegrator):
    """Half a drift, a kick, half a drift; a trajectory of n steps takes n gradients and, at its
    end, one value of U.

        z   = z   + (step_size / 2) rho
        rho = rho - step_size grad U(z)
        z   = z   + (step_size / 2) rho

    U is met midway and at the very end; an energy error is the change of U from one such place to
    the next, less the work of the kicks on the way: 0 for a linear U. Zhang, Hsu, Li, Finn and
    Grosse, "Differentiable Annealed Importance Sampling" (2021), Algorithm 1.
    """

    last_gradient_at_end = False

    def start(
        self, value_and_grad: ValueAndGrad, *, z: Float[Array, " d"], rho: Float[Array, " d"]
    ) -> PhaseState:
        shapes = jax.eval_shape(value_and_grad, z)
        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        return PhaseState(z, rho, *nothing)._replace(since=jnp.zeros_like(z))

    def step(
        self, value_and_grad: ValueAndGrad, state: PhaseState, step_size: Float[Array, " d"]
    ) -> tuple[PhaseState, Float[Array, ""]]:
        ahead = 0.5 * step_size * state.rho
        met = value_and_grad(state.z + ahead)
        rho = state.rho - step_size * met.gradient
        since = 0.5 * step_size * rho
        error = met.potential - met.gradient @ ahead - _here(state)
        return PhaseState(state.z + ahead + since, rho, *met, since=since), error

    def end(
        self, potential: Potential, state: PhaseState, errors: Float[Array, " steps"]
    ) -> tuple[PyTree, Float[Array, " steps"]]:
        value, aux = potential(state.z)
        # Ahead of the first step there was no evaluation to compare with.
        return aux, jnp.append(errors[1:], value - _here(state))


def _here(state: PhaseState) -> Float[Array, ""]:
    """U at z, continued along the last gradient."""
    assert state.since is not None
    return state.potential + state.gradient @ state.since


_INTEGRATORS: dict[str, Callable[[], AbstractIntegrator]] = {
    "velocity": VelocityVerlet,
    "position": PositionVerlet,
}


def integrator_named(integrator: str | AbstractIntegrator) -> AbstractIntegrator:
    """The integrator of this name; an integrator itself passes through.

    Raises `ValueError` for a name other than velocity and position.
    """
    if isinstance(integrator, AbstractIntegrator):
        return integrator
    if integrator not in _INTEGRATORS:
        raise ValueError(
            f"integrator must be one of {', '.join(_INTEGRATORS)}, got {integrator!r}."
        )
    return _INTEGRATORS[integrator]()
