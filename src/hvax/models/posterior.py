"""q(z | x): what a posterior offers, and the form of it whose gradient goes through its draws."""

from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree


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
        """log q(z | x), in nats, normalized; a bridge follows its gradient."""

    def sample_and_log_prob(
        self, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """One draw, as a differentiable function of q's parameters, and its log-density."""


class Pathwise(eqx.Module):
    """A posterior q for the doubly reparameterized gradient of a bound of S draws.

    Draws come from `drawn_from`, which is q with a gradient of its own (`tied`), and are scored
    without the derivative of log q(z_0) in q's own parameters at a fixed z_0, the score. Where the
    flow follows log q, that derivative stays.
    """

    posterior: Posterior
    drawn_from: Posterior

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
        z, _ = self.drawn_from.sample_and_log_prob(key=key)
        arrays, rest = eqx.partition(
            self.posterior, eqx.is_array
        )  # a user's own may hold functions
        return z, eqx.combine(jax.lax.stop_gradient(arrays), rest).log_prob(z)


def tied(
    rows: PyTree, zero: Float[Array, ""]
) -> tuple[PyTree, Float[Array, " rows"], Float[Array, " rows"]]:
    """Posteriors, a row for each draw, whose gradient is weighted with w_s / sum_s w_s once more;
    and two zeros a row, of which one must be added to log w and the other to the bound.

    The ratio of the zeros' cotangents is that weight, whatever the bound is multiplied with or
    added to, so the gradient is linear in the bound's cotangent. It keeps its expectation; with one
    draw it is "sticking the landing". Tucker, Lawson, Gu and Maddison, "Doubly Reparameterized
    Gradient Estimators" (2019); Roeder, Wu and Duvenaud (2017).

    `zero` is a 0 that a vmap has one of for each of its rows (`zero_of`).
    """
    leaves, rest = eqx.partition(rows, eqx.is_inexact_array)
    same, of_weight, of_bound = _tied(plus(zero, leaves))
    return eqx.combine(same, rest), of_weight, of_bound


@jax.custom_vjp
def _tied(leaves: PyTree) -> tuple[PyTree, Array, Array]:
    first = jax.tree.leaves(leaves)[0]
    zero = jnp.where(first.reshape(len(first), -1)[:, 0] == 0, 0.0, jnp.zeros((), first.dtype))
    return leaves, zero, zero


def _forward(leaves: PyTree) -> tuple[tuple[PyTree, Array, Array], None]:
    return _tied(leaves), None


def _backward(_: None, cotangents: tuple[PyTree, Array, Array]) -> tuple[PyTree]:
    of_leaves, of_weight, of_bound = cotangents
    unused = of_bound == 0
    weight = jnp.where(unused, 0.0, of_weight / jnp.where(unused, 1.0, of_bound))
    return (jax.tree.map(lambda a: a * weight.reshape(-1, *(1,) * (a.ndim - 1)), of_leaves),)


_tied.defvjp(_forward, _backward)


def zero_of(*trees: PyTree) -> Float[Array, ""]:
    """A 0 made of all these arrays: where a vmap maps over any of them it has one for each row.

    To what a vmap does not map over, a derivative of one's own (`jax.custom_vjp`) is given the sum
    of its rows' cotangents; a rule that is not the same for all rows then needs this.
    """
    zero = jnp.zeros(())
    for leaf in filter(eqx.is_array, jax.tree.leaves(trees)):
        if leaf.size:
            zero = zero + jnp.where(leaf.reshape(-1)[0] == 0, 0.0, 0.0)
    return jax.lax.stop_gradient(zero)


def plus(zero: Float[Array, ""], tree: PyTree) -> PyTree:
    """The tree with `zero` added to its floats."""
    return jax.tree.map(lambda a: a + zero.astype(a.dtype) if eqx.is_inexact_array(a) else a, tree)
