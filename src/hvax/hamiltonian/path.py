"""The potentials that a flow follows: the model's own, or a bridge from q to it.

A bridge's potentials are U_b = b U - (1 - b) log q, with the bridging weight b of each transition.
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
"""The largest force in each dimension; None is no limit."""


class AbstractPath(eqx.Module):
    """The potentials that a flow follows for one z_0."""

    @abstractmethod
    def value_and_grad(self, b: Float[Array, ""]) -> ValueAndGrad:
        """The function z -> U_b and its gradient, clipped to the limit of the force."""

    @abstractmethod
    def reweight(self, b: Float[Array, ""], at: Evaluation) -> Evaluation:
        """U_b and its gradient at the point of an evaluation with another b.

        The model is not evaluated again.
        """

    @abstractmethod
    def value(self, b: Float[Array, ""]) -> Potential:
        """The function z -> U_b and the model's aux, without a gradient."""


class ModelPath(AbstractPath):
    """The model's own potential in every transition."""

    potential: Potential
    evaluate: ValueAndGrad  # the potential and its gradient
    limit: Limit

    def value_and_grad(self, b: Float[Array, ""]) -> ValueAndGrad:
        return lambda z: _limited(self.limit, self.evaluate(z))

    def reweight(self, b: Float[Array, ""], at: Evaluation) -> Evaluation:
        return at

    def value(self, b: Float[Array, ""]) -> Potential:
        return self.potential


class BridgedPath(AbstractPath):
    """A bridge from q to the model's potential."""

    potential: Potential
    evaluate: Callable[[Float[Array, " d"]], Ends]  # both potentials and their gradients
    start: Start
    limit: Limit

    def value_and_grad(self, b: Float[Array, ""]) -> ValueAndGrad:
        return lambda z: _limited(self.limit, between(b, self.evaluate(z)))

    def reweight(self, b: Float[Array, ""], at: Evaluation) -> Evaluation:
        return _limited(self.limit, between(b, at.ends))._replace(aux=at.aux)

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

    With `with_aux_at_gradients=False` the model's aux is not computed with the gradients: an
    integrator whose last gradient is not at the end has no use for it. Raises `ValueError` for a
    bridge without a `start`.
    """
    bare = with_aux(lambda z: potential(z)[0])
    target = gradient.value_and_grad(potential if with_aux_at_gradients else bare)
    if not bridged:
        return ModelPath(potential, target, limit)
    if start is None or not callable(getattr(start, "log_prob", None)):
        raise ValueError(
            "start must have a log_prob(z) for a flow with a bridge, got "
            f"{start!r}. Give the density that z was drawn from."
        )
    origin = gradient.value_and_grad(with_aux(lambda z: -start.log_prob(z)))
    return BridgedPath(potential, both_ends(target, origin), start, limit)


def _limited(limit: Limit, at: Evaluation) -> Evaluation:
    """An evaluation with its gradient clipped in each dimension, and NaN replaced by 0.

    NaN comes from a potential that overflows; the particle then drifts on without a force.
    """
    if limit is None:
        return at
    bounded = jnp.clip(at.gradient, -limit, limit)
    return at._replace(gradient=jnp.where(jnp.isnan(bounded), 0.0, bounded))
