"""Wrappers that let networks work in standardized units while the model stays one of the raw data.

Real features are standardized, y = (t(x) - shift) / scale, with t a monotone transform of each
feature (by default the identity). The density of x is that of y times |dy / dx|, so log-likelihoods
are in nats of the raw data and comparable between models. For other likelihoods the parameters (log
rates, logits) are offset + gain * network output.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num, PRNGKeyArray, PyTree

from hvax.models.data_point import Data, Mask, check_shape, filled, sum_observed
from hvax.models.decoder import Decoder
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.inputs import call_network
from hvax.models.likelihood import AbstractLikelihood
from hvax.models.transform import Transform
from hvax.parameters import Fixed
from hvax.wording import named


class StandardizedInput(eqx.Module):
    """An encoder of raw data: x -> network((t(x) - shift) / scale), 0 where x is hidden."""

    passes_condition: ClassVar[bool] = True

    network: Callable[[Array], Any]
    shift: Fixed
    scale: Fixed
    transform: Transform | None = None

    def __call__(self, x: Data, condition: Any = None, mask: Mask = None) -> Any:
        """The posterior of one x; the condition stays in the user's own units."""
        check_shape(x, self.shift.value.shape)
        y = _standardized(x, self.shift, self.scale, self.transform, mask)
        return call_network(self.network, y, condition, mask)


class StandardizedLikelihood(AbstractLikelihood):
    """The likelihood of raw x for an inner likelihood of y = (t(x) - shift) / scale.

        log p(x | z) = log p_inner(y | z) + sum log |dy / dx|

    With `floor`, an inner Gaussian N(mean, sigma^2) becomes N(mean, sigma^2 + floor^2). Recorded
    numbers are rounded, and without a floor a sigma far below the rounding would raise the
    likelihood without bound.
    """

    inner: AbstractLikelihood
    shift: Fixed
    scale: Fixed
    floor: Fixed | None = None
    transform: Transform | None = None

    def log_prob(self, output: PyTree, x: Data, mask: Mask = None) -> Float[Array, ""]:
        check_shape(x, self.shift.value.shape)
        y = _standardized(x, self.shift, self.scale, self.transform, mask)
        output = self._floored(output)
        if mask is None:  # an inner likelihood of the user's own may take no mask
            log_p = self.inner.log_prob(output, y)
        else:
            log_p = self.inner.log_prob(output, y, mask)
        log_slope = -sum_observed(jnp.log(self.scale.value), mask)
        if self.transform is not None:
            raw = _in_support(x.astype(y.dtype), mask)
            log_slope = log_slope + sum_observed(self.transform.log_derivative(raw), mask)
        return log_p + log_slope.astype(log_p.dtype)

    def mean(self, output: PyTree) -> Float[Array, "..."]:
        """E[x | z] in units of x, in closed form for a transformed Gaussian."""
        inner = self._floored(output)
        location = self._raw(self.inner.mean(inner))
        if self.transform is None:
            return location
        sigma = inner.sigma if isinstance(inner, DiagonalGaussian) else self._inner_sigma()
        return self.transform.mean(location, self.scale.value.astype(location.dtype) * sigma)

    def standardized(self, x: Num[Array, "..."]) -> Float[Array, "..."]:
        """y = (t(x) - shift) / scale: in standard deviations of each feature."""
        return _standardized(x, self.shift, self.scale, self.transform, None)

    def sample(self, output: PyTree, *, key: PRNGKeyArray) -> Num[Array, "..."]:
        y = self._raw(self.inner.sample(self._floored(output), key=key))
        return y if self.transform is None else self.transform.inverse(y)

    def check(self, x: np.ndarray, mask: np.ndarray | None = None) -> None:
        if mask is None:
            self.inner.check(x)
        else:
            self.inner.check(x, mask)
        if self.transform is None:
            return
        outside = ~self.transform.supports(x)
        if mask is not None:
            outside = outside & mask
        if np.any(outside):
            row, *feature = (int(i) for i in np.argwhere(outside)[0])
            raise ValueError(
                f"feature {', '.join(map(str, feature))} must be positive, as in the training data "
                f"(its logarithm is modeled), got {x[row, *feature]!s} at index {row}. Train with "
                f"{named('transform')} none to allow such values."
            )

    def _floored(self, output: PyTree) -> PyTree:
        if self.floor is None or not isinstance(output, DiagonalGaussian):
            return output
        # log sqrt(sigma^2 + floor^2) from logarithms, so that no square underflows.
        log_floor = jnp.log(self.floor.value).astype(output.log_sigma.dtype)
        log_sigma = 0.5 * jnp.logaddexp(2 * output.log_sigma, 2 * log_floor)
        return DiagonalGaussian(output.mean, log_sigma)

    def _inner_sigma(self) -> Float[Array, "..."]:
        sigma = getattr(self.inner, "sigma", None)
        if sigma is None:
            raise ValueError(
                "the likelihood of transformed features must have a sigma, got "
                f"{type(self.inner).__name__}. Use LearnedGaussian or FixedGaussian."
            )
        return sigma.value

    def _raw(self, standardized: Float[Array, "..."]) -> Float[Array, "..."]:
        """shift + scale * y: back to the units of t(x), in the dtype of y."""
        dtype = standardized.dtype
        return self.shift.value.astype(dtype) + self.scale.value.astype(dtype) * standardized


class ScaledOutput(eqx.Module):
    """A decoder network with rescaled output: z -> offset + gain * network(z).

    `offset` and `gain` have one array per array of the network's output, of the same shape and in
    the order of `jax.tree.leaves`: one for logits, two for a `CountRate`.
    """

    passes_condition: ClassVar[bool] = True

    network: Callable[[Array], PyTree]
    offset: tuple[Fixed, ...]
    gain: tuple[Fixed, ...]

    def __call__(self, z: Float[Array, " d"], condition: Any = None) -> PyTree:
        leaves, structure = jax.tree.flatten(call_network(self.network, z, condition))
        scaled = []
        for y, offset, gain in zip(leaves, self.offset, self.gain, strict=True):
            check_shape(y, offset.value.shape, name="the decoder's output")
            scaled.append(offset.value.astype(y.dtype) + gain.value.astype(y.dtype) * y)
        return jax.tree.unflatten(structure, scaled)


def standardized(
    encoder: Callable[[Array], Any],
    decoder: Decoder,
    *,
    shift: ArrayLike,
    scale: ArrayLike,
    floor: ArrayLike | None = None,
    transform: Transform | None = None,
) -> tuple[StandardizedInput, Decoder]:
    """Wrap an encoder and decoder of standardized data into a pair for raw data.

    For Gaussian likelihoods.

    **Arguments:**

    - `shift`, `scale`: of one example's shape: mean and standard deviation of t(x) over the
      training data. Use a scale of 1 for a feature that does not vary.
    - `floor`: the least sigma of each feature, in units of `scale`; None is no limit.
    - `transform`: the monotone transform t; None is the identity.

    Raises `ValueError` unless scale is finite and > 0 and has the shape of shift.
    """
    if not np.all(np.isfinite(scale) & (np.asarray(scale) > 0)):
        raise ValueError(
            f"scale must be finite and > 0, got {np.asarray(scale)}. Give 1 for a feature that "
            "does not vary."
        )
    if jnp.shape(shift) != jnp.shape(scale):
        raise ValueError(
            "shift and scale must both have the shape of one example, got the shapes "
            f"{jnp.shape(shift)} and {jnp.shape(scale)}."
        )
    fixed = Fixed(shift), Fixed(scale)
    likelihood = StandardizedLikelihood(
        decoder.likelihood, *fixed, None if floor is None else Fixed(floor), transform
    )
    return StandardizedInput(encoder, *fixed, transform), Decoder(decoder.network, likelihood)


def _standardized(
    x: Data, shift: Fixed, scale: Fixed, transform: Transform | None, mask: Mask
) -> Array:
    """(t(x) - shift) / scale in the dtype of x, or in float32 if that is wider; 0 where hidden."""
    own = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else shift.value.dtype
    dtype = jnp.promote_types(own, jnp.float32)
    x = _in_support(x.astype(dtype), mask)
    y = x if transform is None else transform(x)
    return filled((y - shift.value.astype(dtype)) / scale.value.astype(dtype), mask)


def _in_support(x: Array, mask: Mask) -> Array:
    """x with 1, which every transform takes, where it is hidden."""
    return x if mask is None else jnp.where(mask, x, jnp.ones((), x.dtype))
