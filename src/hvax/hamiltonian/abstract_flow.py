"""The contract of a flow: a random map of the encoder's draw, with its term of the log-weight."""

from abc import abstractmethod
from typing import NamedTuple, Protocol, runtime_checkable

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from hvax.hamiltonian.gradient import AnyPotential


@runtime_checkable
class Start(Protocol):
    """q, the density that z_0 was drawn from, as far as a flow uses it.

    A flow with a bridge follows `log_prob`; one with `units="posterior"` takes steps of `sigma`.
    """

    @property
    def sigma(self) -> Float[Array, " d"]:
        """Each dimension's standard deviation."""

    def log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """log q(z), in nats; its normalizing constant does not matter here."""


class FlowResult(NamedTuple):
    """The end of a flow, and its term of the log-weight.

    With U(z) = -log p(x, z) and z_0 ~ q(. | x),

        log w = log p(x, z) - log q(z_0 | x) + log_ratio,  E[exp(log w)] = p(x)
    """

    z: Float[Array, " d"]  # where the flow ended
    log_ratio: Float[Array, ""]  # nats
    aux: PyTree  # what the potential returned beside U at z; None if nothing
    trajectory: PyTree  # a record of the path, for reports


class AbstractFlow(eqx.Module):
    """A random map z_0 -> z_K that follows a potential, with a log-weight that stays unbiased."""

    # An AbstractVar, not an abstract property: a user's flow may have a field without a default.
    # mypy takes it for a writable attribute, which a property must not override; where hvax does so
    # all the same, as Equinox allows, the property says `type: ignore`.
    num_gradients: eqx.AbstractVar[int]
    """About how many gradients of the potential a call takes, which predicts its duration; 0 for a
    flow that moves nothing."""

    @abstractmethod
    def __call__(
        self,
        potential: AnyPotential,
        z: Float[Array, " d"],
        *,
        key: PRNGKeyArray,
        start: Start | None = None,
    ) -> FlowResult:
        """The flow from z on a potential z -> U or z -> (U, aux), U in nats.

        `start` is q, the density that z was drawn from; None for a flow that does not use it.
        """
