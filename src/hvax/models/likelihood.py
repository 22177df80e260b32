"""Likelihoods: the decoder's output and one data point -> log p(x | z), with every constant kept.

Densities are sums over features, in nats, exact in what they are given, and computed in float32 or
wider whatever the dtype of the network or the data. Values are checked where data enter (`check`);
`log_prob` checks shapes alone, and NaN in gives NaN out.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num, PRNGKeyArray, PyTree, Shaped

from hvax.checks import count
from hvax.models.counts import negative_binomial_log_prob, poisson_log_prob
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.numerics import at_least_single, softplus
from hvax.parameters import AbstractParameter, as_parameter
from hvax.wording import words

Data = Shaped[Array, "..."]
"""One data point: floats, integers or booleans."""


class ShapeMismatch(ValueError):
    """A data point's shape is not the one that the decoder's output describes."""


class AbstractLikelihood(eqx.Module):
    """A family of densities over x, with the decoder's output as its parameters."""

    @abstractmethod
    def log_prob(self, output: PyTree, x: Data) -> Float[Array, ""]:
        """log p(x | z), in nats, for one data point."""

    @abstractmethod
    def mean(self, output: PyTree) -> Float[Array, "..."]:
        """E[x | z], of x's shape."""

    @abstractmethod
    def sample(self, output: PyTree, *, key: PRNGKeyArray) -> Num[Array, "..."]:
        """One draw of x given z."""

    @abstractmethod
    def check(self, x: np.ndarray) -> None:
        """Raises `ValueError` where data (batch axis first) lie outside the family's support."""


class Bernoulli(AbstractLikelihood):
    """Independent bits: sum x l - softplus(l), with logits l of x's shape and x in [0, 1].

    For x strictly between 0 and 1 (gray levels) this is no likelihood, only a cross-entropy.
    """

    def log_prob(self, output: Float[Array, "..."], x: Data) -> Float[Array, ""]:
        check_shape(x, output.shape)
        # Held to finite numbers: an infinite logit that is right costs 0, not inf - inf.
        limit = float(jnp.finfo(jnp.float32).max)
        logits = jnp.clip(at_least_single(output), -limit, limit)
        return jnp.sum(x * logits - softplus(logits))

    def mean(self, output: Float[Array, "..."]) -> Float[Array, "..."]:
        return jax.nn.sigmoid(output)

    def sample(self, output: Float[Array, "..."], *, key: PRNGKeyArray) -> Float[Array, "..."]:
        return jax.random.bernoulli(key, self.mean(output)).astype(output.dtype)

    def check(self, x: np.ndarray) -> None:
        valid, advice = (x >= 0) & (x <= 1), ""
        if not np.all(valid):
            whole = bool(np.all((x >= 0) & (x == np.floor(x))))
            other = ("NegativeBinomial", "counts") if whole else ("LearnedGaussian", "real numbers")
            python = f"give the networks likelihood=hvax.{other[0]}()"
            option = "negative-binomial" if whole else "gaussian"
            advice = f"For {other[1]}, {words(python, f'take --likelihood {option}')}."
        _check_range(x, "Bernoulli", "in [0, 1]", valid, advice)


class FixedGaussian(AbstractLikelihood):
    """N(output, sigma^2) with `sigma` > 0 of the user's, one number or of x's shape.

    A plain number or array is held fixed; a `Learned` one is trained.
    """

    sigma: AbstractParameter

    def __init__(self, sigma: AbstractParameter | ArrayLike = 1.0):
        self.sigma = as_parameter(sigma, "sigma")
        value = self.sigma.value
        if isinstance(value, jax.core.Tracer):
            return
        if not np.all(np.isfinite(value) & (np.asarray(value) > 0)):
            raise ValueError(f"sigma must be finite and > 0, got {value}.")

    def log_prob(self, output: Float[Array, "..."], x: Data) -> Float[Array, ""]:
        return LearnedGaussian().log_prob(self._density(output), x)

    def mean(self, output: Float[Array, "..."]) -> Float[Array, "..."]:
        return output

    def sample(self, output: Float[Array, "..."], *, key: PRNGKeyArray) -> Float[Array, "..."]:
        return self._density(output).sample(key=key)

    def check(self, x: np.ndarray) -> None:
        LearnedGaussian().check(x)

    def _density(self, output: Float[Array, "..."]) -> DiagonalGaussian:
        output = at_least_single(output)
        log_sigma = jnp.log(self.sigma.value).astype(output.dtype)
        return DiagonalGaussian(output, jnp.broadcast_to(log_sigma, output.shape))


class LearnedGaussian(AbstractLikelihood):
    """N(mean, sigma^2) where the decoder yields both, as a `DiagonalGaussian` of x's shape.

    Networks that yield one: `JointGaussian` (one trunk, two heads), `SplitGaussian` (two networks).
    """

    def log_prob(self, output: DiagonalGaussian, x: Data) -> Float[Array, ""]:
        check_shape(x, output.mean.shape)
        return output.log_prob(x)

    def mean(self, output: DiagonalGaussian) -> Float[Array, "..."]:
        return output.mean

    def sample(self, output: DiagonalGaussian, *, key: PRNGKeyArray) -> Float[Array, "..."]:
        return output.sample(key=key)

    def check(self, x: np.ndarray) -> None:
        _check_range(x, "a Gaussian", "finite", np.isfinite(x))


class Categorical(AbstractLikelihood):
    """Independent classes: sum x log_softmax(l), logits l with the class axis last.

    x is one-hot of the logits' shape, or integer classes of that shape without its last axis.
    `num_classes` is the length of that axis. Data whose own last axis has that length are one-hot,
    unless `one_hot` is False: then they are integer classes in as many features as classes. A class
    that there is not gives NaN.
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

    def log_prob(self, output: Float[Array, "... c"], x: Data) -> Float[Array, ""]:
        check_shape(output, (*output.shape[:-1], self.num_classes), name="the decoder's logits")
        logits = at_least_single(output)
        # An infinite logit is a certain class.
        log_p = jax.nn.log_softmax(jnp.minimum(logits, jnp.finfo(logits.dtype).max))
        if jnp.issubdtype(x.dtype, jnp.integer) and x.shape == output.shape[:-1]:
            # Compared in x's own dtype: in another a class may wrap around.
            largest = min(self.num_classes - 1, int(jnp.iinfo(x.dtype).max))
            known = (x >= 0) & (x <= largest)
            index = jnp.where(known, x.astype(jnp.int32), self.num_classes)
            return jnp.sum(jnp.take_along_axis(log_p, index[..., None], -1, mode="fill"))
        check_shape(x, output.shape)
        impossible = (x == 0) & jnp.isneginf(log_p)  # no class of x's: 0 log 0 = 0
        return jnp.sum(x * jnp.where(impossible, 0.0, log_p))

    def mean(self, output: Float[Array, "... c"]) -> Float[Array, "... c"]:
        """The class probabilities."""
        return jax.nn.softmax(output)

    def sample(self, output: Float[Array, "... c"], *, key: PRNGKeyArray) -> Float[Array, "... c"]:
        """One-hot."""
        drawn = jax.random.categorical(key, output)
        return jax.nn.one_hot(drawn, self.num_classes, dtype=output.dtype)

    def check(self, x: np.ndarray) -> None:
        whole = np.issubdtype(x.dtype, np.integer)
        inside = (x >= 0) & (x < self.num_classes) if whole else np.zeros(x.shape, bool)
        if self.is_one_hot(x.shape[1:]) and x.shape[-1:] == (self.num_classes,):
            # Summed as floats: 256 classes of bytes would wrap around to 0.
            total = x.sum(axis=-1, keepdims=True, dtype=np.float64)
            one = ((x == 0) | (x == 1)) & (total == 1)
            told = f"Where these are classes, give Categorical({self.num_classes}, one_hot=False)."
            advice = told if self.one_hot is None and inside.all() else ""
            _check_range(x, "Categorical", "one-hot along its last axis", one, advice)
        elif whole and not self.one_hot:
            _check_range(x, "Categorical", f"classes 0 to {self.num_classes - 1}", inside)
        else:
            classes = "" if self.one_hot else ", or integer classes"
            raise ValueError(
                f"Categorical needs data one-hot along a last axis of {self.num_classes}{classes}; "
                f"got {x.dtype} of shape {x.shape}."
            )


class Poisson(AbstractLikelihood):
    """Counts: sum x log rate - rate - log x!, with the output log rate of x's shape."""

    def log_prob(self, output: Float[Array, "..."], x: Data) -> Float[Array, ""]:
        check_shape(x, output.shape)
        log_rate = at_least_single(output)
        return jnp.sum(poisson_log_prob(log_rate, x.astype(log_rate.dtype)))

    def mean(self, output: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.exp(output)

    def sample(self, output: Float[Array, "..."], *, key: PRNGKeyArray) -> Float[Array, "..."]:
        return jax.random.poisson(key, jnp.exp(output)).astype(output.dtype)

    def check(self, x: np.ndarray) -> None:
        valid = np.isfinite(x) & (x >= 0) & (x == np.floor(x))
        _check_range(x, "Poisson", "whole counts >= 0", valid)


class CountRate(NamedTuple):
    """The parameters of a negative binomial, each of x's shape."""

    log_mean: Float[Array, "..."]
    log_dispersion: Float[Array, "..."]


class NegativeBinomial(AbstractLikelihood):
    """Overdispersed counts with mean mu and dispersion r, variance mu + mu^2 / r.

        sum log Gamma(x + r) - log Gamma(r) - log x! + r log(r / (r + mu)) + x log(mu / (r + mu))

    The output is a `CountRate`; `DispersedCounts` is a network that yields one.
    """

    def log_prob(self, output: CountRate, x: Data) -> Float[Array, ""]:
        check_shape(x, output.log_mean.shape)
        log_mean, log_dispersion = map(at_least_single, output)
        x = x.astype(log_mean.dtype)
        return jnp.sum(negative_binomial_log_prob(log_mean, log_dispersion, x))

    def mean(self, output: CountRate) -> Float[Array, "..."]:
        return jnp.exp(output.log_mean)

    def sample(self, output: CountRate, *, key: PRNGKeyArray) -> Float[Array, "..."]:
        rate_key, count_key = jax.random.split(key)
        r = jnp.broadcast_to(jnp.exp(output.log_dispersion), output.log_mean.shape)
        rate = jax.random.gamma(rate_key, r, dtype=r.dtype) * jnp.exp(output.log_mean) / r
        return jax.random.poisson(count_key, rate).astype(rate.dtype)

    def check(self, x: np.ndarray) -> None:
        Poisson().check(x)


def check_shape(x: Array, expected: tuple[int, ...], *, name: str = "x") -> None:
    """Raises `ShapeMismatch`, with what to write where x has one leading axis too many."""
    if x.shape == expected:
        return
    message = f"{name} must have shape {expected}, got {x.shape}."
    if x.shape[1:] == expected:
        message += " " + batch_advice()
    raise ShapeMismatch(message)


def batch_advice() -> str:
    """The two lines that turn a one-example function into a batched one."""
    return (
        "This function takes one example; for a batch write\n"
        "    keys = jax.random.split(key, len(x))\n"
        "    jax.vmap(lambda x, key: f(x, key=key))(x, keys)"
    )


def _check_range(
    x: np.ndarray, family: str, wanted: str, valid: np.ndarray, advice: str = ""
) -> None:
    if not np.all(valid):
        where = tuple(int(i) for i in np.argwhere(~valid)[0])
        message = f"{family} needs data {wanted}; got {x[where]} at index {where}. {advice}"
        raise ValueError(message.rstrip())
