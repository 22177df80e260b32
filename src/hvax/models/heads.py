"""Networks that return the parameters of a density: Gaussians with a learned sigma, and counts.

They serve both as encoders (x -> posterior) and as decoder networks (z -> parameters of x).
"""

import math
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hvax.models.gaussian import DiagonalGaussian
from hvax.models.likelihood import CountRate
from hvax.models.numerics import log_softplus, smooth_bound

Network = Callable[[Array], Array]
SigmaForm = Literal["log", "softplus"]


class SigmaHead(eqx.Module):
    """A network's output as log sigma, bounded smoothly to (lower, upper).

        "log":       log sigma = raw
        "softplus":  sigma = softplus(raw), a positive sigma

    and then `smooth_bound`. With the default (-10, 10), values and the first two derivatives of a
    Gaussian log-density stay finite in float32 for |x| up to 1e4 and |raw| up to 1e3. Raises
    `ValueError` for another form, and unless lower < upper are finite.
    """

    network: Network
    form: SigmaForm = eqx.field(static=True, default="log")
    lower: float = eqx.field(static=True, default=-10.0)
    upper: float = eqx.field(static=True, default=10.0)

    def __check_init__(self) -> None:
        if self.form not in ("log", "softplus"):
            raise ValueError(f"form must be 'log' or 'softplus', got {self.form!r}.")
        if not -math.inf < self.lower < self.upper < math.inf:
            raise ValueError(
                f"lower and upper must be finite with lower < upper, got {self.lower} "
                f"and {self.upper}."
            )

    def __call__(self, features: Array) -> Float[Array, "..."]:
        raw = self.network(features)
        log_sigma = raw if self.form == "log" else log_softplus(raw)
        return smooth_bound(log_sigma, self.lower, self.upper)


class JointGaussian(eqx.Module):
    """One trunk and two heads: N(mean(h), exp(log_sigma(h))^2) with h = trunk(input).

    `log_sigma` is a `SigmaHead`, or any network, which is wrapped in one.
    """

    trunk: Network
    mean: Network
    log_sigma: SigmaHead

    def __init__(self, trunk: Network, mean: Network, log_sigma: Network | SigmaHead):
        self.trunk, self.mean, self.log_sigma = trunk, mean, _as_sigma_head(log_sigma)

    def __call__(self, inputs: Array) -> DiagonalGaussian:
        features = self.trunk(inputs)
        return DiagonalGaussian(self.mean(features), self.log_sigma(features))


class SplitGaussian(eqx.Module):
    """Two separate networks: N(mean(input), exp(log_sigma(input))^2)."""

    mean: Network
    log_sigma: SigmaHead

    def __init__(self, mean: Network, log_sigma: Network | SigmaHead):
        self.mean, self.log_sigma = mean, _as_sigma_head(log_sigma)

    def __call__(self, inputs: Array) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean(inputs), self.log_sigma(inputs))


class DispersedCounts(eqx.Module):
    """A network for the log mean of counts, and one learned log dispersion per feature."""

    log_mean: Network
    log_dispersion: Float[Array, "..."]

    def __init__(self, log_mean: Network, log_dispersion: ArrayLike):
        self.log_mean = log_mean
        self.log_dispersion = jnp.asarray(log_dispersion, dtype=float)

    def __call__(self, z: Array) -> CountRate:
        log_mean = self.log_mean(z)
        return CountRate(log_mean, jnp.broadcast_to(self.log_dispersion, log_mean.shape))


def _as_sigma_head(network: Network | SigmaHead) -> SigmaHead:
    return network if isinstance(network, SigmaHead) else SigmaHead(network)
