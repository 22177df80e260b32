"""Reference densities of a table: independent features, one Gaussian, a mixture of Gaussians.

Each is fitted to the training rows alone, in float64, and gives log p(x) of each row, in nats of
the RAW data: columns are standardized inside, and -log sd is kept. What has to be chosen (how much
a covariance is shrunk, how many components) is chosen by the mean log p of the validation rows but
the worst twentieth of them, which outliers would decide alone.

Recorded numbers are rounded, and a Gaussian narrower than that would be rewarded without bound. So
every Gaussian of a column has the variance `floor`^2 added: of the rounding (step / sqrt 12 where
a column has a step), between 1e-3 and 1 standard deviation. A column that does not vary in the
training rows is scored as N(value, (value / 10)^2) everywhere. hvax's likelihood does the same.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy.optimize
import scipy.special
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

Floats = NDArray[np.float64]
Density = Callable[[Floats], Floats]
"""Rows (n, columns) -> log p of each, (n,)."""

Choice = TypeVar("Choice")

FLOOR, CONSTANT_FLOOR = 1e-3, 0.1
SHRINKAGE = (1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.3)
COMPONENTS = (1, 2, 3, 5, 8, 13)


@dataclass(frozen=True)
class Scale:
    """Units of each column: y = (x - shift) / scale; `floor` in units of y, `constant` or not."""

    shift: Floats
    scale: Floats
    floor: Floats
    constant: NDArray[np.bool_]

    def __call__(self, x: Floats) -> Floats:
        return (x - self.shift) / self.scale

    def raw(self, density: Density) -> Density:
        """log p(x) from a log-density of y: less sum log scale."""
        log_scale = float(np.log(self.scale).sum())
        return lambda x: density(self(x)) - log_scale


def scale_of(x: Floats) -> Scale:
    """Mean and standard deviation of each column of training rows (n, columns)."""
    shift, sd, size = x.mean(0), x.std(0), np.abs(x).max(0)
    constant = sd <= 4 * np.finfo(np.float32).eps * size
    scale = np.where(constant, np.where(size > 0, size, 1.0), sd)
    step = np.array([_step(column) for column in x.T])
    floor = np.clip(step / math.sqrt(12) / scale, FLOOR, 1.0)
    return Scale(shift, scale, np.where(constant, CONSTANT_FLOOR, floor), constant)


def _step(x: Floats) -> float:
    """The step of recorded numbers: the median gap between different ones, where many are equal."""
    distinct = np.unique(x)
    return float(np.median(np.diff(distinct))) if 1 < len(distinct) < 0.8 * len(x) else 0.0


def log_normal(y: Floats, mean: Floats, covariance: Floats) -> Floats:
    """log N(y; mean, covariance) of rows y (n, d); a covariance of shape (d,) is a diagonal."""
    if covariance.ndim == 1:
        each = (y - mean) ** 2 / covariance + np.log(2 * np.pi * covariance)
        return -0.5 * each.sum(-1)
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, (y - mean).T)
    log_det = 2 * np.log(np.diag(root)).sum() + len(mean) * math.log(2 * math.pi)
    return -0.5 * ((white**2).sum(0) + log_det)


def independent_gaussian(train: Floats) -> Density:
    """A normal of each column: mean and standard deviation of the training rows."""
    scale = scale_of(train)
    variance = np.where(scale.constant, 0.0, 1.0) + scale.floor**2
    return scale.raw(lambda y: log_normal(y, np.zeros(len(variance)), variance))


def gaussian(train: Floats, validation: Floats) -> tuple[Density, float]:
    """One normal with the whole covariance, and the shrinkage s that was chosen: (1 - s) R + s I
    with R the correlations of the training rows."""
    scale = scale_of(train)
    y = scale(train)
    zero, correlation = np.zeros(y.shape[1]), y.T @ y / len(y)
    extra, diagonal = np.diag(scale.floor**2), np.diag(np.diag(correlation))

    def shrunk(s: float) -> Density:
        covariance = (1 - s) * correlation + s * diagonal + extra
        return scale.raw(lambda y: log_normal(y, zero, covariance))

    return _best(((shrunk(s), s) for s in SHRINKAGE), validation)


def mixture(train: Floats, validation: Floats, *, most_full: int = 100) -> tuple[Density, str]:
    """scikit-learn's mixture of normals, and what was chosen: how many, full or diagonal.

    Full covariances only for at most `most_full` columns and for at least as many rows as numbers
    in all means.
    """
    scale = scale_of(train)
    y, columns = scale(train), train.shape[1]

    def fitted(kind: str, components: int) -> tuple[Density, str]:
        found = GaussianMixture(components, covariance_type=kind, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found.fit(y)
        extra = scale.floor**2 if kind == "diag" else np.diag(scale.floor**2)
        parts = list(zip(found.means_, found.covariances_ + extra, strict=True))
        log_share = np.log(found.weights_)

        def log_prob(y: Floats) -> Floats:
            each = [log_normal(y, mean, covariance) for mean, covariance in parts]
            return scipy.special.logsumexp(np.stack(each, -1) + log_share, axis=-1)

        return scale.raw(log_prob), f"{components} {kind}"

    choices = [("diag", k) for k in COMPONENTS if k <= len(y) // 2]
    if columns <= most_full:
        choices += [("full", k) for k in COMPONENTS if k * columns <= len(y)]
    return _best((fitted(*choice) for choice in choices), validation)


def independent_counts(train: Floats) -> Density:
    """A negative binomial of each column, by maximum likelihood; without excess variance it is a
    Poisson's to six digits. The mean is that of the training rows and half a count more, so that
    a feature that was never seen has a chance."""
    mean = (train.sum(0) + 0.5) / (len(train) + 1)
    r = np.array([_dispersion(x, m) for x, m in zip(train.T, mean, strict=True)])
    return lambda x: log_negative_binomial(x, mean, r).sum(-1)


def log_negative_binomial(x: Floats, mean: Floats, r: Floats) -> Floats:
    """log p of counts with that mean and variance mean + mean^2 / r, elementwise."""
    some = np.maximum(x, 1)  # log Gamma(x + r) / (Gamma(r) x!) = -log x - log B(x, r), 0 at x = 0
    choose = np.where(x > 0, -np.log(some) - scipy.special.betaln(some, r), 0.0)
    return choose - r * np.log1p(mean / r) - x * np.log1p(r / mean)


def _dispersion(x: Floats, mean: float) -> float:
    """The r of highest likelihood, between e^-7 and e^14."""
    values, times = np.unique(x, return_counts=True)

    def cost(log_r: float) -> float:
        r = np.full(len(values), math.exp(log_r))
        return -float(times @ log_negative_binomial(values, np.full(len(values), mean), r))

    found = scipy.optimize.minimize_scalar(cost, bounds=(-7, 14), method="bounded")
    ends = [found.x, 14.0]
    return math.exp(min(ends, key=cost))


def independent_bits(train: Floats) -> Density:
    """A Bernoulli of each column, with half a one and half a zero more."""
    p = (train.sum(0) + 0.5) / (len(train) + 1)
    return lambda x: (x * np.log(p) + (1 - x) * np.log1p(-p)).sum(-1)


def _best(found: Iterable[tuple[Density, Choice]], validation: Floats) -> tuple[Density, Choice]:
    """By the validation rows but the worst twentieth, at least one: outliers decide nothing."""
    left_out = max(1, len(validation) // 20) if len(validation) > 2 else 0

    def score(pair: tuple[Density, Choice]) -> float:
        return float(np.sort(pair[0](validation))[left_out:].mean())

    return max(found, key=score)
