"""What training data say of each feature alone: units, tails, and the parameters of a decoder that
knows nothing of z.

Everything is estimated on at most 20,000 rows, evenly spaced, in float64.
"""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import NDArray

from hvax.data.examples import Examples
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.likelihood import (
    AbstractLikelihood,
    Bernoulli,
    Categorical,
    CountRate,
    FixedGaussian,
    LearnedGaussian,
    NegativeBinomial,
    Poisson,
)
from hvax.models.standardize import StandardizedLikelihood
from hvax.models.transform import Kind, Transform
from hvax.parameters import Fixed
from hvax.training.few_rows import least_sigma
from hvax.wording import named

TransformChoice = Literal["auto", "none", "log", "asinh"]

_ROWS = 20_000
_FLOOR, _CONSTANT_FLOOR = 1e-3, 0.1  # least sigma, in standard deviations of the feature
_COMPARED, _LEVEL = 500, 0.01  # rows to tell counts by, and nats a feature that are no difference
_RANK_FLOOR = 0.05  # least scale of a pixel, in those of all pixels together
_CENTRAL = 1.349  # interquartile range of a normal, in standard deviations


# An outlier whose square overflows is met in training, which says what to do; not here.
_QUIET = np.errstate(over="ignore", invalid="ignore")


class Units(NamedTuple):
    """The natural units of real features: y = (t(x) - shift) / scale has mean 0 and variance 1."""

    transform: Transform | None
    shift: NDArray[np.float64]
    scale: NDArray[np.float64]
    floor: NDArray[np.float64]  # of sigma, in scale: the rounding of the recorded numbers
    constant: NDArray[np.bool_]  # features that do not vary, as float32 sees them


class Marginals(NamedTuple):
    """A likelihood of independent features: `likelihood` at the parameters `output`.

    `gain` says how much each parameter varies between examples: the natural unit of a network.
    """

    likelihood: AbstractLikelihood
    output: PyTree
    gain: PyTree
    units: Units | None = None  # of real features

    def describe(self) -> str:
        """What was found, in a line."""
        if isinstance(self.likelihood, Poisson | NegativeBinomial):
            return "log(1 + x) into the encoder, decoder from the data's marginals"
        if self.units is None:
            return "decoder from the data's marginals"
        size, transform = self.units.shift.size, self.units.transform
        kinds = () if transform is None else transform.kinds
        kinds = kinds * (size if len(kinds) == 1 else 1)
        bent = [f"{kinds.count(k)} by {k}" for k in dict.fromkeys(kinds) if k != "none"]
        return ", ".join([f"(x - mean) / sd of {size} features", *bent])

    @_QUIET
    def log_prob(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """log p(x) of each example (batch axis first) under independent features, in nats."""
        one: Any = jax.jit(jax.vmap(lambda x: self.likelihood.log_prob(self.output, x)))
        pieces = [np.asarray(one(jnp.asarray(x[i : i + 4096]))) for i in range(0, len(x), 4096)]
        return np.concatenate(pieces).astype(np.float64)


def spaced_rows(examples: Examples, most: int = _ROWS) -> NDArray[Any]:
    """At most so many rows as the model sees them, evenly spaced: files are often sorted."""
    return examples.spaced(most)


def smallest(*parts: Examples) -> NDArray[np.float64] | None:
    """The least value of each feature over all rows of vectors; None for images and series."""
    if len(parts[0].x_shape) != 1:
        return None
    pieces = (part.seen(slice(i, i + 4096)) for part in parts for i in range(0, len(part), 4096))
    return np.min([piece.min(axis=0) for piece in pieces], axis=0).astype(np.float64)


@_QUIET
def marginals(
    likelihood: AbstractLikelihood,
    x: NDArray[Any],
    *,
    transform: TransformChoice = "auto",
    least: NDArray[np.float64] | None = None,
) -> Marginals | None:
    """The independent-feature model of rows `x` (batch axis first) in a likelihood's family; None
    for a family that is not hvax's own.

    `transform` is for learned Gaussians alone: "auto" chooses for each feature of a vector by the
    marginal likelihood, and none for images and series. A logarithm is for features that are
    positive in all data that are to be scored: `least` are their smallest values, where rows beside
    `x` are known.
    """
    if isinstance(likelihood, LearnedGaussian):
        units = real_units(x, transform, least)
        shape = x.shape[1:]
        inner = StandardizedLikelihood(
            likelihood, Fixed(units.shift), Fixed(units.scale), Fixed(units.floor), units.transform
        )
        log_sigma = 0.5 * jnp.log1p(-(_floats(units.floor) ** 2))  # with the floor a variance of 1
        output = DiagonalGaussian(jnp.zeros(shape), log_sigma)
        return Marginals(inner, output, DiagonalGaussian(jnp.ones(shape), jnp.ones(shape)), units)
    if isinstance(likelihood, FixedGaussian):
        units = real_units(x, "none")
        return Marginals(likelihood, _floats(units.shift), _floats(units.scale), units)
    if isinstance(likelihood, Poisson | NegativeBinomial):
        return _counts(likelihood, np.asarray(x, np.float64))
    if isinstance(likelihood, Bernoulli):
        ones = np.asarray(x, np.float64).sum(0)
        logits = np.log(ones + 0.5) - np.log(len(x) - ones + 0.5)
        return Marginals(likelihood, _floats(logits), jnp.ones(logits.shape))
    if isinstance(likelihood, Categorical):
        return _classes(likelihood, x)
    return None


def are_counts(x: NDArray[np.integer[Any]]) -> bool:
    """Whether whole numbers >= 0 are counts and not rounded measurements: whether negative
    binomials give them about the probability that rounded normals do, or more.

    A density is no probability, so the normals' is that of the interval of a half about a number.
    """
    x = np.asarray(x[: _COMPARED * max(1, len(x) // _COMPARED) : max(1, len(x) // _COMPARED)])
    counted = marginals(NegativeBinomial(), x)
    assert counted is not None
    y = np.asarray(x, np.float64)
    mean, sd = y.mean(0), np.maximum(y.std(0), 0.1)
    ends = (_floats((y + half - mean) / sd) for half in (-0.5, 0.5))
    rounded = float(jnp.mean(jnp.sum(_log_interval(*ends), axis=1)))
    return float(counted.log_prob(x).mean()) > rounded - _LEVEL * x[0].size


def _log_interval(low: jax.Array, high: jax.Array) -> jax.Array:
    """log of the standard normal's probability between two ends, from the tail that they are in."""
    flipped = low > 0
    low, high = jnp.where(flipped, -high, low), jnp.where(flipped, -low, high)
    above, below = jax.scipy.special.log_ndtr(high), jax.scipy.special.log_ndtr(low)
    return above + jnp.log(-jnp.expm1(jnp.minimum(below - above, -1e-7)))


@_QUIET
def real_units(
    x: NDArray[Any],
    transform: TransformChoice = "auto",
    least: NDArray[np.float64] | None = None,
) -> Units:
    """Shift, scale, floor and transform of each feature of real rows; see `marginals`."""
    x = np.asarray(x, np.float64)
    flat = x.reshape(len(x), -1)
    table = x.ndim == 2
    lowest = flat.min(0) if least is None else np.minimum(flat.min(0), least.reshape(-1))
    chosen = [
        _feature(column, bool(low > 0), transform if table else "none")
        for column, low in zip(flat.T, lowest, strict=True)
    ]
    kinds = tuple(feature.kind for feature in chosen)
    shape = x.shape[1:]
    center, width, shift, scale, floor = (
        np.array([getattr(feature, name) for feature in chosen]).reshape(shape)
        for name in ("center", "width", "shift", "scale", "floor")
    )
    constant = np.array([feature.constant for feature in chosen]).reshape(shape)
    few = least_sigma(np.stack([feature.y for feature in chosen], axis=1)).reshape(shape)
    floor = np.where(constant, floor, np.maximum(floor, few))
    if not table:
        # Pixels and time steps share their units: one that hardly varies is no finer than that.
        typical = math.sqrt(float(np.mean(np.where(constant, 0.0, scale) ** 2)))
        finest = _RANK_FLOOR * typical if typical > 0 else 1.0
        raised = np.where(constant, finest, np.maximum(scale, finest))
        scale, floor = raised, np.minimum(1.0, floor * scale / raised)
        floor = np.where(constant, _CONSTANT_FLOOR, np.maximum(floor, _FLOOR))
    mapped = None if set(kinds) == {"none"} else Transform(kinds, center, width)
    return Units(mapped, shift, scale, floor, constant)


class _Feature(NamedTuple):
    kind: Kind
    center: float
    width: float
    shift: float
    scale: float
    floor: float
    constant: bool
    log_prob: float  # of all rows, in nats, less what the transform's own numbers may gain
    y: NDArray[np.float64]  # of mean 0 and variance 1


def _feature(x: NDArray[np.float64], positive: bool, transform: TransformChoice) -> _Feature:
    plain = _gaussian("none", x, x, np.zeros_like(x), 0.0, 1.0)
    if transform == "none" or plain.constant:
        return plain
    candidates = [plain]
    if transform in ("auto", "log") and positive:
        candidates.append(_gaussian("log", np.log(x), x, -np.log(x), 0.0, 1.0))
    if transform == "log" and len(candidates) == 1:
        raise ValueError(
            f"{named('transform')} log needs numbers > 0, got {x.min():g}. Use auto or asinh."
        )
    if transform in ("auto", "asinh"):
        center, width = _center(x)
        u = (x - center) / width
        slope = -math.log(width) - 0.5 * np.log1p(u * u)
        candidates.append(_gaussian("asinh", np.arcsinh(u), x, slope, center, width))
    if transform != "auto":
        return candidates[-1]
    # A transform must earn its place: by more than its numbers would gain on a normal feature.
    bar = 3.0 + 0.02 * len(x)
    return max(candidates, key=lambda f: f.log_prob - (0.0 if f.kind == "none" else bar))


def _gaussian(
    kind: Kind,
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    log_slope: NDArray[np.float64],
    center: float,
    width: float,
) -> _Feature:
    """The normal fitted to y = t(x), with its log-likelihood as one of x."""
    shift, sd = float(y.mean()), _spread(y)
    largest = float(np.abs(x).max())
    if _spread(x) <= 4 * np.finfo(np.float32).eps * largest:
        return _Feature(
            "none", 0.0, 1.0, float(x.mean()), largest or 1.0, _CONSTANT_FLOOR, True, 0, 0 * x
        )
    floor = float(np.clip(_rounding(y) / math.sqrt(12) / sd, _FLOOR, 0.9))
    log_prob = len(y) * -(math.log(sd) + 0.5 + 0.5 * math.log(2 * math.pi)) + log_slope.sum()
    return _Feature(kind, center, width, shift, sd, floor, False, float(log_prob), (y - shift) / sd)


def _spread(y: NDArray[np.float64]) -> float:
    """The standard deviation, of numbers whose squares may overflow."""
    unit = float(np.abs(y).max()) or 1.0
    return float((y / unit).std()) * unit


def _rounding(y: NDArray[np.float64]) -> float:
    """The step of recorded numbers, where many are equal: the median over rows of the gap to the
    next different number; 0 where they look continuous."""
    distinct, rows = np.unique(y, return_counts=True)
    if not 1 < len(distinct) < 0.8 * len(y):
        return 0.0
    gaps = np.diff(distinct)
    nearest = np.minimum(np.append(gaps, np.inf), np.append(np.inf, gaps))
    return float(np.median(np.repeat(nearest, rows)))


def _center(x: NDArray[np.float64]) -> tuple[float, float]:
    """Median, and the standard deviation of a normal of the same central half."""
    low, center, high = np.quantile(x, [0.25, 0.5, 0.75])
    width = (high - low) / _CENTRAL
    return float(center), float(width if width > 0 else np.abs(x - center).mean())


def _counts(likelihood: AbstractLikelihood, x: NDArray[np.float64]) -> Marginals:
    """Counts by their moments: mean, dispersion r = mean^2 / (variance - mean), and the spread of
    the log rate that the excess over a Poisson's variance stands for."""
    mean = (x.sum(0) + 0.5) / (len(x) + 1)
    excess = np.maximum(x.var(0) - mean, 0.0) / mean**2  # 1 / r
    log_mean, gain = _floats(np.log(mean)), _floats(np.clip(np.sqrt(np.log1p(excess)), 0.01, 1.0))
    if isinstance(likelihood, Poisson):
        return Marginals(likelihood, log_mean, gain)
    log_r = _floats(-np.log(np.clip(excess, 1e-4, 1e2)))
    return Marginals(likelihood, CountRate(log_mean, log_r), CountRate(gain, jnp.ones(gain.shape)))


def _classes(likelihood: Categorical, x: NDArray[Any]) -> Marginals:
    """Log shares of the classes, of integer or one-hot rows."""
    classes = likelihood.num_classes
    if np.issubdtype(x.dtype, np.integer) and not likelihood.is_one_hot(x.shape[1:]):
        counted = np.stack([(x == c).sum(0) for c in range(classes)], axis=-1)
    else:
        counted = x.sum(0)
    logits = _floats(np.log(counted + 0.5) - math.log(len(x) + 0.5 * classes))
    return Marginals(likelihood, logits, jnp.ones(logits.shape))


def _floats(values: NDArray[Any]) -> jax.Array:
    return jnp.asarray(values, dtype=float)
