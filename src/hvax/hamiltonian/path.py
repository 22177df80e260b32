"""The densities that a flow follows on its way: the model's own, or a bridge to it from q.

Their potentials are U_b = b U - (1 - b) log q, with the bridging weight b of each transition.
"""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hvax.hamiltonian.abstract_flow import Start
from hvax.hamiltonian.bridge import Ends, between, both_ends
from hvax.hamiltonian.gradient import (
    AbstractGradient,
    Evaluation,
    Potential,
    ValueAndGrad,
    with_aux,
)

Limit = Float[Array, " d"] | None
"""The largest force in each dimension; None where there is none."""


class AbstractPath(eqx.Module):
    """The potentials that a flow follows for one z_0."""

    @abstractmethod
    def value_and_grad(self, b: Float[Array, ""]) -> ValueAndGrad:
        """z -> U_b and its gradient, which is within the limit of the force."""

    @abstractmethod
    def reweight(self, b: Float[Array, ""], at: Evaluation) -> Evaluation:
        """U_b and its gradient where another density of the path was evaluated, without a new
        evaluation of the model."""

    @abstractmethod
    def value(self, b: Float[Array, ""]) -> Potential:
        """z -> U_b alone, and the model's aux."""


class ModelPath(AbstractPath):
    """The model's own potential throughout."""

    potential: Potential
    evaluate: ValueAndGrad  # the potential and its gradient
    limit: Limit

    def value_and_grad(self, b: Float[Array, ""]) -> ValueAndGrad:
        return lambda z: _within(self.limit, self.evaluate(z))

    def reweight(self, b: Float[Array, ""], at: Evaluation) -> Evaluation:
        return at

    def value(self, b: Float[Array, ""]) -> Potential:
        return self.potential


class BridgedPath(AbstractPath):
    """From q towards the model's potential."""

    potential: Potential
    evaluate: Callable[[Float[Array, " d"]], Ends]  # both potentials and their gradients
    start: Start
    limit: Limit

    def value_and_grad(self, b: Float[Array, ""]) -> ValueAndGrad:
        return lambda z: _within(self.limit, between(b, self.evaluate(z)))

    def reweight(self, b: Float[Array, ""], at: Evaluation) -> Evaluation:
        return _within(self.limit, between(b, at.ends))._replace(aux=at.aux)

    def value(self, b: Float[Array, ""]) -> Potential:
        def bridged(z: Float[Array, " d"]) -> tuple[Float[Array, ""], PyTree]:
            value, aux = self.potential(z)
            return b * value - (1 - b) * self.start.log_prob(z), aux

        return bridged


def path_to(
    potential: Potential,
    *,
    start: Start | None,
    bridged: bool,
    gradient: AbstractGradient,
    with_aux_at_gradients: bool,
    limit: Limit,
) -> AbstractPath:
    """The path of a flow to a potential.

    Where an integrator's last gradient is not at the end, the model's aux is not wanted with the
    gradients (`with_aux_at_gradients`). Raises `ValueError` for a bridge from nothing.
    """
    bare = with_aux(lambda z: potential(z)[0])
    target = gradient.value_and_grad(potential if with_aux_at_gradients else bare)
    if not bridged:
        return ModelPath(potential, target, limit)
    if start is None or not callable(getattr(start, "log_prob", None)):
        raise ValueError(
            "a flow with a bridge needs start, what z was drawn from, with a log_prob(z); got "
            f"{start!r}."
        )
    origin = gradient.value_and_grad(with_aux(lambda z: -start.log_prob(z)))
    return BridgedPath(potential, both_ends(target, origin), start, limit)


def _within(limit: Limit, at: Evaluation) -> Evaluation:
    """An evaluation whose gradient is bounded in each dimension; NaN, from a potential that has
    overflowed, moves nothing."""
    if limit is None:
        return at
    bounded = jnp.clip(at.gradient, -limit, limit)
    return at._replace(gradient=jnp.where(jnp.isnan(bounded), 0.0, bounded))
