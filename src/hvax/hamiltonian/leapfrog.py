"""One leapfrog step, and the state that it advances."""

from typing import NamedTuple

from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from hvax.checks import check_callable, real_array, vector
from hvax.hamiltonian.gradient import Evaluation, ValueAndGrad


class PhaseState(NamedTuple):
    """A point (z, rho) of phase space with the last evaluation of the potential.

    As the evaluation is kept, a step needs only one new one.
    """

    z: Float[Array, " d"]
    rho: Float[Array, " d"]
    potential: Float[Array, ""]
    gradient: Float[Array, " d"]
    aux: PyTree
    ends: PyTree = None  # along a bridge, the evaluations of both of its ends
    since: Float[Array, " d"] | None = None  # z minus the point of that evaluation; None is 0

    @property
    def met(self) -> Evaluation:
        """The last evaluation of the potential, as an `Evaluation`."""
        return Evaluation(self.potential, self.gradient, self.aux, self.ends)

    @property
    def energy(self) -> Float[Array, ""]:
        """H = U + |rho|^2 / 2, in nats."""
        return self.potential + 0.5 * (self.rho @ self.rho)


def phase_state(
    value_and_grad: ValueAndGrad, *, z: Float[Array, " d"], rho: Float[Array, " d"]
) -> PhaseState:
    """The state at (z, rho), with one evaluation of the potential and its gradient.

    Raises `ValueError` unless z and rho are vectors of the same length.
    """
    check_callable(value_and_grad, "value_and_grad")
    z, rho = vector(z, "z"), vector(rho, "rho")
    if rho.shape != z.shape:
        raise ValueError(f"rho must have the shape of z, {z.shape}, got {rho.shape}.")
    return PhaseState(z, rho, *value_and_grad(z))


def leapfrog_step(
    value_and_grad: ValueAndGrad, state: PhaseState, step_size: ArrayLike
) -> PhaseState:
    """One leapfrog (velocity Verlet) step of H = U + |rho|^2 / 2.

        rho' = rho  - (step_size / 2) grad U(z)
        z    = z    + step_size rho'
        rho  = rho' - (step_size / 2) grad U(z)

    `step_size` is a scalar or one number per dimension; `value_and_grad` comes from a gradient
    method, `ReverseMode().value_and_grad(potential)`, and is called once. Reversible, symplectic;
    the energy error is of second order in the step size. Caterini et al. (2018), Algorithm 1.
    """
    step_size = real_array(step_size, "step_size")
    if step_size.shape not in ((), state.z.shape):
        raise ValueError(
            f"step_size must be one number or of z's shape, {state.z.shape}, got {step_size.shape}."
        )
    rho = state.rho - 0.5 * step_size * state.gradient
    z = state.z + step_size * rho
    met = Evaluation(*value_and_grad(z))
    rho = rho - 0.5 * step_size * met.gradient
    return PhaseState(z, rho, *met)
