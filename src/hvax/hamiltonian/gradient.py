"""Methods to differentiate a potential: each returns a function z -> (U, grad U, aux).

All of them are differentiable themselves, so that the gradient of a loss can pass through a flow
(second order), and work under `jit` and `vmap`.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hvax.checks import check_callable, check_one_of

Potential = Callable[[Float[Array, " d"]], tuple[Float[Array, ""], PyTree]]
"""z -> (U, aux): the potential in nats, and anything else that is computed with it."""
AnyPotential = Callable[[Float[Array, " d"]], Float[Array, ""] | tuple[Float[Array, ""], PyTree]]
"""z -> U or z -> (U, aux), as a user may give it."""


class Evaluation(NamedTuple):
    """A potential and its gradient at one position."""

    potential: Float[Array, ""]  # U, nats
    gradient: Float[Array, " d"]  # dU/dz
    aux: PyTree
    ends: PyTree = None  # along a bridge, the evaluations of both of its ends


ValueAndGrad = Callable[[Float[Array, " d"]], Evaluation]


class AbstractGradient(eqx.Module):
    """A way to differentiate a potential."""

    @abstractmethod
    def value_and_grad(self, potential: Potential) -> ValueAndGrad:
        """The function z -> (U, grad U, aux) of a potential."""


class ReverseMode(AbstractGradient):
    """Reverse mode: one forward and one backward pass; exact to rounding."""

    def value_and_grad(self, potential: Potential) -> ValueAndGrad:
        differentiated = jax.value_and_grad(potential, has_aux=True)

        def evaluate(z: Float[Array, " d"]) -> Evaluation:
            (value, aux), gradient = differentiated(z)
            return Evaluation(value, gradient, aux)

        return evaluate


class ForwardMode(AbstractGradient):
    """Forward mode: one Jacobian-vector product per latent axis; exact to rounding.

    A Jacobian-vector product along an axis is the first-order Taylor coefficient along it, so this
    is also the method `taylor`.
    """

    def value_and_grad(self, potential: Potential) -> ValueAndGrad:
        def evaluate(z: Float[Array, " d"]) -> Evaluation:
            # Linearized once, so that the potential is evaluated once for all d directions.
            value, along, aux = jax.linearize(potential, z, has_aux=True)
            gradient = jax.vmap(along)(jnp.eye(z.size, dtype=z.dtype))
            return Evaluation(value, gradient.astype(z.dtype), aux)

        return evaluate


class FiniteDifference(AbstractGradient):
    """Finite differences, for comparison with implementations that must use them.

        central: (U(z + h e_i) - U(z - h e_i)) / 2h,  h = cbrt(eps) * max(1, |z_i|)
        forward: (U(z + h e_i) - U(z)) / h,           h = sqrt(eps) * max(1, |z_i|)

    `eps` is the dtype's rounding unit; h is a constant to an outer gradient. In float32 at
    |U| = 800 the error is of the order of 4e-3 (central) and 0.1 (forward).
    """

    scheme: Literal["central", "forward"] = eqx.field(static=True, default="central")

    def __check_init__(self) -> None:
        if self.scheme not in ("central", "forward"):
            raise ValueError(f"scheme must be 'central' or 'forward', got {self.scheme!r}.")

    def value_and_grad(self, potential: Potential) -> ValueAndGrad:
        def evaluate(z: Float[Array, " d"]) -> Evaluation:
            value, aux = potential(z)
            eps = jnp.finfo(z.dtype).eps
            h = (eps ** (1 / 3) if self.scheme == "central" else eps**0.5) * jnp.maximum(1, abs(z))
            # h balances truncation against rounding, for a U of order 1 whose derivatives are too.
            h = jax.lax.stop_gradient(h.astype(z.dtype))
            shifted = jax.vmap(lambda shift: potential(z + shift)[0])
            ahead = shifted(jnp.diag(h))
            if self.scheme == "central":
                gradient = (ahead - shifted(jnp.diag(-h))) / (2 * h)
            else:
                gradient = (ahead - value) / h
            return Evaluation(value, gradient.astype(z.dtype), aux)

        return evaluate


_METHODS: dict[str, Callable[[], AbstractGradient]] = {
    "reverse": ReverseMode,
    "forward": ForwardMode,
    "taylor": ForwardMode,
    "finite": FiniteDifference,
}


def gradient_method(method: str | AbstractGradient) -> AbstractGradient:
    """The gradient method of this name; a method itself passes through.

    Raises `ValueError` for a name other than reverse, forward, taylor and finite.
    """
    if isinstance(method, AbstractGradient):
        return method
    check_one_of(method, "gradient method", _METHODS)
    return _METHODS[method]()


def with_aux(potential: AnyPotential) -> Potential:
    """A potential z -> U or z -> (U, aux) in the second form, with aux None for the first."""

    check_callable(potential, "potential")

    def paired(z: Float[Array, " d"]) -> tuple[Float[Array, ""], PyTree]:
        value = potential(z)
        return value if isinstance(value, tuple) else (value, None)

    return paired
