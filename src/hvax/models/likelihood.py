"""Likelihoods p(x | z), parameterized by the decoder's output, with all normalizing constants.

Log-densities are sums over features in nats, computed in float32 or wider whatever the dtype of the
network or the data. Data values are checked once, when data enter (`check`); `log_prob` checks only
shapes, and returns NaN for NaN.

With a `mask` (booleans of x's shape, True where observed) the sum is over observed features alone:
log p(x_observed | z). What x holds elsewhere changes no bit of the value or of its gradient.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num, PRNGKeyArray, PyTree

from hvax.checks import count
from hvax.models.counts import negative_binomial_log_prob, poisson_log_prob
from hvax.models.data_point import (
    Data,
    Mask,
    check_range,
    check_shape,
    filled,
    sum_observed,
)
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.numerics import at_least_single, softplus
from hvax.parameters import AbstractParameter, as_parameter
from hvax.wording import words


class AbstractLikelihood(eqx.Module):
    """A family of densities over x whose parameters are the decoder's output."""

    @abstractmethod
    def log_prob(self, output: PyTree, x: Data, mask: Mask = None) -> Float[Array, ""]:
        """log p(x | z) of one data point, in nats, including all constants.

        A likelihood of your own may leave `mask` out, if its data have no missing values.
        """

    @abstractmethod
    def mean(self, output: PyTree) -> Float[Array, "..."]:
        """E[x | z], of x's shape."""

    @abstractmethod
    def sample(self, output: PyTree, *, key: PRNGKeyArray) -> Num[Array, "..."]:
        """One draw of x given z."""

    @abstractmethod
    def check(self, x: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Raise `ValueError` for observed data (batch axis first) outside the family's support."""


class Bernoulli(AbstractLikelihood):
    """Independent bits with logits l of x's shape: log p(x) = sum x l - softplus(l), x in [0, 1].

    For x strictly between 0 and 1 (gray levels) this is a cross-entropy, not a log-likelihood.
    """

    def log_prob(self, output: Float[Array, "..."], x: Data, mask: Mask = None) -> Float[Array, ""]:
        check_shape(x, output.shape)
        # Clipped to finite numbers, so that a correct infinite logit scores 0 and not inf - inf.
        limit = float(jnp.finfo(jnp.float32).max)
        logits = jnp.clip(at_least_single(output), -limit, limit)
        return sum_observed(filled(x, mask) * logits - softplus(logits), mask)

    def mean(self, output: Float[Array, "..."]) -> Float[Array, "..."]:
        return jax.nn.sigmoid(output)

    def sample(self, output: Float[Array, "..."], *, key: PRNGKeyArray) -> Float[Array, "..."]:
        return jax.random.bernoulli(key, self.mean(output)).astype(output.dtype)

    def check(self, x: np.ndarray, mask: np.ndarray | None = None) -> None:
        hidden = False if mask is None else ~mask
        valid, advice = (x >= 0) & (x <= 1) | hidden, ""
        if not np.all(valid):
            whole = bool(np.all((x >= 0) & (x == np.floor(x)) | hidden))
            other = ("NegativeBinomial", "counts") if whole else ("LearnedGaussian", "real numbers")
            python = f"give the networks likelihood=hvax.{other[0]}()"
            option = "negative-binomial" if whole else "gaussian"
            advice = f"For {other[1]}, {words(python, f'use --likelihood {option}')}."
        check_range(x, "a Bernoulli", "in [0, 1]", valid, advice)


class FixedGaussian(AbstractLikelihood):
    """N(output, sigma^2) with a given `sigma` > 0, one number or an array of x's shape.

    A plain number or array stays fixed; a `Learned` parameter is trained. Raises `ValueError`
    unless sigma is finite and > 0.
    """

    sigma: AbstractParameter

    def __init__(self, sigma: AbstractParameter | ArrayLike = 1.0):
        self.sigma = as_parameter(sigma, "sigma")
        value = self.sigma.value
        if isinstance(value, jax.core.Tracer):
            return
        if not np.all(np.isfinite(value) & (np.asarray(value) > 0)):
            raise ValueError(f"sigma must be finite and > 0, got {np.asarray(value)!s}.")

    def log_prob(self, output: Float[Array, "..."], x: Data, mask: Mask = None) -> Float[Array, ""]:
        return LearnedGaussian().log_prob(self._density(output), x, mask)

    def mean(self, output: Float[Array, "..."]) -> Float[Array, "..."]:
        return output

    def sample(self, output: Float[Array, "..."], *, key: PRNGKeyArray) -> Float[Array, "..."]:
        return self._density(output).sample(key=key)

    def check(self, x: np.ndarray, mask: np.ndarray | None = None) -> None:
        LearnedGaussian().check(x, mask)

    def _density(self, output: Float[Array, "..."]) -> DiagonalGaussian:
        output = at_least_single(output)
        log_sigma = jnp.log(self.sigma.value).astype(output.dtype)
        return DiagonalGaussian(output, jnp.broadcast_to(log_sigma, output.shape))


class LearnedGaussian(AbstractLikelihood):
    """N(mean, sigma^2), where the decoder's output is a `DiagonalGaussian` of x's shape.

    Suitable networks are `JointGaussian` (one trunk, two heads) and `SplitGaussian` (two networks).
    """

    def log_prob(self, output: DiagonalGaussian, x: Data, mask: Mask = None) -> Float[Array, ""]:
        check_shape(x, output.mean.shape)
        if mask is None:
            return output.log_prob(x)
        return sum_observed(output.log_prob_each(filled(x, mask)), mask)

    def mean(self, output: DiagonalGaussian) -> Float[Array, "..."]:
        return output.mean

    def sample(self, output: DiagonalGaussian, *, key: PRNGKeyArray) -> Float[Array, "..."]:
        return output.sample(key=key)

    def check(self, x: np.ndarray, mask: np.ndarray | None = None) -> None:
        check_range(x, "a Gaussian", "finite", np.isfinite(x), mask=mask)


class Categorical(AbstractLikelihood):
    """Independent classes with logits l, class axis last: log p(x) = sum x log_softmax(l).

    x is either one-hot, of the logits' shape, or integer classes, of that shape without its last
    axis. An integer outside 0 ... num_classes - 1 gives NaN.

    **Arguments:**

    - `num_classes`: the length of the class axis.
    - `one_hot`: how to read data; None takes data whose last axis has length `num_classes` as
      one-hot. False is needed for integer classes with as many features as classes.
    """

    num_classes: int = eqx.field(static=True)
    one_hot: bool | None = eqx.field(static=True, default=None)

    def __init__(self, num_classes: int, *, one_hot: bool | None = None):
        self.num_classes = count(num_classes, "num_classes")
        if not (one_hot is None or isinstance(one_hot, bool)):
            raise TypeError(f"one_hot must be True, False or None, got {one_hot!r}.")
        self.one_hot = one_hot

    def is_one_hot(self, x_shape: tuple[int, ...]) -> bool:
        """Whether data points of this shape are one-hot, as opposed to integer classes."""
        if self.one_hot is None:
            return x_shape[-1:] == (self.num_classes,)
        return self.one_hot

    def log_prob(
        self, output: Float[Array, "... c"], x: Data, mask: Mask = None
    ) -> Float[Array, ""]:
        check_shape(output, (*output.shape[:-1], self.num_classes), name="the decoder's logits")
        logits = at_least_single(output)
        # An infinite logit means a certain class; clipped, log_softmax does not become inf - inf.
        log_p = jax.nn.log_softmax(jnp.minimum(logits, jnp.finfo(logits.dtype).max))
        if jnp.issubdtype(x.dtype, jnp.integer) and x.shape == output.shape[:-1]:
            # Compared in x's own dtype, because a conversion could wrap around (300 as uint8 is
            # 44).
            largest = min(self.num_classes - 1, int(jnp.iinfo(x.dtype).max))
            x = filled(x, mask)
            known = (x >= 0) & (x <= largest)
            index = jnp.where(known, x.astype(jnp.int32), self.num_classes)
            taken = jnp.take_along_axis(log_p, index[..., None], -1, mode="fill")[..., 0]
            return sum_observed(taken, mask)
        check_shape(x, output.shape)
        x = filled(x, mask)
        impossible = (x == 0) & jnp.isneginf(log_p)  # 0 log 0 = 0
        return sum_observed(x * jnp.where(impossible, 0.0, log_p), mask)

    def mean(self, output: Float[Array, "... c"]) -> Float[Array, "... c"]:
        """The class probabilities, of the logits' shape."""
        return jax.nn.softmax(output)

    def sample(self, output: Float[Array, "... c"], *, key: PRNGKeyArray) -> Float[Array, "... c"]:
        """One draw, one-hot."""
        drawn = jax.random.categorical(key, output)
        return jax.nn.one_hot(drawn, self.num_classes, dtype=output.dtype)

    def check(self, x: np.ndarray, mask: np.ndarray | None = None) -> None:
        whole = np.issubdtype(x.dtype, np.integer)
        inside = (x >= 0) & (x < self.num_classes) if whole else np.zeros(x.shape, bool)
        if self.is_one_hot(x.shape[1:]) and x.shape[-1:] == (self.num_classes,):
            # Summed as floats: a sum of 256 ones would wrap around to 0 in uint8.
            total = x.sum(axis=-1, keepdims=True, dtype=np.float64)
            one = ((x == 0) | (x == 1)) & (total == 1)
            use = f"For integer classes use Categorical({self.num_classes}, one_hot=False)."
            advice = use if self.one_hot is None and inside.all() else ""
            if mask is not None and np.any(mask.any(-1) != mask.all(-1)):
                raise ValueError(
                    "mask must hide a one-hot feature as a whole, got one with only some of its "
                    f"{self.num_classes} classes hidden. Give all of them the same value."
                )
            check_range(x, "a Categorical", "one-hot along its last axis", one, advice, mask)
        elif whole and not self.one_hot:
            wanted = f"classes 0 to {self.num_classes - 1}"
            check_range(x, "a Categorical", wanted, inside, mask=mask)
        else:
            classes = "" if self.one_hot else ", or integer classes"
            raise ValueError(
                f"data of a Categorical must be one-hot along a last axis of {self.num_classes}"
                f"{classes}, got {x.dtype} of shape {x.shape}."
            )


class Poisson(AbstractLikelihood):
    """Counts: log p(x) = sum x log rate - rate - log x!; the output is log rate, of x's shape."""

    def log_prob(self, output: Float[Array, "..."], x: Data, mask: Mask = None) -> Float[Array, ""]:
        check_shape(x, output.shape)
        log_rate = at_least_single(output)
        return sum_observed(poisson_log_prob(log_rate, filled(x, mask, log_rate.dtype)), mask)

    def mean(self, output: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.exp(output)

    def sample(self, output: Float[Array, "..."], *, key: PRNGKeyArray) -> Float[Array, "..."]:
        return jax.random.poisson(key, jnp.exp(output)).astype(output.dtype)

    def check(self, x: np.ndarray, mask: np.ndarray | None = None) -> None:
        valid = np.isfinite(x) & (x >= 0) & (x == np.floor(x))
        check_range(x, "a Poisson", "whole counts >= 0", valid, mask=mask)


class CountRate(NamedTuple):
    """The parameters of a negative binomial, each of x's shape."""

    log_mean: Float[Array, "..."]
    log_dispersion: Float[Array, "..."]


class NegativeBinomial(AbstractLikelihood):
    """Overdispersed counts with mean mu and dispersion r, variance mu + mu^2 / r.

        sum log Gamma(x + r) - log Gamma(r) - log x! + r log(r / (r + mu)) + x log(mu / (r + mu))

    The decoder's output is a `CountRate`; `DispersedCounts` is a network that returns one.
    """

    def log_prob(self, output: CountRate, x: Data, mask: Mask = None) -> Float[Array, ""]:
        check_shape(x, output.log_mean.shape)
        log_mean, log_dispersion = map(at_least_single, output)
        x = filled(x, mask, log_mean.dtype)
        return sum_observed(negative_binomial_log_prob(log_mean, log_dispersion, x), mask)

    def mean(self, output: CountRate) -> Float[Array, "..."]:
        return jnp.exp(output.log_mean)

    def sample(self, output: CountRate, *, key: PRNGKeyArray) -> Float[Array, "..."]:
        rate_key, count_key = jax.random.split(key)
        r = jnp.broadcast_to(jnp.exp(output.log_dispersion), output.log_mean.shape)
        rate = jax.random.gamma(rate_key, r, dtype=r.dtype) * jnp.exp(output.log_mean) / r
        return jax.random.poisson(count_key, rate).astype(rate.dtype)

    def check(self, x: np.ndarray, mask: np.ndarray | None = None) -> None:
        Poisson().check(x, mask)
