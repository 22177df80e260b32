"""The likelihood of a source's numbers: by its name, or the one that suits them."""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hvax.checks import check_one_of, count
from hvax.data.check import holds_bits
from hvax.data.count_test import look_like_counts
from hvax.data.examples import Examples
from hvax.data.source import SOURCES, Source
from hvax.models.likelihood import (
    AbstractLikelihood,
    Bernoulli,
    Categorical,
    FixedGaussian,
    LearnedGaussian,
    NegativeBinomial,
    Poisson,
)
from hvax.models.mixed import MixedLikelihood
from hvax.models.standardize import StandardizedLikelihood
from hvax.training.marginals import spaced_rows
from hvax.wording import named

LikelihoodName = Literal[
    "bernoulli",
    "gaussian",
    "fixed-gaussian",
    "categorical",
    "poisson",
    "negative-binomial",
    "mixed",
]

_KINDS: dict[str, type[AbstractLikelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": LearnedGaussian,
    "fixed-gaussian": FixedGaussian,
    "categorical": Categorical,
    "poisson": Poisson,
    "negative-binomial": NegativeBinomial,
    "mixed": MixedLikelihood,
}


def likelihood_named(
    name: LikelihoodName | None,
    source: Source,
    train: NDArray[np.int64] | None = None,
    *,
    sigma: float = 1.0,
    num_classes: int | None = None,
) -> AbstractLikelihood:
    """The likelihood of a name, for a source's numbers; without one that which suits the training
    rows, `train`.

    `sigma` is the standard deviation of fixed-gaussian; `num_classes` those of categorical, by
    default one more than the largest in the data. Raises `ValueError` for another name, and for
    classes that are no integers.
    """
    if name is None:
        name = default_likelihood(source, train)
    check_one_of(name, "`likelihood`", get_args(LikelihoodName))
    if name == "mixed":
        raise ValueError(
            f"`likelihood` mixed is for a table (.csv, .parquet, DataFrame), got {source.name}."
        )
    if name == "categorical":
        if not np.issubdtype(source.x.dtype, np.integer):
            raise ValueError(f"categorical needs integer classes, got {source.x.dtype} data.")
        most = int(source.x.max()) + 1
        classes = most if num_classes is None else count(num_classes, named("num_classes"))
        as_many = source.x.ndim > 1 and source.x.shape[-1] == classes
        return Categorical(classes, one_hot=False if as_many and not _one_hot(source.x) else None)
    return FixedGaussian(sigma) if name == "fixed-gaussian" else _KINDS[name]()


def default_likelihood(source: Source, train: NDArray[np.int64] | None) -> LikelihoodName:
    """bernoulli for images and for 0 and 1; gaussian for other numbers, but for whole ones
    negative-binomial where it fits the training rows better."""
    x = source.x
    if source.holes:
        return _likelihood_of_observed(spaced_rows(Examples(x, train)))
    if source.name in SOURCES or x.dtype == np.uint8 or holds_bits(x):
        return "bernoulli"
    whole = np.issubdtype(x.dtype, np.integer) and x.min() >= 0
    counts = whole and look_like_counts(spaced_rows(Examples(x, train)))
    return "negative-binomial" if counts else "gaussian"


def _likelihood_of_observed(x: NDArray[Any]) -> LikelihoodName:
    """`default_likelihood` of rows with missing values (NaN), whose whole numbers are floats."""
    seen = x[~np.isnan(x)]
    if np.all((seen == 0) | (seen == 1)):
        return "bernoulli"
    return "negative-binomial" if look_like_counts(x) else "gaussian"


def name_of(likelihood: AbstractLikelihood) -> LikelihoodName:
    """The name of a likelihood that `likelihood_named` has made."""
    return next(name for name in get_args(LikelihoodName) if type(likelihood) is _KINDS[name])


def scale_of(source: Source, likelihood: AbstractLikelihood) -> float:
    """What stored numbers are divided by: 1 for counts and classes, which are no gray levels."""
    if isinstance(likelihood, StandardizedLikelihood):
        likelihood = likelihood.inner
    real = isinstance(likelihood, Bernoulli | FixedGaussian | LearnedGaussian)
    return source.scale if real else 1.0


def _one_hot(x: NDArray[Any]) -> bool:
    """Whether the last axis of all examples holds one 1 and else 0."""
    rows = (x[start : start + 4096] for start in range(0, len(x), 4096))
    return all(np.all((row == 0) | (row == 1)) and np.all(row.sum(axis=-1) == 1) for row in rows)
