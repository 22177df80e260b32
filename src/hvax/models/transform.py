"""Monotone transforms of features, y = t(x): the identity, log, log1p, or asinh about a center.

A heavy-tailed feature is modeled as t(x), while the density remains one of the raw x:

    log p(x) = log p_y(t(x)) + log t'(x)

    none     t(x) = x
    log      t(x) = log x, x > 0
    log1p    t(x) = log(1 + x), x > -1
    asinh    t(x) = asinh((x - center) / width): linear near the center, a logarithm on both sides
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Num
from numpy.typing import NDArray

from hvax.parameters import Fixed

Kind = Literal["none", "log", "log1p", "asinh"]


class Transform(eqx.Module):
    """One monotone transform for each feature of an example.

    **Arguments:**

    - `kinds`: the transform of each feature, in row-major order, or one for all features.
    - `center`, `width`: parameters of asinh, arrays of one example's shape; `width` > 0. For other
      kinds any finite numbers (and a width of 1) will do.

    Raises `ValueError` for an unknown kind, for shapes that do not match, and for a width <= 0.
    """

    kinds: tuple[Kind, ...] = eqx.field(static=True)
    center: Fixed
    width: Fixed

    def __init__(self, kinds: Kind | Sequence[Kind], center: ArrayLike, width: ArrayLike):
        kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        for kind in kinds:
            if kind not in get_args(Kind):
                raise ValueError(f"kinds must be among {get_args(Kind)}, got {kind!r}.")
        if jnp.shape(center) != jnp.shape(width) or len(kinds) not in (1, np.size(center)):
            raise ValueError(
                "kinds, center and width must describe the same features, got "
                f"{len(kinds)} kinds and the shapes {jnp.shape(center)} and {jnp.shape(width)}."
            )
        if not np.all(np.asarray(width) > 0):
            raise ValueError(
                f"width must be > 0, got {np.min(width)}. Give 1 for features without asinh."
            )
        self.kinds = kinds[:1] if len(set(kinds)) == 1 else kinds
        self.center, self.width = Fixed(center), Fixed(width)

    def __call__(self, x: Num[Array, "..."]) -> Float[Array, "..."]:
        """t(x) of each feature; NaN outside the support."""
        y = x
        if "log" in self.kinds:
            y = self._where("log", jnp.log, y, x, otherwise=1.0)
        if "log1p" in self.kinds:
            y = self._where("log1p", jnp.log1p, y, x, otherwise=0.0)
        if "asinh" in self.kinds:
            y = jnp.where(self._are("asinh"), jnp.arcsinh(self._relative(x)), y)
        return y

    def inverse(self, y: Float[Array, "..."]) -> Float[Array, "..."]:
        """The inverse transform: x with t(x) = y."""
        x = y
        if "log" in self.kinds:
            x = self._where("log", jnp.exp, x, y, otherwise=0.0)
        if "log1p" in self.kinds:
            x = self._where("log1p", jnp.expm1, x, y, otherwise=0.0)
        if "asinh" in self.kinds:
            center, width = self._constants(y)
            safe = jnp.where(self._are("asinh"), y, 0.0)
            x = jnp.where(self._are("asinh"), center + width * jnp.sinh(safe), x)
        return x

    def mean(
        self, location: Float[Array, "..."], sigma: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """E[x] for t(x) ~ N(location, sigma^2), in closed form.

        With m = location and s = sigma: exp(m + s^2 / 2) for log, one less for log1p, and
        center + width exp(s^2 / 2) sinh(m) for asinh.
        """
        spread = jnp.where(self._are("none"), 0.0, 0.5 * sigma**2)
        x = location
        if "log" in self.kinds:
            x = self._where("log", jnp.exp, x, location + spread, otherwise=0.0)
        if "log1p" in self.kinds:
            x = self._where("log1p", jnp.expm1, x, location + spread, otherwise=0.0)
        if "asinh" in self.kinds:
            center, width = self._constants(location)
            safe = jnp.where(self._are("asinh"), location, 0.0)
            # exp(s^2 / 2) sinh(m) as two exponentials, so that no factor overflows by itself.
            wide = 0.5 * (jnp.exp(spread + safe) - jnp.exp(spread - safe))
            x = jnp.where(self._are("asinh"), center + width * wide, x)
        return x

    def log_derivative(self, x: Num[Array, "..."]) -> Float[Array, "..."]:
        """log t'(x) of each feature, in nats."""
        slope = jnp.zeros_like(x)
        if "log" in self.kinds:
            slope = self._where("log", lambda x: -jnp.log(x), slope, x, otherwise=1.0)
        if "log1p" in self.kinds:
            slope = self._where("log1p", lambda x: -jnp.log1p(x), slope, x, otherwise=0.0)
        if "asinh" in self.kinds:
            width = self._constants(x)[1]
            # t' = 1 / (width sqrt(1 + u^2)); hypot does not overflow where u^2 would.
            bent = -jnp.log(width) - jnp.log(jnp.hypot(1.0, self._relative(x)))
            slope = jnp.where(self._are("asinh"), bent, slope)
        return slope

    def supports(self, x: NDArray) -> NDArray[np.bool_]:
        """Whether each value of x (batch axis first) is inside its feature's support."""
        least = {"log": 0.0, "log1p": -1.0}
        bounds = np.array([least.get(kind, -np.inf) for kind in self.kinds])
        shape = self.center.value.shape if len(bounds) > 1 else ()
        return np.asarray(x) > bounds.reshape(shape)

    def _where(
        self,
        kind: Kind,
        function: Callable[[Array], Array],
        old: Array,
        x: Array,
        *,
        otherwise: float,
    ) -> Array:
        """`function(x)` for features of this kind, `old` for the others."""
        # The other features are replaced before the call: a NaN in an unselected branch of `where`
        # would still reach the gradient.
        chosen = self._are(kind)
        return jnp.where(chosen, function(jnp.where(chosen, x, otherwise)), old)

    def _are(self, kind: Kind) -> Bool[np.ndarray, "..."]:
        chosen = np.array([each == kind for each in self.kinds])
        return np.broadcast_to(
            chosen if len(chosen) == 1 else chosen.reshape(self.center.value.shape),
            self.center.value.shape,
        )

    def _constants(self, x: Array) -> tuple[Array, Array]:
        return self.center.value.astype(x.dtype), self.width.value.astype(x.dtype)

    def _relative(self, x: Array) -> Array:
        center, width = self._constants(x)
        return jnp.where(self._are("asinh"), (x - center) / width, 0.0)
