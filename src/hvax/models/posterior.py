"""q(z | x): what a posterior offers, and the form of it whose gradient goes through its draws."""

from functools import partial
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


@runtime_checkable
class Posterior(Protocol):
    """What an encoder gives: a density over one latent vector that can be drawn from. Any object
    with these does; it must be a pytree, such as an Equinox module."""

    @property
    def mean(self) -> Float[Array, " d"]:
        """Each dimension's mean; diagnostics show it."""

    @property
    def sigma(self) -> Float[Array, " d"]:
        """Each dimension's standard deviation, which `units="posterior"` steps by."""

    def log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """log q(z | x), in nats, normalised; a bridge follows its gradient."""

    def sample_and_log_prob(
        self, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """One draw, as a differentiable function of q's parameters, and its log-density."""


class Pathwise(eqx.Module):
    """A posterior q for the doubly reparameterised gradient of a bound of S draws.

    The derivative of log q(z_0) in q's own parameters at a fixed z_0, the score, is left out, and
    what reaches them through z_0 is weighted with w_s / sum_s w_s once more. The gradient of
    mean log (1/S) sum_s w_s over `batch` examples keeps its expectation; at S = 1 this is "sticking
    the landing". Where the flow follows log q, that derivative stays. Tucker, Lawson, Gu and
    Maddison, "Doubly Reparameterized Gradient Estimators" (2019); Roeder, Wu and Duvenaud (2017).
    """

    posterior: Posterior
    batch: int = eqx.field(static=True)

    @property
    def mean(self) -> Float[Array, " d"]:
        return self.posterior.mean

    @property
    def sigma(self) -> Float[Array, " d"]:
        return self.posterior.sigma

    def log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        return self.posterior.log_prob(z)

    def sample_and_log_prob(
        self, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        z, weight = _weighted_again(self.posterior.sample_and_log_prob(key=key)[0], self.batch)
        held = jax.lax.stop_gradient(self.posterior)
        return z, held.log_prob(z) - weight


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _weighted_again(z: Array, batch: int) -> tuple[Array, Array]:
    """z, and a zero that is added to log w: its cotangent is (1 / batch) w_s / sum_s w_s, up to the
    sign of the objective, and says what the cotangent of z is to be multiplied with."""
    zero = 0 * z[0]  # a constant would be one for all rows of a vmap, and its cotangent their sum
    return z, zero


def _forward(z: Array, batch: int) -> tuple[tuple[Array, Array], None]:
    return _weighted_again(z, batch), None


def _backward(batch: int, _: None, cotangents: tuple[Array, Array]) -> tuple[Array]:
    of_z, of_weight = cotangents
    return (of_z * jnp.abs(of_weight) * batch,)


_weighted_again.defvjp(_forward, _backward)
