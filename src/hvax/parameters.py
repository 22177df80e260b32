"""Numbers that are either learned or fixed: step sizes, inverse temperatures, a decoder's sigma.

Training updates every floating-point array of a model except those inside a `Fixed`. The function
`trainable` is this rule, and the only place that knows it.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from hvax.checks import positive, real_array

# Lower bound of a learned number, as a fraction of its upper bound: closer to 0 the gradient
# through the sigmoid underflows in float32, and the number would never recover.
FLOOR = 1e-4


class AbstractParameter(eqx.Module):
    """A positive number or array; `value` is what the model computes with."""

    @property
    @abstractmethod
    def value(self) -> Float[Array, "..."]:
        """The current number or numbers, in the model's units."""


class Fixed(AbstractParameter):
    """A value that training never changes, not even by weight decay.

    `value` may be any real array; it is stored in JAX's default floating dtype.
    """

    held: Float[Array, "..."]

    def __init__(self, value: ArrayLike):
        self.held = real_array(value, "value").astype(float)

    @property
    def value(self) -> Float[Array, "..."]:
        return self.held


class Learned(AbstractParameter):
    """A value in (0, upper) that training changes.

        value = upper * (1e-4 + (1 - 1e-4) * sigmoid(raw))

    Beyond |raw| = 14.5 (in float32), where rounding would put the value onto a bound and its
    gradient to 0, value and gradient stay those at 14.5, so that training can lead the value back.

    **Arguments:**

    - `initial`: a number or an array of any shape.
    - `upper`: the upper bound, a finite number > 0.

    Raises `ValueError` unless `initial` is strictly between `1e-4 * upper` and `upper`, and not so
    close to either that its gradient vanishes.
    """

    raw: Float[Array, "..."]
    upper: float = eqx.field(static=True)

    def __init__(self, initial: ArrayLike, *, upper: float = 1.0):
        upper = positive(upper, "upper")
        real_array(initial, "initial")
        start = np.asarray(initial, dtype=np.float64) / upper
        if not np.all((start > FLOOR) & (start < 1)):
            raise ValueError(
                f"initial must lie strictly between {FLOOR * upper:g} and its upper bound "
                f"{upper:g}, got {initial!r}. Use a number inside, or Fixed(...)."
            )
        fraction = (start - FLOOR) / (1 - FLOOR)
        raw = np.log(fraction) - np.log1p(-fraction)
        self.raw = jnp.asarray(raw, dtype=float)
        self.upper = upper
        limit = _limit(self.raw.dtype)
        if not np.all(np.abs(raw) < limit):
            ends = upper * (FLOOR + (1 - FLOOR) / (1 + np.exp([limit, -limit])))
            raise ValueError(
                f"initial must lie between {ends[0]:.9g} and {ends[1]:.9g}, got {initial!r}: "
                f"closer to a bound its gradient is 0 in {self.raw.dtype}. Use a number inside, or "
                "Fixed(...)."
            )

    @property
    def value(self) -> Float[Array, "..."]:
        return self.upper * (FLOOR + (1 - FLOOR) * jax.nn.sigmoid(_clip_straight_through(self.raw)))

    def scaled(self, factor: ArrayLike) -> "Learned":
        """The parameter with `factor` <= 1 times its value, but not below 1.01e-4 of `upper`.

        A factor of 1 changes no bit. `factor` may be traced.
        """
        traced = any(isinstance(a, jax.core.Tracer) for a in (self.raw, factor))
        numpy: Any = jnp if traced else np  # outside a trace NumPy avoids compiling anything
        limit = _limit(self.raw.dtype)
        clipped = numpy.clip(numpy.asarray(self.raw), -limit, limit)
        current = FLOOR + (1 - FLOOR) / (1 + numpy.exp(-clipped))
        fraction = (numpy.maximum(factor * current, 1.01 * FLOOR) - FLOOR) / (1 - FLOOR)
        raw = (numpy.log(fraction) - numpy.log1p(-fraction)).astype(self.raw.dtype)
        # log and exp do not invert each other exactly: a factor of 1 must keep `raw` itself.
        chosen = numpy.where(factor == 1, numpy.asarray(self.raw), raw)
        return eqx.tree_at(lambda p: p.raw, self, jnp.asarray(chosen, self.raw.dtype))


def _limit(dtype: Any) -> float:
    """The largest |raw| that is used: there the value is 4 eps of `upper` away from a bound."""
    return -float(np.log(4 * jnp.finfo(dtype).eps))


@jax.custom_jvp
def _clip_straight_through(raw: Float[Array, "..."]) -> Float[Array, "..."]:
    """`raw` clipped to its limits, but with the derivative of the identity (straight-through)."""
    # The derivative of clip is 0 outside: an optimizer could never bring `raw` back.
    limit = _limit(raw.dtype)
    return jnp.clip(raw, -limit, limit)


@_clip_straight_through.defjvp
def _clip_straight_through_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    return _clip_straight_through(*primals), tangents[0]


def as_parameter(value: AbstractParameter | ArrayLike, name: str) -> AbstractParameter:
    """`value` itself if it is a parameter, else `Fixed(value)`; `name` is for error messages."""
    return value if isinstance(value, AbstractParameter) else Fixed(real_array(value, name))


def trainable(model: PyTree) -> PyTree:
    """Filter for `equinox.partition`: True for each floating-point array outside every `Fixed`.

        learned, rest = equinox.partition(model, trainable(model))

    The result is a pytree of booleans with the model's structure.
    """

    def learned(node: Any) -> Any:
        if isinstance(node, Fixed):
            return jax.tree.map(lambda _: False, node)
        return eqx.is_inexact_array(node)

    return jax.tree.map(learned, model, is_leaf=lambda node: isinstance(node, Fixed))
