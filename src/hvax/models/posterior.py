"""The contract of a posterior q(z | x), and its doubly reparameterized gradient."""

from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree


@runtime_checkable
class Posterior(Protocol):
    """The output of an encoder: a density over one latent vector that can be sampled.

    Any pytree with these members, such as an Equinox module, is a posterior.
    """

    @property
    def mean(self) -> Float[Array, " d"]:
        """The mean of each dimension, for diagnostics."""

    @property
    def sigma(self) -> Float[Array, " d"]:
        """The standard deviation of each dimension, the unit of steps with `units="posterior"`."""

    def log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """The normalized log q(z | x) in nats; a bridge follows its gradient."""

    def sample_and_log_prob(
        self, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """A draw, differentiable in q's parameters, and its log-density in nats."""


class Pathwise(eqx.Module):
    """A posterior q whose log-density at its own draws has no score term in the gradient.

    Draws come from `drawn_from`, which equals q but weights the gradient
    (`with_weighted_gradient`). Their log q(z_0) is differentiated through z_0 only, not through q's
    parameters at fixed z_0 (the score). `log_prob`, which a bridge follows, keeps its full
    derivative.
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
        # Only arrays can be stopped; a user's own posterior may hold functions as well.
        arrays, rest = eqx.partition(self.posterior, eqx.is_array)
        return z, eqx.combine(jax.lax.stop_gradient(arrays), rest).log_prob(z)


def with_weighted_gradient(
    rows: PyTree, zero: Float[Array, ""]
) -> tuple[PyTree, Float[Array, " rows"], Float[Array, " rows"]]:
    """The same posteriors (a row per draw) with gradients weighted by v_s = w_s / sum_s w_s again.

    Also returns two zeros per row; the caller adds the first to log w_s and the second to the
    bound. The doubly reparameterized gradient is sum_s v_s^2 d log w_s / d z_s d z_s / d phi, where
    the ordinary gradient of log (1/S) sum_s w_s has v_s: one more factor v_s is needed in the path
    to q's parameters phi. In the backward pass the cotangent of the first zero is c v_s and that of
    the second is c, where c is the bound's own cotangent, so their ratio is v_s, whatever the bound
    is later multiplied with. That way any loss of the bound gets the right gradient.

    The expectation of the gradient is unchanged; with one draw it is "sticking the landing".
    Tucker, Lawson, Gu and Maddison, "Doubly Reparameterized Gradient Estimators" (2019); Roeder, Wu
    and Duvenaud, "Sticking the Landing" (2017).

    `zero` is a 0 that is mapped wherever the model is (see `batched_zero`).
    """
    leaves, rest = eqx.partition(rows, eqx.is_inexact_array)
    same, of_weight, of_bound = _weighted(add_to_floats(zero, leaves))
    return eqx.combine(same, rest), of_weight, of_bound


@jax.custom_vjp
def _weighted(leaves: PyTree) -> tuple[PyTree, Array, Array]:
    first = jax.tree.leaves(leaves)[0]
    # Zeros computed from the leaves, so that a vmap over the leaves maps over the zeros as well.
    zero = jnp.where(first.reshape(len(first), -1)[:, 0] == 0, 0.0, jnp.zeros((), first.dtype))
    return leaves, zero, zero


def _forward(leaves: PyTree) -> tuple[tuple[PyTree, Array, Array], None]:
    return _weighted(leaves), None


def _backward(_: None, cotangents: tuple[PyTree, Array, Array]) -> tuple[PyTree]:
    of_leaves, of_weight, of_bound = cotangents
    unused = of_bound == 0  # the loss does not depend on this bound: its weight is 0, not 0 / 0
    weight = jnp.where(unused, 0.0, of_weight / jnp.where(unused, 1.0, of_bound))
    return (jax.tree.map(lambda a: a * weight.reshape(-1, *(1,) * (a.ndim - 1)), of_leaves),)


_weighted.defvjp(_forward, _backward)


def batched_zero(*trees: PyTree) -> Float[Array, ""]:
    """A scalar 0 computed from all these arrays: a vmap over any of them maps over the 0 too.

    Adding it to an argument of a `jax.custom_vjp` function makes that argument mapped. Without it,
    the backward rule would receive for an unmapped argument the cotangents of all rows summed up,
    which is wrong for a rule that is not linear in them.
    """
    zero = jnp.zeros(())
    for leaf in filter(eqx.is_array, jax.tree.leaves(trees)):
        if leaf.size:
            # Not 0 * leaf, which is NaN for an infinite leaf.
            zero = zero + jnp.where(leaf.reshape(-1)[0] == 0, 0.0, 0.0)
    return jax.lax.stop_gradient(zero)


def add_to_floats(zero: Float[Array, ""], tree: PyTree) -> PyTree:
    """The tree with `zero` added to each of its floating-point arrays."""
    return jax.tree.map(lambda a: a + zero.astype(a.dtype) if eqx.is_inexact_array(a) else a, tree)
