"""The model of independent features: units, transforms and parameters estimated from training data.

It gives a decoder its starting parameters (those that do not depend on z) and is the reference that
a trained model has to beat. Everything is estimated on at most 20,000 evenly spaced rows, in
float64.
"""

import math
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import NDArray

from hvax.checks import check_one_of
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
_COUNT_ROWS, _COUNT_MARGIN = 500, 0.01  # rows for `are_counts`, and nats per feature of tolerance
_PIXEL_FLOOR = 0.05  # least scale of a pixel, in units of the rms scale of all pixels
_IQR_OF_NORMAL = 1.349  # interquartile range of a standard normal


# Outliers whose square overflows are reported in training, with advice; no warning here.
_IGNORE_OVERFLOW = np.errstate(over="ignore", invalid="ignore")


class Units(NamedTuple):
    """Standardization of real features: y = (t(x) - shift) / scale has mean 0 and variance 1."""

    transform: Transform | None
    shift: NDArray[np.float64]
    scale: NDArray[np.float64]
    floor: NDArray[np.float64]  # least sigma of y, at least the rounding of the recorded numbers
    constant: NDArray[np.bool_]  # features that do not vary in float32


class Marginals(NamedTuple):
    """The model of independent features: `likelihood` with the constant parameters `output`.

    `gain` is how much each parameter varies between examples: the unit of a network's output.
    """

    likelihood: AbstractLikelihood
    output: PyTree
    gain: PyTree
    units: Units | None = None  # None unless the features are real numbers

    def describe(self) -> str:
        """One line for the user about the units that were chosen."""
        if isinstance(self.likelihood, Poisson | NegativeBinomial):
            return "log(1 + x) into the encoder, decoder from the data's marginals"
        if self.units is None:
            return "decoder from the data's marginals"
        size, transform = self.units.shift.size, self.units.transform
        kinds = () if transform is None else transform.kinds
        kinds = kinds * (size if len(kinds) == 1 else 1)
        bent = [f"{kinds.count(k)} by {k}" for k in dict.fromkeys(kinds) if k != "none"]
        return ", ".join([f"(x - mean) / sd of {size} features", *bent])

    @_IGNORE_OVERFLOW
    def log_prob(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """log p(x) of each example (batch axis first) under independent features, in nats."""
        one: Any = jax.jit(jax.vmap(lambda x: self.likelihood.log_prob(self.output, x)))
        pieces = [np.asarray(one(jnp.asarray(x[i : i + 4096]))) for i in range(0, len(x), 4096)]
        return np.concatenate(pieces).astype(np.float64)


def spaced_rows(examples: Examples, most: int = _ROWS) -> NDArray[Any]:
    """At most `most` rows as the model takes them, evenly spaced because files are often sorted."""
    return examples.spaced(most)


def smallest(*parts: Examples) -> NDArray[np.float64] | None:
    """The minimum of each feature over all rows of all parts; None unless examples are vectors."""
    if len(parts[0].x_shape) != 1:
        return None
    pieces = (part.seen(slice(i, i + 4096)) for part in parts for i in range(0, len(part), 4096))
    return np.min([piece.min(axis=0) for piece in pieces], axis=0).astype(np.float64)


@_IGNORE_OVERFLOW
def marginals(
    likelihood: AbstractLikelihood,
    x: NDArray[Any],
    *,
    transform: TransformChoice = "auto",
    least: NDArray[np.float64] | None = None,
) -> Marginals | None:
    """Fit the model of independent features to rows `x` (batch axis first).

    Returns None for a likelihood that is not one of hvax's own.

    **Arguments:**

    - `transform`: for a `LearnedGaussian`: "auto" chooses a transform for each feature of a vector
      by its marginal likelihood, and none for images and series.
    - `least`: the minimum of each feature over all data that will be scored, if more than `x` are
      known: a logarithm requires positive values everywhere.

    Raises `ValueError` for transform "log" of features that are not positive, and for one that is
    not known.
    """
    check_one_of(transform, named("transform"), get_args(TransformChoice))
    if isinstance(likelihood, LearnedGaussian):
        units = real_units(x, transform, least)
        shape = x.shape[1:]
        inner = StandardizedLikelihood(
            likelihood, Fixed(units.shift), Fixed(units.scale), Fixed(units.floor), units.transform
        )
        log_sigma = 0.5 * jnp.log1p(
            -(_floats(units.floor) ** 2)
        )  # plus floor^2 this is a variance of 1
        output = DiagonalGaussian(jnp.zeros(shape), log_sigma)
        return Marginals(inner, output, DiagonalGaussian(jnp.ones(shape), jnp.ones(shape)), units)
    if isinstance(likelihood, FixedGaussian):
        units = real_units(x, "none")
        return Marginals(likelihood, _floats(units.shift), _floats(units.scale), units)
    if isinstance(likelihood, Poisson | NegativeBinomial):
        return _counts(likelihood, np.asarray(x, np.float64))
    if isinstance(likelihood, Bernoulli):
        # Half a count is added to each side (Jeffreys' prior), so that no logit is infinite.
        ones = np.asarray(x, np.float64).sum(0)
        logits = np.log(ones + 0.5) - np.log(len(x) - ones + 0.5)
        return Marginals(likelihood, _floats(logits), jnp.ones(logits.shape))
    if isinstance(likelihood, Categorical):
        return _classes(likelihood, x)
    return None


def are_counts(x: NDArray[np.integer[Any]]) -> bool:
    """Whether integers >= 0 look like counts rather than rounded measurements.

    They do if independent negative binomials score them about as well as rounded normals, or
    better.
    """
    # A density is not comparable with a probability: a rounded normal's is that of x +- 1/2.
    step = max(1, len(x) // _COUNT_ROWS)
    x = np.asarray(x[: _COUNT_ROWS * step : step])
    counted = marginals(NegativeBinomial(), x)
    assert counted is not None
    y = np.asarray(x, np.float64)
    mean, sd = y.mean(0), np.maximum(y.std(0), 0.1)
    ends = (_floats((y + half - mean) / sd) for half in (-0.5, 0.5))
    rounded = float(jnp.mean(jnp.sum(_log_interval(*ends), axis=1)))
    return float(counted.log_prob(x).mean()) > rounded - _COUNT_MARGIN * x[0].size


def _log_interval(low: jax.Array, high: jax.Array) -> jax.Array:
    """log of the standard normal's probability between `low` and `high`."""
    # Flipped into the lower tail, where log_ndtr is accurate: in the upper both are about 0.
    flipped = low > 0
    low, high = jnp.where(flipped, -high, low), jnp.where(flipped, -low, high)
    above, below = jax.scipy.special.log_ndtr(high), jax.scipy.special.log_ndtr(low)
    return above + jnp.log(-jnp.expm1(jnp.minimum(below - above, -1e-7)))


@_IGNORE_OVERFLOW
def real_units(
    x: NDArray[Any],
    transform: TransformChoice = "auto",
    least: NDArray[np.float64] | None = None,
) -> Units:
    """Shift, scale, floor and transform of each feature of real rows x; see `marginals`."""
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
        # All pixels (or time steps) are recorded in the same units: one that hardly varies is not
        # measured any more precisely.
        typical = math.sqrt(float(np.mean(np.where(constant, 0.0, scale) ** 2)))
        finest = _PIXEL_FLOOR * typical if typical > 0 else 1.0
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
    log_prob: float  # of all rows, in nats
    y: NDArray[np.float64]  # standardized: mean 0 and variance 1


def _feature(x: NDArray[np.float64], positive: bool, transform: TransformChoice) -> _Feature:
    plain = _gaussian("none", x, x, np.zeros_like(x), 0.0, 1.0)
    if transform == "none" or plain.constant:
        return plain
    candidates = [plain]
    if transform in ("auto", "log") and positive:
        candidates.append(_gaussian("log", np.log(x), x, -np.log(x), 0.0, 1.0))
    if transform == "log" and len(candidates) == 1:
        raise ValueError(
            f"data of {named('transform')} log must be > 0, got {x.min():g}. Use auto or asinh."
        )
    if transform in ("auto", "asinh"):
        center, width = _center(x)
        u = (x - center) / width
        slope = -math.log(width) - 0.5 * np.log1p(u * u)
        candidates.append(_gaussian("asinh", np.arcsinh(u), x, slope, center, width))
    if transform != "auto":
        return candidates[-1]
    # A transform has to win clearly: by more than its fitted parameters gain on normal data.
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
    """A normal fitted to y = t(x), with its log-likelihood of x; `log_slope` is log t'(x)."""
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
    """The standard deviation of numbers whose squares may overflow."""
    unit = float(np.abs(y).max()) or 1.0
    return float((y / unit).std()) * unit


def _rounding(y: NDArray[np.float64]) -> float:
    """The rounding step of recorded numbers; 0 if they look continuous (few values repeat).

    It is the median over rows of the gap to the nearest different value.
    """
    distinct, rows = np.unique(y, return_counts=True)
    if not 1 < len(distinct) < 0.8 * len(y):
        return 0.0
    gaps = np.diff(distinct)
    nearest = np.minimum(np.append(gaps, np.inf), np.append(np.inf, gaps))
    return float(np.median(np.repeat(nearest, rows)))


def _center(x: NDArray[np.float64]) -> tuple[float, float]:
    """The median, and the standard deviation of a normal with the same interquartile range."""
    low, center, high = np.quantile(x, [0.25, 0.5, 0.75])
    width = (high - low) / _IQR_OF_NORMAL
    return float(center), float(width if width > 0 else np.abs(x - center).mean())


def _counts(likelihood: AbstractLikelihood, x: NDArray[np.float64]) -> Marginals:
    """Poisson or negative binomial marginals by moments: r = mean^2 / (variance - mean).

    The gain of the log rate is the spread that explains the variance in excess of a Poisson's.
    """
    mean = (x.sum(0) + 0.5) / (len(x) + 1)
    excess = np.maximum(x.var(0) - mean, 0.0) / mean**2  # 1 / r
    log_mean, gain = _floats(np.log(mean)), _floats(np.clip(np.sqrt(np.log1p(excess)), 0.01, 1.0))
    if isinstance(likelihood, Poisson):
        return Marginals(likelihood, log_mean, gain)
    log_r = _floats(-np.log(np.clip(excess, 1e-4, 1e2)))
    return Marginals(likelihood, CountRate(log_mean, log_r), CountRate(gain, jnp.ones(gain.shape)))


def _classes(likelihood: Categorical, x: NDArray[Any]) -> Marginals:
    """Marginals of a categorical: log frequencies of the classes, of integer or one-hot rows."""
    classes = likelihood.num_classes
    if np.issubdtype(x.dtype, np.integer) and not likelihood.is_one_hot(x.shape[1:]):
        counted = np.stack([(x == c).sum(0) for c in range(classes)], axis=-1)
    else:
        counted = x.sum(0)
    logits = _floats(np.log(counted + 0.5) - math.log(len(x) + 0.5 * classes))
    return Marginals(likelihood, logits, jnp.ones(logits.shape))


def _floats(values: NDArray[Any]) -> jax.Array:
    return jnp.asarray(values, dtype=float)
