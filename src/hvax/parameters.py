"""Numbers that are either learned or fixed: step sizes, inverse temperatures, a decoder's sigma.

Training moves every floating-point array of a model except what stands inside a `Fixed`; that rule
is `trainable`, and nothing else decides it.
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

# Below this fraction of the upper bound the gradient through a sigmoid, or the number itself,
# would die in float32; a learned number cannot get there.
FLOOR = 1e-4


class AbstractParameter(eqx.Module):
    """A positive number, or an array of them, with its present `value`."""

    @property
    @abstractmethod
    def value(self) -> Float[Array, "..."]:
        """The number or numbers as the model uses them now."""


class Fixed(AbstractParameter):
    """A value that training never moves, by weight decay neither.

    `value` may be any real array; it is stored in the default floating dtype.
    """

    held: Float[Array, "..."]

    def __init__(self, value: ArrayLike):
        self.held = real_array(value, "value").astype(float)

    @property
    def value(self) -> Float[Array, "..."]:
        return self.held


class Learned(AbstractParameter):
    """A value in (0, upper) that training moves, through a smooth map that cannot reach a bound.

        value = upper * (1e-4 + (1 - 1e-4) * sigmoid(raw))

    Where floats would round the value to a bound and its gradient to 0, |raw| > 14.5 in float32,
    the value stays where it is and its gradient too, so that training can lead it back.

    `initial` is a number or an array. Raises `ValueError` where it is not strictly between
    `1e-4 * upper` and `upper`, or so close to one of them: at a bound nothing would be learned.
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
                f"{upper:g}, got {initial!r}. Use a number inside, or hold it with Fixed(...)."
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
                f"closer to a bound {self.raw.dtype} learns nothing. Use a number inside, or hold "
                "it with Fixed(...)."
            )

    @property
    def value(self) -> Float[Array, "..."]:
        return self.upper * (FLOOR + (1 - FLOOR) * jax.nn.sigmoid(_within(self.raw)))

    def scaled(self, factor: ArrayLike) -> "Learned":
        """The parameter at `factor` <= 1 times its value, no lower than just above its bound; a
        factor of 1 changes no bit. It may be traced."""
        traced = any(isinstance(a, jax.core.Tracer) for a in (self.raw, factor))
        numpy: Any = jnp if traced else np  # NumPy compiles nothing
        limit = _limit(self.raw.dtype)
        held = numpy.clip(numpy.asarray(self.raw), -limit, limit)
        now = FLOOR + (1 - FLOOR) / (1 + numpy.exp(-held))
        fraction = (numpy.maximum(factor * now, 1.01 * FLOOR) - FLOOR) / (1 - FLOOR)
        raw = (numpy.log(fraction) - numpy.log1p(-fraction)).astype(self.raw.dtype)
        chosen = numpy.where(factor == 1, numpy.asarray(self.raw), raw)
        return eqx.tree_at(lambda p: p.raw, self, jnp.asarray(chosen, self.raw.dtype))


def _limit(dtype: Any) -> float:
    """The largest |raw| at which the value is told from its bounds: 4 eps of `upper` away."""
    return -float(np.log(4 * jnp.finfo(dtype).eps))


@jax.custom_jvp
def _within(raw: Float[Array, "..."]) -> Float[Array, "..."]:
    """raw within its limits, with the derivative of the identity."""
    limit = _limit(raw.dtype)
    return jnp.clip(raw, -limit, limit)


@_within.defjvp
def _within_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _within(*primals), tangents[0]


def as_parameter(value: AbstractParameter | ArrayLike, name: str) -> AbstractParameter:
    """A parameter as it is; a plain number or array held fixed. `name` is the argument's."""
    return value if isinstance(value, AbstractParameter) else Fixed(real_array(value, name))


def trainable(model: PyTree) -> PyTree:
    """The filter of what is learned: True for floating-point arrays outside every `Fixed`.

    The result has the model's structure and suits `equinox.partition(model, trainable(model))`.
    """

    def learned(node: Any) -> Any:
        if isinstance(node, Fixed):
            return jax.tree.map(lambda _: False, node)
        return eqx.is_inexact_array(node)

    return jax.tree.map(learned, model, is_leaf=lambda node: isinstance(node, Fixed))
