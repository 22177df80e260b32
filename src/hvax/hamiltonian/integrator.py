"""Integrators: the two forms of the leapfrog, which differ in where the gradient is evaluated."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hvax.checks import check_one_of
from hvax.hamiltonian.gradient import Potential, ValueAndGrad
from hvax.hamiltonian.leapfrog import PhaseState, leapfrog_step, phase_state


class AbstractIntegrator(eqx.Module):
    """Volume-preserving steps of H = U + |rho|^2 / 2, each with one gradient of U.

    Between transitions a flow changes the momentum, and along a bridge the potential, whose value
    and gradient are part of the state.
    """

    last_gradient_at_end: ClassVar[bool]
    """Whether the last gradient is evaluated at the end, so that its aux is that of z_K."""

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
        """The potential's aux at a trajectory's end, and the energy errors of its steps in nats."""


class VelocityVerlet(AbstractIntegrator):
    """Half a kick, a drift, half a kick (`leapfrog_step`): n + 1 gradients for n steps.

    The energy errors are H after minus H before each step.
    """

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
    """Half a drift, a kick, half a drift: n gradients for n steps, and one value of U at the end.

        z   = z   + (step_size / 2) rho
        rho = rho - step_size grad U(z)
        z   = z   + (step_size / 2) rho

    U is evaluated in the middle of each step and at the very end. An energy error is the change of
    U between two such points minus its first-order prediction by the gradients: 0 for a linear U.
    Zhang, Hsu, Li, Finn and Grosse, "Differentiable Annealed Importance Sampling and the Perils of
    Gradient Noise" (2021), Algorithm 1.
    """

    last_gradient_at_end = False

    def start(
        self, value_and_grad: ValueAndGrad, *, z: Float[Array, " d"], rho: Float[Array, " d"]
    ) -> PhaseState:
        # No gradient is needed at the start; zeros give the scan's carry its structure.
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
        error = met.potential - met.gradient @ ahead - _extrapolated_potential(state)
        return PhaseState(state.z + ahead + since, rho, *met, since=since), error

    def end(
        self, potential: Potential, state: PhaseState, errors: Float[Array, " steps"]
    ) -> tuple[PyTree, Float[Array, " steps"]]:
        value, aux = potential(state.z)
        # The first step's error is dropped: there is no evaluation before it to compare with.
        return aux, jnp.append(errors[1:], value - _extrapolated_potential(state))


def _extrapolated_potential(state: PhaseState) -> Float[Array, ""]:
    """U at z by linear extrapolation from the last evaluation."""
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
    check_one_of(integrator, "integrator", _INTEGRATORS)
    return _INTEGRATORS[integrator]()
